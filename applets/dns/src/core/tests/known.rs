//! Names that are known here, and who is asked for the others.

use super::*;
use crate::config::{Host, Network, Subnet};

fn subnet(address: &str, bits: u8) -> Subnet {
    Subnet { address: address.parse().unwrap(), bits }
}

fn host(address: &str, names: &[&str]) -> Host {
    Host { address: address.parse().unwrap(), names: names.iter().map(|text| name(text)).collect() }
}

fn settings() -> Settings {
    Settings {
        groups: vec![vec![Server::plain(HOST)], vec![Server::plain(CONTAINER)], vec![]],
        domains: vec![
            (name("corp.example"), Target::Servers(1)),
            (name("lab.corp.example"), Target::Servers(2)),
            (name("out.lab.corp.example"), Target::Standard),
            (name("here.example"), Target::Local),
            (name("ads.example"), Target::Addresses(vec!["0.0.0.0".parse().unwrap()])),
            (name("1.168.192.in-addr.arpa"), Target::Servers(1)),
        ],
        host_name: Some(name("Minke")),
        interfaces: vec![subnet("192.168.7.2", 24), subnet("172.17.0.1", 16), subnet("2001:db8::2", 64)],
        hosts: vec![
            host("127.0.0.1", &["localhost"]),
            host("10.0.0.7", &["printer.home.example", "printer"]),
            host("fd00::7", &["printer.home.example"]),
            host("10.0.0.8", &["scanner"]),
        ],
        aliases: vec![
            (name("www.here.example"), name("printer")),
            (name("cdn.here.example"), name("cdn.example.net")),
            (name("far.here.example"), name("www.here.example")),
            (name("one.here.example"), name("two.here.example")),
            (name("two.here.example"), name("one.here.example")),
        ],
        networks: vec![
            Network {
                subnet: subnet("172.17.0.0", 16),
                hosts: vec![host("172.17.0.9", &["db", "db.internal.example"])],
            },
            Network { subnet: subnet("172.18.0.0", 16), hosts: vec![host("172.18.0.9", &["db", "other"])] },
        ],
        ..Settings::default()
    }
}

#[test]
fn domains_have_servers_of_their_own() {
    let mut play = Play::new(resolver(settings()));
    for (text, group) in [
        ("www.example", 0),
        ("corp.example", 1),
        ("a.b.Corp.Example", 1),
        ("xcorp.example", 0),
        ("a.lab.corp.example", 2),
        ("a.out.lab.corp.example", 0),
        ("5.1.168.192.in-addr.arpa", 1),
    ] {
        assert_eq!(play.route(text, Kind::TXT).group, group, "{text}");
    }
    assert_eq!(code(&play.ask("no.here.example", Kind::A)), Rcode::NXDOMAIN);
    assert_eq!(play.lines("x.ads.example", Kind::A), ["x.ads.example 0 A 0.0.0.0"]);
    for kind in [Kind::AAAA, Kind::HTTPS, Kind::MX] {
        let response = play.ask("ads.example", kind);
        assert_eq!((code(&response), shown(&response).len()), (Rcode::NOERROR, 0));
    }
}

