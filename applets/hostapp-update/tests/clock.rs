//! A download while nothing has confirmed the device's clock. The registry is a web server that has nothing: what counts
//! is when it is asked.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

// Other tests use the rest.
#[allow(dead_code)]
mod common;

use common::{Device, isolated};
use minke_tests::server::Server;
use minke_tests::switch::{self, Marks, Switch};
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

#[test]
fn entry() {
    common::entry();
}

/// A web server with a certificate for `reg.test`.
fn serve(folder: &Path, certificate: &str) -> Server {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../timesync/tests/server.py");
    let (certificate, key) = (format!("{certificate}.pem"), format!("{certificate}.key"));
    Server::start(&script, &["127.0.0.1", &certificate, &key], folder)
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
        let [good, early] = ["good", "early"].map(|name| serve(&folder, name));
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
        let front = Switch::new(good.port);
        let mut child = start(&front);
        waits("waiting for the time: the clock is not known to be right");
        assert!(front.count() == 0 && child.try_wait().unwrap().is_none());
        marks.make("rtc");
        asked(child);

        let marks = Marks::none(&device.path(""));
        marks.make("rtc");
        let front = Switch::new(early.port);
        let mut child = start(&front);
        waits("trying again when another clock has confirmed that");
        assert!(front.count() == 1 && child.try_wait().unwrap().is_none());
        front.lead_to(good.port);
        marks.make("synchronized");
        asked(child);
        // Now it is a verdict.
        start(&Switch::new(early.port)).wait().unwrap();
        let log = device.read("tmp/log");
        assert!(log.contains("the certificate is valid from") && !log.contains("trying again"), "{log}");
    });
}
