//! The log of a disk's writes that QEMU's blklogwrites makes, in the format of the kernel's dm-log-writes
//! (Documentation/admin-guide/device-mapper/log-writes.rst; struct log_write_entry).

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of a sector, on the disk and in the log.
pub const SECTOR: u64 = 512;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
const MARK: u64 = 8;

/// One thing that the guest asked of its disk.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The disk's sector where it begins.
    pub sector: u64,
    /// What was written; nothing for a flush or a discard.
    pub data: Vec<u8>,
    /// Whether all earlier writes are on the medium from here on.
    pub flush: bool,
    /// Where the entry ends in the log file, in bytes.
    pub end: u64,
}

/// Reads a whole log.
pub fn read(path: &Path) -> Vec<Entry> {
    let file = File::open(path).unwrap();
    assert_eq!(number(&file, 0), MAGIC, "{} is no log of writes", path.display());
    let mut entries = Vec::new();
    let mut at = SECTOR;
    for _ in 0..number(&file, 16) {
        let [sector, sectors, flags, marked] = [0, 8, 16, 24].map(|field| number(&file, at + field));
        let start = at + SECTOR;
        let length = match flags {
            _ if flags & MARK != 0 => marked.next_multiple_of(SECTOR),
            _ if flags & DISCARD != 0 => 0,
            _ => sectors * SECTOR,
        };
        let mut data = vec![0; if flags & MARK == 0 { length as usize } else { 0 }];
        file.read_exact_at(&mut data, start).unwrap();
        at = start + length;
        entries.push(Entry { sector, data, flush: flags & FLUSH != 0, end: at });
    }
    entries
}

fn number(file: &File, at: u64) -> u64 {
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, at).unwrap();
    u64::from_le_bytes(bytes)
}
