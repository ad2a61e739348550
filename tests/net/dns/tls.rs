//! DNS over TLS to unbound, with certificates of an authority of the test's own.

use super::carried::long;
use super::message::{A, ANSWER, Message, Reply, SERVFAIL, query};
use super::upstream::{Act, Upstream};
use super::{GOOD, addresses, honest, look_up_in_system as look_up};
use minke_tests::authority::Authority;
use minke_tests::dns_lab::{Lab, ask_tcp, dig, in_system, kdig, server, soon};
use minke_tests::{Daemon, in_namespace};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// An authority, believed by the forwarder, and certificates for `dns.test` and 10.77.1.1: one that is good, one that
/// has expired, one that is not valid yet, one for another name, one that nobody has signed.
fn authority(lab: &Lab) {
    let folder = lab.path("");
    let authority = Authority::new(&folder, -99..99);
    let names = "DNS:dns.test,IP:10.77.1.1";
    for (name, names, days) in [
        ("good", names, -9..9),
        ("expired", names, -9..-1),
        ("early", names, 9..90),
        ("other", "DNS:other.test", -9..9),
    ] {
        authority.issue(name, names, days);
    }
    lab.sh(&format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout own.key -out own.pem -subj /CN=own \
           -addext subjectAltName={names} -days 9 2>/dev/null
         cp ca.pem etc/ssl/certs/ca-certificates.crt
         mkdir -p run/systemd/timesync; echo test >run/systemd/timesync/synchronized"
    ));
}

/// unbound at port 853 of 10.77.1.1 with this certificate, which gives every name below `test` the usual address.
fn unbound(lab: &Lab, certificate: &str) -> Daemon {
    let folder = lab.path(certificate).display().to_string();
    let lines = format!(
        " tls-service-key: \"{folder}.key\"\n tls-service-pem: \"{folder}.pem\"\n local-zone: \"test.\" redirect\n \
         local-data: \"test. 300 A 192.0.2.7\"\n log-queries: yes\n"
    );
    lab.unbound(SocketAddr::new(server(1).ip(), 853), &lines, "")
}

#[test]
fn a_server_with_the_right_certificate_is_believed() {
    in_namespace(|| {
        let lab = Lab::new("tls-good");
        authority(&lab);
        let _unbound = unbound(&lab, "good");
        assert_eq!(kdig("@10.77.1.1 +tls board.test A").answers(), ["192.0.2.7"]);
        for way in ["tls://10.77.1.1#dns.test", "tls://10.77.1.1:853#10.77.1.1"] {
            let forwarder = lab.by_files(&format!("server={way}\n"), "");
            for number in 0..20 {
                assert_eq!(
                    addresses(&look_up(&format!("host-{number}.test"), A)),
                    [GOOD],
                    "{}",
                    forwarder.log()
                );
            }
        }
    });
}

#[test]
fn a_server_with_a_wrong_certificate_is_told_nothing() {
    in_namespace(|| {
        let lab = Lab::new("tls-bad");
        authority(&lab);
        // Who takes the plain way where TLS fails is heard here.
        let plain = Upstream::start(server(1), honest);
        for certificate in ["expired", "other", "own"] {
            let _unbound = unbound(&lab, certificate);
            let forwarder = lab.by_files("server=tls://10.77.1.1#dns.test\n", "");
            assert_eq!(look_up("secret.test", A).rcode(), 2, "{certificate}: {}", forwarder.log());
            let log = std::fs::read_to_string(lab.path("unbound-10.77.1.1.log")).unwrap();
            assert!(!log.contains("secret.test"), "{certificate}: {log}");
            assert!(
                soon(|| forwarder.log().contains("certificate")),
                "the log says why: {}",
                forwarder.log()
            );
            forwarder.lives();
        }
        assert!(plain.asked().is_empty(), "{:?}", plain.asked().first());
    });
}

