//! A cloud for tests: `cloud.py` beside this file, with Python's web server and TLS.

// A test's helper fails the test that calls it.
#![allow(clippy::unwrap_used)]

use crate::project;
use crate::server::Server;
use minke_wire::json::Value;
use std::path::{Path, PathBuf};

/// The key with which a device may be registered.
pub const FLEET_KEY: &str = "fleet";

/// The server; it ends with the test.
#[derive(Debug)]
pub struct Cloud {
    server: Server,
    folder: PathBuf,
}

impl Cloud {
    /// Starts it in a folder, with the certificate and key of this name there; at any port for 0.
    pub fn start(folder: &Path, certificate: &str, port: u16) -> Self {
        let (certificate, key) = (format!("{certificate}.pem"), format!("{certificate}.key"));
        let arguments = [&*certificate, &*key, &port.to_string()];
        let server = Server::start(&project().join("tests/cloud.py"), &arguments, folder);
        Self { server, folder: folder.to_path_buf() }
    }

    /// Its port, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// What it was asked so far, each with the members `request`, `key`, `agent` and `document`.
    pub fn requests(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join("requests")).unwrap_or_default();
        text.lines().map(|line| minke_wire::json::parse_str(line).unwrap()).collect()
    }
}
