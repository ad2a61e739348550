//! Updates of the host OS, good ones and bad ones, and the slot that each ends in (spec os §15.10.8). What the default run
//! leaves out runs with `MINKE_UPDATE=all tests/run vm`.

use minke_image::arch::Arch;
use minke_tests::artefact::{Fault, archive};
use minke_tests::device::{Device, PATIENT, Way};
use std::path::{Path, PathBuf};

const ALTBOOT: &[&str] = &["rollback-altboot-triggered"];
const HEALTH: &[&str] = &["rollback-health-triggered"];

/// A device whose releases are these, and come by a way where they have none of their own.
///
/// The emulated board of ARMv6 has its network behind USB, which brings 30 kB a second: a release would take nine minutes. Its
/// releases are on its card.
fn device(arch: Arch, releases: &[(&str, Fault)]) -> Device {
    if arch != Arch::Armv6 {
        return Device::start(arch);
    }
    let archives: Vec<PathBuf> =
        releases.iter().map(|(version, fault)| archive(arch, version, *fault)).collect();
    Device::with(arch, &archives.iter().map(PathBuf::as_path).collect::<Vec<&Path>>())
}

fn way(arch: Arch, wished: Way) -> Way {
    if arch == Arch::Armv6 { Way::Card } else { wished }
}

/// A release that is well replaces the one that runs.
fn good(device: &mut Device, arch: Arch, version: &str, to: u32, way: Way) {
    device.install(&archive(arch, version, Fault::None), self::way(arch, way));
    device.reboot();
    device.starts(to, "upgrade_available=1 bootcount=1");
    device.up();
    device.is(version, &to.to_string(), &[]);
}

/// A release whose kernel or stage 1 does not get through: three tries, then the old one, which makes itself the selected
/// one and starts once more.
fn never_up(device: &mut Device, arch: Arch, fault: Fault, to: u32, way: Way) {
    let (old, from) = (running(device), 5 - to);
    device.install(&archive(arch, "8.9.0", fault), self::way(arch, way));
    device.reboot();
    for number in 1..=3 {
        device.starts(to, &format!("upgrade_available=1 bootcount={number}"));
    }
    device.starts(from, "upgrade_available=1 bootcount=4");
    device.starts(from, "upgrade_available=0");
    device.up();
    device.is(&old, &from.to_string(), ALTBOOT);
    reason(device, "8.9.0", &old, &format!("slot {} was started and did not come up", letter(to)));
}

fn letter(partition: u32) -> &'static str {
    if partition == 3 { "B" } else { "A" }
}

/// A release that starts and is not well, for a reason with these words.
fn unwell(device: &mut Device, arch: Arch, fault: Fault, to: u32, why: &str) {
    let (old, from) = (running(device), 5 - to);
    device.trial(3, 5);
    device.install(&archive(arch, "8.9.0", fault), way(arch, Way::Registry));
    device.reboot();
    device.starts(to, "upgrade_available=1 bootcount=1");
    device.starts(from, "upgrade_available=0");
    device.up();
    device.trial(PATIENT, 3);
    device.is(&old, &from.to_string(), HEALTH);
    reason(device, "8.9.0", &old, why);
}

fn running(device: &mut Device) -> String {
    device.sh(". /etc/os-release; echo $VERSION")
}

/// The rollback is on record, with its reason.
fn reason(device: &mut Device, from: &str, to: &str, why: &str) {
    let record = device.sh("cat /mnt/state/rollback.json");
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!((record["from"].as_str(), record["to"].as_str()), (Some(from), Some(to)), "{record}");
    assert!(record["reason"].as_str().unwrap().contains(why), "'{why}' in {record}");
    let status = device.sh("hostapp-update status");
    assert!(status.contains(&format!("rollback  from: {from}")) && status.contains(why), "{status}");
}

#[test]
fn a_good_update_one_whose_kernel_panics_and_one_whose_engine_is_broken() {
    let arch = Arch::Aarch64;
    let mut device = Device::start(arch);
    good(&mut device, arch, "8.1.0", 3, Way::Registry);
    never_up(&mut device, arch, Fault::Kernel, 2, Way::Pipe);
    unwell(&mut device, arch, Fault::Engine, 2, "engine: ");
}

