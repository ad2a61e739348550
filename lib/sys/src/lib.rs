//! The kernel: the only crate in which `unsafe` may stand, each use with the reason why it is sound.
//!
//! One module per family of system calls. Functions take and return plain types; every error says what was
//! attempted and on which path or peer.

pub mod adjtime;
pub mod alarm;
pub mod autofs;
pub mod batch;
pub mod block;
pub mod capability;
pub mod cgroup;
pub mod channel;
pub mod clock;
pub mod datagram;
pub mod device;
pub mod device_filter;
pub mod dm;
pub mod entry;
mod error;
pub mod event;
pub mod file;
pub mod inotify;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub mod kexec;
pub mod limit;
pub mod machine;
pub mod memory;
mod message;
pub mod module;
pub mod mount;
pub mod multicast;
pub mod namespace;
pub mod netlink;
pub mod packet;
mod path;
pub mod process;
pub mod random;
mod rest;
pub mod rootfs;
pub mod rtc;
pub mod seccomp;
pub mod signal;
pub mod socket;
pub mod space;
pub mod stamp;
pub mod status;
pub mod stdio;
pub mod tcp;
pub mod terminal;
pub mod thread;
pub mod tree;
pub mod watchdog;

pub use error::{Context, Error, Result};
/// Error numbers, as in errno(3).
pub use rustix::io::Errno;

/// What `look` finds: at once, but while the kernel is busy with other things.
#[cfg(test)]
fn soon<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("nothing has come");
}
