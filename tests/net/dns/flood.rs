//! Floods: what memory they take, and that everybody else is still served.

use super::message::{A, ANSWER, Message, Reply, TC, query};
use super::upstream::{Act, Upstream};
use super::{GOOD, addresses, honest, look_up, seed};
use minke_tests::dns_lab::{Lab, Load, ask_tcp, ask_within, here, in_system, own_memory, server};
use minke_tests::{Random, in_namespace};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What a flood may take beside the cache's 512 KiB, in KiB: sockets' and connections' buffers, and what a debug build
/// is larger.
const BESIDE: u64 = 1_200;
const CACHE: u64 = 512;

const WILD: &str = "$ORIGIN flood.test.\n$TTL 300\n@ SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns\nns A 10.77.1.1\n\
                    used A 192.0.2.7\n*.a A 192.0.2.8\n";

/// A file of random names, of which half do not exist.
fn random_names(lab: &Lab, random: &mut Random, count: usize) {
    let mut names = String::new();
    for number in 0..count {
        let zone = ["a.flood.test", "b.flood.test"][number % 2];
        names += &format!("{:08x}{:08x}.{zone} A\n", random.below(1 << 32), random.below(1 << 32));
    }
    lab.write("names", names);
}

#[test]
fn random_names_take_no_more_memory_than_the_cache_has() {
    in_namespace(|| {
        let lab = Lab::new("random");
        let _knot = lab.knot(server(1), "flood.test", WILD, false);
        let forwarder = lab.by_hand(&[server(1)]);
        random_names(&lab, &mut Random::new(seed()), 120_000);
        assert_eq!(addresses(&look_up("used.flood.test")), [GOOD]);
        let before = own_memory(forwarder.id());
        let load = std::thread::scope(|scope| {
            let load = scope.spawn(|| Load::run(here(), &lab.path("names"), "-c 8 -n 1 -q 100 -t 10"));
            // A name that is in use stays.
            let mut ttl = 301;
            while !load.is_finished() {
                let now = look_up("used.flood.test").answers(A)[0].ttl;
                assert!(now <= ttl, "was pushed out: {now} s after {ttl} s");
                ttl = now;
                std::thread::sleep(Duration::from_millis(100));
            }
            load.join().unwrap()
        });
        let after = own_memory(forwarder.id());
        println!(
            "{before} KiB before, {after} KiB after {} names, {:.0} a second",
            load.completed, load.per_second
        );
        assert!(after < before + CACHE + BESIDE, "{before} KiB before, {after} KiB after");
        assert!(load.completed > 119_000, "{load:?}");
        forwarder.lives();
    });
}

/// What it may take is what the owner says: with four times the cache it takes more, and then no more, however many names
/// come.
#[test]
fn the_caches_limit_is_the_configured_one() {
    in_namespace(|| {
        let lab = Lab::new("limit");
        let _knot = lab.knot(server(1), "flood.test", WILD, false);
        let mut random = Random::new(seed());
        let mut all = Vec::new();
        // dnsmasq's names, 300 bytes each: 150 KiB and 2 MiB.
        for (names, kib) in [(512, 150), (6_990, 2_048)] {
            let forwarder = lab.by_files("server=10.77.1.1\n", &format!("cache-size={names}\n"));
            let before = own_memory(forwarder.id());
            let mut after = [0; 3];
            for after in &mut after {
                random_names(&lab, &mut random, 40_000);
                let load = Load::run(in_system(), &lab.path("names"), "-c 8 -n 1 -q 100 -t 10");
                assert!(load.completed > 39_000, "{load:?}");
                *after = own_memory(forwarder.id());
            }
            println!("{kib} KiB of cache: {before} KiB before, {after:?} KiB after");
            let [first, _, last] = after;
            assert!(last < before + kib + BESIDE, "{kib}: {before} KiB before, {after:?} KiB after");
            assert!(last < first + 100, "{kib}: it grows: {after:?} KiB");
            all.push(last);
            forwarder.lives();
        }
        // Both are full: what one takes more is what it may take more, but for the index and odds and ends.
        let more = all[1].saturating_sub(all[0]);
        assert!((1_500..2_600).contains(&more), "{more} KiB more instead of 1,898");
    });
}

#[test]
fn questions_that_nobody_answers_take_no_more_memory_than_allowed() {
    in_namespace(|| {
        let lab = Lab::new("unanswered");
        let _upstream = Upstream::start(server(1), |asked| {
            if asked.name().ends_with("silent.test.") { Vec::new() } else { honest(asked) }
        });
        let forwarder = lab.by_hand(&[server(1)]);
        assert_eq!(addresses(&look_up("kept.test")), [GOOD]);
        let names: String = (0..40_000).map(|number| format!("host-{number}.silent.test A\n")).collect();
        lab.write("names", names);
        let before = own_memory(forwarder.id());
        let mut most = before;
        std::thread::scope(|scope| {
            let load =
                scope.spawn(|| Load::run(here(), &lab.path("names"), "-c 8 -n 1 -Q 20000 -q 60000 -t 2"));
            while !load.is_finished() {
                most = most.max(own_memory(forwarder.id()));
                assert_eq!(patiently("kept.test"), [GOOD], "what is in the cache is answered meanwhile");
                std::thread::sleep(Duration::from_millis(100));
            }
            load.join().unwrap();
        });
        println!("{before} KiB before, at most {most} KiB");
        assert!(most < before + CACHE + BESIDE + 1_000, "{before} KiB before, {most} KiB meanwhile");
        forwarder.lives();
        assert_eq!(patiently("after.test"), [GOOD]);
    });
}

