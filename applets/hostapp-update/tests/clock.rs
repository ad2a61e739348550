//! A download while nothing has confirmed the device's clock. The registry is a web server that has nothing: what counts
//! is when it is asked.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

// Other tests use the rest.
#[allow(dead_code)]
mod common;

use common::{Device, isolated};
use minke_tests::switch::{self, Marks, Switch};
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn entry() {
    common::entry();
}

/// A web server with a certificate for `reg.test`.
struct Server(Child, u16);

impl Server {
    fn start(folder: &Path, certificate: &str) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../timesync/tests/server.py");
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .args(["127.0.0.1".to_owned(), format!("{certificate}.pem"), format!("{certificate}.key")])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self(child, line.trim().parse().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_download_waits_for_the_clock_that_certificates_need() {
    isolated("a_download_waits_for_the_clock_that_certificates_need", || {
        let device = Device::new("clock");
        let folder = device.path("tmp");
        switch::certificates(&folder, "reg.test");
        fs::write(device.path("etc/hosts"), "127.0.0.1 reg.test\n").unwrap();
        fs::create_dir_all(device.path("etc/ssl/certs")).unwrap();
        fs::copy(folder.join("ca.pem"), device.path("etc/ssl/certs/ca-certificates.crt")).unwrap();
        let [good, early] = ["good", "early"].map(|name| Server::start(&folder, name));
        let start = |front: &Switch| {
            let mut program = device.program(&format!("-n -i reg.test:{}/os:1", front.port));
            let log = fs::File::create(device.path("tmp/log")).unwrap();
            program.stdout(Stdio::null()).stderr(log).spawn().unwrap()
        };
        // Until it says that it waits, and then two seconds in which nothing happens.
        let waits = |part: &str| {
            let said = |_| {
                std::thread::sleep(Duration::from_millis(50));
                device.read("tmp/log").contains(part)
            };
            assert!((0..1200).any(said), "'{part}' in\n{}", device.read("tmp/log"));
            std::thread::sleep(Duration::from_secs(2));
        };
        // The release that it has not: it was asked, and believed.
        let asked = |mut child: Child| {
            child.wait().unwrap();
            let log = device.read("tmp/log");
            assert!(log.contains("No such image: ") && log.contains("status 404"), "{log}");
        };

        let marks = Marks::none(&device.path(""));
        let front = Switch::new(good.1);
        let mut child = start(&front);
        waits("waiting for the time: the clock is not known to be right");
        assert!(front.count() == 0 && child.try_wait().unwrap().is_none());
        marks.make("rtc");
        asked(child);

        let marks = Marks::none(&device.path(""));
        marks.make("rtc");
        let front = Switch::new(early.1);
        let mut child = start(&front);
        waits("trying again when another clock has confirmed that");
        assert!(front.count() == 1 && child.try_wait().unwrap().is_none());
        front.lead_to(good.1);
        marks.make("synchronized");
        asked(child);
        // Now it is a verdict.
        start(&Switch::new(early.1)).wait().unwrap();
        let log = device.read("tmp/log");
        assert!(log.contains("the certificate is valid from") && !log.contains("trying again"), "{log}");
    });
}
