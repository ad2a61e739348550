//! Namespaces: fork(2), unshare(2), setns(2), and what a process sets up inside of new ones.
//!
//! A container's parent is a process with one thread, so that its forked child may do everything, allocation
//! included: no other thread can have held a lock at the moment of the fork. [`fork`] checks this.

use crate::path::name;
use crate::{Context, Error, Result};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// A kind of namespace, namespaces(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespace {
    /// The root of the control group tree.
    Cgroup,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Mount points.
    Mount,
    /// Network devices, stacks, ports.
    Network,
    /// Process ids. It takes effect for children.
    Pid,
    /// Host name and NIS domain name.
    Uts,
}

impl Namespace {
    fn flag(self) -> i32 {
        match self {
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Mount => libc::CLONE_NEWNS,
            Self::Network => libc::CLONE_NEWNET,
            Self::Pid => libc::CLONE_NEWPID,
            Self::Uts => libc::CLONE_NEWUTS,
        }
    }

    /// The name of its file below `/proc/PID/ns`.
    pub fn file(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Mount => "mnt",
            Self::Network => "net",
            Self::Pid => "pid",
            Self::Uts => "uts",
        }
    }
}

/// Leaves namespaces for new ones: unshare(2).
pub fn unshare(kinds: &[Namespace]) -> Result<()> {
    let flags = kinds.iter().fold(0, |flags, kind| flags | kind.flag());
    // Not CLONE_FILES or CLONE_FS.
    // SAFETY: the flags name namespaces only; none makes memory or descriptors private behind Rust's back.
    let result = unsafe { libc::unshare(flags) };
    check(result).context("unshare", "namespaces")
}

/// Opens a namespace of a process, to enter it later.
pub fn open(pid: i32, kind: Namespace) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{}", kind.file());
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(name(&path), flags, rustix::fs::Mode::empty()).on("open", path)
}

/// Opens this process's own namespace, to come back to it.
pub fn open_own(kind: Namespace) -> Result<OwnedFd> {
    let path = format!("/proc/self/ns/{}", kind.file());
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(name(&path), flags, rustix::fs::Mode::empty()).on("open", path)
}

/// Enters a namespace: setns(2). For process ids it takes effect for children only.
pub fn enter(namespace: impl AsFd, kind: Namespace) -> Result<()> {
    use std::os::fd::AsRawFd;
    let fd = namespace.as_fd().as_raw_fd();
    // SAFETY: `fd` is open for the whole call; the kernel checks that it is a namespace of this kind.
    let result = unsafe { libc::setns(fd, kind.flag()) };
    check(result).context("enter namespace", kind.file())
}

/// Which side of [`fork`] this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The parent, with the child's process id as the parent sees it.
    Parent(i32),
    /// The child.
    Child,
}

/// Forks a process that has one thread. `EBUSY` when it has more: then a child could find locks taken.
pub fn fork() -> Result<Side> {
    if threads()? != 1 {
        return Err(Error::new("fork", "a process with more than one thread", Errno::BUSY));
    }
    // So what the child does afterwards is not limited to async-signal-safe functions.
    // SAFETY: this is the only thread: the child's copy of every lock and of the allocator is consistent.
    let pid = unsafe { crate::process::fork() };
    check(pid).context("fork", "this process")?;
    Ok(if pid == 0 { Side::Child } else { Side::Parent(pid) })
}

fn threads() -> Result<usize> {
    Ok(crate::file::list(Path::new("/proc/self/task"))?.len())
}

/// Ends this process at once, without destructors or exit handlers: for the child of a fork.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(status) }
}

/// Asks for `SIGKILL` when the parent ends: PR_SET_PDEATHSIG, prctl(2).
pub fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context("set", "parent death signal")
}

/// Sets the NIS domain name of this UTS namespace.
pub fn set_domain_name(name: &str) -> Result<()> {
    rustix::system::setdomainname(name.as_bytes()).context("set domain name", name)
}

/// Makes `root` the root of this mount namespace and detaches the old one: pivot_root(2). `root` must be a
/// mount point.
pub fn pivot_root(root: &Path) -> Result<()> {
    rustix::process::chdir(name(root)).on("change to", root)?;
    // With both arguments the same folder, the old root ends up mounted over the new one: pivot_root(2),
    // section "pivot_root(c".", c".")".
    rustix::process::pivot_root(c".", c".").on("pivot_root to", root)?;
    let flags = rustix::mount::MountPropagationFlags::DOWNSTREAM | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change(c".", flags).on("make rslave", "old root")?;
    rustix::mount::unmount(c".", rustix::mount::UnmountFlags::DETACH).on("unmount", "old root")?;
    rustix::process::chdir(c"/").on("change to", "/")
}

/// Sets the working folder.
pub fn change_folder(path: &Path) -> Result<()> {
    rustix::process::chdir(name(path)).on("change to", path)
}

/// Sets the mask of permission bits that new files don't get.
pub fn set_umask(mask: u32) {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
}

/// Starts a session, so that this process has no controlling terminal and leads its own process group.
pub fn new_session() -> Result<()> {
    rustix::process::setsid().context("start", "session").map(|_| ())
}

/// Puts `fds` onto the descriptors 0, 1 and 2; they stay open over an exec.
pub fn set_standard_streams(fds: [&OwnedFd; 3]) -> Result<()> {
    rustix::stdio::dup2_stdin(fds[0]).context("duplicate", "standard input")?;
    rustix::stdio::dup2_stdout(fds[1]).context("duplicate", "standard output")?;
    rustix::stdio::dup2_stderr(fds[2]).context("duplicate", "standard error")
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn check(result: i32) -> std::result::Result<(), Errno> {
    if result < 0 { Err(last_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        // The test runner has more than one thread.
        let keep = std::thread::spawn(|| std::thread::park_timeout(std::time::Duration::from_secs(5)));
        assert_eq!(fork().unwrap_err().errno, Errno::BUSY);
        keep.thread().unpark();
        keep.join().unwrap();
    }
}
