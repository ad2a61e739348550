//! The hardware watchdog, which resets the machine when nobody feeds it: Documentation/watchdog/watchdog-api.rst of
//! Linux. A machine has one, and one process holds it: this module keeps it open until [`stop`].

use crate::file::{self, Flags};
use crate::{Context, Errno, Result};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

const PATH: &str = "/dev/watchdog0";
/// `_IOWR('W', 6, int)`.
const SET_TIMEOUT: u32 = 0xC004_5706;
/// `_IOR('W', 7, int)`.
const GET_TIMEOUT: u32 = 0x8004_5707;
/// By which one program of a process leaves the device to the next: the number of its descriptor.
const VARIABLE: &str = "WATCHDOG_FD";

/// The descriptor; -1: not open.
static DEVICE: AtomicI32 = AtomicI32::new(-1);

fn device() -> Option<BorrowedFd<'static>> {
    let number = DEVICE.load(Ordering::Relaxed);
    // SAFETY: it was taken from its owner to be kept here, and `stop` forgets it before it is closed.
    (number >= 0).then(|| unsafe { BorrowedFd::borrow_raw(number) })
}

/// Opens it, which starts it, unless it is open. `false`: there is none, at least not yet.
pub fn open() -> Result<bool> {
    if device().is_none() {
        match file::open(PATH, Flags::WRONLY) {
            Ok(file) => DEVICE.store(file.into_raw_fd(), Ordering::Relaxed),
            Err(error) if matches!(error.errno, Errno::NOENT | Errno::NODEV | Errno::NXIO) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Sets how long it waits for food. The answer is how long it does: drivers have limits.
pub fn set_limit(limit: Duration) -> Duration {
    let Some(device) = device() else { return limit };
    let mut seconds = i32::try_from(limit.as_secs()).unwrap_or(i32::MAX);
    for request in [SET_TIMEOUT, GET_TIMEOUT] {
        // SAFETY: both requests read and write an `int` at this address, which lives through the call.
        if unsafe { file::ioctl(device.as_fd(), request, (&raw mut seconds).addr()) }.is_ok() {
            break;
        }
    }
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
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
pub fn take() -> Result<()> {
    let number = std::env::var(VARIABLE).ok().and_then(|text| minke_wire::text::number(&text));
    let Some(number) = number.filter(|number| *number > 2) else { return Ok(()) };
    // Somebody may have set the variable without that.
    let path = std::fs::read_link(format!("/proc/self/fd/{number}")).on("find", PATH)?;
    if path.as_os_str() == PATH {
        DEVICE.store(number, Ordering::Relaxed);
        if let Some(device) = device() {
            rustix::io::fcntl_setfd(device, rustix::io::FdFlags::CLOEXEC).on("keep", PATH)?;
        }
    }
    Ok(())
}
