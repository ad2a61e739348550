//! Device mapper: a block device that the kernel computes from others, by the requests of include/uapi/linux/dm-ioctl.h.

use crate::file::{Flags, ioctl, open};
use crate::{Context, Result};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// devtmpfs has it as soon as the kernel knows device mapper.
const CONTROL: &str = "/dev/mapper/control";

// _IOWR(0xfd, NUMBER, struct dm_ioctl)
const DM_DEV_CREATE: u32 = 0xC138_FD03;
const DM_DEV_REMOVE: u32 = 0xC138_FD04;
const DM_DEV_SUSPEND: u32 = 0xC138_FD06;
const DM_TABLE_LOAD: u32 = 0xC138_FD09;

const DM_READONLY_FLAG: u32 = 1;
/// Bytes of `struct dm_ioctl`, behind which the table begins.
const HEADER: u32 = 312;
/// Bytes of a target's parameters with the zero behind them; dm-verity's with the longest salt and digest have 800.
const PARAMETERS: usize = 1024;

/// `struct dm_ioctl`, and behind it the only `struct dm_target_spec` of a table with its parameters.
#[repr(C)]
struct Request {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    dev: u64,
    name: [u8; 128],
    uuid: [u8; 136],
    sector_start: u64,
    length: u64,
    status: i32,
    next: u32,
    target_type: [u8; 16],
    parameters: [u8; PARAMETERS],
}

const _: () = assert!(std::mem::offset_of!(Request, sector_start) == HEADER as usize);

/// What a mapped device consists of: one target over its whole length, read-only.
#[derive(Debug)]
pub struct Target<'a> {
    /// The target's name in the kernel, for instance `verity`.
    pub kind: &'a str,
    /// The length in sectors of 512 bytes.
    pub sectors: u64,
    /// The words that the target takes.
    pub parameters: &'a str,
}

/// Makes the mapped device `name` and returns its node. `ENOENT`: the kernel has no device mapper; `EBUSY`: the name is
/// taken; what else the kernel refuses, it explains in its log.
pub fn create(name: &str, target: &Target<'_>) -> Result<PathBuf> {
    let control = open(CONTROL, Flags::RDWR)?;
    let mut made = request(name);
    call(&control, DM_DEV_CREATE, &mut made).context("make mapped device", name)?;
    let mut table = request(name);
    table.flags = DM_READONLY_FLAG;
    table.target_count = 1;
    table.length = target.sectors;
    fill(&mut table.target_type, target.kind);
    fill(&mut table.parameters, target.parameters);
    let loaded = if target.parameters.len() < PARAMETERS {
        call(&control, DM_TABLE_LOAD, &mut table)
    } else {
        Err(Errno::TOOBIG)
    };
    // Resumes: the flag that suspends is not set.
    let up = loaded.and_then(|()| call(&control, DM_DEV_SUSPEND, &mut request(name)));
    if up.is_err() {
        let _ = call(&control, DM_DEV_REMOVE, &mut request(name));
    }
    up.context("set up mapped device", name)?;
    // The kernel's form of a device number: the minor's low eight bits, twelve of the major, the minor's rest.
    let minor = made.dev & 0xFF | made.dev >> 12 & 0xFFF_FF00;
    Ok(Path::new("/dev").join(format!("dm-{minor}")))
}

/// Takes a mapped device away; `EBUSY` while it is mounted or open.
pub fn remove(name: &str) -> Result<()> {
    let control = open(CONTROL, Flags::RDWR)?;
    call(&control, DM_DEV_REMOVE, &mut request(name)).context("remove mapped device", name)
}

fn request(name: &str) -> Request {
    let mut request = Request {
        version: [4, 0, 0],
        data_size: HEADER,
        data_start: HEADER,
        target_count: 0,
        open_count: 0,
        flags: 0,
        event_nr: 0,
        padding: 0,
        dev: 0,
        name: [0; 128],
        uuid: [0; 136],
        sector_start: 0,
        length: 0,
        status: 0,
        next: 0,
        target_type: [0; 16],
        parameters: [0; PARAMETERS],
    };
    request.data_size = u32::try_from(size_of::<Request>()).unwrap_or(HEADER);
    fill(&mut request.name, name);
    request
}

/// Copies a text into a field that ends with a zero.
fn fill(field: &mut [u8], text: &str) {
    let room = field.len().saturating_sub(1);
    for (to, from) in field.iter_mut().take(room).zip(text.bytes()) {
        *to = from;
    }
}

fn call(control: &File, number: u32, request: &mut Request) -> std::result::Result<(), Errno> {
    let argument = std::ptr::from_mut(request).addr();
    // SAFETY: `request` has the layout and, by `data_size`, the length that the kernel reads and writes.
    unsafe { ioctl(control.as_fd(), number, argument) }.map(drop)
}
