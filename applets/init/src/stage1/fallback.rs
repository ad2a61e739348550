//! A slot that was found well, and cannot be mounted any more: bad sectors, a damaged root image. Nobody counts its starts,
//! so it would restart for ever beside another slot that may be whole.
//!
//! It becomes a trial again, of which this start is the first: the boot loader counts the others, and three are not too
//! many. Where one of them comes up, `rollback-altboot` ends that; in the other slot it selects that one for good. Power
//! cut: the breadcrumb comes first, which means nothing while the selection, one sector, is the old one.

use super::root::{Devices, is_boot, name_of};
use super::system;
use crate::log;
use crate::why::Why;
use minke_boot::{ALTBOOT_BREADCRUMB, Chain, Slot, rule};
use minke_config::os_release;
use minke_sys::block::Found;
use minke_sys::mount::{self, Flags};
use minke_sys::{Result as Done, file, status};
use std::path::{Path, PathBuf};

/// In `/run`, which goes along into the system, should that be the one that fails.
const PLACES: &str = "/run/initramfs/fallback";

/// Counts this start as one that failed, if the slot is selected for good and the other one holds a system.
pub fn count(devices: &Devices) -> Result<(), Why> {
    let label = devices.root().and_then(Found::label);
    let (Some(slot), Some(boot)) = (label.and_then(Slot::of_label), boot(devices)) else { return Ok(()) };
    let boot = mounted(boot, "vfat", Flags::RDONLY)?;
    let chain = Chain::find(&boot)?;
    let Some(next) = rule::failed(chain.read(&boot)?, slot) else { return Ok(()) };
    let other = slot.other().label();
    if let Err(why) = look_at(devices, slot.other()) {
        return Err(Why(format!("{other} cannot take over: {why}").into()));
    }
    let release = os_release(&boot.join("os-release"));
    // Without it the other slot runs all the same, and nobody selects it.
    log::failure(log::ERROR, leave_breadcrumb(devices, release.version().unwrap_or_default()));
    mount::remount(&boot, Flags::empty(), "")?;
    chain.write(&boot, &next)?;
    mount::unmount(&boot)?;
    log::console(format_args!("this start is counted; after {} {other} is started", rule::TRIES));
    Ok(())
}

fn boot(devices: &Devices) -> Option<&Found> {
    devices.on_root_disk().find(|found| name_of(found).is_some_and(is_boot))
}

/// Mounts a file system of the root disk.
fn mounted(found: &Found, kind: &str, flags: Flags) -> Done<PathBuf> {
    let place = Path::new(PLACES).join(&found.device.name);
    file::make_folder(&place, 0o755)?;
    mount::mount(&found.device.path.to_string_lossy(), &place, kind, flags, "")?;
    Ok(place)
}

/// Whether a slot holds what the boot loader starts and what that starts.
fn look_at(devices: &Devices, slot: Slot) -> Result<(), Why> {
    let name = slot.label().strip_prefix("resin-").unwrap_or_default();
    let found = devices.labelled(name).ok_or_else(|| Why::missing("partition", slot.label()))?;
    let place = mounted(found, "ext4", Flags::RDONLY)?;
    let mut root = place.clone();
    if let Some(image) = system::image_of(&place) {
        root = Path::new(PLACES).join("system");
        file::make_folder(&root, 0o755)?;
        let (device, handle) = mount::attach_loop(&image)?;
        mount::mount(&device.to_string_lossy(), &root, "squashfs", Flags::RDONLY, "")?;
        drop(handle);
    }
    for path in [system::current(&place).join("boot/vmlinuz"), root.join("sbin/init")] {
        // Links lead somewhere else from here.
        status::of_link(&path)?;
    }
    Ok(())
}

fn leave_breadcrumb(devices: &Devices, version: &str) -> Done<()> {
    let Some(state) = devices.labelled("state") else { return Ok(()) };
    let place = mounted(state, "ext4", Flags::empty())?;
    file::write_durable(&place.join(ALTBOOT_BREADCRUMB), version.as_bytes(), 0o644)?;
    mount::unmount(&place)
}
