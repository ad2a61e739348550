//! Vectors of the RFCs, round trips, and mutated messages.

use super::*;
use std::net::Ipv4Addr;

fn name(text: &str) -> Name {
    Name::parse(text).unwrap_or_else(|| panic!("{text}"))
}

/// RFC 1035 §4.1.4: F.ISI.ARPA, FOO.F.ISI.ARPA, ARPA and the root, at 20, 40, 64 and 92.
fn rfc1035() -> Vec<u8> {
    let mut message = vec![0; 93];
    message[20..32].copy_from_slice(b"\x01F\x03ISI\x04ARPA\0");
    message[40..46].copy_from_slice(b"\x03FOO\xC0\x14");
    message[64..66].copy_from_slice(b"\xC0\x1A");
    message
}

#[test]
fn names_of_rfc_1035() {
    let message = rfc1035();
    for (at, text, end) in
        [(20, "F.ISI.ARPA", 32), (40, "FOO.F.ISI.ARPA", 46), (64, "ARPA", 66), (92, ".", 93)]
    {
        let (found, after) = NameRef::read(&message, at).unwrap();
        assert_eq!((found.to_string().as_str(), after), (text, end));
        assert_eq!(found, name(text));
        assert_eq!(found.to_name().as_wire(), name(text).as_wire());
    }
}

#[test]
fn texts_of_names() {
    for (text, shown) in [
        ("example.com", "example.com"),
        ("example.com.", "example.com"),
        (".", "."),
        ("a\\.b.c", "a\\.b.c"),
        ("My\\032Printer._ipp._tcp.local", "My\\032Printer._ipp._tcp.local"),
        ("a\\\\b", "a\\\\b"),
        ("\\255", "\\255"),
        ("ä", "\\195\\164"),
    ] {
        assert_eq!(name(text).to_string(), shown);
        assert_eq!(name(&name(text).to_string()), name(text));
    }
    let long = "a".repeat(63);
    let full = format!("{long}.{long}.{long}.{}", "a".repeat(61));
    assert_eq!(name(&full).as_wire().len(), 255);
    for wrong in
        ["", "..", "a..b", ".a", "\\", "\\2", "\\25", "\\256", "a\\", &"a".repeat(64), &format!("{full}a")]
    {
        assert_eq!(Name::parse(wrong), None, "{wrong}");
    }
    assert!(Name::parse(&"a.".repeat(127)).is_some() && Name::parse(&"a.".repeat(128)).is_none());
}

#[test]
fn names_without_case_in_canonical_order() {
    // RFC 4034 §6.1.
    let order = [
        "example",
        "a.example",
        "yljkjljk.a.example",
        "Z.a.example",
        "zABC.a.EXAMPLE",
        "z.example",
        "\\001.z.example",
        "*.z.example",
        "\\200.z.example",
    ];
    let mut sorted: Vec<Name> = order.iter().rev().map(|text| name(text)).collect();
    sorted.sort();
    assert_eq!(sorted, order.map(name));
    assert_eq!(name("WWW.Example"), name("www.eXAMPLE"));
    assert_ne!(name("www.example"), name("wwwexample"));
}

#[test]
fn names_within_names() {
    let (www, zone) = (name("www.Example.com"), name("example.COM"));
    assert!(www.is_within(&zone) && zone.is_within(&zone) && www.is_within(&Name::ROOT));
    assert!(!zone.is_within(&www) && !name("badexample.com").is_within(&zone));
    assert!(!name("www.example.org").is_within(&zone));
    assert_eq!(www.parent().as_ref(), Some(&zone));
    assert_eq!(Name::ROOT.parent(), None);
    assert_eq!(name("www").join(&zone), Some(www));
    let long = name(&"a.".repeat(100));
    assert_eq!(long.join(&long), None);
    assert_eq!(Name::from_labels([&b"a.b"[..], b"c"].into_iter()), Some(name("a\\.b.c")));
    assert_eq!(Name::from_labels([&b""[..]].into_iter()), None);
}

