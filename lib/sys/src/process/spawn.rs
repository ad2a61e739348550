//! Starting a program with everything about it set: group, user, limits, descriptors, capabilities.
//!
//! The parent prepares all memory. Between fork and exec the child makes system calls only, so this is sound
//! in a process with threads, and a full memory cannot stop it half-way.

use crate::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid};
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The resources of setrlimit(2).
pub use rustix::process::Resource as Limit;

/// A program to start. Everything but the program has a default: no arguments, no environment, this
/// process's descriptors, user and limits.
#[derive(Debug)]
pub struct Spawn {
    /// Absolute path.
    pub program: CString,
    /// The arguments, beginning with the name it is called by.
    pub arguments: Vec<CString>,
    /// `NAME=VALUE` lines.
    pub environment: Vec<CString>,
    /// Standard input, output, error.
    pub stdio: [Option<OwnedFd>; 3],
    /// What standard input is to the program.
    pub terminal: Terminal,
    /// It stays in this process's session and group: a mount point that this process keeps is not automatic for it.
    pub same_group: bool,
    /// Further descriptors that the program gets as 3, 4, ….
    pub inherited: Vec<OwnedFd>,
    /// The name of an environment variable that tells the program its own process id, as sd_listen_fds(3)
    /// wants it.
    pub tell_pid_as: Option<&'static str>,
    /// The `cgroup.procs` file of the control group it starts in.
    pub cgroup: Option<CString>,
    /// User and groups; `None` stays as it is.
    pub credentials: Option<Credentials>,
    /// Working folder.
    pub folder: Option<CString>,
    /// A missing working folder is no failure.
    pub folder_optional: bool,
    /// Permission bits that new files do not get.
    pub umask: Option<u32>,
    /// Scheduling priority, -20 to 19.
    pub nice: Option<i32>,
    /// Text for `oom_score_adj`, -1000 to 1000.
    pub oom_score: Option<CString>,
    /// Resource limits, soft and hard; `None` is no limit.
    pub limits: Vec<(Limit, Option<u64>, Option<u64>)>,
    /// Capabilities that it can have at most: a bit mask.
    pub bounding: Option<u64>,
    /// Capabilities that it has though it is no root: a bit mask.
    pub ambient: u64,
    /// It and its children never gain privileges by executing something.
    pub no_new_privileges: bool,
}

/// User id, group id, supplementary groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary group ids.
    pub groups: Vec<u32>,
}

/// What standard input is to the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// Nothing special.
    No,
    /// Its controlling terminal, taken from whoever has it.
    Controlling,
}

/// What failed in the child before the program ran; the numbers are systemd's exit codes, systemd.exec(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Working folder.
    Chdir,
    /// Priority.
    Nice,
    /// Passing descriptors.
    Fds,
    /// The program cannot be executed.
    Exec,
    /// Resource limits.
    Limits,
    /// OOM score.
    OomAdjust,
    /// Standard input, output, error.
    Stdio,
    /// Groups.
    Group,
    /// User.
    User,
    /// Capabilities.
    Capabilities,
    /// Control group.
    Cgroup,
    /// `no_new_privs`.
    NoNewPrivileges,
}

impl Failure {
    const ALL: [Self; 12] = [
        Self::Chdir,
        Self::Nice,
        Self::Fds,
        Self::Exec,
        Self::Limits,
        Self::OomAdjust,
        Self::Stdio,
        Self::Group,
        Self::User,
        Self::Capabilities,
        Self::Cgroup,
        Self::NoNewPrivileges,
    ];

    /// The exit status that tells this failure.
    pub fn status(self) -> i32 {
        match self {
            Self::Chdir => 200,
            Self::Nice => 201,
            Self::Fds => 202,
            Self::Exec => 203,
            Self::Limits => 205,
            Self::OomAdjust => 206,
            Self::Stdio => 209,
            Self::Group => 216,
            Self::User => 217,
            Self::Capabilities => 218,
            Self::Cgroup => 219,
            Self::NoNewPrivileges => 227,
        }
    }

    /// The name that systemd gives the exit status `status`, when it is one of these.
    pub fn name(status: i32) -> Option<&'static str> {
        let failure = Self::ALL.into_iter().find(|failure| failure.status() == status)?;
        Some(match failure {
            Self::Chdir => "CHDIR",
            Self::Nice => "NICE",
            Self::Fds => "FDS",
            Self::Exec => "EXEC",
            Self::Limits => "LIMITS",
            Self::OomAdjust => "OOM_ADJUST",
            Self::Stdio => "STDIO",
            Self::Group => "GROUP",
            Self::User => "USER",
            Self::Capabilities => "CAPABILITIES",
            Self::Cgroup => "CGROUP",
            Self::NoNewPrivileges => "NO_NEW_PRIVILEGES",
        })
    }
}

