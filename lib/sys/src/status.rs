//! What a path leads to: stat(2). By the kernel's call; libc's converts between times of 32 and 64 bits on its way.

use crate::path::name;
use crate::{Context, Result};
use rustix::fs::{AtFlags, CWD, FileType, Stat};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

/// What stat(2) tells of a file.
#[derive(Debug, Clone, Copy)]
pub struct Status {
    /// Kind and permission bits, `st_mode`.
    pub st_mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// The file system's device.
    pub device: u64,
    /// The file's number on its device.
    pub inode: u64,
    /// The length in bytes.
    pub length: u64,
    /// Of a device node, which device it is; as [`Status::device`] of what is mounted from it.
    pub special: u64,
}

impl Status {
    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.st_mode)
    }

    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == FileType::RegularFile
    }

    /// Whether it is a symbolic link.
    pub fn is_symlink(&self) -> bool {
        self.kind() == FileType::Symlink
    }

    /// Whether it is a character or block device.
    pub fn is_device(&self) -> bool {
        matches!(self.kind(), FileType::CharacterDevice | FileType::BlockDevice)
    }

    /// The permission bits.
    pub fn mode(&self) -> u32 {
        self.st_mode & 0o7777
    }
}

/// By which it is seen whether a file was changed or replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    /// Of the content, since 1970.
    pub modified: Duration,
    /// Of the content or the attributes, since 1970.
    pub changed: Duration,
}

/// The stamp of what `path` leads to; `None` when there is nothing.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let stat = rustix::fs::statat(CWD, name(path), AtFlags::empty()).ok()?;
    let Status { device, inode, length, .. } = status(stat);
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions, reason = "as below")]
    let (modified, changed) = (
        since_1970(stat.st_mtime.try_into().ok()?, stat.st_mtime_nsec.try_into().ok()?),
        since_1970(stat.st_ctime.try_into().ok()?, stat.st_ctime_nsec.try_into().ok()?),
    );
    Some(Stamp { device, inode, length, modified, changed })
}

fn since_1970(seconds: i64, nanoseconds: u32) -> Duration {
    Duration::new(u64::try_from(seconds).unwrap_or(0), nanoseconds.min(999_999_999))
}

/// What `path` leads to, links followed.
pub fn of(path: impl AsRef<Path>) -> Result<Status> {
    let path = path.as_ref();
    look(path, AtFlags::empty()).on("stat", path)
}

/// What `path` is itself, be it a link.
pub fn of_link(path: impl AsRef<Path>) -> Result<Status> {
    let path = path.as_ref();
    look(path, AtFlags::SYMLINK_NOFOLLOW).on("stat", path)
}

/// What an open file is.
pub fn of_open(fd: impl AsFd) -> Result<Status> {
    rustix::fs::fstat(fd).map(status).context("stat", "open file")
}

/// Whether `path` leads to something.
pub fn exists(path: impl AsRef<Path>) -> bool {
    look(path.as_ref(), AtFlags::empty()).is_ok()
}

/// Whether `path` leads to a folder.
pub fn is_dir(path: impl AsRef<Path>) -> bool {
    look(path.as_ref(), AtFlags::empty()).is_ok_and(|status| status.is_dir())
}

#[inline(never)]
fn look(path: &Path, flags: AtFlags) -> std::result::Result<Status, Errno> {
    rustix::fs::statat(CWD, name(path), flags).map(status)
}

#[allow(clippy::useless_conversion, reason = "the types differ between architectures")]
fn status(stat: Stat) -> Status {
    Status {
        st_mode: stat.st_mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        device: stat.st_dev.into(),
        inode: stat.st_ino.into(),
        length: u64::try_from(stat.st_size).unwrap_or(0),
        special: stat.st_rdev.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_tells_a_write_and_a_replacement() {
        let path = std::env::temp_dir().join(format!("minke-stamp-{}", std::process::id()));
        assert_eq!(stamp(&path), None);
        std::fs::write(&path, "a").unwrap();
        let first = stamp(&path).unwrap();
        assert_eq!(stamp(&path), Some(first));
        let now = crate::clock::realtime();
        assert!(now.abs_diff(first.modified) < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
        std::fs::write(&path, "b").unwrap();
        let second = stamp(&path).unwrap();
        assert_ne!(second, first);
        crate::file::touch(&path).unwrap();
        assert!(stamp(&path).unwrap().modified >= second.modified);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn as_std_sees_it() {
        use std::os::unix::fs::MetadataExt;
        for path in ["/proc/self/exe", "/etc/passwd", "/tmp", "/dev/null"] {
            let (ours, theirs) = (of(path).unwrap(), std::fs::metadata(path).unwrap());
            assert_eq!((ours.st_mode, ours.uid, ours.gid), (theirs.mode(), theirs.uid(), theirs.gid()));
            assert_eq!((ours.device, ours.length), (theirs.dev(), theirs.len()));
            assert_eq!(ours.special, theirs.rdev());
            assert_eq!((ours.is_dir(), ours.is_file()), (theirs.is_dir(), theirs.is_file()));
            assert!(exists(path) && is_dir(path) == theirs.is_dir());
        }
        assert!(of_link("/proc/self/exe").unwrap().is_symlink());
        assert!(of_open(std::fs::File::open("/tmp").unwrap()).unwrap().is_dir());
        assert_eq!(of("/nowhere/file").unwrap_err().errno, Errno::NOENT);
        assert!(!exists("/nowhere/file") && !is_dir("/etc/passwd"));
    }
}