#[test]
fn numbers_by_their_texts() {
    for (text, number) in [("AAAA", 28), ("aaaa", 28), ("TYPE65280", 65280), ("type28", 28), ("ANY", 255)] {
        assert_eq!(Kind::parse(text), Some(Kind(number)));
    }
    for wrong in ["", "TYPE", "TYPE65536", "TYPE-1", "XYZ", "A "] {
        assert_eq!(Kind::parse(wrong), None, "{wrong}");
    }
    assert_eq!((Kind(65280).to_string(), Kind::HTTPS.to_string()), ("TYPE65280".into(), "HTTPS".into()));
    assert_eq!((Class::parse("in"), Class(7).to_string()), (Some(Class::IN), "CLASS7".into()));
    assert_eq!((Rcode::NXDOMAIN.to_string(), Rcode(99).to_string()), ("NXDOMAIN".into(), "RCODE99".into()));
    let class = Class::IN.with_top();
    assert!(class.cache_flush() && class.unicast_response() && class.plain() == Class::IN);
}

/// One record of each type that this codec knows, and one that it does not.
fn everything(out: &mut Vec<u8>, all: bool) {
    let mut writer = Writer::new(out, 4096, 7, Flags::QR.with(Flags::RD));
    if all {
        writer = writer.compressing_all();
    }
    let (zone, www, mail) = (name("example.com"), name("www.example.com"), name("mail.example.com"));
    let soa = Soa {
        mname: www.as_ref(),
        rname: mail.as_ref(),
        serial: 1,
        refresh: 2,
        retry: 3,
        expire: 4,
        minimum: 5,
    };
    assert!(writer.question(www.as_ref(), Kind::ANY, Class::IN));
    let types = bitmap(&[Kind::A, Kind::AAAA, Kind::SRV]);
    for data in [
        Data::A(Ipv4Addr::LOCALHOST),
        Data::Aaaa(std::net::Ipv6Addr::LOCALHOST),
        Data::Cname(mail.as_ref()),
        Data::Ns(mail.as_ref()),
        Data::Ptr(mail.as_ref()),
        Data::Mx { preference: 10, exchange: mail.as_ref() },
        Data::Srv { priority: 1, weight: 2, port: 22222, target: www.as_ref() },
        Data::Soa(soa),
        Data::Txt(b"\x05hello\0\x03a\"b"),
        Data::Nsec { next: zone.as_ref(), types: &types },
        Data::Other(b"\xC0\x0C\xFF"),
    ] {
        let owner = (www.as_ref(), Kind(65280), Class::IN);
        assert!(writer.record(Section::Answer, owner, 300, &data));
    }
    let opt = Opt { size: 1232, dnssec_ok: true, upper_code: 1, data: b"\0\x0A\0\x02hi", ..Opt::default() };
    assert!(writer.opt(&opt));
}

#[test]
fn what_is_written_is_read() {
    let texts = [
        "127.0.0.1",
        "::1",
        "mail.example.com",
        "mail.example.com",
        "mail.example.com",
        "10 mail.example.com",
        "1 2 22222 www.example.com",
        "www.example.com mail.example.com 1 2 3 4 5",
        "\"hello\" \"\" \"a\\\"b\"",
        "example.com A AAAA SRV",
        "\\# 3 c00cff",
    ];
    let mut sizes = Vec::new();
    for all in [false, true] {
        let mut bytes = b"xx".to_vec();
        everything(&mut bytes, all);
        let message = Message::parse(&bytes[2..]).unwrap();
        sizes.push(message.end());
        assert_eq!((message.header.id, message.header.counts), (7, [1, 11, 0, 1]));
        let question = message.question().unwrap();
        assert_eq!((question.kind, question.class), (Kind::ANY, Class::IN));
        assert_eq!(question.name, name("www.example.com"));
        let mut shown = Vec::new();
        let mut copied = Vec::new();
        let mut writer = Writer::new(&mut copied, 4096, 7, message.header.flags);
        assert!(writer.question(question.name, question.kind, question.class));
        for record in message.answers() {
            assert_eq!((record.name, record.ttl), (question.name, 300));
            shown.push(record.data().unwrap().to_string());
            assert!(writer.copy(Section::Answer, &record, 60));
        }
        assert_eq!(shown, texts);
        let opt = message.opt().unwrap();
        assert_eq!((opt.size, opt.version, opt.dnssec_ok), (1232, 0, true));
        assert_eq!(message.rcode(Some(&opt)), Rcode::BADVERS);
        assert_eq!(opt.options().collect::<Vec<_>>(), [(10, &b"hi"[..])]);
        let copy = Message::parse(&copied).unwrap();
        let again: Vec<String> = copy.answers().map(|record| record.data().unwrap().to_string()).collect();
        assert_eq!(again, texts);
        assert!(copy.answers().all(|record| record.ttl == 60));
    }
    // SRV and NSEC have names that only mDNS compresses.
    assert!(sizes[1] < sizes[0]);
}

