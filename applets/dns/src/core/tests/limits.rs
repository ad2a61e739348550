//! Floods, memory, and messages of any content.

use super::*;
use crate::config::Cache;

/// A generator of numbers that are the same in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % below.max(1)
    }
}

fn with_memory(bytes: usize) -> Resolver {
    resolver(Settings { cache: Cache { bytes, ..Cache::default() }, ..plain_settings() })
}

/// Bytes of this process that are in memory.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn a_million_random_names_take_no_more_than_allowed_and_push_out_nobody() {
    const LIMIT: usize = 512 << 10;
    let mut play = Play::new(with_memory(LIMIT));
    let zone = name("example");
    let used: Vec<String> = (0..500).map(|number| format!("used-{number}.example")).collect();
    for text in &used {
        play.serve(text, Kind::A, Rcode::NOERROR, &[(Section::Answer, text, 86_400, a(1))]);
        play.ask(text, Kind::A);
    }
    let mut random = Random(7);
    let (mut sent, mut before) = (Vec::new(), 0);
    for round in 0..100_000u32 {
        let text = format!("{round:x}-{:x}.flood.example", random.below(1 << 30));
        let wire = name(&text);
        let key = play.resolver.store.key(key::front(Kind::A, Class::IN, Flags::RD, false), wire.as_wire());
        let key = key.to_key();
        sent.clear();
        key.query(7, 0, true, &mut sent);
        // Some exist, most do not, and some have much to say.
        let texts = vec![0; random.below(1200)];
        let response = match random.below(4) {
            0 => respond(&sent, Flags::default(), Rcode::NOERROR, &[(Section::Answer, &text, 600, a(1))]),
            1 => respond(
                &sent,
                Flags::default(),
                Rcode::NOERROR,
                &[(Section::Additional, &text, 6, Data::Txt(&texts))],
            ),
            _ => {
                let lines = [(Section::Authority, "example", 600, soa(&zone, 600, 600).1)];
                respond(&sent, Flags::default(), Rcode::NXDOMAIN, &lines)
            }
        };
        let _ = play.resolver.answered(at(play.now), &key, &sent, &response, false);
        assert!(play.resolver.cached().1 <= LIMIT);
        if round == 20_000 {
            before = resident();
        }
    }
    // The rest as it comes to the memory, for the sake of the tests' time.
    let mut text = *b"00000000.flood.example";
    for round in 0..900_000u32 {
        for place in text.iter_mut().take(8) {
            *place = b'a' + random.below(26) as u8;
        }
        let body = [round as u8; 400];
        let kept = put(&mut play.resolver.store, &text, Meta::default(), &body[..random.below(400)]);
        assert!(kept && play.resolver.cached().1 <= LIMIT);
    }
    // Names that are used stay, all of them.
    for text in &used {
        assert_eq!(play.lines(text, Kind::A).len(), 1, "{text}");
    }
    let (count, bytes) = play.resolver.cached();
    assert!(count > 1_000 && bytes > LIMIT / 10 * 9, "{count} {bytes}");
    assert!(play.resolver.counters().evictions > 500_000);
    // The process does not grow either: other tests run beside this one, hence the generous limit.
    let after = resident();
    assert!(after < before + (64 << 20), "{before} {after}");
}

#[test]
fn memory_of_a_few_names_is_small_and_none_means_no_cache() {
    let mut play = Play::new(with_memory(1 << 20));
    assert_eq!(play.resolver.cached(), (0, 0));
    for text in ["a.example", "b.example", "c.example"] {
        play.serve(text, Kind::A, Rcode::NOERROR, &[(Section::Answer, text, 60, a(1))]);
    }
    assert!(play.resolver.cached().1 < 2_000, "{:?}", play.resolver.cached());
    let mut play = Play::new(with_memory(0));
    play.serve("a.example", Kind::A, Rcode::NOERROR, &[(Section::Answer, "a.example", 60, a(1))]);
    assert_eq!(play.resolver.cached(), (0, 0));
    assert!(play.is_asked("a.example", Kind::A));
}

