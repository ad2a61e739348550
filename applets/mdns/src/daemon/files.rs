//! The folders of service files: read at the start, and again when something in them changes.

use crate::core::Service;
use crate::services;
use minke_applet::log;
use minke_sys::inotify::{Inotify, Scope};
use minke_sys::status::{self, Stamp};
use minke_sys::{Errno, Result, file};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// Bytes of a service file.
const LONGEST: usize = 64 << 10;
/// The most files of all folders.
const MOST_FILES: usize = 64;

/// The folders, and what was found in them.
#[derive(Debug)]
pub(super) struct Files {
    folders: Vec<PathBuf>,
    inotify: Inotify,
    files: Vec<File>,
}

/// A file that was read.
#[derive(Debug)]
struct File {
    path: PathBuf,
    stamp: Option<Stamp>,
    services: Vec<Service>,
}

impl Files {
    /// Nothing is read yet.
    pub(super) fn new(folders: Vec<PathBuf>) -> Result<Self> {
        Ok(Self { folders, inotify: Inotify::new()?, files: Vec::new() })
    }

    /// Takes what happened, so that the descriptor is no longer readable.
    pub(super) fn take(&self) {
        while !self.inotify.take().is_empty() {}
    }

    /// Reads what is new or was changed. A file that makes no sense is told of once, and the others count.
    pub(super) fn read(&mut self) {
        let mut paths = Vec::new();
        for folder in &self.folders {
            // Before the list is read, so that nothing falls between.
            self.watch(folder);
            match file::list(folder) {
                Ok(list) => paths.extend(list),
                Err(error) if error.errno == Errno::NOENT => {}
                Err(error) => log::warn(format_args!("{error}")),
            }
        }
        paths.retain(|path| path.extension().is_some_and(|end| end == "service"));
        if paths.len() > MOST_FILES {
            log::warn(format_args!("more than {MOST_FILES} service files; the others don't count"));
            paths.truncate(MOST_FILES);
        }
        self.files.retain(|file| paths.contains(&file.path));
        for path in paths {
            let stamp = status::stamp(&path);
            let place = match self.files.iter().position(|file| file.path == path) {
                Some(place) => place,
                None => {
                    self.files.push(File { path, stamp: None, services: Vec::new() });
                    self.files.len().saturating_sub(1)
                }
            };
            let Some(file) = self.files.get_mut(place) else { continue };
            if file.stamp.is_none() || file.stamp != stamp {
                file.stamp = stamp;
                file.services = parse(&file.path).unwrap_or_default();
            }
        }
    }

    /// All services with the paths of their files.
    pub(super) fn services(&self) -> impl Iterator<Item = (&Path, &Service)> {
        self.files.iter().flat_map(|file| file.services.iter().map(|service| (file.path.as_path(), service)))
    }

    /// Watches a folder, or the nearest one above it that there is: it may come.
    fn watch(&self, folder: &Path) {
        for folder in folder.ancestors() {
            match self.inotify.add(folder, Scope::Writes) {
                Err(error) if error.errno == Errno::NOENT => {}
                Err(error) => return log::warn(format_args!("{error}; its changes are not seen")),
                Ok(_) => return,
            }
        }
    }
}

impl AsFd for Files {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// The services of a file; `None`: there are none, and why was said.
fn parse(path: &Path) -> Option<Vec<Service>> {
    let content = match file::read_bounded(path, LONGEST) {
        Ok(content) => content,
        Err(error) => {
            log::warn(format_args!("{error}"));
            return None;
        }
    };
    // One that is just being made; its writer ends soon.
    if content.is_empty() {
        return None;
    }
    let Ok(text) = std::str::from_utf8(&content) else {
        log::warn(format_args!("{}: no UTF-8", path.display()));
        return None;
    };
    match services::parse(text) {
        Ok(services) => Some(services),
        Err(problem) => {
            log::warn(format_args!("{}: {problem}", path.display()));
            None
        }
    }
}
