//! Power cuts at every moment: the writes of an operation are logged once in a guest, then the disk is looked at
//! as it was at each flush, and at random moments with the last writes torn, dropped or reordered. Some of these
//! disks boot (`MINKE_POWERCUT_BOOTS`: so many of each operation). `MINKE_POWERCUT=all` looks at every prefix of the
//! log, each with every fate of its last writes; `MINKE_SEED` repeats the random moments of a run.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod disk;
mod log;
mod look;
mod replay;
mod selection;
mod update;

use disk::{config_files, ext4_file};
use look::{Files, Look, State};
use minke_image::guest::Settings;
use minke_image::overlay::Overlay;
use minke_image::tree::Scratch;
use minke_tests::guest::{self, FASTEST, booted, direct, first_line, power_off, sh, start};
use minke_tests::{run, text};
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIG: &str = "config.json";
/// What a card has more than the image.
const LARGER: u64 = 256 << 20;

/// `config-json set`: the file is the old or the new one, byte for byte, and the identity stays.
#[test]
fn config_json_set() {
    let scratch = Scratch::new("powercut-set").unwrap();
    let before = first_boot(scratch.path());
    let log = scratch.join("writes.log");
    let mut guest = start(Settings { write_log: Some(log.clone()), ..on(&before) });
    booted(&mut guest);
    let uuid = sh(&mut guest, "config-json get uuid");
    let digest = "sha256sum < /mnt/boot/config.json | cut -c1-64";
    // After each change: its content, and how much was logged by then.
    let mut states = vec![(length(&log), sh(&mut guest, digest))];
    for number in 0..12 {
        // Lengths over and under a cluster, up and down.
        let length_of = [10, 3000, 9000, 1][number % 4];
        sh(&mut guest, &format!("config-json set padding $(printf '%0{length_of}d' {number})"));
        let content = sh(&mut guest, digest);
        states.push((length(&log), content));
    }
    guest.kill();
    let log = log::read(&log);
    let from = log.iter().position(|entry| entry.end >= states[0].0).unwrap();
    let mut check = |state: &State<'_>| {
        let content = &state.files("resin-boot")[CONFIG];
        let done = states.iter().rposition(|(end, _)| *end <= state.last.end).unwrap();
        let allowed = &states[done..states.len().min(done + 2)];
        let found = digest_of(content);
        assert!(allowed.iter().any(|(_, digest)| *digest == found), "after {done} changes: {content:?}");
    };
    Look::new(&before, (&log, from), scratch.path(), &config).at_all(&mut check, &|mut guest, (), _| {
        assert_eq!(sh(&mut guest, "config-json get uuid"), uuid);
    });
}

/// The first boot on a card larger than the image: partitions and file systems grow, get identities of their
/// own, the state partition is filled. Whatever was done is gone on with.
#[test]
fn first_boot_of_a_device() {
    let scratch = Scratch::new("powercut-first").unwrap();
    let overlay = Overlay::create(&guest::image(FASTEST), &scratch.join("disk.qcow2")).unwrap();
    overlay.grow(LARGER).unwrap();
    let before = scratch.join("before.img");
    overlay.export(&before).unwrap();
    let log = scratch.join("writes.log");
    let mut guest = start(Settings { write_log: Some(log.clone()), ..on(&before) });
    first_line(&mut guest);
    let uuid = sh(&mut guest, "config-json get uuid");
    sh(&mut guest, "sync");
    guest.kill();
    let log = log::read(&log);
    let mut check = |state: &State<'_>| {
        let content: serde_json::Value = serde_json::from_slice(&state.files("resin-boot")[CONFIG]).unwrap();
        // The device has no identity yet, or the one that it showed.
        assert!(content.get("uuid").is_none_or(|found| found.as_str() == Some(&uuid)), "{content}");
    };
    Look::new(&before, (&log, 0), scratch.path(), &config).at_all(&mut check, &|mut guest, (), _| {
        let guest = &mut guest;
        let size = "blockdev --getsize64 $(readlink -f /dev/disk/by-state/resin-data)";
        let size: u64 = sh(guest, size).parse().unwrap();
        assert!(size > LARGER, "{size}");
    });
}