fn find(store: &Store, key: &[u8]) -> Option<u32> {
    let (front, name) = key::parts(key);
    store.find(&store.key(front, name))
}

fn put(store: &mut Store, key: &[u8], meta: Meta, body: &[u8]) -> bool {
    let (front, name) = key::parts(key);
    store.insert(&store.key(front, name), meta, body)
}

#[test]
fn the_store_does_what_a_map_does() {
    let mut random = Random(3);
    let mut store = Store::new(40 << 10, [random.below(1 << 30) as u64 | 1, 0x9E37_79B9_7F4A_7C15]);
    let mut map: std::collections::HashMap<Vec<u8>, (u32, Vec<u8>)> = std::collections::HashMap::new();
    let mut hits = 0;
    for round in 0..200_000u32 {
        let number = random.below(2_000);
        let key = vec![b'a' + (number % 26) as u8; 6 + number / 26 * 3];
        match random.below(8) {
            0 => {
                if let Some(found) = find(&store, &key) {
                    store.remove(found);
                }
                map.remove(&key);
            }
            1..=3 => {
                let length = if random.below(50) == 0 { random.below(8_000) } else { random.below(200) };
                let body = vec![round as u8; length];
                let kept = put(&mut store, &key, Meta { stored: round, ..Meta::default() }, &body);
                assert_eq!(kept, key.len() + length <= (40 << 10) / 8);
                map.insert(key, (round, body));
            }
            _ => {
                // Of large and small letters, as clients ask.
                let mut asked = key.clone();
                for letter in asked.iter_mut().skip(key::FRONT) {
                    *letter ^= (random.below(2) as u8) << 5;
                }
                let Some(found) = find(&store, &asked) else { continue };
                hits += 1;
                let (mut body, mut copied) = (Vec::new(), Vec::new());
                store.copy(found, &mut body);
                store.copy_key(found, &mut copied);
                assert_eq!((&copied, Some(&(store.meta(found).stored, body))), (&key, map.get(&key)));
                store.touch(found, round / 100);
            }
        }
        assert!(store.bytes() <= 40 << 10);
    }
    assert!(hits > 5_000, "{hits}");
    let (before, mut seen) = (store.len(), 0);
    let gone = store.remove_if(&mut |key, meta| {
        seen += 1;
        assert_eq!(map.get(key).map(|(stored, _)| *stored), Some(meta.stored));
        key.len() % 2 == 0
    });
    assert_eq!((seen, store.len()), (before, before - gone));
    while store.len() > 0 {
        store.remove_if(&mut |_, _| true);
    }
    assert!(map.keys().all(|key| find(&store, key).is_none()));
}

#[test]
fn who_was_used_in_a_later_second_stays_longer() {
    let mut store = Store::new(16 << 10, [1 << 40, 2]);
    let used = |store: &mut Store, number: u8, now: u32| {
        let key = [number; 8];
        if find(store, &key).is_none() {
            assert!(put(store, &key, Meta::default(), &[0; 200]));
        }
        let at = find(store, &key).unwrap();
        store.touch(at, now);
    };
    for number in 0..20 {
        used(&mut store, number, 1);
    }
    // Of one second's uses the order does not count, of two seconds' it does.
    for (number, now) in [(0, 1), (3, 2), (4, 2), (3, 2), (19, 2)] {
        used(&mut store, number, now);
    }
    let mut longest = 0;
    for number in 20..=u8::MAX {
        used(&mut store, number, 3);
        let stay = |from: &[u8]| from.iter().filter(|number| find(&store, &[**number; 8]).is_some()).count();
        let (later, others) =
            (stay(&[3, 4, 19]), stay(&[0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18]));
        assert!(later == 3 || others == 0, "{number}: {later} {others}");
        longest = longest.max(if later == 3 { number } else { 0 });
    }
    assert!(longest < u8::MAX, "nobody gave way");
}

