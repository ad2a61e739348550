//! The time client beside chronyd: two guests that start two minutes wrong, each with four servers beyond the same bad
//! network, whose time runs 30 ppm faster than the guests' oscillators. Prints a table with ratios.
//!
//! How wrong a guest's clock is, is measured beside the network that the clients see: through a second device without
//! delays, against the guest's raw oscillator (`CLOCK_MONOTONIC_RAW`), which is this machine's under emulation.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod host;
mod sampler;

use std::time::Duration;

const USAGE: &str =
    "usage: bench-ntp [--minutes N] [--poll EXPONENT] [--offset MILLISECONDS] [--ppb N] [--peer-twice]";

/// What a run is made of.
#[derive(Debug, Clone)]
struct Plan {
    /// How long the clients run.
    length: Duration,
    /// Seconds between questions, as a power of two.
    poll: u8,
    /// Milliseconds by which the guests' clocks are ahead at the start.
    offset: i64,
    /// Parts per billion by which the servers run faster than the guests.
    ppb: i64,
    /// chronyd in both guests: what the measurement itself differs by.
    peer_twice: bool,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "sample") {
        return sampler::run(&words[1..]);
    }
    let mut plan =
        Plan { length: Duration::from_secs(900), poll: 4, offset: -120_000, ppb: 30_000, peer_twice: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|text| text.parse::<i64>().ok()).unwrap_or_else(usage);
        match word.as_str() {
            "--minutes" => plan.length = Duration::from_secs(number() as u64 * 60),
            "--poll" => plan.poll = number() as u8,
            "--offset" => plan.offset = number(),
            "--ppb" => plan.ppb = number(),
            "--peer-twice" => plan.peer_twice = true,
            _ => usage(),
        }
    }
    minke_tests::in_namespace(|| host::run(&plan));
}

fn usage<T>() -> T {
    eprintln!("{USAGE}");
    std::process::exit(2)
}
