//! Against chronyd with NTS, and servers of key exchanges that misbehave.

use super::association::{Association, Judgement};
use super::exchange::{Asking, Clock, Granted, exchange};
use super::session::{RANDOM, Session, Verdict};
use super::store;
use crate::lab::{HERE, Lab, now};
use minke_http::Trust;
use minke_wire::ntp::{HEADER, Packet, Timestamp};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

fn asking(lab: &Lab, port: u16) -> Asking {
    let extra = std::fs::read(lab.path("ca.pem")).unwrap();
    Asking {
        host: "localhost".into(),
        port,
        trust: Trust { bundle: lab.path("none"), extra },
        etc: "/etc".into(),
        only_v4: Some(true),
        clock: Clock::System,
        patience: Duration::from_secs(10),
    }
}

fn random() -> [u8; RANDOM] {
    let mut random = [0; RANDOM];
    minke_sys::random::fill(&mut random).unwrap();
    random
}

/// What comes back for a request, for at most 20 s.
fn send(port: u16, request: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.send_to(request, ("127.0.0.1", port)).unwrap();
    let mut buffer = vec![0; 4096];
    let length = socket.recv(&mut buffer).ok()?;
    buffer.truncate(length);
    Some(buffer)
}

fn sealed(session: &mut Session) -> Vec<u8> {
    let mut request = Packet::request(Timestamp(7)).encode().to_vec();
    assert!(session.seal(&mut request, &random()));
    request
}

