//! The space of a file system: statvfs(3), fallocate(2).

use crate::file::{CREATE_NEW, open_with_mode};
use crate::path::name;
use crate::{Context, Result};
use rustix::fs::FallocateFlags;
use std::path::Path;

/// Bytes of a mounted file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All that it can hold.
    pub total: u64,
    /// What is free, the reserve included.
    pub free: u64,
    /// What is free for a process without CAP_SYS_RESOURCE.
    pub available: u64,
    /// What a file takes at least: a block or cluster.
    pub unit: u64,
}

/// The space of the file system that holds `path`.
pub fn of(path: &Path) -> Result<Space> {
    let found = rustix::fs::statvfs(name(path)).on("look at the space of", path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok(Space {
        total: bytes(found.f_blocks),
        free: bytes(found.f_bfree),
        available: bytes(found.f_bavail),
        unit: found.f_frsize,
    })
}

/// Makes a new file that occupies so many bytes, readable by its owner alone.
pub fn occupy(path: &Path, bytes: u64) -> Result<()> {
    let file = open_with_mode(path, CREATE_NEW, 0o600)?;
    let result = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes).on("fill", path);
    if result.is_err() {
        let _ = std::fs::remove_file(path);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_df_sees_it() {
        let output = std::process::Command::new("stat").args(["-f", "-c", "%S %b", "/tmp"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (size, blocks) = text.trim().split_once(' ').unwrap();
        let space = of(Path::new("/tmp")).unwrap();
        assert_eq!(space.total, size.parse::<u64>().unwrap() * blocks.parse::<u64>().unwrap());
        assert!(space.available <= space.free && space.free <= space.total);
        let file = std::env::temp_dir().join(format!("minke-space-{}", std::process::id()));
        occupy(&file, 300_000).unwrap();
        assert_eq!(crate::status::of(&file).unwrap().length, 300_000);
        assert!(occupy(&file, 1).is_err());
        std::fs::remove_file(&file).unwrap();
    }
}
