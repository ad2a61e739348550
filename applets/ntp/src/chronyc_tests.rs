use super::*;

/// The state behind the texts below, which chronyc 4.3 printed.
fn status() -> Status {
    let source = |address: &str| Source {
        name: "ntp.test".into(),
        address: address.into(),
        online: true,
        ..Source::default()
    };
    Status {
        synchronized: true,
        stratum: 2,
        refid: 0x0a4d_0001,
        reference: "ntp.test".into(),
        reference_time_ns: Some(1_795_255_048_388_098_925),
        system_offset_ns: -1_479,
        last_offset_ns: 51,
        rms_offset_ns: 961,
        frequency_ppb: -78,
        residual_frequency_ppb: 3,
        skew_ppb: 175,
        root_delay_ns: 1_620,
        root_dispersion_ns: 2_856,
        update_interval_ms: 1_049,
        sources: vec![
            Source {
                state: State::Selected,
                stratum: 1,
                reach: 0o377,
                last_rx_s: Some(1),
                offset_ns: 179,
                current_offset_ns: 128,
                error_ns: 2_472,
                jitter_ns: 300,
                samples: 11,
                runs: 6,
                span_s: 8,
                frequency_ppb: -5,
                skew_ppb: 191,
                ..source("10.77.0.1")
            },
            Source {
                state: State::Falseticker,
                stratum: 2,
                poll: 14,
                reach: 0o17,
                last_rx_s: Some(35 * 60),
                offset_ns: 150_000_015_259,
                current_offset_ns: 150_000_015_259,
                error_ns: 31_499,
                jitter_ns: 8_624,
                samples: 5,
                runs: 3,
                span_s: 7,
                frequency_ppb: -2_687,
                skew_ppb: 19_401,
                online: false,
                ..source("10.77.0.6")
            },
            Source { ..source("10.77.0.3") },
            Source { ..source("") },
        ],
        ..Status::default()
    }
}

const TEXT: Form = Form { numeric: true, csv: false, all: false, legend: false };
const CSV: Form = Form { csv: true, ..TEXT };

#[test]
fn tracking_as_chronyc_prints_it() {
    let text = "\
Reference ID    : 0A4D0001 (10.77.0.1)
Stratum         : 2
Ref time (UTC)  : Sat Nov 21 09:57:28 2026
System time     : 0.000001479 seconds fast of NTP time
Last offset     : -0.000000051 seconds
RMS offset      : 0.000000961 seconds
Frequency       : 0.078 ppm fast
Residual freq   : -0.003 ppm
Skew            : 0.175 ppm
Root delay      : 0.000001620 seconds
Root dispersion : 0.000002856 seconds
Update interval : 1.0 seconds
Leap status     : Normal
";
    assert_eq!(tracking(TEXT, &status()), text);
    assert!(tracking(Form::default(), &status()).contains("(ntp.test)"));
    let line = "0A4D0001,10.77.0.1,2,1795255048.388098925,-0.000001479,-0.000000051,0.000000961,0.078,-0.003,0.175,\
        0.000001620,0.000002856,1.0,Normal\n";
    assert_eq!(tracking(CSV, &status()), line);
}

#[test]
fn a_client_that_is_not_synchronised() {
    let text = tracking(TEXT, &Status { leap: 3, refid: 7, ..Status::default() });
    assert!(text.starts_with("Reference ID    : 00000000 ()\nStratum         : 0\n"), "{text}");
    assert!(text.contains("Ref time (UTC)  : Thu Jan 01 00:00:00 1970\n"), "{text}");
    assert!(text.ends_with("Leap status     : Not synchronised\n"), "{text}");
    let odd = Status {
        leap: 200,
        reference_time_ns: Some(i64::MIN),
        last_offset_ns: i64::MIN,
        ..Status::default()
    };
    assert!(tracking(TEXT, &odd).contains("Not synchronised"));
}

#[test]
fn sources_as_chronyc_prints_them() {
    let text = sources(TEXT, &status());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "MS Name/IP address         Stratum Poll Reach LastRx Last sample               ",
            "===============================================================================",
            "^* 10.77.0.1                     1   0   377     1   -128ns[ -179ns] +/- 2472ns",
            "^x 10.77.0.6                     2  14    17   35m  -150.0s[-150.0s] +/-   31us",
            "^? 10.77.0.3                     0   0     0     -     +0ns[   +0ns] +/-    0ns",
        ]
    );
    let text = sources(CSV, &status());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "^,*,10.77.0.1,1,0,377,1,-0.000000128,-0.000000179,0.000002472",
            "^,x,10.77.0.6,2,14,17,2100,-150.000015259,-150.000015259,0.000031499",
            "^,?,10.77.0.3,0,0,0,4294967295,0.000000000,0.000000000,0.000000000",
        ]
    );
    let all = sources(Form { all: true, legend: true, ..TEXT }, &status());
    assert_eq!(all.lines().count(), 15);
    assert!(all.contains("^? ntp.test   "), "{all}");
}

#[test]
fn sourcestats_and_activity_as_chronyc_prints_them() {
    let text = sourcestats(TEXT, &status());
    let lines: Vec<&str> = text.lines().skip(2).take(2).collect();
    assert_eq!(
        lines,
        [
            "10.77.0.1                  11   6     8     +0.005      0.191   -128ns   300ns",
            "10.77.0.6                   5   3     7     +2.687     19.401  -150.0s  8624ns",
        ]
    );
    let text = sourcestats(CSV, &status());
    assert_eq!(text.lines().next(), Some("10.77.0.1,11,6,8,0.005,0.191,-0.000000128,0.000000300"));
    assert_eq!(activity(CSV, &status()), "2,1,0,0,1\n");
    assert!(activity(TEXT, &status()).starts_with("200 OK\n2 sources online\n1 sources offline\n"));
}

#[test]
fn numbers_of_the_command_line() {
    let read =
        [("0", Some(0)), ("10", Some(10 * NANO)), ("0.1", Some(100_000_000)), (".5", Some(500_000_000))];
    for (text, value) in read {
        assert_eq!(nano(text), value, "{text}");
    }
    assert_eq!(nano("1.0000000019"), Some(NANO + 1));
    for text in ["", ".", "-1", "x", "1.x", "1.2.3", "99999999999", "1.0000000000x"] {
        assert_eq!(nano(text), None, "{text}");
    }
    assert_eq!(burst("4/4"), Some(Command::Burst { good: 4, total: 4 }));
    for text in ["4", "4/", "/4", "a/b", "-1/4"] {
        assert_eq!(burst(text), None, "{text}");
    }
}