#[test]
fn chronyd_answers_authentically_and_refills_the_cookies() {
    let lab = Lab::new("refill");
    let chronyd = lab.chronyd("good", "");
    let granted = exchange(&asking(&lab, chronyd.ke)).unwrap();
    assert_eq!((granted.port, granted.provisional), (chronyd.ntp, false));
    assert_eq!(granted.addresses, ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    let mut session = granted.session;
    assert_eq!(session.cookies.len(), 8);
    let mut used = Vec::new();
    for round in 0..20 {
        // Every third request is lost, so that placeholders are needed.
        if round % 3 == 0 {
            used.push(session.cookies[0].clone());
            sealed(&mut session);
        }
        used.push(session.cookies[0].clone());
        let request = sealed(&mut session);
        let answer = send(chronyd.ntp, &request).unwrap();
        assert!(answer.len() <= request.len(), "{} {}", answer.len(), request.len());
        assert_eq!(session.open(&answer), Verdict::Authentic);
        assert_eq!(session.open(&answer), Verdict::Foreign, "a replay");
        assert_eq!(session.cookies.len(), 8);
    }
    let count = used.len();
    used.sort();
    used.dedup();
    assert_eq!(used.len(), count, "a cookie was sent twice");
}

#[test]
fn forged_truncated_and_unsigned_answers_do_not_count() {
    let lab = Lab::new("forged");
    let chronyd = lab.chronyd("good", "");
    let mut session = exchange(&asking(&lab, chronyd.ke)).unwrap().session;
    let earlier = sealed(&mut session);
    let earlier = send(chronyd.ntp, &earlier).unwrap();
    let request = sealed(&mut session);
    let answer = send(chronyd.ntp, &request).unwrap();
    assert_eq!(session.open(&earlier), Verdict::Foreign, "an answer to another request");
    for at in 0..answer.len() {
        assert_eq!(session.open(&answer[..at]), Verdict::Foreign, "{at}");
        let mut forged = answer.clone();
        forged[at] ^= 1 << (at % 8);
        assert_eq!(session.open(&forged), Verdict::Foreign, "{at}");
    }
    // A plain answer of the same server, as a man in the middle would get it.
    let plain = send(chronyd.ntp, &request[..HEADER]).unwrap();
    assert_eq!(session.open(&plain), Verdict::Foreign);
    assert_eq!(session.open(&answer), Verdict::Authentic);
}

#[test]
fn a_server_that_lost_its_keys_is_asked_for_new_ones() {
    let lab = Lab::new("nak");
    let mut chronyd = lab.chronyd("good", "");
    let second = Duration::from_secs(1);
    let mut association = Association::new(None);
    assert_eq!(association.begin(second, true, 0, 0), Clock::System);
    association.end(exchange(&asking(&lab, chronyd.ke)).ok());
    let ask = |association: &mut Association| {
        let mut request = Packet::request(Timestamp(7)).encode().to_vec();
        assert!(association.seal(&mut request, &random()));
        let answer = send(association.port(), &request).unwrap();
        association.open(&answer, second)
    };
    assert_eq!(ask(&mut association), Judgement::Authentic);
    let kept = association.reserve(second).unwrap();
    store::put(&lab.folder, "localhost", chronyd.ke, &kept).unwrap();

    // What is kept serves after a restart of ours, without an exchange.
    let mut again = Association::new(store::take(&lab.folder, "localhost", chronyd.ke));
    assert_eq!((again.due(), again.cookies()), (None, (3, 0)));
    assert_eq!(ask(&mut again), Judgement::Authentic);
    assert_eq!(again.cookies(), (8, 0));

    chronyd.stop();
    chronyd.start();
    for association in [&mut association, &mut again] {
        assert_eq!(association.due(), None);
        assert_eq!(ask(association), Judgement::Nak);
        assert!(association.due().is_some());
        let clock = association.begin(second * 100, true, 0, 0);
        assert_eq!(clock, Clock::System);
        association.end(exchange(&asking(&lab, chronyd.ke)).ok());
        assert_eq!(ask(association), Judgement::Authentic);
        assert_eq!(association.due(), None);
    }
}

#[test]
fn the_exchange_may_name_another_server() {
    let lab = Lab::new("named");
    let chronyd = lab.chronyd("good", "ntsntpserver 127.0.0.9");
    let granted = exchange(&asking(&lab, chronyd.ke)).unwrap();
    assert_eq!(granted.addresses, ["127.0.0.9".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(granted.port, chronyd.ntp);
    drop(chronyd);
    let server = lab.misbehaving("noname");
    let error = exchange(&asking(&lab, server.port)).unwrap_err().text;
    assert_eq!(&*error, "NTS key exchange with localhost: a..b: is no host name");
}

#[test]
fn certificates_and_the_clock() {
    let lab = Lab::new("clock");
    let day = 86_400;
    let year = 365 * day;
    let (build, latest) = ((now() - 2 * year) as u64, (now() + 18 * year) as u64);
    let doubtful = Clock::Doubtful { earliest: build, latest };
    for (name, days) in
        [("expired", -9..-1), ("early", 300..400), ("old", -5 * 365..-3 * 365), ("far", 19 * 365..20 * 365)]
    {
        lab.authority.issue(name, HERE, days);
    }
    lab.authority.issue("other", "DNS:other.test", -1..1);
    let try_with = |certificate: &str, clock: Clock| {
        let chronyd = lab.chronyd(certificate, "");
        let granted = exchange(&Asking { clock, ..asking(&lab, chronyd.ke) });
        granted.map(|granted| granted.provisional).map_err(|unmade| String::from(unmade.text))
    };
    let start = "NTS key exchange with localhost: the certificate ";
    let fails = |certificate: &str, clock: Clock, text: &str| {
        let error = try_with(certificate, clock).unwrap_err();
        assert!(
            error.strip_prefix(start).is_some_and(|rest| rest.starts_with(text)),
            "{certificate}: {error}"
        );
    };
    assert_eq!(try_with("good", doubtful), Ok(false));
    // The clock is right: what has expired has expired.
    fails("expired", Clock::System, "expired at ");
    fails("early", Clock::System, "is valid from ");
    // Nothing has confirmed the clock: perhaps it is wrong.
    assert_eq!(try_with("expired", doubtful), Ok(true));
    assert_eq!(try_with("early", doubtful), Ok(true));
    // It is not that wrong: earlier than the build, or beyond all that is plausible.
    fails("old", doubtful, "expired at ");
    fails("far", doubtful, "is valid from ");
    // The server has told its time: now the certificate must hold at it.
    let at = |time: i64| Clock::At(Duration::from_secs(time as u64));
    assert_eq!(try_with("expired", at(now() - 5 * day)), Ok(false));
    fails("expired", at(now()), "expired at ");
    fails("early", at(now()), "is valid from ");
    // Nothing else is forgiven.
    fails("other", doubtful, "is for another name");
    let chronyd = lab.chronyd("good", "");
    let foreign =
        Asking { trust: Trust { bundle: lab.path("none"), extra: Vec::new() }, ..asking(&lab, chronyd.ke) };
    let error = exchange(&Asking { clock: doubtful, ..foreign }).unwrap_err().text;
    assert_eq!(*error, *format!("{start}'s issuer is unknown; see balenaRootCA").replace(" 's", "'s"));
}

#[test]
fn a_server_with_doubtful_dates_is_believed_after_it_told_its_time() {
    let lab = Lab::new("doubtful");
    // Not valid yet by this clock; and the server's time is this clock's, so that the certificate does not hold at it.
    lab.authority.issue("early", HERE, 300..400);
    let chronyd = lab.chronyd("early", "");
    let (second, build, latest) = (Duration::from_secs(1), now() as u64 - 1000, now() as u64 + 1_000_000_000);
    let mut association = Association::new(None);
    let clock = association.begin(second, false, build, latest);
    association.end(exchange(&Asking { clock, ..asking(&lab, chronyd.ke) }).ok());
    let mut request = Packet::request(Timestamp(7)).encode().to_vec();
    assert!(association.seal(&mut request, &random()));
    let answer = send(chronyd.ntp, &request).unwrap();
    let told = Duration::from_secs(now() as u64);
    assert_eq!(association.open(&answer, told), Judgement::Provisional);
    let clock = association.begin(second * 2, false, build, latest);
    assert_eq!(clock, Clock::At(told));
    let error = exchange(&Asking { clock, ..asking(&lab, chronyd.ke) }).unwrap_err().text;
    assert!(error.contains("is valid from"), "{error}");
    association.end(None);
    assert!(!association.is_ready());
}

#[test]
fn exchanges_end_whatever_the_server_does() {
    let lab = Lab::new("misbehaving");
    let error = |mode: &str, patience: u64| {
        let server = lab.misbehaving(mode);
        let patience = Duration::from_millis(patience);
        let error = exchange(&Asking { patience, ..asking(&lab, server.port) }).unwrap_err().text;
        error.strip_prefix("NTS key exchange with localhost: ").unwrap().to_owned()
    };
    for (mode, text) in [
        ("error", "the server finds our request bad (NTS-KE error 1)"),
        ("warning", "the server answers with NTS-KE warning 5"),
        ("critical", "the server insists on record type 16675 of the NTS key exchange"),
        ("protocol", "the server has no NTS for NTPv4"),
        ("algorithm", "the server does not have AEAD_AES_SIV_CMAC_256"),
        ("cookieless", "the server gave no cookie"),
        ("alpn", "the server has TLS for another protocol"),
        ("plain", "what answers does not speak TLS"),
        ("early", "the peer closed the connection in the middle of a message"),
        ("flood", "the answer is larger than 65536 bytes"),
        ("garbage", "the server has no NTS for NTPv4"),
    ] {
        assert_eq!(error(mode, 20_000), text, "{mode}");
    }
    let begun = Instant::now();
    for mode in ["silent", "hang", "drip"] {
        assert_eq!(error(mode, 700), "no answer in time", "{mode}");
    }
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    let server = lab.misbehaving("optional");
    let granted: Box<Granted> = exchange(&asking(&lab, server.port)).unwrap();
    assert_eq!(granted.session.cookies.len(), 8);
    let port = server.port;
    drop(server);
    let error = exchange(&asking(&lab, port)).unwrap_err().text;
    assert!(error.contains("Connection refused"), "{error}");
}
