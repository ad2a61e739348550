//! What the tests of network time share: honest servers, a client that is asked what it thinks of them.
//!
//! Nothing here touches this machine's clock: chronyd runs with `-x`, ours with `--no-clock`, and both without the
//! right to set it.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use crate::relay::{Path as NetPath, Relay};
use crate::{Daemon, release, run, text};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The address of server `number` of `kind`: 10.77.KIND.NUMBER.
pub fn address(kind: u8, number: u8) -> SocketAddr {
    (Ipv4Addr::new(10, 77, kind, number), 123).into()
}

/// True servers.
pub const TRUE: u8 = 0;
/// Servers that lie.
pub const LIAR: u8 = 1;
/// Relays.
pub const RELAY: u8 = 2;

/// A folder of a test's own, removed at the end.
#[derive(Debug)]
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Makes it.
    pub fn new(name: &str) -> Self {
        // Tests of one process may have the same name for theirs.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("minke-ntp-{process}-{count}-{name}"));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        // chronyd wants no others in the folder of its socket.
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o750)).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `program` without the right to set the clock, its output in `log`.
fn clockless(program: &Path, log: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-sys_time", "--"]).arg(program);
    let log = std::fs::File::create(log).unwrap();
    command.stdout(log.try_clone().unwrap()).stderr(log);
    command
}

fn chronyd(folder: &Path, name: &str, config: &str) -> Daemon {
    let file = folder.join(format!("{name}.conf"));
    let (socket, pid) = (folder.join(format!("{name}.sock")), folder.join(format!("{name}.pid")));
    let common = format!("cmdport 0\nbindcmdaddress {}\npidfile {}\n", socket.display(), pid.display());
    std::fs::write(&file, format!("{config}{common}")).unwrap();
    let mut command = clockless(Path::new("chronyd"), &folder.join(format!("{name}.log")));
    Daemon::start(command.args(["-x", "-d", "-u", "root", "-f"]).arg(&file))
}

/// chronyd that serves this machine's time at `at`, with further lines of configuration.
pub fn honest(folder: &Path, at: SocketAddr, stratum: u8, more: &str) -> Daemon {
    let ip = at.ip();
    let config = format!("local stratum {stratum}\nallow\nbindaddress {ip}\nport {}\n{more}\n", at.port());
    chronyd(folder, &format!("server-{ip}"), &config)
}

/// `count` honest servers of stratum 1 and up, with addresses of kind [`TRUE`].
pub fn several(folder: &Path, count: u8) -> Vec<Daemon> {
    (1..=count).map(|number| honest(folder, address(TRUE, number), number.min(3), "")).collect()
}

/// ntpd-rs that follows `sources` and serves at `at`. It must believe that it steers a clock to call itself
/// synchronised: strace answers in the kernel's place when it tries to. `more`: further tables of its configuration.
pub fn ntpd_rs(folder: &Path, at: SocketAddr, sources: &[SocketAddr], more: &str) -> Daemon {
    let mut config = format!(
        "[[server]]\nlisten = \"{at}\"\n[synchronization]\nlocal-stratum = 2\nminimum-agreeing-sources = 1\n\
         [source-defaults]\npoll-interval-limits = {{ min = 1, max = 4 }}\ninitial-poll-interval = 1\n"
    );
    for source in sources {
        config.push_str(&format!("[[source]]\nmode = \"server\"\naddress = \"{}\"\n", source.ip()));
    }
    config.push_str(more);
    let file = folder.join("ntpd-rs.toml");
    std::fs::write(&file, config).unwrap();
    // strace that is killed leaves its child behind, but not in a namespace whose first process it is.
    let mut command = clockless(Path::new("unshare"), &folder.join("ntpd-rs.log"));
    command.args(["--pid", "--fork", "--kill-child", "strace"]);
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=clock_adjtime,adjtimex,clock_settime"]);
    command.args(["-e", "inject=clock_adjtime,adjtimex,clock_settime:retval=0"]).arg(ntpd_rs_program());
    Daemon::start(command.arg("-c").arg(file))
}

/// OpenNTPD that follows `source` and serves at `at`, without power over the clock. It needs about four minutes until it
/// calls itself synchronised.
pub fn openntpd(folder: &Path, at: SocketAddr, source: SocketAddr) -> Daemon {
    // Its user, and folders in a mount namespace of its own.
    let script = "cc -shared -fPIC -o no_clock.so \"$1\"; mount --make-rprivate /; mkdir -p jail; chmod 755 jail
        for file in passwd group; do cp /etc/$file .; done; echo ntpd:x:612:612::$PWD/jail:/bin/false >> passwd
        echo ntpd:x:612: >> group; for file in passwd group; do mount --bind $file /etc/$file; done
        mount -t tmpfs tmpfs /var/lib; mkdir -p /var/lib/openntpd/run /var/lib/openntpd/db
        exec env LD_PRELOAD=$PWD/no_clock.so ntpd -d -f $PWD/openntpd.conf";
    let config = format!("listen on {}\nserver {}\n", at.ip(), source.ip());
    std::fs::write(folder.join("openntpd.conf"), config).unwrap();
    let mut command = clockless(Path::new("unshare"), &folder.join("openntpd.log"));
    command.args(["-m", "sh", "-ec", script, "sh"]).arg(crate::project().join("tests/net/no_clock.c"));
    Daemon::start(command.current_dir(folder))
}

/// ntpd-rs, from the cache; it is built there the first time, which needs a network: to be called before [`in_namespace`].
///
/// [`in_namespace`]: crate::in_namespace
pub fn ntpd_rs_program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build_ntpd_rs).clone()
}