/// Also where a real-time clock has a plausible time: it may be wrong, and time servers have names.
#[test]
fn until_the_clock_is_confirmed_a_certificate_s_dates_are_no_verdict() {
    in_namespace(|| {
        let lab = Lab::new("tls-clock");
        authority(&lab);
        let strict = "server=tls://10.77.1.1#dns.test\n";
        for mark in ["", ": >run/systemd/timesync/rtc"] {
            lab.sh(&format!("rm -f run/systemd/timesync/*; {mark}"));
            let _unbound = unbound(&lab, "early");
            let forwarder = lab.by_files(strict, "");
            assert!(soon(|| addresses(&look_up("time.test", A)) == [GOOD]), "{mark}: {}", forwarder.log());
            // Now it is one, and the session of before ends.
            lab.write("run/systemd/timesync/synchronized", "test");
            let mut number = 0;
            let mut is_refused = || {
                number += 1;
                look_up(&format!("secret-{number}.test"), A).rcode() == 2
            };
            assert!(soon(&mut is_refused), "{mark}: {}", forwarder.log());
            assert!(
                soon(|| forwarder.log().contains("the certificate is valid from")),
                "{}",
                forwarder.log()
            );
        }
        // Nothing else is forgiven.
        for certificate in ["other", "own"] {
            lab.sh("rm -f run/systemd/timesync/*");
            let _unbound = unbound(&lab, certificate);
            let forwarder = lab.by_files(strict, "");
            assert_eq!(look_up("secret.test", A).rcode(), 2, "{certificate}: {}", forwarder.log());
        }
    });
}

#[test]
fn without_a_name_any_certificate_is_better_than_none() {
    in_namespace(|| {
        let lab = Lab::new("tls-opportunistic");
        authority(&lab);
        let plain = Upstream::start(server(1), |asked| {
            vec![Act::Say(Reply::to(&asked.query, ANSWER).own(A, 300, &[192, 0, 2, 8]).0)]
        });
        for certificate in ["good", "own", "expired"] {
            let _unbound = unbound(&lab, certificate);
            let mut log = String::new();
            // A server that is not ready within a second is asked by the plain way for a minute.
            let believed = soon(|| {
                let forwarder = lab.by_files("server=tls://10.77.1.1\n", "");
                let answer = addresses(&look_up(&format!("{certificate}.test"), A));
                log = forwarder.log();
                answer == [GOOD]
            });
            assert!(believed, "{certificate}: {log}");
        }
        // Without TLS there is still DNS.
        let before = plain.asked().len();
        let _forwarder = lab.by_files("server=tls://10.77.1.1\n", "");
        assert_eq!(addresses(&look_up("plain.test", A))[0].octets()[3], 8);
        assert!(plain.asked().len() > before);
    });
}

/// Where there is no TLS after all, what does not fit a datagram comes by TCP; and where there is no TCP either, the
/// question ends, and does not go round.
#[test]
fn without_tls_long_answers_come_by_tcp() {
    in_namespace(|| {
        let lab = Lab::new("tls-long");
        authority(&lab);
        let plain = Upstream::start(server(1), |asked| match asked.name().as_str() {
            "closed.test." if asked.tcp => vec![Act::Close],
            _ => long(asked, 65_280, 200, 4),
        });
        let _forwarder = lab.by_files("server=tls://10.77.1.1\n", "");
        for name in ["long.test", "longer.test"] {
            let answer = Message::read(&ask_tcp(in_system(), &query(1, name, 65_280)));
            assert_eq!(answer.answers(65_280).len(), 200, "{name}");
        }
        assert_eq!(plain.asked().iter().filter(|asked| asked.tcp).count(), 2);
        let before = plain.asked().len();
        let answer = Message::read(&ask_tcp(in_system(), &query(1, "closed.test", 65_280)));
        assert_eq!((answer.rcode(), answer.answers(65_280).len()), (SERVFAIL, 0));
        // By datagram and by TCP, and once more each for a connection that had been of use.
        let asked = plain.asked().len() - before;
        assert!((2..=6).contains(&asked), "{asked}");
    });
}

