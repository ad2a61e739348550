//! Control groups version 2: create, move, limit, kill, watch (Documentation/admin-guide/cgroup-v2.rst).

use crate::{Context, Result};
use rustix::fs::inotify;
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where the hierarchy is mounted.
pub const ROOT: &str = "/sys/fs/cgroup";

/// Bytes read of one control file.
const FILE_LIMIT: usize = 256 << 10;

/// Makes a group and those above it.
pub fn create(group: &Path) -> Result<()> {
    crate::file::make_folder(group, 0o755)
}

/// Removes a group and those below it; they must be empty of processes. Not there is success.
pub fn remove(group: &Path) -> Result<()> {
    for child in children(group) {
        remove(&child)?;
    }
    match std::fs::remove_dir(group) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other.on("remove", group),
    }
}

/// The groups directly below.
pub fn children(group: &Path) -> Vec<PathBuf> {
    let mut children = crate::file::list(group).unwrap_or_default();
    children.retain(|path| crate::status::is_dir(path));
    children
}

/// Writes a control file, for instance `memory.max`.
pub fn set(group: &Path, file: &str, value: &str) -> Result<()> {
    crate::file::write(group.join(file), value)
}

/// Reads a control file.
pub fn get(group: &Path, file: &str) -> Result<String> {
    let content = crate::file::read_bounded(&group.join(file), FILE_LIMIT)?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// Passes every controller that the group has on to its children.
pub fn delegate_all(group: &Path) -> Result<()> {
    let controllers = get(group, "cgroup.controllers")?;
    for controller in controllers.split_whitespace() {
        // One by one: a controller that cannot be passed on must not keep the others back.
        let _ = set(group, "cgroup.subtree_control", &format!("+{controller}"));
    }
    Ok(())
}

/// Moves a process into the group.
pub fn attach(group: &Path, pid: i32) -> Result<()> {
    set(group, "cgroup.procs", &pid.to_string())
}

/// The processes in the group itself and, when `deep`, in all below it.
pub fn processes(group: &Path, deep: bool) -> Vec<i32> {
    let text = get(group, "cgroup.procs").unwrap_or_default();
    let mut pids: Vec<i32> = text.lines().filter_map(minke_wire::text::number).collect();
    if deep {
        for child in children(group) {
            pids.extend(processes(&child, true));
        }
    }
    pids
}

/// Whether the group or one below it holds a process. A group that is not there holds none.
pub fn populated(group: &Path) -> bool {
    get(group, "cgroup.events").is_ok_and(|text| text.lines().any(|line| line == "populated 1"))
}

/// Kills every process in the group and below it at once (`cgroup.kill`, kernel 5.14).
pub fn kill(group: &Path) -> Result<()> {
    match set(group, "cgroup.kill", "1") {
        Err(error) if error.errno == Errno::NOENT && crate::status::exists(group) => {
            for pid in processes(group, true) {
                let _ = crate::process::kill(pid, crate::signal::SIGKILL);
            }
            Ok(())
        }
        Err(error) if error.errno == Errno::NOENT => Ok(()),
        other => other,
    }
}

/// Tells when groups become empty or populated, by inotify(7) on their `cgroup.events`.
#[derive(Debug)]
pub struct Watch {
    inotify: OwnedFd,
}

impl Watch {
    /// A watch on nothing.
    pub fn new() -> Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Ok(Self { inotify: inotify::init(flags).context("create", "inotify")? })
    }

    /// Starts to watch a group; the number comes back from [`Watch::take`]. It ends with the group.
    pub fn add(&self, group: &Path) -> Result<i32> {
        let path = group.join("cgroup.events");
        inotify::add_watch(&self.inotify, crate::path::name(&path), inotify::WatchFlags::MODIFY)
            .on("watch", &path)
    }

    /// The numbers of the groups that changed since the last call.
    pub fn take(&self) -> Vec<i32> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut changed = Vec::new();
        while let Ok(event) = reader.next() {
            if event.events().contains(inotify::ReadFlags::MODIFY) && !changed.contains(&event.wd()) {
                changed.push(event.wd());
            }
        }
        changed
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
