//! A device's root, and web servers (Python's) with certificates that `openssl` makes.

use minke_tests::authority::Authority;
use minke_tests::program;
use minke_tests::server::Server;
use std::ops::Range;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

pub const DAY: i64 = 86_400;
pub const YEAR: i64 = 365 * DAY;

pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A root folder with an authority, and web servers.
pub struct Lab {
    pub root: program::Root,
    authority: Authority,
    servers: Vec<Server>,
}

impl Lab {
    pub fn new(name: &str) -> Self {
        let root = program::Root::new("timesync", name, &["etc/ssl/certs"]);
        std::fs::write(root.0.join("etc/hosts"), "127.0.0.1 host.test\n").unwrap();
        let authority = Authority::new(&root.0, 0..36_500);
        std::fs::copy(root.0.join("ca.pem"), root.0.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
        let lab = Self { root, authority, servers: Vec::new() };
        lab.built(now() - YEAR);
        lab
    }

    pub fn sh(&self, script: &str) {
        let done = Command::new("sh").args(["-ec", script]).current_dir(&self.root.0).output().unwrap();
        assert!(done.status.success(), "{script}: {}", String::from_utf8_lossy(&done.stderr));
    }

    pub fn built(&self, time: i64) {
        self.sh(&format!("date -u -d @{time} +%Y%m%d%H%M%S > etc/timestamp"));
    }

    /// A TLS server whose certificate is valid between these days, counted from now; its port.
    pub fn tls(&mut self, days: Range<i64>) -> u16 {
        let name = format!("s{}", self.servers.len());
        self.authority.issue(&name, "DNS:host.test", days);
        self.serve(&[&format!("{name}.pem"), &format!("{name}.key")])
    }

    pub fn serve(&mut self, arguments: &[&str]) -> u16 {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server.py");
        let server = Server::start(&script, &[&["127.0.0.1"], arguments].concat(), &self.root.0);
        let port = server.port;
        self.servers.push(server);
        port
    }

    pub fn config(&self, uri: &str, more: &str) {
        self.root.config(format!(r#"{{"os":{{"network":{{"connectivity":{{"uri":"{uri}"}}}}}}{more}}}"#));
    }

    /// One attempt with these members of `config.json`: whether it succeeded, and what was said.
    pub fn ask(&self, uri: &str, more: &str) -> (bool, String) {
        self.config(uri, more);
        let (status, output, log) = self.root.run("timesync", &["https", "--once", "--no-clock"]);
        (status == 0, log + &output)
    }
}
