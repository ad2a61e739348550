//! Files: durable whole-file writes and bounded reads.

use crate::path::name;
use crate::tree::Folder;
use crate::{Context, Error, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The flags of open(2).
pub use rustix::fs::OFlags as Flags;

/// To write at the end of a file that is made when missing.
pub const APPEND: Flags = Flags::WRONLY.union(Flags::APPEND).union(Flags::CREATE);
/// To write a file that must not be there yet.
pub const CREATE_NEW: Flags = Flags::WRONLY.union(Flags::CREATE).union(Flags::EXCL);

/// How much one call of sendfile(2) copies, in bytes.
const COPY_STEP: usize = 1 << 20;

/// Replaces the content of `path` durably, with permission bits `mode`.
///
/// Power cut at each step, on a journalled file system:
/// 1. while `.NAME.new` is written: the old content stays; the leftover is overwritten by the next write;
/// 2. after its fsync, before the rename: the same;
/// 3. after the rename, before the folder's fsync: the old or the new content, whole;
/// 4. after that: the new content.
///
/// FAT has no such rename: use the protocol in `lib/config` there (spec os §4.1.4).
pub fn write_durable(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let fresh = sibling(path)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = rustix::fs::open(name(&fresh), flags, Mode::from_raw_mode(mode)).on("create", &fresh)?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).on("set mode of", &fresh)?;
    let mut file = File::from(fd);
    let written =
        file.write_all(content).on("write", &fresh).and_then(|()| file.sync_all().on("fsync", &fresh));
    if let Err(error) = written {
        // A full disk must not keep the half-written copy.
        let _ = std::fs::remove_file(&fresh);
        return Err(error);
    }
    rename(&fresh, path)?;
    sync_parent(path)
}

/// Gives a file or folder another name on its file system, in place of a file that has it.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).on("rename", from)
}

/// Removes a file durably. That it is not there is success.
pub fn remove_durable(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.on("remove", path)?,
    }
    sync_parent(path)
}

/// Writes the folder that holds `path` to the disk: names that were made, renamed or removed in it.
pub fn sync_parent(path: &Path) -> Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    sync_folder(folder)
}

/// Writes a folder's names to the disk.
pub fn sync_folder(folder: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(name(folder), flags, Mode::empty()).on("open", folder)?;
    rustix::fs::fsync(fd).on("fsync", folder)
}

/// Writes everything to all disks: sync(2).
pub fn sync_all() {
    rustix::fs::sync();
}

/// Writes one file system to its disk: syncfs(2) of the one that holds `path`.
pub fn sync_file_system(path: &Path) -> Result<()> {
    let fd =
        rustix::fs::open(name(path), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).on("open", path)?;
    rustix::fs::syncfs(fd).on("syncfs", path)
}

/// Lets the kernel forget what it keeps of a file that is on the disk, so that the next read asks the disk.
pub fn forget_cache(file: impl AsFd) {
    let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
}

/// Lets two names of one file system change places: renameat2(2) with `RENAME_EXCHANGE`, which vfat has since
/// Linux 6.0. `EINVAL`: this file system or kernel has not.
pub fn exchange(one: &Path, other: &Path) -> Result<()> {
    rustix::fs::renameat_with(CWD, name(one), CWD, name(other), rustix::fs::RenameFlags::EXCHANGE)
        .on("exchange", other)
}

/// Opens a file by the flags of open(2); it closes on exec. A new one gets the mode 0666, less what the umask takes.
pub fn open(path: impl AsRef<Path>, flags: Flags) -> Result<File> {
    open_with_mode(path.as_ref(), flags, 0o666)
}

/// Opens a file for reading.
pub fn open_to_read(path: impl AsRef<Path>) -> Result<File> {
    open(path, Flags::RDONLY)
}

/// As [`open`]; a new file gets this mode.
pub fn open_with_mode(path: &Path, flags: Flags, mode: u32) -> Result<File> {
    let mode = Mode::from_raw_mode(mode);
    loop {
        match rustix::fs::open(name(path), flags | OFlags::CLOEXEC, mode) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).on("open", path),
            Ok(fd) => return Ok(fd.into()),
        }
    }
}

/// Takes the lock flock(2) on an open file, which holds until the file is closed or the process ends. `false`: somebody
/// else has it.
pub fn try_lock(file: &File) -> Result<bool> {
    match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno).context("lock", "open file"),
    }
}

/// Writes a file, made when missing, not durably: for what the kernel or a boot makes anew.
pub fn write(path: impl AsRef<Path>, content: impl AsRef<[u8]>) -> Result<()> {
    write_bytes(path.as_ref(), content.as_ref())
}

