//! What the daemon promises under load, abuse and restarts.

use crate::daemon::{Daemon, PATIENCE};
use minke_control::journal::{Entries, Item, Query, query};
use minke_sys::socket;
use minke_wire::journal::{Header, encode_field, encode_header};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixDatagram, UnixStream};

fn native(daemon: &Daemon) -> UnixDatagram {
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(daemon.path("run/systemd/journal/socket")).unwrap();
    socket
}

fn message(text: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut datagram = Vec::new();
    encode_field(&mut datagram, "MESSAGE", text.as_bytes());
    for (name, value) in fields {
        encode_field(&mut datagram, name, value.as_bytes());
    }
    datagram
}

fn stream(daemon: &Daemon, unit: &str) -> UnixStream {
    let mut stream = UnixStream::connect(daemon.path("run/systemd/journal/stdout")).unwrap();
    let header = Header {
        identifier: b"prog".to_vec(),
        unit: unit.as_bytes().to_vec(),
        priority: 30,
        level_prefix: true,
        ..Header::default()
    };
    stream.write_all(&encode_header(&header)).unwrap();
    stream
}

fn ask(daemon: &Daemon, question: &Query) -> Entries {
    let entries = query(&daemon.query_socket(), question).unwrap();
    entries.socket().set_read_timeout(Some(PATIENCE)).unwrap();
    entries
}

#[test]
fn the_unit_of_a_stream_is_what_pid_1_says() {
    let daemon = Daemon::start("unit");
    let mut stream = stream(&daemon, "a.service");
    stream.write_all(b"first\n<4>warn\nsplit ").unwrap();
    stream.write_all(b"line\n").unwrap();
    daemon.show_until(&["-u", "a"], "split line");
    assert_eq!(daemon.show(&["-u", "a", "-o", "cat"]), "first\nwarn\nsplit line\n");
    assert_eq!(daemon.show(&["-u", "a.service", "-p", "4", "-o", "cat"]), "warn\n");
    assert_eq!(daemon.show(&["-u", "b"]), "-- No entries --\n");
    let shown = daemon.show(&["-u", "a", "-n", "1", "-o", "json"]);
    let json: minke_wire::json::Value = minke_wire::json::parse_str(&shown).unwrap();
    assert_eq!((&json["PRIORITY"], &json["SYSLOG_FACILITY"]), (&"6".into(), &"3".into()));
}

#[test]
fn a_follower_sees_new_lines_and_only_those_that_match() {
    let daemon = Daemon::start("follow");
    let socket = native(&daemon);
    for number in 0..12 {
        socket.send(&message(&format!("old {number}"), &[("CONTAINER_ID_FULL", "abc")])).unwrap();
    }
    daemon.show_until(&["CONTAINER_ID_FULL=abc"], "old 11");
    let mut follower = daemon.follow(&["CONTAINER_ID_FULL=abc", "-o", "cat"]);
    for number in 2..12 {
        assert_eq!(follower.line(), format!("old {number}\n"));
    }
    for number in 0..100 {
        socket.send(&message("other", &[("CONTAINER_ID_FULL", "def")])).unwrap();
        socket.send(&message(&format!("new {number}"), &[("CONTAINER_ID_FULL", "abc")])).unwrap();
        assert_eq!(follower.line(), format!("new {number}\n"));
    }
}

#[test]
fn a_follower_that_does_not_read_costs_no_memory_and_is_told_what_it_missed() {
    let daemon = Daemon::start_with("slow", &["--kmsg", "none", "--limit", "1048576"]);
    let socket = native(&daemon);
    let follow = || {
        let mut entries = ask(&daemon, &Query { follow: true, lines: Some(1), ..Query::default() });
        assert!(matches!(entries.next(), Some(Ok(Item::Entry(_)))));
        entries
    };
    let followers: Vec<Entries> = (0..20).map(|_| follow()).collect();
    let text = "x".repeat(2_000);
    for number in 0..10_000u32 {
        // Each source below its rate limit.
        socket.send(&message(&text, &[("CONTAINER_ID_FULL", &format!("{}", number % 100))])).unwrap();
    }
    socket.send(&message("last", &[])).unwrap();
    daemon.show_until(&["-n", "1", "-o", "cat"], "last");
    let memory = daemon.private_memory();
    assert!(memory < 4_096, "{memory} KiB for 20 MB of messages and 20 slow followers");
    for entries in followers {
        let (mut count, mut lost) = (0, 0);
        for item in entries {
            match item.unwrap() {
                Item::Lost(some) => lost += some,
                Item::Entry(entry) => {
                    count += 1;
                    if entry.text("MESSAGE").as_deref() == Some("last") {
                        break;
                    }
                }
            }
        }
        assert!(lost > 5_000, "lost {lost}");
        assert_eq!(count + lost, 10_001);
    }
}

#[test]
fn a_loud_source_is_limited_and_others_are_not() {
    let daemon = Daemon::start("loud");
    let socket = native(&daemon);
    for number in 0..10_050 {
        socket.send(&message(&number.to_string(), &[("CONTAINER_ID_FULL", "loud")])).unwrap();
    }
    socket.send(&message("quiet", &[("CONTAINER_ID_FULL", "quiet")])).unwrap();
    daemon.show_until(&["CONTAINER_ID_FULL=quiet"], "quiet");
    assert_eq!(daemon.show(&["CONTAINER_ID_FULL=loud", "-o", "cat"]).lines().count(), 10_000);
    assert_eq!(daemon.show(&["CONTAINER_ID_FULL=loud", "-o", "cat", "-n", "1"]), "9999\n");
}

