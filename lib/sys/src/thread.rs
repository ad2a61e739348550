//! Threads, by pthread_create(3) itself: std's bring a guard for stack overflows with a table of all threads.

use crate::{Context, Result};
use rustix::io::Errno;
use std::ffi::c_void;
use std::mem::MaybeUninit;

/// Room for the stack of a thread; only what is used of it becomes memory.
const STACK: usize = 1 << 20;
/// What is left without access below it, at least; rounded up to pages.
const GUARD: usize = 4096;

struct Start {
    name: &'static str,
    work: Box<dyn FnOnce() + Send>,
}

/// Starts a thread that does `work`. `name` shows in tools.
pub fn spawn(name: &'static str, work: Box<dyn FnOnce() + Send>) -> Result<()> {
    let thread = start(name, work)?;
    // SAFETY: a joinable thread that has just been started, and that nobody else refers to.
    unsafe { libc::pthread_detach(thread) };
    Ok(())
}

/// Does `work` in a thread of its own and waits for its end.
pub fn run(name: &'static str, work: Box<dyn FnOnce() + Send>) -> Result<()> {
    let thread = start(name, work)?;
    // SAFETY: a joinable thread that has just been started, and that nobody else refers to.
    unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
    Ok(())
}

fn start(name: &'static str, work: Box<dyn FnOnce() + Send>) -> Result<libc::pthread_t> {
    let start = Box::into_raw(Box::new(Start { name, work }));
    let mut attributes = MaybeUninit::<libc::pthread_attr_t>::zeroed();
    // musl's pthread_attr_init sets defaults for the two sizes below and nothing else, behind a lock of 1.1 kB on ARMv6.
    #[cfg(not(target_env = "musl"))]
    // SAFETY: initialises what it is given.
    unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) };
    // SAFETY: initialised by the call above, or by zeros, which is what musl's call sets.
    unsafe { libc::pthread_attr_setguardsize(attributes.as_mut_ptr(), GUARD) };
    // SAFETY: as above.
    unsafe { libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), STACK) };
    let mut thread = MaybeUninit::uninit();
    let (place, attributes) = (thread.as_mut_ptr(), attributes.as_ptr());
    // SAFETY: `begin` takes over `start`; attributes are initialised, and the thread's name is written.
    let failed = unsafe { libc::pthread_create(place, attributes, begin, start.cast()) };
    if failed != 0 {
        // SAFETY: no thread has taken it over.
        drop(unsafe { Box::from_raw(start) });
        return Err(Errno::from_raw_os_error(failed)).context("start thread", name);
    }
    // SAFETY: written by pthread_create, which succeeded.
    Ok(unsafe { thread.assume_init() })
}

extern "C" fn begin(start: *mut c_void) -> *mut c_void {
    // SAFETY: the box that `start` gave away.
    let start = unsafe { Box::from_raw(start.cast::<Start>()) };
    let mut name = [0; 16];
    for (place, byte) in name.iter_mut().take(15).zip(start.name.bytes()) {
        *place = byte;
    }
    if let Ok(name) = std::ffi::CStr::from_bytes_until_nul(&name) {
        let _ = rustix::thread::set_name(name);
    }
    (start.work)();
    std::ptr::null_mut()
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

    #[test]
    fn work_that_is_waited_for_is_done() {
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = done.clone();
        let work = move || {
            std::thread::sleep(std::time::Duration::from_millis(20));
            flag.store(true, std::sync::atomic::Ordering::Relaxed);
        };
        run("errand", Box::new(work)).unwrap();
        assert!(done.load(std::sync::atomic::Ordering::Relaxed));
    }
}
