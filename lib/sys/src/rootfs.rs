//! Mounts that make a container's root: overlayfs, new file systems and binds, put into a tree whose content
//! nobody trusts. Targets are resolved inside that tree (`RESOLVE_IN_ROOT`, openat2(2)), so that a symbolic
//! link in an image can never lead a mount to the host's files.

use crate::path::{Name, name};
use crate::{Context, Error, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};
use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// What a mount does not allow: mount_setattr(2).
#[derive(Debug, Clone, Copy, Default)]
pub struct Restrictions {
    /// No writes.
    pub read_only: bool,
    /// Set-user-id bits have no effect.
    pub no_suid: bool,
    /// Device nodes have no effect.
    pub no_dev: bool,
    /// No program is executed from it.
    pub no_exec: bool,
}

/// A mount that is not yet attached, or that was.
#[derive(Debug)]
pub struct Tree {
    fd: OwnedFd,
}

impl Tree {
    /// A new file system of type `kind` with mount options; an option without a value is a flag.
    pub fn file_system(kind: &str, options: &[(&str, &str)], without: Restrictions) -> Result<Self> {
        let context = rustix::mount::fsopen(name(kind), FsOpenFlags::FSOPEN_CLOEXEC)
            .context("open file system", kind)?;
        for (key, value) in options {
            let set = match *value {
                "" => rustix::mount::fsconfig_set_flag(&context, name(key)),
                value => rustix::mount::fsconfig_set_string(&context, name(key), name(value)),
            };
            set.context("set mount option", key)?;
        }
        rustix::mount::fsconfig_create(&context).context("create file system", kind)?;
        let mut attributes = MountAttrFlags::empty();
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, without.read_only);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, without.no_suid);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, without.no_dev);
        attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, without.no_exec);
        let fd = rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
            .context("mount file system", kind)?;
        Ok(Self { fd })
    }

    /// A bind of `source`, with the mounts below it when `recursive`.
    pub fn bind(source: &Path, recursive: bool) -> Result<Self> {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::OPEN_TREE_CLONE;
        flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
        let fd = rustix::mount::open_tree(CWD, name(source), flags).on("bind", source)?;
        Ok(Self { fd })
    }

    /// As [`Tree::bind`], of something opened before.
    pub fn bind_fd(source: impl AsFd) -> Result<Self> {
        let flags =
            OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::AT_EMPTY_PATH;
        let fd = rustix::mount::open_tree(source.as_fd(), c"", flags).context("bind", "open file")?;
        Ok(Self { fd })
    }

    /// Attaches it to what `target` was opened on.
    pub fn attach(&self, target: impl AsFd) -> Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        rustix::mount::move_mount(&self.fd, c"", target.as_fd(), c"", flags).context("attach", "mount")
    }

    /// Attaches it at a path of the caller's own.
    pub fn attach_at(&self, target: &Path) -> Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&self.fd, c"", CWD, name(target), flags).on("attach mount to", target)
    }

    /// Makes this one mount, once attached, read-only; what is mounted below it stays as it is.
    pub fn set_read_only(&self) -> Result<()> {
        let path = self.path();
        let flags = MountFlags::BIND | MountFlags::RDONLY | kept_flags(&self.fd);
        rustix::mount::mount_remount(name(&path), flags, c"").context("make read-only", path)
    }

    /// Sets how mounts travel between this mount, once attached, and the one it was cloned from.
    pub fn set_propagation(&self, propagation: Propagation) -> Result<()> {
        let path = self.path();
        rustix::mount::mount_change(name(&path), propagation.flags()).context("set propagation of", path)
    }

    fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.fd.as_raw_fd())
    }
}

/// A bind remount sets all flags anew: keep those that the mount has.
fn kept_flags(fd: &OwnedFd) -> MountFlags {
    let mut kept = MountFlags::empty();
    if let Ok(status) = rustix::fs::fstatvfs(fd) {
        let has = |flag| status.f_flag.contains(flag);
        kept.set(MountFlags::NOSUID, has(rustix::fs::StatVfsMountFlags::NOSUID));
        kept.set(MountFlags::NODEV, has(rustix::fs::StatVfsMountFlags::NODEV));
        kept.set(MountFlags::NOEXEC, has(rustix::fs::StatVfsMountFlags::NOEXEC));
    }
    kept
}

