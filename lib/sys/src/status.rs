//! What a path leads to: stat(2). By the kernel's call; libc's converts between times of 32 and 64 bits on its way.

use crate::path::name;
use crate::{Context, Result};
use rustix::fs::{AtFlags, CWD, FileType, Stat};
use rustix::io::Errno;
use std::os::fd::AsFd;
use std::path::Path;

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
    /// When the content was last written, seconds since 1970.
    pub modified: i64,
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
        modified: i64::try_from(stat.st_mtime).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_std_sees_it() {
        use std::os::unix::fs::MetadataExt;
        for path in ["/proc/self/exe", "/etc/passwd", "/tmp", "/dev/null"] {
            let (ours, theirs) = (of(path).unwrap(), std::fs::metadata(path).unwrap());
            assert_eq!((ours.st_mode, ours.uid, ours.gid), (theirs.mode(), theirs.uid(), theirs.gid()));
            assert_eq!((ours.device, ours.length), (theirs.dev(), theirs.len()));
            assert_eq!(ours.modified, theirs.mtime());
            assert_eq!((ours.is_dir(), ours.is_file()), (theirs.is_dir(), theirs.is_file()));
            assert!(exists(path) && is_dir(path) == theirs.is_dir());
        }
        assert!(of_link("/proc/self/exe").unwrap().is_symlink());
        assert!(of_open(std::fs::File::open("/tmp").unwrap()).unwrap().is_dir());
        assert_eq!(of("/nowhere/file").unwrap_err().errno, Errno::NOENT);
        assert!(!exists("/nowhere/file") && !is_dir("/etc/passwd"));
    }
}
