//! A folder whose content comes from outside: every path below it is resolved as if it was the root, so that
//! neither `..` nor a symbolic link leads out (openat2(2), `RESOLVE_IN_ROOT`, Linux 5.6).

use crate::path::bytes;
use crate::{Context, Error, Result};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The root of such a tree.
#[derive(Debug)]
pub struct Tree {
    fd: OwnedFd,
}

/// An open folder in a tree. Names given to its functions are single components.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
}

/// What a name in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Whether it is a folder.
    pub is_folder: bool,
    /// Whether it is a character device with number 0/0: overlayfs's mark for a removed name.
    pub is_whiteout: bool,
    /// Device and inode: equal for two names of one file.
    pub identity: (u64, u64),
}

/// What [`Folder::make_node`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A character device with its major and minor number.
    Char(u32, u32),
    /// A block device with its major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
}

/// Modification time: seconds since 1970 and nanoseconds.
pub type Time = (i64, u32);

impl Tree {
    /// Opens the folder `path` as the root of a tree.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { fd: crate::file::open_folder(path)? })
    }

    /// Opens a folder in the tree; empty is the root. Links in the path are followed within the tree.
    pub fn folder(&self, path: &[u8]) -> Result<Folder> {
        self.open_at(path, OFlags::empty())
    }

    /// As [`Tree::folder`]; that the last component is a link is an error (`ENOTDIR` or `ELOOP`).
    pub fn folder_itself(&self, path: &[u8]) -> Result<Folder> {
        self.open_at(path, OFlags::NOFOLLOW)
    }

    fn open_at(&self, path: &[u8], extra: OFlags) -> Result<Folder> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | extra;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(&self.fd, bytes(path), flags, Mode::empty(), resolve);
        Ok(Folder { fd: fd.map_err(|errno| failed("open folder", path, errno))? })
    }
}

impl Folder {
    /// Opens a folder outside of any tree.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { fd: crate::file::open_folder(path)? })
    }

    /// What `name` is, without following it; `None` when there is no such name.
    pub fn status(&self, name: &[u8]) -> Result<Option<Status>> {
        match rustix::fs::statat(&self.fd, bytes(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let kind = FileType::from_raw_mode(stat.st_mode);
                Ok(Some(Status {
                    is_folder: kind == FileType::Directory,
                    is_whiteout: kind == FileType::CharacterDevice && stat.st_rdev == 0,
                    identity: (stat.st_dev, stat.st_ino),
                }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("stat", name, errno)),
        }
    }

    /// Makes a file that was not there and opens it for writing, readable by its owner alone.
    pub fn make_file(&self, name: &[u8]) -> Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, bytes(name), flags, Mode::RUSR | Mode::WUSR);
        Ok(File::from(fd.map_err(|errno| failed("create", name, errno))?))
    }

    /// Makes a folder that was not there and opens it.
    pub fn make_folder(&self, name: &[u8]) -> Result<Self> {
        rustix::fs::mkdirat(&self.fd, bytes(name), Mode::RWXU)
            .map_err(|errno| failed("create folder", name, errno))?;
        self.folder(name)
    }

    /// Opens the folder `name`, which is no link.
    pub fn folder(&self, name: &[u8]) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, bytes(name), flags, Mode::empty());
        Ok(Self { fd: fd.map_err(|errno| failed("open folder", name, errno))? })
    }

    /// Makes a symbolic link.
    pub fn make_link(&self, name: &[u8], target: &[u8]) -> Result<()> {
        rustix::fs::symlinkat(bytes(target), &self.fd, bytes(name))
            .map_err(|errno| failed("create link", name, errno))
    }

    /// Makes another name for the file `existing` in `folder`; a link there is not followed.
    pub fn make_hard_link(&self, name: &[u8], folder: &Self, existing: &[u8]) -> Result<()> {
        rustix::fs::linkat(&folder.fd, bytes(existing), &self.fd, bytes(name), AtFlags::empty())
            .map_err(|errno| failed("create hard link", name, errno))
    }

    /// Makes a device or a pipe with permission bits `mode`.
    pub fn make_node(&self, name: &[u8], node: Node, mode: u32) -> Result<()> {
        let (kind, device) = match node {
            Node::Char(major, minor) => (FileType::CharacterDevice, rustix::fs::makedev(major, minor)),
            Node::Block(major, minor) => (FileType::BlockDevice, rustix::fs::makedev(major, minor)),
            Node::Fifo => (FileType::Fifo, 0),
        };
        let mode = Mode::from_raw_mode(mode);
        rustix::fs::mknodat(&self.fd, bytes(name), kind, mode, device)
            .map_err(|errno| failed("create node", name, errno))?;
        // The umask may have taken bits away. What was just made is no link.
        rustix::fs::chmodat(&self.fd, bytes(name), mode, AtFlags::empty())
            .map_err(|errno| failed("set mode of", name, errno))
    }

    /// Sets the owner of `name`, a link itself included.
    pub fn set_owner(&self, name: &[u8], uid: u32, gid: u32) -> Result<()> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(&self.fd, bytes(name), uid, gid, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed("chown", name, errno))
    }

    /// Sets the modification time of `name`, a link itself included.
    pub fn set_time(&self, name: &[u8], time: Time) -> Result<()> {
        rustix::fs::utimensat(&self.fd, bytes(name), &times(time), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| failed("set time of", name, errno))
    }

    /// Removes `name`, and all below it when it is a folder. That it is not there is success. It needs two
    /// descriptors at any depth.
    pub fn remove(&self, name: &[u8]) -> Result<()> {
        match rustix::fs::unlinkat(&self.fd, bytes(name), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::ISDIR) => {}
            Err(errno) => return Err(failed("remove", name, errno)),
        }
        let mut below: Vec<CString> = Vec::new();
        let mut current = self.folder(name)?;
        loop {
            if let Some(folder) = current.remove_files()? {
                current = current.folder(folder.to_bytes())?;
                below.push(folder);
                continue;
            }
            let Some(empty) = below.pop() else { break };
            // Nobody else moves folders in here, so `..` is where we came from.
            current = current.folder(b"..")?;
            rustix::fs::unlinkat(&current.fd, &*empty, AtFlags::REMOVEDIR)
                .map_err(|errno| failed("remove folder", empty.to_bytes(), errno))?;
        }
        rustix::fs::unlinkat(&self.fd, bytes(name), AtFlags::REMOVEDIR)
            .map_err(|errno| failed("remove folder", name, errno))
    }

    /// The names in the folder, without `.` and `..`.
    pub fn names(&self) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let mut dir = Dir::read_from(&self.fd).context("read", "folder")?;
        while let Some(entry) = dir.read() {
            let entry = entry.context("read", "folder")?;
            if !is_dots(entry.file_name()) {
                names.push(entry.file_name().to_bytes().to_vec());
            }
        }
        Ok(names)
    }

    /// Removes everything but folders, up to the first folder found.
    fn remove_files(&self) -> Result<Option<CString>> {
        let mut dir = Dir::read_from(&self.fd).context("read", "folder")?;
        while let Some(entry) = dir.read() {
            let entry = entry.context("read", "folder")?;
            let name = entry.file_name();
            if is_dots(name) {
                continue;
            }
            match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
                Ok(()) => {}
                Err(Errno::ISDIR) => return Ok(Some(name.to_owned())),
                Err(errno) => return Err(failed("remove", name.to_bytes(), errno)),
            }
        }
        Ok(None)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sets owner and permission bits of an open file or folder. In this order, as a change of the owner clears
