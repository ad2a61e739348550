//! Looking at all the disks that power cuts in one operation may leave. What a partition holds is looked at once, however many
//! of the disks have it so.

use crate::disk::{repair_ext4, repair_fat};
use crate::log::Entry;
use crate::replay::{Content, Cut, Replay, copy, cuts, every_cut};
use minke_image::guest::{Guest, Settings};
use minke_tests::disk::{Partition, partitions};
use minke_tests::guest::{booted, start};
use minke_tests::{Random, project};
use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread::{ScopedJoinHandle, scope};

/// Moments between flushes that are looked at, without `MINKE_POWERCUT=all`.
const RANDOM: usize = 200;
/// Disks of one operation that boot, without `MINKE_POWERCUT_BOOTS`.
const BOOTS: usize = 6;
/// How many of them at a time.
const GUESTS: usize = 2;

/// Files by their paths.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A disk after a power cut.
#[derive(Debug)]
pub struct State<'a> {
    /// The disk itself, as the cut left it.
    pub disk: &'a Path,
    /// The last entry before the cut.
    pub last: &'a Entry,
    partitions: BTreeMap<&'static str, (Partition, Content, Rc<Files>)>,
}

impl State<'_> {
    /// A partition, and by what it is known again on another disk.
    pub fn partition(&self, label: &str) -> (Partition, Content) {
        let (partition, content, _) = &self.partitions[label];
        (*partition, *content)
    }

    /// What [`Look::read`] found on it after stage 1's repair.
    pub fn files(&self, label: &str) -> &Files {
        &self.partitions[label].2
    }
}

/// How an operation is looked at.
pub struct Look<'a> {
    /// The disk before it.
    pub before: &'a Path,
    /// What it wrote, and the entry with which it began.
    pub log: &'a [Entry],
    pub from: usize,
    /// Where disks are laid.
    pub folder: &'a Path,
    /// What the checks want to know of a partition, which stands in this file, repaired.
    pub read: &'a dyn Fn(&str, &Path) -> Files,
    /// How many of the disks boot, and how.
    pub boots: usize,
    pub settings: &'a (dyn Fn(&Path) -> Settings + Sync),
}

/// How many disks of an operation boot, if usually so many do.
pub fn boots(usually: usize) -> usize {
    std::env::var("MINKE_POWERCUT_BOOTS").ok().and_then(|number| number.parse().ok()).unwrap_or(usually)
}

impl<'a> Look<'a> {
    pub fn new(
        before: &'a Path,
        (log, from): (&'a [Entry], usize),
        folder: &'a Path,
        read: &'a dyn Fn(&str, &Path) -> Files,
    ) -> Self {
        Self { before, log, from, folder, read, boots: boots(BOOTS), settings: &crate::on }
    }

    /// Looks at the disk after each cut: no file system may have a fault after stage 1's checks, and `check` holds. Some
    /// of the disks boot, and then `running` holds, which is told what `check` has found and how many booted before.
    pub fn at_all<T: Send>(
        &self,
        check: &mut dyn FnMut(&State<'_>) -> T,
        running: &(dyn Fn(Guest, T, usize) + Sync),
    ) {
        let log = self.log;
        let seed = std::env::var("MINKE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | log.len() as u64);
        let mut source = Random::new(seed);
        let all = std::env::var("MINKE_POWERCUT").is_ok_and(|all| all == "all");
        let cuts = if all { every_cut(log, self.from) } else { cuts(log, self.from, RANDOM, &mut source) };
        // Spread over the whole operation.
        let boots = self.boots.min(cuts.len());
        let share = cuts.len() / boots.max(1);
        let boots: Vec<usize> = (0..boots).map(|number| number * share + source.below(share)).collect();
        let mut replay = Replay::new(log, self.before, self.folder);
        let mut seen = BTreeMap::new();
        let settings = self.settings;
        scope(|scope| {
            let mut guests: Vec<ScopedJoinHandle<'_, ()>> = Vec::new();
            for (number, cut) in cuts.iter().enumerate() {
                replay.at(*cut, &mut source);
                let told = Told(*cut, seed, replay.disk().to_path_buf());
                let found = check(&self.state(&replay, *cut, &mut seen));
                if let Some(boot) = boots.iter().position(|boot| *boot == number) {
                    if guests.len() == GUESTS {
                        guests.remove(0).join().unwrap_or_else(|panic| resume_unwind(panic));
                    }
                    let told = Told(*cut, seed, self.folder.join(format!("boot-{boot}.img")));
                    copy(replay.disk(), &told.2);
                    guests.push(scope.spawn(move || {
                        let mut guest = start(settings(&told.2));
                        booted(&mut guest);
                        running(guest, found, boot);
                        std::fs::remove_file(&told.2).unwrap();
                        std::mem::forget(told);
                    }));
                }
                std::mem::forget(told);
            }
        });
        let flushes = log[self.from..].iter().filter(|entry| entry.flush).count();
        println!(
            "{} entries, {flushes} flushes: {} disks with {} partitions that differ, {} boots, MINKE_SEED={seed}",
            log.len() - self.from,
            cuts.len(),
            seen.len(),
            boots.len()
        );
    }

    /// The disk as it is now, with what is new on it repaired and read.
    pub fn state<'s>(
        &'s self,
        replay: &'s Replay<'_>,
        cut: Cut,
        seen: &mut BTreeMap<Content, Rc<Files>>,
    ) -> State<'s> {
        let disk = replay.disk();
        let mut found = BTreeMap::new();
        for partition in partitions(disk) {
            let content = replay.content(&partition);
            let files = seen.entry(content).or_insert_with(|| {
                let file = partition.extract(disk);
                match partition.label {
                    "resin-boot" => repair_fat(&file),
                    _ => repair_ext4(&file),
                }
                Rc::new((self.read)(partition.label, &file))
            });
            found.insert(partition.label, (partition, content, Rc::clone(files)));
        }
        State { disk, last: &self.log[cut.entries - 1], partitions: found }
    }
}

/// Says which cut it was when a check fails, and keeps the disk.
struct Told(Cut, u64, PathBuf);

impl Drop for Told {
    fn drop(&mut self) {
        let kept = project().join("out/powercut-failed.img");
        copy(&self.2, &kept);
        eprintln!("failed at {:?} with MINKE_SEED={}; the disk is {}", self.0, self.1, kept.display());
    }
}
