//! Responses that must not be believed, and what of others must not be (RFC 5452, RFC 2181 §5.4.1).

use super::*;

/// A question of ours to a server: key and message.
fn asked(play: &mut Play) -> (Key, Vec<u8>) {
    let key = play.route("www.example.com", Kind::A).key;
    let mut sent = Vec::new();
    key.query(0x1234, 0b1011_0101, true, &mut sent);
    (key, sent)
}

fn nothing_kept(play: &mut Play) -> bool {
    play.resolver.cached().0 == 0 && play.is_asked("www.example.com", Kind::A)
}

#[test]
fn only_our_own_question_is_answered() {
    let mut play = Play::new(standard());
    let (key, sent) = asked(&mut play);
    let good =
        respond(&sent, Flags::default(), Rcode::NOERROR, &[(Section::Answer, "www.example.com", 60, a(66))]);
    let other = {
        let mut sent = Vec::new();
        play.route("www.example.org", Kind::A).key.query(0x1234, 0, true, &mut sent);
        respond(&sent, Flags::default(), Rcode::NOERROR, &[(Section::Answer, "www.example.com", 60, a(66))])
    };
    let changed = |place: usize, byte: u8| {
        let mut response = good.clone();
        response[place] = byte;
        response
    };
    let question_end = 12 + 17 + 4;
    for (what, response) in [
        ("another id", changed(0, 0x13)),
        ("a query", changed(2, good[2] & 0x7F)),
        ("another opcode", changed(2, good[2] | 0x20)),
        ("another question", other),
        ("another type", changed(question_end - 3, 28)),
        ("another class", changed(question_end - 1, 3)),
        ("no question", [&good[..4], &[0, 0], &good[6..12], &good[question_end..]].concat()),
        ("two questions", changed(5, 2)),
        ("cut", good[..good.len() - 1].to_vec()),
        ("nothing", Vec::new()),
        // 'a' is 'A' in a name, 97 is not 65 in a type.
        ("a type like another letter", changed(question_end - 3, 0x21)),
    ] {
        assert_eq!(
            play.resolver.answered(at(100), &key, &sent, &response, false),
            Err(Refusal::Foreign),
            "{what}"
        );
        assert!(nothing_kept(&mut play), "{what}");
    }
    let mut letters = good.clone();
    letters[13] ^= 0x20;
    assert_eq!(play.resolver.answered(at(100), &key, &sent, &letters, false), Err(Refusal::Letters));
    assert!(nothing_kept(&mut play));
    assert_eq!(play.resolver.answered(at(100), &key, &sent, &good, false), Ok(Taken::Good));
    assert!(!nothing_kept(&mut play));
    assert_eq!((play.resolver.counters().foreign, play.resolver.counters().letters), (11, 1));
}

#[test]
fn capitals_of_a_query_come_from_the_bits() {
    let mut play = Play::new(standard());
    let key = play.route("A-b.Example", Kind::AAAA).key;
    let text = |letters: u64| {
        let mut sent = b"xx".to_vec();
        key.query(1, letters, false, &mut sent);
        Message::parse(&sent[2..]).unwrap().question().unwrap().name.to_string()
    };
    assert_eq!(text(0), "a-b.example");
    assert_eq!(text(u64::MAX), "A-B.EXAMPLE");
    assert_eq!(text(0b1_0000_0101), "A-b.ExamplE");
    // More letters than bits begin anew.
    let long = format!("{}.{}", "a".repeat(40), "b".repeat(40));
    let key = play.route(&long, Kind::A).key;
    let mut sent = Vec::new();
    key.query(1, 1, false, &mut sent);
    let name = Message::parse(&sent).unwrap().question().unwrap().name.to_string();
    assert_eq!(name.matches(|letter: char| letter.is_ascii_uppercase()).count(), 2);
}

