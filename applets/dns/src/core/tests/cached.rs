//! What the cache gives: times to live, what does not exist, old answers, failures.

use super::*;
use crate::config::Cache;

#[test]
fn an_answer_is_kept_and_counts_down() {
    let mut play = Play::new(standard());
    let lines =
        [(Section::Answer, "www.example.com", 300, a(1)), (Section::Answer, "www.example.com", 250, a(2))];
    let response = play.serve("www.example.com", Kind::A, Rcode::NOERROR, &lines);
    let header = Message::parse(&response).unwrap().header;
    assert_eq!(header.id, 0xABCD);
    assert_eq!(header.flags, Flags::QR.with(Flags::RD).with(Flags::RA));
    assert_eq!(shown(&response), ["www.example.com 300 A 192.0.2.1", "www.example.com 250 A 192.0.2.2"]);
    play.now += 40;
    assert_eq!(
        play.lines("www.example.com", Kind::A),
        ["www.example.com 260 A 192.0.2.1", "www.example.com 210 A 192.0.2.2"]
    );
    // The case of the question is the client's.
    assert_eq!(play.lines("wWw.Example.COM", Kind::A)[0], "wWw.Example.COM 260 A 192.0.2.1");
    // The least time counts for all, and other types are other questions.
    assert!(play.is_asked("www.example.com", Kind::AAAA));
    play.now += 210;
    assert!(play.is_asked("www.example.com", Kind::A));
    let counters = play.resolver.counters();
    assert_eq!((counters.queries, counters.hits, counters.misses), (5, 2, 3));
}

#[test]
fn what_lives_not_at_all_is_for_those_who_wait() {
    let mut play = Play::new(standard());
    let lines = [(Section::Answer, "a.example", 0, a(1))];
    assert_eq!(shown(&play.serve("a.example", Kind::A, Rcode::NOERROR, &lines)), ["a.example 0 A 192.0.2.1"]);
    assert!(play.is_asked("a.example", Kind::A));
}

#[test]
fn times_to_live_have_bounds() {
    let cache = Cache { min_ttl: at(60), max_ttl: at(600), ..Cache::default() };
    let mut play = Play::new(resolver(Settings { cache, ..plain_settings() }));
    let lines = [(Section::Answer, "short.example", 0, a(1))];
    play.serve("short.example", Kind::A, Rcode::NOERROR, &lines);
    let lines = [(Section::Answer, "long.example", 86_400, a(1))];
    let response = play.serve("long.example", Kind::A, Rcode::NOERROR, &lines);
    assert_eq!(shown(&response), ["long.example 600 A 192.0.2.1"]);
    play.now += 59;
    assert_eq!(play.lines("short.example", Kind::A), ["short.example 1 A 192.0.2.1"]);
    play.now += 1;
    assert!(play.is_asked("short.example", Kind::A));
    play.now += 539;
    assert_eq!(play.lines("long.example", Kind::A), ["long.example 1 A 192.0.2.1"]);
}

#[test]
fn what_does_not_exist_is_kept_as_its_zone_says() {
    let mut play = Play::new(standard());
    let zone = name("example");
    let (ttl, data) = soa(&zone, 900, 60);
    let lines = [(Section::Authority, "example", ttl, data)];
    let response = play.serve("no.example", Kind::A, Rcode::NXDOMAIN, &lines);
    assert_eq!((code(&response), shown(&response).len()), (Rcode::NXDOMAIN, 1));
    play.now += 30;
    // For all types, as there is no such name (RFC 2308 §5).
    for kind in [Kind::A, Kind::AAAA, Kind(65280)] {
        let response = play.ask("No.Example", kind);
        assert_eq!(code(&response), Rcode::NXDOMAIN);
        assert_eq!(shown(&response), ["Example 870 SOA Example Example 1 2 3 4 60"]);
    }
    play.now += 30;
    assert!(play.is_asked("no.example", Kind::A));
    // No record of this type: the others are not concerned.
    let lines = [(Section::Authority, "example", 20, soa(&zone, 20, 60).1)];
    let response = play.serve("some.example", Kind::A, Rcode::NOERROR, &lines);
    assert_eq!(code(&response), Rcode::NOERROR);
    play.now += 19;
    assert_eq!(play.lines("some.example", Kind::A).len(), 1);
    assert!(play.is_asked("some.example", Kind::AAAA));
    assert_eq!(play.resolver.counters().negative_hits, 4);
    play.now += 1;
    assert!(play.is_asked("some.example", Kind::A));
}