fn write_bytes(path: &Path, content: &[u8]) -> Result<()> {
    let mut file = open(path, Flags::WRONLY | Flags::CREATE | Flags::TRUNC)?;
    file.write_all(content).on("write", path)
}

/// Sets a file's times to now; it is made when missing.
pub fn touch(path: &Path) -> Result<()> {
    let file = open(path, Flags::WRONLY | Flags::CREATE)?;
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    rustix::fs::futimens(&file, &times).on("touch", path)
}

/// Reads a whole file of at most `limit` bytes; a longer one is an error (`EFBIG`), so that nothing a user or
/// a broken disk left there fills the memory.
pub fn read_bounded(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let file = open_to_read(path)?;
    let mut content = Vec::new();
    while read_some(&file, &mut content).on("read", path)? {
        if content.len() > limit {
            return Err(Error::new("read", path.display(), Errno::FBIG));
        }
    }
    Ok(content)
}

/// A request to a driver, without libc's detour for times of 32 bits.
///
/// # Safety
/// `argument` is what the request wants: a number, or the address of memory that it may read and write.
pub(crate) unsafe fn ioctl(
    fd: BorrowedFd<'_>,
    request: u32,
    argument: usize,
) -> std::result::Result<i32, Errno> {
    // SAFETY: the caller's word.
    let result = unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), request, argument) };
    if result < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(i32::try_from(result).unwrap_or(i32::MAX))
}

/// Appends what a file or pipe has next; `false` at its end.
pub fn read_some(fd: impl AsFd, content: &mut Vec<u8>) -> std::result::Result<bool, Errno> {
    let mut buffer = [0; 4096];
    loop {
        match rustix::io::read(&fd, &mut buffer) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(count) => {
                content.extend_from_slice(buffer.get(..count).unwrap_or_default());
                return Ok(count > 0);
            }
        }
    }
}

/// Copies the content of a file into a new one, which its owner alone may read.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    let source = open_to_read(from)?;
    let target = open_with_mode(to, Flags::WRONLY | Flags::CREATE | Flags::EXCL, 0o600)?;
    while rustix::fs::sendfile(&target, &source, None, COPY_STEP).on("copy", from)? > 0 {}
    Ok(())
}

/// Drops what is cached of an open file, as far as it was written: the next read comes from the disk.
pub fn drop_cached(fd: impl AsFd) -> Result<()> {
    rustix::fs::fadvise(fd, 0, None, rustix::fs::Advice::DontNeed).context("drop the cache of", "file")
}

/// The text of a file below `/proc`, or of another small one; empty when it cannot be read.
pub fn text(path: impl AsRef<Path>) -> String {
    /// The longest text, in bytes.
    const LIMIT: usize = 1 << 20;
    String::from_utf8_lossy(&read_bounded(path.as_ref(), LIMIT).unwrap_or_default()).into_owned()
}

/// As [`read_bounded`], with `None` for a file that is not there.
pub fn read_optional(path: &Path, limit: usize) -> Result<Option<Vec<u8>>> {
    match read_bounded(path, limit) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.errno == Errno::NOENT => Ok(None),
        Err(error) => Err(error),
    }
}

/// The paths of what is in a folder, in the order of their names' bytes.
pub fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let names = Folder::open(folder)?.names();
    let mut names = names.map_err(|error| Error::new("list", folder.display(), error.errno))?;
    names.sort_unstable();
    let mut paths = Vec::with_capacity(names.len());
    for name in &names {
        paths.push(folder.join(OsStr::from_bytes(name)));
    }
    Ok(paths)
}

/// The path without links, `.` and `..`. It needs `/proc`.
pub fn real_path(path: &Path) -> Result<PathBuf> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = rustix::fs::open(name(path), flags, Mode::empty()).on("open", path)?;
    std::fs::read_link(own_link(fd.as_fd())).on("find the path of", path)
}

/// The link below `/proc` that leads where an open descriptor does.
pub(crate) fn own_link(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Another descriptor of the same open file; it closes on exec.
pub fn duplicate(fd: impl AsFd) -> Result<OwnedFd> {
    rustix::io::fcntl_dupfd_cloexec(fd, 3).context("duplicate", "descriptor")
}

/// Removes a file, or a folder with all below it. That it is not there is success.
pub fn remove_all(path: &Path) -> Result<()> {
    let Some(name) = path.file_name() else { return Err(Error::new("remove", path.display(), Errno::INVAL)) };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match Folder::open(folder) {
        Ok(folder) => folder.remove(name.as_bytes()),
        Err(error) if error.errno == Errno::NOENT => Ok(()),
        Err(error) => Err(error),
    }
}

/// The name under which the next content of `path` is written, beside it: `.NAME.new`.
pub fn sibling(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| Error::new("write", path.display(), Errno::INVAL))?;
    let mut fresh = std::ffi::OsString::from(".");
    fresh.push(name);
    fresh.push(".new");
    Ok(path.with_file_name(fresh))
}

