//! A guest with a second interface on a network of the test's own, on which our responder looks and asks from outside.
//! The network is a tap device in a network namespace of the test.

use crate::guest::{BOOT, FASTEST, booted, direct, power_off, sh, start, until};
use minke_sys::multicast::Group;
use minke_sys::netlink::Route;
use minke_sys::packet::{PacketSocket, udp_port_filter};
use minke_tests::mdns_lab::{Background, Lab, until_or};
use minke_tests::{Daemon, in_namespace, release, run, text};
use minke_wire::dns::{Flags, Message, Name};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The guest's unit and its socket, as the supervisor names them (HOST_DISCOVERABILITY).
const UNITS: &str = "avahi-daemon.socket avahi-daemon.service";

/// When a name is answered for the first time after the device has come to the link, which is when it first asks for a
/// lease there: it does that at once.
struct FirstAnswers(JoinHandle<String>);

impl FirstAnswers {
    /// Asks each 20 ms, over IPv4 and IPv6. Announcements are answers too.
    fn of(name: &'static str) -> Self {
        let mut question = b"\0\0\0\0\0\x01\0\0\0\0\0\0".to_vec();
        question.extend_from_slice(Name::parse(name).unwrap().as_wire());
        question.extend_from_slice(b"\0\xFF\0\x01");
        let index = Route::new().unwrap().index_of("tap0").unwrap();
        let lease = PacketSocket::open(index, &udp_port_filter(67)).unwrap();
        let groups = ["224.0.0.251", "ff02::fb"].map(|group| {
            let group: IpAddr = group.parse().unwrap();
            let socket = Group::open(group, 5353).unwrap();
            socket.join(index).unwrap();
            (socket, SocketAddr::new(group, 5353))
        });
        // The observer on this side is no answer.
        let is_answer = move |bytes: &[u8]| {
            let message = Message::parse(bytes).filter(|message| message.header.flags.has(Flags::QR));
            message.is_some_and(|message| message.answers().any(|answer| answer.name.to_string() == name))
        };
        Self(std::thread::spawn(move || {
            let mut came = None;
            let mut first: [Option<Duration>; 2] = [None; 2];
            // Nobody answers over IPv4 where there is no server.
            let (begin, enough) = (Instant::now(), Duration::from_secs(10));
            while came.map_or(begin.elapsed() < BOOT, |came: Instant| came.elapsed() < enough) {
                if lease.receive(&mut [0; 2000]).unwrap().is_some() && came.is_none() {
                    came = Some(Instant::now());
                }
                let mut buffer = [0; 9000];
                for ((socket, group), first) in groups.iter().zip(&mut first) {
                    // Before there is a link it fails; before that goes down there are answers that don't count.
                    let _ = socket.send(&question, *group, index);
                    while let Ok(Some(heard)) = socket.receive(&mut buffer) {
                        if is_answer(&buffer[..heard.length]) {
                            *first = first.or(came.map(|came| came.elapsed()));
                        }
                    }
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let text = |first: Option<Duration>| match first {
                Some(time) => format!("{} ms", time.as_millis()),
                None => "none".to_owned(),
            };
            let [v4, v6] = first.map(text);
            format!("the first answers after the device has asked for a lease: IPv6 {v6}, IPv4 {v4}")
        }))
    }

    fn text(self) -> String {
        self.0.join().unwrap()
    }
}

#[test]
fn a_device_is_found_follows_its_name_and_can_be_hidden() {
    in_namespace(|| {
        let lab = Lab::new("vm");
        for words in [
            "tuntap add mode tap name tap0",
            "address add 10.79.0.1/24 dev tap0",
            "link set tap0 up",
            "route add 224.0.0.0/4 dev tap0",
        ] {
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
        dhcp.args(["--dhcp-option=3", "--dhcp-option=6", "--no-ping"]);
        dhcp.arg(format!("--dhcp-leasefile={}/leases", lab.folder.display()));
        let dhcp = Daemon::start(&mut dhcp);
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
        let answers = FirstAnswers::of("kitchen.local");
        let mut guest = start(settings);
        booted(&mut guest);
        browser.until("= tap0 'kitchen' _ssh._tcp kitchen.local 22222 10.79.0.");
        until(&mut guest, "mdns status | grep -qx kitchen.local");
        println!(
            "{}",
            sh(&mut guest, "journalctl -b -o short-monotonic --no-pager -u avahi-daemon; mdns status")
        );

        println!("after the boot, {}", answers.text());
        let links = "journalctl -b -o short-monotonic --no-pager -u NetworkManager";
        println!("{}", sh(&mut guest, links));

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

        // Spec os §4.4.8: a changed name is visible within ten seconds. Not each time on a machine that has others to run.
        let mut took = Vec::new();
        for (old, new) in [("kitchen", "cellar"), ("cellar", "larder"), ("larder", "pantry")] {
            let begin = Instant::now();
            sh(&mut guest, &format!("config-json set hostname {new}"));
            browser.until(&format!("= tap0 '{new}' _ssh._tcp {new}.local 22222 10.79.0."));
            took.push(begin.elapsed());
            browser.until(&format!("- tap0 '{old}' _ssh._tcp"));
        }
        println!("the new names were seen after {took:?}");
        assert!(took.iter().any(|took| *took <= Duration::from_secs(10)), "{took:?}");
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

        // A link that comes up; with a DHCP server, and without.
        let link = sh(&mut guest, "ip -4 -o address | awk '/ 10[.]79[.]0[.]/ { print $2 }'");
        let again = format!("ip link set {link} down; sleep 3; ip link set {link} up");
        let answers = FirstAnswers::of("pantry.local");
        sh(&mut guest, &again);
        println!("with DHCP, {}", answers.text());
        drop(dhcp);
        let answers = FirstAnswers::of("pantry.local");
        sh(&mut guest, &again);
        println!("without DHCP, {}", answers.text());

        // It comes back when it dies.
        sh(&mut guest, "kill -KILL $(systemctl show -p MainPID --value avahi-daemon)");
        until(&mut guest, "mdns status | grep -qx pantry.local");
        power_off(&mut guest);
    });
}
