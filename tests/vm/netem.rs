//! A guest whose servers are behind a bad network: the kernel's own netem delays, loses, doubles and reorders.

use crate::guest::{booted, direct, number, power_off, sh, start};
use minke_image::arch::Arch;
use minke_tests::time_net::{RELAY, Scratch, TRUE, address, honest, several};
use minke_tests::{foreign, in_namespace, netem};

const SERVERS: u8 = 4;
/// The guest's device that leads to the bad network.
const DEVICE: &str = "eth1";

/// What netem does there and back, and how far the clock may be off then, in milliseconds: delays that differ by direction
/// are half of their difference, which nobody can tell from inside, and the bound has as much again for a machine that is
/// busy.
const PATHS: [(&str, &str, i64); 3] = [
    ("delay 60ms 40ms loss 50%", "delay 60ms 40ms", 90),
    ("delay 30ms 10ms 25% loss 20% 25% duplicate 10% reorder 25%", "delay 30ms 10ms loss 20% corrupt 1%", 40),
    ("delay 120ms 5ms", "delay 20ms 5ms", 100),
];

#[test]
fn time_comes_through_what_netem_does_to_packets() {
    in_namespace(|| {
        let scratch = Scratch::new("netem");
        let _servers = several(&scratch.0, SERVERS);
        // Beyond the guest's other device, which is without faults.
        let judge = address(RELAY, 1);
        let _judge = honest(&scratch.0, judge, 1, "");
        let _files = foreign::serve(&scratch.0, &netem::PROGRAMS);
        let mut settings = direct(Arch::X86_64);
        settings.options = netem::tap(0).split_whitespace().map(str::to_owned).collect();
        settings.config = Some(br#"{"os":{"network":{"connectivity":{"uri":"null"}}}}"#.to_vec());
        let mut guest = start(settings);
        booted(&mut guest);
        sh(&mut guest, "systemctl stop chronyd");
        foreign::fetch(&mut guest);
        netem::begin(&mut guest, 0, DEVICE, "10.77.0.0/24", "delay 1ms");
        let servers: String = (1..=SERVERS)
            .map(|number| format!("server {} iburst minpoll 2 maxpoll 2\\n", address(TRUE, number).ip()))
            .collect();
        sh(&mut guest, &format!("printf '{servers}' > /run/chrony/test.sources"));
        for (there, back, most) in PATHS {
            netem::change(&mut guest, DEVICE, there);
            netem::change(&mut guest, "port", back);
            // Two minutes wrong, and no memory of better days.
            let begin = "systemctl stop chronyd; rm -f /var/lib/chrony/*; date -s @$(($(date +%s) - 120)); systemctl start chronyd; \
                         chronyc waitsync 180 0.1 0 1 > /dev/null || { ntp status; ntp sources; exit 1; }; sleep 20; ntp status";
            println!("{there}, {back}:\n{}", sh(&mut guest, begin));
            let query = format!("ntp query {} --count 3 --timeout 30 --json", judge.ip());
            let offset = number(&mut guest, &query, "offset_ns");
            println!("off by {} us", offset / 1000);
            assert!(offset.abs() <= most * 1_000_000, "{there}, {back}: {offset} ns");
            // What it says of its own error is true.
            let status = "ntp status --json";
            let distance = number(&mut guest, status, "root_delay_ns") / 2
                + number(&mut guest, status, "root_dispersion_ns");
            assert!(offset.abs() <= distance + 10_000_000, "{there}, {back}: {offset} ns, of {distance}");
        }
        power_off(&mut guest);
    });
}
