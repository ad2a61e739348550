//! The steps that need no script (spec os §15.5).

use crate::rollback::breadcrumbs;
use crate::{boot_files, devices};
use minke_applet::log;
use minke_boot::Chain;
use minke_sys::{Errno, Error, Result, block, file, status};
use std::path::Path;

/// A step.
pub struct Step {
    /// Its name among the hooks, by which it has its turn.
    pub name: &'static str,
    /// Does it, for the system below the root; `true`: the good slot is the inactive one.
    pub run: fn(&Path, bool) -> Result<()>,
}

/// All of them.
pub const STEPS: [Step; 4] = [
    Step { name: "1-bootfiles", run: boot_files::deploy },
    Step { name: "60-data-breadcrumb", run: data_breadcrumb },
    Step { name: "80-rollback", run: rollback },
    Step { name: "99-select", run: select },
];

/// A data partition without this flag is emptied at the next boot (spec os §3.6), which a system that knows no flag does
/// not mean.
fn data_breadcrumb(root: &Path, during_update: bool) -> Result<()> {
    let flag = root.join("mnt/data/remove_me_to_reset");
    if !during_update || status::exists(&flag) || !status::is_dir(root.join("mnt/data")) {
        return Ok(());
    }
    log::warn(format_args!("{} is made: an update empties no data partition", flag.display()));
    file::write_durable(&flag, b"", 0o644)
}

/// The trial's files. Of a return to the running system they go last, with the selection.
fn rollback(root: &Path, during_update: bool) -> Result<()> {
    if during_update { breadcrumbs::make(root) } else { Ok(()) }
}

/// The switch: one sector. Everything else has been written before (decision: a slot is settled for readers that know no
/// journal).
fn select(root: &Path, during_update: bool) -> Result<()> {
    let name = if during_update { "inactive" } else { "active" };
    let slot = devices::slot(root, name)?;
    let place = root.join("mnt/sysroot").join(name);
    if during_update {
        let kernel = place.join("current/boot");
        if !status::is_dir(&kernel) {
            return Err(Error::new("select a slot without", kernel.display(), Errno::NOENT));
        }
        // A folder of the root's own file system is a test's.
        let device = |path: &Path| status::of(path).map(|status| status.device).ok();
        if device(&place) != place.parent().and_then(device) {
            block::settle(&place)?;
        }
    }
    let boot = root.join(crate::BOOT);
    let chain = Chain::find(&boot)?;
    chain.select(&boot, slot, during_update)?;
    let (letter, how) = (slot.letter(), if during_update { "on trial" } else { "for good" });
    log::info(format_args!("slot {letter} is selected {how} ({})", chain.name()));
    if during_update { Ok(()) } else { breadcrumbs::remove(root) }
}
