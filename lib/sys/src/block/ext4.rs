//! Requests to a mounted ext4: its UUID, its size.

use crate::file::{ioctl, open_to_read};
use crate::{Context, Result};
use std::os::fd::AsFd;
use std::path::Path;

// include/uapi/linux/ext4.h (before Linux 6.2: fs/ext4/ext4.h): _IOW('f', 44, struct fsuuid) and _IOW('f', 16, __u64).
const EXT4_IOC_SETFSUUID: u32 = 0x4008_662C;
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;
// include/uapi/linux/fs.h: _IOWR('X', 119, int) and _IOWR('X', 120, int).
const FIFREEZE: u32 = 0xC004_5877;
const FITHAW: u32 = 0xC004_5878;

/// `struct fsuuid` with its UUID.
#[repr(C)]
struct FsUuid {
    length: u32,
    flags: u32,
    uuid: [u8; 16],
}

/// A UUID that a device gives one of its file systems: a random one (RFC 9562 §5.4) that begins with `ba1eadef` (spec
/// os §1.4).
pub fn fresh_uuid() -> Result<[u8; 16]> {
    let mut fresh = [0; 16];
    crate::random::fill(&mut fresh)?;
    for (byte, ours) in fresh.iter_mut().zip([0xBA, 0x1E, 0xAD, 0xEF]) {
        *byte = ours;
    }
    let [_, _, _, _, _, _, version, _, variant, ..] = &mut fresh;
    *version = *version & 0x0F | 0x40;
    *variant = *variant & 0x3F | 0x80;
    Ok(fresh)
}

/// Gives the ext4 file system that is mounted at `mounted` (for writing) a UUID, in its superblock by way of the
/// journal, then in the copies. Linux 6.0 and later. `EOPNOTSUPP`: checksums depend on the UUID, as
/// `metadata_csum_seed` is missing.
pub fn set_uuid(mounted: &Path, uuid: [u8; 16]) -> Result<()> {
    let folder = open_to_read(mounted)?;
    let argument = FsUuid { length: 16, flags: 0, uuid };
    // SAFETY: `argument` lives through the call, which reads it.
    let result = unsafe { ioctl(folder.as_fd(), EXT4_IOC_SETFSUUID, (&raw const argument).addr()) };
    result.map(drop).on("set the UUID of", mounted)
}

/// Lets the ext4 file system that is mounted at `mounted` grow to so many of its blocks. Each step on the way is a
/// transaction of its own: a power cut leaves some size between, whole.
pub fn resize(mounted: &Path, blocks: u64) -> Result<()> {
    let folder = open_to_read(mounted)?;
    // SAFETY: the number lives through the call, which reads it.
    let result = unsafe { ioctl(folder.as_fd(), EXT4_IOC_RESIZE_FS, (&raw const blocks).addr()) };
    result.map(drop).on("grow the file system at", mounted)
}

/// Writes everything of the file system that is mounted at `mounted` to its place, so that a reader that knows no journal
/// (a boot loader) sees it: freezes it, and lets it go on at once. Whoever writes there waits meanwhile.
pub fn settle(mounted: &Path) -> Result<()> {
    let folder = open_to_read(mounted)?;
    // SAFETY: this request reads no argument.
    let frozen = unsafe { ioctl(folder.as_fd(), FIFREEZE, 0) };
    frozen.on("freeze", mounted)?;
    // SAFETY: this request reads no argument.
    let thawed = unsafe { ioctl(folder.as_fd(), FITHAW, 0) };
    thawed.map(drop).on("thaw", mounted)
}
