//! State reset and data reset (spec os §3.5, §3.6). Both delete, sync, and only then make their flag, so that a
//! power cut anywhere repeats the whole action at the next boot.

use crate::mount::{find, is_mounted, is_volatile, table};
use crate::plan::{BINDS, DATA, OVERLAY, STATE, SUPERVISOR_CONF, Source};
use minke_applet::log;
use minke_sys::{Result, file};
use std::path::Path;

/// The flag on either partition; the reset is due while it is missing.
pub const FLAG: &str = "remove_me_to_reset";

/// The supervisor's settings are a few lines.
const CONF_LIMIT: usize = 64 * 1024;

/// Resets the state and the data partition where that is due.
pub fn all(root: &Path) {
    reset(root, "state", STATE.target, OVERLAY, clear_state);
    reset(root, "data", DATA.target, DATA.target, clear_data);
}

/// Resets a partition if that is due: `clear` deletes what lies below `doomed`.
fn reset(root: &Path, name: &str, target: &str, doomed: &str, clear: fn(&Path, &Path) -> Result<()>) {
    let partition = root.join(target);
    if minke_sys::status::exists(partition.join(FLAG)) {
        return;
    }
    if in_use(root, doomed) {
        log::warn(format_args!("the {name} partition is in use: it is reset at the next boot"));
        return;
    }
    match clear(root, &partition).and_then(|()| finish(&partition)) {
        // In memory it begins like this at every boot.
        Ok(()) if is_in_memory(&partition) => {}
        Ok(()) => log::info(format_args!("the {name} partition was reset")),
        Err(error) => log::error(format_args!("the {name} partition is not reset: {error}")),
    }
}

fn clear_state(root: &Path, _: &Path) -> Result<()> {
    let overlay = root.join(OVERLAY);
    file::remove_all(&overlay)?;
    let conf = overlay.join(SUPERVISOR_CONF);
    if let Some(folder) = conf.parent() {
        file::make_folder(folder, 0o755)?;
    }
    // The settings are seen in the root image now: the bind that hides them comes later.
    if let Some(content) = file::read_optional(&root.join(SUPERVISOR_CONF), CONF_LIMIT)? {
        file::write(&conf, content)?;
    }
    Ok(())
}

/// Deletes the applications.
fn clear_data(_: &Path, partition: &Path) -> Result<()> {
    for name in ["apps.json", "resin-data", "docker"] {
        file::remove_all(&partition.join(name))?;
    }
    Ok(())
}

fn is_in_memory(partition: &Path) -> bool {
    table().is_ok_and(|table| find(&table, partition).is_some_and(is_volatile))
}

/// Whether a bind mount that this program makes shows what lies below `doomed`.
fn in_use(root: &Path, doomed: &str) -> bool {
    BINDS.iter().any(|bind| {
        let source = match bind.source {
            Source::Overlay => OVERLAY,
            Source::Path(path) => path,
        };
        source.starts_with(doomed) && is_mounted(&root.join(bind.target))
    })
}

/// Everything done so far reaches the disk before the flag does.
fn finish(partition: &Path) -> Result<()> {
    file::sync_file_system(partition)?;
    let flag = partition.join(FLAG);
    file::write_durable(&flag, b"", 0o644)?;
    file::sync_folder(partition)
}
