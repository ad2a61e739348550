//! The machine id lives on the state partition, so that it survives updates (spec os §3.3).

use super::root::{Devices, System};
use minke_sys::block::Found;
use minke_sys::mount::{self, Flags};
use minke_sys::{Context, Errno, Error, Result};
use std::fs::OpenOptions;
use std::path::Path;
use std::time::Duration;

const LABELS: [&str; 2] = ["resin-state", "balena-state"];
/// The state partition lies on the root disk, which is there: its partitions come at the same time.
const WAIT: Duration = Duration::from_secs(30);

/// Mounts the state partition in the new system and shows its file there as `/etc/machine-id`. The next PID 1
/// fills an empty one.
pub fn provide(devices: &mut Devices, system: &System) -> Result<()> {
    let disk = devices.root().map(|root| root.device.whole_disk().to_owned());
    let is_state = |found: &Found| {
        Some(found.device.whole_disk()) == disk.as_deref()
            && found.label().is_some_and(|label| LABELS.contains(&label))
    };
    devices.wait(WAIT, |found| found.iter().any(is_state));
    let Some(state) = devices.labelled(&LABELS) else {
        return Err(Error::new("find", "the partition resin-state", Errno::NOENT));
    };
    let source = state.device.path.to_string_lossy().into_owned();
    let target = system.root.join("mnt/state");
    mount::mount(&source, &target, "ext4", Flags::empty(), "")?;
    let file = target.join("machine-id");
    // Power cut: the empty file is there or not; both are handled at the next boot.
    OpenOptions::new().create(true).append(true).open(&file).on("create", &file)?;
    let id = system.root.join(Path::new("etc/machine-id"));
    mount::bind(&file, &id, false)
}
