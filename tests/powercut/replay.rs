//! What a disk may hold after a power cut: everything up to the last flush, and of the later writes any part.

use crate::log::{Entry, SECTOR};
use minke_tests::{Random, run};
use std::fs::{File, OpenOptions};
use std::ops::Range;
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

/// The moments to look at from the entry `from` on: every flush (at most `limit` of them, evenly spread) and
/// `random` others.
pub fn cuts(log: &[Entry], from: usize, limit: usize, random: usize, source: &mut Random) -> Vec<Cut> {
    let flush = |number: &usize| log[*number].flush;
    let flushes: Vec<usize> = (from..log.len()).filter(flush).map(|number| number + 1).collect();
    let step = flushes.len().div_ceil(limit.max(1)).max(1);
    let whole = |entries: &usize| Cut { entries: *entries, fate: Fate::Whole };
    let mut cuts: Vec<Cut> = flushes.iter().step_by(step).map(whole).collect();
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
    /// Entries that may differ between the last cut's disk and the next one's.
    differ: Range<usize>,
}

impl<'a> Replay<'a> {
    /// Begins with a copy of `before`, the disk as it was before the log.
    pub fn new(log: &'a [Entry], before: &Path, folder: &Path) -> Self {
        let disk = folder.join("settled.img");
        copy(before, &disk);
        let file = OpenOptions::new().read(true).write(true).open(&disk).unwrap();
        Self { log, disk, file, settled: 0, before: Vec::new(), differ: 0..log.len() }
    }

    /// The disk as this cut leaves it, until the next one. Cuts come in the order of their entries.
    pub fn at(&mut self, cut: Cut, source: &mut Random) -> &Path {
        for (at, bytes) in self.before.drain(..).rev() {
            self.file.write_all_at(&bytes, at).unwrap();
        }
        let before = self.log.get(..cut.entries).unwrap();
        let flushed = before.iter().rposition(|entry| entry.flush).map_or(0, |number| number + 1);
        self.differ = self.settled.min(flushed)..cut.entries;
        for entry in &before[self.settled.min(flushed)..flushed] {
            write(&self.file, entry, entry.data.len());
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
            let mut was = vec![0; kept];
            self.file.read_exact_at(&mut was, entry.sector * SECTOR).unwrap();
            self.before.push((entry.sector * SECTOR, was));
            write(&self.file, entry, kept);
        }
        &self.disk
    }

    /// Whether these sectors may have changed from the cut before the last one to the last one.
    pub fn touched(&self, sectors: &Range<u64>) -> bool {
        let within = |entry: &Entry| sectors.contains(&entry.sector) && !entry.data.is_empty();
        self.log[self.differ.clone()].iter().any(within)
    }
}

fn write(file: &File, entry: &Entry, length: usize) {
    file.write_all_at(&entry.data[..length], entry.sector * SECTOR).unwrap();
}

/// Copies a disk without its holes.
pub fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("--sparse=always").arg(from).arg(to));
}
