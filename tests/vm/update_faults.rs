//! Updates that come to nothing, in one guest: the system that runs is untouched, and a good update succeeds then.

use minke_image::guest::Settings;
use minke_image::machine::Start;
use minke_tests::artefact::{Fault, archive};
use minke_tests::device::{Device, Way, image};
use minke_tests::disk::Partition;
use minke_tests::guest::{FASTEST, try_sh};

/// What must not change: the slot that runs, the boot partition but for the times of its files, the selection.
const UNTOUCHED: &str = "sync; echo 3 > /proc/sys/vm/drop_caches; sha256sum $(readlink -f /dev/disk/by-state/active); \
    cd /mnt/boot && find . -type f | sort | xargs sha256sum";

fn refused(device: &mut Device, command: &str, told: &str) {
    let before = device.sh(UNTOUCHED);
    let (said, status) = try_sh(&mut device.guest, command);
    assert_eq!(status, 1, "{command}: {said}");
    let last = said.trim().lines().last().unwrap_or_default();
    assert!(last.contains(told), "'{told}' in {said}");
    assert_eq!(device.sh(UNTOUCHED), before, "{command}");
    device.sh("cat /mnt/boot/resinOS_uEnv.txt | grep -q upgrade_available=0");
}

#[test]
fn a_bad_card_and_a_download_that_breaks_off() {
    let disk = image(FASTEST);
    let slot = Partition::labelled(&disk, "resin-rootB");
    // Every sixteenth of the slot has a spot; the first are in its tables.
    let bad_sectors = (1..16).map(|part| slot.start + slot.sectors / 16 * part + 512).collect();
    let settings = Settings { start: Start::Firmware, bad_sectors, ..Settings::new(FASTEST, &disk) };
    let mut device = Device::on(settings);
    let release = archive(FASTEST, "8.1.0", Fault::None);
    let command = device.command(&release, Way::Registry);
    refused(&mut device, &command, "I/O error");
    let command = device.command(&release, Way::Pipe);
    refused(&mut device, &command, "I/O error");
    // On another card.
    device.guest.kill();
    device.guest.settings_mut().bad_sectors = Vec::new();
    device.guest.restart().unwrap();
    device.up();
    // The rest never comes. From a registry it is waited for, two and a half minutes in all.
    let all = std::env::var("MINKE_UPDATE").is_ok_and(|all| all == "all");
    for way in [Way::Pipe, Way::Registry].into_iter().take(if all { 2 } else { 1 }) {
        let command = device.command(&release, way);
        device.registry.end(4 << 20);
        refused(&mut device, &command, "");
        device.registry.end(0);
    }
    // It comes in pieces: what was there is not sent again.
    device.registry.sent();
    device.registry.pieces(3 << 20);
    device.install(&release, Way::Registry);
    let (size, sent) = (std::fs::metadata(&release).unwrap().len(), device.registry.sent());
    assert!(sent < size + size / 10, "{sent} bytes were sent for an archive of {size}");
    device.registry.pieces(0);
    device.reboot();
    device.starts(3, "upgrade_available=1 bootcount=1");
    device.up();
    device.is("8.1.0", "3", &[]);
}
