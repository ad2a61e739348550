//! File-system checks before anything is mounted (spec os §1.10.1). Whatever they find, the boot goes on.
//!
//! A file system that e2fsck's careful pass gives up on gets a second one that answers every question with yes. What
//! even that does not mend is told to mount-state, which mounts it read-only.

use super::root::{Devices, is_boot, name_of};
use crate::log;
use minke_sys::block::{CHECKS, Checked, Found, check_fat};
use minke_sys::process::{Exit, Spawn};
use minke_wire::superblock::Kind;
use std::ffi::CString;
use std::path::Path;

const CHECKER: &str = "/sbin/e2fsck";
/// Tells the checker that the clock may be wrong: a device without a battery would see every file system as
/// checked in the future, and check it in full at each boot.
const CONFIG: &str = "/run/initramfs/e2fsck.conf";
/// Between two meals of the watchdog.
const FEED: std::time::Duration = std::time::Duration::from_secs(60);
const REPORT: &str = "/run/initramfs/fsck.log";

/// Checks and repairs the boot partition, the slots, state and data, one after the other.
pub fn check(devices: &Devices) {
    let _ = minke_sys::file::make_folder(Path::new(CHECKS), 0o755);
    // Also partitions whose label is lost: it may come back.
    for found in devices.on_root_disk() {
        let kind = found.superblock.as_ref().map(|superblock| superblock.kind);
        let name = name_of(found).unwrap_or_default();
        if matches!(kind, Some(Kind::Fat(16 | 32))) && is_boot(name)
            || kind.is_none() && found.device.number == Some(1)
        {
            fat(found);
        }
    }
    if !minke_sys::status::exists(CHECKER) {
        log::line(log::WARNING, format_args!("no {CHECKER}: file systems are not checked"));
        return;
    }
    configure();
    for name in &["rootA", "rootB", "state", "data"] {
        if let Some(found) = devices.labelled(name)
            && found.superblock.as_ref().is_some_and(|superblock| superblock.kind == Kind::Ext4)
        {
            ext4(found.label().unwrap_or(name), &found.device.path, c"-p");
        }
    }
    if devices.labelled("state").is_none() || devices.labelled("data").is_none() {
        for found in devices.on_root_disk() {
            // What may have been one of them; an extended partition has no content.
            let storage = found.device.number.is_some_and(|number| number > 3) && found.device.size > 1 << 20;
            if found.superblock.is_none() && storage {
                ext4(&found.device.name, &found.device.path, c"-fp");
            }
        }
    }
}

fn configure() {
    let _ = minke_sys::file::make_folder(Path::new("/run/initramfs"), 0o755);
    let _ = minke_sys::file::write(CONFIG, "[options]\nbroken_system_clock = 1\n");
}

/// Repairs one slot that cannot be mounted.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub fn repair(found: &Found) {
    let _ = minke_sys::file::make_folder(Path::new(CHECKS), 0o755);
    configure();
    ext4(found.label().unwrap_or_default(), &found.device.path, c"-p");
}

/// The result for mount-state, which reads it by the label.
fn note(label: &str, result: &str) {
    let path = Path::new(CHECKS).join(label);
    let _ = minke_sys::file::write(path, result);
}

fn fat(found: &Found) {
    let label = found.label().unwrap_or(&found.device.name);
    let (result, priority, text) = match check_fat(&found.device.path, 0, found.device.size) {
        Ok(Checked::Whole(report)) if report.is_clean() => ("clean", log::INFO, "is clean".to_owned()),
        Ok(Checked::Whole(report)) => ("repaired", log::WARNING, format!("was repaired: {}", report.text())),
        // Linux may well read it and is careful by itself, and without a boot partition a device has no identity: it
        // stays writable.
        Ok(Checked::LeftAlone(why)) => ("unchecked", log::ERROR, format!("was not repaired: {why}")),
        Err(error) => ("unchecked", log::ERROR, format!("was not checked: {error}")),
    };
    note(label, result);
    log::line(priority, format_args!("{label} {text}"));
}

fn ext4(label: &str, device: &Path, careful: &std::ffi::CStr) {
    let mut result = "unchecked";
    // Twice: after a superblock that was written in part the first run took its copy and the journal, and left errors.
    for option in [careful, c"-y", c"-y"] {
        let exit = match run(device, option) {
            Ok(exit) => exit,
            Err(error) => {
                log::line(log::ERROR, format_args!("{label} was not checked: {error}"));
                break;
            }
        };
        // The exit status is a sum of bits: e2fsck(8). 1 and 2 mean that errors were corrected.
        match exit {
            Exit::Code(0) => {
                result = "clean";
                log::line(log::INFO, format_args!("{label} is clean"));
                break;
            }
            Exit::Code(code @ 1..=3) => {
                result = "repaired";
                log::line(
                    log::WARNING,
                    format_args!("{label} was repaired (e2fsck status {code}; see {REPORT})"),
                );
                break;
            }
            exit => {
                result = "broken";
                let option = option.to_string_lossy();
                let text = format_args!("{label} was not repaired (e2fsck {option} {exit}; see {REPORT})");
                log::line(log::ERROR, text);
            }
        }
    }
    note(label, result);
}

fn run(device: &Path, option: &std::ffi::CStr) -> minke_sys::Result<Exit> {
    let mut spawn = Spawn::new(c"/sbin/e2fsck");
    let device = CString::new(device.as_os_str().as_encoded_bytes()).unwrap_or_default();
    spawn.arguments = vec![c"e2fsck".into(), option.into(), device];
    spawn.environment =
        vec![CString::new(format!("E2FSCK_CONFIG={CONFIG}")).unwrap_or_default(), c"PATH=/sbin:/bin".into()];
    let report = || minke_sys::file::open(REPORT, minke_sys::file::APPEND).ok().map(Into::into);
    spawn.stdio = [None, report(), report()];
    let pid = spawn.start()?;
    // A large data partition may take hours; that this loop turns is what the watchdog is told.
    loop {
        if let Some(exit) = minke_sys::process::wait_within(pid, FEED)? {
            return Ok(exit);
        }
        minke_sys::watchdog::feed();
    }
}
