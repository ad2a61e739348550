//! The first use of an empty volume: it gets what the image holds at its mount point.
//!
//! A marker beside the volume says that a copy is under way. A power cut leaves the marker, and the next start
//! empties the volume and copies again; without the marker a volume that holds anything is never touched.

use super::failure::{Failure, Step};
use minke_sys::file;
use std::fs;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// How deep folders may nest; deeper ones are left out.
const DEPTH_LIMIT: usize = 64;

/// Copies the folder behind `from`, a handle into the image, to `volume` when that is empty.
pub fn fill(volume: &Path, from: &OwnedFd, marker: &Path) -> std::result::Result<(), Failure> {
    let old = file::list(volume).step("volume")?;
    if marker.exists() {
        for path in &old {
            let _ = file::remove_all(path);
        }
    } else if !old.is_empty() {
        return Ok(());
    }
    let source = PathBuf::from(format!("/proc/self/fd/{}", from.as_raw_fd()));
    let metadata = fs::metadata(&source);
    metadata.and_then(|metadata| clone_owner(&metadata, volume)).step("volume")?;
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
    let metadata = fs::symlink_metadata(source)?;
    let is_folder = metadata.is_dir() && deeper;
    if is_folder {
        fs::create_dir(target)?;
    } else if metadata.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(source)?, target)?;
    } else if metadata.is_file() {
        file::copy(source, target).map_err(|error| Error::from_raw_os_error(error.errno.raw_os_error()))?;
    } else {
        return Ok(false);
    }
    clone_owner(&metadata, target)?;
    Ok(is_folder)
}

fn clone_owner(metadata: &fs::Metadata, to: &Path) -> Result<()> {
    lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    // After the owner: a change of owner clears set-id bits.
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777))
}