#[test]
fn without_soa_it_is_not_kept_that_there_is_none() {
    let mut play = Play::new(standard());
    for code_of in [Rcode::NXDOMAIN, Rcode::NOERROR] {
        assert_eq!(code(&play.serve("no.example", Kind::A, code_of, &[])), code_of);
        assert!(play.is_asked("no.example", Kind::A));
    }
    // And a larger time than an hour is an hour.
    let zone = name("example");
    let lines = [(Section::Authority, "example", 86_400, soa(&zone, 86_400, 86_400).1)];
    play.serve("no.example", Kind::A, Rcode::NXDOMAIN, &lines);
    play.now += 3_599;
    assert_eq!(code(&play.ask("no.example", Kind::A)), Rcode::NXDOMAIN);
    play.now += 1;
    assert!(play.is_asked("no.example", Kind::A));
}

#[test]
fn that_a_name_is_gone_and_back_replaces_what_was_known() {
    let mut play = Play::new(standard());
    let zone = name("example");
    let gone = [(Section::Authority, "example", 30, soa(&zone, 30, 30).1)];
    let here = [(Section::Answer, "n.example", 10, a(1))];
    play.serve("n.example", Kind::A, Rcode::NOERROR, &here);
    play.now += 11;
    play.serve("n.example", Kind::A, Rcode::NXDOMAIN, &gone);
    assert_eq!(code(&play.ask("n.example", Kind::A)), Rcode::NXDOMAIN);
    // Another type was asked for before the name was known to be missing, and has come back since.
    let key = query("n.example", Kind::AAAA, edns());
    play.now += 31;
    let Step::Forward(route) = play.step(&key).0 else { panic!() };
    let lines = [(Section::Answer, "n.example", 100, Data::Aaaa(Ipv6Addr::LOCALHOST))];
    play.answer(&route.key, Flags::default(), Rcode::NOERROR, &lines).unwrap();
    assert_eq!(code(&play.ask("n.example", Kind::AAAA)), Rcode::NOERROR);
    assert!(play.is_asked("n.example", Kind::A));
}

#[test]
fn a_chain_of_aliases_is_kept_as_it_came() {
    let mut play = Play::new(standard());
    let (one, two) = (name("one.example"), name("two.example.net"));
    let zone = name("example.net");
    // Not in order, and with a stranger among them.
    let lines = [
        (Section::Answer, "two.example.net", 50, a(1)),
        (Section::Answer, "www.example", 300, Data::Cname(one.as_ref())),
        (Section::Answer, "evil.example", 300, a(66)),
        (Section::Answer, "one.example", 70, Data::Cname(two.as_ref())),
    ];
    let response = play.serve("www.example", Kind::A, Rcode::NOERROR, &lines);
    let expected = [
        "two.example.net 50 A 192.0.2.1",
        "www.example 300 CNAME one.example",
        "one.example 70 CNAME two.example.net",
    ];
    assert_eq!(shown(&response), expected);
    play.now += 49;
    assert_eq!(play.lines("www.example", Kind::A).len(), 3);
    play.now += 1;
    assert!(play.is_asked("www.example", Kind::A));
    // The end of a chain may not exist; its beginning does.
    let lines = [
        (Section::Answer, "www.example", 300, Data::Cname(two.as_ref())),
        (Section::Authority, "example.net", 300, soa(&zone, 300, 300).1),
    ];
    let response = play.serve("www.example", Kind::AAAA, Rcode::NXDOMAIN, &lines);
    assert_eq!((code(&response), shown(&response).len()), (Rcode::NXDOMAIN, 2));
    assert_eq!(code(&play.ask("www.example", Kind::AAAA)), Rcode::NXDOMAIN);
    assert!(play.is_asked("www.example", Kind::TXT));
    // A loop of aliases ends.
    let www = name("www.example");
    let lines = [
        (Section::Answer, "www.example", 300, Data::Cname(one.as_ref())),
        (Section::Answer, "one.example", 300, Data::Cname(www.as_ref())),
    ];
    assert_eq!(shown(&play.serve("www.example", Kind::MX, Rcode::NOERROR, &lines)).len(), 2);
}