/// the set-user-id bit.
pub fn set_owner_and_mode(fd: impl AsFd, uid: u32, gid: u32, mode: u32) -> Result<()> {
    rustix::fs::fchown(&fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).context("chown", "file")?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).context("set mode of", "file")
}

/// Sets the modification time of an open file or folder.
pub fn set_time(fd: impl AsFd, time: Time) -> Result<()> {
    rustix::fs::futimens(&fd, &times(time)).context("set time of", "file")
}

/// Sets an extended attribute of an open file or folder; `false` when the file system cannot hold it.
pub fn set_attribute(fd: impl AsFd, name: &[u8], value: &[u8]) -> Result<bool> {
    match rustix::fs::fsetxattr(&fd, bytes(name), value, XattrFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOTSUP) => Ok(false),
        Err(errno) => Err(failed("set attribute", name, errno)),
    }
}

/// Both times alike, as nobody asks for the access time of an unpacked file.
fn times((seconds, nanoseconds): Time) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

fn is_dots(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// The error of a call on `name`; out of line, as it is made in many places.
#[cold]
#[inline(never)]
fn failed(operation: &'static str, name: &[u8], errno: Errno) -> Error {
    Error::new(operation, String::from_utf8_lossy(name), errno)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_dots_stay_inside_and_removal_is_deep() {
        let base = std::env::temp_dir().join(format!("minke-tree-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&base);
        std::fs::create_dir_all(base.join("root/sub")).unwrap();
        std::fs::create_dir(base.join("sub")).unwrap();
        std::os::unix::fs::symlink("/sub", base.join("root/absolute")).unwrap();
        std::os::unix::fs::symlink("../../../sub", base.join("root/upwards")).unwrap();
        let tree = Tree::open(&base.join("root")).unwrap();
        for (index, path) in ["absolute", "upwards", "../sub", "sub"].into_iter().enumerate() {
            let folder = tree.folder(path.as_bytes()).unwrap();
            folder.make_file(format!("f{index}").as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_dir(base.join("root/sub")).unwrap().count(), 4);
        assert_eq!(std::fs::read_dir(base.join("sub")).unwrap().count(), 0);
        assert!(tree.folder_itself(b"absolute").is_err());

        // Deeper than there are descriptors.
        let mut folder = tree.folder(b"sub").unwrap();
        for _ in 0..2000 {
            folder.make_file(b"file").unwrap();
            folder = folder.make_folder(b"down").unwrap();
        }
        let root = tree.folder(b"").unwrap();
        root.make_node(b"gone", Node::Char(0, 0), 0).unwrap();
        assert!(root.status(b"gone").unwrap().unwrap().is_whiteout);
        root.remove(b"sub").unwrap();
        root.remove(b"sub").unwrap();
        assert!(root.status(b"sub").unwrap().is_none());
        Folder::open(&std::env::temp_dir())
            .unwrap()
            .remove(base.file_name().unwrap().as_encoded_bytes())
            .unwrap();
        assert!(!base.exists());
    }
}
