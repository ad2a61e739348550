//! Power cuts and clean ends, and what they leave on the disk.

use crate::guest::{BOOT, firmware, first_line, power_off, sh, start, until};
use minke_image::arch::Arch;
use minke_image::guest::Guest;
use minke_tests::{run, text};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// A partition of a disk image.
struct Partition {
    label: &'static str,
    start: u64,
    sectors: u64,
}

/// The partitions of an x86_64 image, by sfdisk's account.
fn partitions(disk: &Path) -> Vec<Partition> {
    let output = text(&run(Command::new("sfdisk").args(["--json"]).arg(disk)));
    let table: serde_json::Value = serde_json::from_str(&output).unwrap();
    let list = table["partitiontable"]["partitions"].as_array().unwrap();
    let labels = ["resin-boot", "resin-rootA", "resin-rootB", "resin-state", "resin-data"];
    assert_eq!(list.len(), labels.len());
    list.iter()
        .zip(labels)
        .map(|(entry, label)| Partition {
            label,
            start: entry["start"].as_u64().unwrap(),
            sectors: entry["size"].as_u64().unwrap(),
        })
        .collect()
}

/// Takes a partition out of the disk into a file of its own.
fn extract(disk: &Path, partition: &Partition) -> PathBuf {
    let path = disk.with_extension(partition.label);
    let mut command = Command::new("dd");
    command.arg(format!("if={}", disk.display())).arg(format!("of={}", path.display()));
    command.args(["bs=512", "conv=sparse", "status=none"]);
    command.arg(format!("skip={}", partition.start)).arg(format!("count={}", partition.sectors));
    run(&mut command);
    path
}

/// Checks every file system without changing it: none may have a fault, wait for a replay of its journal, or have a
/// mark of a power cut.
fn check_clean(guest: &Guest) {
    let disk = guest.folder().join("exported");
    guest.overlay().export(&disk).unwrap();
    for partition in partitions(&disk) {
        let file = extract(&disk, &partition);
        if partition.label == "resin-boot" {
            let output = Command::new("fsck.vfat").arg("-n").arg(&file).output().unwrap();
            let said = text(&output);
            // What remains are its version and the count of files and clusters.
            let faults =
                said.lines().filter(|line| !line.starts_with("fsck.fat ") && !line.contains(" files, "));
            assert_eq!(faults.filter(|line| !line.trim().is_empty()).count(), 0, "{said}");
        } else {
            run(Command::new("e2fsck").args(["-f", "-n"]).arg(&file));
            let features = text(&run(Command::new("dumpe2fs").arg("-h").arg(&file)));
            assert!(!features.contains("needs_recovery"), "{} was not unmounted", partition.label);
            assert!(features.contains("clean\n"), "{} is not clean", partition.label);
        }
        std::fs::remove_file(file).unwrap();
    }
    std::fs::remove_file(disk).unwrap();
}

/// An orderly end leaves every file system clean. Three power cuts at different moments: each time the device
/// comes back with the same identity and runs its container, and no file system has a fault.
#[test]
fn power_cuts_lose_nothing_and_poweroff_leaves_all_clean() {
    let mut guest = start(firmware(Arch::X86_64));
    first_line(&mut guest);
    let uuid = sh(&mut guest, "config-json get uuid");
    let machine = sh(&mut guest, "cat /etc/machine-id");
    assert_eq!(uuid.trim_matches('"').len(), 32, "{uuid}");
    power_off(&mut guest);
    check_clean(&guest);
    guest.restart().unwrap();
    first_line(&mut guest);
    for moment in [0, 300, 1500] {
        std::thread::sleep(Duration::from_millis(moment));
        guest.kill();
        guest.restart().unwrap();
        first_line(&mut guest);
    }
    assert_eq!(sh(&mut guest, "config-json get uuid"), uuid);
    assert_eq!(sh(&mut guest, "cat /etc/machine-id"), machine);
    let images = sh(&mut guest, "balena images");
    assert_eq!(images.matches("minke/demo").count(), 1, "{images}");
    assert!(!sh(&mut guest, "ls /mnt/data/preload").contains(".bad"));
    until(&mut guest, "balena ps | grep -q demo");
    power_off(&mut guest);
    check_clean(&guest);
    guest.restart().unwrap();
    guest.wait_for(minke_image::demo::FIRST_LINE, BOOT).unwrap();
}
