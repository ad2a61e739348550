//! Device nodes: mknod(2).

use crate::path::name;
use crate::{Context, Result};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use std::os::fd::OwnedFd;
use std::path::Path;

/// What a device node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A character device.
    Character,
    /// A block device.
    Block,
}

/// Makes a device node with permission bits `mode`, whatever the umask is.
pub fn make_node(path: &Path, kind: Kind, mode: u32, major: u32, minor: u32) -> Result<()> {
    let kind = match kind {
        Kind::Character => FileType::CharacterDevice,
        Kind::Block => FileType::BlockDevice,
    };
    let (mode, device) = (Mode::from_raw_mode(mode), rustix::fs::makedev(major, minor));
    rustix::fs::mknodat(CWD, name(path), kind, mode, device).on("make device", path)?;
    rustix::fs::chmod(name(path), mode).on("set mode of", path)
}

/// Opens a terminal for reading and writing without waiting for a carrier and without making it the
/// controlling terminal. Reads and writes on the result wait.
pub fn open_terminal(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(name(path), flags, Mode::empty()).on("open", path)?;
    rustix::io::ioctl_fionbio(&terminal, false).on("set up", path)?;
    Ok(terminal)
}
