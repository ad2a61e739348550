use super::*;
use minke_control::ntp::Step;

fn told(status: &Status) -> String {
    let mut text = String::new();
    head(&mut text, status);
    table(&mut text, status);
    text
}

fn source(change: fn(&mut Source)) -> Source {
    let mut source =
        Source { name: "ntp.test".into(), address: "192.0.2.1".into(), online: true, ..Source::default() };
    change(&mut source);
    source
}

#[test]
fn a_clock_that_follows() {
    let status = Status {
        synchronized: true,
        stratum: 3,
        reference: "ntp.test".into(),
        reference_time_ns: Some(0),
        system_offset_ns: 1_479,
        last_offset_ns: -51_000_000,
        frequency_ppb: -12_345,
        skew_ppb: 17,
        root_delay_ns: 4_000_000,
        root_dispersion_ns: 1_000_000,
        last_step: Some(Step { time_ns: 1_000_000_000, by_ns: -120_000_000_000 }),
        next_poll_s: Some(64),
        leap: 1,
        sources: vec![source(|source| {
            (source.state, source.poll, source.reach) = (State::Selected, 6, 0o377);
            (source.last_rx_s, source.current_offset_ns, source.delay_ns) =
                (Some(12), -1_500_000, 23_000_000);
            (source.nts, source.authenticated) = (true, true);
        })],
        ..Status::default()
    };
    let text = told(&status);
    for part in [
        "Synchronised to ntp.test, stratum 3\n",
        "A leap second is inserted at the end of this UTC day\n",
        "Offset        : +1.479 us to correct; last -51.000 ms, RMS 0 ns\n",
        "Frequency     : -12.345 ppm, known to 0.017 ppm\n",
        "Root distance : 3.000 ms (delay 4.000 ms, dispersion 1.000 ms)\n",
        "Last step     : -120.000 s, at 1970-01-01 00:00:01 UTC\n",
        "Next poll     : in 64 s\n",
        "* 192.0.2.1 ntp.test                  0    64   377    12  -1500us    0ns    0ns   23ms  NTS\n",
    ] {
        assert!(text.contains(part), "no '{part}' in\n{text}");
    }
}

#[test]
fn a_clock_that_goes_on_alone() {
    let status = Status {
        synchronized: true,
        stratum: 3,
        reference: "192.0.2.1".into(),
        sources: vec![source(|source| source.reach = 0)],
        ..Status::default()
    };
    let text = told(&status);
    let first = "Synchronised, but no server is of use now; the last was 192.0.2.1, stratum 3\n";
    assert!(text.starts_with(first), "{text}");
}

#[test]
fn why_a_clock_does_not_follow() {
    let cases: [(&str, &[Source]); 12] = [
        ("there are no time servers", &[]),
        ("the network is away", &[source(|source| source.online = false)]),
        ("the clock is being set", &[source(|source| source.state = State::Selected)]),
        ("contradict each other", &[source(|source| source.state = State::Falseticker)]),
        ("ntp.test sends us away (DENY)", &[source(|source| source.kiss = "DENY".into())]),
        ("ntp.test: no such name", &[source(|source| source.problem = "no such name".into())]),
        ("not synchronised themselves", &[source(|source| (source.valid, source.leap) = (1, 3))]),
        ("not synchronised themselves", &[source(|source| (source.valid, source.stratum) = (1, 16))]),
        ("too few yet", &[source(|source| (source.valid, source.stratum) = (1, 2))]),
        ("can be believed", &[source(|source| (source.sent, source.received) = (9, 9))]),
        ("no server answers", &[source(|source| source.sent = 9)]),
        ("no answer yet", &[source(|source| source.sent = 1)]),
    ];
    for (why, sources) in cases {
        let text = told(&Status { sources: sources.to_vec(), ..Status::default() });
        let mut lines = text.lines();
        let first = lines.next().unwrap();
        assert!(first.starts_with("Not synchronised: ") && first.contains(why), "{first} for {why}");
        assert!(lines.next().unwrap().starts_with("  "), "what to do: {text}");
    }
}

#[test]
fn numbers_at_their_limits_are_told() {
    let far = source(|source| {
        (source.poll, source.offset_ns, source.current_offset_ns) = (i8::MIN, i64::MIN, i64::MIN);
        (source.error_ns, source.delay_ns, source.last_rx_s) = (i64::MAX, i64::MIN, Some(u64::MAX));
        source.poll = i8::MAX;
    });
    let status = Status {
        leap: 255,
        root_delay_ns: i64::MAX,
        root_dispersion_ns: i64::MAX,
        reference_time_ns: Some(i64::MIN),
        kernel_status: u32::MAX,
        kernel_max_error_us: i64::MAX,
        last_step: Some(Step { time_ns: i64::MIN, by_ns: i64::MIN }),
        sources: vec![far],
        ..Status::default()
    };
    assert!(told(&status).contains("told that the time is not synchronised"));
}