#[test]
fn a_message_in_a_memory_file_arrives_and_other_files_are_refused() {
    let daemon = Daemon::start("memory");
    let socket = native(&daemon);
    let content = message("in memory", &[("A", "1")]);
    let file = socket::sealed_memory("message", &content).unwrap();
    socket::send(&socket, b"", &[file.as_fd()]).unwrap();
    assert_eq!(daemon.show_until(&["A=1", "-o", "cat"], "in memory"), "in memory\n");
    let (never_ready, _other) = UnixStream::pair().unwrap();
    socket::send(&socket, b"", &[never_ready.as_fd()]).unwrap();
    daemon.show_until(&["-p", "4", "-o", "cat"], "could not be read");
}

#[test]
fn after_sigkill_everything_works_again() {
    let mut daemon = Daemon::start("kill");
    let mut old = stream(&daemon, "a.service");
    old.write_all(b"before\n").unwrap();
    daemon.show_until(&["-u", "a"], "before");
    let shown = daemon.show(&["-u", "a", "-o", "json"]);
    let cursor = minke_wire::json::parse_str(&shown).unwrap()["__CURSOR"].as_str().unwrap().to_owned();
    let mut follower = daemon.follow(&["-u", "a", "-o", "cat"]);
    assert_eq!(follower.line(), "before\n");
    daemon.restart();
    assert_eq!(follower.line(), "", "the follower's stream has ended");
    assert!(old.write_all(b"lost\n").is_err(), "the service's stream is broken");
    stream(&daemon, "a.service").write_all(b"after\n").unwrap();
    native(&daemon).send(&message("native", &[])).unwrap();
    let syslog = UnixDatagram::unbound().unwrap();
    syslog.send_to(b"<13>tag: syslog", daemon.path("log")).unwrap();
    daemon.show_until(&[], "native");
    daemon.show_until(&["-t", "tag"], "syslog");
    daemon.show_until(&["-u", "a"], "after");
    assert_eq!(daemon.show(&["-u", "a", "-o", "cat", "--after-cursor", &cursor]), "after\n");
}

#[test]
fn garbage_on_every_socket_does_not_stop_it() {
    let mut daemon = Daemon::start("garbage");
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut noise = |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    let (socket, syslog) = (native(&daemon), UnixDatagram::unbound().unwrap());
    syslog.connect(daemon.path("log")).unwrap();
    let seeds: [&[u8]; 4] = [
        b"MESSAGE\n\x05\0\0\0\0\0\0\0hello\nPRIORITY=3\n",
        b"<13>Nov 20 23:59:15 tag[1]: x",
        b"prog\na.service\n30\n1\n0\n0\n0\nline\n<3>x\n",
        b"{\"unit\":[\"a\"],\"lines\":5,\"after_cursor\":\"s=1;i=2\"}\n",
    ];
    for _ in 0..2_000 {
        for (index, seed) in seeds.iter().enumerate() {
            let mut bytes = seed.to_vec();
            for _ in 0..3 {
                let at = noise(bytes.len() as u64) as usize;
                bytes[at] = noise(256) as u8;
            }
            match index {
                0 => drop(socket.send(&bytes).unwrap()),
                1 => drop(syslog.send(&bytes).unwrap()),
                2 => drop(
                    UnixStream::connect(daemon.path("run/systemd/journal/stdout")).unwrap().write(&bytes),
                ),
                _ => {
                    let mut stream = UnixStream::connect(daemon.query_socket()).unwrap();
                    let _ = stream.write(&bytes);
                    stream.shutdown(std::net::Shutdown::Write).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    let _ = stream.take(100_000).read_to_end(&mut Vec::new());
                }
            }
        }
    }
    assert!(daemon.child.try_wait().unwrap().is_none());
    native(&daemon).send(&message("still here", &[])).unwrap();
    daemon.show_until(&["-n", "5", "-a"], "still here");
}

#[test]
fn a_wrong_query_is_refused_with_a_reason() {
    let daemon = Daemon::start("refuse");
    let mut stream = UnixStream::connect(daemon.query_socket()).unwrap();
    stream.write_all(b"{\"colour\":1}\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "{\"error\":\"member 'colour' of the query makes no sense\"}\n");
    let output = daemon.journalctl(&["--since", "soon"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("'soon' is no time"));
}

#[test]
fn sockets_that_the_service_manager_passes_are_used() {
    let folder = std::env::temp_dir().join(format!("minke-journald-passed-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(folder.join("systemd/journal")).unwrap();
    let script = r#"
import os, socket, sys
folder, program = sys.argv[1:3]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(folder + "/systemd/journal/socket")
s2 = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s2.connect(folder + "/systemd/journal/socket")
s2.send(b"MESSAGE=before it started\n")
os.set_inheritable(s.fileno(), True)
os.dup2(s.fileno(), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(program, [program, "journald", "--runtime-dir", folder, "--kmsg", "none", "--dev-log", "none"])
"#;
    let example = crate::daemon::program("journald").get_program().to_owned();
    let mut child =
        std::process::Command::new("python3").args(["-c", script]).arg(&folder).arg(example).spawn().unwrap();
    let begin = std::time::Instant::now();
    let found = loop {
        let entries = query(&folder.join("minke/journald.sock"), &Query::default());
        let mut messages = entries.into_iter().flatten().filter_map(|item| match item {
            Ok(Item::Entry(entry)) => entry.text("MESSAGE"),
            _ => None,
        });
        if messages.any(|message| message == "before it started") {
            break true;
        }
        if begin.elapsed() > PATIENCE {
            break false;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    };
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
    assert!(found);
}
