//! Growing the last partition of a disk, and a GPT whose front is broken.
//!
//! A plan is a list of writes, each of which must last before the next is made. Power cut:
//! - GPT: the second table, at the disk's end, comes first. Until it is whole, the first one is as it was. While the
//!   first one is written, the second is whole, and [`restore`] makes the first from it. Firmware and boot loaders
//!   take the second by themselves; Linux does not, so stage 1 restores before it looks for partitions.
//! - msdos: each write is one sector, from the outer to the inner: the extended partition, the link to the
//!   partition's record, the record. After each of them, all partitions lie within what holds them, none has
//!   moved, and the next plan is the rest of this one.
//!
//! A table that is not understood in full is left alone.

use super::{Entry, bytes, entry};
use crate::crc32;
use crate::superblock::{le16, le32, le64};

/// Less free space than this behind the partition is no reason to change a table, in bytes (spec os §1.9.2).
const WORTH: u64 = 10 << 20;
/// The longest list of GPT entries, in bytes; the usual one has 16 KiB.
const ENTRIES_LIMIT: u64 = 64 << 10;
/// The most logical partitions.
const LOGICAL_LIMIT: u32 = 64;

/// A disk, in sectors of its own size.
#[derive(Debug, Clone, Copy)]
pub struct Disk {
    /// Bytes of a logical sector.
    pub sector: u32,
    /// Logical sectors.
    pub sectors: u64,
    /// Bytes of a physical sector; partitions are a multiple of it.
    pub physical: u32,
}

/// Content for a place on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Bytes from the disk's start.
    pub offset: u64,
    /// What is to stand there.
    pub content: Vec<u8>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// In this order, each made to last before the next.
    pub writes: Vec<Write>,
    /// Bytes of the partition after that.
    pub size: u64,
}

/// Reads a piece of the disk: offset and length in bytes.
pub type Source<'a> = dyn FnMut(u64, usize) -> Option<Vec<u8>> + 'a;

/// The plan for the partition with this number, which the kernel sees begin at `start` (bytes). The error says why
/// the table is left alone.
pub fn plan(disk: &Disk, number: u32, start: u64, source: &mut Source<'_>) -> Result<Plan, &'static str> {
    let mut reader = Reader { disk, source };
    let first = reader.sector(0)?;
    if le16(&first, 510) != Some(0xAA55) {
        return Err("there is no partition table");
    }
    let start = start / u64::from(disk.sector);
    let mut plan = if is_protective(&first)? {
        gpt(&mut reader, first, number, start)?
    } else {
        msdos(&mut reader, first, number, start)?
    };
    // What stands there already is not written.
    let mut due = Vec::new();
    for write in plan.writes {
        if reader.read(write.offset, write.content.len())? != write.content {
            due.push(write);
        }
    }
    plan.writes = due;
    Ok(plan)
}

/// What makes the first GPT of a disk from the second, when the first is broken and the second is whole; nothing
/// when that is not so.
pub fn restore(disk: &Disk, source: &mut Source<'_>) -> Option<Vec<Write>> {
    let mut reader = Reader { disk, source };
    let first = reader.sector(0).ok()?;
    let last = disk.sectors.checked_sub(1)?;
    if !is_protective(&first).ok()? || Gpt::read(&mut reader, 1).is_ok() {
        return None;
    }
    let gpt = Gpt::read(&mut reader, last).ok()?;
    // The place of the first list is told nowhere but in the first header; everybody has it here.
    if gpt.first_usable()? < 2 + gpt.entry_sectors(disk) {
        return None;
    }
    Some(vec![
        Write { offset: bytes(2, disk.sector)?, content: gpt.padded_entries(disk) },
        Write { offset: bytes(1, disk.sector)?, content: gpt.header_at(disk, 1, last, 2)? },
    ])
}

/// Whether the first sector belongs to a GPT. One that has other partitions as well is not understood.
fn is_protective(first: &[u8]) -> Result<bool, &'static str> {
    let (mut protective, mut others) = (false, false);
    for index in 0..4 {
        match entry(first, index) {
            Some(entry) if entry.kind == 0xEE => protective = true,
            Some(_) => others = true,
            None => {}
        }
    }
    if protective && others { Err("it has two partition tables at once") } else { Ok(protective) }
}

