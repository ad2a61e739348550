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
    let length_of_file = file.metadata().unwrap().len();
    let mut entries = Vec::new();
    let mut at = SECTOR;
    for _ in 0..number(&file, 16) {
        let start = at + SECTOR;
        if start > length_of_file {
            break;
        }
        let [sector, sectors, flags, marked] = [0, 8, 16, 24].map(|field| number(&file, at + field));
        let length = match flags {
            _ if flags & MARK != 0 => marked.next_multiple_of(SECTOR),
            _ if flags & DISCARD != 0 => 0,
            _ => sectors * SECTOR,
        };
        // QEMU counts an entry before it writes it: when it is killed, or still runs, the last ones may be missing.
        if (sectors, flags) == (0, 0) || start + length > length_of_file {
            break;
        }
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

/// The last entry was counted and not written: not at all, or as a hole, when one after it was, or in part.
#[test]
fn what_was_only_counted_is_left_out() {
    let scratch = minke_image::tree::Scratch::new("powercut-log").unwrap();
    let path = scratch.join("writes.log");
    let sector = |words: [u64; 4]| {
        let mut bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.resize(SECTOR as usize, 0);
        bytes
    };
    let head = sector([MAGIC, 1, 3, SECTOR]);
    let (write, flush, data) = (sector([7, 2, 0, 0]), sector([0, 0, FLUSH, 0]), vec![5; 2 * SECTOR as usize]);
    let hole = vec![0; 3 * SECTOR as usize];
    for last in [vec![], hole, [write.as_slice(), &data[..SECTOR as usize]].concat()] {
        std::fs::write(&path, [head.clone(), write.clone(), data.clone(), flush.clone(), last].concat())
            .unwrap();
        let found: Vec<_> =
            read(&path).iter().map(|entry| (entry.sector, entry.data.len(), entry.flush)).collect();
        assert_eq!(found, [(7, data.len(), false), (0, 0, true)]);
    }
}
