//! Power cuts at every moment: the writes of an operation are logged once in a guest, then the disk is looked at
//! as it was at each flush, and at random moments with the last writes torn, dropped or reordered. Some of these
//! disks boot. `MINKE_POWERCUT=all` looks at every prefix of the log, each with every fate of its last writes;
//! `MINKE_SEED` repeats the random moments of a run.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod disk;
mod log;
mod replay;
mod selection;
mod update;

use disk::{config_files, ext4_file, repair_ext4};
use log::Entry;
use minke_image::guest::{Guest, Settings};
use minke_image::overlay::Overlay;
use minke_image::tree::Scratch;
use minke_tests::disk::{Partition, partitions};
use minke_tests::guest::{self, FASTEST, booted, direct, first_line, power_off, sh, start};
use minke_tests::{Random, project, run, text};
use replay::{Cut, Replay, copy, cuts, every_cut};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Flushes and random moments looked at in one operation, without `MINKE_POWERCUT=all`.
const FLUSHES: usize = 120;
const RANDOM: usize = 70;
/// Disks of one operation that boot.
const BOOTS: usize = 8;
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
    let mut check = |disk: &Path, now: &Entry| {
        let content = config(disk);
        let done = states.iter().rposition(|(end, _)| *end <= now.end).unwrap();
        let allowed = &states[done..states.len().min(done + 2)];
        let found = digest_of(&content);
        assert!(allowed.iter().any(|(_, digest)| *digest == found), "after {done} changes: {content:?}");
    };
    Look::new(&before, &log, from, scratch.path()).at_all(&mut check, &mut |mut guest| {
        let guest = &mut guest;
        assert_eq!(sh(guest, "config-json get uuid"), uuid);
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
    let mut check = |disk: &Path, _: &Entry| {
        let content: serde_json::Value = serde_json::from_slice(&config(disk)).unwrap();
        // The device has no identity yet, or the one that it showed.
        assert!(content.get("uuid").is_none_or(|found| found.as_str() == Some(&uuid)), "{content}");
    };
    Look::new(&before, &log, 0, scratch.path()).at_all(&mut check, &mut |mut guest| {
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
    let mut check = |disk: &Path, _: &Entry| {
        let content: serde_json::Value = serde_json::from_slice(&config(disk)).unwrap();
        assert_eq!(content["uuid"].as_str(), Some(uuid.as_str()));
        let state = disk.with_extension("resin-state");
        let kept = ext4_file(&state, "/machine-id").unwrap();
        assert_eq!(String::from_utf8_lossy(&kept).trim(), machine);
        // Only a reset that is complete has the flag.
        if ext4_file(&state, "/remove_me_to_reset").is_some() {
            assert!(ext4_file(&state, "/root-overlay/home/root/.ssh/old").is_none());
            assert!(ext4_file(&state, "/root-overlay/etc/balena-supervisor/supervisor.conf").is_some());
        }
    };
    Look::new(&before, &log, 0, scratch.path()).at_all(&mut check, &mut |mut guest| {
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

/// How an operation is looked at.
struct Look<'a> {
    /// The disk before it.
    before: &'a Path,
    /// What it wrote, and the entry with which it began.
    log: &'a [Entry],
    from: usize,
    /// Where disks are laid.
    folder: &'a Path,
    /// How many of the disks boot, and how.
    boots: usize,
    settings: &'a dyn Fn(&Path) -> Settings,
}

impl<'a> Look<'a> {
    fn new(before: &'a Path, log: &'a [Entry], from: usize, folder: &'a Path) -> Self {
        Self { before, log, from, folder, boots: BOOTS, settings: &on }
    }

    /// Looks at the disk after each cut: no file system may have a fault after stage 1's checks, and `check` holds, which
    /// is told of the last entry before it. Some of the disks boot, and then `running` holds.
    fn at_all(&self, check: &mut dyn FnMut(&Path, &Entry), running: &mut dyn FnMut(Guest)) {
        let log = self.log;
        let seed = std::env::var("MINKE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | log.len() as u64);
        let mut source = Random::new(seed);
        let all = std::env::var("MINKE_POWERCUT").is_ok_and(|all| all == "all");
        let cuts =
            if all { every_cut(log, self.from) } else { cuts(log, self.from, FLUSHES, RANDOM, &mut source) };
        let flushes = log.iter().filter(|entry| entry.flush).count();
        println!("{} entries, {flushes} flushes, {} cuts, MINKE_SEED={seed}", log.len(), cuts.len());
        // Spread over the whole operation.
        let share = cuts.len() / self.boots;
        let boots: Vec<usize> = (0..self.boots).map(|number| number * share + source.below(share)).collect();
        let mut replay = Replay::new(log, self.before, self.folder);
        let booting = self.folder.join("boot.img");
        for (number, cut) in cuts.iter().enumerate() {
            let disk = replay.at(*cut, &mut source).to_path_buf();
            let told = Told(*cut, seed, &disk);
            for partition in partitions(&disk) {
                let sectors = partition.start..partition.start + partition.sectors;
                // The state partition is looked at by the checks.
                let wanted = number == 0 && partition.label == "resin-state" || replay.touched(&sectors);
                if wanted && partition.label != "resin-boot" {
                    repair_ext4(&partition.extract(&disk));
                }
            }
            check(&disk, &log[cut.entries - 1]);
            if boots.contains(&number) {
                copy(&disk, &booting);
                let mut guest = start((self.settings)(&booting));
                booted(&mut guest);
                running(guest);
            }
            std::mem::forget(told);
        }
    }
}

/// Says which cut it was when a check fails, and keeps the disk.
struct Told<'a>(Cut, u64, &'a Path);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        let kept = project().join("out/powercut-failed.img");
        copy(self.2, &kept);
        eprintln!("failed at {:?} with MINKE_SEED={}; the disk is {}", self.0, self.1, kept.display());
    }
}

/// The content of `config.json` as every reader of the system sees it.
fn config(disk: &Path) -> Vec<u8> {
    let boot = Partition::labelled(disk, "resin-boot").extract(disk);
    disk::repair_fat(&boot);
    let folder = disk.with_extension("files");
    config_files(&boot, &folder);
    minke_config::fatrw::read(&folder.join("config.json")).unwrap().unwrap_or_default()
}

fn digest_of(content: &[u8]) -> String {
    let file = std::env::temp_dir().join(format!("minke-digest-{}", std::process::id()));
    std::fs::write(&file, content).unwrap();
    let sum = text(&run(Command::new("sha256sum").arg(&file)));
    std::fs::remove_file(file).unwrap();
    sum.get(..64).unwrap().to_owned()
}
