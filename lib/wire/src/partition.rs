//! Partition tables: msdos with logical partitions, and GPT; reading them, and growing the last partition.
//!
//! The caller reads the disk: [`read`] asks for pieces by byte offset, so that the same code serves a disk, an
//! image file and a test. Layouts: UEFI 2.10 §5.3 (GPT), and for msdos the usual one with a chain of extended
//! boot records.

mod grow;

use crate::superblock::{le16, le32, le64, uuid};
pub use grow::{Disk, Plan, Source, Write, plan, restore};

/// The most logical partitions that are followed: a chain that loops must end.
const LOGICAL_LIMIT: u32 = 64;
/// The most GPT entries that are read; the usual table has 128.
const GPT_LIMIT: u32 = 256;

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The kernel's number: logical partitions count from 5.
    pub number: u32,
    /// The offset of its first byte.
    pub start: u64,
    /// Its bytes.
    pub size: u64,
    /// PARTUUID as blkid(8) spells it: GPT the partition's GUID, msdos `SIGNATURE-NN`.
    pub uuid: Option<String>,
    /// GPT: the partition's name.
    pub name: Option<String>,
}

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Whether it is a GPT.
    pub gpt: bool,
    /// Its partitions in the order of their numbers; an msdos extended partition is among them.
    pub partitions: Vec<Partition>,
}

/// Reads the table of a disk with logical sectors of `sector` bytes. `read(offset, length)` gives that piece
/// of the disk or `None`. The answer is `None` when there is no table.
///
/// Of a GPT, only the header at the front is used; checksums are left to the writer, as the kernel has
/// accepted the table before.
pub fn read(sector: u32, source: &mut dyn FnMut(u64, usize) -> Option<Vec<u8>>) -> Option<Table> {
    let length = usize::try_from(sector).ok().filter(|length| (512..=4096).contains(length))?;
    let first = source(0, length)?;
    if le16(&first, 510)? != 0xAA55 {
        return None;
    }
    let protective = (0..4).any(|index| entry(&first, index).is_some_and(|entry| entry.kind == 0xEE));
    if protective { gpt(sector, length, source) } else { msdos(sector, length, &first, source) }
}

/// The bytes of this many sectors.
#[inline(never)]
fn bytes(sectors: u64, sector: u32) -> Option<u64> {
    sectors.checked_mul(sector.into())
}

/// One of the four records of a boot sector; start and size in sectors.
#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: u8,
    start: u32,
    size: u32,
}

impl Entry {
    fn extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0F | 0x85)
    }
}

fn entry(boot_sector: &[u8], index: usize) -> Option<Entry> {
    let at = 446 + index * 16;
    let kind = *boot_sector.get(at + 4)?;
    let (start, size) = (le32(boot_sector, at + 8)?, le32(boot_sector, at + 12)?);
    (kind != 0 && size != 0).then_some(Entry { kind, start, size })
}

fn msdos(
    sector: u32,
    length: usize,
    first: &[u8],
    source: &mut dyn FnMut(u64, usize) -> Option<Vec<u8>>,
) -> Option<Table> {
    let signature = le32(first, 440)?;
    let partition = |number: u32, start: u64, size: u32| Partition {
        number,
        start: bytes(start, sector).unwrap_or(u64::MAX),
        size: bytes(size.into(), sector).unwrap_or(u64::MAX),
        uuid: (signature != 0).then(|| format!("{signature:08x}-{number:02x}")),
        name: None,
    };
    let mut partitions = Vec::new();
    let mut extended = None;
    for (index, number) in (0..4).zip(1..) {
        if let Some(entry) = entry(first, index) {
            partitions.push(partition(number, entry.start.into(), entry.size));
            if entry.extended() {
                extended = extended.or(Some(u64::from(entry.start)));
            }
        }
    }
    let base = extended.unwrap_or(0);
    let mut record = extended;
    let mut number = 5;
    for _ in 0..LOGICAL_LIMIT {
        let Some(at) = record.take() else { break };
        let Some(boot) = source(bytes(at, sector).unwrap_or(u64::MAX), length) else { break };
        if le16(&boot, 510) != Some(0xAA55) {
            break;
        }
        // A logical partition is relative to its own record, the next record to the extended partition.
        for index in 0..4 {
            let Some(entry) = entry(&boot, index) else { continue };
            if entry.extended() {
                record = record.or(Some(base.saturating_add(entry.start.into())));
            } else {
                partitions.push(partition(number, at.saturating_add(entry.start.into()), entry.size));
                number += 1;
            }
        }
    }
    Some(Table { gpt: false, partitions })
}

fn gpt(sector: u32, length: usize, source: &mut dyn FnMut(u64, usize) -> Option<Vec<u8>>) -> Option<Table> {
    let header = source(sector.into(), length)?;
    if header.get(..8)? != b"EFI PART" {
        return None;
    }
    let (entries, count, size) = (le64(&header, 72)?, le32(&header, 80)?, le32(&header, 84)?);
    if !(128..=4096).contains(&size) {
        return None;
    }
    let (size, count) = (usize::try_from(size).ok()?, usize::try_from(count.min(GPT_LIMIT)).ok()?);
    let table = source(bytes(entries, sector)?, size.checked_mul(count)?)?;
    let mut partitions = Vec::new();
    for (entry, number) in table.chunks_exact(size).zip(1..) {
        partitions.extend(gpt_entry(entry, number, sector));
    }
    Some(Table { gpt: true, partitions })
}

fn gpt_entry(entry: &[u8], number: u32, sector: u32) -> Option<Partition> {
    if entry.get(..16)?.iter().all(|byte| *byte == 0) {
        return None;
    }
    let (first, last) = (le64(entry, 32)?, le64(entry, 40)?);
    let mut units = Vec::new();
    for at in (56..128).step_by(2) {
        match le16(entry, at)? {
            0 => break,
            unit => units.push(unit),
        }
    }
    let name = String::from_utf16_lossy(&units);
    Some(Partition {
        number,
        start: bytes(first, sector)?,
        size: bytes(last.checked_sub(first)?.checked_add(1)?, sector)?,
        uuid: guid(entry.get(16..32)?),
        name: (!name.is_empty()).then_some(name),
    })
}

/// A GUID's text: its first three fields are stored in little-endian order.
fn guid(bytes: &[u8]) -> Option<String> {
    let mut ordered = bytes.first_chunk::<16>().copied()?;
    ordered.get_mut(..4)?.reverse();
    ordered.get_mut(4..6)?.reverse();
    ordered.get_mut(6..8)?.reverse();
    uuid(&ordered)
}

#[cfg(test)]
mod tests;
