//! What the tests of mDNS share: a network of the test's own, hosts on it in namespaces of their own, and programs on
//! them: ours, Avahi with its tools, python-zeroconf.
//!
//! Nothing leaves the namespaces: the bridge has no port but the hosts'.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use crate::{Daemon, release, run, text};
use minke_wire::json::{Value, parse_str};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// Far longer than anything here takes on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A network: a bridge in a namespace, and a folder for files. Both go with the test.
#[derive(Debug)]
pub struct Lab {
    /// Where files are.
    pub folder: PathBuf,
    name: String,
    _share: Share,
}

/// All network namespaces share the kernel's table of IPv6 neighbours (`gc_thresh3`, 1024 by default): many hosts at once
/// fill it, and then nobody reaches a new neighbour. A test takes one network at a time, else it waits for itself.
static NEIGHBOURS: RwLock<()> = RwLock::new(());

/// A network's part of that table, until the network is gone.
#[derive(Debug)]
enum Share {
    Some { _guard: RwLockReadGuard<'static, ()> },
    Whole { _guard: RwLockWriteGuard<'static, ()> },
}

/// Which addresses a host has on the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// Both.
    Both,
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
}

impl Lab {
    /// An empty network.
    pub fn new(test: &str) -> Self {
        Self::with(test, Share::Some { _guard: NEIGHBOURS.read().unwrap_or_else(PoisonError::into_inner) })
    }

    /// An empty network for dozens of hosts: no other test of mDNS has one meanwhile.
    pub fn large(test: &str) -> Self {
        Self::with(test, Share::Whole { _guard: NEIGHBOURS.write().unwrap_or_else(PoisonError::into_inner) })
    }

    fn with(test: &str, share: Share) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("md{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("minke-mdns-{name}-{test}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        // Ours runs as another user, and makes its socket there.
        fs::set_permissions(&folder, PermissionsExt::from_mode(0o777)).unwrap();
        let lab = Self { folder, name, _share: share };
        // Snooping would need somebody who asks for members, and nobody does here.
        sh(&format!(
            "ip netns add {name}; ip -n {name} link add name br0 type bridge mcast_snooping 0; ip -n {name} link set br0 up
             ip -n {name} link add name br1 type bridge mcast_snooping 0; ip -n {name} link set br1 up",
            name = lab.name
        ));
        lab
    }

    /// A host with the number, its interface `eth0` up: 10.77.0.NUMBER and fd77::NUMBER, and an IPv6 address of the link.
    pub fn host(&self, number: u8) -> Host<'_> {
        self.host_with(number, Families::Both)
    }

    /// A host with addresses of these families alone.
    pub fn host_with(&self, number: u8, families: Families) -> Host<'_> {
        let host = Host { lab: self, number, namespace: format!("{}-{number}", self.name) };
        let namespace = &host.namespace;
        sh(&format!(
            "ip netns add {namespace}; ip -n {namespace} link set lo up
             ip netns exec {namespace} sh -c 'for name in all default; do cd /proc/sys/net/ipv6/conf/$name
                 echo 0 > accept_dad; echo 0 > accept_ra; done
                 echo 1 > /proc/sys/net/ipv4/conf/all/promote_secondaries'"
        ));
        if families == Families::V4 {
            sh(&format!(
                "ip netns exec {namespace} sh -c 'echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6'"
            ));
        }
        host.connect("eth0");
        if families != Families::V6 {
            host.ip(&format!("address add 10.77.0.{number}/24 dev eth0"));
            host.ip("route add 224.0.0.0/4 dev eth0");
        }
        if families != Families::V4 {
            host.ip(&format!("address add fd77::{number:x}/64 dev eth0 nodad"));
        }
        host
    }

    /// Joins `br1` to the network by a path that loses a fifth of the frames, doubles and delays others and lets them
    /// overtake each other, as the seed says.
    pub fn join_badly(&self, seed: u64) -> Background {
        sh(&format!(
            "for n in 0 1; do ip -n {name} link add name sw$n type veth peer name end$n
                 ip netns exec {name} sh -c \"echo 1 > /proc/sys/net/ipv6/conf/end$n/disable_ipv6\"
                 ip -n {name} link set sw$n master br$n; ip -n {name} link set sw$n up; ip -n {name} link set end$n up; done",
            name = self.name
        ));
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, "/usr/bin/python3"]);
        command
            .arg(crate::project().join("tests/net/lossy_bridge.py"))
            .args(["end0", "end1"])
            .arg(seed.to_string());
        let path = Background::start(self, "path", &mut command);
        path.until("passing");
        path
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let name = &self.name;
        sh(&format!(
            "ip netns list | cut -d' ' -f1 | grep -x -e '{name}' -e '{name}-[0-9]*' | while read -r name
             do ip netns delete $name; done"
        ));
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// A host on the network.
#[derive(Debug)]
pub struct Host<'a> {
    lab: &'a Lab,
    number: u8,
    namespace: String,
}