#[test]
fn an_old_answer_is_given_when_nobody_has_a_newer_one() {
    let cache = Cache { stale: at(1000), ..Cache::default() };
    let mut play = Play::new(resolver(Settings { cache, ..plain_settings() }));
    play.serve("a.example", Kind::A, Rcode::NOERROR, &[(Section::Answer, "a.example", 60, a(1))]);
    play.now += 60;
    let asked = query("a.example", Kind::A, edns());
    let Step::Forward(route) = play.step(&asked).0 else { panic!() };
    assert!(route.stale);
    // The client waits no longer; the question goes on.
    let client = Asked { from: HOST, query: &asked, udp: true, search: route.search };
    let mut out = Vec::new();
    assert!(play.resolver.stale(at(play.now + 2), &client, &mut out));
    assert_eq!((shown(&out), reason_of(&out)), (vec!["a.example 30 A 192.0.2.1".into()], Some(3)));
    // The next one waits no more, and within five seconds nobody is asked again.
    play.now += 3;
    assert_eq!(play.step(&asked).0, Step::Answered);
    play.now += 5;
    let Step::Refresh(again) = play.step(&asked).0 else { panic!() };
    assert_eq!(again.key, route.key);
    assert_eq!(play.step(&asked).0, Step::Answered);
    // It fails: the old one is given on.
    play.resolver.failed(at(play.now), &route.key, Rcode::SERVFAIL);
    assert_eq!(shown(&play.reply(&asked, 0)), ["a.example 30 A 192.0.2.1"]);
    assert_eq!(play.step(&asked).0, Step::Answered);
    // A new one comes.
    play.answer(&route.key, Flags::default(), Rcode::NOERROR, &[(Section::Answer, "a.example", 60, a(2))])
        .unwrap();
    let response = play.ask("a.example", Kind::A);
    assert_eq!((shown(&response), reason_of(&response)), (vec!["a.example 60 A 192.0.2.2".into()], None));
    assert!(play.resolver.counters().stale > 3);
    // After its limit it is nobody's.
    play.now += 60 + 999;
    assert!(play.route("a.example", Kind::A).stale);
    play.now += 1;
    assert!(!play.route("a.example", Kind::A).stale);
    let client = Asked { from: HOST, query: &asked, udp: true, search: 0 };
    assert!(!play.resolver.stale(at(play.now), &client, &mut out));
}

#[test]
fn that_servers_failed_is_kept_for_five_seconds() {
    let mut play = Play::new(standard());
    let asked = query("a.example", Kind::A, edns());
    let route = play.route("a.example", Kind::A);
    play.resolver.failed(at(play.now), &route.key, Rcode::REFUSED);
    let response = play.reply(&asked, 0);
    assert_eq!((code(&response), reason_of(&response)), (Rcode::REFUSED, Some(22)));
    play.now += 4;
    assert_eq!(code(&play.ask("a.example", Kind::A)), Rcode::REFUSED);
    play.now += 1;
    assert!(!play.route("a.example", Kind::A).stale);
    play.resolver.failed(at(play.now), &route.key, Rcode::SERVFAIL);
    // Other servers: they may know.
    let mut others = plain_settings();
    others.groups[0].push(Server::plain(HOST));
    play.resolver.apply(others);
    assert!(play.is_asked("a.example", Kind::A));
}

#[test]
fn what_is_asked_for_again_is_fetched_before_it_is_old() {
    let mut play = Play::new(standard());
    let lines = [(Section::Answer, "a.example", 100, a(1))];
    play.serve("a.example", Kind::A, Rcode::NOERROR, &lines);
    let asked = query("a.example", Kind::A, None);
    // Asked for once so far: not worth it.
    play.now += 95;
    assert_eq!(play.step(&asked).0, Step::Answered);
    // The second time it is, once in five seconds.
    let Step::Refresh(route) = play.step(&asked).0 else { panic!() };
    assert_eq!(play.step(&asked).0, Step::Answered);
    play.answer(&route.key, Flags::default(), Rcode::NOERROR, &lines).unwrap();
    for _ in 0..4 {
        assert_eq!(play.step(&asked).0, Step::Answered);
        play.now += 20;
    }
    assert_eq!(play.step(&asked).0, Step::Answered);
    play.now += 10;
    assert!(matches!(play.step(&asked).0, Step::Refresh(_)));
    assert_eq!(play.resolver.counters().prefetches, 2);
}