/// Asks each second, as resolvers do whose packets are lost in a flood.
fn patiently(name: &str) -> Vec<std::net::Ipv4Addr> {
    for _ in 0..20 {
        let answer = ask_within(here(), &query(1, name, A), Duration::from_secs(1));
        let answer = answer.map(|answer| addresses(&Message::read(&answer))).unwrap_or_default();
        if !answer.is_empty() {
            return answer;
        }
    }
    Vec::new()
}

#[test]
fn a_thousand_connections_keep_nobody_else_out() {
    in_namespace(|| {
        let lab = Lab::new("connections");
        let _upstream = Upstream::start(server(1), honest);
        let forwarder = lab.by_hand(&[server(1)]);
        let before = own_memory(forwarder.id());
        let mut connections = Vec::new();
        for number in 0..1_000 {
            if let Ok(stream) = TcpStream::connect_timeout(&here(), Duration::from_secs(5)) {
                connections.push(stream);
            }
            if number % 100 == 0 {
                assert_eq!(addresses(&look_up(&format!("udp-{number}.test"))), [GOOD]);
            }
        }
        assert_eq!(addresses(&look_up("udp.test")), [GOOD]);
        // One that wants something gets in, if need be for one that wants nothing.
        let reached = minke_tests::dns_lab::soon(|| {
            tcp(&query(1, "tcp.test", A)).is_some_and(|answer| addresses(&answer) == [GOOD])
        });
        assert!(reached, "over TCP besides {} others", connections.len());
        let after = own_memory(forwarder.id());
        println!("{} connections, {before} KiB before, {after} KiB after", connections.len());
        assert!(after < before + BESIDE, "{before} KiB before, {after} KiB after");
        drop(connections);
        assert_eq!(addresses(&Message::read(&ask_tcp(here(), &query(2, "later.test", A)))), [GOOD]);
        forwarder.lives();
    });
}

/// A question over TCP, answered or not.
fn tcp(question: &[u8]) -> Option<Message> {
    let mut stream = TcpStream::connect(here()).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(3))).ok()?;
    stream.write_all(&[&(question.len() as u16).to_be_bytes()[..], question].concat()).ok()?;
    Some(Message::read(&minke_tests::dns_lab::receive(&mut stream).ok()?))
}

#[test]
fn drop_by_drop_is_no_way_to_hold_a_place() {
    in_namespace(|| {
        let lab = Lab::new("loris");
        let _upstream = Upstream::start(server(1), honest);
        let forwarder = lab.by_hand(&[server(1)]);
        let mut slow: Vec<TcpStream> = (0..300).filter_map(|_| TcpStream::connect(here()).ok()).collect();
        let question = query(1, "slow.test", A);
        let framed = [&(question.len() as u16).to_be_bytes()[..], &question].concat();
        // A byte a time, never the last one.
        for byte in &framed[..20] {
            for stream in &mut slow {
                let _ = stream.write_all(&[*byte]);
            }
            std::thread::sleep(Duration::from_millis(200));
            assert_eq!(addresses(&look_up("udp.test")), [GOOD]);
        }
        assert!(
            minke_tests::dns_lab::soon(|| tcp(&query(1, "tcp.test", A)).is_some()),
            "others are served over TCP"
        );
        forwarder.lives();
    });
}

#[test]
fn who_never_reads_fills_no_memory() {
    in_namespace(|| {
        let lab = Lab::new("never-reads");
        let _upstream = Upstream::start(server(1), |asked| {
            if !asked.tcp {
                return vec![Act::Say(Reply::to(&asked.query, ANSWER | TC).0)];
            }
            let mut reply = Reply::to(&asked.query, ANSWER);
            for _ in 0..200 {
                reply = reply.own(16, 300, &[255; 256]);
            }
            vec![Act::Say(reply.0)]
        });
        let forwarder = lab.by_hand(&[server(1)]);
        let before = own_memory(forwarder.id());
        let question = query(1, "long.test", 16);
        let framed = [&(question.len() as u16).to_be_bytes()[..], &question].concat();
        let mut greedy: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(here()).unwrap()).collect();
        for stream in &mut greedy {
            stream.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
            for _ in 0..2_000 {
                if stream.write_all(&framed).is_err() {
                    break;
                }
            }
        }
        assert_eq!(addresses(&look_up("udp.test")).len(), 0);
        let after = own_memory(forwarder.id());
        println!("{before} KiB before, {after} KiB after");
        // 8 × 2,000 × 53 KiB were asked for.
        assert!(after < before + CACHE + BESIDE + 2_000, "{before} KiB before, {after} KiB after");
        // A reader gets what it asks for.
        assert_eq!(Message::read(&ask_tcp(here(), &question)).answers(16).len(), 200);
        let mut late = &greedy[0];
        late.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = late.read(&mut [0; 4_096]);
        forwarder.lives();
    });
}