#[test]
fn what_servers_cannot_tell_is_left_to_others() {
    let mut play = Play::new(standard());
    let (key, sent) = asked(&mut play);
    let mut say = |flags: Flags, code: Rcode| {
        let response = respond(&sent, flags, code, &[]);
        play.resolver.answered(at(100), &key, &sent, &response, false)
    };
    assert_eq!(say(Flags::default(), Rcode::SERVFAIL), Err(Refusal::Failed(Rcode::SERVFAIL)));
    assert_eq!(say(Flags::default(), Rcode::REFUSED), Err(Refusal::Failed(Rcode::REFUSED)));
    assert_eq!(say(Flags::default(), Rcode(9)), Err(Refusal::Failed(Rcode(9))));
    assert_eq!(say(Flags::default(), Rcode::FORMERR), Err(Refusal::NoEdns));
    assert_eq!(say(Flags::default(), Rcode::NOTIMP), Err(Refusal::NoEdns));
    assert_eq!(say(Flags::TC, Rcode::NOERROR), Err(Refusal::Truncated));
    // A truncated one may end anywhere.
    let mut response =
        respond(&sent, Flags::TC, Rcode::NOERROR, &[(Section::Answer, "www.example.com", 1, a(1))]);
    response.truncate(response.len() - 3);
    assert_eq!(play.resolver.answered(at(100), &key, &sent, &response, false), Err(Refusal::Truncated));
    // FORMERR with nothing but a header, as old servers do it.
    let header = [&sent[..2], &[0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(play.resolver.answered(at(100), &key, &sent, &header, false), Err(Refusal::NoEdns));
    let mut old = Vec::new();
    key.query(0x1234, 0, false, &mut old);
    assert_eq!(
        play.resolver.answered(at(100), &key, &old, &header, false),
        Err(Refusal::Failed(Rcode::FORMERR))
    );
    // A server that only names others does not ask them for us.
    let ns = name("ns.example.com");
    let mut response = respond(
        &sent,
        Flags::default(),
        Rcode::NOERROR,
        &[(Section::Authority, "com", 60, Data::Ns(ns.as_ref()))],
    );
    response[3] &= 0x7F;
    assert_eq!(
        play.resolver.answered(at(100), &key, &sent, &response, false),
        Err(Refusal::Failed(Rcode::REFUSED))
    );
    assert!(nothing_kept(&mut play));
}

#[test]
fn strangers_in_a_response_go_nowhere() {
    let mut play = Play::new(standard());
    let (ns, mail, zone) = (name("ns.evil.org"), name("mail.example.com"), name("victim.com"));
    let lines = [
        (Section::Answer, "www.example.com", 60, a(1)),
        (Section::Answer, "www.victim.com", 60, a(66)),
        (Section::Answer, "www.victim.com", 60, Data::Cname(ns.as_ref())),
        (Section::Authority, "victim.com", 60, Data::Ns(ns.as_ref())),
        (Section::Authority, "example.com", 60, Data::Ns(mail.as_ref())),
        (Section::Additional, "www.victim.com", 60, a(66)),
        (Section::Additional, "com", 60, a(66)),
        (Section::Additional, "mail.example.com", 60, a(66)),
    ];
    let expected = ["www.example.com 60 A 192.0.2.1", "example.com 60 NS mail.example.com"];
    assert_eq!(shown(&play.serve("www.example.com", Kind::A, Rcode::NOERROR, &lines)), expected);
    assert_eq!(play.lines("www.example.com", Kind::A), expected);
    assert_eq!(play.resolver.counters().unrelated, 6);
    for text in ["www.victim.com", "victim.com", "mail.example.com", "com"] {
        assert!(play.is_asked(text, Kind::A) == (text != "com"), "{text}");
    }
    assert_eq!(play.resolver.cached().0, 1);
    // Another zone's SOA says nothing about the name.
    let lines = [(Section::Authority, "victim.com", 60, soa(&zone, 60, 60).1)];
    assert_eq!(shown(&play.serve("no.example.com", Kind::A, Rcode::NXDOMAIN, &lines)).len(), 0);
    assert!(play.is_asked("no.example.com", Kind::A));
    // Addresses besides are passed on where they belong to the domain that was asked about.
    let lines = [
        (
            Section::Answer,
            "_imap._tcp.example.com",
            60,
            Data::Srv { priority: 1, weight: 1, port: 143, target: mail.as_ref() },
        ),
        (Section::Additional, "mail.example.com", 60, a(9)),
        (Section::Additional, "www.victim.com", 60, a(66)),
    ];
    let response = play.serve("_imap._tcp.example.com", Kind::SRV, Rcode::NOERROR, &lines);
    assert_eq!(shown(&response).len(), 2);
    assert!(play.is_asked("mail.example.com", Kind::A));
}

#[test]
fn private_addresses_of_public_names_are_left_out_where_wanted() {
    let private = [
        "10.0.0.1",
        "127.0.0.1",
        "192.168.1.1",
        "172.31.255.255",
        "169.254.1.1",
        "0.0.0.0",
        "::1",
        "::",
        "fd00::1",
        "fe80::1",
        "::ffff:10.0.0.1",
    ];
    let settings = Settings {
        rebind_protection: true,
        rebind_ok: vec![name("ok.example")],
        groups: vec![vec![Server::plain(HOST)], vec![Server::plain(HOST)]],
        domains: vec![(name("corp"), Target::Servers(1))],
        ..plain_settings()
    };
    let data = |text: &str| match text.parse().unwrap() {
        IpAddr::V4(address) => Data::A(address),
        IpAddr::V6(address) => Data::Aaaa(address),
    };
    let mut play = Play::new(resolver(settings));
    for text in private {
        let data = data(text);
        let kind = data.kind().unwrap();
        let asked = query("www.example", kind, edns());
        let key = play.route("www.example", kind).key;
        let lines = [(Section::Answer, "www.example", 60, a(1)), (Section::Answer, "www.example", 60, data)];
        assert_eq!(
            play.answer(&key, Flags::default(), Rcode::NOERROR, &lines[1..]),
            Ok(Taken::Rebinding),
            "{text}"
        );
        let response = play.reply(&asked, 0);
        assert_eq!(
            (code(&response), shown(&response).len(), reason_of(&response)),
            (Rcode::NOERROR, 0, Some(17))
        );
        assert!(play.is_asked("www.example", kind));
        for fine in ["www.ok.example", "ok.example", "db.corp"] {
            let key = play.route(fine, kind).key;
            let lines = [(Section::Answer, fine, 0, data)];
            assert_eq!(play.answer(&key, Flags::default(), Rcode::NOERROR, &lines), Ok(Taken::Good));
        }
    }
    assert_eq!(play.resolver.counters().rebinding, private.len() as u64);
    for text in ["192.0.2.1", "172.32.0.1", "2001:db8::1", "::ffff:192.0.2.1"] {
        let data = data(text);
        let kind = data.kind().unwrap();
        let key = play.route("www.example", kind).key;
        let lines = [(Section::Answer, "www.example", 0, data)];
        assert_eq!(play.answer(&key, Flags::default(), Rcode::NOERROR, &lines), Ok(Taken::Good));
    }
    // Only where it is wanted.
    let mut play = Play::new(standard());
    let key = play.route("www.example", Kind::A).key;
    let lines = [(Section::Answer, "www.example", 60, data("10.0.0.1"))];
    assert_eq!(play.answer(&key, Flags::default(), Rcode::NOERROR, &lines), Ok(Taken::Good));
}
