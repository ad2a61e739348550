//! Queries as clients make them: OPT, sizes, transfers, nonsense.

use super::*;

fn opt_of(message: &[u8]) -> Opt<'_> {
    Message::parse(message).unwrap().opt().unwrap()
}

#[test]
fn opt_is_answered_with_our_own() {
    let mut play = Play::new(standard());
    // Cookies, subnets and what nobody knows (RFC 7873, RFC 7871).
    let data = b"\0\x0A\0\x08cookie!!\0\x08\0\x07\0\x01\x18\0\xC0\0\x02\xFD\xE9\0\x01x";
    let asked = query("a.example", Kind::A, Some(Opt { size: 4096, data, ..Opt::default() }));
    let Step::Forward(route) = play.step(&asked).0 else { panic!() };
    let mut sent = Vec::new();
    route.key.query(7, 0, true, &mut sent);
    assert_eq!(opt_of(&sent), Opt { size: 1232, ..Opt::default() });
    assert!(!sent.windows(6).any(|part| part == b"cookie"));
    play.answer(&route.key, Flags::default(), Rcode::NOERROR, &[(Section::Answer, "a.example", 60, a(1))])
        .unwrap();
    let response = play.reply(&asked, 0);
    assert_eq!(opt_of(&response), Opt { size: 1232, ..Opt::default() });
    // Two OPT are an error, and so are the versions to come.
    let mut two = asked.clone();
    two[11] = 2;
    two.extend_from_slice(b"\0\0\x29\x04\xD0\0\0\0\0\0\0");
    let (step, out) = play.step(&two);
    assert_eq!((step, code(&out)), (Step::Answered, Rcode::FORMERR));
    let asked = query("a.example", Kind::A, Some(Opt { size: 4096, version: 1, ..Opt::default() }));
    let (step, out) = play.step(&asked);
    assert_eq!((step, code(&out), opt_of(&out).version), (Step::Answered, Rcode::BADVERS, 0));
    assert_eq!(Message::parse(&out).unwrap().header.counts, [1, 0, 0, 1]);
}

#[test]
fn what_cannot_be_asked_here_is_told() {
    let mut play = Play::new(standard());
    let good = query("a.example", Kind::A, None);
    let changed = |place: usize, byte: u8| {
        let mut query = good.clone();
        query[place] = byte;
        query
    };
    for (what, query, expected) in [
        ("no question", changed(5, 0), Rcode::FORMERR),
        ("two questions", changed(5, 2), Rcode::FORMERR),
        ("cut", good[..good.len() - 1].to_vec(), Rcode::FORMERR),
        ("a pointer", changed(12, 0xC0), Rcode::FORMERR),
        ("NOTIFY", changed(2, 0x21), Rcode::NOTIMP),
        ("AXFR", changed(good.len() - 3, 252), Rcode::NOTIMP),
        ("IXFR", changed(good.len() - 3, 251), Rcode::NOTIMP),
        ("OPT as a type", changed(good.len() - 3, 41), Rcode::FORMERR),
        ("a header", good[..12].to_vec(), Rcode::FORMERR),
    ] {
        let (step, out) = play.step(&query);
        assert_eq!((step, code(&out)), (Step::Answered, expected), "{what}");
        assert_eq!(out[..2], query[..2], "{what}");
        assert!(Message::parse(&out).is_some(), "{what}");
    }
    for query in [&good[..11], &[], &changed(2, 0x81)] {
        assert_eq!(play.step(query), (Step::Drop, Vec::new()));
    }
    let mut out = Vec::new();
    let asked = Asked { from: HOST, query: &good, udp: true, search: 0 };
    play.resolver.refuse(&asked, &mut out);
    assert_eq!(code(&out), Rcode::SERVFAIL);
}

#[test]
fn a_response_is_no_longer_than_the_client_takes() {
    let mut play = Play::new(standard());
    let zone = name("example");
    let mut lines: Vec<(Section, &str, u32, Data<'_>)> = Vec::new();
    for last in 0..100 {
        lines.push((Section::Answer, "many.example", 60, a(last)));
    }
    let whole = play.serve("many.example", Kind::A, Rcode::NOERROR, &lines);
    assert!(Message::parse(&whole).unwrap().header.flags.has(Flags::TC));
    for (opt, limit) in
        [(None, 512), (Some(300), 512), (Some(1000), 1000), (Some(4096), 1232), (Some(1232), 1232)]
    {
        let opt = opt.map(|size| Opt { size, ..Opt::default() });
        let (step, out) = play.step(&query("many.example", Kind::A, opt));
        let message = Message::parse(&out).unwrap();
        assert_eq!((step, message.end()), (Step::Answered, out.len()));
        assert!(out.len() <= limit && out.len() + 16 > limit, "{} {limit}", out.len());
        assert!(message.header.flags.has(Flags::TC) && message.opt().is_some() == opt.is_some());
    }
    let asked = query("many.example", Kind::A, None);
    let mut out = b"12".to_vec();
    let client = Asked { from: HOST, query: &asked, udp: false, search: 0 };
    assert_eq!(play.resolver.ask(at(100), &client, &mut out), Step::Answered);
    let message = Message::parse(&out[2..]).unwrap();
    assert!(!message.header.flags.has(Flags::TC) && message.answers().count() == 100);
    // What is only useful besides may be missing (RFC 2181 §9).
    let ns: Vec<Name> = (0..40).map(|number| name(&format!("{number}.a-longer-name.example"))).collect();
    let mut lines = vec![(Section::Answer, "n.example", 60, a(1))];
    for ns in &ns {
        lines.push((Section::Authority, "example", 60, Data::Ns(ns.as_ref())));
    }
    play.serve("n.example", Kind::A, Rcode::NOERROR, &lines);
    let (_, out) = play.step(&query("n.example", Kind::A, None));
    let message = Message::parse(&out).unwrap();
    assert!(!message.header.flags.has(Flags::TC) && message.authorities().count() < 40);
    // The SOA of what does not exist may not.
    let long = name(&format!("{0}.{0}.{0}.example", "x".repeat(60)));
    let text = Data::Txt(&[0; 300]);
    let alias = [
        (Section::Answer, "n.example", 60, Data::Cname(long.as_ref())),
        (Section::Authority, "example", 60, soa(&zone, 60, 60).1),
    ];
    assert_eq!(text.kind(), Some(Kind::TXT));
    play.serve("n.example", Kind::TXT, Rcode::NOERROR, &alias);
    let (_, out) = play.step(&query("n.example", Kind::TXT, None));
    assert_eq!(shown(&out).len(), 2);
}

#[test]
fn four_thousand_records_pass() {
    let cache = crate::config::Cache { bytes: 1 << 20, ..crate::config::Cache::default() };
    let mut play = Play::new(resolver(Settings { cache, ..plain_settings() }));
    let lines: Vec<_> = (0..4_000).map(|_| (Section::Answer, "many.example", 60, a(1))).collect();
    let asked = query("many.example", Kind::A, edns());
    let Step::Forward(route) = play.step(&asked).0 else { panic!() };
    play.answer(&route.key, Flags::default(), Rcode::NOERROR, &lines).unwrap();
    let client = Asked { from: HOST, query: &asked, udp: false, search: 0 };
    for round in 0..2 {
        let mut out = Vec::new();
        let step = match round {
            0 => play.resolver.reply(at(100), &client, &mut out),
            _ => play.resolver.ask(at(100), &client, &mut out),
        };
        assert_eq!((step, shown(&out).len()), (Step::Answered, 4_000));
    }
    let bytes = play.resolver.cached().1;
    assert!(bytes < 80 << 10, "{bytes}");
}
