//! What the tests of names share: the forwarder, servers and clients of others, each at an address of its own in the
//! namespace of its test.
//!
//! Everything listens on port 53, as in the field: the forwarder at 10.77.0.53, servers at 10.77.1.x.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use crate::time_net::Scratch;
use crate::{Daemon, release, run, text};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Where the forwarder listens.
pub const HERE: &str = "10.77.0.53";

/// A question that the forwarder answers by itself.
const LOCALHOST: &[u8] = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x09localhost\0\0\x01\0\x01";

/// The address of server `number`, over IPv4.
pub fn server(number: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 77, 1, number), 53).into()
}

/// The same over IPv6.
pub fn server6(number: u8) -> SocketAddr {
    (Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 1, number.into()), 53).into()
}

/// The forwarder's address.
pub fn here() -> SocketAddr {
    (Ipv4Addr::new(10, 77, 0, 53), 53).into()
}

/// The forwarder's address over IPv6.
pub fn here6() -> SocketAddr {
    (Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x53), 53).into()
}

/// A folder for the files of all that a test starts.
#[derive(Debug)]
pub struct Lab(Scratch);

/// The forwarder, with a folder as its `/etc` and one as its `/run`.
#[derive(Debug)]
pub struct Forwarder {
    daemon: Daemon,
    log: PathBuf,
}

impl Lab {
    /// Makes it, in the test's namespace. The name keeps tests apart.
    pub fn new(name: &str) -> Self {
        let lab = Self(Scratch::new(&format!("dns-{name}")));
        // Of IPv6 a route alone does not let programs listen.
        for address in (1..=4).map(server6).chain([here6()]) {
            run(Command::new("ip").args([
                "address",
                "replace",
                &format!("{}/128", address.ip()),
                "dev",
                "lo",
                "nodad",
            ]));
        }
        // Without it glibc believes that there is no IPv4 (AI_ADDRCONFIG), and dnsperf with it.
        run(Command::new("ip").args(["address", "replace", "10.77.200.1/32", "dev", "lo"]));
        for folder in ["etc/dnsmasq.d", "etc/ssl/certs", "run/resolvconf/interface", "run/minke/names"] {
            std::fs::create_dir_all(lab.path(folder)).unwrap();
        }
        lab.write("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n");
        lab.write("etc/hostname", "board\n");
        lab.write("etc/resolv.conf", "nameserver 127.0.0.2\n");
        lab.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
        lab
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    /// Writes a file; readers see the old or the new one.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let fresh = self.path(&format!("{name}.new"));
        std::fs::write(&fresh, content).unwrap();
        std::fs::rename(fresh, self.path(name)).unwrap();
    }

    /// Runs a script in the folder.
    pub fn sh(&self, script: &str) -> String {
        text(&run(Command::new("sh").args(["-ec", script]).current_dir(&self.0.0)))
    }