#[test]
fn flags_of_dnssec_are_questions_of_their_own() {
    let mut play = Play::new(standard());
    let signed = Data::Other(b"\0\x01\x08\x03\0\0\0\x3C\0\0\0\0\0\0\0\0\0\0\0sig");
    let mut lines = vec![(Section::Answer, "a.example", 60, a(1))];
    play.serve("a.example", Kind::A, Rcode::NOERROR, &lines);
    let ok = Some(Opt { size: 1232, dnssec_ok: true, ..Opt::default() });
    let Step::Forward(route) = play.step(&query("a.example", Kind::A, ok)).0 else { panic!() };
    assert!(route.key.dnssec_ok());
    lines.push((Section::Answer, "a.example", 60, signed));
    let mut sent = Vec::new();
    route.key.query(7, 0, true, &mut sent);
    assert!(Message::parse(&sent).unwrap().opt().unwrap().dnssec_ok);
    let mut response = respond(&sent, Flags::AD, Rcode::NOERROR, &lines);
    // The harness writes the type 65280; the last record is the signature.
    let place = response.windows(2).rposition(|two| two == [0xFF, 0x00]).unwrap();
    response[place..place + 2].copy_from_slice(&Kind::RRSIG.0.to_be_bytes());
    assert_eq!(play.resolver.answered(at(play.now), &route.key, &sent, &response, true), Ok(Taken::Good));
    let (_, out) = play.step(&query("a.example", Kind::A, ok));
    assert_eq!(shown(&out).len(), 2);
    let message = Message::parse(&out).unwrap();
    assert!(message.header.flags.has(Flags::AD) && message.opt().unwrap().dnssec_ok);
    // Who does not want them does not get them, nor AD.
    let (_, out) = play.step(&query("a.example", Kind::A, None));
    let message = Message::parse(&out).unwrap();
    assert!(shown(&out).len() == 1 && !message.header.flags.has(Flags::AD) && message.opt().is_none());
    // What came on a way that others can change is not authentic.
    play.resolver.answered(at(play.now), &route.key, &sent, &response, false).unwrap();
    let (_, out) = play.step(&query("a.example", Kind::A, ok));
    assert!(!Message::parse(&out).unwrap().header.flags.has(Flags::AD));
    // CD is asked for apart, and repeated.
    let mut unchecked = query("a.example", Kind::A, None);
    unchecked[3] |= 0x10;
    let Step::Forward(route) = play.step(&unchecked).0 else { panic!() };
    sent.clear();
    route.key.query(7, 0, false, &mut sent);
    assert!(Message::parse(&sent).unwrap().header.flags.has(Flags::CD.with(Flags::RD)));
    play.answer(&route.key, Flags::CD, Rcode::NOERROR, &lines[..1]).unwrap();
    let (_, out) = play.step(&unchecked);
    assert!(Message::parse(&out).unwrap().header.flags.has(Flags::CD));
}

#[test]
fn other_classes_pass_and_are_not_kept() {
    let mut play = Play::new(standard());
    let mut chaos = query("version.bind", Kind::TXT, None);
    let last = chaos.len() - 1;
    chaos[last] = 3;
    let Step::Forward(route) = play.step(&chaos).0 else { panic!() };
    assert_eq!((route.group, route.key.class()), (0, Class::CH));
    let mut sent = Vec::new();
    route.key.query(9, 0, true, &mut sent);
    let mut response = respond(&sent, Flags::default(), Rcode::NOERROR, &[]);
    response[7] = 1;
    response.extend_from_slice(b"\xC0\x0C\0\x10\0\x03\0\0\0\x3C\0\x03\x02hi");
    assert_eq!(play.resolver.answered(at(play.now), &route.key, &sent, &response, false), Ok(Taken::Good));
    assert_eq!(shown(&play.reply(&chaos, 0)), ["version.bind 60 TXT \"hi\""]);
    assert!(matches!(play.step(&chaos).0, Step::Forward(_)));
    // Unknown types are kept byte for byte, and ANY passes.
    let data = Data::Other(b"\xC0\x0C\0\xFF");
    play.serve("t.example", Kind(65280), Rcode::NOERROR, &[(Section::Answer, "t.example", 60, data)]);
    assert_eq!(play.lines("t.example", Kind(65280)), ["t.example 60 TYPE65280 \\# 4 c00c00ff"]);
    let lines = [(Section::Answer, "t.example", 60, data), (Section::Answer, "t.example", 60, a(1))];
    assert_eq!(shown(&play.serve("t.example", Kind::ANY, Rcode::NOERROR, &lines)).len(), 2);
}

#[test]
fn flushing_takes_names_and_those_below_them() {
    let mut play = Play::new(standard());
    for text in ["a.example", "b.a.example", "c.example", "ba.example"] {
        play.serve(text, Kind::A, Rcode::NOERROR, &[(Section::Answer, text, 60, a(1))]);
    }
    assert_eq!(play.resolver.cached().0, 4);
    assert_eq!(play.resolver.flush(Some(&name("A.example"))), 2);
    assert!(play.is_asked("b.a.example", Kind::A));
    assert_eq!(play.lines("ba.example", Kind::A).len(), 1);
    assert_eq!(play.resolver.flush(None), 2);
    assert_eq!(play.resolver.cached(), (0, 0));
}