/// A state reset: the identity stays, and what is on the state partition is the old or the new.
#[test]
fn state_reset() {
    let scratch = Scratch::new("powercut-reset").unwrap();
    let first = first_boot(scratch.path());
    let before = scratch.join("before.img");
    let mut guest = start(on(&first));
    booted(&mut guest);
    let uuid = sh(&mut guest, "config-json get uuid");
    let machine = sh(&mut guest, "cat /etc/machine-id");
    sh(&mut guest, "touch /home/root/.ssh/old && rm /mnt/state/remove_me_to_reset");
    power_off(&mut guest);
    guest.overlay().export(&before).unwrap();
    let log = scratch.join("writes.log");
    let mut guest = start(Settings { write_log: Some(log.clone()), ..on(&before) });
    booted(&mut guest);
    sh(&mut guest, "test ! -e /home/root/.ssh/old && sync");
    guest.kill();
    let log = log::read(&log);
    let old = "root-overlay/home/root/.ssh/old";
    let own = "root-overlay/etc/balena-supervisor/supervisor.conf";
    let read = |label: &str, partition: &Path| {
        if label != "resin-state" {
            return config(label, partition);
        }
        let names = ["machine-id", "remove_me_to_reset", old, own].into_iter();
        names.filter_map(|name| Some((name.to_owned(), ext4_file(partition, name)?))).collect()
    };
    let mut check = |state: &State<'_>| {
        let content: serde_json::Value = serde_json::from_slice(&state.files("resin-boot")[CONFIG]).unwrap();
        assert_eq!(content["uuid"].as_str(), Some(uuid.as_str()));
        let files = state.files("resin-state");
        assert_eq!(String::from_utf8_lossy(&files["machine-id"]).trim(), machine);
        // Only a reset that is complete has the flag.
        if files.contains_key("remove_me_to_reset") {
            assert!(!files.contains_key(old) && files.contains_key(own), "{:?}", files.keys());
        }
    };
    Look::new(&before, (&log, 0), scratch.path(), &read).at_all(&mut check, &|mut guest, (), _| {
        let guest = &mut guest;
        assert_eq!(sh(guest, "config-json get uuid"), uuid);
        assert_eq!(sh(guest, "cat /etc/machine-id"), machine);
        sh(guest, "test ! -e /home/root/.ssh/old && test -e /mnt/state/remove_me_to_reset");
    });
}

/// A disk after the first boot.
fn first_boot(folder: &Path) -> PathBuf {
    let mut guest = start(direct(FASTEST));
    first_line(&mut guest);
    power_off(&mut guest);
    let disk = folder.join("first.img");
    guest.overlay().export(&disk).unwrap();
    disk
}

/// A guest on this disk, which starts with the kernel of the tests' image.
fn on(disk: &Path) -> Settings {
    Settings { image: disk.to_path_buf(), ..direct(FASTEST) }
}

fn length(log: &Path) -> u64 {
    std::fs::metadata(log).unwrap().len()
}

/// Of the boot partition, the content of `config.json` as every reader of the system sees it.
fn config(label: &str, partition: &Path) -> Files {
    if label != "resin-boot" {
        return Files::new();
    }
    let folder = partition.with_extension("files");
    config_files(partition, &folder);
    let content = minke_config::fatrw::read(&folder.join(CONFIG)).unwrap().unwrap_or_default();
    Files::from([(CONFIG.to_owned(), content)])
}

fn digest_of(content: &[u8]) -> String {
    let file = std::env::temp_dir().join(format!("minke-digest-{}", std::process::id()));
    std::fs::write(&file, content).unwrap();
    let sum = text(&run(Command::new("sha256sum").arg(&file)));
    std::fs::remove_file(file).unwrap();
    sum.get(..64).unwrap().to_owned()
}
