//! On this machine: servers, the network, two guests, and what their reports mean.

use crate::Plan;
use minke_image::arch::Arch;
use minke_image::guest::Guest;
use minke_tests::guest::{BOOT, booted, direct, sh, start};
use minke_tests::relay::{Counts, Path, Relay, Warp};
use minke_tests::time_net::{Scratch, TRUE, address, several};
use minke_tests::{foreign, netem, run as run_command, text};
use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const SERVERS: u8 = 4;
/// Where the sampler reports, beside the bad network.
const PROBE: &str = "10.77.9.9:9000";

/// A report of the guest's clocks, and when it came.
#[derive(Debug, Clone, Copy)]
struct Sample {
    raw: f64,
    real: f64,
    /// The raw clock when the answer came.
    back: Option<f64>,
    /// The true time when it was here: what the servers beyond the relays say.
    truth: f64,
}

#[derive(Debug, Default)]
struct Reports {
    samples: BTreeMap<u64, Sample>,
    /// The raw clock when the client began.
    began: f64,
    /// Seconds, KiB, times it went to sleep.
    weights: Vec<(f64, f64, f64)>,
}

type All = Arc<Mutex<BTreeMap<String, Reports>>>;

pub fn run(plan: &Plan) {
    let scratch = Scratch::new("bench");
    let _servers = several(&scratch.0, SERVERS);
    let warp = Warp { began: Instant::now(), ahead: 0, ppb: plan.ppb };
    // The relays only give the servers another clock; the network is bad in the guest.
    let path = Path { warp: Some(warp), ..Path::default() };
    let names = if plan.peer_twice { ["chronyd", "chronyd2"] } else { ["minke", "chronyd"] };
    let relays: Vec<Vec<Relay>> = (0..2).map(|guest| relays(guest, path)).collect();
    let all: All = Arc::default();
    listen(warp, Arc::clone(&all));
    let mut programs = vec![std::env::current_exe().unwrap(), "chronyd".into()];
    programs.extend(netem::PROGRAMS.map(Into::into));
    let _files = foreign::serve(&scratch.0, &programs);
    let mut guests: Vec<Guest> = (0..2).map(boot).collect();
    for (number, (guest, name)) in guests.iter_mut().zip(names).enumerate() {
        prepare(guest, plan, number as u8);
        begin(guest, plan, name);
    }
    println!(
        "{} minutes from {}",
        plan.length.as_secs() / 60,
        text(&run_command(&mut Command::new("date"))).trim()
    );
    std::thread::sleep(plan.length + Duration::from_secs(25));
    for (guest, name) in guests.iter_mut().zip(names) {
        println!("--- {name}\n{}", sh(guest, &format!("tail -n 30 {HERE}/{name}.log {HERE}/sampler.log")));
    }
    let reports = all.lock().unwrap();
    let found: Vec<Found> = names.iter().map(|name| found(&reports[*name])).collect();
    let asked: Vec<f64> = relays
        .iter()
        .map(|relays| relays.iter().map(|relay| Counts::get(&relay.counts.requests) as f64).sum())
        .collect();
    table(names, &found, &asked);
}

fn relays(guest: u8, path: Path) -> Vec<Relay> {
    (1..=SERVERS)
        .map(|number| Relay::start(address(3 + guest, number), address(TRUE, number), path, number.into()))
        .collect()
}

