//! In the guest: sets the clock wrong, starts a client, and reports what the clocks show to the host, over and over.
//!
//! `s NAME NUMBER RAW REAL BEFORE RAW`: the clocks when packet NUMBER was sent, and the raw clock when the answer to
//! packet BEFORE came. `b NAME RAW`: the client begins. `w NAME SECONDS PSS WAKEUPS`: its memory in KiB and how often it
//! went to sleep so far.

use minke_sys::clock;
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Samples before the client begins.
const LEAD: Duration = Duration::from_secs(10);

pub fn run(words: &[String]) {
    let [name, probe, seconds, offset, separator, program, arguments @ ..] = words else {
        panic!("{words:?}")
    };
    assert_eq!(separator, "--");
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(probe).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(80))).unwrap();
    let length: u64 = seconds.parse().unwrap();
    let offset: i64 = offset.parse().unwrap();
    let now = i64::try_from(clock::realtime().as_millis()).unwrap();
    clock::set_realtime(Duration::from_millis(u64::try_from(now + offset).unwrap())).unwrap();
    let began = Instant::now();
    let (mut number, mut answered) = (0u64, (0u64, 0u128));
    let mut child: Option<(Child, Instant)> = None;
    let mut weighed = 0;
    loop {
        let tick = Instant::now();
        if child.is_none() && began.elapsed() > LEAD {
            let log = std::fs::File::create(format!("{name}.log")).unwrap();
            let mut command = Command::new(program);
            command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            socket.send(format!("b {name} {}", raw()).as_bytes()).unwrap();
            child = Some((command.spawn().unwrap(), Instant::now()));
        }
        number += 1;
        answered = sample(&socket, name, number, answered);
        let mut pause = Duration::from_millis(100);
        if let Some((child, started)) = &child {
            let since = started.elapsed().as_secs();
            if since / 30 > weighed {
                weighed = since / 30;
                weigh(&socket, name, since, child.id());
            }
            if since >= length {
                break;
            }
            if since > 90 {
                pause = Duration::from_secs(1);
            }
        }
        std::thread::sleep(pause.saturating_sub(tick.elapsed()));
    }
    let (mut child, _) = child.unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
}

fn raw() -> u128 {
    clock::raw().as_nanos()
}

fn sample(socket: &UdpSocket, name: &str, number: u64, before: (u64, u128)) -> (u64, u128) {
    // The two clocks as close together as it gets.
    let (_, raw_sent, real) = (0..5)
        .map(|_| {
            let (first, real, last) = (raw(), clock::realtime().as_nanos(), raw());
            (last - first, u128::midpoint(first, last), real)
        })
        .min()
        .unwrap();
    let (answered, raw_answered) = before;
    let line = format!("s {name} {number} {raw_sent} {real} {answered} {raw_answered}");
    socket.send(line.as_bytes()).unwrap();
    let mut answer = [0; 64];
    // Late answers to earlier packets are dropped.
    while let Ok(length) = socket.recv(&mut answer) {
        let came = raw();
        if answer[..length] == *number.to_string().as_bytes() {
            return (number, came);
        }
    }
    (0, 0)
}

fn weigh(socket: &UdpSocket, name: &str, since: u64, id: u32) {
    let read = |file: String| std::fs::read_to_string(file).unwrap_or_default();
    let number = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0)
    };
    let pss = number(&read(format!("/proc/{id}/smaps_rollup")), "Pss:");
    let mut sleeps = 0;
    for task in std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
        let status = read(format!("{}/status", task.path().display()));
        sleeps += number(&status, "voluntary_ctxt_switches:");
    }
    socket.send(format!("w {name} {since} {pss} {sleeps}").as_bytes()).unwrap();
}
