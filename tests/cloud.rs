//! A cloud for tests: `cloud.py` beside this file, with Python's web server and TLS.

// A test's helper fails the test that calls it.
#![allow(clippy::unwrap_used)]

use crate::project;
use minke_wire::json::Value;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The key with which a device may be registered.
pub const FLEET_KEY: &str = "fleet";

/// The server; it ends with the test.
#[derive(Debug)]
pub struct Cloud {
    child: Child,
    folder: PathBuf,
    /// Its port, at 127.0.0.1.
    pub port: u16,
}

impl Cloud {
    /// Starts it in a folder, with the certificate and key of this name there; at any port for 0.
    pub fn start(folder: &Path, certificate: &str, port: u16) -> Self {
        let mut child = Command::new("/usr/bin/python3")
            .arg(project().join("tests/cloud.py"))
            .args([format!("{certificate}.pem"), format!("{certificate}.key"), port.to_string()])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, folder: folder.to_path_buf(), port: line.trim().parse().unwrap() }
    }

    /// What it was asked so far, each with the members `request`, `key`, `agent` and `document`.
    pub fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("requests")).unwrap_or_default();
        text.lines().map(|line| minke_wire::json::parse_str(line).unwrap()).collect()
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
