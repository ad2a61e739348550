//! Partition tables, read: msdos with logical partitions, and GPT.
//!
//! The caller reads the disk: [`read`] asks for pieces by byte offset, so that the same code serves a disk, an
//! image file and a test. Layouts: UEFI 2.10 §5.3 (GPT), and for msdos the usual one with a chain of extended
//! boot records.

use crate::superblock::{le16, le32, le64, uuid};

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
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn from_memory(image: &[u8]) -> impl FnMut(u64, usize) -> Option<Vec<u8>> + '_ {
        |offset, length| {
            let offset = usize::try_from(offset).ok()?;
            image.get(offset..offset.checked_add(length)?).map(<[u8]>::to_vec)
        }
    }

    /// A 64 MiB disk made by sfdisk.
    fn made_by_sfdisk(name: &str, script: &str) -> Vec<u8> {
        let path = std::env::temp_dir().join(format!("minke-pt-{}-{name}", std::process::id()));
        std::fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
        let mut child = Command::new("sfdisk")
            .arg("-q")
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
        let image = std::fs::read(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        image
    }

    const MSDOS: &str = "label: dos\nlabel-id: 0x62616c65\n\
        start=8192, size=8192, type=c\nstart=16384, size=8192\nstart=24576, size=8192\n\
        start=32768, type=5\nstart=40960, size=8192\nstart=57344, size=4096\n";
    const GPT: &str = "label: gpt\n\
        size=8192, uuid=01234567-89AB-CDEF-0123-456789ABCDEF, name=resin-boot\n\
        size=8192, name=\"größe\"\n";

    #[test]
    fn msdos_with_logical_partitions() {
        let image = made_by_sfdisk("msdos", MSDOS);
        let table = read(512, &mut from_memory(&image)).unwrap();
        assert!(!table.gpt);
        let numbers: Vec<u32> = table.partitions.iter().map(|partition| partition.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
        assert_eq!(table.partitions[0].uuid.as_deref(), Some("62616c65-01"));
        assert_eq!((table.partitions[0].start, table.partitions[0].size), (8192 * 512, 8192 * 512));
        assert_eq!(table.partitions[4].uuid.as_deref(), Some("62616c65-05"));
        assert_eq!(table.partitions[4].size, 8192 * 512);
        assert_eq!(table.partitions[5].size, 4096 * 512);
        assert_eq!((table.partitions[4].start, table.partitions[5].start), (40960 * 512, 57344 * 512));
    }

    #[test]
    fn gpt_with_names() {
        let image = made_by_sfdisk("gpt", GPT);
        let table = read(512, &mut from_memory(&image)).unwrap();
        assert!(table.gpt);
        assert_eq!(table.partitions.len(), 2);
        assert_eq!(table.partitions[0].uuid.as_deref(), Some("01234567-89ab-cdef-0123-456789abcdef"));
        assert_eq!(table.partitions[0].name.as_deref(), Some("resin-boot"));
        assert_eq!(table.partitions[0].size, 8192 * 512);
        assert_eq!(table.partitions[1].name.as_deref(), Some("größe"));
    }

    #[test]
    fn no_table() {
        assert_eq!(read(512, &mut from_memory(&[0; 4096])), None);
        assert_eq!(read(512, &mut from_memory(&[])), None);
        assert_eq!(read(1 << 30, &mut from_memory(&[0; 4096])), None);
    }

    #[test]
    fn a_chain_that_loops_ends() {
        let mut image = made_by_sfdisk("loop", MSDOS);
        let table = read(512, &mut from_memory(&image)).unwrap();
        let record = usize::try_from(table.partitions[3].start).unwrap();
        // The second record of the first extended boot record points back to itself.
        image[record + 446 + 16 + 8..record + 446 + 16 + 12].fill(0);
        let table = read(512, &mut from_memory(&image)).unwrap();
        assert!(table.partitions.len() <= 4 + LOGICAL_LIMIT as usize);
    }

    #[test]
    fn never_panics_on_mutated_tables() {
        let mut images = [made_by_sfdisk("m1", MSDOS), made_by_sfdisk("m2", GPT)];
        let hot: [Vec<usize>; 2] = [
            {
                let base = read(512, &mut from_memory(&images[0])).unwrap().partitions[3].start as usize;
                (440..512).chain(base + 440..base + 512).collect()
            },
            (446..512).chain(512..604).chain(1024..1280).collect(),
        ];
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 16).unwrap()
        };
        for _ in 0..40_000 {
            for (image, hot) in images.iter_mut().zip(&hot) {
                let hits: Vec<usize> = (0..1 + random() % 4).map(|_| hot[random() % hot.len()]).collect();
                let before: Vec<u8> = hits.iter().map(|at| image[*at]).collect();
                for at in &hits {
                    image[*at] = [0, 0xFF, 0x05, random() as u8][random() % 4];
                }
                let _ = read([512, 4096][random() % 2], &mut from_memory(image));
                for (at, byte) in hits.iter().zip(before).rev() {
                    image[*at] = byte;
                }
            }
        }
    }
}
