//! `tests/bench-dns`: our forwarder beside dnsmasq and unbound. A benchmark: it prints, and asserts nothing.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod load;
mod table;

use load::{Names, Run};
use minke_tests::dns_lab::{Lab, server, soon};
use minke_tests::{Daemon, in_namespace, release};
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    seconds: u64,
    rounds: usize,
    first: bool,
}

/// A forwarder under test.
pub struct Candidate {
    name: &'static str,
    at: SocketAddr,
    process: u32,
    _daemon: Daemon,
}

fn main() {
    let mut plan = Plan { seconds: 5, rounds: 3, first: false };
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--first" {
            plan.first = true;
            continue;
        }
        let number = words.next().and_then(|text| text.parse::<u64>().ok()).unwrap_or_else(usage);
        match word.as_str() {
            "--seconds" => plan.seconds = number,
            "--rounds" => plan.rounds = number as usize,
            _ => usage(),
        }
    }
    in_namespace(|| bench(plan));
}

fn usage<T>() -> T {
    eprintln!("usage: bench-dns [--seconds N] [--rounds N] [--first]");
    std::process::exit(2)
}

fn bench(plan: Plan) {
    let lab = Lab::new("bench");
    let names = Names::write(&lab);
    let _knot = lab.knot(server(1), "bench.test", &names.zone, false);
    let mut runs = weigh(&lab, &names, plan);
    let candidates = candidates(&lab, plan, true);
    // Each is asked for every name once before anything else is measured.
    for candidate in &candidates {
        load::warm(candidate, &names, plan);
    }
    for round in 0..plan.rounds {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        let peaks: Vec<f64> =
            candidates.iter().zip(&mut runs).map(|(one, run)| run.peak(one, &names, plan)).collect();
        let equal = peaks.iter().copied().fold(f64::INFINITY, f64::min) / 2.0;
        for ((candidate, run), peak) in candidates.iter().zip(&mut runs).zip(&peaks) {
            run.equal(candidate, &names, plan, equal);
            run.most(candidate, &names, plan, peak * 0.8);
            run.uncached(candidate, round);
        }
    }
    let direct = load::direct(plan.rounds);
    table::print(&candidates.iter().map(|candidate| candidate.name).collect::<Vec<&str>>(), &runs, &direct);
}

/// The beginning of a command that runs on one core, if wished before whatever else this machine does.
pub fn pinned(core: &str, first: bool) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", core]);
    if first {
        command.args(["chrt", "--fifo", "1"]);
    }
    command
}

/// What they weigh as they are when nobody has told them anything of memory.
fn weigh(lab: &Lab, names: &Names, plan: Plan) -> Vec<Run> {
    let candidates = candidates(lab, plan, false);
    std::thread::sleep(Duration::from_millis(500));
    let mut runs: Vec<Run> = candidates.iter().map(Run::idle).collect();
    for (candidate, run) in candidates.iter().zip(&mut runs) {
        run.weigh(candidate, names, plan);
    }
    runs
}

/// Ours and the two others, each at an address of its own, on the first core, with room for all the names or with as
/// much as they take themselves.
fn candidates(lab: &Lab, plan: Plan, room: bool) -> Vec<Candidate> {
    lab.write("ours.conf", if room { "cache-size=20000\n" } else { "" });
    lab.write(
        "unbound.conf",
        "server:\n interface: 10.77.2.3\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n \
         directory: \"/\"\n access-control: 0.0.0.0/0 allow\n num-threads: 1\n do-not-query-localhost: no\n \
         module-config: \"iterator\"\n local-zone: \"test.\" nodefault\nforward-zone:\n name: \".\"\n forward-addr: 10.77.1.1\n",
    );
    let path = |name: &str| lab.path(name).display().to_string();
    let ours = format!(
        "{} dns serve --listen 10.77.2.1:53 --upstream 10.77.1.1:53 --conf {}",
        release("x86_64").display(),
        path("ours.conf")
    );
    let room = if room { "--cache-size=20000 --cache-rr=ANY" } else { "" };
    let dnsmasq = format!(
        "dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --user=root --pid-file= \
                   {room} --listen-address=10.77.2.2 --server=10.77.1.1"
    );
    let unbound = format!("unbound -d -p -c {}", path("unbound.conf"));
    let start = |(number, name, words): (u8, &'static str, &str)| {
        let mut command = pinned("0", plan.first);
        command.args(words.split_whitespace());
        let log = File::create(lab.path(&format!("{name}.log"))).unwrap();
        let daemon = Daemon::start(command.stdout(log.try_clone().unwrap()).stderr(log));
        let at = SocketAddr::from(([10, 77, 2, number], 53));
        assert!(
            soon(|| TcpStream::connect(at).is_ok()),
            "{name} does not listen; see its log in {}",
            path("")
        );
        Candidate { name, at, process: daemon.id(), _daemon: daemon }
    };
    [(1, "ours", ours.as_str()), (2, "dnsmasq", dnsmasq.as_str()), (3, "unbound", unbound.as_str())]
        .map(start)
        .into()
}
