//! What is kept, how long, and what becomes of it when nobody can say it anew.

use super::message::{
    A, AAAA, ANSWER, CNAME, Message, NXDOMAIN, Reply, SERVFAIL, TC, TXT, query, query_of, wire, with_opt,
};
use super::upstream::{Act, Asked, Upstream};
use super::{GOOD, address, addresses, honest, look_up};
use minke_tests::dns_lab::{Lab, ask, here, server, soon};
use minke_tests::in_namespace;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

/// Sleeps until `age` after `since`.
fn until(since: Instant, age: Duration) {
    std::thread::sleep(age.saturating_sub(since.elapsed()));
}

#[test]
fn an_answer_is_asked_for_once_and_ages() {
    in_namespace(|| {
        let lab = Lab::new("hit");
        let upstream = Upstream::start(server(1), honest);
        let _forwarder = lab.by_hand(&[server(1)]);
        let begun = Instant::now();
        assert_eq!(look_up("kept.test").answers(A)[0].ttl, 300);
        let kept = Instant::now();
        // More than one where the first was repeated.
        let once = upstream.count("kept.test.");
        for name in ["kept.test", "KEPT.test", "kEpT.tEsT"] {
            let again = look_up(name);
            assert_eq!((addresses(&again), again.name.trim_end_matches('.')), (vec![GOOD], name));
        }
        until(kept, Duration::from_millis(2_100));
        let (ttl, age) = (look_up("kept.test").answers(A)[0].ttl, begun.elapsed().as_secs() as u32);
        assert!((300 - age - 1..=298).contains(&ttl), "{ttl} s after {age} s");
        assert_eq!(upstream.count("kept.test."), once);
        // Another kind is another question.
        ask(here(), &query(1, "kept.test", AAAA));
        assert!(upstream.count("kept.test.") > once);
    });
}

#[test]
fn when_its_time_is_over_it_is_asked_for_again() {
    in_namespace(|| {
        let lab = Lab::new("expiry");
        let upstream =
            Upstream::start(server(1), |asked| vec![Act::Say(address(asked, 1, asked.number as u8))]);
        let _forwarder = lab.by_hand(&[server(1)]);
        let first = addresses(&look_up("short.test"));
        assert!(soon(|| addresses(&look_up("short.test")) != first));
        assert!(upstream.count("short.test.") >= 2);
    });
}

