//! What tests of a clock that is wrong share, where the machine's clock cannot be set: certificates whose dates are the
//! wrong ones, and a port behind which the server, and with it the certificate, can change.

// A test's helper fails the test that calls it.
#![allow(clippy::unwrap_used)]

use crate::authority::Authority;
use crate::{OWN_MOUNTS, inside, run};
use std::io::copy;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Runs `body` in a mount namespace of its own, in which `/run` is empty: the test of this name starts itself again there.
pub fn with_empty_run(name: &str, body: impl FnOnce()) {
    if inside(OWN_MOUNTS, name) {
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]));
        body();
    }
}

/// Makes an authority `ca.pem` in a folder and certificates for `host`: `good.pem`, `expired.pem` and `early.pem`, which
/// is not valid yet, with their keys.
pub fn certificates(folder: &Path, host: &str) {
    let authority = Authority::new(folder, 0..99);
    for (name, days) in [("good", -9..9), ("expired", -9..-1), ("early", 9..99)] {
        authority.issue(name, &format!("DNS:{host}"), days);
    }
}

/// A port on loopback that leads to another one there, which can be changed. It is there as long as the test's process.
#[derive(Debug)]
pub struct Switch {
    /// Where clients come.
    pub port: u16,
    target: Arc<AtomicU16>,
    count: Arc<AtomicUsize>,
}

impl Switch {
    /// Leads to this port.
    pub fn new(target: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let switch = Self { port, target: Arc::new(AtomicU16::new(target)), count: Arc::default() };
        let (target, count) = (switch.target.clone(), switch.count.clone());
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let to = target.load(Ordering::SeqCst);
                count.fetch_add(1, Ordering::SeqCst);
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(("127.0.0.1", to))) else {
                    continue;
                };
                // Who breaks off is no failure of ours.
                for (mut from, mut to) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    std::thread::spawn(move || {
                        let _ = copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
        switch
    }

    /// Leads to this port from now on.
    pub fn lead_to(&self, target: u16) {
        self.target.store(target, Ordering::SeqCst);
    }

    /// How many connections came.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until so many connections have come, two minutes at most.
    pub fn wait_for(&self, count: usize) {
        let end = Instant::now() + Duration::from_secs(120);
        while self.count() < count {
            assert!(Instant::now() < end, "{} connections instead of {count}", self.count());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The marks of a clock that can be trusted, where the program has this root.
#[derive(Debug)]
pub struct Marks(PathBuf);

impl Marks {
    /// None yet, but their folder.
    pub fn none(root: &Path) -> Self {
        let folder = root.join("run/systemd/timesync");
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    /// Makes one: `rtc` or `synchronized`.
    pub fn make(&self, name: &str) {
        std::fs::write(self.0.join(name), "test").unwrap();
    }
}