/// Mount propagation, mount_namespaces(7), with everything below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Propagation {
    /// Nothing travels.
    Private,
    /// The other side's mounts arrive here.
    Slave,
    /// Both ways.
    Shared,
}

impl Propagation {
    fn flags(self) -> MountPropagationFlags {
        MountPropagationFlags::REC
            | match self {
                Self::Private => MountPropagationFlags::PRIVATE,
                Self::Slave => MountPropagationFlags::DOWNSTREAM,
                Self::Shared => MountPropagationFlags::SHARED,
            }
    }
}

/// Sets the propagation of a mount point and all below it.
pub fn set_propagation(path: &Path, propagation: Propagation) -> Result<()> {
    rustix::mount::mount_change(name(path), propagation.flags()).on("set propagation of", path)
}

/// Detaches a mount and those below it.
pub fn detach(path: &Path) -> Result<()> {
    rustix::mount::unmount(name(path), UnmountFlags::DETACH).on("unmount", path)
}

/// Mounts an overlay of `lowers` (topmost first) with `upper` and `work` on `target`.
///
/// All folders are named by descriptor, relative to `/proc/self/fd`: the options of mount(2) must fit into one
/// page, and images have up to 127 layers with long names. The working folder of the process changes meanwhile.
pub fn mount_overlay(target: &Path, lowers: &[PathBuf], upper: &Path, work: &Path) -> Result<()> {
    let lower_fds = lowers.iter().map(|path| open_path(path)).collect::<Result<Vec<_>>>()?;
    let (upper_fd, work_fd, target_fd) = (open_path(upper)?, open_path(work)?, open_path(target)?);
    let mut options = String::from("lowerdir=");
    for (index, fd) in lower_fds.iter().enumerate() {
        let _ = write!(options, "{}{}", if index == 0 { "" } else { ":" }, fd.as_raw_fd());
    }
    let _ = write!(options, ",upperdir={},workdir={}", upper_fd.as_raw_fd(), work_fd.as_raw_fd());
    let data = std::ffi::CString::new(options).map_err(|_| Error::new("mount", "overlay", Errno::INVAL))?;
    rustix::process::chdir(c"/proc/self/fd").on("change to", "/proc/self/fd")?;
    let place = target_fd.as_raw_fd().to_string();
    let mounted =
        rustix::mount::mount(c"overlay", name(&place), c"overlay", MountFlags::empty(), data.as_c_str());
    rustix::process::chdir(c"/").on("change to", "/")?;
    mounted.on("mount overlay on", target)
}

fn open_path(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(name(path), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).on("open", path)
}

/// The longest path that is made inside a root.
const PATH_LIMIT: usize = 4096;

