//! The start of the program on the device, in place of std's: that one brings a guard for stack overflows with
//! its table of threads (6 kB of code), and aborts where `/dev/null` is missing, as in an initramfs.

use rustix::fs::{Mode, OFlags};
use std::ffi::{CStr, OsStr, OsString, c_char};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

/// Defines C's `main` as a call of `$run`, a `fn(Vec<OsString>) -> u8` from arguments to exit status.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        // SAFETY: the only `main` of a program that has none of std's.
        #[unsafe(no_mangle)]
        extern "C" fn main(count: i32, arguments: *const *const std::ffi::c_char) -> i32 {
            // SAFETY: C's start code passes the arguments so, and they stay.
            let arguments = unsafe { $crate::entry::arguments(count, arguments) };
            $crate::entry::prepare();
            i32::from($run(arguments))
        }
    };
}

/// The arguments of the program.
///
/// # Safety
/// `arguments` points to `count` C strings.
#[doc(hidden)]
pub unsafe fn arguments(count: i32, arguments: *const *const c_char) -> Vec<OsString> {
    let mut list = Vec::new();
    for place in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: within the array, by the caller's word.
        let argument = unsafe { arguments.add(place) };
        // SAFETY: as above.
        let argument = unsafe { *argument };
        // SAFETY: a C string, by the caller's word.
        let argument = unsafe { CStr::from_ptr(argument) };
        list.push(OsStr::from_bytes(argument.to_bytes()).to_owned());
    }
    list
}

/// What every program may rely on: descriptors 0 to 2 are open, so that no file gets one of these numbers, and a
/// write to a closed pipe is an error instead of a signal.
#[doc(hidden)]
pub fn prepare() {
    for number in 0..3 {
        // SAFETY: only asked whether it is open.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        if rustix::io::fcntl_getfd(fd).is_err() {
            // The lowest free number is this one. Without `/dev/null` it stays free.
            let null = rustix::fs::open(c"/dev/null", OFlags::RDWR, Mode::empty());
            std::mem::forget(null);
        }
    }
    let _ = crate::process::ignore_broken_pipes();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_taken_as_they_are() {
        let strings = [c"a".as_ptr(), c"\xff b".as_ptr(), c"".as_ptr(), std::ptr::null()];
        // SAFETY: three C strings.
        let list = unsafe { arguments(3, strings.as_ptr()) };
        assert_eq!(list, ["a".into(), OsStr::from_bytes(b"\xff b").to_owned(), OsString::new()]);
    }
}
