use super::*;
use minke_wire::json::parse_str;

fn full() -> Status {
    Status {
        synchronized: true,
        watch_only: true,
        online: true,
        leap: 1,
        stratum: 3,
        refid: u32::MAX,
        reference: "ntp.example".into(),
        reference_time_ns: Some(i64::MAX),
        system_offset_ns: -1,
        last_offset_ns: i64::MIN,
        rms_offset_ns: 3,
        frequency_ppb: -4,
        residual_frequency_ppb: 5,
        skew_ppb: 6,
        root_delay_ns: 7,
        root_dispersion_ns: 8,
        update_interval_ms: 9,
        last_step: Some(Step { time_ns: 10, by_ns: -11 }),
        next_poll_s: Some(12),
        kernel_status: 0x2001,
        kernel_max_error_us: 13,
        sources: STATES.iter().map(|(state, _)| source(*state)).collect(),
    }
}

fn source(state: State) -> Source {
    Source {
        name: "pool \"x\"".into(),
        address: "2001:db8::1".into(),
        port: 65535,
        pool: true,
        nts: true,
        authenticated: true,
        interleaved: true,
        online: true,
        state,
        leap: 3,
        stratum: 255,
        refid: 1,
        poll: -7,
        reach: 0o377,
        last_rx_s: Some(u64::MAX),
        offset_ns: -2,
        current_offset_ns: 3,
        error_ns: 4,
        delay_ns: 5,
        jitter_ns: 6,
        root_delay_ns: 7,
        root_dispersion_ns: 8,
        samples: 9,
        runs: 10,
        span_s: 11,
        frequency_ppb: -12,
        skew_ppb: 13,
        sent: 14,
        received: 15,
        valid: 16,
        kiss: "RATE".into(),
        problem: "no such name".into(),
    }
}

#[test]
fn a_status_comes_back() {
    for status in [full(), Status::default(), Status { sources: vec![Source::default()], ..full() }] {
        let line = status.to_value().to_text();
        assert_eq!(*Status::from_value(&parse_str(&line).unwrap()), status);
    }
}

#[test]
fn what_is_missing_or_nonsense_is_the_default() {
    for text in ["{}", "[]", "7", r#"{"leap":300,"stratum":-1,"refid":"x","sources":7,"last_step":7}"#] {
        assert_eq!(*Status::from_value(&parse_str(text).unwrap()), Status::default(), "{text}");
    }
    let odd = r#"{"sources":[null,{"state":"!","poll":999,"port":70000,"kiss":7}]}"#;
    assert_eq!(Status::from_value(&parse_str(odd).unwrap()).sources, [Source::default(), Source::default()]);
}

#[test]
fn commands_come_back() {
    let all = [
        Command::Online,
        Command::Offline,
        Command::OnOffline,
        Command::Burst { good: 3, total: 5 },
        Command::Step,
        Command::Reload,
    ];
    for command in all {
        assert_eq!(Command::from_value(&command.to_value()), Some(command));
    }
    let read = |text: &str| Command::from_value(&parse_str(text).unwrap());
    assert_eq!(read(r#"{"command":"burst"}"#), Some(Command::Burst { good: 4, total: 4 }));
    for text in ["{}", "7", r#"{"command":"status"}"#, r#"{"command":7}"#] {
        assert_eq!(read(text), None, "{text}");
    }
}
