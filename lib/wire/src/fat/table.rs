//! The allocation table: read from both copies, held as numbers, written back where it differs.

use super::boot::Geometry;
use super::{Failure, Medium, Refused, Repair, Report};
use crate::superblock::{le16, le32};

/// The part of a FAT32 entry that counts.
const MASK: u32 = 0x0FFF_FFFF;
/// The last cluster of a chain; FAT16's values are spread to FAT32's in memory.
pub const END: u32 = MASK;
/// A cluster that the medium cannot hold.
const BAD: u32 = 0x0FFF_FFF7;
/// Bytes of a table that are read at once.
const STEP: usize = 64 << 10;

/// All entries.
#[derive(Debug)]
pub struct Table {
    entries: Vec<u32>,
    end: u32,
}

/// What an entry says of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// It is free, cannot be used, or the entry makes no sense.
    Nothing,
    /// It is the last of its chain.
    End,
    /// The chain goes on there.
    Next(u32),
}

impl Table {
    /// Reads the table. Where its copies differ, the first counts, as for every system that mounts it, unless it
    /// makes no sense there, or is free, and the second knows better: what turns out to belong to nothing is freed.
    pub fn read(medium: &mut dyn Medium, geometry: &Geometry) -> Result<Self, Failure> {
        let mut entries = read_copy(medium, geometry, 0)?;
        let sound = |copy: &[u32]| copy.first().is_some_and(|first| *first as u8 == geometry.media);
        let mut any_sound = sound(&entries);
        for copy in 1..geometry.tables {
            let other = read_copy(medium, geometry, copy)?;
            any_sound |= sound(&other);
            for (entry, other) in entries.iter_mut().zip(other) {
                if !tells(*entry, geometry.end) && tells(other, geometry.end) {
                    *entry = other;
                }
            }
        }
        // With a wrong geometry, something else stands there.
        if !any_sound {
            return Err(Failure::LeftAlone("its tables do not begin as tables"));
        }
        Ok(Self { entries, end: geometry.end })
    }

    /// What the entry says.
    pub fn link(&self, cluster: u32) -> Link {
        let value = self.entries.get(cluster as usize).map_or(0, |entry| entry & MASK);
        match value {
            _ if cluster < 2 => Link::Nothing,
            // A cluster of a file is not marked as bad; as in Linux, this ends the chain.
            value if value >= BAD => Link::End,
            value if (2..self.end).contains(&value) => Link::Next(value),
            _ => Link::Nothing,
        }
    }

    /// Whether the cluster holds something: a chain may lead to it. A link that makes no sense does not free it.
    pub fn is_used(&self, cluster: u32) -> bool {
        let in_range = (2..self.end).contains(&cluster);
        in_range && self.entries.get(cluster as usize).is_some_and(|entry| entry & MASK != 0)
    }

    /// Whether the cluster is marked as one that the medium cannot hold.
    pub fn is_bad(&self, cluster: u32) -> bool {
        self.entries.get(cluster as usize).is_some_and(|entry| entry & MASK == BAD)
    }

    /// Sets an entry; FAT32's upper bits stay.
    pub fn set(&mut self, cluster: u32, value: u32) {
        if let Some(entry) = self.entries.get_mut(cluster as usize) {
            *entry = *entry & !MASK | value;
        }
    }

    /// Sets the first two entries as a clean file system has them: the media byte and all bits.
    pub fn set_head(&mut self, media: u8) {
        self.set(0, MASK & !0xFF | u32::from(media));
        self.set(1, END);
    }

    /// Writes each sector of each copy that differs. A copy's first sector, which says that the copy is sound,
    /// comes last. Power cut: each sector is old or new; the next check takes up whatever mixture there is.
    pub fn write(
        &self,
        medium: &mut dyn Medium,
        geometry: &Geometry,
        report: &mut Report,
    ) -> Result<(), Refused> {
        let (sector, width) = (geometry.sector, geometry.width());
        let per_sector = sector / width;
        let sectors = u64::from(self.end).div_ceil(per_sector);
        let mut content = vec![0; usize::try_from(sector).unwrap_or(0)];
        for copy in 0..geometry.tables {
            let start = geometry.table_start + copy * geometry.table_bytes;
            let mut dirty = false;
            for number in (0..sectors).rev() {
                let place = start + number * sector;
                medium.read(place, &mut content)?;
                if !self.encode(number * per_sector, geometry.wide, &mut content) {
                    continue;
                }
                if number == 0 && dirty {
                    medium.sync()?;
                }
                medium.write(place, &content)?;
                dirty = true;
                report.note(Repair::Table);
            }
            if dirty {
                medium.sync()?;
            }
        }
        Ok(())
    }

    /// Puts the entries from `first` on into a sector; the answer tells whether that changed it.
    fn encode(&self, first: u64, wide: bool, sector: &mut [u8]) -> bool {
        let mut changed = false;
        let from = usize::try_from(first).unwrap_or(usize::MAX);
        let width = if wide { 4 } else { 2 };
        for (field, entry) in sector.chunks_exact_mut(width).zip(self.entries.iter().skip(from)) {
            let bytes = entry.to_le_bytes();
            let bytes = bytes.get(..width).unwrap_or_default();
            if field != bytes {
                field.copy_from_slice(bytes);
                changed = true;
            }
        }
        changed
    }
}

/// Whether an entry tells of a used or a bad cluster.
fn tells(entry: u32, end: u32) -> bool {
    let value = entry & MASK;
    value > 1 && (value < end || value >= BAD)
}

fn read_copy(medium: &mut dyn Medium, geometry: &Geometry, copy: u64) -> Result<Vec<u32>, Refused> {
    let count = geometry.end as usize;
    let mut entries = Vec::with_capacity(count);
    let mut place = geometry.table_start + copy * geometry.table_bytes;
    let mut buffer = vec![0; STEP];
    while entries.len() < count {
        let width = if geometry.wide { 4 } else { 2 };
        let left = (count - entries.len()).saturating_mul(width).min(STEP);
        let piece = buffer.get_mut(..left).unwrap_or_default();
        medium.read(place, piece)?;
        place += left as u64;
        for field in piece.chunks_exact(width) {
            entries.push(match le32(field, 0) {
                Some(wide) => wide,
                None => spread(le16(field, 0).unwrap_or(0)),
            });
        }
    }
    Ok(entries)
}

/// A FAT16 entry as FAT32 has it.
fn spread(entry: u16) -> u32 {
    let entry = u32::from(entry);
    if entry >= 0xFFF7 { entry | 0x0FFF_0000 } else { entry }
}
