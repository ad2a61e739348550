//! Servers that fail, and how little of it the clients see.

use super::message::{A, ANSWER, Message, NXDOMAIN, REFUSED, Reply, SERVFAIL, TC, query, with_opt};
use super::upstream::{Act, Asked, Upstream};
use super::{GOOD, address, addresses, honest, look_up};
use minke_tests::dns_lab::{Lab, ask, ask_within, dig, hear, here, server, soon};
use minke_tests::in_namespace;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

type Play = fn(&Asked) -> Vec<Act>;

fn says(asked: &Asked, code: u16) -> Vec<Act> {
    vec![Act::Say(Reply::to(&asked.query, ANSWER | code).0)]
}

const FAILURES: &[(&str, Option<Play>)] = &[
    ("nobody there", None),
    ("silent", Some(|_| Vec::new())),
    ("refuses", Some(|asked| says(asked, REFUSED))),
    ("fails", Some(|asked| says(asked, SERVFAIL))),
    ("does not implement", Some(|asked| says(asked, 4))),
    ("talks nonsense", Some(|_| vec![Act::Say(vec![0xff; 40])])),
    ("cuts all, without TCP", Some(|asked| if asked.tcp { vec![Act::Close] } else { says(asked, TC) })),
    ("cuts all, silent over TCP", Some(|asked| if asked.tcp { Vec::new() } else { says(asked, TC) })),
];

#[test]
fn a_server_that_fails_gives_way_to_one_that_does_not() {
    for (number, (failure, play)) in FAILURES.iter().enumerate() {
        in_namespace(|| {
            let lab = Lab::new(&format!("failover-{number}"));
            let bad = play.map(|play| Upstream::start(server(1), play));
            let _good = Upstream::start(server(2), honest);
            let _forwarder = lab.by_hand(&[server(1), server(2)]);
            let mut later = Vec::new();
            let mut asked_then = 0;
            for number in 0..40 {
                let begun = Instant::now();
                let answer = look_up(&format!("host-{number}.test"));
                assert_eq!(addresses(&answer), [GOOD], "{failure}, question {number}");
                if number == 0 {
                    println!("{failure}: the first answer after {:?}", begun.elapsed());
                    // The limit is the busy machine's; milliseconds are meant.
                    assert!(begun.elapsed() < Duration::from_secs(8), "{failure}: {:?}", begun.elapsed());
                } else {
                    later.push(begun.elapsed());
                }
                if number == 4 {
                    asked_then = bad.as_ref().map_or(0, |bad| bad.asked().len());
                }
            }
            later.sort_unstable();
            let median = later[later.len() / 2];
            println!("{failure}: later ones after {median:?}, {:?} at most", later[later.len() - 1]);
            // Who asks it first each time waits 200 ms for one that has never answered; else it is a millisecond.
            assert!(median < Duration::from_millis(200), "{failure}: {median:?}");
            // It is asked as well, up to four times, while the other one takes longer than usual: 20 ms at least.
            let slow = later.iter().filter(|span| **span >= Duration::from_millis(20)).count();
            let asked = bad.as_ref().map_or(0, |bad| bad.asked().len()) - asked_then;
            assert!(
                asked <= 12 + 4 * slow,
                "{failure}: asked {asked} times for the last 35 questions, {slow} of them slow"
            );
        });
    }
}

/// The play of a server that writes the names of all datagrams in small letters.
fn small(asked: &Asked) -> Vec<Act> {
    let mut query = asked.query.clone();
    query[12..asked.message.question_end - 4].make_ascii_lowercase();
    vec![Act::Say(Reply::to(&query, ANSWER).own(A, 300, &[192, 0, 2, 7]).0)]
}

