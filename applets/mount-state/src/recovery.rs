//! A data partition that does not appear (spec os §1.10.3): one restart, in which stage 1 checks what has lost its
//! label, then no more.

use crate::mount::is_mounted;
use crate::plan::BOOT;
use minke_applet::log;
use minke_sys::process::{Ending, end_system};
use minke_sys::{file, status};
use std::path::Path;
use std::time::Duration;

/// The mark on the boot partition that a restart was tried.
const MARK: &str = "resin_attempting_fsck_recovery";

/// How long the journal has for the last line before a restart.
const JOURNAL: Duration = Duration::from_secs(5);

/// The data partition is missing: restarts the system, unless that was tried before.
pub fn data_missing(root: &Path) {
    let (boot, mark) = (root.join(BOOT.target), root.join(BOOT.target).join(MARK));
    // Without a mark there would be no end of it. Another root than the system's is no reason to restart it.
    if root != Path::new("/") || !is_mounted(&boot) || status::exists(&mark) {
        return;
    }
    let made = file::open(&mark, file::APPEND).and_then(|_| file::sync_file_system(&boot));
    if let Err(error) = made {
        return log::error(format_args!("no restart to repair the data partition: {error}"));
    }
    log::error(format_args!("the data partition is missing: the system restarts to check the disk"));
    file::sync_all();
    // Nothing but this line tells why, and the journal has yet to bring it to the console.
    std::thread::sleep(JOURNAL);
    if let Err(error) = end_system(Ending::Restart) {
        log::error(format_args!("{error}"));
    }
}

/// The data partition is there.
pub fn data_found(root: &Path) {
    let mark = root.join(BOOT.target).join(MARK);
    if status::exists(&mark) {
        log::warn(format_args!("the data partition is back: {MARK} is removed"));
        if let Err(error) = file::remove_durable(&mark) {
            log::warn(format_args!("{error}"));
        }
    }
}
