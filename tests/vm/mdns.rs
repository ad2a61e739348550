//! A guest with a second interface on a network of the test's own, on which our responder looks and asks from outside.
//! The network is a tap device in a network namespace of the test.

use crate::guest::{FASTEST, booted, direct, power_off, sh, start, until};
use minke_tests::mdns_lab::{Background, Lab, until_or};
use minke_tests::{Daemon, in_namespace, release, run, text};
use std::process::Command;
use std::time::Instant;

/// The guest's unit and its socket, as the supervisor names them (HOST_DISCOVERABILITY).
const UNITS: &str = "avahi-daemon.socket avahi-daemon.service";

#[test]
fn a_device_is_found_follows_its_name_and_can_be_hidden() {
    in_namespace(|| {
        let lab = Lab::new("vm");
        for words in
            ["tuntap add mode tap name tap0", "address add 10.79.0.1/24 dev tap0", "link set tap0 up"]
        {
            run(Command::new("ip").args(words.split(' ')));
        }
        let mut dhcp = Command::new("dnsmasq");
        dhcp.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--pid-file=",
        ]);
        dhcp.args(["--interface=tap0", "--bind-interfaces", "--dhcp-range=10.79.0.50,10.79.0.99,1h"]);
        dhcp.args(["--dhcp-option=3", "--dhcp-option=6"]);
        dhcp.arg(format!("--dhcp-leasefile={}/leases", lab.folder.display()));
        let _dhcp = Daemon::start(&mut dhcp);
        let socket = lab.folder.join("sock");
        let mdns = |words: &[&str]| {
            let mut command = Command::new(release("x86_64"));
            command.arg("mdns").args(words).arg("--socket").arg(&socket);
            command
        };
        let _observer = Daemon::start(&mut mdns(&[
            "run",
            "--host",
            "observer",
            "--interface",
            "tap0",
            "--services",
            "/nonexistent",
        ]));
        until_or("the observer runs", || mdns(&["status"]).output().unwrap().status.success(), String::new);
        let browse = ["browse", "_resin-device._sub._ssh._tcp", "--resolve"];
        let browser = Background::start(&lab, "browse", &mut mdns(&browse));

        let mut settings = direct(FASTEST);
        settings.config = Some(br#"{"hostname":"kitchen"}"#.to_vec());
        let options =
            "-netdev tap,id=lan,ifname=tap0,script=no,downscript=no -device virtio-net-device,netdev=lan";
        settings.options = options.split(' ').map(str::to_owned).collect();
        let mut guest = start(settings);
        booted(&mut guest);
        browser.until("= tap0 'kitchen' _ssh._tcp kitchen.local 22222 10.79.0.");
        until(&mut guest, "mdns status | grep -qx kitchen.local");
        println!(
            "{}",
            sh(&mut guest, "journalctl -b -o short-monotonic --no-pager -u avahi-daemon; mdns status")
        );

        // It has no rights, and a filter.
        let status = sh(&mut guest, "cat /proc/$(systemctl show -p MainPID --value avahi-daemon)/status");
        for line in [
            "Uid:\t103\t103\t103\t103",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "Seccomp:\t2",
        ] {
            assert!(status.replace('\r', "").lines().any(|found| found == line), "{line}\n{status}");
        }

        // It finds others too.
        until(&mut guest, "mdns resolve observer | grep -q '10.79.0.1 '");

        // So do the host's programs and a container's, by the forwarder (spec os, complaint #1531).
        until(&mut guest, "nslookup observer.local | grep -q 10.79.0.1");
        let pid = "$(balena inspect $(balena ps -q | head -n 1) | sed -n 's/.*\"Pid\": *\\([0-9]*\\).*/\\1/p' | head -n 1)";
        until(
            &mut guest,
            &format!("nsenter -t {pid} -m -n /bin/busybox nslookup observer.local | grep -q 10.79.0.1"),
        );

        // Spec os §4.4.8: a changed name is visible within ten seconds.
        let begin = Instant::now();
        sh(&mut guest, "config-json set hostname pantry");
        browser.until("= tap0 'pantry' _ssh._tcp pantry.local 22222 10.79.0.");
        println!("the new name was seen after {} ms", begin.elapsed().as_millis());
        browser.until("- tap0 'kitchen' _ssh._tcp");
        let service = "systemctl show -p NRestarts --value avahi-daemon";
        assert_eq!(sh(&mut guest, service), "0", "the responder follows the name without a restart");

        // Hidden, and found again (supervisor spec, HOST_DISCOVERABILITY).
        sh(&mut guest, &format!("systemctl stop {UNITS}"));
        browser.until("- tap0 'pantry' _ssh._tcp");
        assert!(text(&mdns(&["resolve", "pantry"]).output().unwrap()).is_empty());
        assert!(sh(&mut guest, "mdns status 2>&1 || true").contains("the responder is not running"));
        sh(&mut guest, &format!("systemctl start {UNITS}"));
        let twice = || browser.text().matches("= tap0 'pantry' _ssh._tcp").count() >= 2;
        until_or("found again", twice, || browser.text());

        // It comes back when it dies.
        sh(&mut guest, "kill -KILL $(systemctl show -p MainPID --value avahi-daemon)");
        until(&mut guest, "mdns status | grep -qx pantry.local");
        power_off(&mut guest);
    });
}