/// Who takes the connection and says nothing holds nobody up for long.
#[test]
fn a_server_that_says_nothing_by_tls_gives_way() {
    in_namespace(|| {
        let lab = Lab::new("tls-silent");
        authority(&lab);
        let secure = SocketAddr::new(server(1).ip(), 853);
        // The kernel takes connections for who never looks at them.
        let _silent = TcpListener::bind(secure).unwrap();
        let plain = Upstream::start(server(1), |asked| {
            vec![Act::Say(Reply::to(&asked.query, ANSWER).own(A, 300, &[192, 0, 2, 8]).0)]
        });
        let next = Upstream::start(server(2), honest);
        // Strict: the next server, and nothing of it by the plain way.
        let forwarder = lab.by_files("server=tls://10.77.1.1#dns.test\nserver=10.77.1.2\n", "");
        for number in 0..10 {
            let begun = Instant::now();
            assert_eq!(
                addresses(&look_up(&format!("strict-{number}.test"), A)),
                [GOOD],
                "{}",
                forwarder.log()
            );
            println!("strict, question {number}: {:?}", begun.elapsed());
        }
        assert!(soon(|| forwarder.log().contains("no answer in time")), "{}", forwarder.log());
        drop(forwarder);
        // Nobody else: it is told.
        let forwarder = lab.by_files("server=tls://10.77.1.1#dns.test\n", "");
        assert_eq!(look_up("alone.test", A).rcode(), 2, "{}", forwarder.log());
        assert!(plain.asked().is_empty(), "{:?}", plain.asked().first());
        assert_eq!(next.count("alone.test."), 0);
        drop(forwarder);
        // Opportunistic: the plain way, once it has had its second.
        let forwarder = lab.by_files("server=tls://10.77.1.1\n", "");
        let begun = Instant::now();
        let first = addresses(&look_up("first.test", A));
        assert_eq!(first.first().map(|address| address.octets()[3]), Some(8), "{}", forwarder.log());
        let span = begun.elapsed();
        println!("opportunistic: {span:?}");
        assert!(span > Duration::from_millis(900), "not tried: {span:?}");
        let begun = Instant::now();
        for number in 0..20 {
            let answer = addresses(&look_up(&format!("later-{number}.test"), A));
            assert_eq!(answer.first().map(|address| address.octets()[3]), Some(8));
        }
        // It is not tried again for each.
        assert!(begun.elapsed() < Duration::from_secs(18), "{:?}", begun.elapsed());
        forwarder.lives();
    });
}

#[test]
fn a_connection_that_breaks_is_made_anew() {
    in_namespace(|| {
        let lab = Lab::new("tls-again");
        authority(&lab);
        let first = unbound(&lab, "good");
        let forwarder = lab.by_files("server=tls://10.77.1.1#dns.test\n", "");
        assert_eq!(addresses(&look_up("one.test", A)), [GOOD]);
        drop(first);
        let _second = unbound(&lab, "good");
        assert!(soon(|| addresses(&look_up("two.test", A)) == [GOOD]), "{}", forwarder.log());
    });
}

#[test]
fn what_a_validating_server_found_authentic_is_so_on_a_way_that_nobody_can_change() {
    in_namespace(|| {
        let lab = Lab::new("tls-ad");
        authority(&lab);
        let zone = "$ORIGIN kinds.test.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns\nns A 10.77.1.2\nweb A 192.0.2.80\n";
        let _knot = lab.knot(server(2), "kinds.test", zone, true);
        let keys = dig("@10.77.1.2 kinds.test DNSKEY");
        lab.write("anchor.key", format!("kinds.test. IN DNSKEY {}\n", keys.section("ANSWER")[0][4]));
        let folder = lab.path("").display().to_string();
        let lines = format!(
            " tls-service-key: \"{folder}good.key\"\n tls-service-pem: \"{folder}good.pem\"\n interface: 10.77.1.1@53\n \
             module-config: \"validator iterator\"\n trust-anchor-file: \"{folder}anchor.key\"\n local-zone: \"test.\" nodefault\n"
        );
        let stub = "stub-zone:\n name: \"kinds.test\"\n stub-addr: 10.77.1.2@53\n";
        let _unbound = lab.unbound(SocketAddr::new(server(1).ip(), 853), &lines, stub);
        let theirs = dig("@10.77.1.1 web.kinds.test A +dnssec");
        assert!(theirs.has("ad"), "{theirs:?}");
        for (way, authentic) in [("tls://10.77.1.1#dns.test", true), ("10.77.1.1", false)] {
            let forwarder = lab.by_files(&format!("server={way}\n"), "");
            for _ in 0..2 {
                let ours = dig("@127.0.0.2 web.kinds.test A +dnssec");
                assert_eq!(
                    (ours.has("ad"), ours.status()),
                    (authentic, "NOERROR"),
                    "{way}: {}",
                    forwarder.log()
                );
                // Who asks for no such thing is told no such thing.
                assert!(!dig("@127.0.0.2 web.kinds.test A +noadflag +noedns").has("ad"), "{way}");
            }
        }
    });
}
