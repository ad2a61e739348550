//! The first use of an empty volume: it gets what the image holds at its mount point.
//!
//! A marker beside the volume says that a copy is under way. A power cut leaves the marker, and the next start
//! empties the volume and copies again; without the marker a volume that holds anything is never touched.

use super::failure::{Failure, Step};
use minke_sys::status::{self, Status};
use minke_sys::{Context, Result, file};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How deep folders may nest; deeper ones are left out.
const DEPTH_LIMIT: usize = 64;

/// Copies the folder behind `from`, a handle into the image, to `volume` when that is empty.
pub fn fill(volume: &Path, from: &OwnedFd, marker: &Path) -> std::result::Result<(), Failure> {
    let old = file::list(volume).step("volume")?;
    if status::exists(marker) {
        for path in &old {
            let _ = file::remove_all(path);
        }
    } else if !old.is_empty() {
        return Ok(());
    }
    let source = PathBuf::from(format!("/proc/self/fd/{}", from.as_raw_fd()));
    let status = status::of(&source);
    status.and_then(|status| clone_owner(&status, volume)).step("volume")?;
    if file::list(&source).is_ok_and(|content| content.is_empty()) {
        return Ok(());
    }
    file::write_durable(marker, b"", 0o600).step("volume")?;
    copy_content(&source, volume, 0)?;
    file::sync_file_system(volume).step("volume")?;
    file::remove_durable(marker).step("volume")
}

fn copy_content(from: &Path, to: &Path, depth: usize) -> std::result::Result<(), Failure> {
    for source in &file::list(from).step("volume")? {
        let target = to.join(source.file_name().unwrap_or_default());
        if copy_entry(source, &target, depth < DEPTH_LIMIT).step("volume")? {
            copy_content(source, &target, depth.saturating_add(1))?;
        }
    }
    Ok(())
}

/// Copies a file, a link, or a folder without its content when `deeper` is allowed. Returns whether it is a folder
/// whose content is to follow.
fn copy_entry(source: &Path, target: &Path, deeper: bool) -> Result<bool> {
    let status = status::of_link(source)?;
    let is_folder = status.is_dir() && deeper;
    if is_folder {
        file::make_folder(target, 0o700)?;
    } else if status.is_symlink() {
        let to = fs::read_link(source).on("read link", source)?;
        std::os::unix::fs::symlink(to, target).on("link", target)?;
    } else if status.is_file() {
        file::copy(source, target)?;
    } else {
        return Ok(false);
    }
    clone_owner(&status, target)?;
    Ok(is_folder)
}

fn clone_owner(status: &Status, to: &Path) -> Result<()> {
    file::chown(to, status.uid, status.gid)?;
    if status.is_symlink() {
        return Ok(());
    }
    // After the owner: a change of owner clears set-id bits.
    file::set_mode(to, status.mode())
}