fn build_ntpd_rs() -> PathBuf {
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let cache = std::env::var_os("MINKE_CACHE").map_or(home.join(".cache/minke"), PathBuf::from);
    let program = cache.join("ntpd-rs/bin/ntp-daemon");
    if !program.exists() {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["install", "ntpd", "--version", "1.9.0", "--locked", "--root"])
            .arg(cache.join("ntpd-rs"));
        run(command.env("CARGO_TARGET_DIR", cache.join("ntpd-rs/target")));
        let _ = std::fs::remove_dir_all(cache.join("ntpd-rs/target"));
    }
    program
}

/// A relay before each of the first servers, at the same number of kind [`RELAY`].
pub fn relays(paths: &[NetPath]) -> Vec<Relay> {
    let numbered = paths.iter().zip(1..);
    let start = |(path, number): (&NetPath, u8)| {
        Relay::start(address(RELAY, number), address(TRUE, number), *path, number.into())
    };
    numbered.map(start).collect()
}

/// Who is tested.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// chronyd: shows that a test's servers and paths are what they claim.
    Chrony,
    /// Ours.
    Minke,
}

/// A client under test.
#[derive(Debug)]
pub struct Client {
    kind: Kind,
    folder: PathBuf,
    /// Its process.
    pub daemon: Daemon,
}

/// A line of `chronyc -c sources`.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    /// The letter of its state.
    pub state: String,
    /// Its address.
    pub address: String,
    /// Its stratum.
    pub stratum: u8,
    /// Which of the last eight questions it answered.
    pub reach: u8,
    /// Seconds since the last good answer.
    pub last: u64,
    /// Seconds by which this machine's clock is ahead, as measured.
    pub offset: f64,
    /// Seconds by which that may be wrong.
    pub error: f64,
}

impl Client {
    /// Starts one with these lines of configuration.
    pub fn start(kind: Kind, folder: &Path, servers: &str) -> Self {
        let daemon = match kind {
            Kind::Chrony => chronyd(folder, "client", &format!("{servers}\nport 0\n")),
            Kind::Minke => {
                let (lists, state) = (folder.join("lists"), folder.join("state"));
                std::fs::create_dir_all(&lists).unwrap();
                std::fs::create_dir_all(&state).unwrap();
                std::fs::write(lists.join("test.sources"), servers).unwrap();
                let mut command = clockless(&release("x86_64"), &folder.join("client.log"));
                command.args(["ntp", "run", "--no-clock", "--sources"]).arg(&lists);
                command.arg("--state").arg(&state).arg("--socket").arg(folder.join("client.sock"));
                Daemon::start(&mut command)
            }
        };
        Self { kind, folder: folder.to_owned(), daemon }
    }

    /// As [`start`](Self::start), asking `addresses` each second.
    pub fn asking(kind: Kind, folder: &Path, addresses: &[SocketAddr]) -> Self {
        let line = |at: &SocketAddr| format!("server {} iburst minpoll 0 maxpoll 0\n", at.ip());
        Self::start(kind, folder, &addresses.iter().map(line).collect::<String>())
    }

    /// Runs chronyc, the real one or ours.
    pub fn chronyc(&self, words: &[&str]) -> (String, bool) {
        let socket = self.folder.join("client.sock");
        let mut command = match self.kind {
            Kind::Chrony => {
                let mut command = Command::new("chronyc");
                command.arg("-h").arg(socket);
                command
            }
            Kind::Minke => {
                let mut command = Command::new(release("x86_64"));
                command.args(["chronyc", "--socket"]).arg(socket);
                command
            }
        };
        let output = command.arg("-n").args(words).output().unwrap();
        (text(&output), output.status.success())
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("client.log")).unwrap_or_default()
    }

    /// What it thinks of its sources.
    pub fn sources(&self) -> Vec<Seen> {
        let (table, _) = self.chronyc(&["-c", "sources"]);
        table.lines().map(seen).collect()
    }

    /// What it thinks of one.
    pub fn source(&self, at: SocketAddr) -> Option<Seen> {
        let ip = at.ip().to_string();
        self.sources().into_iter().find(|source| source.address == ip)
    }

    /// Waits until `right` holds of its sources; fails with what it thinks of them.
    pub fn until(&self, what: &str, right: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let end = Instant::now() + LIMIT;
        loop {
            let sources = self.sources();
            if right(&sources) {
                return sources;
            }
            let (log, late) = (self.log(), Instant::now() > end);
            assert!(!late, "{:?}: not in time: {what}\n{sources:#?}\n{log}", self.kind);
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Waits until a source is selected, and returns it.
    pub fn selected(&self) -> Seen {
        let sources = self.until("a source is selected", |sources| sources.iter().any(is_selected));
        sources.into_iter().find(is_selected).unwrap()
    }

    /// Ours only: the whole status.
    pub fn status(&self) -> minke_wire::json::Value {
        let mut command = Command::new(release("x86_64"));
        command.args(["ntp", "status", "--json", "--socket"]).arg(self.folder.join("client.sock"));
        minke_wire::json::parse_str(&text(&command.output().unwrap())).unwrap()
    }

    /// Its resident memory at the highest so far, in KiB.
    pub fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

/// Far longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(90);

/// Whether the clock follows it.
pub fn is_selected(source: &Seen) -> bool {
    source.state == "*"
}

/// Whether the clock follows it, alone or with others.
pub fn is_used(source: &Seen) -> bool {
    source.state == "*" || source.state == "+"
}

fn seen(line: &str) -> Seen {
    let fields: Vec<&str> = line.split(',').collect();
    let number = |place: usize| fields[place].parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
    Seen {
        state: fields[1].to_owned(),
        address: fields[2].to_owned(),
        stratum: fields[3].parse().unwrap(),
        reach: u8::from_str_radix(fields[5], 8).unwrap(),
        last: fields[6].parse().unwrap(),
        offset: number(8),
        error: number(9),
    }
}
