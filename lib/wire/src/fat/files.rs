//! Second part of the check: each file takes its clusters, and shared ones are copied.

use super::check::{Check, Slot};
use super::entry::{Entry, LENGTH};
use super::folders::Folder;
use super::table::{END, Link};
use super::{Failure, Repair};

/// The most files that get copies of shared clusters in one check; the others are cut.
const CROSSING_LIMIT: usize = 256;
/// The most places at which one file's chain runs into another's.
const RUN_LIMIT: u32 = 64;

/// A file with clusters that another file has taken before.
pub struct Crossing {
    /// Where its entry is.
    entry: u64,
    start: u32,
    /// How many clusters it has.
    count: u32,
    /// Which of them are shared, as numbers in its chain.
    shared: Vec<u32>,
}

impl Check<'_> {
    /// Lets all files take their clusters. Files that writers keep beside another come last: where a cut in a rename or
    /// an exchange of names left two names with one chain, the other name's file stays whole, though there be no room
    /// for a copy.
    pub fn files(&mut self, folders: &[Folder]) -> Result<(), Failure> {
        let mut beside = Vec::new();
        for folder in folders {
            self.entries(folder.start, &mut |check, Slot { place, entry, .. }| match entry {
                Some(entry) if entry.is_folder() || entry.is_volume() => Ok(()),
                Some(entry) if entry.is_temporary() => {
                    beside.push((place, entry));
                    Ok(())
                }
                Some(entry) => check.file(place, &entry),
                None => Ok(()),
            })?;
        }
        for (place, entry) in &beside {
            self.file(*place, entry)?;
        }
        Ok(())
    }

    /// Follows a file's chain for as many clusters as its length needs.
    fn file(&mut self, entry: u64, content: &Entry) -> Result<(), Failure> {
        let start = content.start(self.geometry.wide);
        let needed = u64::from(content.length()).div_ceil(self.geometry.cluster);
        let needed = u32::try_from(needed).unwrap_or(u32::MAX);
        if needed == 0 {
            if start != 0 {
                self.report.note(Repair::Trimmed);
                self.set_start(entry, 0)?;
            }
            return Ok(());
        }
        let (mut last, mut count, mut next) = (None, 0, Some(start));
        let (mut shared, mut runs) = (Vec::new(), 0);
        while let Some(cluster) = next.filter(|cluster| count < needed && self.table.is_used(*cluster)) {
            if !self.taken.has(cluster) {
                self.taken.set(cluster);
            } else {
                // Its own cluster again is a loop. Inside another's chain that is not asked again.
                let inside = count > 0 && shared.last() == Some(&(count - 1));
                runs += u32::from(!inside);
                if runs > RUN_LIMIT
                    || self.crossings.len() == CROSSING_LIMIT
                    || shared.len() >= self.geometry.end as usize
                    || !inside && self.is_among(start, count, cluster)
                {
                    break;
                }
                shared.push(count);
            }
            count += 1;
            last = Some(cluster);
            next = match self.table.link(cluster) {
                Link::Next(next) => Some(next),
                Link::End => None,
                Link::Nothing => Some(0),
            };
        }
        let cut = count < needed;
        if cut {
            self.cut(entry, count)?;
        } else if next.is_some() {
            self.report.note(Repair::Trimmed);
        }
        // A copy of the last cluster ends anyhow, and the cluster itself may go on in the other file.
        let own = count > 0 && shared.last() != Some(&(count - 1));
        if let Some(last) = last.filter(|_| own && (cut || next.is_some())) {
            self.ends.set(last);
        }
        if !shared.is_empty() {
            self.crossings.push(Crossing { entry, start, count, shared });
        }
        Ok(())
    }

    /// Cuts a file's length to `count` clusters.
    fn cut(&mut self, entry: u64, count: u32) -> Result<(), Failure> {
        self.report.note(Repair::Cut);
        let length = u64::from(count).saturating_mul(self.geometry.cluster);
        self.edit(entry + LENGTH, &u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes())?;
        if count == 0 { self.set_start(entry, 0) } else { Ok(()) }
    }

    /// Whether a cluster is among the first `count` of a chain.
    fn is_among(&self, start: u32, count: u32, wanted: u32) -> bool {
        let mut cluster = start;
        for _ in 0..count {
            if cluster == wanted {
                return true;
            }
            cluster = self.follow(cluster);
        }
        false
    }

    /// The cluster after this one by the table; 0 at the end.
    fn follow(&self, cluster: u32) -> u32 {
        if let Link::Next(next) = self.table.link(cluster) { next } else { 0 }
    }

    /// Gives each file that shares clusters a copy of them, if there is room.
    pub fn separate(&mut self) -> Result<(), Failure> {
        let crossings = std::mem::take(&mut self.crossings);
        let (mut free, mut heads) = (2, Vec::new());
        for crossing in &crossings {
            let mut copies = Vec::new();
            while copies.len() < crossing.shared.len()
                && let Some(cluster) = self.find_free(&mut free)
            {
                copies.push(cluster);
            }
            if copies.len() < crossing.shared.len() {
                self.give_up(crossing)?;
            } else {
                self.report.note(Repair::Copied);
                self.copy(crossing, &copies, &mut heads)?;
            }
        }
        if crossings.is_empty() {
            return Ok(());
        }
        // The copies' content, then their links, and with the rest of the table what leads to them.
        self.medium.sync()?;
        self.table.write(self.medium, &self.geometry, &mut self.report)?;
        for (last, first) in heads {
            self.table.set(last, first);
        }
        Ok(())
    }

    /// There is no room: cuts the file before its first shared cluster.
    fn give_up(&mut self, crossing: &Crossing) -> Result<(), Failure> {
        let first = crossing.shared.first().copied().unwrap_or(0);
        let mut cluster = crossing.start;
        for number in 0..crossing.count {
            if number + 1 == first {
                self.ends.set(cluster);
            }
            if number > first && crossing.shared.binary_search(&number).is_err() {
                self.taken.clear(cluster);
            }
            cluster = self.follow(cluster);
        }
        self.cut(crossing.entry, first)
    }

    /// Copies a file's shared clusters and links the copies among each other and to what follows them. What leads from
    /// a cluster of the file's own to a copy is added to `heads`.
    fn copy(
        &mut self,
        crossing: &Crossing,
        copies: &[u32],
        heads: &mut Vec<(u32, u32)>,
    ) -> Result<(), Failure> {
        let mut content = vec![0; usize::try_from(self.geometry.cluster).unwrap_or(0)];
        let mut copies = crossing.shared.iter().zip(copies).peekable();
        let (mut cluster, mut before) = (crossing.start, None);
        for number in 0..crossing.count {
            let copy = copies.next_if(|(shared, _)| **shared == number).map(|(_, copy)| *copy);
            if let Some(copy) = copy {
                self.medium.read(self.geometry.place(cluster), &mut content)?;
                self.medium.write(self.geometry.place(copy), &content)?;
                self.taken.set(copy);
            }
            let is = copy.unwrap_or(cluster);
            match before {
                Some((before, true)) => self.table.set(before, is),
                Some((before, false)) if copy.is_some() => heads.push((before, is)),
                None if copy.is_some() => self.set_start(crossing.entry, is)?,
                _ => {}
            }
            cluster = self.follow(cluster);
            if copy.is_some() {
                self.table.set(is, END);
            }
            before = Some((is, copy.is_some()));
        }
        Ok(())
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