    /// A program whose `/etc` and `/run` are the lab's, on a host named `board`, its output in `NAME.log`.
    pub fn inside(&self, name: &str, program: &[&str]) -> Command {
        let script =
            "hostname board; mount --bind \"$1/run\" /run; mount --bind \"$1/etc\" /etc; shift; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "--uts", "sh", "-ec", script, "sh"]).arg(&self.0.0).args(program);
        let log = File::create(self.path(&format!("{name}.log"))).unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    /// The forwarder by hand, at [`here`] and [`here6`], with these servers.
    pub fn by_hand(&self, servers: &[SocketAddr]) -> Forwarder {
        let mut words = vec!["serve".to_owned()];
        for address in [here(), here6()] {
            words.extend(["--listen".to_owned(), address.to_string()]);
        }
        for address in servers {
            words.extend(["--upstream".to_owned(), address.to_string()]);
        }
        self.forwarder(&words, here())
    }

    /// The forwarder as in the system, by the lab's files, at 127.0.0.2. `servers` is what stands in
    /// `/run/dnsmasq.servers`, `options` in a file of `/etc/dnsmasq.d`.
    pub fn by_files(&self, servers: &str, options: &str) -> Forwarder {
        self.write("run/dnsmasq.servers", format!("\n{servers}"));
        self.write("etc/dnsmasq.d/test.conf", options);
        self.sh("ln -sf /run/resolvconf/interface/NetworkManager etc/resolv.dnsmasq");
        self.forwarder(&["serve".to_owned()], in_system())
    }

    fn forwarder(&self, words: &[String], at: SocketAddr) -> Forwarder {
        let binary = release("x86_64");
        let mut program = vec![binary.to_str().unwrap(), "dns"];
        program.extend(words.iter().map(String::as_str));
        let forwarder =
            Forwarder { daemon: Daemon::start(&mut self.inside("dns", &program)), log: self.path("dns.log") };
        listens(at, &forwarder.daemon, || forwarder.log());
        // It listens at one address after the other, and answers when it does at all.
        let answers = || ask_within(at, LOCALHOST, Duration::from_secs(1)).is_some();
        assert!(soon(answers), "no answer from {at}: {}", forwarder.log());
        forwarder
    }

    /// What a command of the applet `dns` says, beside the forwarder that runs in this lab.
    pub fn dns(&self, words: &str) -> String {
        let binary = release("x86_64");
        let mut program = vec![binary.to_str().unwrap(), "dns"];
        program.extend(words.split(' '));
        let status = self.inside("command", &program).status().unwrap();
        let said = std::fs::read_to_string(self.path("command.log")).unwrap();
        assert!(status.success(), "dns {words}: {said}");
        said
    }

    /// dnsmasq with these options.
    pub fn dnsmasq(&self, at: SocketAddr, options: &[&str]) -> Daemon {
        let mut command = Command::new("dnsmasq");
        let common = "--keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --user=root --pid-file=";
        command.args(common.split(' ')).args(options);
        command.arg(format!("--listen-address={}", at.ip())).arg(format!("--port={}", at.port()));
        self.start(at, "dnsmasq", command)
    }

    /// unbound with these lines in its section `server`.
    pub fn unbound(&self, at: SocketAddr, lines: &str, more: &str) -> Daemon {
        let name = format!("unbound-{}", at.ip()).replace(':', "_");
        let config = format!(
            "server:\n interface: {ip}@{port}\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n \
             use-syslog: no\n directory: \"{folder}\"\n access-control: 0.0.0.0/0 allow\n access-control: ::/0 allow\n \
             num-threads: 1\n do-not-query-localhost: no\n module-config: \"iterator\"\n{lines}\n{more}\n",
            ip = at.ip(),
            port = at.port(),
            folder = self.0.0.display(),
        );
        self.write(&format!("{name}.conf"), config);
        let mut command = Command::new("unbound");
        command.args(["-d", "-p", "-c"]).arg(self.path(&format!("{name}.conf")));
        self.start(at, &name, command)
    }

    /// knot with `zone`, whose file's content is `records`, signed if wished.
    pub fn knot(&self, at: SocketAddr, zone: &str, records: &str, signed: bool) -> Daemon {
        let name = format!("knot-{}", at.ip()).replace(':', "_");
        let folder = self.path(&name);
        std::fs::create_dir_all(&folder).unwrap();
        self.write(&format!("{name}/{zone}.zone"), records);
        let config = format!(
            "server:\n    rundir: {folder}\n    listen: {ip}@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n\
             log:\n  - target: stderr\n    any: warning\ndatabase:\n    storage: {folder}\n\
             policy:\n  - id: one\n    single-type-signing: on\n    algorithm: ecdsap256sha256\n\
             zone:\n  - domain: {zone}\n    storage: {folder}\n    file: {zone}.zone\n    zonefile-sync: -1\n{sign}",
            folder = folder.display(),
            ip = at.ip(),
            port = at.port(),
            sign = if signed { "    dnssec-signing: on\n    dnssec-policy: one\n" } else { "" },
        );
        self.write(&format!("{name}.conf"), config);
        let mut command = Command::new("knotd");
        command.arg("-c").arg(self.path(&format!("{name}.conf")));
        self.start(at, &name, command)
    }

    fn start(&self, at: SocketAddr, name: &str, mut command: Command) -> Daemon {
        let path = self.path(&format!("{name}.log"));
        let log = File::create(&path).unwrap();
        let daemon = Daemon::start(command.stdout(log.try_clone().unwrap()).stderr(log));
        listens(at, &daemon, || std::fs::read_to_string(&path).unwrap());
        daemon
    }
}

impl Forwarder {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.daemon.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Fails when it does not run any more.
    pub fn lives(&self) {
        assert!(lives(self.id()), "the forwarder has ended: {}", self.log());
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        run(Command::new("kill").args([format!("-{name}"), self.id().to_string()]));
    }
}

fn lives(process: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !state.is_empty() && !state.contains(") Z ")
}

/// Waits until `daemon` listens at `at`.
fn listens(at: SocketAddr, daemon: &Daemon, log: impl Fn() -> String) {
    let listening = || TcpStream::connect_timeout(&at, Duration::from_secs(1)).is_ok();
    if !soon(|| listening() || !lives(daemon.id())) || !lives(daemon.id()) {
        panic!("nobody listens at {at}: {}", log());
    }
}

/// Whether something becomes true within 20 s.
pub fn soon(mut what: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if what() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// What a process takes of the memory, in KiB, its share of what it has in common with others included.
pub fn pss(process: u32) -> u64 {
    memory(process, "Pss:")
}

/// What it has of the memory for itself alone, in KiB, whoever else runs the same program meanwhile.
pub fn own_memory(process: u32) -> u64 {
    memory(process, "Anonymous:")
}

fn memory(process: u32, kind: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with(kind)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The processor time of a process in ticks of 10 ms: its own and the kernel's for it.
pub fn processor_time(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The forwarder's address in the system.
pub fn in_system() -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, 2), 53).into()
}

/// The answer to a question over UDP, as it came, within `patience`.
pub fn ask_within(at: SocketAddr, query: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let any: SocketAddr =
        if at.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(at).unwrap();
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.send(query).unwrap();
    hear(&socket)
}

/// The next datagram, within the socket's time; signals of other tests' processes end no waiting.
pub fn hear(socket: &UdpSocket) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 65_536];
    loop {
        match socket.recv(&mut bytes) {
            Ok(length) => {
                bytes.truncate(length);
                return Some(bytes);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// The answer to a question over UDP. A test fails without.
pub fn ask(at: SocketAddr, query: &[u8]) -> Vec<u8> {
    ask_within(at, query, Duration::from_secs(20)).unwrap_or_else(|| panic!("no answer from {at}"))
}

/// The answer to a question over TCP. A test fails without.
pub fn ask_tcp(at: SocketAddr, query: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&[&(query.len() as u16).to_be_bytes()[..], query].concat()).unwrap();
    receive(&mut stream).unwrap_or_else(|error| panic!("no answer from {at} over TCP: {error}"))
}

/// One message of a connection.
pub fn receive(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// What `dnsperf` has seen.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Questions that were answered.
    pub completed: u64,
    /// Questions that were not.
    pub lost: u64,
    /// Answers a second.
    pub per_second: f64,
    /// Answers of each code.
    pub codes: Vec<(String, u64)>,
    /// What it took from question to answer, in seconds, in order; with the option `-v` alone.
    pub latencies: Vec<f64>,
}

impl Load {
    /// Asks for the names and types of a file.
    pub fn run(at: SocketAddr, names: &Path, options: &str) -> Self {
        Self::by(Command::new("dnsperf"), at, names, options)
    }

    /// The same by a command that ends with `dnsperf`.
    pub fn by(mut command: Command, at: SocketAddr, names: &Path, options: &str) -> Self {
        let family = if at.is_ipv4() { "inet" } else { "inet6" };
        command
            .args(["-f", family, "-s", &at.ip().to_string(), "-p", &at.port().to_string(), "-d"])
            .arg(names);
        // Into a file: who reads a pipe too slowly would hold the generator up.
        let path = names.with_extension("load");
        run(command.args(options.split(' ')).stdout(File::create(&path).unwrap()));
        let mut load = Self::default();
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let line = line.trim();
            let number = |label: &str| {
                let rest = line.strip_prefix(label)?.trim();
                rest.split(' ').next()?.parse::<f64>().ok()
            };
            if let Some(latency) = line.strip_prefix("> ") {
                load.latencies.extend(latency.rsplit(' ').next().and_then(|last| last.parse::<f64>().ok()));
            } else if let Some(count) = number("Queries completed:") {
                load.completed = count as u64;
            } else if let Some(count) = number("Queries lost:") {
                load.lost = count as u64;
            } else if let Some(rate) = number("Queries per second:") {
                load.per_second = rate;
            } else if let Some(codes) = line.strip_prefix("Response codes:") {
                // `NOERROR 9 (90.00%), NXDOMAIN 1 (10.00%)`
                let words = codes.split(',').map(|code| code.split_whitespace().collect::<Vec<&str>>());
                load.codes = words
                    .filter(|words| words.len() > 1)
                    .map(|words| (words[0].to_owned(), words[1].parse().unwrap()))
                    .collect();
            }
        }
        load.latencies.sort_unstable_by(f64::total_cmp);
        load
    }

    /// How many answers had a code.
    pub fn of(&self, code: &str) -> u64 {
        self.codes.iter().find(|(known, _)| known == code).map_or(0, |(_, count)| *count)
    }

    /// The latency that so many of a thousand answers do not exceed, in seconds.
    pub fn latency(&self, thousandth: usize) -> f64 {
        let place = self.latencies.len() * thousandth / 1_000;
        self.latencies.get(place.min(self.latencies.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }
}

/// What `dig`, `kdig` or `delv` print.
#[derive(Debug, Clone, PartialEq)]
pub struct Dig(pub String);

/// Runs `dig` with these words, at the forwarder unless they name another server.
pub fn dig(words: &str) -> Dig {
    client("dig", words, "+time=10 +tries=1")
}

/// Runs `kdig` likewise.
pub fn kdig(words: &str) -> Dig {
    client("kdig", words, "+time=10 +retry=0")
}

fn client(program: &str, words: &str, common: &str) -> Dig {
    let mut command = Command::new(program);
    if !words.contains('@') {
        command.arg(format!("@{HERE}"));
    }
    command.args(common.split(' ')).args(words.split(' '));
    Dig(text(&command.output().unwrap_or_else(|error| panic!("{program}: {error}"))))
}

impl Dig {
    /// `NOERROR` and the like; empty without an answer.
    pub fn status(&self) -> &str {
        let rest = self.0.split_once("status: ").map_or("", |(_, rest)| rest);
        rest.split([',', ';', '\n']).next().unwrap_or_default()
    }

    /// Whether the header has this flag.
    pub fn has(&self, flag: &str) -> bool {
        let line = self.0.lines().find(|line| line.to_ascii_lowercase().starts_with(";; flags: "));
        let flags = line.and_then(|line| line[10..].split(';').next()).unwrap_or_default();
        flags.split(' ').any(|one| one == flag)
    }

    /// The records of a section, each in its five fields.
    pub fn section(&self, name: &str) -> Vec<Vec<&str>> {
        let title = format!(";; {name} SECTION:");
        let lines = self.0.lines().skip_while(|line| **line != title).skip(1);
        let lines = lines.take_while(|line| !line.is_empty() && !line.starts_with(";;"));
        lines
            .map(|line| {
                // Four words, and what is left.
                let (mut fields, mut rest) = (Vec::new(), line.trim());
                for _ in 0..4 {
                    let (word, more) = rest.split_once(|c: char| c.is_whitespace()).unwrap_or((rest, ""));
                    fields.push(word);
                    rest = more.trim_start();
                }
                fields.push(rest);
                fields
            })
            .collect()
    }

    /// What the answer section says, in order of the alphabet, without names and times.
    pub fn answers(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.section("ANSWER").iter().map(|fields| fields[4]).collect();
        all.sort_unstable();
        all
    }

    /// Seconds that the first answer lives.
    pub fn ttl(&self) -> u32 {
        let section = self.section("ANSWER");
        let field = section.first().unwrap_or_else(|| panic!("no answer in {}", self.0))[1];
        field.parse().unwrap_or_else(|_| panic!("{}", self.0))
    }
}