#[test]
fn another_name_of_the_same_hash_is_another_one() {
    for length in [1, 7, 8, 9, 55, 56, 57, 120, 255] {
        let mut store = Store::new(40 << 10, [1 << 40, 2]);
        let kept = vec![b'n'; length];
        let key = store.key([0; key::FRONT], &kept);
        assert!(store.insert(&key, Meta::default(), b"body"));
        assert!(store.find(&store.key(key.front, &kept.to_ascii_uppercase())).is_some());
        for place in 0..length {
            let mut name = kept.clone();
            name[place] = b'm';
            assert!(store.find(&key::KeyRef { name: &name, ..key }).is_none(), "{length} {place}");
        }
        assert!(store.find(&key::KeyRef { name: &kept[1..], ..key }).is_none());
        assert!(store.find(&key::KeyRef { front: [1; key::FRONT], ..key }).is_none());
    }
}

#[test]
fn eight_letters_are_made_small_at_once() {
    for byte in 0..=u8::MAX {
        for neighbours in [0, b'@', b'Z', b'[', 0x7F, 0x80, 0xC1, 0xFF] {
            for place in 0..8 {
                let mut bytes = [neighbours; 8];
                bytes[place] = byte;
                let expected = u64::from_le_bytes(bytes.map(|byte| byte.to_ascii_lowercase()));
                assert_eq!(key::small(bytes), expected, "{bytes:?}");
            }
        }
    }
}

#[test]
fn names_are_spread_over_the_index() {
    const PLACES: usize = 1 << 16;
    for seed in
        [[0x1357_9BDF_0246_8ACE, 0x9E37_79B9_7F4A_7C15], [0xDEAD_BEEF_0BAD_CAFE, 0x1234_5678_9ABC_DEF0]]
    {
        let store = Store::new(0, seed);
        let mut loads = vec![0u8; PLACES];
        for number in 0..PLACES {
            loads[store.key([0, 0, 1, 0, 1], format!("\x05h{number:05x}\x07example\x03com\0").as_bytes()).hash
                as usize
                % PLACES] += 1;
        }
        // As by chance: 37 % of the places are empty, and no place has ten.
        let empty = loads.iter().filter(|load| **load == 0).count();
        let most = loads.iter().max().unwrap();
        assert!((22_000..26_500).contains(&empty) && *most < 12, "{seed:?} {empty} {most}");
    }
    // Another seed, another order.
    let [one, two] =
        [[1 << 40, 2], [1 << 40, 3]].map(|seed| Store::new(0, seed).key([0; 5], b"example").hash);
    assert_ne!(one, two);
}

