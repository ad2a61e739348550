use super::*;
use crate::ring::{CHUNK, Stamp};

fn host() -> Host {
    Host { boot: "b00t".into(), run: "5e1f".into() }
}

/// Entries 1 to `count`: time = number, alternating units, every tenth an error.
fn ring(count: u64) -> Ring {
    let mut ring = Ring::new(64 * CHUNK);
    for number in 1..=count {
        add(&mut ring, number);
    }
    ring
}

fn add(ring: &mut Ring, number: u64) {
    let message = format!("{number} {}", "x".repeat(50));
    let unit: &[u8] = if number.is_multiple_of(2) { b"even.service" } else { b"odd.service" };
    let priority: &[u8] = if number.is_multiple_of(10) { b"3" } else { b"6" };
    let stamp = Stamp { realtime: 1_000_000 + number, monotonic: number };
    ring.append(
        stamp,
        &[(b"MESSAGE", message.as_bytes()), (b"_SYSTEMD_UNIT", unit), (b"PRIORITY", priority)],
    );
}

fn numbers(scan: &mut Scan, ring: &Ring) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        match scan.step(ring) {
            Step::Entry(entry) => numbers.push(entry.number),
            Step::Busy => {}
            Step::Lost(count) => numbers.push(u64::MAX - count),
            Step::Idle | Step::Done => return numbers,
        }
    }
}

fn run(query: &Query, ring: &Ring) -> Vec<u64> {
    numbers(&mut Scan::new(Box::new(query.clone()), ring, &host()).unwrap(), ring)
}

fn query() -> Query {
    Query::default()
}

#[test]
fn everything_forwards_backwards_and_the_last_lines() {
    let ring = ring(5_000);
    assert_eq!(run(&query(), &ring), (1..=5_000).collect::<Vec<_>>());
    assert_eq!(run(&Query { reverse: true, ..query() }, &ring), (1..=5_000).rev().collect::<Vec<_>>());
    assert_eq!(run(&Query { lines: Some(3), ..query() }, &ring), [4_998, 4_999, 5_000]);
    assert_eq!(run(&Query { lines: Some(2), reverse: true, ..query() }, &ring), [5_000, 4_999]);
    assert_eq!(run(&Query { lines: Some(0), ..query() }, &ring), Vec::<u64>::new());
    assert_eq!(run(&Query { lines: Some(9_999), ..query() }, &ring).len(), 5_000);
}

#[test]
fn conditions() {
    let ring = ring(5_000);
    let even = Query { units: vec!["even.service".into()], lines: Some(2), ..query() };
    assert_eq!(run(&even, &ring), [4_998, 5_000]);
    let errors = Query { priority: Some((0, 3)), lines: Some(2), reverse: true, ..query() };
    assert_eq!(run(&errors, &ring), [5_000, 4_990]);
    let odd_errors = Query { units: vec!["odd.service".into()], priority: Some((0, 3)), ..query() };
    assert_eq!(run(&odd_errors, &ring), Vec::<u64>::new());
    let either = Query {
        matches: vec![("PRIORITY".into(), "3".into()), ("PRIORITY".into(), "6".into())],
        lines: Some(1),
        ..query()
    };
    assert_eq!(run(&either, &ring), [5_000]);
    let identifier = Query { identifiers: vec!["none".into()], ..query() };
    assert_eq!(run(&identifier, &ring), Vec::<u64>::new());
}

#[test]
fn times_and_boots() {
    let ring = ring(5_000);
    let span = Query { since: Some(1_000_100), until: Some(1_000_102), ..query() };
    assert_eq!(run(&span, &ring), [100, 101, 102]);
    assert_eq!(run(&Query { reverse: true, ..span.clone() }, &ring), [102, 101, 100]);
    assert_eq!(run(&Query { lines: Some(2), ..span }, &ring), [101, 102]);
    let late = Query { since: Some(1_004_999), ..query() };
    assert_eq!(run(&late, &ring), [4_999, 5_000]);
    let monotonic = Query { since_monotonic: Some(10), until_monotonic: Some(11), ..query() };
    assert_eq!(run(&monotonic, &ring), [10, 11]);
    for (boot, count) in [("0", 5_000), ("b00t", 5_000), ("other", 0)] {
        assert_eq!(run(&Query { boot: Some(boot.into()), ..query() }, &ring).len(), count);
        let matches = vec![("_BOOT_ID".into(), if boot == "0" { "b00t" } else { boot }.into())];
        assert_eq!(run(&Query { matches, ..query() }, &ring).len(), count);
    }
}

#[test]
fn a_cursor_continues_also_after_a_restart_or_a_boot() {
    let ring = ring(5_000);
    let mut place = ring.near(3_000);
    let entry = loop {
        match ring.advance(&mut place) {
            Found::Entry(entry) if entry.number == 4_990 => break entry,
            Found::Entry(_) => {}
            _ => panic!("no entry"),
        }
    };
    let text = cursor(entry, &host());
    let after = |text: String| run(&Query { after_cursor: Some(text), ..query() }, &ring);
    let expected: Vec<u64> = (4_991..=5_000).collect();
    assert_eq!(after(text.clone()), expected);
    assert_eq!(after(text.replace("s=5e1f", "s=0").replace("i=137e", "i=1")), expected, "{text}");
    assert_eq!(
        after(text.replace("s=5e1f", "s=0").replace("b=b00t", "b=0").replace("m=137e", "m=1")),
        expected
    );
    assert_eq!(run(&Query { after_cursor: Some(text), lines: Some(1), ..query() }, &ring), [5_000]);
    let bad = Query { after_cursor: Some("nonsense".into()), ..query() };
    assert!(Scan::new(Box::new(bad), &ring, &host()).is_err());
}

#[test]
fn a_follower_gets_what_comes_and_hears_of_what_it_missed() {
    let mut ring = Ring::new(2 * CHUNK);
    let mut scan =
        Scan::new(Box::new(Query { follow: true, lines: Some(1), ..query() }), &ring, &host()).unwrap();
    assert_eq!(numbers(&mut scan, &ring), Vec::<u64>::new());
    add(&mut ring, 1);
    assert_eq!(numbers(&mut scan, &ring), [1]);
    for number in 2..=10_000 {
        add(&mut ring, number);
    }
    let got = numbers(&mut scan, &ring);
    let lost = u64::MAX - got[0];
    assert!(lost > 1_000);
    assert_eq!(got[1], 2 + lost);
    assert_eq!(got.len() as u64 + lost, 10_000);
}

#[test]
fn messages_of_pid_1_and_of_root_about_a_unit() {
    let mut ring = Ring::new(0);
    let unit = b"a.service";
    ring.append(Stamp::default(), &[(b"UNIT", unit), (b"_PID", b"1")]);
    ring.append(Stamp::default(), &[(b"UNIT", unit), (b"_PID", b"2")]);
    ring.append(Stamp::default(), &[(b"OBJECT_SYSTEMD_UNIT", unit), (b"_UID", b"0")]);
    ring.append(Stamp::default(), &[(b"OBJECT_SYSTEMD_UNIT", unit), (b"_UID", b"1000")]);
    assert_eq!(run(&Query { units: vec!["a.service".into()], ..query() }, &ring), [1, 3]);
}
