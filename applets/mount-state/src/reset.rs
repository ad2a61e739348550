//! State reset and data reset (spec os §3.5, §3.6). Both delete, sync, and only then make their flag, so that a
//! power cut anywhere repeats the whole action at the next boot.

use crate::mount::{is_volatile, mounted_at};
use crate::plan::{BINDS, DATA, OVERLAY, STATE, SUPERVISOR_CONF, Source};
use minke_applet::log;
use minke_sys::{Context, Result, file};
use std::path::Path;

/// The flag on either partition; the reset is due while it is missing.
pub const FLAG: &str = "remove_me_to_reset";

/// The supervisor's settings are a few lines.
const CONF_LIMIT: usize = 64 * 1024;

/// Resets the state partition if that is due.
pub fn state(root: &Path) {
    let partition = root.join(STATE.target);
    if partition.join(FLAG).exists() {
        return;
    }
    if in_use(root, |source| matches!(source, Source::Overlay)) {
        log::warn(format_args!("the state partition is in use: it is reset at the next boot"));
        return;
    }
    match reset_state(root, &partition) {
        // In memory it begins like this at every boot.
        Ok(()) if is_in_memory(&partition) => {}
        Ok(()) => log::info(format_args!("the state partition was reset")),
        Err(error) => log::error(format_args!("the state partition is not reset: {error}")),
    }
}

fn reset_state(root: &Path, partition: &Path) -> Result<()> {
    let overlay = root.join(OVERLAY);
    remove(&overlay)?;
    let conf = overlay.join(SUPERVISOR_CONF);
    if let Some(folder) = conf.parent() {
        file::make_folder(folder, 0o755)?;
    }
    // The settings are seen in the root image now: the bind that hides them comes later.
    if let Some(content) = file::read_optional(&root.join(SUPERVISOR_CONF), CONF_LIMIT)? {
        std::fs::write(&conf, content).on("write", &conf)?;
    }
    finish(partition)
}

/// Deletes the applications if that is due.
pub fn data(root: &Path) {
    let partition = root.join(DATA.target);
    if partition.join(FLAG).exists() {
        return;
    }
    if in_use(root, |source| matches!(source, Source::Path(path) if path.starts_with(DATA.target))) {
        log::warn(format_args!("the data partition is in use: it is reset at the next boot"));
        return;
    }
    let removed =
        ["apps.json", "resin-data", "docker"].iter().try_for_each(|name| remove(&partition.join(name)));
    match removed.and_then(|()| finish(&partition)) {
        Ok(()) if is_in_memory(&partition) => {}
        Ok(()) => log::info(format_args!("the data partition was reset")),
        Err(error) => log::error(format_args!("the data partition is not reset: {error}")),
    }
}

fn is_in_memory(partition: &Path) -> bool {
    mounted_at(partition).is_ok_and(|mount| mount.is_some_and(|mount| is_volatile(&mount)))
}

/// Whether a bind mount that this program makes shows what would be deleted.
fn in_use(root: &Path, matches: impl Fn(Source) -> bool) -> bool {
    BINDS
        .iter()
        .filter(|bind| matches(bind.source))
        .any(|bind| mounted_at(&root.join(bind.target)).is_ok_and(|mount| mount.is_some()))
}

/// Deletes a file or a folder with all it holds; links are not followed.
fn remove(path: &Path) -> Result<()> {
    let result = match std::fs::symlink_metadata(path) {
        Ok(data) if data.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
    };
    result.on("remove", path)
}

/// Everything done so far reaches the disk before the flag does.
fn finish(partition: &Path) -> Result<()> {
    file::sync_file_system(partition)?;
    let flag = partition.join(FLAG);
    std::fs::File::create(&flag).and_then(|file| file.sync_all()).on("create", &flag)?;
    file::sync_folder(partition)
}
