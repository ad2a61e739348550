//! The hardware watchdog, which resets the machine when nobody feeds it: Documentation/watchdog/watchdog-api.rst of
//! Linux. A machine has one, and one process holds it: this module keeps it open until [`stop`].

use crate::file::{self, Flags};
use crate::{Errno, Result};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::path::Path;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

const PATH: &str = "/dev/watchdog0";
/// Documentation/ABI/testing/sysfs-class-watchdog.
const NOWAYOUT: &str = "/sys/class/watchdog/watchdog0/nowayout";
/// `_IOWR('W', 6, int)`.
const SET_TIMEOUT: u32 = 0xC004_5706;
/// `_IOR('W', 7, int)`.
const GET_TIMEOUT: u32 = 0x8004_5707;
/// By which one program of a process leaves the device to the next: the number of its descriptor.
const VARIABLE: &str = "MINKE_WATCHDOG";

/// The descriptor; -1: not open.
static DEVICE: AtomicI32 = AtomicI32::new(-1);

fn device() -> Option<BorrowedFd<'static>> {
    let number = DEVICE.load(Ordering::Relaxed);
    // SAFETY: it was taken from its owner to be kept here, and `stop` forgets it before it is closed.
    (number >= 0).then(|| unsafe { BorrowedFd::borrow_raw(number) })
}

/// Whether the kernel says that [`stop`] would not stop it (`nowayout`).
pub fn is_for_good() -> bool {
    file::read_bounded(Path::new(NOWAYOUT), 8).is_ok_and(|content| content.starts_with(b"1"))
}

/// Opens it, which starts it, unless it is open. `false`: there is none, at least not yet.
pub fn open() -> Result<bool> {
    open_at(PATH)
}

fn open_at(path: &str) -> Result<bool> {
    if device().is_none() {
        match file::open(path, Flags::WRONLY) {
            Ok(file) => DEVICE.store(file.into_raw_fd(), Ordering::Relaxed),
            Err(error) if matches!(error.errno, Errno::NOENT | Errno::NODEV | Errno::NXIO) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Sets how long it waits for food. The answer is how long it does, a second or more: drivers have limits.
pub fn set_limit(limit: Duration) -> Duration {
    let Some(device) = device() else { return limit };
    let mut seconds = i32::try_from(limit.as_secs()).unwrap_or(i32::MAX);
    for request in [SET_TIMEOUT, GET_TIMEOUT] {
        // SAFETY: both requests read and write an `int` at this address, which lives through the call.
        if unsafe { file::ioctl(device.as_fd(), request, (&raw mut seconds).addr()) }.is_ok() {
            break;
        }
    }
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1))
}

/// Feeds it.
pub fn feed() {
    write(b"\0");
}

/// Stops it, where the driver allows that, and closes it.
pub fn stop() {
    write(b"V");
    let number = DEVICE.swap(-1, Ordering::Relaxed);
    if number >= 0 {
        // SAFETY: nobody else has this descriptor, and it is forgotten.
        unsafe { rustix::io::close(number) };
    }
}

fn write(byte: &[u8]) {
    if let Some(device) = device() {
        let _ = rustix::io::write(device, byte);
    }
}

/// Lets the next program that this process executes have it, by a line of its environment. Closed, it would tell in the
/// kernel's log that it was not stopped.
pub fn leave() -> Option<CString> {
    let device = device()?;
    rustix::io::fcntl_setfd(device, rustix::io::FdFlags::empty()).ok()?;
    CString::new(format!("{VARIABLE}={}", DEVICE.load(Ordering::Relaxed))).ok()
}

/// Takes what an earlier program of this process has left.
pub fn take() {
    let number = std::env::var(VARIABLE).ok().and_then(|text| minke_wire::text::number(&text));
    DEVICE.store(number.unwrap_or(-1), Ordering::Relaxed);
    let kept = device().map(|device| rustix::io::fcntl_setfd(device, rustix::io::FdFlags::CLOEXEC));
    if !matches!(kept, Some(Ok(()))) {
        DEVICE.store(-1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Not a test of its own: the next program, when this executable is started as it.
    #[test]
    fn next() {
        if std::env::var_os(VARIABLE).is_some() {
            take();
            feed();
            assert!(device().is_some() && leave().is_some());
            stop();
            feed();
        }
    }

    #[test]
    fn it_is_fed_by_one_program_after_the_other() {
        let path = std::env::temp_dir().join(format!("minke-watchdog-{}", std::process::id()));
        assert!(!open_at(path.to_str().unwrap()).unwrap(), "it may come later");
        feed();
        std::fs::write(&path, "").unwrap();
        assert!(open_at(path.to_str().unwrap()).unwrap());
        feed();
        // No driver: the limit is what was wanted.
        assert_eq!(set_limit(Duration::from_secs(7)), Duration::from_secs(7));
        let line = leave().unwrap().into_string().unwrap();
        let (name, number) = line.split_once('=').unwrap();
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", "watchdog::tests::next"]).env(name, number);
        assert!(program.status().unwrap().success());
        assert_eq!(std::fs::read(&path).unwrap(), b"\0\0V");
        std::fs::remove_file(&path).unwrap();
    }
}
