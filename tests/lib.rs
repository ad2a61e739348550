//! What the integration tests share: where the project and its built things are.

#![forbid(unsafe_code)]
// A test's helper fails the test that calls it.
#![allow(clippy::panic)]

pub mod artefact;
pub mod authority;
pub mod boot_loader;
pub mod cloud;
pub mod device;
pub mod disk;
#[path = "net/dns_lab.rs"]
pub mod dns_lab;
pub mod dockerd;
pub mod foreign;
pub mod guest;
#[path = "net/mdns_lab.rs"]
pub mod mdns_lab;
pub mod netem;
pub mod program;
mod random;
pub mod registry;
#[path = "net/relay.rs"]
pub mod relay;
pub mod server;
pub mod switch;
#[path = "net/time_net.rs"]
pub mod time_net;

use minke_image::arch::Arch;
use minke_image::cache::Cache;
use minke_image::kernel::Parts;
pub use random::Random;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// The folder of the project.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// The release targets: name here, and the emulator with the oldest processor that the target is for.
pub const TARGETS: [(&str, &[&str]); 4] = [
    ("x86_64", &["qemu-x86_64-static", "-cpu", "qemu64"]),
    ("aarch64", &["qemu-aarch64-static", "-cpu", "cortex-a53"]),
    ("armv7", &["qemu-arm-static", "-cpu", "cortex-a7"]),
    ("armv6", &["qemu-arm-static", "-cpu", "arm1176"]),
];

/// The release binary of `target`, built if need be by `release/build`, once in a test process. `MINKE_X86_64`,
/// `MINKE_AARCH64` and so on name another one, a debug build for instance.
pub fn release(target: &str) -> PathBuf {
    if let Some(path) = given(target) {
        return path;
    }
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let build = || {
        let output = outside(|| run(Command::new(project().join("release/build")).arg(target)));
        PathBuf::from(text(&output).trim())
    };
    built.entry(target.to_owned()).or_insert_with(build).clone()
}

/// The binary that the environment names for `target`.
pub fn given(target: &str) -> Option<PathBuf> {
    std::env::var_os(format!("MINKE_{}", target.to_ascii_uppercase())).map(PathBuf::from)
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, errors(&output));
    output
}

/// Standard output as text.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that ends with the test that started it.
#[derive(Debug)]
pub struct Daemon(std::process::Child);

impl Daemon {
    /// Starts it without input, its output in the test's.
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdin(std::process::Stdio::null()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `work` in a network namespace of its own: its processes, threads and guests see a loopback device alone. It is
/// up, and the addresses 10.77.0.0/16 and fd77::/64 are its own, so that each server of a test can have one.
pub fn in_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    in_thread(|| {
        minke_sys::namespace::unshare(&[minke_sys::namespace::Namespace::Network])
            .unwrap_or_else(|error| panic!("{error} (as root?)"));
        run(Command::new("ip").args(["link", "set", "lo", "up"]));
        for addresses in ["10.77.0.0/16", "fd77::/64"] {
            run(Command::new("ip").args(["route", "add", "local", addresses, "dev", "lo"]));
        }
        work()
    })
}

/// Whether this is the test of this name in namespaces of its own, by these options of unshare(1). If it is not, it has
/// started itself again there, and passed.
pub fn inside(options: &[&str], name: &str) -> bool {
    const INSIDE: &str = "MINKE_TEST_INSIDE";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let own = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    let mut command = Command::new("unshare");
    command.args(options).arg(own);
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INSIDE, "1");
    let output = run(&mut command);
    // A name of no test would pass.
    assert!(text(&output).contains("1 passed"), "{}", text(&output));
    false
}

/// The options of [`inside`] for mounts that nobody else sees.
pub const OWN_MOUNTS: &[&str] = &["--mount", "--propagation", "private"];

/// Runs `work` in a thread of its own, whose namespaces nobody else is in.
pub fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|why| std::panic::resume_unwind(why)))
}

/// Runs `work`, which builds and may download for that, where `tests/run` is: it gives tests with guests a network of their
/// own, and `MINKE_OUTSIDE` names the one outside.
pub fn outside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let Some(path) = std::env::var_os("MINKE_OUTSIDE") else { return work() };
    in_thread(|| {
        let path = Path::new(&path);
        let network = std::fs::File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        minke_sys::namespace::enter(&network, minke_sys::namespace::Namespace::Network)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        work()
    })
}

/// What images of `arch` are made of.
pub fn parts(arch: Arch) -> Parts {
    let parts = outside(|| Cache::open().and_then(|cache| Parts::get(&cache, arch, false)));
    parts.unwrap_or_else(|error| panic!("{error}"))
}

/// A TCP port of 127.0.0.1 that nobody has.
pub fn free_tcp_port() -> u16 {
    free_port(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
}

/// A UDP port of 127.0.0.1 that nobody has.
pub fn free_udp_port() -> u16 {
    free_port(|port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
}

/// One below 32768, where the kernel takes none for who wants any, and each time another one, so that it stays free until its
/// server comes.
fn free_port(is_free: impl Fn(u16) -> bool) -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(64).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 10_000 + (number % 20_000) as u16;
        if is_free(port) {
            return port;
        }
    }
}
