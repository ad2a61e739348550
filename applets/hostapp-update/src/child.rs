//! Programs that must not hang.

use minke_applet::log;
use minke_sys::process::{Exit, Spawn};
use minke_sys::signal::SIGKILL;
use minke_sys::{Errno, Error, Result, process};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

/// A path as an argument. None of ours has a zero byte.
pub fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

/// Runs a program, which errors call by `name`. One that has not ended within `limit` is killed with all of its group, which it leads, and the error
/// is `ETIME`.
pub fn run(spawn: &Spawn, name: &str, limit: Duration) -> Result<Exit> {
    let pid = spawn.start()?;
    if let Some(exit) = process::wait_within(pid, limit)? {
        return Ok(exit);
    }
    let group = pid.checked_neg().unwrap_or(pid);
    let _ = process::kill(group, SIGKILL);
    let _ = process::wait(pid);
    log::error(format_args!("{name} did not end within {} s and was killed", limit.as_secs()));
    Err(Error::new("run", name, Errno::TIME))
}