#[test]
fn what_does_not_fit_leaves_no_trace() {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, 100, 1, Flags::QR);
    let owner = name("www.example.com");
    assert!(writer.question(owner.as_ref(), Kind::A, Class::IN));
    let mut fit = 0;
    while writer.record(
        Section::Answer,
        (owner.as_ref(), Kind::A, Class::IN),
        1,
        &Data::A(Ipv4Addr::from(fit)),
    ) {
        fit += 1;
    }
    assert_eq!((fit, writer.len()), (4, 97));
    writer.set(Flags::TC);
    assert_eq!(writer.count(1), 4);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!((message.answers().count(), message.end()), (4, 97));
    assert!(message.header.flags.has(Flags::TC) && !message.header.flags.has(Flags::AA));
    assert_eq!(message.answers().map(|record| record.raw()[3]).collect::<Vec<_>>(), [0, 1, 2, 3]);
    // A name that was taken back is not pointed at.
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, 60, 1, Flags::QR);
    let long = name(&"long.".repeat(10));
    assert!(!writer.question(long.as_ref(), Kind::A, Class::IN));
    writer.set_limit(512);
    assert!(writer.question(long.as_ref(), Kind::A, Class::IN));
    assert_eq!(Message::parse(&bytes).unwrap().question().unwrap().name, long);
}

#[test]
fn what_is_broken_is_no_message() {
    let header = |counts: [u8; 4]| {
        let [a, b, c, d] = counts;
        vec![0, 1, 0x80, 0, 0, a, 0, b, 0, c, 0, d]
    };
    let with = |counts, rest: &[u8]| [header(counts), rest.to_vec()].concat();
    let good = with([1, 0, 0, 0], b"\x01a\0\0\x01\0\x01");
    assert!(Message::parse(&good).is_some());
    assert!((0..good.len()).all(|end| Message::parse(&good[..end]).is_none()));
    for (what, counts, rest) in [
        ("points at itself", [1, 0, 0, 0], &b"\xC0\x0C\0\x01\0\x01"[..]),
        ("points ahead", [1, 0, 0, 0], b"\xC0\x12\0\x01\0\x01\0\0"),
        ("points into the header", [1, 0, 0, 0], b"\xC0\x00\0\x01\0\x01"),
        ("points past the end", [1, 0, 0, 0], b"\xFF\xFF\0\x01\0\x01"),
        ("a loop through a label", [1, 0, 0, 0], b"\x01a\xC0\x0C\0\x01\0\x01"),
        ("a label of 64", [1, 0, 0, 0], &[&[64][..], &[b'a'; 64], b"\0\0\x01\0\x01"].concat()),
        ("more questions than there are", [2, 0, 0, 0], b"\x01a\0\0\x01\0\x01"),
        ("data past the end", [0, 1, 0, 0], b"\0\0\x01\0\x01\0\0\0\0\0\x05abcd"),
        ("an address of five bytes", [0, 1, 0, 0], b"\0\0\x01\0\x01\0\0\0\0\0\x05abcde"),
        ("a name longer than its data", [0, 1, 0, 0], b"\0\0\x05\0\x01\0\0\0\0\0\x02\x03abc\0"),
        ("a name shorter than its data", [0, 1, 0, 0], b"\0\0\x05\0\x01\0\0\0\0\0\x02\0\0"),
        ("a text past its data", [0, 1, 0, 0], b"\0\0\x10\0\x01\0\0\0\0\0\x02\x03a"),
        ("a short SOA", [0, 1, 0, 0], b"\0\0\x06\0\x01\0\0\0\0\0\x03\0\0\0"),
    ] {
        assert!(Message::parse(&with(counts, rest)).is_none(), "{what}");
    }
    // The longest name is read, one byte more is not.
    let label = [&[63][..], &[b'x'; 63]].concat();
    let long = |last: usize| {
        let tail = [&[last as u8][..], &vec![b'y'; last], b"\0\0\x01\0\x01"].concat();
        with([1, 0, 0, 0], &[&label[..], &label, &label, &tail].concat())
    };
    assert!(Message::parse(&long(61)).is_some() && Message::parse(&long(62)).is_none());
    let [two, opt] = [
        with([0, 0, 0, 2], b"\0\0\x29\x04\xD0\0\0\0\0\0\0\0\0\x29\x04\xD0\0\0\0\0\0\0"),
        with([0, 0, 0, 1], b"\0\0\x29\x04\xD0\0\0\x80\0\0\0"),
    ];
    assert!(Message::parse(&two).is_none());
    assert!(Message::parse(&opt).unwrap().opt().unwrap().dnssec_ok);
    // A time to live beyond 2^31 - 1 is none.
    let late = with([0, 1, 0, 0], b"\0\0\x01\0\x01\x80\0\0\0\0\x04abcd");
    assert_eq!(Message::parse(&late).unwrap().answers().next().unwrap().ttl, 0);
}

