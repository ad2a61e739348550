//! What happens to a host while it is heard: its links, its name, its files, its end; and who hears it how.

use minke_sys::multicast::Group;
use minke_tests::mdns_lab::{Background, LIMIT, Lab, sh, until_has, until_or};
use minke_tests::{Daemon, errors, release, run, text};
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// For the address of `ours.local`.
const QUESTION: &[u8] = b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x04ours\x05local\0\0\x01\0\x01";

#[test]
fn farewells_are_seen_at_once() {
    let lab = Lab::new("farewell");
    let (a, b) = (lab.host(1), lab.host(2));
    let (ours, avahi) = (a.minke("ours"), b.avahi("theirs"));
    ours.until_named("ours");
    avahi.until_named("theirs");
    let browse = ["browse", "_ssh._tcp", "--json"];
    let other = lab.host(3);
    let other = other.minke("other");
    other.until_named("other");
    let seen = Background::start(&lab, "ours", &mut other.command(&browse));
    let theirs = Background::start(&lab, "theirs", &mut avahi.command("avahi-browse", &["-pk", "_ssh._tcp"]));
    seen.until(r#""event":"added","interface":"eth0","name":"ours","type":"_ssh._tcp""#);
    theirs.until("+;eth0;IPv4;ours;");
    ours.stop();
    // The records would be believed for 75 minutes; a second after a farewell they are gone (RFC 6762 §10.1).
    seen.until(r#""event":"removed","interface":"eth0","name":"ours","type":"_ssh._tcp""#);
    theirs.until("-;eth0;IPv4;ours;");
    assert!(other.text(&["resolve", "ours"]).is_empty());
}

#[test]
fn links_and_addresses_come_and_go() {
    let lab = Lab::new("links");
    let (a, b) = (lab.host(1), lab.host(2));
    let (ours, other) = (a.minke("ours"), b.minke("other"));
    ours.until_named("ours");
    other.until_named("other");
    let resolves = |part: &str, wanted: bool| {
        let is = || other.text(&["resolve", "ours"]).contains(part) == wanted;
        until_or(part, is, || other.text(&["resolve", "ours"]) + &ours.text(&["status"]));
    };
    resolves("10.77.0.1", true);
    // Another address.
    a.ip("address add 10.77.0.101/24 dev eth0");
    a.ip("address delete 10.77.0.1/24 dev eth0");
    resolves("10.77.0.101", true);
    resolves("10.77.0.1 ", false);
    // A second link, to another network: each hears of the addresses there alone.
    let c = lab.host(3);
    c.connect_to("br1", "eth1");
    c.ip("address add 10.78.0.3/24 dev eth1");
    let third = c.minke_with(&["--host", "third", "--interface", "eth1"]);
    third.until_named("third");
    a.connect_to("br1", "eth1");
    a.ip("address add 10.78.0.1/24 dev eth1");
    let there = || third.text(&["resolve", "ours"]);
    until_or("on the other link", || there().contains("10.78.0.1"), || there() + &ours.text(&["status"]));
    assert!(!there().contains("10.77."), "{}", there());
    assert!(!other.text(&["resolve", "ours"]).contains("10.78."));
    a.ip("link set eth1 down");
    ours.until("one interface", |status| !format!("{status}").contains("eth1"));
    // The cable is pulled: nobody says farewell. Put in again, the name is found again.
    a.cable(false);
    ours.until("no interface", |status| format!("{status}").contains(r#""interfaces":[]"#));
    a.cable(true);
    resolves("10.77.0.101", true);
    ours.until_named("ours");
    // All is removed and made anew.
    a.ip("link delete eth0");
    ours.until("no interface", |status| format!("{status}").contains(r#""interfaces":[]"#));
    a.connect("eth0");
    a.ip("address add 10.77.0.1/24 dev eth0");
    resolves("10.77.0.1 ", true);
}

/// Asks for `ours.local` each 20 ms, from a port of its own, until there is an answer; how long after `begin` that was.
fn first_answer(begin: Instant) -> Duration {
    let socket = UdpSocket::bind("10.77.0.2:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    while begin.elapsed() < LIMIT {
        socket.send_to(QUESTION, "224.0.0.251:5353").unwrap();
        if socket.recv_from(&mut [0; 1500]).is_ok() {
            return begin.elapsed();
        }
    }
    panic!("no answer");
}

/// The same over IPv6, as those ask who hear what is told to all: from an address that is still looked at, nothing is sent to
/// one alone, as nobody may be asked for his Ethernet address from there (RFC 4429 §3.3).
fn first_answer_to_all() -> Duration {
    let begin = Instant::now();
    let group = "ff02::fb".parse().unwrap();
    let index = minke_sys::netlink::Route::new().unwrap().index_of("eth0").unwrap();
    let socket = Group::open(group, 5353).unwrap();
    socket.join(index).unwrap();
    let mut buffer = [0; 9000];
    while begin.elapsed() < LIMIT {
        // All namespaces share one table of neighbours: with many hosts of other tests it may be full for a moment.
        let _ = socket.send(QUESTION, SocketAddr::new(group, 5353), index);
        std::thread::sleep(Duration::from_millis(20));
        while let Some(heard) = socket.receive(&mut buffer).unwrap() {
            let message = &buffer[..heard.length];
            if message[2] & 0x80 != 0 && message.windows(5).any(|window| window == b"\x04ours") {
                return begin.elapsed();
            }
        }
    }
    panic!("no answer");
}

#[test]
fn the_first_answer_comes_soon_after_the_link() {
    let lab = Lab::new("soon");
    let (a, b) = (lab.host(1), lab.host(2));
    let ours = a.minke("ours");
    ours.until_named("ours");
    for _ in 0..3 {
        a.cable(false);
        ours.until("no interface", |status| format!("{status}").contains(r#""interfaces":[]"#));
        let begin = Instant::now();
        a.cable(true);
        // A name is found free first, three questions and 750 ms long: nothing is said before.
        let took = b.inside(|| first_answer(begin));
        println!("the first answer came {} ms after the link", took.as_millis());
        assert!(took >= Duration::from_millis(600), "{took:?}");
    }
}

#[test]
fn an_ipv6_address_is_used_while_the_kernel_looks_whether_somebody_has_it() {
    let lab = Lab::new("optimistic");
    let (a, b, c) = (lab.host(1), lab.host(2), lab.host(3));
    let other = c.minke("other");
    other.until_named("other");
    // The kernel shall look longer than anything is waited for here; usually it does so for one or two seconds.
    a.ip("address flush dev eth0");
    a.ip("link set eth0 down");
    let script = "cd /proc/sys/net/ipv6/conf/eth0; echo 1 > accept_dad; echo 100 > dad_transmits";
    run(a.command("sh").args(["-ec", script]));
    // It is `network` that says so, before it sets the link up.
    let mut network = a.command(release("x86_64"));
    network.args(["network", "serve", "--interface", "eth0"]);
    network.arg("--run").arg(lab.folder.join("run")).arg("--state").arg(lab.folder.join("state"));
    let _network = Daemon::start(&mut network);
    let ours = a.minke("ours");
    ours.until_named("ours");
    let looked_at = || {
        let found = text(&run(a.command("ip").args(["-6", "address", "show", "dev", "eth0"])));
        assert!(found.contains("inet6 fe80:") && found.contains("optimistic"), "{found}");
    };
    // A host without a link has its name at once: `network` may not have set this one up yet.
    until_has(|| other.text(&["resolve", "ours"]), &["AAAA fe80:"]);
    looked_at();
    for _ in 0..3 {
        a.ip("link set eth0 down");
        ours.until("no interface", |status| format!("{status}").contains(r#""interfaces":[]"#));
        a.ip("link set eth0 up");
        let took = b.inside(first_answer_to_all);
        println!("over IPv6 the first answer came {} ms after the link", took.as_millis());
        looked_at();
    }
}

#[test]
fn the_kernels_name_is_followed() {
    let lab = Lab::new("name");
    let (a, b) = (lab.host(1), lab.host(2));
    // In a UTS namespace that the test makes: `nsenter` changes the name there alone.
    let ours = a.minke_named_by_kernel("before");
    let other = b.minke("other");
    ours.until_named("before");
    other.until_named("other");
    let browse = ["browse", "_resin-device._sub._ssh._tcp", "--resolve"];
    let browser = Background::start(&lab, "browse", &mut other.command(&browse));
    browser.until("= eth0 'before' _ssh._tcp before.local 22222 10.77.0.1");
    let begin = Instant::now();
    sh(&format!("nsenter --target {} --uts hostname after.example.com", ours.daemon.id()));
    browser.until("= eth0 'after' _ssh._tcp after.local 22222 10.77.0.1");
    let took = begin.elapsed();
    println!("the new name was found after {} ms", took.as_millis());
    assert!(took <= Duration::from_secs(10), "spec os §4.4.8: {took:?}");
    browser.until("- eth0 'before' _ssh._tcp");
    until_or("the old one is gone", || other.text(&["resolve", "before"]).is_empty(), || ours.log());
}

#[test]
fn service_files_are_seen_as_they_come_change_and_go() {
    let lab = Lab::new("files");
    let (a, b) = (lab.host(1), lab.host(2));
    let (ours, avahi) = (a.minke("ours"), b.avahi("theirs"));
    ours.until_named("ours");
    avahi.until_named("theirs");
    let browser =
        Background::start(&lab, "browse", &mut avahi.command("avahi-browse", &["-rpk", "_http._tcp"]));
    let c = lab.host(3);
    let other = c.minke("other");
    other.until_named("other");
    let changes =
        Background::start(&lab, "changes", &mut other.command(&["browse", "_http._tcp", "--resolve"]));
    let file = |port: &str, txt: &str| {
        format!(
            "<?xml version=\"1.0\"?><!DOCTYPE service-group SYSTEM \"avahi-service.dtd\"><service-group>\
             <name replace-wildcards=\"yes\">Shop on %h</name><service><type>_http._tcp</type><port>{port}</port>\
             <txt-record>{txt}</txt-record></service></service-group>"
        )
    };
    let path = ours.services().join("shop.service");
    fs::write(&path, file("80", "a=1")).unwrap();
    browser.until("Shop\\032on\\032ours;_http._tcp;local;ours.local;");
    browser.until(";80;\"a=1\"");
    // A mistake in another one is told, with its line, and harms nothing. It comes in one step: what is looked at while it is
    // written may be told twice.
    let fresh = ours.services().join(".fresh");
    fs::write(&fresh, "<service-group>\n<name>x</nam>\n").unwrap();
    fs::rename(&fresh, ours.services().join("wrong.service")).unwrap();
    until_or(
        "the mistake is told",
        || ours.log().contains("wrong.service: line 2: wrong end tag"),
        || ours.log(),
    );
    fs::write(ours.services().join("notes.txt"), "no service").unwrap();
    // Replaced in one step, as editors do.
    fs::write(&fresh, file("8080", "a=2")).unwrap();
    fs::rename(&fresh, &path).unwrap();
    changes.until("= eth0 'Shop on ours' _http._tcp ours.local 8080 10.77.0.1 fd77::1 \"a=2\"");
    // That was no farewell.
    // Neither is another name of the file, given in one step or two.
    let moved = ours.services().join("moved.service");
    fs::rename(&path, &moved).unwrap();
    let in_file = |path: &Path| {
        let path = path.display().to_string();
        ours.until(&path, |status| {
            format!("{status}").contains(&format!(r#""file":"{path}","established":true"#))
        });
    };
    in_file(&moved);
    fs::copy(&moved, &path).unwrap();
    until_or("there are two", || ours.log().contains("shop.service: another service"), || ours.log());
    fs::remove_file(&moved).unwrap();
    in_file(&path);
    // With another text along with the other name.
    fs::write(&fresh, file("8081", "a=3")).unwrap();
    fs::rename(&fresh, &moved).unwrap();
    until_or("there are two", || ours.log().contains("moved.service: another service"), || ours.log());
    fs::remove_file(&path).unwrap();
    changes.until("= eth0 'Shop on ours' _http._tcp ours.local 8081 10.77.0.1 fd77::1 \"a=3\"");
    assert!(!browser.text().contains("-;"), "{}", browser.text());
    // What cannot be published is told, and its old form goes; put right, it is there again.
    let long = vec!["x".repeat(250); 40].join("</txt-record><txt-record>");
    fs::write(&moved, file("8082", &long)).unwrap();
    until_or("that is told", || ours.log().contains("its TXT record is too long"), || ours.log());
    browser.until("-;eth0;IPv4;Shop\\032on\\032ours");
    fs::write(&moved, file("8083", "a=4")).unwrap();
    changes.until("= eth0 'Shop on ours' _http._tcp ours.local 8083 10.77.0.1 fd77::1 \"a=4\"");
    let farewells = || browser.text().matches("-;eth0;IPv4;Shop\\032on\\032ours").count();
    assert_eq!(farewells(), 1);
    fs::remove_file(&moved).unwrap();
    until_or("it is gone", || farewells() == 2, || browser.text());
    changes.until("- eth0 'Shop on ours' _http._tcp");
    assert_eq!(ours.log().matches("wrong.service").count(), 1, "{}", ours.log());
    // An empty folder, and one that was away, count as soon as files are there.
    fs::remove_dir_all(ours.services()).unwrap();
    ours.until("no service", |status| format!("{status}").contains(r#""services":[]"#));
    fs::create_dir(ours.services()).unwrap();
    fs::write(ours.services().join("late.service"), file("81", "late")).unwrap();
    browser.until(";81;\"late\"");
}

#[test]
fn who_publishes_is_there_as_long_as_he_stays() {
    let lab = Lab::new("publish");
    let (a, b) = (lab.host(1), lab.host(2));
    let (ours, other) = (a.minke("ours"), b.minke("other"));
    ours.until_named("ours");
    other.until_named("other");
    let browser = Background::start(&lab, "browse", &mut other.command(&["browse", "--all", "--resolve"]));
    let words = ["publish", "In the hall", "_http._tcp", "8080", "path=/", "--subtype", "_printer"];
    let publisher = Background::start(&lab, "publish", &mut ours.command(&words));
    publisher.until("published: In the hall");
    browser.until("+ eth0 _http._tcp");
    browser.until("= eth0 'In the hall' _http._tcp ours.local 8080 10.77.0.1 fd77::1 \"path=/\"");
    let sub = || other.text(&["browse", "_printer._sub._http._tcp", "--timeout", "2"]);
    until_has(sub, &["+ eth0 'In the hall' _http._tcp"]);
    // The same name from elsewhere gets another.
    let second = Background::start(&lab, "second", &mut other.command(&words));
    second.until("published: In the hall");
    assert!(!second.text().contains("published: In the hall\n"), "{}", second.text());
    until_has(
        || other.text(&["resolve", "In the hall._http._tcp"]),
        &["SRV 0 0 8080 ours.local", "TXT \"path=/\"", "A 10.77.0.1"],
    );
    drop(publisher);
    browser.until("- eth0 'In the hall' _http._tcp");
    // Not for everybody: an ordinary user may ask, and may not publish.
    let output = ours.as_user(12345, &words);
    assert!(errors(&output).contains("only root may publish"), "{}", errors(&output));
    until_has(|| text(&ours.as_user(12345, &["resolve", "other"])), &["10.77.0.2"]);
}

#[test]
fn who_knows_no_mdns_gets_a_legacy_answer_and_only_from_the_link() {
    let lab = Lab::new("dig");
    let (a, b) = (lab.host(1), lab.host(2));
    let ours = a.minke("ours");
    ours.until_named("ours");
    let dig = |server: &str, words: &[&str]| {
        let mut command = b.command("dig");
        command.args([
            "-p",
            "5353",
            server,
            "+tries=1",
            "+time=8",
            "+noall",
            "+comments",
            "+question",
            "+answer",
        ]);
        text(&command.args(words).output().unwrap())
    };
    for server in ["@10.77.0.1", "@fd77::1"] {
        let answer = dig(server, &["ours.local", "A"]);
        assert!(answer.contains("status: NOERROR") && answer.contains("10.77.0.1"), "{server} {answer}");
        // RFC 6762 §6.7: the question is repeated, the answer is believed for ten seconds at most and for nobody alone.
        assert!(answer.contains(";ours.local.\t\t\tIN\tA"), "{answer}");
        let line = answer.lines().find(|line| line.ends_with("10.77.0.1")).unwrap();
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert!(fields[1].parse::<u32>().unwrap() <= 10 && fields[2] == "IN", "{line}");
    }
    until_has(|| dig("@10.77.0.1", &["_services._dns-sd._udp.local", "PTR"]), &["_ssh._tcp.local"]);
    // To the group, from a port of its own: dig would only hear the group itself answer.
    let (answer, from) = b.inside(|| {
        let socket = UdpSocket::bind("10.77.0.2:0").unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        socket.send_to(QUESTION, "224.0.0.251:5353").unwrap();
        let mut answer = vec![0; 1500];
        let (length, from) = socket.recv_from(&mut answer).unwrap();
        answer.truncate(length);
        (answer, from)
    });
    assert_eq!(from, "10.77.0.1:5353".parse().unwrap());
    // The id and the question come back, with one answer.
    assert_eq!(answer[..8], *b"\x12\x34\x84\0\0\x01\0\x01");
    assert!(answer.windows(4).any(|window| window == [10, 77, 0, 1]));
    // From an address that is not on the link nothing is answered.
    b.ip("address add 192.0.2.2/32 dev eth0");
    b.ip("route add 10.77.0.1/32 dev eth0 src 192.0.2.2");
    a.ip("route add 192.0.2.2/32 dev eth0");
    let far = dig("@10.77.0.1", &["-b", "192.0.2.2", "ours.local", "A"]);
    assert!(!far.contains("status: NOERROR"), "{far}");
}

#[test]
fn zeroconf_finds_us_and_is_found() {
    let lab = Lab::new("zeroconf");
    let (a, b) = (lab.host(1), lab.host(2));
    let ours = a.minke("ours");
    ours.until_named("ours");
    let script = |name: &str, mode: &str| {
        let mut command = b.command("/usr/bin/python3");
        command.arg(minke_tests::project().join("tests/net/zeroconf_peer.py")).args([mode, "10.77.0.2"]);
        Background::start(&lab, name, &mut command)
    };
    let found = script("browse", "browse");
    found.until("added ours._ssh._tcp.local. ours.local. 22222 10.77.0.1");
    let browser = Background::start(&lab, "ours", &mut ours.command(&["browse", "_http._tcp", "--resolve"]));
    let published = script("publish", "publish");
    browser.until("= eth0 'zero' _http._tcp zero.local 8080 10.77.0.2 \"path=/\"");
    until_has(|| ours.text(&["resolve", "zero"]), &["10.77.0.2"]);
    drop(found);
    let found = script("again", "browse");
    found.until("added ours._ssh");
    ours.stop();
    found.until("removed ours._ssh._tcp.local.");
    drop(published);
}

#[test]
fn a_flood_of_packets_takes_neither_memory_nor_the_answers() {
    let lab = Lab::new("flood");
    let (a, b, c) = (lab.host(1), lab.host(2), lab.host(3));
    let (ours, other) = (a.minke("ours"), c.minke("other"));
    ours.until_named("ours");
    other.until_named("other");
    let before = ours.resident();
    // 40,000 packets, of questions, answers with names of all kinds, and noise; from one host that pretends to be many.
    let mut flood = b.command("/usr/bin/python3");
    flood.arg(minke_tests::project().join("tests/net/mdns_flood.py")).arg("10.77.0.2");
    let flood = Background::start(&lab, "flood", &mut flood);
    flood.until("sending");
    let end = Instant::now() + LIMIT;
    while !flood.text().contains("done") && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(ours.name(), "ours");
    }
    flood.until("done");
    let after = ours.resident();
    println!("{before} KiB before, {after} KiB after; {}", ours.text(&["status"]));
    assert!(after < before + 4096, "{before} KiB before, {after} KiB after");
    let found = || other.text(&["resolve", "ours"]).contains("10.77.0.1");
    until_or("it answers", found, || ours.text(&["status"]));
    ours.until_named("ours");
}

#[test]
fn it_has_no_rights() {
    let lab = Lab::new("rights");
    let a = lab.host(1);
    let ours = a.minke("ours");
    ours.until_named("ours");
    let status = fs::read_to_string(format!("/proc/{}/status", ours.daemon.id())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{status}"));
        line.split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(field("Uid:"), ["65534"; 4]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), (vec!["1".to_owned()], vec!["2".to_owned()]));
}

#[test]
fn without_a_responder_commands_say_so() {
    let mut command = Command::new(minke_tests::release("x86_64"));
    let output = command.args(["mdns", "status", "--socket", "/nonexistent/mdns.sock"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("the responder is not running"), "{}", errors(&output));
}

#[test]
fn two_interfaces_on_one_network_are_both_known() {
    let lab = Lab::new("twice");
    let (a, b) = (lab.host(1), lab.host(2));
    a.connect("eth1");
    a.ip("address add 10.77.0.21/24 dev eth1");
    let mut command = b.command("/usr/bin/python3");
    command.arg(minke_tests::project().join("tests/net/zeroconf_peer.py")).args(["watch", "10.77.0.2"]);
    let seen = Background::start(&lab, "watch", &mut command);
    seen.until("known");
    let ours = a.minke("ours");
    let known = |addresses: &str| {
        let is = || seen.text().lines().last() == Some(&format!("known {addresses} "));
        until_or(addresses, is, || format!("{}{}", seen.text(), ours.status()));
    };
    known("10.77.0.1 10.77.0.21");
    // What one interface announces makes an end of what else has its name, unless the other says it again.
    for (address, addresses) in [
        ("10.77.0.31", "10.77.0.1 10.77.0.21 10.77.0.31"),
        ("10.77.0.32", "10.77.0.1 10.77.0.21 10.77.0.31 10.77.0.32"),
    ] {
        a.ip(&format!("address add {address}/24 dev eth1"));
        known(addresses);
        // Longer than three announcements and the second after which they count.
        std::thread::sleep(Duration::from_secs(6));
        known(addresses);
    }
}