#[test]
fn a_server_that_writes_small_letters_and_has_no_tcp_is_asked_in_such() {
    let plays: [(&str, Option<Play>); 4] = [
        ("refused", None),
        ("closed", Some(|asked| if asked.tcp { vec![Act::Close] } else { small(asked) })),
        ("silent", Some(|asked| if asked.tcp { Vec::new() } else { small(asked) })),
        ("answered", Some(|asked| if asked.tcp { honest(asked) } else { small(asked) })),
    ];
    for (number, (tcp, play)) in plays.into_iter().enumerate() {
        in_namespace(|| {
            let lab = Lab::new(&format!("small-letters-{number}"));
            let upstream = match play {
                Some(play) => Upstream::start(server(1), play),
                None => Upstream::without_tcp(server(1), small),
            };
            let _forwarder = lab.by_hand(&[server(1)]);
            for number in 0..10 {
                let answer = look_up(&format!("host-{number}.of-many-letters.test"));
                assert_eq!(addresses(&answer), [GOOD], "TCP is {tcp}, question {number}");
            }
            let asked = upstream.asked();
            let has_capitals = |asked: &&Asked| asked.message.name.chars().any(|c| c.is_ascii_uppercase());
            let capitals = asked.iter().filter(|asked| !asked.tcp).filter(has_capitals).count();
            if tcp == "answered" {
                // Who has made one such answer up has won nothing: the next questions have capitals all the same.
                assert!(capitals >= 10, "{capitals} questions with capitals");
            } else {
                assert!(capitals <= 6, "TCP is {tcp}: {capitals} questions with capitals");
            }
        });
    }
}

#[test]
fn no_such_name_is_an_answer() {
    in_namespace(|| {
        let lab = Lab::new("no-such-name");
        let none: Play = |asked| vec![Act::Say(Reply::to(&asked.query, ANSWER | NXDOMAIN).soa("test", 60).0)];
        let _first = Upstream::start(server(1), none);
        let _second = Upstream::start(server(2), none);
        let _forwarder = lab.by_hand(&[server(1), server(2)]);
        assert_eq!(look_up("nobody.test").rcode(), NXDOMAIN);
    });
}

#[test]
fn when_all_fail_the_client_is_told() {
    in_namespace(|| {
        for (number, (failure, play)) in FAILURES.iter().enumerate() {
            let lab = Lab::new(&format!("all-fail-{number}"));
            let _bad: Vec<Upstream> = play
                .iter()
                .flat_map(|play| [1, 2].map(|number| Upstream::start(server(number), play)))
                .collect();
            let forwarder = lab.by_hand(&[server(1), server(2)]);
            let begun = Instant::now();
            let question = with_opt(query(5, "board.test", A), 1_232, 0, false, &[]);
            let answer = Message::read(&ask_within(here(), &question, Duration::from_secs(20)).unwrap());
            println!("{failure}: told after {:?}", begun.elapsed());
            let refused = matches!(*failure, "refuses" | "does not implement");
            assert!(answer.rcode() == SERVFAIL || refused && answer.rcode() != 0, "{failure}: {answer:?}");
            // Ten seconds are the forwarder's own limit.
            assert!(begun.elapsed() < Duration::from_secs(18), "{failure}: {:?}", begun.elapsed());
            forwarder.lives();
        }
    });
}

#[test]
fn dig_past_a_dead_server_over_udp_and_tcp() {
    in_namespace(|| {
        let lab = Lab::new("dead");
        let _dnsmasq = lab.dnsmasq(server(2), &["--address=/test/192.0.2.7"]);
        let _forwarder = lab.by_hand(&[server(1), server(2)]);
        for way in ["", " +tcp"] {
            assert_eq!(dig(&format!("board.test A{way}")).answers(), ["192.0.2.7"]);
            assert_eq!(dig(&format!("board{}.test A{way}", way.len())).answers(), ["192.0.2.7"]);
        }
    });
}

#[test]
fn a_server_that_comes_back_is_used_again() {
    in_namespace(|| {
        let lab = Lab::new("back");
        let second = Upstream::start(server(2), honest);
        let _forwarder = lab.by_hand(&[server(1), server(2)]);
        for number in 0..20 {
            assert_eq!(addresses(&look_up(&format!("before-{number}.test"))), [GOOD]);
        }
        let first = Upstream::start(server(1), |asked| vec![Act::Say(address(asked, 300, 8))]);
        drop(second);
        let mut number = 0;
        let back = soon(|| {
            number += 1;
            addresses(&look_up(&format!("after-{number}.test")))
                .iter()
                .any(|address| address.octets()[3] == 8)
        });
        assert!(back && !first.asked().is_empty());
    });
}

