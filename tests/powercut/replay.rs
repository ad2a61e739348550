//! What a disk may hold after a power cut: everything up to the last flush, and of the later writes any part.

use crate::log::{Entry, SECTOR};
use minke_tests::disk::Partition;
use minke_tests::{Random, run};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What became of the writes after the last flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All arrived.
    Whole,
    /// All arrived, the last one up to some sector.
    Torn,
    /// Each arrived or did not.
    Dropped,
    /// Each arrived or did not, in any order.
    Reordered,
}

const FATES: [Fate; 4] = [Fate::Whole, Fate::Torn, Fate::Dropped, Fate::Reordered];

/// A moment of a power cut.
#[derive(Debug, Clone, Copy)]
pub struct Cut {
    /// Entries of the log before it.
    pub entries: usize,
    /// What became of those after the last flush.
    pub fate: Fate,
}

/// The moments to look at from the entry `from` on: every flush and `random` others.
pub fn cuts(log: &[Entry], from: usize, random: usize, source: &mut Random) -> Vec<Cut> {
    let flushes = (from..log.len()).filter(|number| log[*number].flush);
    let mut cuts: Vec<Cut> = flushes.map(|number| Cut { entries: number + 1, fate: Fate::Whole }).collect();
    for _ in 0..random {
        let entries = from + 1 + source.below(log.len() - from);
        cuts.push(Cut { entries, fate: FATES[source.below(FATES.len())] });
    }
    cuts.sort_by_key(|cut| cut.entries);
    cuts
}

/// Every prefix of the log from the entry `from` on, with every fate of the writes after its last flush.
pub fn every_cut(log: &[Entry], from: usize) -> Vec<Cut> {
    let fates = |entries: usize| {
        let settled = log[entries - 1].flush;
        FATES.into_iter().filter(move |fate| !settled || *fate == Fate::Whole)
    };
    (from + 1..=log.len()).flat_map(|entries| fates(entries).map(move |fate| Cut { entries, fate })).collect()
}

/// What two disks have in common where it is equal: a digest of some sectors' content.
pub type Content = u64;

/// Sectors whose digests are kept as one.
const GROUP: u64 = 2048;

/// A disk that follows its log.
#[derive(Debug)]
pub struct Replay<'a> {
    log: &'a [Entry],
    disk: PathBuf,
    file: File,
    /// Entries that are on the disk: all up to a flush.
    settled: usize,
    /// What stood where the last cut's unsettled writes are.
    before: Vec<(u64, Vec<u8>)>,
    /// By what each group of sectors differs from the disk before the log: the exclusive or of the digests of what
    /// stood there then and stands there now.
    changes: BTreeMap<u64, u64>,
}

impl<'a> Replay<'a> {
    /// Begins with a copy of `before`, the disk as it was before the log.
    pub fn new(log: &'a [Entry], before: &Path, folder: &Path) -> Self {
        let disk = folder.join("settled.img");
        copy(before, &disk);
        let file = OpenOptions::new().read(true).write(true).open(&disk).unwrap();
        Self { log, disk, file, settled: 0, before: Vec::new(), changes: BTreeMap::new() }
    }

    /// The disk as the last cut left it.
    pub fn disk(&self) -> &Path {
        &self.disk
    }

    /// Makes the disk what this cut leaves. Cuts come in the order of their entries.
    pub fn at(&mut self, cut: Cut, source: &mut Random) {
        while let Some((sector, bytes)) = self.before.pop() {
            self.write(sector, &bytes);
        }
        let log = self.log;
        let before = &log[..cut.entries];
        let flushed = before.iter().rposition(|entry| entry.flush).map_or(0, |number| number + 1);
        for entry in &before[self.settled.min(flushed)..flushed] {
            self.write(entry.sector, &entry.data);
        }
        self.settled = self.settled.max(flushed);
        let mut open: Vec<&Entry> = before[flushed..].iter().collect();
        if matches!(cut.fate, Fate::Dropped | Fate::Reordered) {
            open.retain(|_| source.below(2) == 0);
        }
        if cut.fate == Fate::Reordered {
            for number in (1..open.len()).rev() {
                open.swap(number, source.below(number + 1));
            }
        }
        for (number, entry) in open.iter().enumerate() {
            let torn = cut.fate == Fate::Torn && number + 1 == open.len();
            let sectors = entry.data.len() / SECTOR as usize;
            let kept = if torn { source.below(sectors) } else { sectors } * SECTOR as usize;
            let was = self.write(entry.sector, &entry.data[..kept]);
            self.before.push((entry.sector, was));
        }
    }

    /// What a partition holds now: equal numbers, equal content.
    pub fn content(&self, partition: &Partition) -> Content {
        let end = partition.start + partition.sectors;
        let groups = self.changes.range(partition.start / GROUP..end.div_ceil(GROUP));
        let mut digest = DefaultHasher::new();
        (partition.start, end).hash(&mut digest);
        groups.filter(|(_, change)| **change != 0).for_each(|group| group.hash(&mut digest));
        digest.finish()
    }

    /// Writes, and says what stood there.
    fn write(&mut self, sector: u64, bytes: &[u8]) -> Vec<u8> {
        let mut was = vec![0; bytes.len()];
        self.file.read_exact_at(&mut was, sector * SECTOR).unwrap();
        self.file.write_all_at(bytes, sector * SECTOR).unwrap();
        let sectors = was.chunks(SECTOR as usize).zip(bytes.chunks(SECTOR as usize));
        for (sector, (was, is)) in (sector..).zip(sectors).filter(|(_, (was, is))| was != is) {
            *self.changes.entry(sector / GROUP).or_default() ^= digest(sector, was) ^ digest(sector, is);
        }
        was
    }
}

fn digest(sector: u64, bytes: &[u8]) -> u64 {
    let mut digest = DefaultHasher::new();
    (sector, bytes).hash(&mut digest);
    digest.finish()
}

/// Copies a disk without its holes.
pub fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("--sparse=always").arg(from).arg(to));
}