impl Spawn {
    /// A program with all defaults.
    pub fn new(program: &CStr) -> Self {
        Self {
            program: program.into(),
            arguments: vec![program.into()],
            environment: Vec::new(),
            stdio: [None, None, None],
            terminal: Terminal::No,
            same_group: false,
            inherited: Vec::new(),
            tell_pid_as: None,
            cgroup: None,
            credentials: None,
            folder: None,
            folder_optional: false,
            umask: None,
            nice: None,
            oom_score: None,
            limits: Vec::new(),
            bounding: None,
            ambient: 0,
            no_new_privileges: false,
        }
    }

    /// Starts it in a session of its own with all signals unblocked and at their default, and returns its
    /// process id. What fails in the child shows as its exit status: [`Failure`].
    pub fn start(&self) -> Result<i32> {
        let arguments = pointers(&self.arguments);
        let mut pid_line =
            self.tell_pid_as.map_or_else(Vec::new, |name| format!("{name}=0000000000\0").into_bytes());
        let mut environment = pointers(&self.environment);
        if !pid_line.is_empty() {
            environment.insert(0, pid_line.as_ptr().cast());
        }
        let groups: Vec<Gid> = match &self.credentials {
            Some(credentials) => credentials.groups.iter().map(|gid| Gid::from_raw(*gid)).collect(),
            None => Vec::new(),
        };
        let inherited = self.inherited_copies()?;
        crate::rest::disturb();
        // SAFETY: the child makes system calls on memory that was prepared above, and ends by exec or _exit.
        let pid = unsafe { super::fork() };
        if pid != 0 {
            return super::check(pid).context("start", self.program.to_string_lossy()).map(|()| pid);
        }
        if let (Some(line), Some(first)) = (write_own_pid(&mut pid_line), environment.first_mut()) {
            *first = line;
        }
        let failure = match self.set_up(&groups, &inherited) {
            Ok(()) => {
                // SAFETY: both arrays end with a null pointer; they and their strings live through the call.
                unsafe { libc::execve(self.program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
                Failure::Exec
            }
            Err(failure) => failure,
        };
        // SAFETY: ends this process without running anything of the parent's.
        unsafe { libc::_exit(failure.status()) }
    }

    /// Copies of the descriptors that are passed on, above the numbers that they will get, so that none is
    /// overwritten before its turn.
    fn inherited_copies(&self) -> Result<Vec<OwnedFd>> {
        let above = i32::try_from(self.inherited.len()).unwrap_or(i32::MAX).saturating_add(3);
        let copy =
            |fd: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(fd, above).context("duplicate", fd.as_raw_fd());
        self.inherited.iter().map(copy).collect()
    }

    fn set_up(&self, groups: &[Gid], inherited: &[OwnedFd]) -> std::result::Result<(), Failure> {
        if !self.same_group {
            let _ = rustix::process::setsid();
        }
        let _ = super::handle(libc::SIGPIPE, libc::SIG_DFL);
        let _ = crate::signal::unblock_all();
        if let Some(group) = &self.cgroup {
            write_file(CWD, group, b"0").map_err(|_| Failure::Cgroup)?;
        }
        self.set_up_descriptors(inherited)?;
        if let Some(nice) = self.nice {
            rustix::process::setpriority_process(None, nice).map_err(|_| Failure::Nice)?;
        }
        if let Some(score) = &self.oom_score {
            match write_file(CWD, c"/proc/self/oom_score_adj", score.to_bytes()) {
                // Without CAP_SYS_RESOURCE, in a container, the service runs all the same.
                Ok(()) | Err(Errno::ACCESS | Errno::PERM) => {}
                Err(_) => return Err(Failure::OomAdjust),
            }
        }
        for (resource, soft, hard) in &self.limits {
            set_limit(*resource, *soft, *hard)?;
        }
        if let Some(mask) = self.umask {
            rustix::process::umask(Mode::from_raw_mode(mask));
        }
        self.set_up_privileges(groups)?;
        if let Some(folder) = &self.folder
            && rustix::process::chdir(folder.as_c_str()).is_err()
            && !self.folder_optional
        {
            return Err(Failure::Chdir);
        }
        Ok(())
    }

    fn set_up_descriptors(&self, inherited: &[OwnedFd]) -> std::result::Result<(), Failure> {
        // A service manager's own descriptors 0 to 2 are open, so that none of those passed on is below 3.
        for (fd, number) in self.stdio.iter().zip(0..) {
            if let Some(fd) = fd {
                duplicate(fd.as_fd(), number).map_err(|()| Failure::Stdio)?;
            }
        }
        if self.terminal == Terminal::Controlling && self.stdio.first().is_some_and(Option::is_some) {
            // SAFETY: descriptor 0 was set up above and stays open until exec.
            let input = unsafe { BorrowedFd::borrow_raw(0) };
            // A terminal that another session holds is taken from it: the argument 1, for root alone.
            // SAFETY: this request takes a number.
            let _ = unsafe { crate::file::ioctl(input, libc::TIOCSCTTY as _, 1) };
        }
        for (fd, number) in inherited.iter().zip(3..) {
            duplicate(fd.as_fd(), number).map_err(|()| Failure::Fds)?;
        }
        Ok(())
    }

    fn set_up_privileges(&self, groups: &[Gid]) -> std::result::Result<(), Failure> {
        if let Some(credentials) = &self.credentials {
            rustix::thread::set_thread_groups(groups).map_err(|_| Failure::Group)?;
            let gid = Gid::from_raw(credentials.gid);
            rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(|_| Failure::Group)?;
        }
        if let Some(bounding) = self.bounding {
            drop_bounding(bounding);
        }
        if let Some(credentials) = &self.credentials {
            if self.ambient != 0 {
                rustix::thread::set_keep_capabilities(true).map_err(|_| Failure::Capabilities)?;
            }
            let uid = Uid::from_raw(credentials.uid);
            rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(|_| Failure::User)?;
        }
        if self.ambient != 0 {
            set_ambient(self.ambient).map_err(|()| Failure::Capabilities)?;
        }
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true).map_err(|_| Failure::NoNewPrivileges)?;
        }
        Ok(())
    }
}

