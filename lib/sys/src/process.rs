//! Processes: spawn, wait, signal, execute; and what concerns the whole machine: reboot, host name.

use crate::event::{Interest, Poller};
use crate::{Context, Result};
use rustix::io::Errno;
use rustix::process::WaitOptions;
use std::ffi::{CStr, CString};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;
use std::time::Duration;

mod spawn;
mod system;

/// The signal of abort(3).
pub use libc::SIGABRT;
pub use spawn::{Credentials, Failure, Limit, Spawn, Terminal};
pub use system::{Ending, end_system, ignore_ctrl_alt_del, set_host_name};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It returned this status.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
}

impl Exit {
    /// Whether it returned 0.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "status {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A pipe: the ends for reading and writing, closed on exec.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context("make", "pipe")
}

unsafe extern "C" {
    /// POSIX.1-2024: fork(2) without the handlers of pthread_atfork(3) and without libc's own locks, which are 1.5 kB on
    /// ARMv6. What a child may do afterwards is the same where the parent has one thread, or where it only makes system calls.
    #[link_name = "_Fork"]
    pub(crate) fn fork() -> libc::pid_t;
}

/// Takes one child that has ended, without waiting; `None` when there is none (or no child at all).
pub fn reap() -> Option<(i32, Exit)> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) => return exit_of(status).map(|exit| (pid.as_raw_nonzero().get(), exit)),
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Waits for one child.
pub fn wait(pid: i32) -> Result<Exit> {
    let process = rustix::process::Pid::from_raw(pid);
    loop {
        match rustix::process::waitpid(process, WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                if let Some(exit) = exit_of(status) {
                    return Ok(exit);
                }
            }
            Ok(None) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).context("wait for process", pid),
        }
    }
}

/// As [`wait`], but no longer than `limit`; `None`: it runs on. The child's end is noticed by pidfd_open(2), so that no
/// other child is touched.
pub fn wait_within(pid: i32, limit: Duration) -> Result<Option<Exit>> {
    let Some(process) = rustix::process::Pid::from_raw(pid) else { return wait(pid).map(Some) };
    let handle = rustix::process::pidfd_open(process, rustix::process::PidfdFlags::empty());
    let handle = handle.context("watch process", pid)?;
    let poller = Poller::new()?;
    poller.add(&handle, 0, Interest::Read)?;
    let until = crate::clock::boottime().saturating_add(limit);
    let mut ready = Vec::new();
    loop {
        let left = until.saturating_sub(crate::clock::boottime());
        poller.wait(&mut ready, Some(left))?;
        if !ready.is_empty() {
            return wait(pid).map(Some);
        }
        if left.is_zero() {
            return Ok(None);
        }
    }
}

fn exit_of(status: rustix::process::WaitStatus) -> Option<Exit> {
    status.exit_status().map(Exit::Code).or_else(|| status.terminating_signal().map(Exit::Signal))
}

/// Sends a signal to a process; with a negative `pid` to the process group, with -1 to every process but
/// this one and PID 1. Signal 0 asks whether it is there.
pub fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: kill takes plain numbers and touches no memory of ours.
    let done = unsafe { libc::kill(pid, signal) };
    check(done).context("send signal to process", pid)
}

/// Replaces this process by `program`. It returns only an error. Signals are unblocked first.
pub fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> Result<()> {
    let arguments = spawn::pointers(arguments);
    let environment = spawn::pointers(environment);
    crate::signal::unblock_all()?;
    // SAFETY: both arrays end with a null pointer; they and their strings live through the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Err(last_errno()).context("execute", program.to_string_lossy())
}

/// This process's own environment, ready for [`execute`].
pub fn environment() -> Vec<CString> {
    use std::os::unix::ffi::OsStrExt;
    let join = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let mut line = name.as_bytes().to_vec();
        line.push(b'=');
        line.extend_from_slice(value.as_bytes());
        CString::new(line).ok()
    };
    std::env::vars_os().filter_map(join).collect()
}

/// Room for the handler of a fault, and for the registers of any processor that the kernel saves there.
const FAULT_STACK: usize = 16 << 10;

