//! What names weigh: `dns` and `mdns` as the system runs them, beside dnsmasq and avahi-daemon in the same guest.

use crate::guest::{booted, direct, power_off, sh, start, until};
use minke_image::arch::Arch;
use minke_tests::foreign::{self, FOLDER};
use minke_tests::in_namespace;
use minke_tests::time_net::Scratch;

/// As Debian runs them; Avahi without its D-Bus interface and the daemon behind that, which would weigh more.
const BEGIN: &str = "mkdir -p /run/avahi-daemon; export LD_LIBRARY_PATH=$PWD
    printf '[server]\\nhost-name=peer\\nenable-dbus=no\\n' > avahi.conf
    setsid ./dnsmasq -k -C /dev/null -p 5300 -a 127.0.0.9 -z -u root --pid-file --log-facility=- > dnsmasq.log 2>&1 < /dev/null &
    setsid ./avahi-daemon --no-drop-root --no-chroot --no-rlimits -f $PWD/avahi.conf > avahi.log 2>&1 < /dev/null &";

/// PSS of the processes of these names, in KiB.
fn weigh(guest: &mut minke_image::guest::Guest, names: &str) -> u64 {
    let script = format!(
        "for name in {names}; do for id in $(pidof $name); do awk '/^Pss:/ {{ print $2 }}' /proc/$id/smaps_rollup; done; done"
    );
    let found = sh(guest, &script);
    println!("{names}: {}", found.replace('\n', " "));
    let weights: Vec<u64> = found.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(weights.len(), names.split(' ').count(), "{found}");
    weights.iter().sum()
}

#[test]
fn names_weigh_at_most_a_third_of_what_avahi_and_dnsmasq_do() {
    in_namespace(|| {
        let scratch = Scratch::new("weight");
        let _files = foreign::serve(&scratch.0, &["dnsmasq", "avahi-daemon"]);
        let mut settings = direct(Arch::X86_64);
        settings.config = Some(br#"{"developmentMode":true,"hostname":"ours"}"#.to_vec());
        let mut guest = start(settings);
        booted(&mut guest);
        foreign::fetch(&mut guest);
        sh(&mut guest, &format!("set -e; cd {FOLDER}; {BEGIN}"));
        // Each knows its interfaces; those of one host need not agree on names.
        until(
            &mut guest,
            &format!(
                "cd {FOLDER}; grep 'Registering new address record' avahi.log || {{ cat avahi.log; false; }}"
            ),
        );
        until(
            &mut guest,
            &format!("cd {FOLDER}; grep 'started' dnsmasq.log || {{ cat dnsmasq.log; false; }}"),
        );
        until(&mut guest, "mdns resolve ours.local && dns query ours");
        let ours = weigh(&mut guest, "dns mdns");
        let theirs = weigh(&mut guest, "dnsmasq avahi-daemon");
        assert!(ours * 3 <= theirs, "{ours} KiB beside {theirs}");
        power_off(&mut guest);
    });
}
