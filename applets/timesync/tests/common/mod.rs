//! A device's root, and web servers (Python's) with certificates that `openssl` makes.

use minke_tests::program;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

pub const DAY: i64 = 86_400;
pub const YEAR: i64 = 365 * DAY;

pub fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// A root folder with an authority, and web servers.
pub struct Lab {
    pub root: program::Root,
    servers: Vec<Child>,
}

impl Lab {
    pub fn new(name: &str) -> Self {
        let root = program::Root::new("timesync", name, &["etc/ssl/certs"]);
        std::fs::write(root.0.join("etc/hosts"), "127.0.0.1 host.test\n").unwrap();
        let lab = Self { root, servers: Vec::new() };
        lab.sh("openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem \
            -days 36500 -subj /CN=Root; cp ca.pem etc/ssl/certs/ca-certificates.crt; mkdir certs; touch index; \
            printf '[ca]\\ndefault_ca=d\\n[d]\\ndatabase=index\\nnew_certs_dir=certs\\nrand_serial=yes\\ndefault_md=sha256\\n\
            policy=p\\nunique_subject=no\\n[p]\\ncommonName=supplied\\n[x]\\nsubjectAltName=DNS:host.test\\n' > ca.cnf");
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

    /// A TLS server whose certificate is valid between these two times; its port.
    pub fn tls(&mut self, from: i64, to: i64) -> u16 {
        let name = format!("s{}", self.servers.len());
        self.sh(&format!(
            "openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr \
               -subj /CN={name}; \
             openssl ca -batch -config ca.cnf -cert ca.pem -keyfile ca.key -in {name}.csr -out {name}.pem -notext \
               -extensions x -startdate $(date -u -d @{from} +%Y%m%d%H%M%SZ) -enddate $(date -u -d @{to} +%Y%m%d%H%M%SZ)"
        ));
        self.serve(&[&format!("{name}.pem"), &format!("{name}.key")])
    }

    pub fn serve(&mut self, arguments: &[&str]) -> u16 {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/server.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .arg("127.0.0.1")
            .args(arguments)
            .current_dir(&self.root.0)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        self.servers.push(child);
        line.trim().parse().unwrap()
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

impl Drop for Lab {
    fn drop(&mut self) {
        for child in &mut self.servers {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