impl Host<'_> {
    /// Connects a new interface of this name to the network, without addresses but those of IPv6's link.
    pub fn connect(&self, interface: &str) {
        self.connect_to("br0", interface);
    }

    /// The same to another network, `br1`.
    pub fn connect_to(&self, bridge: &str, interface: &str) {
        let (lab, namespace) = (&self.lab.name, &self.namespace);
        let port = format!("p{}-{interface}", self.number);
        sh(&format!(
            "ip -n {lab} link add name {port} type veth peer name {interface} netns {namespace}
             ip -n {lab} link set {port} master {bridge}; ip -n {lab} link set {port} up
             ip -n {namespace} link set {interface} up"
        ));
    }

    /// Pulls the cable of `eth0`, or puts it in.
    pub fn cable(&self, is_in: bool) {
        let state = if is_in { "up" } else { "down" };
        sh(&format!("ip -n {} link set p{}-eth0 {state}", self.lab.name, self.number));
    }

    /// `ip WORDS` on the host.
    pub fn ip(&self, words: &str) {
        sh(&format!("ip -n {} {words}", self.namespace));
    }

    /// Runs `work` on the host, in a thread of its own.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = fs::File::open(format!("/run/netns/{}", self.namespace)).unwrap();
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                minke_sys::namespace::enter(namespace, minke_sys::namespace::Namespace::Network).unwrap();
                work()
            });
            thread.join().unwrap_or_else(|why| std::panic::resume_unwind(why))
        })
    }

    /// A program on the host.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).arg(program.as_ref());
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.lab.folder.join(format!("{}.{name}", self.number))
    }

    /// Ours, with the name that it wants, publishing the service that ships.
    pub fn minke(&self, name: &str) -> Minke<'_> {
        self.minke_with(&["--host", name])
    }

    /// Ours with the kernel's name of the host, which is this one at first, in a UTS namespace of its own.
    pub fn minke_named_by_kernel(&self, name: &str) -> Minke<'_> {
        self.start(&["unshare", "--uts", "sh", "-ec", "hostname \"$0\"; exec \"$@\"", name], &[])
    }

    /// Ours with further options.
    pub fn minke_with(&self, options: &[&str]) -> Minke<'_> {
        self.start(&[], options)
    }

    fn start(&self, before: &[&str], options: &[&str]) -> Minke<'_> {
        let services = self.path("services");
        fs::create_dir_all(&services).unwrap();
        fs::copy(crate::project().join("image/files/ssh.service"), services.join("ssh.service")).unwrap();
        let log = fs::File::create(self.path("minke.log")).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).args(before);
        command.args([
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--bounding-set=-all",
            "--",
        ]);
        command.arg(release("x86_64")).args(["mdns", "run", "--socket"]).arg(self.path("sock"));
        command.arg("--services").arg(&services).args(options).stderr(log);
        let daemon = Daemon::start(&mut command);
        let minke = Minke { host: self, daemon };
        until("it listens", || listens(&self.path("sock")));
        minke
    }

    /// Avahi with the name that it wants.
    pub fn avahi(&self, name: &str) -> Avahi<'_> {
        let folder = self.path("avahi");
        fs::create_dir_all(folder.join("services")).unwrap();
        let config = format!(
            "[server]\nhost-name={name}\nuse-ipv4=yes\nuse-ipv6=yes\nratelimit-interval-usec=1000000\nratelimit-burst=1000\n\
             [wide-area]\nenable-wide-area=no\n[publish]\npublish-hinfo=no\npublish-workstation=no\n"
        );
        fs::write(folder.join("avahi-daemon.conf"), config).unwrap();
        let bus = format!(
            "<busconfig><type>system</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow send_destination=\"*\" eavesdrop=\"true\"/><allow eavesdrop=\"true\"/>\
             <allow own=\"*\"/><allow user=\"*\"/></policy></busconfig>",
            folder.display()
        );
        fs::write(folder.join("bus.conf"), bus).unwrap();
        let log = || fs::File::create(folder.join("log")).unwrap();
        let bus = Daemon::start(
            self.command("dbus-daemon")
                .arg("--nofork")
                .arg("--config-file")
                .arg(folder.join("bus.conf"))
                .stderr(log()),
        );
        until("the bus is there", || listens(&folder.join("bus")));
        // Its user and its runtime folder, in a mount namespace of its own.
        let script = "mount --make-rprivate /; cp /etc/passwd /etc/group .
            grep -q ^avahi: passwd || echo avahi:x:613:613::/:/bin/false >> passwd
            grep -q ^avahi: group || echo avahi:x:613: >> group
            for file in passwd group; do mount --bind $file /etc/$file; done
            mkdir -p run /run/avahi-daemon /etc/avahi/services; mount --bind run /run/avahi-daemon
            mount --bind services /etc/avahi/services
            exec avahi-daemon --no-drop-root --no-chroot --no-proc-title -f $PWD/avahi-daemon.conf";
        let mut command = self.command("unshare");
        command.args(["--mount", "sh", "-ec", script]).current_dir(&folder);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}/bus", folder.display()));
        command.stderr(fs::File::create(folder.join("avahi.log")).unwrap());
        let daemon = Daemon::start(&mut command);
        let avahi = Avahi { host: self, folder, daemon, _bus: bus };
        until("Avahi answers", || avahi.command("avahi-browse", &["-V"]).output().unwrap().status.success());
        avahi
    }
}