#[test]
fn no_time_no_keeping() {
    in_namespace(|| {
        let lab = Lab::new("zero");
        let upstream = Upstream::start(server(1), |asked| {
            let reply = Reply::to(&asked.query, ANSWER);
            let other_class = || {
                let mut reply = Reply::to(&asked.query, ANSWER).own(TXT, 300, b"\x01x").0;
                let class = reply.len() - 2 - 4 - 2 - 2;
                reply[class + 1] = 3;
                reply
            };
            vec![Act::Say(match asked.name().as_str() {
                "zero.test." => address(asked, 0, 7),
                // RFC 2181 §8: as if it were zero.
                "beyond.test." => address(asked, 0x8000_0001, 7),
                // RFC 2308 §5: what does not exist, without a time.
                "never.test." => Reply::to(&asked.query, ANSWER | NXDOMAIN).0,
                "class.test." => other_class(),
                "failed.test." => Reply::to(&asked.query, ANSWER | SERVFAIL).0,
                _ => reply.0,
            })]
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        for name in ["zero.test.", "beyond.test.", "never.test."] {
            for _ in 0..2 {
                let before = upstream.count(name);
                look_up(name);
                assert!(upstream.count(name) > before, "{name}");
            }
        }
        for _ in 0..2 {
            let before = upstream.count("class.test.");
            let answer = Message::read(&ask(here(), &query_of(9, &wire("class.test"), TXT, 3)));
            assert_eq!((answer.class, answer.answers(TXT).len()), (3, 1));
            assert!(upstream.count("class.test.") > before);
        }
    });
}

#[test]
fn what_does_not_exist_is_kept_as_its_zone_says() {
    in_namespace(|| {
        let lab = Lab::new("negative");
        let upstream = Upstream::start(server(1), |asked| {
            let (code, minimum) = match asked.name().as_str() {
                "none.test." => (NXDOMAIN, 300),
                "empty.test." => (0, 300),
                "short.test." => (NXDOMAIN, 1),
                _ => return honest(asked),
            };
            vec![Act::Say(Reply::to(&asked.query, ANSWER | code).soa("test", minimum).0)]
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        for (name, code) in [("none.test.", NXDOMAIN), ("empty.test.", 0)] {
            let mut counts = Vec::new();
            for _ in 0..3 {
                let answer = look_up(name);
                assert_eq!((answer.rcode(), answer.answers(A).len()), (code, 0), "{name}");
                assert!(
                    answer.records.iter().any(|record| record.kind == 6 && record.section == 2),
                    "SOA for {name}"
                );
                counts.push(upstream.count(name));
            }
            assert_eq!(counts[0], counts[2], "{name}");
        }
        // The name does not exist: neither does it with another kind.
        assert_eq!(Message::read(&ask(here(), &query(3, "none.test", AAAA))).rcode(), NXDOMAIN);
        look_up("short.test");
        let once = upstream.count("short.test.");
        assert!(soon(|| {
            look_up("short.test");
            upstream.count("short.test.") > once
        }));
    });
}

#[test]
fn what_was_cut_off_is_not_kept() {
    in_namespace(|| {
        let lab = Lab::new("cut");
        // Over TCP it breaks off: the answer is never whole.
        let upstream = Upstream::start(server(1), |asked| match (asked.name().as_str(), asked.tcp) {
            ("cut.test.", false) => {
                vec![Act::Say(Reply::to(&asked.query, ANSWER | TC).own(A, 300, &[192, 0, 2, 9]).0)]
            }
            ("cut.test.", true) => vec![Act::Close],
            _ => honest(asked),
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        let cut = look_up("cut.test");
        assert!(cut.rcode() == SERVFAIL || cut.flags & TC != 0, "{cut:?}");
        upstream.set(honest);
        assert!(soon(|| addresses(&look_up("cut.test")) == [GOOD]));
    });
}

#[test]
fn security_bits_are_questions_of_their_own() {
    in_namespace(|| {
        let lab = Lab::new("bits");
        let upstream = Upstream::start(server(1), |asked| {
            let signed = asked.message.opt().is_some_and(|opt| opt.ttl & 0x8000 != 0);
            let reply = Reply::to(&asked.query, ANSWER).own(A, 300, &[192, 0, 2, 7]);
            vec![Act::Say(if signed { reply.own(46, 300, &[0; 24]).0 } else { reply.0 })]
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        let mut counts = Vec::new();
        for _ in 0..2 {
            let plain = look_up("signed.test");
            assert_eq!((plain.answers(A).len(), plain.answers(46).len()), (1, 0), "{plain:?}");
            let bytes = ask(here(), &with_opt(query(4, "signed.test", A), 1232, 0, true, &[]));
            let signed = Message::read(&bytes);
            assert_eq!((signed.answers(A).len(), signed.answers(46).len()), (1, 1), "{signed:?}");
            counts.push(upstream.count("signed.test."));
        }
        assert_eq!(counts[0], counts[1], "from the cache then");
    });
}

#[test]
fn a_name_in_use_is_asked_for_before_its_time_is_over() {
    // Its last tenth is long enough for a busy machine to look within.
    const TTL: u64 = 40;
    in_namespace(|| {
        let lab = Lab::new("prefetch");
        let upstream = Upstream::start(server(1), |asked| {
            vec![Act::Say(address(asked, TTL as u32, asked.number as u8))]
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        look_up("busy.test");
        let first = upstream.count("busy.test.");
        let begun = upstream.asked().iter().find(|asked| asked.name() == "busy.test.").unwrap().at;
        while upstream.count("busy.test.") == first && begun.elapsed() < Duration::from_secs(TTL + 5) {
            look_up("busy.test");
            std::thread::sleep(Duration::from_millis(50));
        }
        let all: Vec<Asked> =
            upstream.asked().into_iter().filter(|asked| asked.name() == "busy.test.").collect();
        let age = all[first].at.duration_since(begun);
        assert!(age < Duration::from_secs(TTL), "asked again after {age:?}");
        assert!(age > Duration::from_secs(TTL / 2), "asked again after {age:?} already");
    });
}

/// A server that gives addresses for a second, and what becomes of them then.
fn outlived(name: &str, fate: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) {
    in_namespace(|| {
        let lab = Lab::new(name);
        let upstream = Upstream::start(server(1), |asked| vec![Act::Say(address(asked, 1, 7))]);
        let _forwarder = lab.by_hand(&[server(1)]);
        assert_eq!(addresses(&look_up("old.test")), [GOOD]);
        upstream.set(fate);
        std::thread::sleep(Duration::from_millis(2_500));
        for _ in 0..3 {
            let stale = look_up("old.test");
            assert_eq!(addresses(&stale), [GOOD], "{name}: {stale:?}");
            // RFC 8767 §5.
            assert!((1..=30).contains(&stale.answers(A)[0].ttl), "{name}: {stale:?}");
        }
        assert_eq!(look_up("unknown.test").rcode(), SERVFAIL, "{name}");
        // When it is back, so is the truth.
        upstream.set(|asked| vec![Act::Say(address(asked, 300, 9))]);
        let fresh = [Ipv4Addr::new(192, 0, 2, 9)];
        assert!(soon(|| addresses(&look_up("old.test")) == fresh), "{name}");
    });
}

#[test]
fn an_old_answer_is_better_than_none_from_a_silent_server() {
    outlived("silent", |_| Vec::new());
}

#[test]
fn an_old_answer_is_better_than_none_from_a_failing_server() {
    outlived("failing", |asked| vec![Act::Say(Reply::to(&asked.query, ANSWER | SERVFAIL).0)]);
}

#[test]
fn an_old_answer_is_better_than_none_from_a_server_that_is_gone() {
    in_namespace(|| {
        let lab = Lab::new("gone");
        let upstream = Upstream::start(server(1), |asked| vec![Act::Say(address(asked, 1, 7))]);
        let _forwarder = lab.by_hand(&[server(1)]);
        assert_eq!(addresses(&look_up("old.test")), [GOOD]);
        drop(upstream);
        std::thread::sleep(Duration::from_millis(2_500));
        assert_eq!(addresses(&look_up("old.test")), [GOOD]);
        let _upstream = Upstream::start(server(1), |asked| vec![Act::Say(address(asked, 300, 9))]);
        assert!(soon(|| addresses(&look_up("old.test")) == [Ipv4Addr::new(192, 0, 2, 9)]));
    });
}

#[test]
fn what_is_said_not_to_exist_any_more_is_not_told_from_old_times() {
    in_namespace(|| {
        let lab = Lab::new("withdrawn");
        let upstream = Upstream::start(server(1), |asked| vec![Act::Say(address(asked, 1, 7))]);
        let _forwarder = lab.by_hand(&[server(1)]);
        assert_eq!(addresses(&look_up("old.test")), [GOOD]);
        upstream.set(|asked| vec![Act::Say(Reply::to(&asked.query, ANSWER | NXDOMAIN).soa("test", 300).0)]);
        assert!(soon(|| look_up("old.test").rcode() == NXDOMAIN));
        drop(upstream);
        assert_eq!(look_up("old.test").rcode(), NXDOMAIN);
    });
}

#[test]
fn a_chain_is_kept_as_it_came_and_as_long_as_its_shortest_link() {
    in_namespace(|| {
        let lab = Lab::new("links");
        let upstream = Upstream::start(server(1), |asked| {
            let reply = Reply::to(&asked.query, ANSWER).own(CNAME, 300, &wire("middle.test"));
            let reply = reply.answer("middle.test", CNAME, 5, &wire("end.test"));
            vec![Act::Say(reply.answer("end.test", A, 300, &[192, 0, 2, 7]).0)]
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        let mut counts = Vec::new();
        for _ in 0..2 {
            let answer = look_up("begin.test");
            let names: Vec<&str> =
                answer.records.iter().filter(|record| record.section == 1).map(|r| &*r.name).collect();
            assert_eq!(names, ["begin.test.", "middle.test.", "end.test."]);
            counts.push(upstream.count("begin.test."));
        }
        assert_eq!(counts[0], counts[1], "from the cache then");
        assert!(soon(|| {
            look_up("begin.test");
            upstream.count("begin.test.") > counts[1]
        }));
    });
}
