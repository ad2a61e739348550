//! The files of a slot: written, brought to the disk, and read back from there.

use super::{Step, Watch};
use crate::hash::Hash;
use crate::unpack::{components, split};
use crate::{Digest, Error, Result};
use minke_boot::{HASH_TREE, ROOT_IMAGE};
use minke_sys::tree::{Folder, Tree, set_owner_and_mode};
use minke_sys::{Context, file};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

/// Most files of a host app.
const MAX_FILES: usize = 4096;

/// A file of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its path below the host app's folder.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its digest.
    pub sha256: Digest,
}

/// A file that is being written.
pub(super) struct Output {
    pub(super) path: String,
    pub(super) file: File,
    /// Of the content so far.
    pub(super) hash: Hash,
    /// The size that it shall have.
    pub(super) size: u64,
    pub(super) mode: u32,
}

impl Output {
    /// Makes a file, and the folders above it; what has its name is removed. `path` is normal.
    pub(super) fn create(tree: &Tree, path: &str, size: u64, mode: u32) -> Result<Self> {
        let (folder, name) = split(path.as_bytes());
        let folder = make_folders(tree, folder)?;
        folder.remove(name)?;
        let file = folder.make_file(name)?;
        Ok(Self { path: path.to_owned(), file, hash: Hash::new(), size, mode })
    }

    /// Writes the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        if self.hash.length() > self.size {
            return Err(Error::bad("host app", &format_args!("{} is longer than told", self.path)));
        }
        Ok(self.file.write_all(bytes).context("write", &self.path)?)
    }

    /// Brings what was written to the disk.
    pub(super) fn sync(&self) -> Result<()> {
        Ok(self.file.sync_data().context("fsync", &self.path)?)
    }

    /// All of it was written.
    pub(super) fn finish(self, files: &mut Vec<Written>) -> Result<()> {
        if self.hash.length() != self.size {
            return Err(Error::bad("host app", &format_args!("{} is shorter than told", self.path)));
        }
        set_owner_and_mode(self.file.as_fd(), 0, 0, self.mode & 0o777)?;
        self.sync()?;
        if files.len() >= MAX_FILES {
            return Err(Error::bad("host app", &"too many files"));
        }
        files.push(Written { path: self.path, size: self.size, sha256: self.hash.finish() });
        Ok(())
    }
}

/// Opens a folder, and makes those that are missing on the way.
pub(super) fn make_folders(tree: &Tree, path: &[u8]) -> Result<Folder> {
    let mut folder = tree.folder(b"")?;
    for name in components(path).filter(|name| !name.is_empty()) {
        folder = match folder.status(name)? {
            Some(status) if status.is_folder => folder.folder(name)?,
            Some(_) => return Err(Error::bad("host app", &"a file stands where a folder should")),
            None => {
                let made = folder.make_folder(name)?;
                set_owner_and_mode(made.as_fd(), 0, 0, 0o755)?;
                made
            }
        };
    }
    Ok(folder)
}

/// What a system that starts host apps as overlays has beside the kernel (spec os §1.6); our slots need it not.
const FOREIGN: &[u8] = b"boot/init";

/// Whether a path belongs into a slot.
pub(super) fn is_kept(path: &[u8]) -> bool {
    let images = [ROOT_IMAGE.as_bytes(), HASH_TREE.as_bytes()];
    let ours = images.contains(&path) || path == b"boot" || path.starts_with(b"boot/");
    ours && path != FOREIGN
}

/// Brings everything to the disk, reads each file from there (the cache is dropped first) and compares the digests with
/// those of what was written. A medium that loses what it was given, and memory that fails between the two, are told from
/// a bad download before anything depends on the files.
pub(super) fn read_back(target: &Path, files: &[Written], watch: &mut dyn Watch) -> Result<()> {
    file::sync_file_system(target)?;
    let total = files.iter().map(|file| file.size).sum();
    let mut done = 0u64;
    for written in files {
        let path = target.join(&written.path);
        let mut hash = Hash::new();
        read(&path, true, u64::MAX, &mut |piece| {
            hash.update(piece);
            done = done.saturating_add(u64::try_from(piece.len()).unwrap_or(0));
            if watch.progress(Step::ReadBack(done, total)).is_break() {
                Err(Error::Cancelled)
            } else {
                Ok(())
            }
        })?;
        if hash.length() != written.size || hash.finish() != written.sha256 {
            return Err(Error::ReadBack(path.to_string_lossy().into()));
        }
    }
    Ok(())
}

/// Reads a file's first `limit` bytes, or all; from the disk when `uncached`.
pub(super) fn read(
    path: &Path,
    uncached: bool,
    limit: u64,
    take: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut file = file::open_to_read(path)?;
    if uncached {
        file::drop_cached(&file)?;
    }
    let mut buffer = vec![0; 64 << 10];
    let mut left = limit;
    loop {
        let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = file.read(buffer.get_mut(..count).unwrap_or_default()).on("read", path)?;
        if count == 0 {
            return Ok(());
        }
        left = left.saturating_sub(u64::try_from(count).unwrap_or(0));
        take(buffer.get(..count).unwrap_or_default())?;
    }
}

/// Whether a file is there and has this size and digest.
pub(super) fn is_right(path: &Path, size: u64, sha256: &Digest) -> bool {
    let mut hash = Hash::new();
    let mut take = |piece: &[u8]| {
        hash.update(piece);
        Ok(())
    };
    minke_sys::status::of_link(path).is_ok_and(|status| status.is_file() && status.length == size)
        && read(path, false, u64::MAX, &mut take).is_ok()
        && hash.finish() == *sha256
}
