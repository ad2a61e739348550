//! From power-on to the container's first line, on every boot chain.

use crate::guest::{firmware, first_line, get_until, power_off, sh, start, until};
use minke_image::arch::Arch;
use minke_image::demo;

/// Boots through firmware and boot loader, sees the container's first line on the console, and reaches the
/// container and the supervisor from outside.
fn boots(arch: Arch, machine: &str) {
    let mut guest = start(firmware(arch));
    first_line(&mut guest);
    assert_eq!(sh(&mut guest, "uname -m"), machine);
    get_until(&guest, demo::PORT, "/", demo::PAGE);
    get_until(&guest, 48484, "/ping", "OK");
    get_until(&guest, 48484, "/v1/healthy", "OK");
    // The forwarder answers behind its filter of system calls, whose lists differ between architectures.
    for way in ["", "--tcp"] {
        until(&mut guest, &format!("dns query {way} $(hostname) A | grep -q ' A 10.0.2.15$'"));
    }
    // The time client comes with the network, which no container waits for.
    until(&mut guest, "dns flush && dns status && network status && ntp status --json");
    for service in ["dnsmasq", "avahi-daemon", "chronyd", "NetworkManager"] {
        until(
            &mut guest,
            &format!("grep -q 'Seccomp:.2' /proc/$(systemctl show -p MainPID --value {service})/status"),
        );
    }
    power_off(&mut guest);
}

#[test]
fn aarch64_on_a_cortex_a53() {
    boots(Arch::Aarch64, "aarch64");
}

#[test]
fn armv7_on_a_cortex_a7() {
    boots(Arch::Armv7, "armv7l");
}

#[test]
fn armv6_on_an_arm1176() {
    boots(Arch::Armv6, "armv6l");
}

#[test]
fn x86_64_on_uefi() {
    boots(Arch::X86_64, "x86_64");
}
