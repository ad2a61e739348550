//! Mount points that are filled when somebody goes there: autofs, protocol version 5 (kernel documentation,
//! filesystems/autofs.rst and autofs-mount-control.rst).
//!
//! The kernel lets everybody wait who walks into such a place, but for the processes of the keeper's process group, and
//! writes to the keeper's pipe. The answer lets them go on, into what is mounted there by then, or with an error.

use crate::file::{self, Flags};
use crate::{Context, Error, Result, mount};
use minke_wire::autofs::{PACKET, Request, request};
use minke_wire::mountinfo;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The file-system type, by which a mount table tells such a place from what is mounted over it.
pub const KIND: &str = "autofs";
/// Where requests about such places go, also when something is mounted over them.
const CONTROL: &str = "/dev/autofs";

/// The commands of linux/auto_dev-ioctl.h.
#[derive(Debug, Clone, Copy)]
enum Command {
    Open = 0x74,
    Ready = 0x76,
    Fail = 0x77,
    SetPipe = 0x78,
    Catatonic = 0x79,
}

/// `struct autofs_dev_ioctl` with room for a path.
#[repr(C)]
struct Control {
    major: u32,
    minor: u32,
    size: u32,
    descriptor: i32,
    /// A union: what the command takes first and second.
    arguments: [u32; 2],
    path: [u8; 232],
}

/// Most requests that wait, and that were on their way, when a keeper dies.
const EARLIER: u32 = 512;
const LATER: u32 = 64;

/// Without a path.
const CONTROL_SIZE: usize = 24;

/// An automatic mount point.
#[derive(Debug)]
pub struct Automount {
    pipe: OwnedFd,
    /// Its root, below what is mounted there.
    root: OwnedFd,
}

impl Automount {
    /// Makes one at this folder, or takes over one that is there already, from a keeper that has died and whose last request
    /// had the number `last`, or a few more were on their way to him: who waits gets an error. The calling process must lead
    /// its process group: only the processes of that group do not wait when they go there.
    pub fn new(path: &Path, last: u32) -> Result<Self> {
        let (pipe, writer) =
            rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK | PipeFlags::DIRECT)
                .context("make", "pipe")?;
        let present = device(path)?;
        if present.is_none() {
            let group = rustix::process::getpgrp().as_raw_nonzero();
            let descriptor = writer.as_raw_fd();
            let data = format!("fd={descriptor},pgrp={group},minproto=5,maxproto=5,direct");
            mount::mount("minke", path, KIND, mount::Flags::empty(), &data)?;
        }
        let number = match present {
            Some(number) => number,
            None => device(path)?.ok_or_else(|| Error::new("find mount", path.display(), Errno::NOENT))?,
        };
        let root = control(Command::Open, -1, [number, 0], Some(path)).on("open", path)?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
        let root = unsafe { OwnedFd::from_raw_fd(root) };
        if present.is_some() {
            let root = root.as_raw_fd();
            // The kernel counts the requests of all such places in one row. It wakes nobody by the next command, for it calls
            // those who can be interrupted (Linux 6.1), and these cannot.
            let status = Errno::HOSTDOWN.raw_os_error().wrapping_neg().cast_unsigned();
            for token in last.saturating_sub(EARLIER)..=last.saturating_add(LATER) {
                let _ = control(Command::Fail, root, [token, status], None);
            }
            // From here on it is we who are asked.
            control(Command::Catatonic, root, [0; 2], None).on("reset", path)?;
            let writer = u32::try_from(writer.as_raw_fd()).unwrap_or(u32::MAX);
            control(Command::SetPipe, root, [writer, 0], None).on("take over", path)?;
        }
        Ok(Self { pipe, root })
    }

    /// The next request, if there is one.
    pub fn take(&self) -> Option<Request> {
        let mut packet = [0; PACKET];
        let length = rustix::io::read(&self.pipe, &mut packet).ok()?;
        request(packet.get(..length)?)
    }

    /// What was asked for is done.
    pub fn ready(&self, token: u32) -> Result<()> {
        control(Command::Ready, self.root.as_raw_fd(), [token, 0], None).map(drop).context("answer", KIND)
    }

    /// What was asked for failed; who waits gets this error.
    pub fn fail(&self, token: u32, errno: Errno) -> Result<()> {
        let status = errno.raw_os_error().wrapping_neg().cast_unsigned();
        control(Command::Fail, self.root.as_raw_fd(), [token, status], None).map(drop).context("answer", KIND)
    }
}

impl AsFd for Automount {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// The device number of the automatic mount point at a folder, if there is one.
fn device(path: &Path) -> Result<Option<u32>> {
    let table = mountinfo::parse(&mount::mountinfo()?);
    let path = path.to_string_lossy();
    let found = table.iter().rev().find(|mount| mount.kind == KIND && mount.target == path);
    Ok(found.map(|mount| mount.device.1))
}

fn control(
    command: Command,
    descriptor: i32,
    arguments: [u32; 2],
    path: Option<&Path>,
) -> std::result::Result<i32, Errno> {
    let mut parameters = Control { major: 1, minor: 0, size: 0, descriptor, arguments, path: [0; 232] };
    let mut path = path.map(|path| path.as_os_str().as_bytes().to_owned()).unwrap_or_default();
    if !path.is_empty() {
        path.push(0);
    }
    let room = parameters.path.get_mut(..path.len()).ok_or(Errno::NAMETOOLONG)?;
    room.copy_from_slice(&path);
    parameters.size = u32::try_from(CONTROL_SIZE.saturating_add(path.len())).unwrap_or(u32::MAX);
    let device = file::open(CONTROL, Flags::RDONLY).map_err(|error| error.errno)?;
    // `_IOWR(0x93, command, struct autofs_dev_ioctl)`, the same number on all our machines.
    let request = 0xC018_9300 | command as u32;
    // SAFETY: the request reads and writes this structure, whose size it says, and which lives until the end of the call.
    unsafe { file::ioctl(device.as_fd(), request, (&raw mut parameters).addr()) }?;
    Ok(parameters.descriptor)
}