static ON_FAULT: OnceLock<Vec<CString>> = OnceLock::new();

/// From now on a fault (a bad address or instruction, an abort) executes this program again with these
/// arguments instead of ending the process. For PID 1, whose end is the kernel's panic.
pub fn restart_on_fault(arguments: Vec<CString>) -> Result<()> {
    let _ = ON_FAULT.set(arguments);
    // Where a fault is the end of the stack, its handler needs another. It is kept for good.
    let stack = Box::leak(Box::new([0_u8; FAULT_STACK]));
    let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: FAULT_STACK };
    // SAFETY: memory that nobody else uses, for as long as the process lives.
    let done = unsafe { libc::sigaltstack(&raw const stack, std::ptr::null_mut()) };
    check(done).context("set stack of", "fault handler")?;
    for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGABRT] {
        handle(signal, fault as *const () as usize)?;
    }
    Ok(())
}

extern "C" fn fault(_signal: i32) {
    let _ = rustix::io::write(
        rustix::stdio::stderr(),
        b"[init][BUG] a fault ended PID 1's code; it starts again\n",
    );
    restart();
}

/// Executes this program again with the arguments given to [`restart_on_fault`].
pub fn restart() {
    let mut pointers = [std::ptr::null(); 8];
    let arguments = ON_FAULT.get().map(Vec::as_slice).unwrap_or_default();
    for (slot, argument) in pointers.iter_mut().take(7).zip(arguments) {
        *slot = argument.as_ptr();
    }
    let _ = crate::signal::unblock_all();
    // SAFETY: the array ends with a null pointer, as at most 7 of its 8 places are filled; the strings are static.
    unsafe { libc::execv(c"/proc/self/exe".as_ptr(), pointers.as_ptr()) };
}

/// A write to a pipe that nobody reads is an error, and no signal.
pub(crate) fn ignore_broken_pipes() -> Result<()> {
    handle(libc::SIGPIPE, libc::SIG_IGN)
}

/// Sets what a signal does: a handler's address, `SIG_DFL` or `SIG_IGN`.
fn handle(signal: i32, handler: usize) -> Result<()> {
    // SAFETY: all-zero bytes are a valid `sigaction`: no flags, an empty mask, the default action.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = libc::SA_NODEFER | libc::SA_ONSTACK;
    // SAFETY: `action` is initialised; a handler given here makes only async-signal-safe calls.
    let done = unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) };
    check(done).context("set handler of signal", signal)
}

fn check(result: i32) -> std::result::Result<(), Errno> {
    if result >= 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_are_told_apart() {
        let spawn = |script: &str| {
            let mut spawn = Spawn::new(c"/bin/sh");
            spawn.arguments = vec![c"sh".into(), c"-c".into(), CString::new(script).unwrap()];
            wait(spawn.start().unwrap()).unwrap()
        };
        assert_eq!(spawn("exit 3"), Exit::Code(3));
        assert_eq!(spawn("kill -9 $$"), Exit::Signal(9));
        assert_eq!(spawn("kill -PIPE $$; exit 1"), Exit::Signal(13), "SIGPIPE has its default action again");
    }

    #[test]
    fn a_wait_has_its_limit() {
        let mut spawn = Spawn::new(c"/bin/sh");
        spawn.arguments = vec![c"sh".into(), c"-c".into(), c"exec sleep 600".into()];
        let pid = spawn.start().unwrap();
        assert_eq!(wait_within(pid, Duration::from_millis(30)).unwrap(), None);
        kill(-pid, libc::SIGKILL).or_else(|_| kill(pid, libc::SIGKILL)).unwrap();
        assert_eq!(wait_within(pid, Duration::from_secs(60)).unwrap(), Some(Exit::Signal(9)));
    }

    #[test]
    fn a_program_that_is_not_there_gives_the_exit_status_for_it() {
        let pid = Spawn::new(c"/nowhere/program").start().unwrap();
        assert_eq!(wait(pid).unwrap(), Exit::Code(Failure::Exec.status()));
    }
}
