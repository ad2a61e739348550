//! Writes to the boot partition, whose FAT has no atomic rename.

use minke_sys::{Context, Errno, Error, Result, file};
use minke_wire::bootenv::SECTOR;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Replaces the content `old` of a short file by `new`: in place, when the length is the same, else by [`put`].
///
/// Power cut: of a change within one sector the old or the new content is there, as a disk writes a sector whole. When
/// more sectors differ, each is on the disk before the next one is written, the first first.
pub fn overwrite(path: &Path, old: &[u8], new: &[u8]) -> Result<()> {
    if old.is_empty() || old.len() != new.len() {
        return put(path, new);
    }
    let file = file::open(path, file::Flags::RDWR)?;
    let sectors = old.chunks(SECTOR).zip(new.chunks(SECTOR));
    let mut place = 0u64;
    for (before, after) in sectors {
        if before != after {
            file.write_all_at(after, place).on("write", path)?;
            file.sync_data().on("fsync", path)?;
        }
        place = place.saturating_add(SECTOR as u64);
    }
    file::forget_cache(&file);
    // What the medium says now, and not what memory remembers.
    if file::read_bounded(path, new.len())? == new {
        return Ok(());
    }
    Err(Error::new("read back", path.display(), Errno::IO))
}

/// Writes a whole file, made when missing, so that the old or the new content is there at every instant.
pub fn put(path: &Path, content: &[u8]) -> Result<()> {
    minke_config::fatrw::write(path, content, None, minke_config::fatrw::WhenFull::Fail)
}
