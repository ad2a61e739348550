//! The first use of an empty volume: it gets what the image holds at its mount point.
//!
//! A marker beside the volume says that a copy is under way. A power cut leaves the marker, and the next start
//! empties the volume and copies again; without the marker a volume that holds anything is never touched.

use super::failure::{Failure, Step};
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How deep folders may nest; deeper ones are left out.
const DEPTH_LIMIT: usize = 64;

/// Copies the folder behind `from`, a handle into the image, to `volume` when that is empty.
#[expect(clippy::needless_pass_by_value, reason = "the marker path is built for this call")]
pub fn fill(volume: &Path, from: &OwnedFd, marker: PathBuf) -> Result<(), Failure> {
    if marker.exists() {
        for entry in fs::read_dir(volume).step("volume")?.flatten() {
            let path = entry.path();
            let _ = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            };
        }
    } else if fs::read_dir(volume).step("volume")?.next().is_some() {
        return Ok(());
    }
    let source = PathBuf::from(format!("/proc/self/fd/{}", from.as_raw_fd()));
    if fs::read_dir(&source).is_ok_and(|mut entries| entries.next().is_none()) {
        return clone_owner(&source, volume);
    }
    minke_sys::file::write_durable(&marker, b"", 0o600).step("volume")?;
    copy_folder(&source, volume, 0)?;
    minke_sys::file::sync_file_system(volume).step("volume")?;
    minke_sys::file::remove_durable(&marker).step("volume")
}

fn copy_folder(from: &Path, to: &Path, depth: usize) -> Result<(), Failure> {
    clone_owner(from, to)?;
    for entry in fs::read_dir(from).step("volume")?.flatten() {
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().step("volume")?;
        if kind.is_dir() {
            if depth < DEPTH_LIMIT {
                fs::create_dir(&target).step("volume")?;
                copy_folder(&source, &target, depth.saturating_add(1))?;
            }
        } else if kind.is_symlink() {
            let link = fs::read_link(&source).step("volume")?;
            std::os::unix::fs::symlink(link, &target).step("volume")?;
            clone_owner(&source, &target)?;
        } else if kind.is_file() {
            fs::copy(&source, &target).step("volume")?;
            clone_owner(&source, &target)?;
        }
    }
    Ok(())
}

fn clone_owner(from: &Path, to: &Path) -> Result<(), Failure> {
    let is_handle = from.starts_with("/proc/self/fd");
    let metadata = if is_handle && from.components().count() == 5 {
        fs::metadata(from)
    } else {
        fs::symlink_metadata(from)
    };
    let metadata = metadata.step("volume")?;
    minke_sys::file::chown(to, metadata.uid(), metadata.gid()).step("volume")?;
    if metadata.is_symlink() {
        return Ok(());
    }
    // After the owner: a change of owner clears set-id bits.
    fs::set_permissions(to, fs::Permissions::from_mode(metadata.mode() & 0o7777)).step("volume")
}
