//! Loop devices: loop(4).

use crate::file::{Flags, ioctl, open, open_to_read};
use crate::{Context, Error, Result};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

// Request numbers and layouts: include/uapi/linux/loop.h.
const LOOP_CONFIGURE: u32 = 0x4C0A;
const LOOP_CLR_FD: u32 = 0x4C01;
const LOOP_CTL_GET_FREE: u32 = 0x4C82;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_config` with the `struct loop_info64` in it; fields that are never set stand as bytes.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info_head: [u64; 5],
    info_number: u32,
    info_encrypt_type: u32,
    info_encrypt_key_size: u32,
    info_flags: u32,
    info_names: [u8; 160],
    info_init: [u64; 2],
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopConfig>() == 304);

/// Tries to get a free device when others take them at the same time.
const ATTEMPTS: u32 = 16;

/// Makes the file `image` a read-only block device and returns the device's path with an open handle on it.
/// Mount it before the handle is dropped: the device goes when its last user does.
pub fn attach_loop(image: &Path) -> Result<(PathBuf, File)> {
    let backing = open_to_read(image)?;
    let control = Path::new("/dev/loop-control");
    let control_file = open(control, Flags::RDWR)?;
    for _ in 0..ATTEMPTS {
        // SAFETY: this request takes no argument and returns a number.
        let number = unsafe { ioctl(control_file.as_fd(), LOOP_CTL_GET_FREE, 0) };
        let number = number.on("get a loop device from", control)?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = open_to_read(&path)?;
        match configure(&device, &backing) {
            Ok(()) => return Ok((path, device)),
            Err(Errno::BUSY) => {}
            Err(errno) => return Err(errno).on("set up loop device for", image),
        }
    }
    Err(Error::new("set up loop device for", image.display(), Errno::BUSY))
}

/// Takes a loop device's file away; a mounted one goes when it is unmounted.
pub fn detach_loop(device: &Path) -> Result<()> {
    let file = open_to_read(device)?;
    // SAFETY: this request takes no argument.
    let done = unsafe { ioctl(file.as_fd(), LOOP_CLR_FD, 0) };
    done.map(|_| ()).on("detach", device)
}

fn configure(device: &File, backing: &File) -> std::result::Result<(), Errno> {
    let config = LoopConfig {
        fd: backing.as_raw_fd().unsigned_abs(),
        block_size: 0,
        info_head: [0; 5],
        info_number: 0,
        info_encrypt_type: 0,
        info_encrypt_key_size: 0,
        info_flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
        info_names: [0; 160],
        info_init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: `config` has the size and layout that the request reads, and lives through the call.
    let done = unsafe { ioctl(device.as_fd(), LOOP_CONFIGURE, (&raw const config).addr()) };
    done.map(|_| ())
}
