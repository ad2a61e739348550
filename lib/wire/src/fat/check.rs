//! The check of a FAT, and what is common to its parts.
//!
//! It looks at everything before it writes anything, in memory that is bounded by the number of clusters:
//! 1. the folders, each of which takes its clusters (`folders`); names are put in order on the way;
//! 2. the files take theirs, as far as their length goes (`files`); where two files share clusters, the second gets
//!    a copy of them, as after a cut in a rename, which leaves both names;
//! 3. what nobody took is free.
//!
//! Then it writes, with a sync after each step; the file system is not mounted meanwhile:
//! 1. the copies of shared clusters, into free ones, with their chains in the table: a cut leaves lost clusters;
//! 2. the table: a cut leaves chains that are too short or entries without clusters, which the next check cuts to the
//!    same length or removes as this one would have;
//! 3. the folders' sectors, each of which is old or new;
//! 4. the count of free clusters, and last the boot sector without its mark.
//!
//! A file that was whole stays byte for byte: its chain is not touched, whatever else leads into it.

use super::boot::{Boot, Geometry};
use super::entry::{self, Entry};
use super::table::Table;
use super::{Bits, Failure, Medium, Refused, Repair, Report};
use crate::superblock::le32;

/// The most sectors of folders that one check changes; in a file system with more faults than that, what it takes
/// for folders may be something else.
const EDIT_LIMIT: usize = 2048;

/// A sector of a folder that is to be written.
struct Edit {
    place: u64,
    content: Vec<u8>,
}

/// A file whose chain leads into another's: from `shared` on it gets clusters of its own.
pub struct Crossing {
    /// Where the file's entry is.
    pub entry: u64,
    /// The last cluster that is its own; `None`: it has none.
    pub last: Option<u32>,
    /// The first cluster that belongs to another file.
    pub shared: u32,
    /// How many clusters come before it, and how many are missing from there on.
    pub before: u32,
    /// See `before`.
    pub missing: u32,
}

/// Room for an entry in a folder.
pub struct Slot {
    /// Where it is, in bytes.
    pub place: u64,
    /// Its number in the folder.
    pub number: u32,
    /// What is there, if it is used.
    pub entry: Option<Entry>,
}

/// A check under way.
pub struct Check<'a> {
    pub medium: &'a mut dyn Medium,
    pub geometry: Geometry,
    pub table: Table,
    /// Clusters that a file or folder has.
    pub taken: Bits,
    /// Clusters with which a chain ends, whatever the table says.
    pub ends: Bits,
    pub crossings: Vec<Crossing>,
    pub report: Report,
    edits: Vec<Edit>,
}

/// Checks and repairs the FAT16 or FAT32 file system on a medium of `length` bytes, which must not be mounted.
pub fn check(medium: &mut dyn Medium, length: u64) -> Result<Report, Failure> {
    let boot = Boot::read(medium, length)?;
    let table = Table::read(medium, &boot.geometry)?;
    let mut check = Check {
        taken: Bits::new(boot.geometry.end),
        ends: Bits::new(boot.geometry.end),
        geometry: boot.geometry.clone(),
        medium,
        table,
        crossings: Vec::new(),
        report: Report::default(),
        edits: Vec::new(),
    };
    let folders = check.folders(boot.label)?;
    check.files(&folders)?;
    check.separate()?;
    check.write()?;
    let Check { medium, mut report, .. } = check;
    boot.finish(medium, &mut report)?;
    Ok(report)
}

