//! Partition tables: layout of the five partitions, and the bytes of MBR and GPT. Pure functions over sectors.
//!
//! MBR with a chain of extended boot records as every PC partitioner writes it; GPT as in UEFI 2.10 §5.3.

use crate::arch::TableType;
use crate::error::{Error, Result};
use sha2::{Digest, Sha256};

/// Bytes of a sector.
pub const SECTOR: u64 = 512;

/// Bytes of a kibibyte.
const KIB: u64 = 1024;

/// The image alignment of spec os §1.1.1.
const ALIGNMENT: u64 = 4096 * KIB;

/// Room for the second GPT at the end of the disk: a header and 32 sectors of entries.
const GPT_TAIL: u64 = 33 * SECTOR;

/// GPT entries: the number that every partitioner writes, and the size of one (UEFI 2.10 §5.3.3).
const GPT_ENTRIES: u32 = 128;
const GPT_ENTRY_SIZE: u32 = 128;

/// EFI system partition, as it stands on disk (the first three groups are little endian).
const TYPE_ESP: [u8; 16] =
    [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];

/// Linux file system data.
const TYPE_LINUX: [u8; 16] =
    [0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4];

/// MBR types: FAT32 with LBA, Linux, extended with LBA.
const MBR_FAT: u8 = 0x0c;
const MBR_LINUX: u8 = 0x83;
const MBR_EXTENDED: u8 = 0x0f;

/// Sizes of the partitions in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// resin-boot.
    pub boot: u64,
    /// resin-rootA and resin-rootB, each.
    pub root: u64,
    /// resin-state.
    pub state: u64,
    /// resin-data; the device grows it to the end of the disk.
    pub data: u64,
    /// Pad the image to a power of two, as QEMU's SD card wants.
    pub power_of_two: bool,
}

impl Sizes {
    /// Sizes for tests and for small cards: quick to write, quick to copy.
    pub fn small(power_of_two: bool) -> Sizes {
        Sizes { boot: 40960, root: 81920, state: 20480, data: 196_608, power_of_two }
    }

    /// The reference's sizes since 8.0.0 (spec os §1.1.2, §1.1.3).
    pub fn reference(power_of_two: bool) -> Sizes {
        Sizes { boot: 102_400, root: 655_360, state: 81_920, data: 196_608, power_of_two }
    }

    /// The reference's sizes for Raspberry Pi 0 to 4 (spec os §1.1.3).
    pub fn reference_pi() -> Sizes {
        Sizes { boot: 40960, root: 327_680, state: 20480, data: 196_608, power_of_two: true }
    }
}

/// One partition's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    /// File system label, and partition name where the table has names.
    pub label: &'static str,
    /// Number in the table.
    pub number: u32,
    /// First sector.
    pub start: u64,
    /// Length in sectors.
    pub sectors: u64,
}

/// Where everything lies on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Table type.
    pub table: TableType,
    /// boot, root A, root B, state, data.
    pub partitions: [Partition; 5],
    /// Bytes of the whole image.
    pub size: u64,
}

impl Layout {
    /// Places partitions of these sizes.
    pub fn new(table: TableType, sizes: &Sizes) -> Layout {
        let numbers = if table == TableType::Gpt { [1, 2, 3, 4, 5] } else { [1, 2, 3, 5, 6] };
        let labels = ["resin-boot", "resin-rootA", "resin-rootB", "resin-state", "resin-data"];
        let kib = [sizes.boot, sizes.root, sizes.root, sizes.state, sizes.data];
        let mut end = ALIGNMENT;
        let mut place = |at: usize| {
            // Each logical partition follows one gap, which holds its extended boot record (spec os §1.1.4).
            let logical = table == TableType::Msdos && at >= 3;
            let start = if logical { end.saturating_add(ALIGNMENT) } else { end };
            let bytes = pick(&kib, at).saturating_mul(KIB).next_multiple_of(ALIGNMENT);
            end = start.saturating_add(bytes);
            Partition {
                label: pick(&labels, at),
                number: pick(&numbers, at),
                start: start / SECTOR,
                sectors: bytes / SECTOR,
            }
        };
        let partitions = [place(0), place(1), place(2), place(3), place(4)];
        let mut size = end;
        if table == TableType::Gpt {
            size = size.saturating_add(GPT_TAIL).next_multiple_of(1024 * KIB);
        }
        if sizes.power_of_two {
            size = size.next_power_of_two();
        }
        Layout { table, partitions, size }
    }

    /// The partition with this label.
    pub fn find(&self, label: &str) -> Result<&Partition> {
        let found = self.partitions.iter().find(|partition| partition.label == label);
        found.ok_or_else(|| Error::Invalid(format!("the layout has no {label}")))
    }

    /// What to write where: (byte offset, bytes), with identifiers derived from `seed`.
    pub fn table_bytes(&self, seed: &str) -> Vec<(u64, Vec<u8>)> {
        match self.table {
            TableType::Msdos => self.mbr(seed),
            TableType::Gpt => self.gpt(seed),
        }
    }

