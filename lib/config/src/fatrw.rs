//! Power-safe reads and writes of a file on FAT, which has no atomic rename (spec os §4.1.4).
//!
//! A write of `NAME` goes through copies whose names tell what they should contain. Power cut at each step:
//! 1. `.NAME.RANDOM.MD5.md5sum` is written and synced, then its folder: the old content stays. What is left of
//!    the copy fails its checksum and is deleted, or passes it and becomes the new content;
//! 2. the same content goes to `.NAME.RANDOM.MD5.tmp`, synced, then the folder: the `.md5sum` is whole by now,
//!    so from here on the next read finishes the write;
//! 3. `.tmp` is renamed over `NAME`; on FAT a cut here may leave `NAME` missing, unreadable (its clusters are
//!    free already), or both names: as 2;
//! 4. the folder is synced, the `.md5sum` is deleted, the folder is synced: the new content, whole.
//!
//! Two writers, or a reader that finishes a write and a writer, exclude each other by a lock on the folder.

use crate::md5;
use minke_sys::file::{self, Flags};
use minke_sys::{Context, Errno, Error, Result};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The largest file that is read or finished.
pub const LIMIT: usize = 16 << 20;

/// What a write may do when the disk is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Fail, with the old content in place.
    Fail,
    /// Do it without the copies' protection (`fatrw -u`).
    Unprotected,
}

/// Replaces the content of `path`. `mode` sets the permission bits where the file system has them.
pub fn write(path: &Path, content: &[u8], mode: Option<u32>, when_full: WhenFull) -> Result<()> {
    let (mut folder, name) = split(path)?;
    let _lock = lock(&folder.0)?;
    write_in(&mut folder, name, content, mode, when_full, random()?)
}

fn random() -> Result<u32> {
    let mut random = [0; 4];
    minke_sys::random::fill(&mut random)?;
    Ok(u32::from_ne_bytes(random))
}

/// Reads `path`, and before that finishes a write that a power cut has interrupted. `None`: there is no such
/// file. On a read-only file system the interrupted write's content is returned and nothing is changed.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    let (mut folder, name) = split(path)?;
    let names = match folder.names() {
        Ok(names) => names,
        Err(error) if error.errno == Errno::NOENT => return Ok(None),
        Err(error) => return Err(error),
    };
    if !names.iter().any(|found| is_leftover(name, found)) {
        return folder.read(name);
    }
    let _lock = lock(&folder.0)?;
    read_in(&mut folder, name)
}

/// Replaces the content of `path` in place, without protection: for a file that is bound elsewhere and fits into
/// one disk sector.
pub fn overwrite(path: &Path, content: &[u8]) -> Result<()> {
    let (mut folder, name) = split(path)?;
    folder.overwrite(name, content, None)
}

/// Reads `path`, hands its content to `change` (`None`: there is no file) and writes what that returns, all
/// under the folder's lock. When `change` returns `None`, nothing is written.
pub fn update(path: &Path, change: &mut dyn FnMut(Option<Vec<u8>>) -> Option<Vec<u8>>) -> Result<()> {
    let (mut folder, name) = split(path)?;
    let _lock = lock(&folder.0)?;
    match change(read_in(&mut folder, name)?) {
        Some(content) => write_in(&mut folder, name, &content, None, WhenFull::Fail, random()?),
        None => Ok(()),
    }
}

/// Writes the content and the permission bits of `source` to `target`.
pub fn copy(source: &Path, target: &Path, mode: Option<u32>, when_full: WhenFull) -> Result<()> {
    let content = read(source)?.ok_or_else(|| Error::new("read", source.display(), Errno::NOENT))?;
    let kept = minke_sys::status::of(source).ok().map(|data| data.mode());
    write(target, &content, mode.or(kept), when_full)
}

fn split(path: &Path) -> Result<(Folder, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::new("write", path.display(), Errno::INVAL))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Ok((Folder(folder.to_owned()), name))
}

/// Held until it is dropped. Where the file system knows no locks, there is none.
fn lock(folder: &Path) -> Result<File> {
    let handle = file::open_to_read(folder)?;
    let _ = handle.lock();
    Ok(handle)
}

/// The file operations of the protocol, in one folder: the real one, or the one that a test records.
trait Files {
    fn names(&self) -> Result<Vec<String>>;
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>>;
    /// Makes the file with this content and syncs it.
    fn create(&mut self, name: &str, content: &[u8], mode: Option<u32>) -> Result<()>;
    /// Writes over a file that may be there, and syncs it.
    fn overwrite(&mut self, name: &str, content: &[u8], mode: Option<u32>) -> Result<()>;
    fn rename(&mut self, from: &str, to: &str) -> Result<()>;
    /// Syncs a file.
    fn sync(&mut self, name: &str) -> Result<()>;
    fn remove(&mut self, name: &str) -> Result<()>;
    /// Syncs the folder's names.
    fn sync_folder(&mut self) -> Result<()>;
}