struct Reader<'a, 'b> {
    disk: &'a Disk,
    source: &'a mut Source<'b>,
}

impl Reader<'_, '_> {
    fn read(&mut self, offset: u64, length: usize) -> Result<Vec<u8>, &'static str> {
        (self.source)(offset, length).filter(|content| content.len() == length).ok_or("it cannot be read")
    }

    fn sector(&mut self, number: u64) -> Result<Vec<u8>, &'static str> {
        let offset = bytes(number, self.disk.sector).ok_or("it leads out of the disk")?;
        self.read(offset, self.disk.sector as usize)
    }
}

/// How far a partition that begins at sector `start` and ends before `end` grows when the space ends before `limit`.
fn grown_end(disk: &Disk, start: u64, end: u64, limit: u64) -> u64 {
    let free = limit.saturating_sub(end).saturating_mul(disk.sector.into());
    if free <= WORTH {
        return end;
    }
    let physical = u64::from(disk.physical / disk.sector.max(1)).max(1);
    let sectors = limit.saturating_sub(start);
    start.saturating_add(sectors - sectors % physical)
}

/// A GPT's header and entries that fit together.
struct Gpt {
    header: Vec<u8>,
    entries: Vec<u8>,
    entry_bytes: usize,
}

// Places of a header's fields (UEFI 2.10 §5.3.2).
const HEADER_BYTES: usize = 12;
const HEADER_SUM: usize = 16;
const OWN_PLACE: usize = 24;
const OTHER_PLACE: usize = 32;
const FIRST_USABLE: usize = 40;
const LAST_USABLE: usize = 48;
const ENTRIES_PLACE: usize = 72;
const ENTRY_COUNT: usize = 80;
const ENTRY_BYTES: usize = 84;
const ENTRIES_SUM: usize = 88;

impl Gpt {
    fn read(reader: &mut Reader<'_, '_>, place: u64) -> Result<Self, &'static str> {
        let broken = "its GPT is broken";
        let header = reader.sector(place)?;
        let field = |at| le32(&header, at).ok_or(broken);
        let length = field(HEADER_BYTES)? as usize;
        let mut summed = header.get(..length).filter(|_| length >= 92).ok_or(broken)?.to_vec();
        put(&mut summed, HEADER_SUM, &[0; 4]);
        if header.get(..8) != Some(b"EFI PART")
            || crc32::update(0, &summed) != field(HEADER_SUM)?
            || le64(&header, OWN_PLACE) != Some(place)
        {
            return Err(broken);
        }
        let entry_bytes = field(ENTRY_BYTES)?;
        let all = u64::from(field(ENTRY_COUNT)?).saturating_mul(entry_bytes.into());
        if !(128..=4096).contains(&entry_bytes) || all > ENTRIES_LIMIT {
            return Err("its GPT has an unusual form");
        }
        let offset =
            le64(&header, ENTRIES_PLACE).and_then(|at| bytes(at, reader.disk.sector)).ok_or(broken)?;
        let entries = reader.read(offset, usize::try_from(all).map_err(|_| broken)?)?;
        if crc32::update(0, &entries) != field(ENTRIES_SUM)? {
            return Err(broken);
        }
        Ok(Self { header, entries, entry_bytes: entry_bytes as usize })
    }

    fn entry_sectors(&self, disk: &Disk) -> u64 {
        (self.entries.len() as u64).div_ceil(disk.sector.into())
    }

    fn first_usable(&self) -> Option<u64> {
        le64(&self.header, FIRST_USABLE)
    }

    /// The entries up to the end of their last sector.
    fn padded_entries(&self, disk: &Disk) -> Vec<u8> {
        let mut entries = self.entries.clone();
        entries.resize(entries.len().next_multiple_of((disk.sector as usize).max(1)), 0);
        entries
    }

    /// The header for a place, with the other one's and the list's, and sums that fit.
    fn header_at(&self, disk: &Disk, place: u64, other: u64, entries: u64) -> Option<Vec<u8>> {
        let mut header = self.header.clone();
        let last_usable = disk.sectors.checked_sub(2)?.checked_sub(self.entry_sectors(disk))?;
        for (at, value) in
            [(OWN_PLACE, place), (OTHER_PLACE, other), (LAST_USABLE, last_usable), (ENTRIES_PLACE, entries)]
        {
            put(&mut header, at, &value.to_le_bytes());
        }
        put(&mut header, ENTRIES_SUM, &crc32::update(0, &self.entries).to_le_bytes());
        put(&mut header, HEADER_SUM, &[0; 4]);
        let length = le32(&header, HEADER_BYTES)? as usize;
        let sum = crc32::update(0, header.get(..length)?);
        put(&mut header, HEADER_SUM, &sum.to_le_bytes());
        Some(header)
    }
}