/// Whether somebody listens at a socket: its file is there a moment before.
fn listens(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

/// Ours on a host.
#[derive(Debug)]
pub struct Minke<'a> {
    host: &'a Host<'a>,
    /// Its process.
    pub daemon: Daemon,
}

impl Minke<'_> {
    /// `mdns WORDS` on its host.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.host.command(release("x86_64"));
        command.arg("mdns").args(words).arg("--socket").arg(self.host.path("sock"));
        command
    }

    /// What `mdns WORDS` prints.
    pub fn output(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// What `mdns WORDS` prints, as text.
    pub fn text(&self, words: &[&str]) -> String {
        text(&self.output(words))
    }

    /// The whole status.
    pub fn status(&self) -> Value {
        let output = self.text(&["status", "--json"]);
        parse_str(&output).unwrap_or_else(|_| panic!("{output}\n{}", self.log()))
    }

    /// The name in use, without `.local`.
    pub fn name(&self) -> String {
        let status = self.status();
        let host = status.get("host").and_then(Value::as_str).unwrap_or_default();
        host.strip_suffix(".local").unwrap_or(host).to_owned()
    }

    /// Waits for a name in use whose services stand too.
    pub fn until_named(&self, name: &str) {
        self.until(&format!("it is {name}"), |status| {
            let host = status.get("host").and_then(Value::as_str).unwrap_or_default();
            host == format!("{name}.local") && all_established(status)
        });
    }

    /// Waits until `right` holds of its status.
    pub fn until(&self, what: &str, right: impl Fn(&Value) -> bool) {
        let end = Instant::now() + LIMIT;
        loop {
            let status = self.status();
            if right(&status) {
                return;
            }
            assert!(Instant::now() < end, "not in time: {what}\n{status:#}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What `mdns WORDS` of an ordinary user gets.
    pub fn as_user(&self, uid: u32, words: &[&str]) -> Output {
        let (user, group) = (format!("--reuid={uid}"), format!("--regid={uid}"));
        let mut command = self.host.command("setpriv");
        command.args([&user, &group, "--clear-groups", "--"]).arg(release("x86_64")).arg("mdns");
        command.args(words).arg("--socket").arg(self.host.path("sock")).output().unwrap()
    }

    /// Its resident memory, in KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.host.path("minke.log")).unwrap_or_default()
    }

    /// Its service files.
    pub fn services(&self) -> PathBuf {
        self.host.path("services")
    }

    /// Tells it to end, and waits: with farewells, not as a crash.
    pub fn stop(self) {
        stop(&self.daemon);
    }
}

fn all_established(status: &Value) -> bool {
    let services = status.get("services").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    services.iter().all(|service| service.get("established").and_then(Value::as_bool) == Some(true))
}

/// Avahi on a host.
#[derive(Debug)]
pub struct Avahi<'a> {
    host: &'a Host<'a>,
    folder: PathBuf,
    /// Its process.
    pub daemon: Daemon,
    _bus: Daemon,
}

impl Avahi<'_> {
    /// One of its tools on its host.
    pub fn command(&self, tool: &str, words: &[&str]) -> Command {
        let mut command = self.host.command(tool);
        command.args(words);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}/bus", self.folder.display()));
        command
    }

    /// What a tool prints.
    pub fn text(&self, tool: &str, words: &[&str]) -> String {
        text(&self.command(tool, words).output().unwrap())
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("avahi.log")).unwrap_or_default()
    }

    /// Waits until it says that it has started under this name.
    pub fn until_named(&self, name: &str) {
        let line = format!("Host name is {name}.local.");
        until_or(&line, || self.log().contains(&line), || self.log());
    }

    /// Tells it to end, and waits.
    pub fn stop(self) {
        stop(&self.daemon);
    }
}