    fn mbr(&self, seed: &str) -> Vec<(u64, Vec<u8>)> {
        let [boot, root_a, root_b, state, data] = &self.partitions;
        let gap = ALIGNMENT / SECTOR;
        let extended = state.start.saturating_sub(gap);
        let extended_sectors = (self.size / SECTOR).saturating_sub(extended);
        let mut first = boot_record(&[
            mbr_entry(0x80, MBR_FAT, boot.start, boot.sectors),
            mbr_entry(0, MBR_LINUX, root_a.start, root_a.sectors),
            mbr_entry(0, MBR_LINUX, root_b.start, root_b.sectors),
            mbr_entry(0, MBR_EXTENDED, extended, extended_sectors),
        ]);
        let identifier = identifier(seed, "disk");
        put(&mut first, 440, identifier.get(..4).unwrap_or_default());
        // In an extended boot record the partition counts from the record itself, the next record from the first one.
        let next = data.start.saturating_sub(gap);
        let state_record = boot_record(&[
            mbr_entry(0, MBR_LINUX, gap, state.sectors),
            mbr_entry(0, 0x05, next.saturating_sub(extended), gap.saturating_add(data.sectors)),
        ]);
        let data_record = boot_record(&[mbr_entry(0, MBR_LINUX, gap, data.sectors)]);
        vec![
            (0, first),
            (extended.saturating_mul(SECTOR), state_record),
            (next.saturating_mul(SECTOR), data_record),
        ]
    }

    fn gpt(&self, seed: &str) -> Vec<(u64, Vec<u8>)> {
        let sectors = self.size / SECTOR;
        let last = sectors.saturating_sub(1);
        let protective = boot_record(&[mbr_entry(0, 0xee, 1, last.min(u64::from(u32::MAX)))]);
        let mut entries = Vec::new();
        for partition in &self.partitions {
            let kind = if partition.label == "resin-boot" { TYPE_ESP } else { TYPE_LINUX };
            entries.extend_from_slice(&kind);
            entries.extend_from_slice(&identifier(seed, partition.label));
            entries.extend_from_slice(&partition.start.to_le_bytes());
            entries.extend_from_slice(
                &partition.start.saturating_add(partition.sectors).saturating_sub(1).to_le_bytes(),
            );
            entries.extend_from_slice(&0_u64.to_le_bytes());
            let mut name: Vec<u8> = partition.label.encode_utf16().flat_map(u16::to_le_bytes).collect();
            name.resize(72, 0);
            entries.extend_from_slice(&name);
        }
        entries.resize((GPT_ENTRIES * GPT_ENTRY_SIZE) as usize, 0);
        let entry_sectors = u64::from(GPT_ENTRIES * GPT_ENTRY_SIZE) / SECTOR;
        let tail = last.saturating_sub(entry_sectors);
        let header = |at: u64, other: u64, table: u64| {
            let mut header = Vec::new();
            header.extend_from_slice(b"EFI PART");
            for word in [0x0001_0000_u32, 92, 0, 0] {
                header.extend_from_slice(&word.to_le_bytes());
            }
            for place in [at, other, 2 + entry_sectors, tail.saturating_sub(1)] {
                header.extend_from_slice(&place.to_le_bytes());
            }
            header.extend_from_slice(&identifier(seed, "disk"));
            header.extend_from_slice(&table.to_le_bytes());
            for word in [GPT_ENTRIES, GPT_ENTRY_SIZE, crc32(&entries)] {
                header.extend_from_slice(&word.to_le_bytes());
            }
            let sum = crc32(&header);
            put(&mut header, 16, &sum.to_le_bytes());
            header.resize(SECTOR as usize, 0);
            header
        };
        vec![
            (0, protective),
            (SECTOR, header(1, last, 2)),
            (2 * SECTOR, entries.clone()),
            (tail.saturating_mul(SECTOR), entries.clone()),
            (last.saturating_mul(SECTOR), header(last, 1, tail)),
        ]
    }
}