fn gpt(
    reader: &mut Reader<'_, '_>,
    mut first: Vec<u8>,
    number: u32,
    start: u64,
) -> Result<Plan, &'static str> {
    let disk = *reader.disk;
    let mut gpt = Gpt::read(reader, 1)?;
    let unfit = "its GPT does not fit the disk";
    let last = disk.sectors.checked_sub(1).ok_or(unfit)?;
    let tail = last.checked_sub(gpt.entry_sectors(&disk)).ok_or(unfit)?;
    let (index, mut end) = (number.wrapping_sub(1) as usize, None);
    for (at, entry) in gpt.entries.chunks_exact(gpt.entry_bytes).enumerate() {
        if entry.iter().take(16).all(|byte| *byte == 0) {
            continue;
        }
        let (Some(from), Some(to)) = (le64(entry, 32), le64(entry, 40)) else { return Err(unfit) };
        if at == index && from == start && to >= from {
            end = Some(to);
        } else if to < from || to >= start {
            return Err("other partitions lie behind");
        }
    }
    let end = end.ok_or("the kernel sees another partition than its table has")?;
    if end >= tail {
        return Err(unfit);
    }
    let end = grown_end(&disk, start, end + 1, tail);
    let place = index.saturating_mul(gpt.entry_bytes).saturating_add(40);
    put(&mut gpt.entries, place, &(end - 1).to_le_bytes());
    // The protective entry spans the disk, as far as it can say.
    let span = u32::try_from(last).unwrap_or(u32::MAX);
    for index in 0..4 {
        if entry(&first, index).is_some_and(|entry| entry.start == 1) {
            put(&mut first, 446 + index * 16 + 12, &span.to_le_bytes());
        }
    }
    let entries = le64(&gpt.header, ENTRIES_PLACE).ok_or(unfit)?;
    let list = gpt.padded_entries(&disk);
    let at = |sector| bytes(sector, disk.sector).ok_or(unfit);
    let writes = vec![
        Write { offset: at(tail)?, content: list.clone() },
        Write { offset: at(last)?, content: gpt.header_at(&disk, last, 1, tail).ok_or(unfit)? },
        Write { offset: at(entries)?, content: list },
        Write { offset: at(1)?, content: gpt.header_at(&disk, 1, last, entries).ok_or(unfit)? },
        Write { offset: 0, content: first },
    ];
    Ok(Plan { writes, size: at(end - start)? })
}

/// A record on the way to the partition: where it is, its content, and which of its entries leads on.
struct Record {
    place: u64,
    content: Vec<u8>,
    index: usize,
    entry: Entry,
    /// What the entry's start counts from.
    base: u64,
}

impl Record {
    /// The sector in which the entry's partition begins.
    fn start(&self) -> u64 {
        self.base.saturating_add(self.entry.start.into())
    }

    fn end(&self) -> u64 {
        self.start().saturating_add(self.entry.size.into())
    }
}

