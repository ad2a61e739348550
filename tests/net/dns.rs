//! The DNS forwarder between dig and dnsmasq.

use minke_tests::{Daemon, free_port, release, text};
use std::process::Command;

/// dnsmasq that answers `NAME.test` with 192.0.2.7, on loopback.
fn dnsmasq(port: u16) -> Daemon {
    let mut command = Command::new("dnsmasq");
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
    ]);
    command.args(["--listen-address=127.0.0.1", "--address=/test/192.0.2.7", "--user=root", "--pid-file="]);
    command.arg(format!("--port={port}"));
    Daemon::start(&mut command)
}

fn minke(port: u16, upstreams: &[u16]) -> Daemon {
    let mut command = Command::new(release("x86_64"));
    command.args(["dns", "serve", "--listen", &format!("127.0.0.1:{port}")]);
    for upstream in upstreams {
        command.args(["--upstream", &format!("127.0.0.1:{upstream}")]);
    }
    Daemon::start(&mut command)
}

fn dig(port: u16, options: &[&str]) -> String {
    let port = port.to_string();
    let mut command = Command::new("dig");
    command.args(["@127.0.0.1", "-p", &port, "+time=8", "+tries=1"]).args(options);
    text(&command.output().unwrap())
}

/// Waits until the server at `port` answers at all.
fn settle(port: u16) {
    for _ in 0..50 {
        if dig(port, &["+time=1", "ready.test", "+short"]).contains("192.0.2.7") {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("nothing answers at port {port}");
}

#[test]
fn answers_come_through_over_udp_and_tcp() {
    let (server, port) = (free_port(), free_port());
    let (_dnsmasq, _minke) = (dnsmasq(server), minke(port, &[server]));
    settle(port);
    assert_eq!(dig(port, &["board.test", "+short"]).trim(), "192.0.2.7");
    assert_eq!(dig(port, &["board.test", "+short", "+tcp"]).trim(), "192.0.2.7");
    let answer = |port| dig(port, &["board.test", "AAAA", "+noall", "+comments", "+answer"]);
    let status = |text: String| text.split("status: ").nth(1).map(|rest| rest[..8].to_owned());
    assert!(status(answer(server)).is_some());
    assert_eq!(status(answer(port)), status(answer(server)));
}

#[test]
fn a_dead_server_gives_way_to_a_live_one() {
    let (dead, server, port) = (free_port(), free_port(), free_port());
    let (_dnsmasq, _minke) = (dnsmasq(server), minke(port, &[dead, server]));
    settle(port);
    assert_eq!(dig(port, &["board.test", "+short"]).trim(), "192.0.2.7");
    assert_eq!(dig(port, &["board.test", "+short", "+tcp"]).trim(), "192.0.2.7");
}

#[test]
fn without_any_server_the_client_is_told() {
    let (dead, port) = (free_port(), free_port());
    let _minke = minke(port, &[dead]);
    let mut answer = String::new();
    for _ in 0..50 {
        answer = dig(port, &["board.test"]);
        if answer.contains("status:") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(answer.contains("status: SERVFAIL"), "{answer}");
}
