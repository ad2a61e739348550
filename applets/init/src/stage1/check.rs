//! File-system checks before anything is mounted (spec os §1.10.1). Whatever they find, the boot goes on.

use super::root::Devices;
use crate::log;
use minke_sys::process::{Exit, Spawn};
use minke_wire::superblock::Kind;
use std::ffi::CString;
use std::path::Path;

const CHECKER: &str = "/sbin/e2fsck";
/// Tells the checker that the clock may be wrong: a device without a battery would see every file system as
/// checked in the future, and check it in full at each boot.
const CONFIG: &str = "/run/initramfs/e2fsck.conf";
const REPORT: &str = "/run/initramfs/fsck.log";

/// Checks and repairs the slots, state and data, one after the other.
pub fn check(devices: &Devices) {
    if !minke_sys::status::exists(CHECKER) {
        log::line(log::WARNING, format_args!("no {CHECKER}: file systems are not checked"));
        return;
    }
    let _ = minke_sys::file::make_folder(Path::new("/run/initramfs"), 0o755);
    let _ = minke_sys::file::write(CONFIG, "[options]\nbroken_system_clock = 1\n");
    for name in &["rootA", "rootB", "state", "data"] {
        let Some(found) = devices.labelled(name) else { continue };
        if found.superblock.as_ref().is_some_and(|superblock| superblock.kind == Kind::Ext4) {
            check_one(found.label().unwrap_or(name), &found.device.path);
        }
    }
}

fn check_one(label: &str, device: &Path) {
    match run(device) {
        // The exit status is a sum of bits: e2fsck(8). 1 and 2 mean that errors were corrected.
        Ok(Exit::Code(0)) => log::line(log::INFO, format_args!("{label} is clean")),
        Ok(Exit::Code(code @ 1..=3)) => {
            log::line(
                log::WARNING,
                format_args!("{label} was repaired (e2fsck status {code}; see {REPORT})"),
            );
        }
        Ok(exit) => {
            log::line(log::ERROR, format_args!("{label} was not repaired (e2fsck {exit}; see {REPORT})"));
        }
        Err(error) => log::line(log::ERROR, format_args!("{label} was not checked: {error}")),
    }
}

fn run(device: &Path) -> minke_sys::Result<Exit> {
    let mut spawn = Spawn::new(c"/sbin/e2fsck");
    let device = CString::new(device.as_os_str().as_encoded_bytes()).unwrap_or_default();
    spawn.arguments = vec![c"e2fsck".into(), c"-p".into(), device];
    spawn.environment =
        vec![CString::new(format!("E2FSCK_CONFIG={CONFIG}")).unwrap_or_default(), c"PATH=/sbin:/bin".into()];
    let report = || minke_sys::file::open(REPORT, minke_sys::file::APPEND).ok().map(Into::into);
    spawn.stdio = [None, report(), report()];
    minke_sys::process::wait(spawn.start()?)
}
