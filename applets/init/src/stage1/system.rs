//! The system that a slot holds: finding its root image, mounting it.

use super::root::Devices;
use super::{layers, verity};
use crate::cmdline::Cmdline;
use crate::log;
use crate::why::Why;
use minke_boot::ROOT_IMAGE;
use minke_sys::mount::{self, Flags};
use minke_sys::status::{exists, is_dir};
use std::path::{Path, PathBuf};

/// Where the slot is mounted until it moves into the system that it holds.
const SLOT: &str = "/sysroot/slot";
/// Where that system is mounted.
const SYSTEM: &str = "/sysroot/system";

/// Mounts the slot read-only, and the root image in it, and puts the slot at `/mnt/sysroot/active` there. A
/// slot that is a root file system itself is used as it is. Returns where the next system is mounted.
pub fn mount_system(devices: &Devices, cmdline: &Cmdline) -> Result<&'static Path, Why> {
    let (slot, system) = (Path::new(SLOT), Path::new(SYSTEM));
    let root = devices.root().ok_or_else(|| devices.missing())?;
    let probed = root.superblock.as_ref().map(|superblock| superblock.kind.name());
    let kind = cmdline.value("rootfstype").or(probed).unwrap_or("ext4");
    let source = root.device.path.to_string_lossy();
    minke_sys::file::make_folder(slot, 0o755)?;
    mount::mount(&source, slot, kind, Flags::RDONLY, cmdline.value("rootflags").unwrap_or_default())?;
    let name = root.label().unwrap_or_default();
    log::line(log::INFO, format_args!("slot {name} is {source}, mounted read-only"));
    let Some(image) = image_of(slot) else {
        // The first program of a reference system mounts the rest.
        if is_dir(slot.join("dev")) && exists(slot.join("sbin/init")) {
            return Ok(slot);
        }
        return Err(no_system(&current(slot).join(ROOT_IMAGE)));
    };
    minke_sys::file::make_folder(system, 0o755)?;
    mount_image(&image, system, cmdline)?;
    // Without the slot there the system runs, but cannot update itself.
    log::failure(log::ERROR, mount::move_mount(slot, &system.join("mnt/sysroot/active")));
    Ok(system)
}

/// The slot holds no root file system.
pub fn no_system(path: &Path) -> Why {
    Why(format!("no root file system: there is no {}", path.display()).into())
}

/// The folder of the host app that the slot's link `current` selects. The link is read here, as an absolute one would
/// lead out of the slot.
pub fn current(slot: &Path) -> PathBuf {
    let current = std::fs::read_link(slot.join("current")).unwrap_or_else(|_| "current".into());
    slot.join(current.strip_prefix("/").unwrap_or(&current))
}

/// The root image of the slot's host app: beside its boot files as we write it, or in a layer of the engine's, as a
/// reference system's update does.
pub fn image_of(slot: &Path) -> Option<PathBuf> {
    let app = current(slot);
    let mut image = app.join(ROOT_IMAGE);
    if exists(&image) {
        return Some(image);
    }
    for layer in layers::of(slot, &app)?.folders {
        image = layer.join(ROOT_IMAGE);
        if exists(&image) {
            return Some(image);
        }
    }
    None
}

/// Mounts a root image; with `roothash=` on the command line, every block of it that is read is checked.
pub fn mount_image(image: &Path, target: &Path, cmdline: &Cmdline) -> Result<(), Why> {
    // The handle must stay until the mount holds the device.
    let (device, handle) = mount::attach_loop(image)?;
    // An empty one, behind the slot's, takes the check away.
    let mapped = match cmdline.value("roothash").filter(|hash| !hash.is_empty()) {
        Some(hash) => verity::map(&device, image, hash, cmdline)?,
        None => None,
    };
    let device = mapped.unwrap_or(device);
    mount::mount(&device.to_string_lossy(), target, "squashfs", Flags::RDONLY, "")?;
    drop(handle);
    log::line(log::INFO, format_args!("root image {} is mounted", image.display()));
    Ok(())
}
