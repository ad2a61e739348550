//! Writes to the boot partition, whose FAT has no atomic rename.
//!
//! A file gets its new content by `.NAME.new` beside it: written, synced, and put in place by an exchange of the two
//! names, which vfat has since Linux 6.0. On FAT that is one sector a name, and each is synced alone, `NAME` first.
//! Power cut at each step:
//! 1. while `.NAME.new` is written: the old content; the leftover is removed by the next write;
//! 2. when `NAME` has been synced and `.NAME.new` has not: both names have the new content's clusters, and it is whole.
//!    Stage 1's check mends that in favour of `NAME` (`minke_wire::fat`);
//! 3. when the kernel wrote `.NAME.new` first: both have the old content's clusters, as 2;
//! 4. while `.NAME.new`, now the old content, is removed: the new content.
//!
//! A name that is new comes by a rename: until it is synced the file may be missing or empty, which it was before.

use minke_config::fatrw::{self, WhenFull};
use minke_sys::{Context, Errno, Error, Result, file, status};
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
    let mut place = 0u64;
    for (before, after) in old.chunks(SECTOR).zip(new.chunks(SECTOR)) {
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

/// Gives a file this content, and makes it when it is missing.
pub fn put(path: &Path, content: &[u8]) -> Result<()> {
    let fresh = file::sibling(path)?;
    file::remove_all(&fresh)?;
    file::write(&fresh, content)?;
    settle(path, &fresh)
}

/// Gives a file the content of `source`, and makes it when it is missing.
pub fn copy(source: &Path, path: &Path) -> Result<()> {
    let fresh = file::sibling(path)?;
    file::remove_all(&fresh)?;
    let copied = file::copy(source, &fresh);
    if copied.is_err() {
        // Most of all a full partition must not keep the half of it.
        let _ = file::remove_all(&fresh);
        return copied;
    }
    settle(path, &fresh)
}

/// Puts what was written at `fresh` in the place of `path`.
fn settle(path: &Path, fresh: &Path) -> Result<()> {
    sync(fresh)?;
    if !status::exists(path) {
        file::rename(fresh, path)?;
        return sync(path);
    }
    match file::exchange(fresh, path) {
        Ok(()) => {}
        Err(error) if matches!(error.errno, Errno::INVAL | Errno::NOSYS) => {
            // An old kernel: the protocol with copies.
            fatrw::copy(fresh, path, None, WhenFull::Fail)?;
            return file::remove_durable(fresh);
        }
        Err(error) => return Err(error),
    }
    sync(path)?;
    sync(fresh)?;
    file::remove_durable(fresh)
}

/// Writes a file, its entry and its folder to the disk.
fn sync(path: &Path) -> Result<()> {
    file::open_to_read(path)?.sync_all().on("fsync", path)?;
    file::sync_parent(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_made_replaced_and_leaves_nothing_beside_it() {
        let folder = std::env::temp_dir().join(format!("minke-place-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let (path, source) = (folder.join("boot.scr"), folder.join("source"));
        std::fs::write(file::sibling(&path).unwrap(), "left by a cut").unwrap();
        std::fs::write(&source, "third").unwrap();
        for (content, make) in [("first", 0), ("second, longer", 0), ("third", 1), ("third", 1)] {
            if make == 0 {
                put(&path, content.as_bytes()).unwrap();
            } else {
                copy(&source, &path).unwrap();
            }
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
        }
        overwrite(&path, b"third", b"THIRD").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "THIRD");
        assert!(copy(&folder.join("nothing"), &path).is_err());
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
