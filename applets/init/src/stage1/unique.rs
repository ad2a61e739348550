//! Unique UUIDs (spec os §1.4): images of one version share theirs, so each device replaces them at its first boot.
//!
//! ext4 UUIDs begin with `ba1eadef`, FAT serial numbers with `BDEF`. Slot A comes last: its new UUID says that all are
//! done. Power cut: each change is one transaction of its file system's journal, which the check at the next boot
//! replays; what is not done is done then. Nobody but the boot loader finds partitions by UUID, and it looks at
//! each boot.

use super::root::{BOOTPARAM_ROOT, Devices};
use crate::log;
use minke_sys::block::{self, CHECKS, Checked, Found};
use minke_sys::mount::{self, Flags};
use minke_sys::{Context, Errno, Error, Result, file};
use minke_wire::superblock::{Kind, uuid};
use std::path::Path;

/// Where a file system is mounted while its UUID changes.
const PLACE: &str = "/sysroot/unique";

/// Renews what has not been renewed. The answer tells whether anything was.
pub fn renew(devices: &Devices) -> bool {
    let mut changed = false;
    if let Some(boot) = devices.labelled("boot").filter(|boot| !boot.uuid().is_some_and(is_ours)) {
        match renew_fat(boot) {
            Ok(Checked::Whole(_)) => changed = true,
            Ok(Checked::LeftAlone(why)) => keeps(boot, &why),
            Err(error) => keeps(boot, &error),
        }
    }
    if devices.labelled("rootA").and_then(Found::uuid).is_none_or(is_ours) {
        return changed;
    }
    for name in &["rootB", "state", "data", "rootA"] {
        let Some(found) = devices.labelled(name).filter(|found| !found.uuid().is_some_and(is_ours)) else {
            continue;
        };
        match renew_ext4(found, devices) {
            Ok(()) => changed = true,
            // The next boot goes on here.
            Err(error) => {
                keeps(found, &error);
                break;
            }
        }
    }
    changed
}

fn keeps(found: &Found, why: &dyn std::fmt::Display) {
    let label = found.label().unwrap_or_default();
    log::line(log::WARNING, format_args!("{label} keeps its UUID: {why}"));
}

fn is_ours(uuid: &str) -> bool {
    uuid.starts_with("ba1eadef") || uuid.starts_with("BDEF-")
}

fn renew_fat(boot: &Found) -> Result<Checked> {
    let mut digits = [0; 2];
    minke_sys::random::fill(&mut digits)?;
    let serial = 0xBDEF_0000 | u32::from(u16::from_le_bytes(digits));
    if !matches!(boot.superblock.as_ref().map(|found| found.kind), Some(Kind::Fat(16 | 32))) {
        return Ok(Checked::LeftAlone("it is no FAT16 or FAT32"));
    }
    block::set_fat_serial(&boot.device.path, 0, boot.device.size, serial)
}

fn renew_ext4(found: &Found, devices: &Devices) -> Result<()> {
    let device = &found.device.path;
    let state = file::text(Path::new(CHECKS).join(found.label().unwrap_or_default()));
    if !matches!(state.as_str(), "clean" | "repaired") {
        return Err(Error::new("find in order", device.display(), Errno::UCLEAN));
    }
    let fresh = block::fresh_uuid()?;
    // Who resolves `root=` meanwhile waits for the mark to go away (spec os §1.3.2).
    let root = devices.root().is_some_and(|root| root.device.path == *device);
    let mark = format!("{BOOTPARAM_ROOT}.mux");
    if root {
        file::write(&mark, "")?;
    }
    let text = uuid(&fresh).unwrap_or_default();
    let mut result = change(device, fresh);
    if root {
        if result.is_ok() {
            result = file::write(BOOTPARAM_ROOT, format!("UUID={text}\n"));
        }
        std::fs::remove_file(&mark).on("remove", &mark)?;
    }
    result?;
    log::line(log::INFO, format_args!("{} has the UUID {text}", found.label().unwrap_or_default()));
    Ok(())
}

fn change(device: &Path, fresh: [u8; 16]) -> Result<()> {
    let place = Path::new(PLACE);
    file::make_folder(place, 0o700)?;
    mount::mount(&device.to_string_lossy(), place, "ext4", Flags::NOATIME, "")?;
    let changed = block::set_uuid(place, fresh);
    // An unmounted slot has nothing in its journal: boot loaders do not look there.
    mount::unmount(place)?;
    changed
}