fn boot(number: u8) -> Guest {
    let mut settings = direct(Arch::X86_64);
    // The emulated timer that is exact; the time stamp counter is calibrated at each boot.
    settings.arguments = "clocksource=hpet tsc=unstable".to_owned();
    let more = format!(
        "-netdev user,id=net1,net=10.0.3.0/24 -device virtio-net-pci,netdev=net1,romfile= {}",
        netem::tap(number)
    );
    settings.options = more.split_whitespace().map(str::to_owned).collect();
    settings.config =
        Some(br#"{"developmentMode":true,"os":{"network":{"connectivity":{"uri":"null"}}}}"#.to_vec());
    let mut guest = start(settings);
    booted(&mut guest);
    guest
}

/// Where a client's files are in the guest.
const HERE: &str = foreign::FOLDER;

fn prepare(guest: &mut Guest, plan: &Plan, number: u8) {
    sh(
        guest,
        "for unit in chronyd timesync-https fake-hwclock-update.timer balena-supervisor balena; do systemctl stop $unit; done; true",
    );
    sh(
        guest,
        "i=0; while ! ip -4 addr show eth1 | grep -q 10.0.3.; do sleep 1; i=$((i+1)); [ $i -lt 30 ] || exit 1; done",
    );
    sh(
        guest,
        "ip route add 10.77.9.0/24 via 10.0.3.2 dev eth1; grep -q hpet /sys/devices/system/clocksource/clocksource0/current_clocksource",
    );
    foreign::fetch(guest);
    netem::begin(guest, number, "eth2", "10.77.0.0/16", "delay 20ms 5ms loss 1%");
    sh(guest, "ping -c 3 10.77.0.1");
    let net = 3 + number;
    let lines: String = (1..=SERVERS)
        .map(|server| format!("server 10.77.{net}.{server} iburst minpoll {0} maxpoll {0}\n", plan.poll))
        .collect();
    // As the reference configures it.
    let config = format!(
        "{lines}makestep 1 -1\nmaxupdateskew 100\nmaxdistance 16\nlogchange 1\nrtcsync\ndriftfile {HERE}/drift\n\
         pidfile {HERE}/pid\nbindcmdaddress /\ncmdport 0\nport 0\n"
    );
    sh(
        guest,
        &format!(
            "mkdir -p {HERE}/lists {HERE}/state; printf '{lines}' > {HERE}/lists/bench.sources; printf '{config}' > {HERE}/chrony.conf"
        ),
    );
}

fn begin(guest: &mut Guest, plan: &Plan, name: &str) {
    let client = if name == "minke" {
        format!(
            "/usr/bin/ntp run --config /dev/null --sources {HERE}/lists --state {HERE}/state --socket {HERE}/sock"
        )
    } else {
        format!("{HERE}/chronyd -d -u root -f {HERE}/chrony.conf")
    };
    let seconds = plan.length.as_secs();
    let sampler = format!(
        "env LD_LIBRARY_PATH={HERE} {HERE}/bench-ntp sample {name} {PROBE} {seconds} {} -- {client}",
        plan.offset
    );
    let output =
        guest.run(&format!("cd {HERE}; setsid {sampler} > sampler.log 2>&1 < /dev/null &"), BOOT).unwrap();
    assert_eq!(output.status, 0);
}

/// Takes reports for as long as the program runs.
fn listen(warp: Warp, all: All) {
    let socket = UdpSocket::bind(PROBE).unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((length, guest)) = socket.recv_from(&mut bytes) {
            let (moment, real) = (Instant::now(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
            let line = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let words: Vec<&str> = line.split(' ').collect();
            if words[0] == "s" {
                let _ = socket.send_to(words[2].as_bytes(), guest);
            }
            let seconds = |word: &str| word.parse::<f64>().unwrap() / 1e9;
            let truth = real.saturating_sub(Duration::from_nanos(BASE as u64)).as_secs_f64()
                + warp.ahead_at(moment) as f64 / 1e9;
            let mut all = all.lock().unwrap();
            let reports = all.entry(words[1].to_owned()).or_default();
            match words[0] {
                "s" => {
                    let (raw, real) = (seconds(words[3]), exact(words[4]));
                    let sample = Sample { raw, real, back: None, truth };
                    reports.samples.insert(words[2].parse().unwrap(), sample);
                    if let Some(before) = reports.samples.get_mut(&words[5].parse().unwrap()) {
                        before.back = Some(seconds(words[6]));
                    }
                }
                "b" => reports.began = seconds(words[2]),
                _ => reports.weights.push((number(words[2]), number(words[3]), number(words[4]))),
            }
        }
    });
}

/// Nanoseconds since 1970 from which seconds are counted, so that nanoseconds fit beside them.
const BASE: i64 = 1_790_000_000_000_000_000;

fn exact(nanoseconds: &str) -> f64 {
    (nanoseconds.parse::<i64>().unwrap() - BASE) as f64 / 1e9
}

fn number(word: &str) -> f64 {
    word.parse().unwrap()
}

/// What a client did.
#[derive(Debug)]
struct Found {
    /// Seconds from its start until the clock was within 10 ms and stayed there for a minute.
    settled: f64,
    /// Root mean square of the clock's error from two minutes on, in seconds.
    rms: f64,
    /// The same from the moment when it was within 10 ms.
    rms_all: f64,
    /// The mean of the error from two minutes on, in seconds: what a path that takes longer in one direction does to all.
    mean: f64,
    /// The largest error from two minutes on, in seconds.
    worst: f64,
    /// KiB at the end.
    pss: f64,
    /// Times it went to sleep, in the last ten minutes.
    sleeps: f64,
    /// How far single comparisons with the host scatter around the line, in seconds.
    precision: f64,
}

fn found(reports: &Reports) -> Found {
    let (slope, base, precision) = oscillator(reports);
    let errors: Vec<(f64, f64)> = reports
        .samples
        .values()
        .map(|sample| (sample.raw - reports.began, sample.real - (base + slope * sample.raw)))
        .filter(|(since, _)| *since >= 0.0)
        .collect();
    let settled = errors
        .iter()
        .map(|(since, _)| *since)
        .find(|start| {
            let minute = errors.iter().filter(|(since, _)| (*start..start + 60.0).contains(since));
            minute.clone().count() > 100 && minute.into_iter().all(|(_, error)| error.abs() <= 0.010)
        })
        .unwrap_or(f64::INFINITY);
    let rms = |from: f64| {
        let squares: Vec<f64> =
            errors.iter().filter(|(since, _)| *since >= from).map(|(_, error)| error * error).collect();
        (squares.iter().sum::<f64>() / squares.len() as f64).sqrt()
    };
    let late: Vec<f64> =
        errors.iter().filter(|(since, _)| *since >= 120.0).map(|(_, error)| *error).collect();
    let course: Vec<String> = late.iter().step_by(20).map(|error| format!("{:.0}", error * 1e6)).collect();
    println!("error each 20 s from two minutes on, in us: {}", course.join(" "));
    let last = *reports.weights.last().unwrap();
    let first = *reports.weights.iter().find(|(since, ..)| *since >= last.0 - 600.0).unwrap();
    Found {
        settled,
        rms: rms(120.0),
        rms_all: rms(settled),
        mean: late.iter().sum::<f64>() / late.len() as f64,
        worst: late.iter().map(|error| error.abs()).fold(0.0, f64::max),
        pss: last.1,
        sleeps: last.2 - first.2,
        precision,
    }
}

/// True time as a line over the guest's raw clock, by the quickest fifth of the comparisons: slope, base, and how far
/// these scatter.
fn oscillator(reports: &Reports) -> (f64, f64, f64) {
    let mut trips: Vec<(f64, f64, f64)> = reports
        .samples
        .values()
        .filter_map(|sample| {
            let back = sample.back?;
            Some((back - sample.raw, f64::midpoint(back, sample.raw), sample.truth))
        })
        .collect();
    trips.sort_by(|one, other| one.0.total_cmp(&other.0));
    trips.truncate(trips.len() / 5);
    let count = trips.len() as f64;
    let mean = |value: fn(&(f64, f64, f64)) -> f64| trips.iter().map(value).sum::<f64>() / count;
    let (raw, truth) = (mean(|trip| trip.1), mean(|trip| trip.2));
    let above: f64 = trips.iter().map(|trip| (trip.1 - raw) * (trip.2 - truth)).sum();
    let below: f64 = trips.iter().map(|trip| (trip.1 - raw).powi(2)).sum();
    let slope = above / below;
    let base = truth - slope * raw;
    let scatter: f64 = trips.iter().map(|trip| (trip.2 - base - slope * trip.1).powi(2)).sum();
    (slope, base, (scatter / count).sqrt())
}

fn table(names: [&str; 2], found: &[Found], asked: &[f64]) {
    println!("{:44} {:>12} {:>12} {:>8}", "", names[0], names[1], "ratio");
    let row = |what: &str, values: [f64; 2], unit: f64, digits: usize| {
        let [one, two] = values;
        println!("{what:44} {:12.digits$} {:12.digits$} {:8.3}", one * unit, two * unit, one / two);
    };
    let both = |value: fn(&Found) -> f64| [value(&found[0]), value(&found[1])];
    row("start to within 10 ms, in s", both(|found| found.settled), 1.0, 2);
    row("RMS error after two minutes, in ms", both(|found| found.rms), 1e3, 3);
    row("RMS error since within 10 ms, in ms", both(|found| found.rms_all), 1e3, 3);
    row("mean error after two minutes, in ms", both(|found| found.mean), 1e3, 3);
    row("largest error after two minutes, in ms", both(|found| found.worst), 1e3, 3);
    row("PSS at the end, in KiB", both(|found| found.pss), 1.0, 0);
    row("sleeps in the last ten minutes", both(|found| found.sleeps), 1.0, 0);
    row("questions in all", [asked[0], asked[1]], 1.0, 0);
    row("(scatter of the measurement itself, in ms)", both(|found| found.precision), 1e3, 3);
}
