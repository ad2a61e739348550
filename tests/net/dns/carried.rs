//! What is not ours to know is carried through as it is; what is ours (EDNS, lengths, transports) is done right.

use super::message::{A, AD, ANSWER, ANY, CD, Message, Reply, TC, TXT, query, query_of, wire, with_opt};
use super::upstream::{Act, Asked, Upstream};
use super::{GOOD, address, addresses, honest, look_up};
use minke_tests::dns_lab::{Lab, ask, ask_tcp, ask_within, dig, here, server, soon};
use minke_tests::in_namespace;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The same records for every question: `count` times `data`, each with its number in its first two bytes.
fn many(asked: &Asked, kind: u16, count: u16, length: usize) -> Vec<u8> {
    let mut reply = Reply::to(&asked.query, ANSWER);
    for number in 0..count {
        let mut data = vec![(length - 1) as u8; length];
        data[length - 2..].copy_from_slice(&number.to_be_bytes());
        reply = reply.own(kind, 300, &data);
    }
    reply.0
}

/// The play of a server whose answers are longer than a datagram may be.
pub(super) fn long(asked: &Asked, kind: u16, count: u16, length: usize) -> Vec<Act> {
    let whole = many(asked, kind, count, length);
    let size = asked.message.opt().map_or(512, |opt| usize::from(opt.class));
    if asked.tcp || whole.len() <= size {
        vec![Act::Say(whole)]
    } else {
        vec![Act::Say(Reply::to(&asked.query, ANSWER | TC).0)]
    }
}

#[test]
fn unknown_kinds_and_classes() {
    in_namespace(|| {
        let lab = Lab::new("unknown");
        // What looks like a pointer is none here; of types that may have been compressed ours says nothing either.
        const DATA: &[u8] = &[0xc0, 12, 0, 1, 0xff, 0xff, 0xc0, b'a', 0xc0, 0xff, 0];
        let _upstream = Upstream::start(server(1), |asked| {
            let mut reply = Reply::to(&asked.query, ANSWER).own(asked.message.kind, 300, DATA).0;
            let class = reply.len() - DATA.len() - 8;
            reply[class..class + 2].copy_from_slice(&asked.message.class.to_be_bytes());
            vec![Act::Say(reply)]
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        // Addresses and hosts of services are such in the class IN alone.
        let internet = [1, 28, 33];
        for kind in [65_280, 65_534, 11, 64, 65, 13, 249].into_iter().chain(internet) {
            for class in [1, 3, 4, 65_280] {
                if class == 1 && internet.contains(&kind) {
                    continue;
                }
                let question = query_of(kind ^ class, &wire("unknown.test"), kind, class);
                for answer in [ask(here(), &question), ask(here(), &question), ask_tcp(here(), &question)] {
                    let answer = Message::read(&answer);
                    assert_eq!(
                        (answer.id, answer.kind, answer.class),
                        (kind ^ class, kind, class),
                        "{answer:?}"
                    );
                    let record = answer.answers(kind)[0];
                    assert_eq!((record.class, &record.data[..]), (class, DATA), "{kind} {class}");
                }
            }
        }
        let answer = dig("x.test TYPE65280");
        assert_eq!(answer.answers(), ["\\# 11 C00C0001FFFFC061C0FF00"], "{answer:?}");
    });
}

#[test]
fn sixty_four_kibibytes_and_four_thousand_records() {
    in_namespace(|| {
        let lab = Lab::new("long");
        let _upstream = Upstream::start(server(1), |asked| match asked.name().as_str() {
            "records.test." => long(asked, 65_280, 4_000, 4),
            "bytes.test." => long(asked, TXT, 242, 256),
            // The longest message that there is.
            _ if asked.tcp => {
                let mut reply = many(asked, TXT, 242, 256);
                let room = 65_535 - reply.len() - 12;
                reply[7] += 1;
                reply.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 1, 0]);
                reply.extend((room as u16).to_be_bytes());
                reply.extend(std::iter::repeat_n(0, room));
                vec![Act::Say(reply)]
            }
            _ => vec![Act::Say(Reply::to(&asked.query, ANSWER | TC).0)],
        });
        let forwarder = lab.by_hand(&[server(1)]);
        for (name, kind, count) in
            [("records.test", 65_280, 4_000), ("bytes.test", TXT, 242), ("full.test", TXT, 243)]
        {
            let question = query(1, name, kind);
            for _ in 0..2 {
                let answer = ask_tcp(here(), &question);
                let answer = Message::read(&answer);
                assert_eq!(answer.answers(kind).len(), count, "{name}");
                let short = ask(here(), &question);
                assert!(short.len() <= 512, "{name}: {} bytes", short.len());
                assert!(Message::read(&short).flags & TC != 0, "{name}");
                let short = ask(here(), &with_opt(question.clone(), 4_096, 0, false, &[]));
                assert!(short.len() <= 4_096, "{name}: {} bytes", short.len());
                assert!(Message::read(&short).flags & TC != 0, "{name}");
            }
        }
        let answer = dig("records.test TYPE65280 +bufsize=1232");
        assert_eq!(answer.section("ANSWER").len(), 4_000, "dig goes on over TCP");
        forwarder.lives();
    });
}