/// A version 4 UUID's 16 bytes derived from `seed` and `name`. Never in the reserved range of unique identifiers that
/// devices give themselves (spec os §1.4.1).
pub fn identifier(seed: &str, name: &str) -> [u8; 16] {
    let digest = Sha256::new().chain_update(seed).chain_update([0]).chain_update(name).finalize();
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().zip(digest) {
        *to = from;
    }
    let [first, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
    *first &= 0x7f;
    *version = (*version & 0x0f) | 0x40;
    *variant = (*variant & 0x3f) | 0x80;
    bytes
}

/// The UUID in its usual form.
pub fn uuid_text(bytes: [u8; 16]) -> String {
    let text = crate::cache::hex(&bytes);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default().to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

fn pick<T: Copy + Default>(list: &[T], at: usize) -> T {
    list.get(at).copied().unwrap_or_default()
}

fn put(bytes: &mut [u8], at: usize, content: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(content) {
        *to = *from;
    }
}

/// A sector with partition entries and the signature.
fn boot_record(entries: &[[u8; 16]]) -> Vec<u8> {
    let mut sector = vec![0; SECTOR as usize];
    put(&mut sector, 446, &entries.concat());
    put(&mut sector, 510, &[0x55, 0xaa]);
    sector
}

fn mbr_entry(status: u8, kind: u8, start: u64, sectors: u64) -> [u8; 16] {
    let mut entry = [0; 16];
    let last = start.saturating_add(sectors).saturating_sub(1);
    let (start_chs, last_chs) = (chs(start), chs(last));
    put(&mut entry, 0, &[status]);
    put(&mut entry, 1, &start_chs);
    put(&mut entry, 4, &[kind]);
    put(&mut entry, 5, &last_chs);
    put(&mut entry, 8, &u32::try_from(start).unwrap_or(u32::MAX).to_le_bytes());
    put(&mut entry, 12, &u32::try_from(sectors).unwrap_or(u32::MAX).to_le_bytes());
    entry
}

/// Cylinder, head, sector for 255 heads and 63 sectors; beyond what fits, the largest values.
fn chs(lba: u64) -> [u8; 3] {
    let cylinder = lba / (255 * 63);
    let (Ok(head), Ok(sector)) = (u8::try_from(lba / 63 % 255), u8::try_from(lba % 63 + 1)) else {
        return [0xfe, 0xff, 0xff];
    };
    match u16::try_from(cylinder) {
        Ok(cylinder) if cylinder < 1024 => {
            let [low, high] = cylinder.to_le_bytes();
            [head, sector | (high << 6), low]
        }
        _ => [0xfe, 0xff, 0xff],
    }
}

/// CRC-32 as in zlib and UEFI (reflected, polynomial 0xedb88320).
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    /// The table as fdisk's sfdisk reads it: (start, sectors, type) by partition number.
    fn read_back(layout: &Layout) -> Vec<(u64, u64, String)> {
        let scratch = crate::tree::Scratch::new("table").unwrap();
        let image = scratch.join("image");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(layout.size).unwrap();
        for (at, bytes) in layout.table_bytes("seed") {
            file.write_all_at(&bytes, at).unwrap();
        }
        crate::tool::Tool::new("sfdisk").arg("--verify").arg(&image).run().unwrap();
        let text = crate::tool::Tool::new("sfdisk").arg("--json").arg(&image).text().unwrap();
        let table: serde_json::Value = serde_json::from_str(&text).unwrap();
        table["partitiontable"]["partitions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| {
                let number = |key: &str| p[key].as_u64().unwrap();
                (number("start"), number("size"), p["type"].as_str().unwrap().to_owned())
            })
            .collect()
    }

    #[test]
    fn gpt_is_what_sfdisk_understands() {
        let layout = Layout::new(TableType::Gpt, &Sizes::small(false));
        let found = read_back(&layout);
        assert_eq!(found.len(), 5);
        for (partition, (start, sectors, kind)) in layout.partitions.iter().zip(found) {
            assert_eq!((partition.start, partition.sectors), (start, sectors));
            let esp = kind == "C12A7328-F81F-11D2-BA4B-00A0C93EC93B";
            assert_eq!(esp, partition.label == "resin-boot");
        }
    }

    #[test]
    fn mbr_is_what_sfdisk_understands() {
        for sizes in [Sizes::small(true), Sizes::reference(false), Sizes::reference_pi()] {
            let layout = Layout::new(TableType::Msdos, &sizes);
            let found = read_back(&layout);
            let kinds: Vec<&str> = found.iter().map(|(_, _, kind)| kind.as_str()).collect();
            assert_eq!(kinds, ["c", "83", "83", "f", "83", "83"]);
            for partition in &layout.partitions {
                let (start, sectors, _) = &found[partition.number as usize - 1];
                assert_eq!((partition.start, partition.sectors), (*start, *sectors));
            }
            let (start, sectors, _) = &found[3];
            assert_eq!((start + sectors) * SECTOR, layout.size);
        }
    }

    #[test]
    fn sizes_of_the_specification() {
        let layout = Layout::new(TableType::Msdos, &Sizes::reference(false));
        assert_eq!(layout.partitions[0].start, 8192);
        assert_eq!(layout.partitions[1].sectors * SECTOR, 655_360 * KIB);
        // One gap before each logical partition.
        assert_eq!(
            layout.partitions[3].start,
            layout.partitions[2].start + layout.partitions[2].sectors + 8192
        );
        assert!(Layout::new(TableType::Msdos, &Sizes::small(true)).size.is_power_of_two());
        assert!(Layout::new(TableType::Msdos, &Sizes::small(true)).size <= 512 * 1024 * KIB);
    }

    #[test]
    fn checksums_and_identifiers() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let text = uuid_text(identifier("seed", "name"));
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'4');
        assert!(!text.starts_with("ba1eadef"));
        assert_ne!(identifier("seed", "a"), identifier("seed", "b"));
        assert_eq!(chs(0), [0, 1, 0]);
        assert_eq!(chs(u64::from(u32::MAX)), [0xfe, 0xff, 0xff]);
    }
}
