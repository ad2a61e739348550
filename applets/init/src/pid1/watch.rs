//! What path units watch: one inotify instance for all.
//!
//! Of each path every folder above it is watched for the next name, and the thing itself for writes. When a name comes
//! or goes, the watches of the paths through it are set anew. inotify says nothing of mounts: the mount table does, and
//! then every path is set anew and its stamp compared.

use crate::log;
use crate::unit::{Look, Trigger};
use minke_sys::file::{self, Flags};
use minke_sys::inotify::{Change, Inotify, Kind, Scope};
use minke_sys::status::{self, Stamp};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Watched paths.
#[derive(Debug)]
pub struct Watches {
    inotify: Inotify,
    /// `/proc/self/mountinfo`, which has an error when a mount comes or goes: proc_pid_mounts(5).
    mounts: File,
    places: Vec<Place>,
}

/// One watched path.
#[derive(Debug)]
struct Place {
    /// The path unit.
    unit: String,
    look: Look,
    path: PathBuf,
    stamp: Option<Stamp>,
    /// The watches on the folders above and, without a name, on the thing itself.
    points: Vec<Point>,
}

#[derive(Debug)]
struct Point {
    watch: i32,
    /// The name in the folder that the path goes through; empty: the path ends here.
    name: Box<[u8]>,
    /// The name is the path's last.
    last: bool,
}

/// A path unit to which something may have happened, and whether it has for sure.
pub type News = (String, bool);

impl Watches {
    /// Watches on nothing.
    pub fn new() -> minke_sys::Result<Self> {
        let mounts = file::open("/proc/self/mountinfo", Flags::RDONLY)?;
        Ok(Self { inotify: Inotify::new()?, mounts, places: Vec::new() })
    }

    /// The descriptor that has an error when a mount comes or goes.
    pub fn mounts(&self) -> BorrowedFd<'_> {
        self.mounts.as_fd()
    }

    /// Begins to watch what a unit's file names, instead of what it named before.
    pub fn watch(&mut self, unit: &str, trigger: &Trigger) {
        self.forget(unit);
        for (look, path) in &trigger.paths {
            let path = PathBuf::from(path);
            if trigger.make_directory && *look != Look::Exists {
                log::failure(log::WARNING, file::make_folder(&path, trigger.directory_mode));
            }
            let stamp = status::stamp(&path);
            let unit = unit.to_owned();
            self.places.push(Place { unit, look: *look, path, stamp, points: Vec::new() });
            self.set(self.places.len().saturating_sub(1));
        }
    }

    /// No longer watches what a unit names.
    pub fn forget(&mut self, unit: &str) {
        let mut points = Vec::new();
        self.places.retain_mut(|place| {
            let goes = place.unit == unit;
            if goes {
                points.append(&mut place.points);
            }
            !goes
        });
        self.drop_points(&points);
    }

    /// What happened since the last call, as far as it concerns somebody.
    pub fn take(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        for change in self.inotify.take() {
            for index in 0..self.places.len() {
                if let Some(changed) = self.meaning(index, &change) {
                    self.tell(&mut news, index, changed);
                }
            }
        }
        news
    }

    /// A mount came or went: what is seen at a path may be another thing now.
    pub fn remounted(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        for index in 0..self.places.len() {
            let changed = self.set(index);
            self.tell(&mut news, index, changed);
        }
        news
    }

    fn tell(&mut self, news: &mut Vec<News>, index: usize, changed: bool) {
        let Some(place) = self.places.get_mut(index) else { return };
        if changed {
            place.stamp = status::stamp(&place.path).or(place.stamp);
        }
        let changed = changed && matches!(place.look, Look::Changed | Look::Modified);
        match news.iter_mut().find(|(unit, _)| *unit == place.unit) {
            Some((_, known)) => *known |= changed,
            None => news.push((place.unit.clone(), changed)),
        }
    }

    /// What a change means for a place: nothing; that it should be looked at; that it has changed for sure.
    fn meaning(&mut self, index: usize, change: &Change) -> Option<bool> {
        if change.kind == Kind::Lost {
            self.set(index);
            return Some(true);
        }
        let place = self.places.get(index)?;
        let point = place.points.iter().find(|point| {
            point.watch == change.watch
                // What happens to a watched folder itself has no name.
                && (point.name.is_empty() || change.name.is_empty() || point.name == change.name)
        })?;
        let (own, last, kind) = (point.name.is_empty(), point.last, change.kind);
        if own && kind != Kind::Ended {
            if kind == Kind::Gone && change.name.is_empty() {
                self.set(index);
            }
            return Some(true);
        }
        if change.name.is_empty() && kind == Kind::Written {
            return None;
        }
        let named = last && !change.name.is_empty();
        if named && kind == Kind::Written {
            return Some(true);
        }
        let differs = self.set(index);
        Some(match kind {
            // A new file is empty, and its writer is about to write: that it is closed comes later.
            Kind::Made if named => {
                status::of(&self.places.get(index)?.path).is_ok_and(|data| !data.is_file() || data.length > 0)
            }
            Kind::Came | Kind::Gone if named => true,
            _ => differs,
        })
    }

    /// Sets a place's watches anew, and says whether another thing is there than before. That nothing is there is none:
    /// a file system that was unmounted comes back.
    fn set(&mut self, index: usize) -> bool {
        let Some(place) = self.places.get_mut(index) else { return false };
        let old = std::mem::take(&mut place.points);
        let path = place.path.as_path();
        let mut folder = PathBuf::from("/");
        let mut rest = path.iter().skip(1).peekable();
        let mut points = Vec::new();
        // From the top down: what appears below a folder after it is watched is noticed.
        while let Some(name) = rest.next() {
            let last = rest.peek().is_none();
            let scope = if last { Scope::Writes } else { Scope::Names };
            let Ok(watch) = self.inotify.add(&folder, scope) else { break };
            points.push(Point { watch, name: name.as_bytes().into(), last });
            folder.push(name);
        }
        let scope = if place.look == Look::Modified { Scope::EveryWrite } else { Scope::All };
        if let Ok(watch) = self.inotify.add(path, scope) {
            points.push(Point { watch, name: [].into(), last: true });
        }
        place.points = points;
        let stamp = status::stamp(path);
        let differs = stamp.is_some() && stamp != place.stamp;
        if stamp.is_some() {
            place.stamp = stamp;
        }
        self.drop_points(&old);
        differs
    }

    /// Ends the watches that no place has any more.
    fn drop_points(&self, points: &[Point]) {
        for point in points {
            let used = |place: &Place| place.points.iter().any(|other| other.watch == point.watch);
            if !self.places.iter().any(used) {
                self.inotify.remove(point.watch);
            }
        }
    }
}

impl AsFd for Watches {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