#[test]
fn no_query_and_no_response_makes_it_panic() {
    let mut random = Random(11);
    let settings = Settings {
        rebind_protection: true,
        search: vec![name("lan.example"), name("a.example")],
        host_name: Some(name("minke")),
        plain: Some(Target::Servers(0)),
        ..plain_settings()
    };
    let mut play = Play::new(resolver(settings));
    let (www, zone) = (name("www.example"), name("example"));
    let opt = Some(Opt { size: 700, dnssec_ok: true, data: b"\0\x0A\0\x08cookie!!", ..Opt::default() });
    let texts = ["www.example", "plain", "minke", "x.local", "1.0.0.10.in-addr.arpa", "a.example", "."];
    let kinds = [Kind::A, Kind::AAAA, Kind::PTR, Kind::ANY, Kind::CNAME, Kind(65280), Kind::SOA];
    let lines = [
        (Section::Answer, "www.example", 60, a(1)),
        (Section::Answer, "a.example", 5, Data::Cname(www.as_ref())),
        (Section::Answer, "plain.lan.example", 5, Data::Ptr(www.as_ref())),
        (Section::Authority, "example", 60, soa(&zone, 60, 60).1),
        (Section::Authority, "example", 60, Data::Ns(www.as_ref())),
        (Section::Additional, "www.example", 60, a(2)),
    ];
    let mut mutated = |message: &mut Vec<u8>| {
        for _ in 0..random.below(4) {
            let place = random.below(message.len());
            if let Some(byte) = message.get_mut(place) {
                *byte = [random.below(256) as u8, 0xC0, 0x0C, 0, 0xFF, 63][random.below(6)];
            }
        }
        if random.below(8) == 0 {
            message.truncate(random.below(message.len() + 1));
        }
        (random.below(texts.len()), random.below(kinds.len()), random.below(lines.len() + 1), random.below(3))
    };
    let (mut taken, mut answered) = (0, 0);
    let mut out = Vec::new();
    for round in 0..60_000u64 {
        play.now = 100 + round / 20;
        play.from = if round % 3 == 0 { CONTAINER } else { HOST };
        let (text, kind, count, code) = mutated(&mut Vec::new());
        let mut asked = query(texts[text], kinds[kind], opt.filter(|_| round % 2 == 0));
        mutated(&mut asked);
        out.clear();
        let client = Asked { from: play.from, query: &asked, udp: round % 5 > 0, search: 0 };
        let mut step = play.resolver.ask(at(play.now), &client, &mut out);
        for _ in 0..4 {
            let (Step::Forward(route) | Step::Refresh(route)) = step else { break };
            let mut sent = Vec::new();
            route.key.query(7, round, true, &mut sent);
            let mut response = respond(&sent, Flags::default(), Rcode([0, 3, 2][code]), &lines[..count]);
            mutated(&mut response);
            match play.resolver.answered(at(play.now), &route.key, &sent, &response, round % 2 == 0) {
                Ok(_) => taken += 1,
                Err(_) if round % 4 == 0 => continue_failed(&mut play, &route),
                Err(_) => break,
            }
            let client = Asked { search: route.search, ..client };
            out.clear();
            play.resolver.stale(at(play.now), &client, &mut out);
            out.clear();
            step = play.resolver.reply(at(play.now), &client, &mut out);
        }
        if !out.is_empty() {
            answered += 1;
            assert!(Message::parse(&out).is_some(), "{out:?}");
        }
    }
    assert!(taken > 5_000 && answered > 20_000, "{taken} {answered}");
}

fn continue_failed(play: &mut Play, route: &Route) {
    play.resolver.failed(at(play.now), &route.key, Rcode::SERVFAIL);
}

/// How long this thread had a processor, in nanoseconds.
fn on_processor() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// `cargo test --release -p minke-dns -- --ignored speed --nocapture`
#[test]
#[ignore = "a measurement"]
fn speed() {
    let mut play = Play::new(with_memory(4 << 20));
    let names: Vec<String> = (0..5_000).map(|number| format!("host-{number}.some.example.com")).collect();
    let target = name("edge.cdn.example.net");
    for text in &names {
        let lines = [
            (Section::Answer, text.as_str(), 3_000, Data::Cname(target.as_ref())),
            (Section::Answer, "edge.cdn.example.net", 3_000, a(1)),
            (Section::Answer, "edge.cdn.example.net", 3_000, a(2)),
        ];
        play.serve(text, Kind::A, Rcode::NOERROR, &lines);
    }
    let queries: Vec<Vec<u8>> = names.iter().map(|text| query(text, Kind::A, edns())).collect();
    let mut random = Random(5);
    let order: Vec<usize> = (0..1_000_000).map(|_| random.below(queries.len())).collect();
    let mut out = Vec::with_capacity(4096);
    let begin = on_processor();
    for place in &order {
        out.clear();
        let asked = Asked { from: HOST, query: &queries[*place], udp: true, search: 0 };
        assert_eq!(play.resolver.ask(at(200), &asked, &mut out), Step::Answered);
    }
    println!("{} ns for a cached answer of three records", (on_processor() - begin) / order.len() as u64);
    let begin = on_processor();
    let mut sent = Vec::new();
    for round in 0..200_000u64 {
        let text = &names[round as usize % names.len()];
        let asked = query(text, Kind::AAAA, edns());
        let Step::Forward(route) = play.step(&asked).0 else { panic!() };
        sent.clear();
        route.key.query(7, round, true, &mut sent);
        let lines = [(Section::Answer, text.as_str(), 0, Data::Aaaa(Ipv6Addr::LOCALHOST))];
        let response = respond(&sent, Flags::default(), Rcode::NOERROR, &lines);
        play.resolver.answered(at(200), &route.key, &sent, &response, false).unwrap();
        play.reply(&asked, 0);
    }
    println!("{} ns for a forwarded query, test's own part included", (on_processor() - begin) / 200_000);
}