/// Makes `link` lead to `target`, in place of whatever was there, in one step. One that is right stays untouched.
pub fn set_link(link: &Path, target: &Path) -> Result<()> {
    if std::fs::read_link(link).is_ok_and(|old| old == target) {
        return Ok(());
    }
    let fresh = sibling(link)?;
    let _ = std::fs::remove_file(&fresh);
    std::os::unix::fs::symlink(target, &fresh).on("link", &fresh)?;
    rename(&fresh, link)
}

/// Makes a folder and those above it; that it is there already is success.
pub fn make_folder(path: &Path, mode: u32) -> Result<()> {
    let made = || rustix::fs::mkdir(name(path), Mode::from_raw_mode(mode));
    let result = match (made(), path.parent()) {
        (Err(Errno::NOENT), Some(above)) if !above.as_os_str().is_empty() => {
            make_folder(above, mode)?;
            made()
        }
        (result, _) => result,
    };
    match result {
        Err(Errno::EXIST) if crate::status::is_dir(path) => Ok(()),
        result => result.on("create folder", path),
    }
}

/// Opens a folder as a handle for the `*at` system calls.
pub fn open_folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(name(path), flags, Mode::empty()).on("open", path)
}

/// Sets owner and group without following a link.
pub fn chown(path: &Path, uid: u32, gid: u32) -> Result<()> {
    let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
    rustix::fs::chownat(CWD, name(path), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).on("chown", path)
}

/// Sets the permission bits of what `path` leads to.
pub fn set_mode(path: &Path, mode: u32) -> Result<()> {
    rustix::fs::chmod(name(path), Mode::from_raw_mode(mode)).on("set mode of", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("minke-file-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn a_durable_write_replaces_the_content_and_leaves_nothing_else() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder("write");
        let path = folder.join("state");
        write_durable(&path, b"old and longer", 0o644).unwrap();
        write_durable(&path, b"new", 0o600).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        remove_durable(&path).unwrap();
        remove_durable(&path).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn folders_are_made_listed_and_removed() {
        let folder = folder("tree");
        make_folder(&folder.join("a/b/c"), 0o700).unwrap();
        make_folder(&folder.join("a/b"), 0o700).unwrap();
        std::fs::write(folder.join("a/file"), "x").unwrap();
        std::os::unix::fs::symlink("b", folder.join("a/link")).unwrap();
        assert_eq!(make_folder(&folder.join("a/file"), 0o700).unwrap_err().errno, Errno::EXIST);
        assert_eq!(make_folder(&folder.join("a/file/x"), 0o700).unwrap_err().errno, Errno::NOTDIR);
        let paths = list(&folder.join("a")).unwrap();
        assert_eq!(paths, ["b", "file", "link"].map(|name| folder.join("a").join(name)));
        assert_eq!(list(&folder.join("none")).unwrap_err().errno, Errno::NOENT);
        assert_eq!(real_path(&folder.join("a/link/../link/c/")).unwrap(), folder.join("a/b/c"));
        assert_eq!(real_path(&folder.join("none")).unwrap_err().errno, Errno::NOENT);
        remove_all(&folder.join("a/link")).unwrap();
        assert!(folder.join("a/b/c").is_dir());
        remove_all(&folder.join("none/none")).unwrap();
        remove_all(&folder).unwrap();
        assert!(!folder.exists());
        remove_all(&folder).unwrap();
    }

    #[test]
    fn one_has_the_lock() {
        let path = std::env::temp_dir().join(format!("minke-lock-{}", std::process::id()));
        let first = open(&path, Flags::RDWR | Flags::CREATE).unwrap();
        let second = open(&path, Flags::RDWR).unwrap();
        assert!(try_lock(&first).unwrap());
        assert!(!try_lock(&second).unwrap());
        drop(first);
        // A child that another test starts right now holds a copy of the first until it executes.
        crate::soon(|| try_lock(&second).unwrap().then_some(()));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn reads_are_bounded() {
        let folder = folder("read");
        let path = folder.join("file");
        std::fs::write(&path, [0u8; 100]).unwrap();
        assert_eq!(read_bounded(&path, 100).unwrap().len(), 100);
        assert_eq!(read_bounded(&path, 99).unwrap_err().errno, Errno::FBIG);
        assert!(read_optional(&folder.join("none"), 1).unwrap().is_none());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