#[test]
fn an_answer_that_is_too_long_for_our_datagrams_comes_by_tcp() {
    in_namespace(|| {
        let lab = Lab::new("retry");
        let upstream = Upstream::start(server(1), |asked| long(asked, 65_280, 200, 4));
        let _forwarder = lab.by_hand(&[server(1)]);
        let question = query(1, "long.test", 65_280);
        let by_tcp = || upstream.asked().iter().filter(|asked| asked.tcp).count();
        ask(here(), &question);
        let once = by_tcp();
        assert!(once > 0);
        // A part for who takes no more, and the word that it is one.
        for size in [None, Some(512), Some(1_232), Some(4_096)] {
            let question =
                size.map_or(question.clone(), |size| with_opt(question.clone(), size, 0, false, &[]));
            let short = ask(here(), &question);
            assert!(short.len() <= usize::from(size.unwrap_or(512)), "{size:?}: {} bytes", short.len());
            let short = Message::read(&short);
            assert!(short.flags & TC != 0 || short.answers(65_280).len() == 200, "{size:?}");
            assert_eq!(Message::read(&ask_tcp(here(), &question)).answers(65_280).len(), 200);
        }
        assert_eq!(by_tcp(), once, "from the cache then");
    });
}

#[test]
fn edns_is_between_neighbours() {
    in_namespace(|| {
        let lab = Lab::new("edns");
        let upstream = Upstream::start(server(1), |asked| {
            // Its own cookie and padding are between it and us.
            let reply = Reply::to(&asked.query, ANSWER).own(A, 300, &[192, 0, 2, 7]).0;
            let options = [0, 10, 0, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9];
            vec![Act::Say(if asked.message.opt().is_some() {
                with_opt(reply, 4_096, 0, false, &options)
            } else {
                reply
            })]
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        // Version 1 is not spoken (RFC 6891 §6.1.3).
        let answer =
            Message::read(&ask(here(), &with_opt(query(1, "version.test", A), 1_232, 1, false, &[])));
        let opt = answer.opt().unwrap_or_else(|| panic!("an OPT record in {answer:?}"));
        assert_eq!(
            (opt.ttl >> 24, answer.rcode(), opt.ttl >> 16 & 0xff),
            (1, 0, 0),
            "BADVERS, version 0: {answer:?}"
        );
        assert!(answer.answers(A).is_empty());
        assert_eq!(upstream.count("version.test."), 0);
        let answer = dig("version.test +edns=1 +noednsneg");
        assert_eq!(answer.status(), "BADVERS", "{answer:?}");
        // A cookie and a subnet of the client's go no further; what the server sent for us neither.
        let options = [
            &[0, 10, 0, 8, 0xaa, 0xbb, 0xcc, 0xdd, 1, 2, 3, 4][..],
            &[0, 8, 0, 7, 0, 1, 24, 0, 203, 0, 113],
            &[0xfd, 0xe9, 0, 2, 0xbe, 0xef],
        ];
        let answer = ask(here(), &with_opt(query(1, "options.test", A), 1_232, 0, false, &options.concat()));
        assert!(!answer.windows(8).any(|part| part == [9; 8]), "the server's cookie in {answer:02x?}");
        let answer = Message::read(&answer);
        assert_eq!(addresses(&answer), [GOOD]);
        assert!(answer.opt().is_some());
        let asked = upstream.asked();
        let opt = asked
            .iter()
            .find(|asked| asked.name() == "options.test.")
            .unwrap()
            .message
            .opt()
            .unwrap()
            .clone();
        assert!(
            !opt.data.windows(3).any(|part| part == [203, 0, 113] || part == [0xaa, 0xbb, 0xcc]),
            "{opt:?}"
        );
        assert!((512..=1_232).contains(&opt.class), "{opt:?}");
        // Who does not speak EDNS is not spoken to by it.
        let plain = look_up("options.test");
        assert_eq!((plain.opt(), addresses(&plain)), (None, vec![GOOD]));
        assert_eq!(plain.records.len(), 1);
        let cookie = dig("cookie.test +cookie");
        assert_eq!((cookie.status(), cookie.answers()), ("NOERROR", vec!["192.0.2.7"]));
        // Two OPT records are a fault (RFC 6891 §6.1.1).
        let twice = with_opt(with_opt(query(1, "twice.test", A), 1_232, 0, false, &[]), 1_232, 0, false, &[]);
        assert_eq!(ask(here(), &twice)[3] & 15, 1);
        // Less than 512 bytes means 512.
        let answer = Message::read(&ask(here(), &with_opt(query(1, "tiny.test", A), 12, 0, false, &[])));
        assert_eq!(addresses(&answer), [GOOD]);
    });
}

#[test]
fn a_server_without_edns_is_asked_without() {
    in_namespace(|| {
        let lab = Lab::new("old-server");
        let upstream = Upstream::start(server(1), |asked| match asked.message.opt() {
            // Such servers answer FORMERR, often with the header alone.
            Some(_) if asked.number % 2 == 0 => vec![Act::Say(Reply::to(&asked.query, ANSWER | 1).0)],
            Some(_) => {
                let mut header = Reply::to(&asked.query, ANSWER | 1).0[..12].to_vec();
                header[5] = 0;
                vec![Act::Say(header)]
            }
            None => honest(asked),
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        for number in 0..4 {
            assert_eq!(addresses(&look_up(&format!("old-{number}.test"))), [GOOD]);
        }
        assert!(upstream.asked().iter().any(|asked| asked.message.opt().is_none()));
    });
}

#[test]
fn any_case_and_bits() {
    in_namespace(|| {
        let lab = Lab::new("bits");
        let upstream = Upstream::start(server(1), |asked| {
            let bits = ANSWER | AD | asked.message.flags & CD;
            let reply = Reply::to(&asked.query, bits).own(A, 300, &[192, 0, 2, 7]);
            vec![Act::Say(if asked.message.kind == ANY {
                reply.own(TXT, 300, b"\x03any").0
            } else {
                reply.0
            })]
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        let any = Message::read(&ask(here(), &query(1, "any.test", ANY)));
        assert_eq!((any.answers(A).len(), any.answers(TXT).len()), (1, 1));
        let mut counts = Vec::new();
        for name in ["cAsE.tEsT.", "CASE.TEST.", "case.test.", "Case.Test."] {
            let answer = look_up(name.trim_end_matches('.'));
            assert_eq!((answer.name.as_str(), addresses(&answer)), (name, vec![GOOD]));
            counts.push(upstream.count("case.test."));
        }
        assert_eq!(counts[0], counts[3], "from the cache then");
        let mut unchecked = query(1, "unchecked.test", A);
        unchecked[3] |= 0x10;
        let answer = Message::read(&ask(here(), &unchecked));
        assert_eq!(answer.flags & CD, CD);
        let asked = upstream.asked();
        let asked = asked.iter().find(|asked| asked.name() == "unchecked.test.").unwrap();
        assert_eq!(asked.message.flags & CD, CD, "CD goes to the server");
        // Over a way on which anybody may change it AD means nothing (RFC 4035 §4.9.3).
        let mut wants = query(1, "bits.test", A);
        wants[3] |= 0x20;
        for question in [query(1, "bits.test", A), wants] {
            assert_eq!(Message::read(&ask(here(), &question)).flags & AD, 0);
        }
        // The bits of an answer, and no others.
        let answer = look_up("bits.test");
        assert_eq!(answer.flags & 0x8180, 0x8180, "QR, RD, RA");
    });
}

#[test]
fn what_is_no_question_is_told_or_passed_over() {
    in_namespace(|| {
        let lab = Lab::new("no-question");
        let upstream = Upstream::start(server(1), honest);
        let forwarder = lab.by_hand(&[server(1)]);
        let patience = Duration::from_millis(300);
        let code = |message: &[u8]| ask_within(here(), message, patience).map(|answer| answer[3] & 15);
        for (opcode, name) in
            [(1, "IQUERY"), (2, "STATUS"), (4, "NOTIFY"), (5, "UPDATE"), (6, "DSO"), (15, "15")]
        {
            let mut message = query(1, "opcode.test", A);
            message[2] |= opcode << 3;
            assert!(matches!(code(&message), Some(4) | None), "{name} is NOTIMP or nothing");
        }
        let mut none = query(1, "none.test", A)[..12].to_vec();
        none[5] = 0;
        assert!(matches!(code(&none), Some(1) | None));
        let mut two = query(1, "two.test", A);
        two[5] = 2;
        two.extend(wire("three.test"));
        two.extend([0, 1, 0, 1]);
        assert!(matches!(code(&two), Some(1) | None), "two questions (RFC 9619)");
        let mut answer = query(1, "answer.test", A);
        answer[2] |= 0x80;
        assert_eq!(code(&answer), None, "an answer is not answered");
        assert_eq!(code(&[]), None);
        assert_eq!(code(&[0; 11]), None);
        let transfer = ask_tcp(here(), &query(1, "transfer.test", 252));
        assert!(transfer[3] & 15 != 0, "no zone transfer");
        assert!(upstream.asked().iter().all(|asked| asked.message.kind != 252), "nor one passed on");
        forwarder.lives();
        assert_eq!(addresses(&look_up("calm.test")), [GOOD]);
    });
}

#[test]
fn many_questions_on_one_connection() {
    in_namespace(|| {
        let lab = Lab::new("pipeline");
        let upstream = Upstream::start(server(1), |asked| {
            let wait = Duration::from_secs(if asked.name().starts_with("slow") { 2 } else { 0 });
            let answer = super::address(asked, 300, 7);
            vec![if asked.tcp { Act::Say(answer) } else { Act::Later(wait, answer) }]
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        let mut stream = TcpStream::connect(here()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut all = Vec::new();
        const MANY: u16 = 100;
        for id in 0..MANY {
            let name = if id == 0 { "slow.test".to_owned() } else { format!("pipe-{id}.test") };
            let question = query(id, &name, A);
            all.extend((question.len() as u16).to_be_bytes());
            all.extend(question);
        }
        // In odd pieces.
        for piece in all.chunks(61) {
            stream.write_all(piece).unwrap();
        }
        let mut order = Vec::new();
        for _ in 0..MANY {
            let answer = Message::read(&minke_tests::dns_lab::receive(&mut stream).unwrap());
            assert_eq!(addresses(&answer), [GOOD]);
            order.push(answer.id);
        }
        // RFC 7766 §6.2.1.1: who waits for nobody does not wait for others.
        assert_eq!(order.last(), Some(&0), "{order:?}");
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, (0..MANY).collect::<Vec<u16>>());
        assert!(upstream.count("slow.test.") >= 1);
        // A length of zero and a half question end no others.
        let mut broken = TcpStream::connect(here()).unwrap();
        broken.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        broken.write_all(&[0, 0]).unwrap();
        broken.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = broken.read(&mut [0; 16]);
        assert_eq!(addresses(&look_up("after.test")), [GOOD]);
    });
}

#[test]
fn why_an_old_answer_is_given_is_told() {
    in_namespace(|| {
        let lab = Lab::new("extended-error");
        let upstream = Upstream::start(server(1), |asked| vec![Act::Say(address(asked, 1, 7))]);
        let _forwarder = lab.by_hand(&[server(1)]);
        let fresh = dig("old.test A +cookie=0123456789abcdef");
        assert_eq!((fresh.status(), fresh.answers()), ("NOERROR", vec!["192.0.2.7"]));
        assert!(!fresh.0.contains("EDE"), "{fresh:?}");
        drop(upstream);
        // RFC 8914 §4.4: code 3, "stale answer".
        assert!(soon(|| {
            let old = dig("old.test A");
            assert_eq!((old.status(), old.answers()), ("NOERROR", vec!["192.0.2.7"]), "{old:?}");
            old.0.contains("EDE: 3")
        }));
        // To who does not speak EDNS nothing can be told.
        assert!(!dig("old.test A +noedns").0.contains("EDE"));
    });
}
