//! `ntp query` against chronyd and servers that say no. Needs chrony, openssl and /usr/bin/python3.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, dead_code)]

mod lab;

use lab::{HERE, Lab};
use minke_wire::json::{Value, parse_str};
use minke_wire::ntp::{Leap, Packet, Timestamp};
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The program itself: the test program starts this "test" of itself.
#[test]
fn as_the_program() {
    let Some(arguments) = std::env::var_os("NTP_ARGUMENTS") else { return };
    let arguments = arguments.to_str().unwrap().split_whitespace().map(Into::into).collect();
    let build = minke_applet::Build { version: "test", time: 1_750_000_000 };
    std::process::exit(minke_applet::run(&minke_ntp::APPLET.programs[0], arguments, build).into());
}

fn query(arguments: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "as_the_program", "--nocapture", "--quiet"]);
    command.env("NTP_ARGUMENTS", format!("query {arguments}")).output().unwrap()
}

/// Standard output without what the test harness says.
fn text(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with("running "))
        .fold(String::new(), |all, line| all + line + "\n")
}

fn json(output: &Output) -> Value {
    parse_str(&text(output)).unwrap_or_else(|_| panic!("{}", text(output)))
}

/// The one line on standard error of a query that must fail with status 1.
fn refused(arguments: &str) -> String {
    let output = query(arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{arguments}: {error}");
    assert_eq!(error.lines().count(), 1, "{arguments}: {error}");
    error.trim().strip_prefix("ntp: ").unwrap().to_owned()
}

/// A server on loopback that answers each request by what `answer` makes of it, until the test ends.
fn server(answer: impl Fn(Packet, usize) -> Vec<Vec<u8>> + Send + 'static) -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let count = AtomicUsize::new(0);
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let Some((request, _)) = Packet::decode(&buffer[..length]) else { continue };
            for bytes in answer(request, count.fetch_add(1, Ordering::Relaxed)) {
                let _ = socket.send_to(&bytes, from);
            }
        }
    });
    port
}

/// A good answer, of a server that is two seconds ahead.
fn good(request: Packet) -> Packet {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as i64;
    let there = Timestamp::from_nanos(time + 2_000_000_000);
    Packet {
        version: 4,
        mode: 4,
        stratum: 1,
        refid: *b"PPS\0",
        precision: -20,
        org: request.xmt,
        rec: there,
        xmt: there,
        ..Packet::default()
    }
}