#[test]
fn a_chain_of_pointers_ends() {
    // 16,000 pointers, each to the one before, and records whose names begin at the last ones.
    let mut message = vec![0, 1, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    message.extend_from_slice(b"\0\xFF\x01\0\x01\0\0\0\0\x7D\0");
    for _ in 0..16_000 {
        let before = (message.len() - 2).min(0x3FFF) as u16;
        message.extend_from_slice(&(before | 0xC000).to_be_bytes());
    }
    message.truncate(12 + 11 + 0x7D00);
    assert!(NameRef::read(&message, 8_001).is_none());
}

#[test]
fn four_thousand_records_in_64_kib() {
    let owner = name("many.example");
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, usize::MAX, 1, Flags::QR);
    assert!(writer.question(owner.as_ref(), Kind::A, Class::IN));
    let mut count = 0;
    while writer.record(
        Section::Answer,
        (owner.as_ref(), Kind::A, Class::IN),
        1,
        &Data::A(Ipv4Addr::from(count)),
    ) {
        count += 1;
    }
    assert_eq!(count, 4_094);
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.answers().count(), 4_094);
    let mut copied = Vec::new();
    let mut writer = Writer::new(&mut copied, usize::MAX, 1, message.header.flags);
    assert!(writer.question(owner.as_ref(), Kind::A, Class::IN));
    assert!(message.answers().all(|record| writer.copy(Section::Answer, &record, record.ttl)));
    assert_eq!(copied, bytes);
}

#[test]
fn bitmaps_of_rfc_4034() {
    // §4.3: A MX RRSIG NSEC TYPE1234.
    let mut vector = b"\0\x06\x40\x01\0\0\0\x03\x04\x1B".to_vec();
    vector.extend([0; 26]);
    vector.push(0x20);
    let kinds: Vec<Kind> = types(&vector).collect();
    assert_eq!(kinds, [Kind::A, Kind::MX, Kind::RRSIG, Kind::NSEC, Kind(1234)]);
    assert_eq!(bitmap(&kinds[..4]), vector[..8]);
    assert_eq!(bitmap(&[]), []);
    assert_eq!(types(b"\0\x06\x40").count() + types(b"\0").count(), 0);
}

