//! Which system calls a process may still make: seccomp(2). A daemon that reads the network calls [`allow`] when its
//! sockets are open; whoever takes it over then finds a kernel with some sixty calls instead of four hundred. A call that is
//! not allowed ends the process (SIGSYS), and the kernel's log names it (`audit: type=1326 … syscall=`).
//!
//! The kernel remembers for most numbers that they are allowed (since 5.11), so the length of the list costs no time.

use crate::{Context, Result, capability};
use rustix::io::Errno;

/// The number of a system call on this architecture.
pub type Call = u16;

macro_rules! calls {
    ($($(#[$on:meta])* $name:ident),* $(,)?) => { &[$($(#[$on])* { libc::$name as Call }),*] };
}

/// What each program needs: memory, its open descriptors, the clock, randomness, its end, and the event loop.
pub const LOOP: &[Call] = calls![
    SYS_epoll_pwait,
    SYS_epoll_pwait2,
    #[cfg(not(target_arch = "aarch64"))]
    SYS_epoll_wait,
    SYS_read,
    SYS_write,
    SYS_readv,
    SYS_writev,
    SYS_close,
    SYS_timerfd_settime,
    SYS_timerfd_create,
    SYS_epoll_ctl,
    SYS_epoll_create1,
    SYS_eventfd2,
    SYS_clock_gettime,
    SYS_gettimeofday,
    SYS_getrandom,
    SYS_brk,
    #[cfg(target_arch = "arm")]
    SYS_mmap2,
    #[cfg(not(target_arch = "arm"))]
    SYS_mmap,
    SYS_munmap,
    SYS_mremap,
    SYS_mprotect,
    SYS_madvise,
    SYS_futex,
    #[cfg(target_arch = "arm")]
    SYS_fcntl64,
    #[cfg(not(target_arch = "arm"))]
    SYS_fcntl,
    SYS_ioctl,
    SYS_rt_sigprocmask,
    SYS_rt_sigaction,
    SYS_rt_sigreturn,
    SYS_sigaltstack,
    SYS_restart_syscall,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_sched_yield,
    SYS_getpid,
    SYS_gettid,
    SYS_tkill,
    SYS_tgkill,
    SYS_exit,
    SYS_exit_group,
];

/// Calls of 32-bit ARM that libc's crate does not name, with times of 64 bits and one for the end of a signal handler
/// (arch/arm/tools/syscall.tbl): clock_gettime64, clock_nanosleep_time64, timerfd_settime64, ppoll_time64, recvmmsg_time64,
/// futex_time64, sigreturn.
#[cfg(target_arch = "arm")]
const LONG_TIMES: &[Call] = &[403, 407, 411, 414, 417, 422, 119];
#[cfg(not(target_arch = "arm"))]
const LONG_TIMES: &[Call] = &[];

/// Sockets: datagrams, connections, listeners. Those of the Internet, of this machine and of netlink; [`allow`] sees to it.
pub const SOCKETS: &[Call] = calls![
    SYS_recvmmsg,
    SYS_sendmmsg,
    SYS_recvmsg,
    SYS_sendmsg,
    SYS_recvfrom,
    SYS_sendto,
    SYS_socket,
    #[cfg(target_arch = "arm")]
    SYS_recv,
    #[cfg(target_arch = "arm")]
    SYS_send,
    SYS_connect,
    SYS_bind,
    SYS_listen,
    SYS_accept4,
    #[cfg(not(target_arch = "aarch64"))]
    SYS_poll,
    SYS_ppoll,
    SYS_getsockname,
    SYS_getpeername,
    SYS_getsockopt,
    SYS_setsockopt,
    SYS_shutdown,
];

/// Reading files and folders, and hearing of their changes.
pub const READING: &[Call] = calls![
    SYS_openat,
    #[cfg(not(target_arch = "aarch64"))]
    SYS_open,
    SYS_fstat,
    #[cfg(target_arch = "arm")]
    SYS_fstat64,
    #[cfg(target_arch = "arm")]
    SYS_fstatat64,
    #[cfg(not(target_arch = "arm"))]
    SYS_newfstatat,
    SYS_statx,
    SYS_getdents64,
    SYS_lseek,
    #[cfg(target_arch = "arm")]
    SYS__llseek,
    SYS_readlinkat,
    #[cfg(not(target_arch = "aarch64"))]
    SYS_readlink,
    SYS_inotify_add_watch,
    SYS_inotify_rm_watch,
];

/// Writing, replacing and removing files.
pub const WRITING: &[Call] = calls![
    SYS_fsync,
    SYS_fdatasync,
    SYS_fchmod,
    SYS_fchmodat,
    #[cfg(not(target_arch = "aarch64"))]
    SYS_chmod,
    SYS_ftruncate,
    #[cfg(target_arch = "arm")]
    SYS_ftruncate64,
    #[cfg(not(target_arch = "aarch64"))]
    SYS_rename,
    SYS_renameat,
    SYS_renameat2,
    #[cfg(not(target_arch = "aarch64"))]
    SYS_unlink,
    SYS_unlinkat,
    SYS_mkdirat,
    #[cfg(not(target_arch = "aarch64"))]
    SYS_mkdir,
];

/// Starting threads.
pub const THREADS: &[Call] = calls![
    SYS_clone,
    SYS_clone3,
    SYS_set_robust_list,
    SYS_set_tid_address,
    #[cfg(not(target_arch = "arm"))]
    SYS_rseq,
    SYS_prctl,
    SYS_sched_getaffinity,
    SYS_membarrier,
];

/// Setting and steering the clock; of 32-bit ARM also clock_settime64 and clock_adjtime64.
pub const CLOCK: &[Call] = &[
    libc::SYS_clock_adjtime as Call,
    libc::SYS_clock_settime as Call,
    #[cfg(target_arch = "arm")]
    404,
    #[cfg(target_arch = "arm")]
    405,
];

/// An instruction of the kernel's first BPF: `struct sock_filter` of `linux/filter.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Step {
    code: u16,
    /// How many instructions to skip when the test holds, and when it does not.
    then: u8,
    otherwise: u8,
    value: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    steps: *const Step,
}

// Codes of linux/bpf_common.h: load a word at a place, compare, test bits, return.
const LOAD: u16 = 0x20;
const IS: u16 = 0x15;
const HAS: u16 = 0x45;
const RETURN: u16 = 0x06;

// `linux/seccomp.h`.
const SECCOMP_SET_MODE_FILTER: usize = 1;
const SECCOMP_FILTER_FLAG_TSYNC: usize = 1;
const SECCOMP_RET_KILL_PROCESS: u32 = 0x8000_0000;
const SECCOMP_RET_ALLOW: u32 = 0x7fff_0000;

// Places in `struct seccomp_data`: the number, the architecture, and the lower half of an argument.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST_ARGUMENT: u32 = 16;
const THIRD_ARGUMENT: u32 = 32;

/// `linux/audit.h`: machine, 64 bits, little endian.
const OURS: u32 = if cfg!(target_arch = "x86_64") {
    0xC000_003E
} else if cfg!(target_arch = "aarch64") {
    0xC000_00B7
} else {
    0x4000_0028
};

/// AF_UNIX, AF_INET, AF_INET6, AF_NETLINK.
const FAMILIES: &[u32] = &[1, 2, 10, 16];
/// And AF_PACKET.
const WITH_PACKETS: &[u32] = &[1, 2, 10, 16, 17];
const PROT_EXEC: u32 = 4;

#[cfg(target_arch = "arm")]
const MAPPING: [libc::c_long; 2] = [libc::SYS_mmap2, libc::SYS_mprotect];
#[cfg(not(target_arch = "arm"))]
const MAPPING: [libc::c_long; 2] = [libc::SYS_mmap, libc::SYS_mprotect];

/// From here on this process, with all its threads and children, makes the calls of these sets and no others. Two of them
/// are limited: no memory becomes executable, and with [`SOCKETS`] only sockets of the families of the Internet, of this
/// machine and of netlink are made. There is no way back; programs that are executed gain no privileges.
///
/// The error tells of a kernel without filters (`EINVAL`, `ENOSYS`).
pub fn allow(sets: &[&[Call]]) -> Result<()> {
    install(&program(sets, FAMILIES))
}

/// The same, and sockets may be packet sockets too (packet(7)).
pub fn allow_packets(sets: &[&[Call]]) -> Result<()> {
    install(&program(sets, WITH_PACKETS))
}

fn install(steps: &[Step]) -> Result<()> {
    capability::no_new_privileges()?;
    let program = Program { length: u16::try_from(steps.len()).unwrap_or(0), steps: steps.as_ptr() };
    let (mode, flags) = (SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC);
    // SAFETY: `program` and the instructions that it points at live through the call, which reads no more than its length.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    if result == 0 {
        return Ok(());
    }
    let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL);
    Err(errno).context("limit", "system calls")
}

