//! The first use of an empty volume: it gets what the image holds at its mount point.
//!
//! A marker beside the volume says that a copy is under way. A power cut leaves the marker, and the next start
//! empties the volume and copies again; without the marker a volume that holds anything is never touched.

use super::failure::{Failure, Step};
use minke_sys::file;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How deep folders may nest; deeper ones are left out.
const DEPTH_LIMIT: usize = 64;

/// Copies the folder behind `from`, a handle into the image, to `volume` when that is empty.
pub fn fill(volume: &Path, from: &OwnedFd, marker: &Path) -> Result<(), Failure> {
    let old = file::list(volume).step("volume")?;
    if marker.exists() {
        for path in old {
            let _ = file::remove_all(&path);
        }
    } else if !old.is_empty() {
        return Ok(());
    }
    let source = PathBuf::from(format!("/proc/self/fd/{}", from.as_raw_fd()));
    clone_owner(&fs::metadata(&source).step("volume")?, volume)?;
    if file::list(&source).is_ok_and(|content| content.is_empty()) {
        return Ok(());
    }
    file::write_durable(marker, b"", 0o600).step("volume")?;
    copy_content(&source, volume, 0)?;
    file::sync_file_system(volume).step("volume")?;
    file::remove_durable(marker).step("volume")
}

fn copy_content(from: &Path, to: &Path, depth: usize) -> Result<(), Failure> {
    for source in file::list(from).step("volume")? {
        let target = to.join(source.file_name().unwrap_or_default());
        let metadata = fs::symlink_metadata(&source).step("volume")?;
        if metadata.is_dir() {
            if depth >= DEPTH_LIMIT {
                continue;
            }
            fs::create_dir(&target).step("volume")?;
            clone_owner(&metadata, &target)?;
            copy_content(&source, &target, depth.saturating_add(1))?;
        } else if metadata.is_symlink() {
            let link = fs::read_link(&source).step("volume")?;
            std::os::unix::fs::symlink(link, &target).step("volume")?;
            clone_owner(&metadata, &target)?;
        } else if metadata.is_file() {
            file::copy(&source, &target).step("volume")?;
            clone_owner(&metadata, &target)?;
        }
    }
    Ok(())
}

fn clone_owner(metadata: &fs::Metadata, to: &Path) -> Result<(), Failure> {
    file::chown(to, metadata.uid(), metadata.gid()).step("volume")?;
    if metadata.is_symlink() {
        return Ok(());
    }
    // After the owner: a change of owner clears set-id bits.
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777)).step("volume")
}
