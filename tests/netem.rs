//! A bad network in an x86_64 guest: a router in a network namespace of its own holds packets up in both directions with the
//! kernel's netem, on the way from `lan` to a tap device of this machine. On the client's own device netem would delay them
//! before the kernel stamps their time.

use crate::foreign::FOLDER;
use crate::guest::sh;
use crate::run;
use minke_image::guest::Guest;
use std::process::Command;

/// What the guest needs for it ([`crate::foreign`]).
pub const PROGRAMS: [&str; 2] = ["ip", "tc"];

/// Makes the tap device in this network namespace; QEMU's options for a device of the guest that leads there.
pub fn tap(number: u8) -> String {
    let script = format!(
        "ip tuntap add tap{number} mode tap; ip addr add 10.99.{number}.1/24 dev tap{number}
         ip link set tap{number} up; ip route add 10.98.{number}.0/24 via 10.99.{number}.2"
    );
    run(Command::new("sh").args(["-ec", &script]));
    format!(
        "-netdev tap,id=bad{number},ifname=tap{number},script=no,downscript=no \
         -device virtio-net-pci,netdev=bad{number},romfile="
    )
}

/// Lets the guest reach `networks` by its device `device`, behind a router whose netem does what `options` say.
pub fn begin(guest: &mut Guest, number: u8, device: &str, networks: &str, options: &str) {
    let script = format!(
        "set -e; cd {FOLDER}; export LD_LIBRARY_PATH=$PWD; ip() {{ ./ip \"$@\"; }}
         ip netns add wan; ip link add lan type veth peer name port netns wan; ip link set {device} netns wan
         ip addr add 10.98.{number}.2/24 dev lan; ip link set lan up; ip route add {networks} via 10.98.{number}.1
         ip -n wan addr add 10.98.{number}.1/24 dev port; ip -n wan addr add 10.99.{number}.2/24 dev {device}
         ip -n wan link set port up; ip -n wan link set {device} up; ip -n wan route add default via 10.99.{number}.1
         ip netns exec wan sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'"
    );
    sh(guest, &script);
    for device in [device, "port"] {
        change(guest, device, options);
    }
}

/// Lets netem do something else from now on, on the way out by a device of the router: that of the guest is the way there,
/// `port` the way back.
pub fn change(guest: &mut Guest, device: &str, options: &str) {
    let tc = format!("./ip netns exec wan ./tc qdisc replace dev {device} root netem {options}");
    sh(guest, &format!("cd {FOLDER}; export LD_LIBRARY_PATH=$PWD; {tc}"));
}
