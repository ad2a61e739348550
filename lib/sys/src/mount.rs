//! Mounts: mount(2), move_mount(2), pivot_root(2), mountinfo, loop devices.

use crate::path::name;
use crate::{Context, Result};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use std::ffi::CString;
use std::path::Path;

mod loopback;

pub use loopback::{attach_loop, detach_loop};
/// Options of a mount, as in mount(2).
pub use rustix::mount::MountFlags as Flags;

/// Mounts a file system of type `kind` from `source` at `target`; `data` are its own options, separated by
/// commas.
pub fn mount(source: &str, target: &Path, kind: &str, flags: Flags, data: &str) -> Result<()> {
    let data = CString::new(data).map_err(|_| rustix::io::Errno::INVAL).on("mount", target)?;
    rustix::mount::mount(name(source), name(target), name(kind), flags, data.as_c_str()).on("mount", target)
}

/// Shows the folder or file `source` at `target` as well, with all mounts below it when `recursive`.
pub fn bind(source: &Path, target: &Path, recursive: bool) -> Result<()> {
    if recursive {
        rustix::mount::mount_bind_recursive(name(source), name(target)).on("bind", target)
    } else {
        rustix::mount::mount_bind(name(source), name(target)).on("bind", target)
    }
}

/// Moves the mount at `source` to `target`.
pub fn move_mount(source: &Path, target: &Path) -> Result<()> {
    rustix::mount::mount_move(name(source), name(target)).on("move mount to", target)
}

/// Changes the options of a file system and of the mount at `target`.
pub fn remount(target: &Path, flags: Flags, data: &str) -> Result<()> {
    let data = CString::new(data).map_err(|_| rustix::io::Errno::INVAL).on("remount", target)?;
    rustix::mount::mount_remount(name(target), flags, data.as_c_str()).on("remount", target)
}

/// Changes the options of one mount (read-only, nosuid, …) and not of its file system.
pub fn remount_bind(target: &Path, flags: Flags) -> Result<()> {
    rustix::mount::mount_remount(name(target), flags | MountFlags::BIND, c"").on("remount", target)
}

/// How mounts spread between copies of the mount tree: mount_namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// Both ways.
    Shared,
    /// From the original to here.
    Slave,
}

/// Sets the propagation of the mount at `target`, and of all below it when `recursive`.
pub fn set_propagation(target: &Path, propagation: Propagation, recursive: bool) -> Result<()> {
    let mut flags = match propagation {
        Propagation::Private => MountPropagationFlags::PRIVATE,
        Propagation::Shared => MountPropagationFlags::SHARED,
        Propagation::Slave => MountPropagationFlags::DOWNSTREAM,
    };
    if recursive {
        flags |= MountPropagationFlags::REC;
    }
    rustix::mount::mount_change(name(target), flags).on("set propagation of", target)
}

/// Takes the mount at `target` away.
pub fn unmount(target: &Path) -> Result<()> {
    rustix::mount::unmount(name(target), UnmountFlags::NOFOLLOW).on("unmount", target)
}

/// Takes the mount at `target` out of the tree now; it ends when its last user does.
pub fn unmount_lazy(target: &Path) -> Result<()> {
    rustix::mount::unmount(name(target), UnmountFlags::NOFOLLOW | UnmountFlags::DETACH).on("unmount", target)
}

/// Makes the mount at `new_root` the root of this mount namespace and puts the old root at `put_old`.
pub fn pivot_root(new_root: &Path, put_old: &Path) -> Result<()> {
    rustix::process::pivot_root(name(new_root), name(put_old)).on("pivot_root to", new_root)
}

/// Changes this process's root.
pub fn chroot(path: &Path) -> Result<()> {
    rustix::process::chroot(name(path)).on("chroot to", path)
}

/// The text of this process's mount table; `minke_wire::mountinfo` reads it.
pub fn mountinfo() -> Result<Vec<u8>> {
    crate::file::read_bounded(Path::new("/proc/self/mountinfo"), MOUNTINFO_LIMIT)
}

/// Bytes of a mount table that are read; a host with every container's mounts stays far below.
const MOUNTINFO_LIMIT: usize = 4 << 20;