fn stop(daemon: &Daemon) {
    sh(&format!("kill {}", daemon.id()));
    let gone = || {
        // A process that has ended waits for its parent: the state says so.
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.id())).unwrap_or_default();
        stat.rsplit(')').next().is_none_or(|rest| rest.trim_start().starts_with('Z') || rest.is_empty())
    };
    until("it has ended", gone);
}

/// A program that runs in the background, its output in a file.
#[derive(Debug)]
pub struct Background {
    file: PathBuf,
    _daemon: Daemon,
}

impl Background {
    /// Starts it.
    pub fn start(lab: &Lab, name: &str, command: &mut Command) -> Self {
        let file = lab.folder.join(format!("{name}.out"));
        let output = fs::File::create(&file).unwrap();
        command.stdout(output.try_clone().unwrap()).stderr(output);
        Self { file, _daemon: Daemon::start(command) }
    }

    /// What it has printed.
    pub fn text(&self) -> String {
        fs::read_to_string(&self.file).unwrap_or_default()
    }

    /// Waits until it has printed this.
    pub fn until(&self, part: &str) {
        until_or(part, || self.text().contains(part), || self.text());
    }
}

/// Waits until something holds.
pub fn until(what: &str, right: impl Fn() -> bool) {
    until_or(what, right, String::new);
}

/// Waits until something holds; fails with an explanation.
pub fn until_or(what: &str, right: impl Fn() -> bool, why: impl Fn() -> String) {
    until_within(LIMIT, what, right, why);
}

/// Waits so long until something holds; fails with an explanation.
pub fn until_within(limit: Duration, what: &str, right: impl Fn() -> bool, why: impl Fn() -> String) {
    let end = Instant::now() + limit;
    while !right() {
        assert!(Instant::now() < end, "not in time: {what}\n{}", why());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until a text has these parts, and returns it: one packet may be lost, one answer late.
pub fn until_has(get: impl Fn() -> String, parts: &[&str]) -> String {
    let end = Instant::now() + LIMIT;
    loop {
        let text = get();
        let Some(missing) = parts.iter().find(|part| !text.contains(**part)) else { return text };
        assert!(Instant::now() < end, "no '{missing}' in time in:\n{text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs a script that must succeed.
pub fn sh(script: &str) {
    run(Command::new("sh").args(["-ec", script]).stdin(Stdio::null()));
}