fn msdos(reader: &mut Reader<'_, '_>, first: Vec<u8>, number: u32, start: u64) -> Result<Plan, &'static str> {
    let disk = *reader.disk;
    let way = if (1..=4).contains(&number) {
        let entry = entry(&first, number as usize - 1).ok_or("the partition is not in its table")?;
        last_of_primaries(&first, number as usize - 1)?;
        vec![Record { place: 0, content: first, index: number as usize - 1, entry, base: 0 }]
    } else {
        logical(reader, first, number)?
    };
    let data = way.last().filter(|data| data.start() == start && !data.entry.extended());
    let data = data.ok_or("the kernel sees another partition than its table has")?;
    // Starts and sizes have 32 bits: 2 TiB with sectors of 512 bytes.
    let limit = disk.sectors.min(u64::from(u32::MAX));
    if data.end() > limit {
        return Err("its table does not fit the disk");
    }
    let end = grown_end(&disk, start, data.end(), limit);
    let size = bytes(end.saturating_sub(start), disk.sector).ok_or("its table does not fit the disk")?;
    let mut writes = Vec::new();
    for record in way {
        // The extended partition goes to the end of the disk, what is in it to the partition's end. None shrinks.
        let whole = record.place == 0 && record.entry.extended() && end > record.end();
        let to = if whole { limit } else { end.max(record.end()) };
        let sectors = u32::try_from(to - record.start()).map_err(|_| "its table does not fit the disk")?;
        let (mut content, at) = (record.content, 446 + record.index * 16);
        if sectors != record.entry.size {
            put(&mut content, at + 12, &sectors.to_le_bytes());
            // Cylinder, head and sector of the end: beyond what they can tell.
            put(&mut content, at + 5, &[0xFE, 0xFF, 0xFF]);
        }
        writes.push(Write { offset: bytes(record.place, disk.sector).unwrap_or(0), content });
    }
    Ok(Plan { writes, size })
}

/// None of the first four partitions may lie behind the one with this index.
fn last_of_primaries(first: &[u8], index: usize) -> Result<(), &'static str> {
    let start = entry(first, index).map_or(0, |entry| entry.start);
    for other in 0..4 {
        let Some(entry) = entry(first, other).filter(|_| other != index) else { continue };
        if u64::from(entry.start) + u64::from(entry.size) > u64::from(start) {
            return Err("other partitions lie behind");
        }
    }
    Ok(())
}

/// The records from the extended partition to the logical one with this number, which must be the last.
fn logical(reader: &mut Reader<'_, '_>, first: Vec<u8>, number: u32) -> Result<Vec<Record>, &'static str> {
    let unusual = "its table has an unusual form";
    let mut extended = None;
    for index in 0..4 {
        if let Some(entry) = entry(&first, index).filter(Entry::extended)
            && extended.replace((index, entry)).is_some()
        {
            return Err(unusual);
        }
    }
    let (index, entry_of_it) = extended.ok_or("it has no extended partition")?;
    last_of_primaries(&first, index)?;
    let base = u64::from(entry_of_it.start);
    let mut way = vec![Record { place: 0, content: first, index, entry: entry_of_it, base: 0 }];
    let mut place = base;
    for at in 5..5 + LOGICAL_LIMIT {
        let content = reader.sector(place)?;
        let (data, link) = (entry(&content, 0), entry(&content, 1));
        let others = entry(&content, 2).is_some() || entry(&content, 3).is_some();
        let data = data.filter(|data| !data.extended()).ok_or(unusual)?;
        if le16(&content, 510) != Some(0xAA55) || others {
            return Err(unusual);
        }
        match link {
            None if at == number => {
                way.push(Record { place, content, index: 0, entry: data, base: place });
                return Ok(way);
            }
            Some(link) if link.extended() && at < number => {
                let next = base.saturating_add(link.start.into());
                // Chains go upwards, past the partition that is described here.
                if next < place.saturating_add(data.start.into()).saturating_add(data.size.into()) {
                    return Err(unusual);
                }
                if at + 1 == number {
                    way.push(Record { place, content, index: 1, entry: link, base });
                }
                place = next;
            }
            _ => return Err("the partition is not the last of its table"),
        }
    }
    Err(unusual)
}

fn put(bytes: &mut [u8], at: usize, content: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(content) {
        *to = *from;
    }
}
