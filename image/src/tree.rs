//! Folders on the build machine: walking, copying, links, times, scratch space.

use crate::error::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

/// Everything below `folder`, folders before what they hold, each level sorted by name: relative path and path.
/// Links are not followed.
pub fn walk(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).on("reading the folder", folder)? {
        names.push(entry.on("reading the folder", folder)?.file_name());
    }
    names.sort();
    for name in names {
        let path = folder.join(&name);
        let name = name.to_string_lossy().into_owned();
        let below = if fs::symlink_metadata(&path).on("looking at", &path)?.is_dir() {
            walk(&path)?
        } else {
            Vec::new()
        };
        found.push((name.clone(), path));
        found.extend(below.into_iter().map(|(relative, path)| (format!("{name}/{relative}"), path)));
    }
    Ok(found)
}

/// A root folder that is being filled: every path given to its methods is relative to it.
#[derive(Debug, Clone)]
pub struct Root {
    top: PathBuf,
}

impl Root {
    /// The folder `top`, which is made.
    pub fn new(top: &Path) -> Result<Root> {
        fs::create_dir_all(top).on("making", top)?;
        Ok(Root { top: top.to_path_buf() })
    }

    /// The folder itself.
    pub fn top(&self) -> &Path {
        &self.top
    }

    /// Where `path` (with or without a leading slash) lies on the build machine.
    pub fn at(&self, path: &str) -> PathBuf {
        self.top.join(path.trim_start_matches('/'))
    }

    fn parent(&self, path: &str) -> Result<PathBuf> {
        let place = self.at(path);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).on("making", parent)?;
        }
        Ok(place)
    }

    /// Makes a folder and those above it.
    pub fn folder(&self, path: &str) -> Result<()> {
        let place = self.at(path);
        fs::create_dir_all(&place).on("making", &place)
    }

    /// Makes a folder with these permission bits.
    pub fn folder_mode(&self, path: &str, mode: u32) -> Result<()> {
        self.folder(path)?;
        self.mode(path, mode)
    }

    /// Writes a file of mode 0644.
    pub fn file(&self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let place = self.parent(path)?;
        fs::write(&place, content).on("writing", &place)?;
        self.mode(path, 0o644)
    }

    /// Copies a file to mode 0644, or 0755 with `executable`.
    pub fn copy(&self, from: &Path, path: &str, executable: bool) -> Result<()> {
        let place = self.parent(path)?;
        fs::copy(from, &place).context(|| format!("copying {} to {}", from.display(), place.display()))?;
        self.mode(path, if executable { 0o755 } else { 0o644 })
    }

    /// Makes a symbolic link; one that is there is replaced.
    pub fn link(&self, target: &str, path: &str) -> Result<()> {
        let place = self.parent(path)?;
        if fs::symlink_metadata(&place).is_ok() {
            fs::remove_file(&place).on("removing", &place)?;
        }
        std::os::unix::fs::symlink(target, &place).on("linking", &place)
    }

    /// Is anything (also a dangling link) there?
    pub fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.at(path)).is_ok()
    }

    /// Sets permission bits.
    pub fn mode(&self, path: &str, mode: u32) -> Result<()> {
        let place = self.at(path);
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).on("setting the mode of", &place)
    }
}

/// Gives every folder below `folder`, and itself, mode 0755, so that the user's umask does not show in an image.
pub fn set_folder_modes(folder: &Path) -> Result<()> {
    let mode = fs::Permissions::from_mode(0o755);
    for (_, path) in walk(folder)? {
        if fs::symlink_metadata(&path).on("looking at", &path)?.is_dir() {
            fs::set_permissions(&path, mode.clone()).on("setting the mode of", &path)?;
        }
    }
    fs::set_permissions(folder, mode).on("setting the mode of", folder)
}

/// Sets the times of everything below `folder` and of itself, so that images do not tell when they were built.
pub fn set_times(folder: &Path, seconds: u64) -> Result<()> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let times = fs::FileTimes::new().set_accessed(time).set_modified(time);
    for (_, path) in walk(folder)? {
        // The formats that we write take a link's time from elsewhere; std cannot set it.
        if !fs::symlink_metadata(&path).on("looking at", &path)?.is_symlink() {
            let file = fs::File::open(&path).on("opening", &path)?;
            file.set_times(times).on("setting the times of", &path)?;
        }
    }
    fs::File::open(folder).on("opening", folder)?.set_times(times).on("setting the times of", folder)
}

/// A temporary folder that goes away with the value.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Scratch {
    /// A new folder below the system's temporary folder; `name` makes it recognisable.
    pub fn new(name: &str) -> Result<Scratch> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("minke-{name}-{}-{count}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path).on("removing", &path)?;
        }
        fs::create_dir_all(&path).on("making", &path)?;
        Ok(Scratch { path })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
