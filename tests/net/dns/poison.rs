//! Servers and strangers that lie: nothing of it reaches a client or stays in the cache.

use super::message::{A, AA, ANSWER, CNAME, Message, NS, Reply, query, query_of, wire};
use super::upstream::{Act, Asked, Upstream};
use super::{GOOD, address, addresses, look_up, seed};
use minke_tests::dns_lab::{Lab, ask, ask_within, here, server};
use minke_tests::{Random, in_namespace};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What no client may ever be told.
const EVIL: [u8; 4] = [6, 6, 6, 6];
/// A name that the liar would like to own.
const BANK: &str = "bank.example.";

fn good(asked: &Asked) -> Act {
    Act::Say(address(asked, 300, 7))
}

fn evil(query: &[u8]) -> Reply {
    Reply::to(query, ANSWER).own(A, 86_400, &EVIL)
}

/// The same question with other letters, id and all else as it was asked.
fn asked_as(asked: &Asked, name: &[u8], kind: u16, class: u16) -> Vec<u8> {
    query_of(asked.message.id, name, kind, class)
}

/// A lie, then the truth.
fn first(lie: Vec<u8>, asked: &Asked) -> Vec<Act> {
    vec![Act::Say(lie), good(asked)]
}

type Attack = (&'static str, fn(&Asked) -> Vec<Act>);

const ATTACKS: &[Attack] = &[
    ("wrong-id", |asked| first(evil(&asked.query).id(asked.message.id ^ 1).0, asked)),
    ("id-inverted", |asked| first(evil(&asked.query).id(!asked.message.id).0, asked)),
    ("wrong-port", |asked| {
        vec![Act::From(SocketAddr::new(server(1).ip(), 5300), evil(&asked.query).0), good(asked)]
    }),
    ("wrong-address", |asked| vec![Act::From(server(9), evil(&asked.query).0), good(asked)]),
    ("wrong-name", |asked| first(evil(&asked_as(asked, &wire("x.test"), A, 1)).0, asked)),
    ("parent-name", |asked| first(evil(&asked_as(asked, &wire("test"), A, 1)).0, asked)),
    ("longer-name", |asked| {
        let name = wire(&format!("www.{}", asked.message.name));
        first(evil(&asked_as(asked, &name, A, 1)).0, asked)
    }),
    ("wrong-type", |asked| first(evil(&asked_as(asked, &wire(&asked.message.name), 28, 1)).0, asked)),
    ("wrong-class", |asked| first(evil(&asked_as(asked, &wire(&asked.message.name), A, 3)).0, asked)),
    ("no-question", |asked| {
        let mut lie = asked.query[..12].to_vec();
        lie[2..12].copy_from_slice(&[0x81, 0x80, 0, 0, 0, 1, 0, 0, 0, 0]);
        lie.extend(wire(&asked.message.name));
        lie.extend([0, 1, 0, 1, 0, 1, 0, 0, 0, 4, 6, 6, 6, 6]);
        first(lie, asked)
    }),
    ("two-questions", |asked| {
        let mut lie = Reply::to(&asked.query, ANSWER).0;
        lie[5] = 2;
        lie.extend(wire(BANK));
        lie.extend([0, 1, 0, 1]);
        lie[7] = 1;
        lie.extend([0xc0, 12, 0, 1, 0, 1, 0, 1, 0, 0, 0, 4, 6, 6, 6, 6]);
        first(lie, asked)
    }),
    ("a-query", |asked| {
        let mut lie = evil(&asked.query).0;
        lie[2] &= 0x7f;
        first(lie, asked)
    }),
    ("an-update", |asked| {
        let mut lie = evil(&asked.query).0;
        lie[2] |= 5 << 3;
        first(lie, asked)
    }),
    ("record-of-another", |asked| {
        // The question is right, the record is not its answer.
        let lie = Reply::to(&asked.query, ANSWER).answer(BANK, A, 86_400, &EVIL).own(A, 300, &[192, 0, 2, 7]);
        vec![Act::Say(lie.0)]
    }),
    ("additional-of-another", |asked| {
        let lie = Reply::to(&asked.query, ANSWER).own(A, 300, &[192, 0, 2, 7]);
        vec![Act::Say(lie.additional(BANK, A, 86_400, &EVIL).0)]
    }),
    ("authority-of-another", |asked| {
        let lie = Reply::to(&asked.query, ANSWER | AA).own(A, 300, &[192, 0, 2, 7]);
        let lie = lie.authority("example.", NS, 86_400, &wire("evil.example"));
        vec![Act::Say(lie.additional("evil.example.", A, 86_400, &EVIL).0)]
    }),
    ("authority-of-all", |asked| {
        let lie = Reply::to(&asked.query, ANSWER | AA).own(A, 300, &[192, 0, 2, 7]);
        let lie = lie.authority("", NS, 86_400, &wire("evil.example"));
        vec![Act::Say(lie.additional("evil.example.", A, 86_400, &EVIL).0)]
    }),
    ("after-the-truth", |asked| {
        let lie = evil(&asked.query).0;
        vec![good(asked), Act::Say(lie.clone()), Act::Later(Duration::from_millis(50), lie)]
    }),
    ("loop", |asked| {
        // Its record's name points at itself.
        let mut lie = Reply::to(&asked.query, ANSWER).0;
        let here = 0xc000 | lie.len() as u16;
        lie[7] = 1;
        lie.extend(here.to_be_bytes());
        lie.extend([0, 1, 0, 1, 0, 1, 0, 0, 0, 4, 6, 6, 6, 6]);
        first(lie, asked)
    }),
    ("two-that-point-at-each-other", |asked| {
        let mut lie = Reply::to(&asked.query, ANSWER).0;
        let here = 0xc000 | lie.len() as u16;
        lie[7] = 1;
        lie.extend([1, b'a']);
        lie.extend((here + 4).to_be_bytes());
        lie.extend(here.to_be_bytes());
        lie.extend([0, 1, 0, 1, 0, 1, 0, 0, 0, 4, 6, 6, 6, 6]);
        first(lie, asked)
    }),
    ("past-the-end", |asked| {
        let mut lie = Reply::to(&asked.query, ANSWER).0;
        lie[7] = 1;
        lie.extend([0xff, 0xff, 0, 1, 0, 1, 0, 1, 0, 0, 0, 4, 6, 6, 6, 6]);
        first(lie, asked)
    }),
    ("forward-pointer", |asked| {
        // The record's name is behind the record.
        let mut lie = Reply::to(&asked.query, ANSWER).0;
        let behind = 0xc000 | (lie.len() + 16) as u16;
        lie[7] = 1;
        lie.extend(behind.to_be_bytes());
        lie.extend([0, 1, 0, 1, 0, 1, 0, 0, 0, 4, 6, 6, 6, 6]);
        lie.extend(wire(&asked.message.name));
        first(lie, asked)
    }),
    ("too-long-a-record", |asked| {
        let mut lie = evil(&asked.query).0;
        let place = lie.len() - 5;
        lie[place] = 200;
        first(lie, asked)
    }),
    ("more-than-there-is", |asked| {
        let mut lie = evil(&asked.query).0;
        lie[6] = 0xff;
        first(lie, asked)
    }),
    ("half", |asked| {
        let lie = evil(&asked.query).0;
        first(lie[..lie.len() - 3].to_vec(), asked)
    }),
    ("header-alone", |asked| first(evil(&asked.query).0[..12].to_vec(), asked)),
    ("one-byte", |asked| first(vec![6], asked)),
    ("nothing", |asked| first(Vec::new(), asked)),
];

fn holds_evil(bytes: &[u8]) -> bool {
    bytes.windows(4).any(|part| part == EVIL)
}

/// Answers honestly, but for the names that begin with the name of an attack.
fn liar(asked: &Asked) -> Vec<Act> {
    let name = asked.name();
    let attack = ATTACKS
        .iter()
        .find(|(attack, _)| name.strip_prefix(attack).is_some_and(|rest| rest.starts_with('.')));
    attack.filter(|_| !asked.tcp).map_or_else(|| vec![good(asked)], |(_, act)| act(asked))
}

#[test]
fn nothing_of_a_lie_is_told_or_kept() {
    in_namespace(|| {
        let lab = Lab::new("poison");
        let _liar = Upstream::start(server(1), liar);
        let forwarder = lab.by_hand(&[server(1)]);
        // Twice: from the server, from the cache.
        for _ in 0..2 {
            for (attack, _) in ATTACKS {
                let name = format!("{attack}.test");
                let bytes = ask(here(), &query(7, &name, A));
                assert!(!holds_evil(&bytes), "{attack} gets through: {bytes:02x?}");
                assert_eq!(addresses(&Message::read(&bytes)), [GOOD], "{attack}");
            }
        }
        for name in [BANK, "evil.example.", "x.test", "www.longer-name.test"] {
            assert_eq!(addresses(&look_up(name)), [GOOD], "{name}");
        }
        forwarder.lives();
    });
}

#[test]
fn a_chain_teaches_nothing_of_the_names_in_it() {
    in_namespace(|| {
        let lab = Lab::new("chain");
        let upstream = Upstream::start(server(1), |asked| {
            if asked.name() != "alias.test." {
                return vec![good(asked)];
            }
            let reply = Reply::to(&asked.query, ANSWER).own(CNAME, 86_400, &wire(BANK));
            vec![Act::Say(reply.answer(BANK, A, 86_400, &EVIL).0)]
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        // What a server says of its own name is its business.
        assert_eq!(addresses(&look_up("alias.test")).len(), 1);
        assert_eq!(addresses(&look_up(BANK)), [GOOD]);
        assert!(upstream.count(BANK) > 0);
    });
}

/// Guesses of all ids, at the port from which it is asked, in the question's letters and in small ones.
#[test]
fn every_id_guessed_at_one_port_is_not_enough() {
    in_namespace(|| {
        let lab = Lab::new("guesses");
        let upstream = Upstream::start(server(1), |asked| {
            if asked.tcp || !asked.name().starts_with("guess") {
                return vec![good(asked)];
            }
            let lower = asked_as(asked, &wire(&asked.name()), A, 1);
            let wrong = (0..=u16::MAX).filter(|id| *id != asked.message.id);
            let mut acts: Vec<Act> = wrong.map(|id| Act::Say(evil(&asked.query).id(id).0)).collect();
            if lower[..asked.message.question_end] != asked.query[..asked.message.question_end] {
                acts.push(Act::Say(evil(&lower).0));
            }
            acts.push(good(asked));
            acts
        });
        let forwarder = lab.by_hand(&[server(1)]);
        for round in 0..3 {
            let name = format!("guess-{round}.a-name-of-many-letters.test");
            for _ in 0..2 {
                let bytes = ask(here(), &query(7, &name, A));
                assert!(!holds_evil(&bytes), "{bytes:02x?}");
            }
        }
        // Four datagrams and a question by TCP for each name, where the machine is slow.
        assert!(upstream.asked().iter().filter(|asked| asked.name().starts_with("guess")).count() <= 15);
        forwarder.lives();
    });
}

#[test]
fn ports_and_ids_cannot_be_foreseen() {
    in_namespace(|| {
        let lab = Lab::new("ports");
        let upstream = Upstream::start(server(1), super::honest);
        let _forwarder = lab.by_hand(&[server(1)]);
        const MANY: usize = 500;
        for number in 0..MANY {
            look_up(&format!("host-{number}.somewhere.test"));
        }
        let asked: Vec<Asked> = upstream.asked().into_iter().filter(|asked| !asked.tcp).collect();
        let ports: BTreeSet<u16> = asked.iter().map(|asked| asked.from.port()).collect();
        let ids: BTreeSet<u16> = asked.iter().map(|asked| asked.message.id).collect();
        let names: BTreeSet<&str> = asked.iter().map(|asked| asked.message.name.as_str()).collect();
        // 500 of 65,536 by chance: 498 different ones; of the kernel's 28,232 ports 496.
        assert!(ids.len() > MANY - 20, "{} ids", ids.len());
        assert!(ports.len() > MANY - 50, "{} ports", ports.len());
        let mixed = names.iter().filter(|name| name.chars().any(|c| c.is_ascii_uppercase())).count();
        assert!(mixed > MANY - 20, "{mixed} names in mixed case");
        // Neither ids nor ports follow each other.
        let steps = |list: Vec<u16>| list.windows(2).filter(|pair| pair[1].abs_diff(pair[0]) <= 2).count();
        let (ids, ports) =
            (asked.iter().map(|asked| asked.message.id), asked.iter().map(|asked| asked.from.port()));
        let (ids, ports) = (steps(ids.collect()), steps(ports.collect()));
        assert!(ids < 10 && ports < 10, "{ids} neighbouring ids, {ports} neighbouring ports of {MANY}");
    });
}

/// Changes a message here and there.
fn spoil(message: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(6) {
        let place = random.below(message.len());
        match random.below(4) {
            0 => message[place] = random.below(256) as u8,
            1 => message[place] ^= 1 << random.below(8),
            2 => message.truncate(place.max(1)),
            _ => message.insert(place, [0, 0xc0, 0xff, 0x3f][random.below(4)]),
        }
    }
}

#[test]
fn noise_from_a_server_is_survived() {
    in_namespace(|| {
        let (lab, seed) = (Lab::new("noise"), seed());
        let _upstream = Upstream::start(server(1), move |asked| {
            let mut random = Random::new(seed.wrapping_mul(asked.number as u64 + 1));
            let mut acts = Vec::new();
            for _ in 0..4 {
                let mut noise =
                    evil(&asked.query).additional("", 41, 0, &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]).0;
                spoil(&mut noise, &mut random);
                // With the right id it would be an answer whose address alone was changed.
                if noise.starts_with(&asked.query[..2]) {
                    noise[0] ^= 0x80;
                }
                acts.push(Act::Say(noise));
                let mut broken = Reply::to(&asked.query, ANSWER).0;
                broken[7] = 1 + random.below(9) as u8;
                broken.extend((0..random.below(40)).map(|_| random.below(256) as u8));
                broken.extend([0xc0, 0xff]);
                acts.push(Act::Say(broken));
            }
            acts.push(good(asked));
            if asked.tcp {
                acts.drain(..acts.len() - 1);
            }
            acts
        });
        let forwarder = lab.by_hand(&[server(1)]);
        for number in 0..1_000 {
            let name = format!("noise-{number}.test");
            let bytes = ask(here(), &query(7, &name, A));
            assert!(!holds_evil(&bytes), "MINKE_SEED={seed} {number}: {bytes:02x?}");
            Message::read(&bytes);
        }
        forwarder.lives();
        assert_eq!(addresses(&look_up("calm.test")).len(), 1);
    });
}

#[test]
fn noise_from_clients_is_survived() {
    in_namespace(|| {
        let (lab, seed) = (Lab::new("noisy-clients"), seed());
        let _upstream = Upstream::start(server(1), super::honest);
        let forwarder = lab.by_hand(&[server(1)]);
        let mut random = Random::new(seed);
        for number in 0..5_000 {
            let mut noise = query(number, &format!("client-{}.test", number % 50), A);
            spoil(&mut noise, &mut random);
            if number % 50 == 0 {
                let mut stream = TcpStream::connect(here()).unwrap();
                let _ = stream.write_all(&[&(noise.len() as u16).to_be_bytes()[..], &noise].concat());
                let _ = stream.write_all(&noise);
            } else {
                ask_within(here(), &noise, Duration::from_millis(1));
            }
        }
        forwarder.lives();
        assert_eq!(addresses(&look_up("calm.test")), [GOOD]);
    });
}