fn write_in(
    files: &mut dyn Files,
    name: &str,
    content: &[u8],
    mode: Option<u32>,
    when_full: WhenFull,
    random: u32,
) -> Result<()> {
    // A write that was interrupted earlier must not be finished later, over this one.
    if files.names()?.iter().any(|found| is_leftover(name, found)) {
        read_in(files, name)?;
    }
    let stem = format!(".{name}.{random:08x}.{}", md5::hex(content));
    let copy = format!("{stem}.md5sum");
    match files.create(&copy, content, mode).and_then(|()| files.sync_folder()) {
        Ok(()) => {}
        Err(error) => {
            let _ = files.remove(&copy);
            if error.errno == Errno::NOSPC && when_full == WhenFull::Unprotected {
                return files.overwrite(name, content, mode).and_then(|()| files.sync_folder());
            }
            return Err(error);
        }
    }
    match commit(files, name, &stem, content, mode) {
        Err(error) if error.errno == Errno::NOSPC && when_full == WhenFull::Unprotected => {
            files.rename(&copy, name)?;
            files.sync_folder()
        }
        Err(error) => {
            // The caller is told that it failed, so the next read must not finish it. A name that cannot be
            // removed any more (the disk is dying) is beyond help.
            let _ = files.remove(&copy);
            let _ = files.sync_folder();
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

/// From step 2 on: the `.md5sum` is safe on the disk.
fn commit(files: &mut dyn Files, name: &str, stem: &str, content: &[u8], mode: Option<u32>) -> Result<()> {
    let temporary = format!("{stem}.tmp");
    if let Err(error) = files.create(&temporary, content, mode).and_then(|()| files.sync_folder()) {
        let _ = files.remove(&temporary);
        return Err(error);
    }
    files.rename(&temporary, name)?;
    files.sync(name)?;
    files.sync_folder()?;
    // The new content is in place: that its copy stays is no failure, the next read deletes it.
    let _ = files.remove(&format!("{stem}.md5sum"));
    let _ = files.sync_folder();
    Ok(())
}

fn read_in(files: &mut dyn Files, name: &str) -> Result<Option<Vec<u8>>> {
    let mut names = files.names()?;
    names.retain(|found| is_leftover(name, found));
    if names.is_empty() {
        return files.read(name);
    }
    names.sort();
    // The copies come first: a cut in the rename can leave the file with its clusters freed, and whoever reads
    // such a file gets an error and a file system that the kernel has made read-only.
    let content = match whole_copy(files, &names) {
        Some((stem, whole)) => {
            if commit(files, name, stem, &whole, None).is_err() {
                // A full or read-only disk: the copy stays for the next time.
                return Ok(Some(whole));
            }
            Some(whole)
        }
        None => {
            let content = files.read(name)?;
            // The file that is kept must be on the disk before its copies go.
            if content.is_some() && files.sync(name).and_then(|()| files.sync_folder()).is_err() {
                return Ok(content);
            }
            content
        }
    };
    for leftover in &names {
        let _ = files.remove(leftover);
    }
    let _ = files.sync_folder();
    Ok(content)
}

/// The first copy that has its checksum, with its name's stem. One that cannot be read is as good as one that
/// fails.
fn whole_copy<'a>(files: &dyn Files, names: &'a [String]) -> Option<(&'a str, Vec<u8>)> {
    for name in names {
        let Some(stem) = name.strip_suffix(".md5sum") else { continue };
        if let Ok(Some(whole)) = files.read(name)
            && stem.ends_with(&md5::hex(&whole))
        {
            return Some((stem, whole));
        }
    }
    None
}

/// Whether `found` is a copy of `name`: `.NAME.RANDOM.MD5.md5sum` or `.tmp`.
fn is_leftover(name: &str, found: &str) -> bool {
    let parts = || {
        let middle = found.strip_prefix('.')?.strip_prefix(name)?.strip_prefix('.')?;
        let middle = middle.strip_suffix(".md5sum").or_else(|| middle.strip_suffix(".tmp"))?;
        middle.split_once('.')
    };
    parts().is_some_and(|(random, digest)| {
        !random.is_empty() && digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

/// A real folder.
struct Folder(PathBuf);

impl Folder {
    fn put(&self, name: &str, content: &[u8], mode: Option<u32>, keep: bool) -> Result<()> {
        let path = self.0.join(name);
        // An overwrite does not truncate first: as long as the new content fits, the file is never empty.
        let truncate = if keep { Flags::empty() } else { Flags::TRUNC };
        let flags = Flags::WRONLY | Flags::CREATE | truncate;
        let mut file = file::open_with_mode(&path, flags, mode.unwrap_or(0o644))?;
        if let Some(mode) = mode {
            // vfat refuses bits that it cannot store; that is no reason not to write.
            let _ = file::set_mode(&path, mode);
        }
        file.write_all(content).on("write", &path)?;
        file.set_len(content.len() as u64).on("truncate", &path)?;
        file.sync_all().on("fsync", &path)
    }
}

impl Files for Folder {
    fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for path in file::list(&self.0)? {
            names.extend(path.file_name().and_then(|name| name.to_str()).map(str::to_owned));
        }
        Ok(names)
    }
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        file::read_optional(&self.0.join(name), LIMIT)
    }
    fn create(&mut self, name: &str, content: &[u8], mode: Option<u32>) -> Result<()> {
        self.put(name, content, mode, false)
    }
    fn overwrite(&mut self, name: &str, content: &[u8], mode: Option<u32>) -> Result<()> {
        self.put(name, content, mode, true)
    }
    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let path = self.0.join(to);
        std::fs::rename(self.0.join(from), &path).on("rename to", path)
    }
    fn sync(&mut self, name: &str) -> Result<()> {
        let path = self.0.join(name);
        file::open_to_read(&path)?.sync_all().on("fsync", &path)
    }
    fn remove(&mut self, name: &str) -> Result<()> {
        let path = self.0.join(name);
        std::fs::remove_file(&path).on("remove", path)
    }
    fn sync_folder(&mut self) -> Result<()> {
        file::sync_folder(&self.0)
    }
}

#[cfg(test)]
#[path = "fatrw_tests.rs"]
mod tests;