fn step(code: u16, then: u8, otherwise: u8, value: u32) -> Step {
    Step { code, then, otherwise, value }
}

/// Asks the architecture first, as numbers mean other calls on another one; then for the calls with limits; then down the
/// list. What is not in it falls through to the end of the process.
fn program(sets: &[&[Call]], families: &[u32]) -> Vec<Step> {
    let kill = step(RETURN, 0, 0, SECCOMP_RET_KILL_PROCESS);
    let pass = step(RETURN, 0, 0, SECCOMP_RET_ALLOW);
    let mut steps =
        vec![step(LOAD, 0, 0, ARCHITECTURE), step(IS, 1, 0, OURS), kill, step(LOAD, 0, 0, NUMBER)];
    for call in MAPPING {
        steps.push(step(IS, 0, 4, number(call)));
        steps.extend([step(LOAD, 0, 0, THIRD_ARGUMENT), step(HAS, 0, 1, PROT_EXEC), kill, pass]);
    }
    if sets.iter().any(|set| set.contains(&(libc::SYS_socket as Call))) {
        let mut left = families.len() as u8;
        steps.push(step(IS, 0, left.saturating_add(3), number(libc::SYS_socket)));
        steps.push(step(LOAD, 0, 0, FIRST_ARGUMENT));
        for family in families {
            steps.push(step(IS, left, 0, *family));
            left = left.saturating_sub(1);
        }
        steps.extend([kill, pass]);
    }
    for set in sets.iter().chain(&[LONG_TIMES]) {
        for call in *set {
            steps.extend([step(IS, 0, 1, u32::from(*call)), pass]);
        }
    }
    steps.push(kill);
    steps
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    /// Runs a filter as the kernel does.
    fn evaluate(steps: &[Step], architecture: u32, call: libc::c_long, arguments: [u32; 3]) -> bool {
        let (mut value, mut next) = (0, 0);
        loop {
            let Step { code, then, otherwise, value: wanted } = steps[next];
            next += 1;
            let holds = match code {
                LOAD => {
                    value = match wanted {
                        NUMBER => number(call),
                        ARCHITECTURE => architecture,
                        place => arguments[usize::try_from((place - FIRST_ARGUMENT) / 8).unwrap()],
                    };
                    continue;
                }
                RETURN => return wanted == SECCOMP_RET_ALLOW,
                IS => value == wanted,
                HAS => value & wanted != 0,
                other => panic!("unknown instruction {other:#x}"),
            };
            next += usize::from(if holds { then } else { otherwise });
        }
    }

    #[test]
    fn what_is_listed_passes_and_nothing_else() {
        let steps = program(&[LOOP, SOCKETS], FAMILIES);
        let may = |call, arguments| evaluate(&steps, OURS, call, arguments);
        for call in [libc::SYS_read, libc::SYS_epoll_ctl, libc::SYS_recvmmsg, libc::SYS_exit_group] {
            assert!(may(call, [0; 3]), "{call}");
            assert!(!evaluate(&steps, OURS ^ 1, call, [0; 3]), "{call} of another architecture");
        }
        for call in [
            libc::SYS_openat,
            libc::SYS_execve,
            libc::SYS_ptrace,
            libc::SYS_clone,
            libc::SYS_bpf,
            -1,
            1 << 30,
        ] {
            assert!(!may(call, [0; 3]), "{call}");
        }
        for (family, allowed) in
            [(1, true), (2, true), (10, true), (16, true), (17, false), (38, false), (40, false)]
        {
            assert_eq!(may(libc::SYS_socket, [family, 0, 0]), allowed, "family {family}");
        }
        let steps = program(&[LOOP, SOCKETS], WITH_PACKETS);
        for (family, allowed) in [(1, true), (2, true), (10, true), (16, true), (17, true), (38, false)] {
            assert_eq!(evaluate(&steps, OURS, libc::SYS_socket, [family, 0, 0]), allowed, "family {family}");
        }
        assert!(evaluate(&steps, OURS, libc::SYS_connect, [38, 0, 0]), "only of sockets is the family asked");
        for call in MAPPING {
            assert!(may(call, [0, 0, 3]) && !may(call, [0, 0, 5]) && !may(call, [0, 0, 7]));
        }
        assert!(!evaluate(&program(&[LOOP], FAMILIES), OURS, libc::SYS_socket, [2, 0, 0]));
    }

    /// The process of the tests below: limits itself and does what the variable says.
    #[test]
    #[ignore = "runs in a process of its own"]
    fn child() {
        let Ok(what) = std::env::var("MINKE_SECCOMP_CHILD") else { return };
        allow(&[LOOP, SOCKETS, READING]).unwrap();
        match what.as_str() {
            "file" => assert!(!std::fs::read("/proc/self/status").unwrap().is_empty()),
            "socket" => assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_ok()),
            "memory" => assert_eq!(vec![1u8; 8 << 20].len(), 8 << 20),
            "filtered" => {
                let text = std::fs::read_to_string("/proc/self/status").unwrap();
                assert!(text.contains("\nSeccomp:\t2\n") && text.contains("\nNoNewPrivs:\t1\n"));
            }
            "execute" => _ = Command::new("/bin/true").status(),
            "write" => _ = std::fs::remove_file("/nowhere"),
            "packet" => {
                let family = rustix::net::AddressFamily::PACKET;
                let _ = rustix::net::socket(family, rustix::net::SocketType::RAW, None);
            }
            other => panic!("{other}"),
        }
        std::process::exit(0);
    }

    fn run_child(what: &str) -> std::process::ExitStatus {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--ignored", "seccomp::tests::child"])
            .env("MINKE_SECCOMP_CHILD", what)
            .output();
        output.unwrap().status
    }

    #[test]
    fn the_kernel_ends_a_process_that_does_more() {
        for what in ["file", "socket", "memory", "filtered"] {
            assert_eq!(run_child(what).code(), Some(0), "{what}");
        }
        for what in ["execute", "write", "packet"] {
            assert_eq!(run_child(what).signal(), Some(libc::SIGSYS), "{what}");
        }
    }
}
