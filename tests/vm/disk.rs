//! Power cuts and clean ends, and what they leave on the disk.

use crate::guest::{BOOT, FASTEST, booted, direct, firmware, first_line, power_off, sh, start, until, wait};
use minke_image::guest::Guest;
use minke_image::guest::Settings;
use minke_image::tree::Scratch;
use minke_tests::disk::{Partition, partitions};
use minke_tests::{run, text};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

/// Checks every file system without changing it: none may have a fault, wait for a replay of its journal, or have a
/// mark of a power cut.
pub(crate) fn check_clean(guest: &Guest) {
    let disk = guest.folder().join("exported");
    guest.overlay().export(&disk).unwrap();
    for partition in partitions(&disk) {
        let file = partition.extract(&disk);
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
    let mut guest = start(firmware(FASTEST));
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

/// What e2fsck's careful pass gives up on, its second one repairs: a folder without its inode, and a file system that
/// has lost its beginning, with its label.
#[test]
fn a_lost_folder_and_a_lost_superblock_are_repaired() {
    let scratch = Scratch::new("repair").unwrap();
    let disk = scratch.join("disk.img");
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    let identity = sh(&mut guest, "config-json get uuid; cat /etc/machine-id");
    power_off(&mut guest);
    guest.overlay().export(&disk).unwrap();
    let state = Partition::labelled(&disk, "resin-state");
    let file = state.extract(&disk);
    // The kernel that notices it marks the file system as having errors.
    for request in ["clri /root-overlay", "set_super_value state 2"] {
        run(Command::new("debugfs").args(["-w", "-R", request]).arg(&file));
    }
    state.put_back(&disk, &file);
    let data = Partition::labelled(&disk, "resin-data");
    File::options().write(true).open(&disk).unwrap().write_all_at(&[0; 8192], data.start * 512).unwrap();

    let mut guest = start(Settings { image: disk, ..direct(FASTEST) });
    first_line(&mut guest);
    let log = sh(&mut guest, "cat /run/initramfs/initramfs.debug");
    assert!(log.contains("resin-state was not repaired (e2fsck -p"), "{log}");
    assert!(log.contains("resin-state was repaired"), "{log}");
    assert_eq!(sh(&mut guest, "config-json get uuid; cat /etc/machine-id"), identity);
    sh(&mut guest, "mount-state check");
    sh(&mut guest, "test -e /mnt/data/docker && test -e /mnt/data/remove_me_to_reset");
}

/// A data partition that is nowhere to be found: one restart, in which stage 1 looks at the disk, and no second one (spec
/// os §1.10.3). Without it the device is up all the same, and when it is back, it is used.
#[test]
fn a_missing_data_partition_is_looked_for_by_one_restart() {
    let scratch = Scratch::new("missing").unwrap();
    let disk = scratch.join("disk.img");
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    let identity = sh(&mut guest, "config-json get uuid; cat /etc/machine-id");
    power_off(&mut guest);
    guest.overlay().export(&disk).unwrap();
    let data = Partition::labelled(&disk, "resin-data");
    let file = data.extract(&disk);
    let whole = File::options().write(true).open(&disk).unwrap();
    for megabyte in 0..data.sectors / 2048 {
        whole.write_all_at(&[0; 1 << 20], data.start * 512 + (megabyte << 20)).unwrap();
    }

    let mut guest = start(Settings { image: disk, ..direct(FASTEST) });
    wait(&mut guest, "the data partition is missing: the system restarts to check the disk");
    booted(&mut guest);
    let mark = "/mnt/boot/resin_attempting_fsck_recovery";
    sh(&mut guest, &format!("test -e {mark}"));
    let log = sh(&mut guest, "journalctl -b -u mount-state -o cat --no-pager");
    assert!(log.contains("resin-data: no partition with this label was found"), "{log}");
    assert!(!log.contains("the system restarts"), "{log}");
    let status = sh(&mut guest, "mount-state check; true");
    let data_line = status.lines().find(|line| line.starts_with("/mnt/data ")).unwrap_or_default();
    assert!(data_line.contains("volatile"), "{status}");
    until(&mut guest, "systemctl is-active -q balena && systemctl is-active -q balena-supervisor");
    assert_eq!(sh(&mut guest, "config-json get uuid; cat /etc/machine-id"), identity);
    power_off(&mut guest);

    let disk = scratch.join("later.img");
    guest.overlay().export(&disk).unwrap();
    data.put_back(&disk, &file);
    let mut guest = start(Settings { image: disk, ..direct(FASTEST) });
    first_line(&mut guest);
    until(
        &mut guest,
        &format!(
            "journalctl -b -u mount-state -o cat --no-pager | grep -q 'the data partition is back' && ! test -e {mark}"
        ),
    );
    sh(&mut guest, "mount-state check && balena ps | grep -q demo");
}
