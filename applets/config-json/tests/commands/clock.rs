//! `os-config` while nothing has confirmed the device's clock.

use crate::os_config::device;
use crate::{Device, outcome, program};
use minke_tests::cloud::Cloud;
use minke_tests::switch::{self, Marks, Switch, with_empty_run};
use minke_wire::json::json;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A device, a cloud whose certificate holds, and one whose is not valid yet.
fn lab(name: &str) -> (Device, Cloud, Cloud) {
    let device = device(name);
    let root = &device.0.0;
    switch::certificates(&root.join("authority"), "cloud.test");
    std::fs::copy(root.join("authority/ca.pem"), root.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    let [good, early] = ["good", "early"].map(|name| Cloud::start(&device.0.0.join("authority"), name, 0));
    (device, good, early)
}

fn start(device: &Device, words: &[&str]) -> Child {
    let root = device.0.0.to_str().unwrap();
    let mut command = program("os-config", &[&["--root", root], words].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn endpoint(front: &Switch) -> String {
    format!("https://cloud.test:{}", front.port)
}

#[test]
fn a_join_waits_for_the_clock_when_a_certificate_s_dates_are_wrong() {
    with_empty_run("clock::a_join_waits_for_the_clock_when_a_certificate_s_dates_are_wrong", || {
        let (device, good, early) = lab("join");
        device.put(r#"{"deviceType":"pi"}"#);
        let join = |front: &Switch| {
            start(
                &device,
                &["join", &json!({ "apiEndpoint": endpoint(front), "deviceType": "pi" }).to_string()],
            )
        };
        let marks = Marks::none("/".as_ref());
        let front = Switch::new(early.port());
        let mut child = join(&front);
        front.wait_for(1);
        std::thread::sleep(Duration::from_secs(2));
        assert!(front.count() == 1 && child.try_wait().unwrap().is_none());
        front.lead_to(good.port());
        marks.make("synchronized");
        let (status, text, log) = outcome(child.wait_with_output().unwrap());
        assert!(status == 0 && text.contains("Service configuration retrieved\n"), "{text}{log}");
        assert!(
            log.lines().count() == 1 && log.contains("cloud.test: the certificate is valid from"),
            "{log}"
        );
        assert!(log.ends_with("; trying again when another clock has confirmed that\n"), "{log}");
        // Now it is a verdict, and so it is where nobody would confirm the clock.
        for round in 0..2 {
            if round == 1 {
                std::fs::remove_dir_all("/run/systemd").unwrap();
            }
            let (status, _, log) = outcome(join(&Switch::new(early.port())).wait_with_output().unwrap());
            assert!(status == 1 && log.lines().count() == 1 && !log.contains("trying again"), "{log}");
        }
    });
}

/// The pause before the next attempt is 2 s long when 10 s have passed. On a busy machine not each mark is followed by an
/// attempt in half of that; without waking none is.
#[test]
fn an_update_tries_again_as_soon_as_the_clock_is_right() {
    with_empty_run("clock::an_update_tries_again_as_soon_as_the_clock_is_right", || {
        let (device, good, early) = lab("wakes");
        let front = Switch::new(early.port());
        device.managed(&endpoint(&front), "");
        let _ = Marks::none("/".as_ref());
        let mut child = start(&device, &["update"]);
        front.wait_for(12);
        let mut woken = false;
        for _ in 0..8 {
            let _ = std::fs::remove_file("/run/systemd/timesync/synchronized");
            let count = front.count();
            front.wait_for(count + 1);
            // The attempt has ended, and the pause has begun.
            std::thread::sleep(Duration::from_millis(300));
            let begun = Instant::now();
            std::fs::write("/run/systemd/timesync/synchronized", "test").unwrap();
            front.wait_for(count + 2);
            woken |= begun.elapsed() < Duration::from_secs(1);
            if woken {
                break;
            }
        }
        assert!(woken);
        assert!(child.try_wait().unwrap().is_none(), "an update gives nothing up");
        front.lead_to(good.port());
        let (status, text, _) = outcome(child.wait_with_output().unwrap());
        assert!(status == 0 && text.contains("Service configuration retrieved\n"), "{text}");
    });
}