#[test]
fn the_time_of_chronyd_plain_and_signed() {
    let lab = Lab::new("query");
    let chronyd = lab.chronyd("good", "");
    let output = query(&format!("127.0.0.1:{} --json --count 2", chronyd.ntp));
    let answer = json(&output);
    assert_eq!(output.status.code(), Some(0));
    let number = |key: &str| answer[key].as_i64().unwrap_or_else(|| panic!("{key}: {}", answer.to_text()));
    assert_eq!((number("stratum"), number("leap"), number("port")), (3, 0, i64::from(chronyd.ntp)));
    // Both have one clock: by what the server's seems to be ahead or behind, one way has taken longer than the other.
    let (offset, delay) = (number("offset_ns"), number("delay_ns"));
    assert!(delay < 2_000_000_000 && offset.abs() <= delay / 2 + 1_000_000, "{offset} {delay}");
    assert_eq!(answer["samples"].as_array().unwrap().len(), 2);
    assert_eq!((answer["nts"].as_bool(), answer["aead"].is_null()), (Some(false), true));

    let trust = lab.path("ca.pem").display().to_string();
    let output = query(&format!("--nts -4 localhost:{} --trust {trust}", chronyd.ke));
    let said = text(&output);
    assert!(said.contains(&format!("server          localhost (127.0.0.1:{})\n", chronyd.ntp)), "{said}");
    assert!(
        said.contains("stratum         3\n") && said.contains("leap second     none announced\n"),
        "{said}"
    );
    assert!(said.contains("authenticated   by NTS, AEAD_AES_SIV_CMAC_256\n"), "{said}");
    // Of three answers the quickest: one may wait for a processor.
    let answer = json(&query(&format!("--nts --json --count 3 127.0.0.1:{} --trust {trust}", chronyd.ke)));
    assert_eq!(answer["aead"].as_str(), Some("AEAD_AES_SIV_CMAC_256"));

    let (ours, delay) = (answer["offset_ns"].as_i64().unwrap(), answer["delay_ns"].as_i64().unwrap());
    let theirs = chronyd_as_client(&lab, chronyd.ke);
    assert!((ours - theirs).abs() < 50_000_000 + delay / 2, "{ours} {theirs} {delay}");

    // Not to be trusted.
    let line = refused(&format!("--nts localhost:{}", chronyd.ke));
    assert_eq!(
        line,
        "NTS key exchange with localhost: the certificate's issuer is unknown; see balenaRootCA"
    );
    lab.authority.issue("expired", HERE, -9..-1);
    let expired = lab.chronyd("expired", "");
    let line = refused(&format!("--nts localhost:{} --trust {trust}", expired.ke));
    assert!(line.starts_with("NTS key exchange with localhost: the certificate expired at 20"), "{line}");
    lab.authority.issue("other", "DNS:other.test", -1..1);
    let other = lab.chronyd("other", "");
    let line = refused(&format!("--nts localhost:{} --trust {trust}", other.ke));
    assert_eq!(line, "NTS key exchange with localhost: the certificate is for another name");
    // Its NTP server is elsewhere, where nobody is.
    let mut gone = lab.chronyd("good", "ntsntpserver 127.0.0.7");
    let line = refused(&format!("--nts localhost:{} --trust {trust}", gone.ke));
    assert_eq!(
        line,
        format!("localhost: nobody listens on UDP 127.0.0.7:{} (ICMP port unreachable)", gone.ntp)
    );
    gone.stop();
    let line = refused(&format!("--nts 127.0.0.1:{} --trust {trust}", gone.ke));
    assert!(line.contains("Connection refused"), "{line}");
}

/// How far this clock is from the server's as chronyd finds it, in nanoseconds, by NTS with a key exchange at `port`.
fn chronyd_as_client(lab: &Lab, port: u16) -> i64 {
    let config = format!(
        "server localhost nts ntsport {port} iburst\nntstrustedcerts {0}/ca.pem\ncmdport 0\nbindcmdaddress /\n\
         pidfile {0}/q.pid\nport 0\n",
        lab.folder.display()
    );
    std::fs::write(lab.path("q.conf"), config).unwrap();
    let mut command = Command::new("chronyd");
    let output =
        command.args(["-U", "-Q", "-x", "-u", "root", "-t", "30", "-f"]).arg(lab.path("q.conf")).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let (_, rest) = said.split_once("System clock wrong by ").unwrap_or_else(|| panic!("{said}"));
    (rest.split(' ').next().unwrap().parse::<f64>().unwrap() * 1e9) as i64
}

