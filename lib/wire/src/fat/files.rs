//! Second part of the check: each file takes its clusters, and shared ones are copied.

use super::check::{Check, Crossing, Slot};
use super::entry::{Entry, LENGTH};
use super::folders::Folder;
use super::table::{END, Link};
use super::{Failure, Repair};

/// The most files that get copies of shared clusters in one check; the others are cut.
const CROSSING_LIMIT: usize = 256;

impl Check<'_> {
    /// Lets all files take their clusters.
    pub fn files(&mut self, folders: &[Folder]) -> Result<(), Failure> {
        for folder in folders {
            self.entries(folder.start, &mut |check, Slot { place, entry, .. }| match entry {
                Some(entry) if !entry.is_folder() && !entry.is_volume() => check.file(place, &entry),
                _ => Ok(()),
            })?;
        }
        Ok(())
    }

    /// Follows a file's chain for as many clusters as its length needs.
    fn file(&mut self, place: u64, entry: &Entry) -> Result<(), Failure> {
        let start = entry.start(self.geometry.wide);
        let needed = u64::from(entry.length()).div_ceil(self.geometry.cluster);
        let needed = u32::try_from(needed).unwrap_or(u32::MAX);
        if needed == 0 {
            if start != 0 {
                self.report.note(Repair::Trimmed);
                self.set_start(place, 0)?;
            }
            return Ok(());
        }
        let (mut last, mut count, mut next) = (None, 0, Some(start));
        while let Some(cluster) = next.filter(|cluster| count < needed && self.table.is_used(*cluster)) {
            if self.taken.has(cluster) {
                if self.crossings.len() == CROSSING_LIMIT || self.is_among(start, count, cluster) {
                    break;
                }
                let missing = needed - count;
                self.crossings.push(Crossing { entry: place, last, shared: cluster, before: count, missing });
                if let Some(last) = last {
                    self.ends.set(last);
                }
                return Ok(());
            }
            self.taken.set(cluster);
            count += 1;
            last = Some(cluster);
            next = match self.table.link(cluster) {
                Link::Next(next) => Some(next),
                Link::End => None,
                Link::Nothing => Some(0),
            };
        }
        if count < needed {
            return self.cut(place, last, count);
        }
        if let (Some(last), Some(_)) = (last, next) {
            self.report.note(Repair::Trimmed);
            self.ends.set(last);
        }
        Ok(())
    }

    /// Cuts a file to `count` clusters, of which `last` is the last.
    fn cut(&mut self, place: u64, last: Option<u32>, count: u32) -> Result<(), Failure> {
        self.report.note(Repair::Cut);
        let length = u64::from(count).saturating_mul(self.geometry.cluster);
        self.edit(place + LENGTH, &u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes())?;
        match last {
            Some(last) => self.ends.set(last),
            None => self.set_start(place, 0)?,
        }
        Ok(())
    }

    /// Whether a cluster is among the first `count` of a chain.
    fn is_among(&self, start: u32, count: u32, wanted: u32) -> bool {
        let mut cluster = start;
        for _ in 0..count {
            if cluster == wanted {
                return true;
            }
            let Link::Next(next) = self.table.link(cluster) else { return false };
            cluster = next;
        }
        false
    }

    /// Gives each file that shares clusters a copy of them, if there is room.
    pub fn separate(&mut self) -> Result<(), Failure> {
        let crossings = std::mem::take(&mut self.crossings);
        let (mut free, mut heads) = (2, Vec::new());
        for crossing in &crossings {
            let Some((first, count)) = self.copy(crossing, &mut free)? else {
                self.cut(crossing.entry, crossing.last, crossing.before)?;
                continue;
            };
            self.report.note(Repair::Copied);
            match crossing.last {
                Some(last) => heads.push((last, first)),
                None => self.set_start(crossing.entry, first)?,
            }
            if count < crossing.missing {
                let length = u64::from(crossing.before + count).saturating_mul(self.geometry.cluster);
                self.report.note(Repair::Cut);
                self.edit(crossing.entry + LENGTH, &u32::try_from(length).unwrap_or(0).to_le_bytes())?;
            }
        }
        if crossings.is_empty() {
            return Ok(());
        }
        // The copies' content, then their chains, and with the rest of the table what leads to them.
        self.medium.sync()?;
        self.table.write(self.medium, &self.geometry, &mut self.report)?;
        for (last, first) in heads {
            self.table.set(last, first);
            self.ends.clear(last);
        }
        Ok(())
    }

    /// Copies the shared rest of a chain into free clusters and chains them. The answer is the first of them and
    /// their number; `None`: there is no room.
    fn copy(&mut self, crossing: &Crossing, free: &mut u32) -> Result<Option<(u32, u32)>, Failure> {
        let mut pairs = Vec::new();
        let mut from = Some(crossing.shared);
        while let Some(source) =
            from.filter(|source| pairs.len() < crossing.missing as usize && self.table.is_used(*source))
        {
            let Some(target) = self.find_free(free) else { return Ok(None) };
            pairs.push((source, target));
            from = match self.table.link(source) {
                Link::Next(next) => Some(next),
                _ => None,
            };
        }
        let mut content = vec![0; usize::try_from(self.geometry.cluster).unwrap_or(0)];
        let mut next = END;
        for (source, target) in pairs.iter().rev() {
            self.medium.read(self.geometry.place(*source), &mut content)?;
            self.medium.write(self.geometry.place(*target), &content)?;
            self.taken.set(*target);
            self.table.set(*target, next);
            next = *target;
        }
        Ok(pairs.first().map(|(_, first)| (*first, u32::try_from(pairs.len()).unwrap_or(u32::MAX))))
    }

    /// The next cluster that nobody has.
    fn find_free(&self, from: &mut u32) -> Option<u32> {
        while *from < self.geometry.end {
            let cluster = *from;
            *from += 1;
            if !self.taken.has(cluster) && !self.table.is_bad(cluster) {
                return Some(cluster);
            }
        }
        None
    }
}