/// A folder that is the root for all paths given to it: `..` and symbolic links cannot leave it.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    /// Opens the folder.
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { fd: rustix::fs::open(name(path), flags, Mode::empty()).on("open", path)? })
    }

    /// A handle on what exists at `path`.
    pub fn find(&self, path: &Path) -> Result<OwnedFd> {
        self.open_at(path, OFlags::PATH)
    }

    /// Opens a file for reading.
    pub fn read(&self, path: &Path) -> Result<OwnedFd> {
        self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)
    }

    fn open_at(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        loop {
            let name = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            match rustix::fs::openat2(
                &self.fd,
                crate::path::name(name),
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            ) {
                // The kernel could not rule out a race with a rename: it asks to try again.
                Err(Errno::AGAIN) => {}
                other => return other.on("open in the container", path),
            }
        }
    }

    /// The folder at `path`, made with those above it when missing.
    pub fn folder(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        if path.as_os_str().len() > PATH_LIMIT {
            return Err(Error::new("create folder", "a path that is too long", Errno::NAMETOOLONG));
        }
        let mut done = PathBuf::new();
        let mut current = self.find(&done)?;
        for part in path.components() {
            let Component::Normal(name) = part else {
                if part == Component::ParentDir {
                    done.push("..");
                    current = self.find(&done)?;
                }
                continue;
            };
            done.push(name);
            current = match self.find(&done) {
                Err(error) if error.errno == Errno::NOENT => {
                    match rustix::fs::mkdirat(&current, crate::path::name(name), Mode::from_raw_mode(mode)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(errno) => return Err(errno).on("create folder", &done),
                    }
                    self.find(&done)?
                }
                other => other?,
            };
        }
        Ok(current)
    }

    /// The file at `path`, made empty when missing, as a place to mount a file on.
    pub fn file(&self, path: &Path) -> Result<OwnedFd> {
        match self.find(path) {
            Err(error) if error.errno == Errno::NOENT => {}
            other => return other,
        }
        let (parent, name) = self.place(path)?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o644)).on("create file", path)?;
        self.find(path)
    }

    /// Makes a symbolic link; one that exists stays.
    pub fn link(&self, target: &str, path: &Path) -> Result<()> {
        let (parent, name) = self.place(path)?;
        match rustix::fs::symlinkat(crate::path::name(target), parent, name) {
            Err(Errno::EXIST) => Ok(()),
            other => other.on("link", path),
        }
    }

    /// Makes a device node or another special file with mode and owner; `kind_and_mode` is a `st_mode`.
    pub fn node(&self, path: &Path, kind_and_mode: u32, device: u64, owner: (u32, u32)) -> Result<()> {
        let (parent, name) = self.place(path)?;
        let (kind, mode) = (FileType::from_raw_mode(kind_and_mode), Mode::from_raw_mode(kind_and_mode));
        match rustix::fs::mknodat(&parent, name, kind, mode, device) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(()),
            Err(errno) => return Err(errno).on("make node", path),
        }
        let (uid, gid) = (rustix::fs::Uid::from_raw(owner.0), rustix::fs::Gid::from_raw(owner.1));
        rustix::fs::chownat(&parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
            .on("chown", path)?;
        rustix::fs::chmodat(&parent, name, mode, AtFlags::empty()).on("chmod", path)
    }

    fn place<'a>(&self, path: &'a Path) -> Result<(OwnedFd, Name<'a>)> {
        let last = path.file_name().ok_or_else(|| Error::new("create", path.display(), Errno::INVAL))?;
        Ok((self.folder(path.parent().unwrap_or(Path::new("")), 0o755)?, name(last)))
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether what a handle refers to is a folder.
pub fn is_folder(fd: impl AsFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Directory)
}

/// A device node's `st_mode`, `st_rdev` and owner, following links; `ENODEV` for anything else.
pub fn device_of(path: &Path) -> Result<(u32, u64, (u32, u32))> {
    let status = rustix::fs::stat(name(path)).on("stat", path)?;
    match FileType::from_raw_mode(status.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => {
            Ok((status.st_mode, status.st_rdev, (status.st_uid, status.st_gid)))
        }
        _ => Err(Error::new("use as a device", path.display(), Errno::NODEV)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("minke-rootfs-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn links_and_dots_cannot_leave_the_root() {
        let base = folder("escape");
        let inside = base.join("root");
        std::fs::create_dir_all(inside.join("etc")).unwrap();
        std::fs::create_dir(base.join("outside")).unwrap();
        std::os::unix::fs::symlink("/../../outside", inside.join("absolute")).unwrap();
        std::os::unix::fs::symlink("../outside", inside.join("relative")).unwrap();
        let root = Root::open(&inside).unwrap();
        for path in ["/absolute/x", "/relative/x", "/../../outside/x", "/etc/../../outside/x"] {
            let _ = root.folder(Path::new(path), 0o755);
            let _ = root.file(&Path::new(path).join("file"));
        }
        assert_eq!(std::fs::read_dir(base.join("outside")).unwrap().count(), 0);
        root.folder(Path::new("/a/b/../c"), 0o755).unwrap();
        assert!(inside.join("a/b").is_dir() && inside.join("a/c").is_dir());
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn a_file_is_made_once_and_keeps_its_content() {
        let base = folder("file");
        let root = Root::open(&base).unwrap();
        root.file(Path::new("/etc/hosts")).unwrap();
        std::fs::write(base.join("etc/hosts"), "x").unwrap();
        root.file(Path::new("/etc/hosts")).unwrap();
        assert_eq!(std::fs::read(base.join("etc/hosts")).unwrap(), b"x");
        assert!(is_folder(root.find(Path::new("/etc")).unwrap()));
        assert!(device_of(&base).is_err());
        std::fs::remove_dir_all(base).unwrap();
    }
}
