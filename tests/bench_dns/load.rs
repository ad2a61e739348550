//! The names, the loads, and what is counted of them.

use crate::{Candidate, Plan};
use minke_tests::Random;
use minke_tests::dns_lab::{Lab, Load, hear, processor_time, pss, server};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const HOSTS: usize = 4_000;
const QUESTIONS: usize = 200_000;
/// Names that nobody has asked for, per candidate and round.
const FRESH: usize = 3_000;

/// Files of names.
pub struct Names {
    pub zone: String,
    folder: PathBuf,
}

impl Names {
    /// 4,000 hosts, asked for by Zipf's law (the n-th name 1/n as often as the first), for A, AAAA, HTTPS and PTR; one
    /// question in twenty is for what does not exist.
    pub fn write(lab: &Lab) -> Self {
        let mut zone = "$ORIGIN bench.test.\n$TTL 3600\n@ SOA ns hostmaster 1 3600 600 86400 3600\n@ NS ns\nns A 10.77.1.1\n*.wild A 192.0.2.9\n".to_owned();
        for host in 0..HOSTS {
            let (high, low) = (host / 250, host % 250 + 1);
            zone +=
                &format!("host-{host} A 198.18.{high}.{low}\nhost-{host} AAAA 2001:db8::{high:x}:{low:x}\n");
            zone += &format!("{low}.{high}.reverse PTR host-{host}\n");
            if host % 3 == 0 {
                zone += &format!("host-{host} HTTPS 1 . alpn=h2\n");
            }
        }
        let (mut random, mut asked, mut all) = (Random::new(5), String::new(), String::new());
        let harmonic: Vec<f64> = (1..=HOSTS)
            .scan(0.0, |sum, rank| {
                *sum += 1.0 / rank as f64;
                Some(*sum)
            })
            .collect();
        for _ in 0..QUESTIONS {
            let point = random.below(1 << 30) as f64 / (1u64 << 30) as f64 * harmonic[HOSTS - 1];
            let rank = harmonic.partition_point(|sum| *sum < point).min(HOSTS - 1);
            // The popular ones lie anywhere.
            let host = rank * 2_657 % HOSTS;
            asked += &question(host, random.below(100));
        }
        for host in 0..HOSTS {
            for share in [0, 60, 90, 94, 99] {
                all += &question(host, share);
            }
        }
        lab.write("asked", asked);
        lab.write("all", all);
        let mut random_names = String::new();
        for _ in 0..200_000 {
            random_names +=
                &format!("{:x}{:x}.wild.bench.test A\n", random.below(1 << 31), random.below(1 << 31));
        }
        lab.write("random", random_names);
        Self { zone, folder: lab.path("") }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn question(host: usize, share: usize) -> String {
    match share {
        0..55 => format!("host-{host}.bench.test A\n"),
        55..85 => format!("host-{host}.bench.test AAAA\n"),
        85..93 => format!("host-{host}.bench.test HTTPS\n"),
        93..95 => format!("{}.{}.reverse.bench.test PTR\n", host % 250 + 1, host / 250),
        _ => format!("none-{host}.bench.test A\n"),
    }
}

/// What was measured of a candidate; one entry a round.
#[derive(Debug, Default)]
pub struct Run {
    /// Answers a second of processor time.
    pub per_processor_second: Vec<f64>,
    /// Answers a second.
    pub peak: Vec<f64>,
    /// Seconds, at equal load: the median and what 99 % do not exceed.
    pub median: Vec<f64>,
    pub p99: Vec<f64>,
    /// The same at 80 % of the own peak, and questions lost then.
    pub own_median: Vec<f64>,
    pub own_p99: Vec<f64>,
    pub lost: Vec<f64>,
    pub offered: Vec<f64>,
    /// The median of questions that are not in the cache.
    pub uncached: Vec<f64>,
    /// KiB.
    pub idle: u64,
    pub warm: u64,
    pub flooded: u64,
}

fn load(at: SocketAddr, file: &Path, options: &str, plan: Plan) -> Load {
    let mut command = crate::pinned("1", plan.first);
    command.arg("dnsperf");
    let load = Load::by(command, at, file, options);
    let name = file.file_name().unwrap_or_default().display();
    eprintln!("  {} {name} {options}: {:.0} a second, {} lost", at.ip(), load.per_second, load.lost);
    load
}

/// Asks for every name.
pub fn warm(candidate: &Candidate, names: &Names, plan: Plan) {
    load(candidate.at, &names.file("all"), "-c 4 -q 50 -n 1", plan);
    load(candidate.at, &names.file("asked"), "-c 4 -q 50 -n 1", plan);
}

impl Run {
    pub fn idle(candidate: &Candidate) -> Self {
        Self { idle: pss(candidate.process), ..Self::default() }
    }

    /// As fast as it can; its answers a second.
    pub fn peak(&mut self, candidate: &Candidate, names: &Names, plan: Plan) -> f64 {
        let before = processor_time(candidate.process);
        let load =
            load(candidate.at, &names.file("asked"), &format!("-c 16 -q 200 -l {}", plan.seconds), plan);
        // Ticks of 10 ms.
        let used = (processor_time(candidate.process) - before) as f64 / 100.0;
        self.per_processor_second.push(load.completed as f64 / used);
        self.peak.push(load.per_second);
        load.per_second
    }

    /// At a load that is the same for all.
    pub fn equal(&mut self, candidate: &Candidate, names: &Names, plan: Plan, rate: f64) {
        let load = at_rate(candidate, names, plan, rate);
        self.median.push(load.latency(500));
        self.p99.push(load.latency(990));
    }

    /// At a share of its own peak.
    pub fn most(&mut self, candidate: &Candidate, names: &Names, plan: Plan, rate: f64) {
        let load = at_rate(candidate, names, plan, rate);
        self.own_median.push(load.latency(500));
        self.own_p99.push(load.latency(990));
        self.lost.push(load.lost as f64);
        self.offered.push(load.per_second);
    }

    /// One question after the other, none of them in the cache.
    pub fn uncached(&mut self, candidate: &Candidate, round: usize) {
        self.uncached.push(one_by_one(candidate.at, &format!("fresh-{round}")));
    }

    /// Its memory when it has been asked for every name, and after a flood of random ones.
    pub fn weigh(&mut self, candidate: &Candidate, names: &Names, plan: Plan) {
        warm(candidate, names, plan);
        self.warm = pss(candidate.process);
        load(candidate.at, &names.file("random"), "-c 16 -q 100 -n 1 -t 3", plan);
        self.flooded = pss(candidate.process);
    }
}

fn at_rate(candidate: &Candidate, names: &Names, plan: Plan, rate: f64) -> Load {
    load(
        candidate.at,
        &names.file("asked"),
        // As many under way as everybody's queue holds: what is lost in a first burst would not count as late, and keep
        // those that follow from waiting.
        &format!("-c 16 -q 200 -v -Q {rate:.0} -l {}", plan.seconds),
        plan,
    )
}

/// The median of the times of questions for names that nobody has asked for, one after the other, in seconds.
fn one_by_one(at: SocketAddr, label: &str) -> f64 {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(at).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut times: Vec<f64> = (0..FRESH)
        .map(|number| {
            let mut question = vec![1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            for part in [&format!("{label}-{number}"), "wild", "bench", "test", ""] {
                question.push(part.len() as u8);
                question.extend_from_slice(part.as_bytes());
            }
            question.extend([0, 1, 0, 1]);
            let begun = Instant::now();
            socket.send(&question).unwrap();
            hear(&socket).unwrap();
            begun.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_unstable_by(f64::total_cmp);
    times[FRESH / 2]
}

/// The same, asked at the server itself.
pub fn direct(rounds: usize) -> Vec<f64> {
    (0..rounds).map(|round| one_by_one(server(1), &format!("direct-{round}"))).collect()
}