#[test]
fn each_reason_has_its_line() {
    let port = server(|request, _| vec![good(request).encode().to_vec()]);
    let answer = json(&query(&format!("127.0.0.1:{port} --json")));
    let offset = answer["offset_ns"].as_i64().unwrap();
    assert!((1_500_000_000..2_500_000_000).contains(&offset), "{offset}");
    assert_eq!(answer["refid"].as_str(), Some("PPS"));
    let said = text(&query(&format!("127.0.0.1:{port}")));
    assert!(said.contains(" behind\n") && said.contains("reference       PPS\n"), "{said}");

    for (code, meaning) in [
        (b"DENY", "code DENY: it does not serve this machine"),
        (b"RATE", "code RATE: it was asked too often"),
        (b"INIT", "code INIT: it is not synchronised yet"),
        (b"XYZ\0", "code XYZ: it does not serve"),
    ] {
        let kiss = move |request| Packet { stratum: 0, refid: *code, ..good(request) }.encode().to_vec();
        let port = server(move |request, _| vec![kiss(request)]);
        let line = refused(&format!("127.0.0.1:{port}"));
        assert_eq!(line, format!("127.0.0.1: the server sends a kiss of death, {meaning}"));
    }
    for poor in
        [Packet { leap: Leap::Unknown, ..Packet::default() }, Packet { stratum: 16, ..Packet::default() }]
    {
        let spoil = move |request| {
            let good = good(request);
            let stratum = if poor.stratum == 0 { good.stratum } else { poor.stratum };
            Packet { leap: poor.leap, stratum, ..good }.encode().to_vec()
        };
        let port = server(move |request, _| vec![spoil(request)]);
        let output = query(&format!("127.0.0.1:{port} --json"));
        assert_eq!(output.status.code(), Some(1));
        let answer = json(&output);
        assert_eq!(answer["synchronized"].as_bool(), Some(false));
        let problem = "127.0.0.1: the server is not synchronised itself; its time is worth nothing";
        assert_eq!(answer["error"].as_str(), Some(problem));
    }

    // What does not answer the question is passed over; the true answer comes after it.
    let port = server(|request, _| {
        let good = good(request);
        let wrong = [
            Packet { org: Timestamp(1), ..good },
            Packet { mode: 3, ..good },
            Packet { mode: 5, ..good },
            Packet { version: 7, ..good },
            Packet { org: Timestamp(0), stratum: 0, refid: *b"DENY", ..good },
        ];
        let mut all: Vec<Vec<u8>> = wrong.iter().map(|packet| packet.encode().to_vec()).collect();
        all.extend([vec![], vec![0xff; 1500], good.encode()[..47].to_vec(), good.encode().to_vec()]);
        all
    });
    assert_eq!(query(&format!("127.0.0.1:{port}")).status.code(), Some(0));
    // A question that is lost is asked again.
    let port =
        server(|request, count| if count < 2 { vec![] } else { vec![good(request).encode().to_vec()] });
    assert_eq!(query(&format!("127.0.0.1:{port} --timeout 20")).status.code(), Some(0));

    let begun = Instant::now();
    let silent = server(|_, _| vec![]);
    let line = refused(&format!("127.0.0.1:{silent} --timeout 1"));
    assert_eq!(line, "127.0.0.1: no answer in time; is UDP blocked on the way?");
    let closed = minke_tests::free_udp_port();
    let line = refused(&format!("127.0.0.1:{closed}"));
    assert_eq!(line, format!("127.0.0.1: nobody listens on UDP 127.0.0.1:{closed} (ICMP port unreachable)"));
    assert_eq!(refused("a..b"), "a..b: is no host name");
    assert_eq!(refused("-6 127.0.0.1"), "127.0.0.1: no address of the wanted family");
    let answer = json(&query("--json a..b"));
    assert_eq!(answer["error"].as_str(), Some("a..b: is no host name"));
    // Without NTS there, or without anything that speaks.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = listener.local_addr().unwrap().port();
    let line = refused(&format!("--nts 127.0.0.1:{mute} --timeout 1"));
    assert_eq!(line, "NTS key exchange with 127.0.0.1: no answer in time");
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn command_lines_that_are_none() {
    for (arguments, text) in [
        ("a:b", "query: 'a:b' is no HOST or HOST:PORT; see 'ntp --help'"),
        ("a --count 0", "--count is a number from 1 to 100; see 'ntp --help'"),
        ("a --timeout x", "--timeout is a number from 1 to 3600; see 'ntp --help'"),
        ("-4 -6 a", "only one of --ipv4 and --ipv6 makes sense; see 'ntp --help'"),
        ("a --trust /dev/null", "/dev/null holds no certificate authority in PEM; see 'ntp --help'"),
        ("", "expected a command; see 'ntp --help'"),
    ] {
        let output = query(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(error.trim(), format!("ntp: {text}"));
    }
}
