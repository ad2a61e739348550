//! The machine id lives on the state partition, so that it survives updates (spec os §3.3).

use super::root::Devices;
use minke_sys::mount::{self, Flags};
use minke_sys::{Errno, Error, Result, block};
use std::path::Path;
use std::time::Duration;

/// The state partition lies on the root disk, which is there: its partitions come at the same time.
const WAIT: Duration = Duration::from_secs(30);

/// Mounts the state partition in the new system and shows its file there as `/etc/machine-id`. The next PID 1
/// fills an empty one.
pub fn provide(devices: &mut Devices, system: &Path) -> Result<()> {
    devices.wait(WAIT, &|devices| devices.labelled("state").is_some());
    let Some(state) = devices.labelled("state") else {
        return Err(Error::new("find", "the partition resin-state", Errno::NOENT));
    };
    let target = system.join("mnt/state");
    let source = state.device.path.to_string_lossy();
    // With faults that were not repaired it is left to mount-state, which says so.
    if minke_sys::file::text(Path::new(block::CHECKS).join("resin-state")) == "broken" {
        return Err(Error::new("write", source, Errno::UCLEAN));
    }
    mount::mount(&source, &target, "ext4", Flags::empty(), block::RESERVE_OPTIONS)?;
    let file = target.join("machine-id");
    // Power cut: the empty file is there or not; both are handled at the next boot.
    minke_sys::file::open(&file, minke_sys::file::APPEND)?;
    mount::bind(&file, &system.join("etc/machine-id"), false)
}
