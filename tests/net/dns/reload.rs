//! Other settings under load.

use super::message::{A, Message, query};
use super::upstream::{Act, Asked, Upstream};
use super::{GOOD, address, addresses, honest, look_up_in_system as look_up};
use minke_tests::dns_lab::{Lab, Load, ask, in_system, server, soon};
use minke_tests::in_namespace;
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

#[test]
fn a_reload_loses_no_question_and_keeps_the_cache() {
    in_namespace(|| {
        let lab = Lab::new("reload");
        // So slow that questions are on their way whenever the servers change.
        let slow = |asked: &Asked| vec![Act::Later(Duration::from_millis(200), address(asked, 300, 7))];
        let (first, second) = (Upstream::start(server(1), slow), Upstream::start(server(2), slow));
        let forwarder = lab.by_files("server=10.77.1.1\n", "");
        assert_eq!(addresses(&look_up("kept.test", A)), [GOOD]);
        let asked = || first.count("kept.test.") + second.count("kept.test.");
        let once = asked();
        // Each once, so that none is answered by the cache.
        let names: Vec<String> = (0..5_000).map(|number| format!("host-{number}.test A")).collect();
        lab.write("names", names.join("\n") + "\n");
        let load = std::thread::scope(|scope| {
            let load = scope.spawn(|| Load::run(in_system(), &lab.path("names"), "-c 4 -l 8 -Q 400 -t 10"));
            // Ten times other servers, by a command, by a signal, and by nothing but the file.
            for number in 0..10 {
                std::thread::sleep(Duration::from_millis(600));
                lab.write("run/dnsmasq.servers", format!("\nserver=10.77.1.{}\n", 2 - number % 2));
                match number % 3 {
                    0 => drop(lab.dns("reload")),
                    1 => forwarder.signal("HUP"),
                    _ => {}
                }
            }
            load.join().unwrap()
        });
        assert_eq!((load.lost, load.of("SERVFAIL")), (0, 0), "{load:?}");
        assert!(load.completed > 2_000, "{load:?}");
        let names =
            |upstream: &Upstream| upstream.asked().iter().map(Asked::name).collect::<BTreeSet<String>>();
        let both = names(&first).intersection(&names(&second)).count();
        println!(
            "{both} of {} questions were with one server when the other one's turn came",
            load.completed
        );
        assert!(both > 100, "{both} questions were on their way");
        assert!(!first.asked().is_empty() && !second.asked().is_empty());
        look_up("kept.test", A);
        assert_eq!(asked(), once, "the cache is kept");
        forwarder.lives();
    });
}

#[test]
fn other_addresses_to_listen_at_wait_for_a_restart() {
    in_namespace(|| {
        let lab = Lab::new("listen");
        let _upstream = Upstream::start(server(1), honest);
        let other: SocketAddr = (Ipv4Addr::new(127, 0, 0, 5), 53).into();
        let own = "listen-address=127.0.0.5\n";
        let forwarder = lab.by_files("server=10.77.1.1\n", own);
        assert_eq!(addresses(&Message::read(&ask(other, &query(1, "one.test", A)))), [GOOD]);
        // The right to have the port was given up: what is served goes on, and the log says what to do.
        lab.write("etc/dnsmasq.d/test.conf", "listen-address=127.0.0.6\n");
        assert!(
            soon(|| forwarder.log().contains("127.0.0.6") && forwarder.log().contains("restart")),
            "{}",
            forwarder.log()
        );
        assert_eq!(addresses(&look_up("two.test", A)), [GOOD]);
        assert_eq!(addresses(&Message::read(&ask(other, &query(1, "three.test", A)))), [GOOD]);
        // Back again: nothing has happened. What is not named any more is left when nothing is missing.
        lab.write("etc/dnsmasq.d/test.conf", own);
        lab.dns("reload");
        assert_eq!(addresses(&Message::read(&ask(other, &query(1, "four.test", A)))), [GOOD]);
        lab.write("etc/dnsmasq.d/test.conf", "");
        assert!(soon(|| TcpStream::connect(other).is_err()));
        assert_eq!(addresses(&look_up("five.test", A)), [GOOD]);
        forwarder.lives();
    });
}

#[test]
fn the_log_names_the_servers_at_each_change() {
    in_namespace(|| {
        let lab = Lab::new("log");
        let _upstream = Upstream::start(server(1), honest);
        let forwarder = lab.by_files("server=10.77.1.1\n", "");
        assert!(soon(|| forwarder.log().contains("using nameserver 10.77.1.1#53")), "{}", forwarder.log());
        lab.write("run/dnsmasq.servers", "\nserver=10.77.1.2\nserver=/corp.test/10.77.1.3#5353\n");
        assert!(soon(|| forwarder.log().contains("using nameserver 10.77.1.2#53")), "{}", forwarder.log());
        assert!(soon(|| forwarder.log().contains("using nameserver 10.77.1.3#5353")), "{}", forwarder.log());
        // A line that means nothing is told, and changes nothing else.
        lab.write("run/dnsmasq.servers", "\nserver=nonsense\nserver=10.77.1.1\n");
        assert!(soon(|| forwarder.log().contains("dnsmasq.servers:2")), "{}", forwarder.log());
        assert!(soon(|| addresses(&look_up("board.test", A)) == [GOOD]));
        forwarder.lives();
    });
}

#[test]
fn what_was_learned_in_a_domain_is_forgotten_with_its_servers() {
    in_namespace(|| {
        let lab = Lab::new("domain-change");
        let play = |last: u8| move |asked: &Asked| vec![Act::Say(address(asked, 300, last))];
        let _first = Upstream::start(server(1), play(1));
        let second = Upstream::start(server(2), play(2));
        let _forwarder = lab.by_files("server=10.77.1.1\n", "");
        let last = |name: &str| addresses(&look_up(name, A)).first().map(|address| address.octets()[3]);
        assert_eq!((last("a.corp.test"), last("a.other.test")), (Some(1), Some(1)));
        lab.write("run/dnsmasq.servers", "\nserver=10.77.1.1\nserver=/corp.test/10.77.1.2\n");
        assert!(soon(|| last("a.corp.test") == Some(2)));
        assert_eq!(last("a.other.test"), Some(1));
        assert_eq!(second.count("a.other.test."), 0);
        for words in ["flush", "flush a.corp.test"] {
            let before = second.count("a.corp.test.");
            lab.dns(words);
            last("a.corp.test");
            assert!(second.count("a.corp.test.") > before, "{words}");
        }
    });
}

#[test]
fn the_commands_say_what_is() {
    in_namespace(|| {
        let lab = Lab::new("commands");
        let _upstream = Upstream::start(server(1), honest);
        let _forwarder = lab.by_files("server=10.77.1.1\n", "");
        for _ in 0..3 {
            look_up("kept.test", A);
        }
        let said = lab.dns("status");
        assert!(said.contains("10.77.1.1"), "{said}");
        let json: serde_json::Value = serde_json::from_str(&lab.dns("status --json")).unwrap();
        let text = json.to_string();
        assert!(text.contains("10.77.1.1") && text.contains("hits"), "{text}");
        let said = lab.dns("query board.test");
        assert!(said.contains("192.0.2.7"), "{said}");
        let said = lab.dns("query board.test A --server 10.77.1.1 --json");
        assert!(said.contains("192.0.2.7"), "{said}");
    });
}
