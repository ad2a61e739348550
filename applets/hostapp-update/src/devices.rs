//! Which of the two slots runs.

use minke_boot::Slot;
use minke_sys::{Errno, Error, Result, block, file};
use std::path::Path;

/// The slot that is `active` or `inactive`: by the link that PID 1 and `mount-state` make for it, else as what is not
/// the other one.
pub fn slot(root: &Path, name: &str) -> Result<Slot> {
    let links = root.join("dev/disk/by-state");
    let of = |name: &str| {
        let device = file::real_path(&links.join(name)).ok()?;
        for slot in [Slot::A, Slot::B] {
            for prefix in ["resin", "balena"] {
                let label = links.join(format!("{prefix}-root{}", slot.letter()));
                if file::real_path(&label).is_ok_and(|found| found == device) {
                    return Some(slot);
                }
            }
        }
        let label = block::probe(&device).ok()??.label;
        label.as_deref().and_then(Slot::of_label)
    };
    let other = if name == "active" { "inactive" } else { "active" };
    match of(name).or_else(|| of(other).map(Slot::other)) {
        Some(slot) => Ok(slot),
        None => Err(Error::new("find which slot is", name, Errno::NODEV)),
    }
}