/// Writes this process's id over the zeros at the end of `NAME=0000000000\0`, without allocating. Leading
/// zeros stay, which the readers' number parsers accept. `None` for an empty line.
fn write_own_pid(line: &mut [u8]) -> Option<*const c_char> {
    if line.is_empty() {
        return None;
    }
    let mut rest = std::process::id();
    for digit in line.iter_mut().rev().skip(1).take(10) {
        *digit = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or(0));
        rest /= 10;
    }
    Some(line.as_ptr().cast())
}

/// The argument array of exec: pointers to the strings and a null pointer at the end.
pub(super) fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|string| string.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

fn write_file(folder: BorrowedFd<'_>, path: &CStr, content: &[u8]) -> std::result::Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::openat(folder, path, flags, Mode::empty())?;
    rustix::io::write(&fd, content).map(|_| ())
}

fn duplicate(fd: BorrowedFd<'_>, number: i32) -> std::result::Result<(), ()> {
    // SAFETY: replaces a standard descriptor, which no object of this child owns.
    let done = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    super::check(done).map_err(|_| ())
}

fn set_limit(resource: Resource, soft: Option<u64>, hard: Option<u64>) -> std::result::Result<(), Failure> {
    let wanted = Rlimit { current: soft, maximum: hard };
    if rustix::process::setrlimit(resource, wanted).is_ok() {
        return Ok(());
    }
    // More than this process may give: as much as there is, as systemd does it.
    let most = rustix::process::getrlimit(resource).maximum;
    let least = |limit: Option<u64>| match (limit, most) {
        (Some(limit), Some(most)) => Some(limit.min(most)),
        (limit, most) => limit.or(most),
    };
    let reduced = Rlimit { current: least(soft), maximum: least(hard) };
    rustix::process::setrlimit(resource, reduced).map_err(|_| Failure::Limits)
}

fn drop_bounding(keep: u64) {
    for number in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        if keep & capability.bits() == 0 {
            // A number that this kernel does not know is refused, which is as good.
            let _ = rustix::thread::remove_capability_from_bounding_set(capability);
        }
    }
}

fn set_ambient(ambient: u64) -> std::result::Result<(), ()> {
    let set = CapabilitySet::from_bits_retain(ambient);
    let sets = CapabilitySets { effective: set, permitted: set, inheritable: set };
    rustix::thread::set_capabilities(None, sets).map_err(|_| ())?;
    for capability in set.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true).map_err(|_| ())?;
    }
    Ok(())
}