/// What is an address, or a host and its port, in the class IN is anything in another one (RFC 3597 §3).
#[test]
fn types_of_the_internet_mean_nothing_in_other_classes() {
    // Eleven bytes that are no address, and whose pointers lead nowhere.
    const DATA: &[u8] = &[0xC0, 12, 0, 1, 0xFF, 0xFF, 0xC0, b'a', 0xC0, 0xFF, 0];
    for kind in [Kind::A, Kind::AAAA, Kind::SRV, Kind::PX, Kind::KX] {
        for class in [Class::CH, Class(4), Class(65_280), Class::IN, Class(0x8001)] {
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes, 512, 7, Flags::QR);
            let owner = (name("a.test"), kind);
            assert!(writer.record(Section::Answer, (owner.0.as_ref(), kind, class), 60, &Data::Other(DATA)));
            let message = Message::parse(&bytes);
            assert_eq!(message.is_some(), class.plain() != Class::IN, "{kind} {}", class.0);
            let Some(record) = message.as_ref().and_then(|message| message.answers().next()) else {
                continue;
            };
            assert_eq!((record.data(), record.plain()), (Some(Data::Other(DATA)), DATA.to_vec()), "{kind}");
            let mut copy = Vec::new();
            assert!(Writer::new(&mut copy, 512, 7, Flags::QR).copy(Section::Answer, &record, 60));
            assert!(copy.ends_with(DATA), "{kind}");
        }
    }
}

#[test]
fn only_the_matching_response_answers() {
    let query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";
    let with = |place: usize, byte: u8| {
        let mut response = query.to_vec();
        response[2] |= 0x80;
        response[place] = byte;
        response
    };
    let good = with(0, 0x12);
    assert_eq!((fit(query, &good), answers(query, &good)), (Fit::Exact, true));
    assert_eq!((fit(query, &with(13, b'E')), answers(query, &with(13, b'E'))), (Fit::Letters, true));
    for (place, byte) in
        [(0, 0x13), (2, 1), (2, 0xA1), (5, 2), (5, 0), (13, b'x'), (26, 28), (28, 3), (12, 0xC0)]
    {
        assert_eq!(fit(query, &with(place, byte)), Fit::Foreign, "{place} {byte}");
    }
    assert!((0..good.len()).all(|end| !answers(query, &good[..end])));
    let mut error = good[..12].to_vec();
    (error[3], error[5]) = (1, 0);
    assert_eq!((fit(query, &error), answers(query, &error)), (Fit::WithoutQuestion, true));
    // 97 is no type A with another letter.
    assert_eq!(fit(&with(26, 0x41), &with(26, 0x61)), Fit::Foreign);
    assert_eq!((id(query), id(b"hello"), id(&good)), (Some(0x1234), None, Some(0x1234)));
    let mut other = good;
    set_id(&mut other, 0x4321);
    assert_eq!(id(&other), Some(0x4321));
}

#[test]
fn no_input_makes_it_panic_or_hang() {
    let mut seeds = [rfc1035(), Vec::new(), Vec::new()];
    everything(&mut seeds[1], false);
    everything(&mut seeds[2], true);
    let mut state = 5u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as usize % below.max(1)
    };
    let (mut good, mut out) = (0, Vec::new());
    for _ in 0..200_000 {
        let mut message = seeds[random(3)].clone();
        for _ in 0..random(5) {
            let at = random(message.len());
            message[at] = [random(256) as u8, 0xC0, 0x0C, 0, 0xFF, 63][random(6)];
        }
        if random(3) == 0 {
            message.truncate(random(message.len() + 1));
        }
        let _ = (fit(&seeds[1], &message), fit(&message, &seeds[1]));
        let Some(parsed) = Message::parse(&message) else { continue };
        good += 1;
        out.clear();
        let mut writer = Writer::new(&mut out, random(600), 1, parsed.header.flags);
        for question in parsed.questions() {
            writer.question(question.name, question.kind, question.class);
        }
        let _ = parsed.opt();
        for record in parsed.answers().chain(parsed.authorities()).chain(parsed.additionals()) {
            writer.copy(Section::Additional, &record, record.ttl);
            let name = record.name.to_name();
            assert!(
                name.as_wire().len() <= LONGEST && Name::from_wire(name.as_wire()).as_ref() == Some(&name)
            );
            assert_eq!(Name::parse(&name.to_string()).as_ref(), Some(&name));
            // There is one OPT at most, and it was copied.
            if record.kind != Kind::OPT
                && let Some(data) = record.data()
            {
                let _ = data.to_string();
                writer.record(Section::Additional, (record.name, record.kind, record.class), 1, &data);
            }
        }
        assert!(Message::parse(&out).is_some());
    }
    assert!(good > 20_000, "{good}");
}
