//! What others send, however much and whatever it is: no panic, bounded memory, bounded answers.

use super::*;

struct Noise(u64);

impl Noise {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

fn samples() -> Vec<Vec<u8>> {
    let mut legacy = query(&["_ssh._tcp.local PTR", "box.local A"]);
    legacy[0] = 7;
    vec![
        legacy,
        query(&["box.local ANY", "_services._dns-sd._udp.local PTR", "box._ssh._tcp.local SRV?"]),
        knowing(&["_ssh._tcp.local PTR"], &["_ssh._tcp.local PTR 4500 box._ssh._tcp.local"]),
        message(Flags::TC, &["_ssh._tcp.local PTR"], &["_ssh._tcp.local PTR 9 x._ssh._tcp.local"], &[]),
        probe("box.local", &["box.local A 120 10.0.0.6", "box.local AAAA 120 fe80::7"]),
        probe("box._ssh._tcp.local", &["box._ssh._tcp.local SRV 120 0 0 22 x.local"]),
        response(&["box.local A 120! 10.0.0.9", "box.local NSEC 120! box.local A"]),
        response(&["_ssh._tcp.local PTR 0 box._ssh._tcp.local", "box-2.local A 0! 10.0.0.9"]),
        response(&[
            "_http._tcp.local PTR 4500 a._http._tcp.local",
            "a._http._tcp.local SRV 120! 0 0 80 a.local",
            "a._http._tcp.local TXT 4500! \"\x03a=b\"",
            "a.local A 120! 10.0.0.9",
        ]),
    ]
}

#[test]
fn no_input_makes_it_panic_or_grow_or_spin() {
    for seed in 0..8u64 {
        let mut case = Case::with_ssh();
        case.link(2, &["192.168.7.5/24", "fe80::7/64"]);
        for (kind, once) in [("_http._tcp.local", false), ("a.local", true), ("_ssh._tcp.local", false)] {
            let question = Question { name: name(kind), kind: Kind::ANY, link: None, once };
            case.mdns.ask(case.now, question);
        }
        let samples = samples();
        let mut noise = Noise(seed);
        let mut understood = 0u64;
        for _ in 0..6000 {
            let mut bytes = samples[noise.below(samples.len())].clone();
            for _ in 0..noise.below(4) {
                let place = noise.below(bytes.len());
                bytes[place] = noise.below(256) as u8;
            }
            if noise.below(8) == 0 {
                bytes.truncate(noise.below(bytes.len()));
            }
            let before = case.mdns.counters.refused;
            let from = match noise.below(6) {
                0 => "10.0.0.5:5353".to_owned(),
                1 => format!("10.0.0.{}:{}", 10 + noise.below(200), 1024 + noise.below(60_000)),
                2 => format!("[fe80::{:x}]:5353", noise.below(65_000)),
                3 => "8.8.8.8:53".to_owned(),
                _ => format!("10.0.0.{}:5353", 10 + noise.below(200)),
            };
            case.receive_at(1 + noise.below(2) as u32, &from, noise.below(5) > 0, &bytes);
            understood += u64::from(case.mdns.counters.refused == before);
            if noise.below(3) == 0 {
                case.run(noise.below(300) as Time);
            }
            if noise.below(500) == 0 {
                case.mdns.resumed(case.now);
            }
            case.sent.clear();
            case.told.clear();
        }
        assert!(understood > 2000, "{understood}");
        assert!(case.mdns.groups.len() < 8 && case.mdns.recent.len() <= 256 && case.mdns.sent.len() <= 64);
        assert!(case.mdns.cached().0 <= 1024 && case.mdns.sides.iter().all(|side| side.replies.len() <= 32));
    }
}

#[test]
fn random_names_in_answers_are_bounded_in_count_and_bytes_and_per_host() {
    let mut case = Case::settled();
    let question = Question { name: name("_http._tcp.local"), kind: Kind::PTR, link: None, once: false };
    case.mdns.ask(case.now, question).unwrap();
    for round in 0..8000u32 {
        let records: Vec<_> = (0..8)
            .map(|one| format!("_http._tcp.local PTR 4500 host-{round}-{one}._http._tcp.local"))
            .collect();
        let records: Vec<&str> = records.iter().map(String::as_str).collect();
        case.now += 10;
        case.receive("10.0.0.66:5353", &response(&records));
        case.told.clear();
        if round % 1000 == 0 {
            let (count, bytes) = case.mdns.cached();
            assert!(count <= 256, "a quarter of the whole for one host: {count}");
            assert!(bytes <= 256 << 10);
        }
    }
    // Others find room.
    case.now += 60_000;
    case.receive(PEER, &response(&["_http._tcp.local PTR 4500 good._http._tcp.local"]));
    assert_eq!(case.found(), ["+_http._tcp.local PTR 4500 good._http._tcp.local"]);
    assert!(case.mdns.counters.uncached > 5000);
}

#[test]
fn long_records_of_many_hosts_stay_within_the_bytes() {
    let mut case = Case::settled();
    let question = Question { name: name("x.local"), kind: Kind::ANY, link: None, once: false };
    case.mdns.ask(case.now, question).unwrap();
    let long = "\u{7f}".repeat(128).into_bytes();
    for round in 0..3000u32 {
        let mut record = record("x.local TXT 4500 \"\"");
        record.data = long.repeat(8);
        record.data[1..5].copy_from_slice(&round.to_be_bytes());
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, 9000, 0, Flags(0x8400));
        assert!(send::put(&mut writer, Section::Answer, (&record, true), 4500));
        case.now += 10;
        case.receive(&format!("10.0.{}.{}:5353", round / 250, round % 250), &bytes);
    }
    let (count, bytes) = case.mdns.cached();
    assert!(bytes <= 256 << 10 && count > 100, "{count} {bytes}");
}

#[test]
fn packets_beyond_what_is_read_in_a_second_are_dropped() {
    let mut case = Case::settled();
    for host in 0..10_000 {
        case.receive(&format!("10.0.0.{}:5353", host % 250), &query(&["box.local A"]));
    }
    assert_eq!(case.mdns.counters.flooded, 9500, "two seconds' worth at once");
    case.run(2500);
    case.sent.clear();
    assert_eq!(case.react(&query(&["box.local A"])).len(), 1, "and then it is well again");
}

#[test]
fn single_hosts_get_fifty_answers_a_second() {
    let mut case = Case::settled();
    for round in 0..2000u64 {
        case.receive(&format!("10.0.0.{}:40000", 10 + round % 200), &query(&["box.local A"]));
        case.now += 5;
    }
    assert!((500..=620).contains(&case.sent.len()), "in ten seconds: {}", case.sent.len());
}

#[test]
fn questions_are_bounded() {
    let mut case = Case::settled();
    let question = |number: u32| Question {
        name: name(&format!("h{number}.local")),
        kind: Kind::A,
        link: None,
        once: false,
    };
    let ids: Vec<_> = (0..200).filter_map(|number| case.mdns.ask(case.now, question(number))).collect();
    assert_eq!(ids.len(), 64);
    case.mdns.cancel(ids[0]);
    assert!(case.mdns.ask(case.now, question(1000)).is_some());
}

#[test]
fn long_packets_count_more() {
    let mut case = Case::settled();
    let mut bytes = query(&["box.local A"]);
    bytes.resize(8900, 0);
    for _ in 0..1000 {
        case.receive(PEER, &bytes);
    }
    assert_eq!(case.mdns.counters.flooded, 1000 - 500 / 6);
}
