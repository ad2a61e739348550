//! Tar archives: POSIX ustar and pax (POSIX.1-2017, `pax`, "ustar Interchange Format" and "pax Extended
//! Header"), GNU long names, links and base-256 numbers (GNU tar manual, "Basic Tar Format").
//!
//! [`Decoder`] takes bytes as they come and gives events; [`Encoder`] makes the bytes around the content.
//! Sparse files, multi-volume archives and volume headers are refused by name.

mod decode;
mod encode;
mod header;
mod pax;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, Event};
pub use encode::Encoder;

use std::fmt;

/// The unit of a tar archive, in bytes.
pub const BLOCK: usize = 512;
/// Longest path or link target: the kernel's `PATH_MAX`.
pub const MAX_PATH: usize = 4096;
/// Longest extension record (pax header, GNU long name): extended attributes are at most 64 KiB each.
pub const MAX_EXTENSION: usize = 1 << 20;
/// Most bytes that one member may claim, so that sums of sizes cannot overflow.
pub const MAX_SIZE: u64 = 1 << 48;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its content follows.
    File,
    /// Another name of the file `link`, a path in the archive.
    HardLink,
    /// A symbolic link to `link`.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A folder.
    Folder,
    /// A named pipe.
    Fifo,
}

/// A point in time before or after 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Time {
    /// Seconds since 1970, rounded down.
    pub seconds: i64,
    /// Nanoseconds after that second, below 1,000,000,000.
    pub nanoseconds: u32,
}

/// One member of an archive. Names are bytes, as they are in the kernel; they are not checked for `..`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path as written; at most [`MAX_PATH`] bytes, not empty, without NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The target of a link; empty otherwise.
    pub link: Vec<u8>,
    /// Permission bits with set-user-id, set-group-id and sticky (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of content that follow; 0 for everything but a file.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes (`SCHILY.xattr.*`), name and value, in the archive's order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// A member with nothing but its path, kind and mode.
    pub fn new(path: &[u8], kind: Kind, mode: u32) -> Self {
        Self {
            path: path.to_vec(),
            kind,
            link: Vec::new(),
            mode,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Time::default(),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }
}

/// Why an archive is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A header's checksum is wrong: not a tar archive, or a damaged one.
    Checksum,
    /// A numeric field is malformed or too large; its name.
    Number(&'static str),
    /// A path or link target is empty, too long, or holds a NUL.
    Path,
    /// An extension record is malformed or longer than [`MAX_EXTENSION`].
    Extension,
    /// The member's type, which this decoder refuses.
    Type(u8),
    /// A sparse file: make the archive without `--sparse`.
    Sparse,
    /// A single zero block between members: the archive is damaged.
    LoneZeroBlock,
    /// The archive ends inside a member.
    Truncated,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checksum => f.write_str("not a tar archive, or damaged: wrong header checksum"),
            Self::Number(field) => write!(f, "tar header: bad number in field {field}"),
            Self::Path => write!(f, "tar header: a path is empty, longer than {MAX_PATH}, or holds a NUL"),
            Self::Extension => f.write_str("tar: malformed or too large extension header"),
            Self::Type(kind) => write!(f, "tar: members of type {kind:#04x} are not supported"),
            Self::Sparse => f.write_str("tar: sparse files are not supported; make it without --sparse"),
            Self::LoneZeroBlock => f.write_str("tar: damaged: a zero block between members"),
            Self::Truncated => f.write_str("tar: the archive is cut short"),
        }
    }
}

impl std::error::Error for Error {}