#[test]
fn of_two_servers_the_fast_one_is_asked_more() {
    in_namespace(|| {
        let lab = Lab::new("fast");
        let slow = Upstream::start(server(1), |asked| {
            vec![Act::Later(Duration::from_millis(150), address(asked, 300, 7))]
        });
        let fast = Upstream::start(server(2), honest);
        let _forwarder = lab.by_hand(&[server(1), server(2)]);
        let mut late = 0;
        for number in 0..200 {
            let begun = Instant::now();
            assert_eq!(addresses(&look_up(&format!("host-{number}.test"))), [GOOD]);
            // Only then the slow one may be asked for want of the fast one's answer.
            late += usize::from(begun.elapsed() >= Duration::from_millis(20));
        }
        let (slow_count, fast_count) = (slow.asked().len(), fast.asked().len());
        println!("the fast one was asked {fast_count} times, the slow one {slow_count}; {late} were late");
        assert!(fast_count > 150 && slow_count < 60 + late, "{fast_count} {slow_count} {late}");
        // When the fast one slows down, the other's turn comes: somebody must have looked.
        fast.set(|asked| vec![Act::Later(Duration::from_millis(300), address(asked, 300, 7))]);
        slow.set(honest);
        let before = slow.asked().len();
        for number in 0..100 {
            look_up(&format!("later-{number}.test"));
        }
        let now = slow.asked().len() - before;
        assert!(now > 30, "asked {now} times of 100 since it is the faster one");
    });
}

#[test]
fn a_late_answer_of_the_first_still_counts() {
    in_namespace(|| {
        let lab = Lab::new("late");
        let _late = Upstream::start(server(1), |asked| {
            vec![Act::Later(Duration::from_millis(1_500), address(asked, 300, 7))]
        });
        let _silent = Upstream::start(server(2), |_| Vec::new());
        let _forwarder = lab.by_hand(&[server(1), server(2)]);
        for number in 0..3 {
            assert_eq!(addresses(&look_up(&format!("late-{number}.test"))), [GOOD]);
        }
    });
}

#[test]
fn who_asks_the_same_waits_for_the_same() {
    in_namespace(|| {
        let lab = Lab::new("together");
        let upstream = Upstream::start(server(1), |asked| {
            vec![Act::Later(Duration::from_millis(800), address(asked, 300, 7))]
        });
        let _forwarder = lab.by_hand(&[server(1)]);
        let clients: Vec<UdpSocket> = (0..60u16)
            .map(|number| {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.connect(here()).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let name = if number % 2 == 0 { "same.test" } else { "SaMe.TeSt" };
                socket.send(&query(number, name, A)).unwrap();
                socket
            })
            .collect();
        for (number, socket) in clients.iter().enumerate() {
            let answer = Message::read(&hear(socket).unwrap_or_else(|| panic!("no answer for {number}")));
            let name = if number % 2 == 0 { "same.test." } else { "SaMe.TeSt." };
            assert_eq!(
                (usize::from(answer.id), answer.name.as_str(), addresses(&answer)),
                (number, name, vec![GOOD])
            );
        }
        // One question, and its repetitions while the answer takes its time.
        assert!(upstream.count("same.test.") <= 4, "asked {} times", upstream.count("same.test."));
    });
}

#[test]
fn a_client_that_asks_again_gets_its_answer() {
    in_namespace(|| {
        let lab = Lab::new("again");
        // Every other packet is lost on the way.
        let upstream =
            Upstream::start(
                server(1),
                |asked| if asked.number % 2 == 0 { Vec::new() } else { honest(asked) },
            );
        let _forwarder = lab.by_hand(&[server(1)]);
        for number in 0..20 {
            let bytes = ask(here(), &query(number, &format!("lossy-{number}.test"), A));
            assert_eq!(addresses(&Message::read(&bytes)), [GOOD]);
        }
        assert!(upstream.asked().len() >= 20);
    });
}