#[test]
fn names_of_hosts_files_go_forth_and_back() {
    let mut play = Play::new(resolver(settings()));
    assert_eq!(play.lines("PRINTER.home.example", Kind::A), ["PRINTER.home.example 0 A 10.0.0.7"]);
    assert_eq!(play.lines("printer.home.example", Kind::AAAA), ["printer.home.example 0 AAAA fd00::7"]);
    assert_eq!(play.lines("printer.home.example", Kind::ANY).len(), 2);
    assert_eq!(play.lines("scanner", Kind::AAAA), [""; 0]);
    assert_eq!(play.lines("printer.home.example", Kind::HTTPS), [""; 0]);
    assert!(play.is_asked("printer.home.example", Kind::MX) && play.is_asked("a.test", Kind::A));
    for text in ["scanner", "minke", "localhost"] {
        let response = play.ask(text, Kind::TXT);
        assert_eq!((code(&response), shown(&response).len()), (Rcode::NOERROR, 0), "{text}");
    }
    let response = play.ask("scanner", Kind::A);
    let flags = Message::parse(&response).unwrap().header.flags;
    assert!(flags.has(Flags::AA.with(Flags::RA)));
    assert_eq!(
        play.lines("7.0.0.10.in-addr.arpa", Kind::PTR),
        ["7.0.0.10.in-addr.arpa 0 PTR printer.home.example"]
    );
    let six = format!("7.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    assert_eq!(play.lines(&six, Kind::PTR), [format!("{six} 0 PTR printer.home.example")]);
    // Aliases, whose end may be elsewhere.
    assert_eq!(
        play.lines("www.here.example", Kind::A),
        ["www.here.example 0 CNAME printer", "printer 0 A 10.0.0.7"]
    );
    assert_eq!(play.lines("far.here.example", Kind::A)[1], "printer 0 A 10.0.0.7");
    assert_eq!(code(&play.ask("one.here.example", Kind::A)), Rcode::NXDOMAIN);
    let asked = query("cdn.here.example", Kind::A, None);
    let Step::Forward(route) = play.step(&asked).0 else { panic!() };
    assert_eq!((route.key.name(), route.group), (name("cdn.example.net"), 0));
    play.answer(
        &route.key,
        Flags::default(),
        Rcode::NOERROR,
        &[(Section::Answer, "cdn.example.net", 60, a(1))],
    )
    .unwrap();
    let expected = ["cdn.here.example 0 CNAME cdn.example.net", "cdn.example.net 60 A 192.0.2.1"];
    assert_eq!(shown(&play.reply(&asked, route.search)), expected);
    assert_eq!(play.lines("cdn.here.example", Kind::A), expected);
}

#[test]
fn the_own_name_is_what_the_client_can_use() {
    let mut play = Play::new(resolver(settings()));
    let all = ["192.168.7.2", "172.17.0.1", "127.0.0.1"].map(|address| format!("minke 0 A {address}"));
    assert_eq!(play.lines("minke", Kind::A), all);
    assert_eq!(play.lines("minke", Kind::AAAA), ["minke 0 AAAA 2001:db8::2", "minke 0 AAAA ::1"]);
    play.from = CONTAINER;
    assert_eq!(play.lines("minke", Kind::A), ["minke 0 A 172.17.0.1"]);
    assert_eq!(play.lines("minke", Kind::AAAA), [""; 0]);
    play.from = "198.51.100.1".parse().unwrap();
    assert_eq!(play.lines("minke", Kind::A), all[..2]);
    assert_eq!(play.lines("2.7.168.192.in-addr.arpa", Kind::PTR), ["2.7.168.192.in-addr.arpa 0 PTR Minke"]);
}

#[test]
fn containers_see_the_names_of_their_own_network() {
    let mut play = Play::new(resolver(settings()));
    assert_eq!(code(&play.ask("db", Kind::A)), Rcode::NXDOMAIN);
    assert!(play.is_asked("db.internal.example", Kind::A));
    play.serve(
        "db.internal.example",
        Kind::A,
        Rcode::NOERROR,
        &[(Section::Answer, "db.internal.example", 60, a(1))],
    );
    play.from = CONTAINER;
    assert_eq!(play.lines("db", Kind::A), ["db 0 A 172.17.0.9"]);
    assert_eq!(play.lines("db", Kind::AAAA), [""; 0]);
    assert_eq!(code(&play.ask("other", Kind::A)), Rcode::NXDOMAIN);
    // Also where the cache has what the world says.
    assert_eq!(play.lines("db.internal.example", Kind::A), ["db.internal.example 0 A 172.17.0.9"]);
    assert_eq!(play.lines("9.0.17.172.in-addr.arpa", Kind::PTR), ["9.0.17.172.in-addr.arpa 0 PTR db"]);
    play.from = "172.18.0.1".parse().unwrap();
    assert_eq!(play.lines("db", Kind::A), ["db 0 A 172.18.0.9"]);
    assert_eq!(code(&play.ask("9.0.17.172.in-addr.arpa", Kind::PTR)), Rcode::NXDOMAIN);
    assert_eq!(play.lines("db.internal.example", Kind::A), ["db.internal.example 60 A 192.0.2.1"]);
}

#[test]
fn special_names_are_asked_from_no_server() {
    let mut play = Play::new(resolver(Settings { hosts: Vec::new(), ..settings() }));
    assert_eq!(play.lines("localhost", Kind::A), ["localhost 0 A 127.0.0.1"]);
    assert_eq!(play.lines("any.localhost", Kind::AAAA), ["any.localhost 0 AAAA ::1"]);
    assert_eq!(play.lines("localhost", Kind::MX), [""; 0]);
    for text in ["a.invalid", "a.onion", "a.alt", "local", "10.in-addr.arpa"] {
        assert_eq!(code(&play.ask(text, Kind::TXT)), Rcode::NXDOMAIN, "{text}");
    }
    assert_eq!(code(&play.ask("_dns.resolver.arpa", Kind::SVCB)), Rcode::NOERROR);
    assert_eq!(play.lines("1.0.0.127.in-addr.arpa", Kind::PTR), ["1.0.0.127.in-addr.arpa 0 PTR localhost"]);
    let asked = query("Printer.local", Kind::A, None);
    let Step::Mdns(key, _) = play.step(&asked).0 else { panic!() };
    assert_eq!(key.name().to_string(), "printer.local");
    let (owner, other) = (name("printer.local"), name("evil.local"));
    let found = |name, data| Found { name, kind: Kind::A, ttl: 120, data };
    let records =
        [found(&owner, &[10, 0, 0, 1]), found(&other, &[10, 0, 0, 6]), found(&owner, &[10, 0, 0, 2])];
    play.resolver.found(at(play.now), &key, Some(&records));
    assert_eq!(shown(&play.reply(&asked, 0)), ["Printer.local 10 A 10.0.0.1", "Printer.local 10 A 10.0.0.2"]);
    play.now += 9;
    assert_eq!(
        play.lines("printer.local", Kind::A),
        ["printer.local 1 A 10.0.0.1", "printer.local 1 A 10.0.0.2"]
    );
    // Nothing found, or what is of no use without its link: no such record, and not kept.
    let asked = query("printer.local", Kind::AAAA, None);
    let Step::Mdns(key, _) = play.step(&asked).0 else { panic!() };
    let link_local = Found {
        name: &owner,
        kind: Kind::AAAA,
        ttl: 120,
        data: &[0xFE, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    };
    for records in [&[link_local][..], &[]] {
        play.resolver.found(at(play.now), &key, Some(records));
        let response = play.reply(&asked, 0);
        assert_eq!((code(&response), shown(&response).len()), (Rcode::NOERROR, 0));
        assert!(matches!(play.step(&asked).0, Step::Mdns(..)));
    }
    play.resolver.found(at(play.now), &key, None);
    assert_eq!(code(&play.reply(&asked, 0)), Rcode::NXDOMAIN);
    // The owner's own rule comes first.
    let mut other = settings();
    other.domains.push((name("local"), Target::Servers(1)));
    play.resolver.apply(other);
    assert_eq!(play.route("x.local", Kind::A).group, 1);
}

#[test]
fn private_reverse_zones_stay_here() {
    let mut play = Play::new(standard());
    let zeros = "0.".repeat(20);
    let inside = [
        "1.0.0.10.in-addr.arpa",
        "10.in-addr.arpa",
        "1.16.172.in-addr.arpa",
        "1.31.172.in-addr.arpa",
        "1.1.168.192.in-addr.arpa",
        "1.2.0.192.in-addr.arpa",
        "64.100.in-addr.arpa",
        "1.113.0.203.in-addr.arpa",
        "1.100.51.198.in-addr.arpa",
        "255.255.255.255.in-addr.arpa",
        "0.in-addr.arpa",
        "lb._dns-sd._udp.0.1.168.192.in-addr.arpa",
        "1.d.f.ip6.arpa",
        "c.e.f.ip6.arpa",
        "f.e.f.ip6.arpa",
        "8.b.d.0.1.0.0.2.ip6.arpa",
    ];
    for text in inside {
        assert_eq!(code(&play.ask(text, Kind::PTR)), Rcode::NXDOMAIN, "{text}");
    }
    assert_eq!(
        code(&play.ask(&format!("{zeros}{zeros}ip6.arpa").replacen("0.0.0.0.0.0.0.0.", "", 1), Kind::PTR)),
        Rcode::NXDOMAIN
    );
    let outside = [
        "1.1.1.1.in-addr.arpa",
        "1.32.172.in-addr.arpa",
        "1.15.172.in-addr.arpa",
        "172.in-addr.arpa",
        "1.169.192.in-addr.arpa",
        "63.100.in-addr.arpa",
        "0.2.ip6.arpa",
        "e.f.ip6.arpa",
        "ip6.arpa",
        "in-addr.arpa",
        "x.in-addr.arpa",
        "10.in-addr.arpa.example",
        "300.in-addr.arpa",
    ];
    for text in outside {
        assert!(play.is_asked(text, Kind::PTR), "{text}");
    }
    let mut play = Play::new(resolver(Settings { private_reverse: false, ..plain_settings() }));
    assert!(play.is_asked("1.0.0.10.in-addr.arpa", Kind::PTR));
}

#[test]
fn plain_names_are_looked_for_in_the_search_domains() {
    let settings = Settings { search: vec![name("a.example"), name("b.example")], ..settings() };
    let mut play = Play::new(resolver(settings.clone()));
    let asked = query("Nas", Kind::A, None);
    let Step::Forward(first) = play.step(&asked).0 else { panic!() };
    assert_eq!((first.key.name().to_string().as_str(), first.search), ("nas.a.example", 1));
    // The first one does not have it, and does not say for how long.
    play.answer(&first.key, Flags::default(), Rcode::NXDOMAIN, &[]).unwrap();
    let reply = |play: &mut Play, search: u8, out: &mut Vec<u8>| {
        let asked = Asked { from: HOST, query: &asked, udp: true, search };
        play.resolver.reply(at(play.now), &asked, out)
    };
    let mut out = Vec::new();
    let Step::Forward(second) = reply(&mut play, first.search, &mut out) else { panic!() };
    assert_eq!((second.key.name().to_string().as_str(), second.search), ("nas.b.example", 2));
    play.answer(
        &second.key,
        Flags::default(),
        Rcode::NOERROR,
        &[(Section::Answer, "nas.b.example", 60, a(1))],
    )
    .unwrap();
    assert_eq!(reply(&mut play, second.search, &mut out), Step::Answered);
    assert_eq!(shown(&out), ["Nas 0 CNAME Nas.b.example", "Nas.b.example 60 A 192.0.2.1"]);
    // Once the first is known not to have it, the cache answers, and its times count down.
    let zone = name("a.example");
    play.answer(
        &first.key,
        Flags::default(),
        Rcode::NXDOMAIN,
        &[(Section::Authority, "a.example", 60, soa(&zone, 60, 60).1)],
    )
    .unwrap();
    play.now += 10;
    assert_eq!(play.lines("nas", Kind::A), ["nas 0 CNAME nas.b.example", "nas.b.example 50 A 192.0.2.1"]);
    // Nobody has it.
    play.now += 100;
    let Step::Forward(first) = play.step(&asked).0 else { panic!() };
    assert!(!first.stale || first.search == 1);
    play.answer(&first.key, Flags::default(), Rcode::NXDOMAIN, &[]).unwrap();
    out.clear();
    let Step::Forward(second) = reply(&mut play, first.search, &mut out) else { panic!() };
    play.answer(&second.key, Flags::default(), Rcode::NXDOMAIN, &[]).unwrap();
    assert_eq!(reply(&mut play, second.search, &mut out), Step::Answered);
    assert_eq!(code(&out), Rcode::NXDOMAIN);
    // Servers fail: that is told, not that there is no such name.
    play.resolver.flush(None);
    let Step::Forward(first) = play.step(&asked).0 else { panic!() };
    play.resolver.failed(at(play.now), &first.key, Rcode::SERVFAIL);
    out.clear();
    assert_eq!(reply(&mut play, first.search, &mut out), Step::Answered);
    assert_eq!((code(&out), shown(&out).len()), (Rcode::SERVFAIL, 0));
    // Servers of zones are looked for without search.
    assert_eq!(play.route("com", Kind::DS).key.name(), name("com"));
    assert!(play.is_asked(".", Kind::NS));
    // Without search domains there is no such name, unless servers are named for plain names (`server=//`).
    play.resolver.flush(None);
    play.resolver.apply(Settings { search: Vec::new(), ..settings.clone() });
    assert_eq!(code(&play.ask("nas", Kind::A)), Rcode::NXDOMAIN);
    play.resolver.apply(Settings {
        plain: Some(Target::Servers(1)),
        search: vec![name("a.example")],
        ..settings
    });
    let Step::Forward(first) = play.step(&asked).0 else { panic!() };
    play.answer(&first.key, Flags::default(), Rcode::NXDOMAIN, &[]).unwrap();
    let Step::Forward(last) = reply(&mut play, first.search, &mut out) else { panic!() };
    assert_eq!((last.key.name(), last.group, last.search), (name("nas"), 1, 2));
    play.answer(&last.key, Flags::default(), Rcode::NOERROR, &[(Section::Answer, "nas", 60, a(3))]).unwrap();
    out.clear();
    assert_eq!(reply(&mut play, last.search, &mut out), Step::Answered);
    assert_eq!(shown(&out), ["Nas 60 A 192.0.2.3"]);
}

#[test]
fn other_settings_keep_what_is_still_right() {
    let mut play = Play::new(resolver(settings()));
    for text in ["a.corp.example", "www.example", "b.example", "c.example"] {
        play.serve(text, Kind::A, Rcode::NOERROR, &[(Section::Answer, text, 600, a(1))]);
    }
    let mut other = settings();
    other.groups[0] = vec![Server::plain("192.0.2.53".parse().unwrap())];
    other.groups[1] = vec![Server::plain("192.0.2.54".parse().unwrap())];
    other.domains.push((name("b.example"), Target::Servers(1)));
    other.hosts.push(host("10.0.0.9", &["c.example"]));
    play.resolver.apply(other);
    assert!(play.is_asked("a.corp.example", Kind::A) && play.is_asked("b.example", Kind::A));
    assert_eq!(play.lines("www.example", Kind::A), ["www.example 600 A 192.0.2.1"]);
    assert_eq!(play.lines("c.example", Kind::A), ["c.example 0 A 10.0.0.9"]);
    // A container comes and goes: nobody is asked again.
    let other = Settings { networks: Vec::new(), ..play.resolver.settings().clone() };
    play.resolver.apply(other);
    assert_eq!(play.resolver.cached().0, 1);
    // Answers from before the protection may be what it is against.
    let other = Settings { rebind_protection: true, ..play.resolver.settings().clone() };
    play.resolver.apply(other);
    assert_eq!(play.resolver.cached().0, 0);
}
