//! Threads: one way to start one, since each kind of closure would bring a copy of that code.

use crate::error::errno_of;
use crate::{Error, Result};

/// Starts a thread that does `work`. `name` shows in tools.
pub fn spawn(name: &'static str, work: Box<dyn FnOnce() + Send>) -> Result<()> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    thread.spawn(work).map(|_| ()).map_err(|error| Error::new("start thread", name, errno_of(&error)))
}

/// Instead of musl's, which can also name other threads, by a path that it makes with `snprintf`: the only
/// use of its formatting code, 9 kB. std names the calling thread alone.
///
/// # Safety
/// `name` is a C string, as pthread_setname_np(3) demands.
// SAFETY: the signature is that of pthread_setname_np(3), with its `pthread_t` unused.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_setname_np(_thread: *const u8, name: *const std::ffi::c_char) -> i32 {
    // SAFETY: the caller gives a C string.
    let name = unsafe { std::ffi::CStr::from_ptr(name) };
    rustix::thread::set_name(name).map_or_else(|errno| errno.raw_os_error(), |()| 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_runs_and_has_its_name() {
        let (sender, receiver) = std::sync::mpsc::channel();
        let work = move || sender.send(std::fs::read_to_string("/proc/thread-self/comm")).unwrap();
        spawn("errand", Box::new(work)).unwrap();
        assert_eq!(receiver.recv().unwrap().unwrap(), "errand\n");
    }
}