/// Compressed, `count` services at one host of 250 bytes are a message; written out, as RFC 2782 wants it, they may be none.
fn services(sent: &[u8], count: u16) -> Vec<u8> {
    let mut out = sent.to_vec();
    (out[2], out[3]) = (0x81, 0x80);
    out[6..8].copy_from_slice(&count.to_be_bytes());
    out[8..12].copy_from_slice(&[0; 4]);
    let host = (0..4).flat_map(|_| [&[61][..], &[b'h'; 61]].concat()).chain([0]).collect::<Vec<u8>>();
    let mut first = 0;
    for port in 0..count {
        out.extend([0xC0, 12, 0, 33, 0, 1, 0, 0, 0, 60, 0]);
        out.push(if port == 0 { host.len() as u8 + 6 } else { 8 });
        out.extend([0, 1, 0, 1]);
        out.extend(port.to_be_bytes());
        if port == 0 {
            first = out.len() as u16;
            out.extend_from_slice(&host);
        } else {
            out.extend((0xC000 | first).to_be_bytes());
        }
    }
    out
}

#[test]
fn an_answer_that_does_not_fit_when_written_out_is_none() {
    for (count, fits) in [(200, true), (3_000, false)] {
        let mut play = Play::new(standard());
        let key = play.route("s.example", Kind::SRV).key;
        let mut sent = Vec::new();
        key.query(7, 0, false, &mut sent);
        let response = services(&sent, count);
        assert!(response.len() < 65_536 && Message::parse(&response).is_some());
        let taken = play.resolver.answered(at(100), &key, &sent, &response, false);
        assert_eq!(
            taken,
            if fits { Ok(Taken::Good) } else { Err(Refusal::Failed(Rcode::SERVFAIL)) },
            "{count}"
        );
        if fits {
            let asked = query("s.example", Kind::SRV, None);
            let asked = Asked { from: HOST, query: &asked, udp: false, search: 0 };
            let mut out = Vec::new();
            assert_eq!(play.resolver.reply(at(100), &asked, &mut out), Step::Answered);
            assert_eq!(shown(&out).len(), usize::from(count));
        }
    }
}

#[test]
fn an_answer_that_does_not_fit_behind_an_alias_is_none() {
    for (texts, fits) in [(249, true), (250, false)] {
        let aliases = vec![(name("x.example"), name("y.example"))];
        let mut play = Play::new(resolver(Settings { aliases, ..plain_settings() }));
        let text = [&[249][..], &[b't'; 249]].concat();
        let lines: Vec<_> =
            (0..texts).map(|_| (Section::Answer, "y.example", 60, Data::Txt(&text))).collect();
        let asked = query("x.example", Kind::TXT, None);
        let asked = Asked { from: HOST, query: &asked, udp: false, search: 0 };
        let mut out = Vec::new();
        let Step::Forward(route) = play.resolver.ask(at(100), &asked, &mut out) else { panic!() };
        play.answer(&route.key, Flags::default(), Rcode::NOERROR, &lines).unwrap();
        assert_eq!(play.resolver.reply(at(100), &asked, &mut out), Step::Answered);
        let expected = if fits { (Rcode::NOERROR, texts + 1) } else { (Rcode::SERVFAIL, 0) };
        assert_eq!((code(&out), shown(&out).len()), expected);
    }
}