/// Kernels that have nothing to start, and systems that are not well; then a version, and the same version beside it.
fn other_ways(arch: Arch) {
    const RELEASES: [(&str, Fault); 7] = [
        ("8.9.0", Fault::Init),
        ("8.9.0", Fault::Corrupt),
        ("8.9.0", Fault::CutInitramfs),
        ("8.9.0", Fault::Engine),
        ("8.9.0", Fault::Network),
        ("8.9.0", Fault::Health),
        ("8.1.0", Fault::None),
    ];
    let mut device = device(arch, &RELEASES);
    for (_, fault) in RELEASES {
        let why = match fault {
            Fault::Engine => "engine: ",
            Fault::Network => "network: there was a default route before the update and there is none",
            Fault::Health => "/etc/rollback-health.d/never: status 1",
            Fault::None => continue,
            fault => {
                never_up(&mut device, arch, fault, 3, Way::Pipe);
                continue;
            }
        };
        unwell(&mut device, arch, fault, 3, why);
    }
    good(&mut device, arch, "8.1.0", 3, Way::Pipe);
    good(&mut device, arch, "8.1.0", 2, Way::Registry);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn the_other_ways_to_fail() {
    other_ways(Arch::Aarch64);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn the_other_ways_to_fail_on_x86_64() {
    other_ways(Arch::X86_64);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn the_other_ways_to_fail_on_armv7() {
    other_ways(Arch::Armv7);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn the_other_ways_to_fail_on_armv6() {
    other_ways(Arch::Armv6);
}

/// What a boot loader cannot load it does not start: the old system comes at once, and says so.
fn without_initramfs(arch: Arch) {
    let mut device = Device::start(arch);
    let old = running(&mut device);
    device.install(&archive(arch, "8.9.0", Fault::NoInitramfs), Way::Pipe);
    device.reboot();
    device.starts(2, "upgrade_available=1 bootcount=1");
    device.starts(2, "upgrade_available=0");
    device.up();
    device.is(&old, "2", ALTBOOT);
    reason(&mut device, "8.9.0", &old, "slot B had nothing to start");
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn without_an_initramfs() {
    without_initramfs(Arch::Aarch64);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn without_an_initramfs_on_x86_64() {
    without_initramfs(Arch::X86_64);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn without_an_initramfs_on_armv7() {
    without_initramfs(Arch::Armv7);
}

/// A reboot in order is no failed start; a power cut is one, and two are not too many.
fn cuts(arch: Arch) {
    let mut device = device(arch, &[("8.1.0", Fault::None)]);
    // A trial that leaves time for them.
    device.trial(PATIENT, 600);
    device.install(&archive(arch, "8.1.0", Fault::None), way(arch, Way::Registry));
    device.reboot();
    device.starts(3, "upgrade_available=1 bootcount=1");
    for _ in 0..2 {
        device.up();
        device.until("systemctl is-active -q rollback-health");
        device.reboot();
        device.starts(3, "upgrade_available=1 bootcount=1");
    }
    for number in 2..=3 {
        device.up();
        device.guest.kill();
        device.guest.restart().unwrap();
        device.starts(3, &format!("upgrade_available=1 bootcount={number}"));
    }
    device.up();
    device.trial(PATIENT, 3);
    device.sh("systemctl restart rollback-health");
    device.is("8.1.0", "3", &[]);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn reboots_and_power_cuts_during_the_trial() {
    cuts(Arch::Aarch64);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn reboots_and_power_cuts_during_the_trial_on_x86_64() {
    cuts(Arch::X86_64);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn reboots_and_power_cuts_during_the_trial_on_armv7() {
    cuts(Arch::Armv7);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn reboots_and_power_cuts_during_the_trial_on_armv6() {
    cuts(Arch::Armv6);
}

/// One update and one rollback on each of the other boot chains.
fn chain(arch: Arch) {
    let mut device = device(arch, &[("8.1.0", Fault::None), ("8.9.0", Fault::Kernel)]);
    good(&mut device, arch, "8.1.0", 3, Way::Registry);
    never_up(&mut device, arch, Fault::Kernel, 2, Way::Pipe);
}

/// By the kexec boot loader: an update, a reboot in order during its trial, its commit, and an update that panics. The
/// releases bring U-Boot's or GRUB's files along, as any does; what selects is `bootenv` all the same.
fn kexec(arch: Arch) {
    let mut device = Device::kexec(arch);
    device.trial(PATIENT, 600);
    device.install(&archive(arch, "8.1.0", Fault::None), Way::Registry);
    device.reboot();
    for _ in 0..2 {
        device.starts(3, "upgrade_available=1 bootcount=1");
        device.up();
        device.sh("ls /mnt/state/rollback-health-breadcrumb /mnt/state/rollback-altboot-breadcrumb");
        device.until("systemctl is-active -q rollback-health");
        // In order, it is no failed start.
        device.reboot();
    }
    device.starts(3, "upgrade_available=1 bootcount=1");
    device.up();
    let status = device.sh("hostapp-update status");
    assert!(status.contains("selected  B, on trial, started 1 of 3 times (balena bootloader)"), "{status}");
    device.trial(PATIENT, 3);
    device.sh("systemctl restart rollback-health");
    device.is("8.1.0", "3", &[]);
    never_up(&mut device, arch, Fault::Kernel, 2, Way::Pipe);
    let record = device.sh("grep -v '^#' /mnt/boot/bootenv | sort | tr '\n' ' '");
    assert_eq!(record, "bootcount=0 resin_root_part=B upgrade_available=0");
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn an_update_and_one_that_panics_by_kexec() {
    kexec(Arch::Aarch64);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn x86_64_by_kexec() {
    kexec(Arch::X86_64);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn x86_64_by_grub() {
    chain(Arch::X86_64);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn armv7_by_u_boot() {
    chain(Arch::Armv7);
}

#[test]
#[ignore = "MINKE_UPDATE=all"]
fn armv6_by_u_boot() {
    chain(Arch::Armv6);
}