impl Check<'_> {
    /// Reads a piece of a folder, with what is to be changed in it.
    pub fn folder_content(&mut self, place: u64, length: u64) -> Result<Vec<u8>, Refused> {
        let mut content = vec![0; usize::try_from(length).unwrap_or(0)];
        self.medium.read(place, &mut content)?;
        for edit in &self.edits {
            let at = edit.place.checked_sub(place).and_then(|at| usize::try_from(at).ok());
            let to = at.and_then(|at| content.get_mut(at..)?.get_mut(..edit.content.len()));
            if let Some(to) = to {
                to.copy_from_slice(&edit.content);
            }
        }
        Ok(content)
    }

    /// Notes a change of bytes in a folder.
    pub fn edit(&mut self, place: u64, bytes: &[u8]) -> Result<(), Failure> {
        let sector = place - place % self.geometry.sector;
        let known = self.edits.iter().position(|edit| edit.place == sector);
        let index = match known {
            Some(index) => index,
            None if self.edits.len() == EDIT_LIMIT => {
                return Err(Failure::LeftAlone("too much of it is broken"));
            }
            None => {
                let mut content = vec![0; usize::try_from(self.geometry.sector).unwrap_or(0)];
                self.medium.read(sector, &mut content)?;
                self.edits.push(Edit { place: sector, content });
                self.edits.len() - 1
            }
        };
        let at = usize::try_from(place - sector).unwrap_or(0);
        let edit = self.edits.get_mut(index);
        if let Some(field) = edit.and_then(|edit| edit.content.get_mut(at..)?.get_mut(..bytes.len())) {
            field.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Removes the entry at `place`.
    pub fn remove(&mut self, place: u64, repair: Repair) -> Result<(), Failure> {
        self.report.note(repair);
        self.edit(place, &[entry::REMOVED])
    }

    /// Sets the first cluster of the entry at `place`.
    pub fn set_start(&mut self, place: u64, cluster: u32) -> Result<(), Failure> {
        let [_, _, c, d] = cluster.to_le_bytes();
        if self.geometry.wide {
            self.edit(place + 20, &[c, d])?;
        }
        self.set_low_start(place, cluster as u16)
    }

    /// Sets the lower half of the first cluster of the entry at `place`.
    pub fn set_low_start(&mut self, place: u64, half: u16) -> Result<(), Failure> {
        self.edit(place + 26, &half.to_le_bytes())
    }

    /// Shows all slots of a folder. A folder with the number 0 is FAT16's root.
    pub fn entries(
        &mut self,
        folder: u32,
        see: &mut dyn FnMut(&mut Self, Slot) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (mut place, mut length) = self.geometry.root;
        let mut cluster = folder;
        let mut number = 0u32;
        loop {
            if folder != 0 {
                (place, length) = (self.geometry.place(cluster), self.geometry.cluster);
            }
            let content = self.folder_content(place, length)?;
            for bytes in content.chunks_exact(entry::BYTES) {
                let entry = Entry(bytes.first_chunk().copied().unwrap_or_default());
                let entry = Some(entry).filter(|entry| !entry.is_free());
                see(self, Slot { place, number, entry })?;
                place += entry::BYTES as u64;
                number = number.saturating_add(1);
            }
            match self.next(cluster) {
                Some(next) if folder != 0 => cluster = next,
                _ => return Ok(()),
            }
        }
    }

    /// The cluster after this one in a chain that has been taken.
    pub fn next(&self, cluster: u32) -> Option<u32> {
        match self.table.link(cluster) {
            super::table::Link::Next(next) if !self.ends.has(cluster) => Some(next),
            _ => None,
        }
    }

    /// Writes what was found, in the order that the module's text tells.
    fn write(&mut self) -> Result<(), Refused> {
        let mut free = 0u32;
        for cluster in 2..self.geometry.end {
            if self.table.is_bad(cluster) {
                continue;
            }
            if !self.taken.has(cluster) {
                if self.table.is_used(cluster) {
                    self.report.note(Repair::Lost);
                }
                self.table.set(cluster, 0);
                free += 1;
            } else if self.ends.has(cluster) {
                self.table.set(cluster, super::table::END);
            }
        }
        self.table.set_head(self.geometry.media);
        self.table.write(self.medium, &self.geometry, &mut self.report)?;
        for edit in &self.edits {
            self.medium.write(edit.place, &edit.content)?;
        }
        if !self.edits.is_empty() {
            self.medium.sync()?;
        }
        self.write_count(free)
    }

    /// FAT32: the sector with the number of free clusters.
    fn write_count(&mut self, free: u32) -> Result<(), Refused> {
        let Some(place) = self.geometry.info else { return Ok(()) };
        let mut sector = vec![0; super::boot::BYTES];
        self.medium.read(place, &mut sector)?;
        let next = le32(&sector, 492).filter(|next| (2..self.geometry.end).contains(next));
        let before = sector.clone();
        for (at, value) in [
            (0, 0x4161_5252),
            (484, 0x6141_7272),
            (488, free),
            (492, next.unwrap_or(u32::MAX)),
            (508, 0xAA55_0000),
        ] {
            if let Some(field) = sector.get_mut(at..at + 4) {
                field.copy_from_slice(&u32::to_le_bytes(value));
            }
        }
        if sector != before {
            self.report.note(Repair::Count);
            self.medium.write(place, &sector)?;
            self.medium.sync()?;
        }
        Ok(())
    }
}
