//! Changes of files and folders: inotify(7).

use crate::path::name;
use crate::{Context, Result};
use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Events taken in one turn, so that a flood of changes cannot keep a loop from its other work.
const BATCH: usize = 256;

/// What is noticed of a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Names that come, go and change places in a folder, and what becomes of the folder itself.
    Names,
    /// The same, and files in it that were written and closed.
    Writes,
    /// The same, and the attributes.
    All,
    /// The same, and every single write.
    EveryWrite,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name was made. The file is empty as a rule, and its writer is about to write.
    Made,
    /// A name came from elsewhere.
    Came,
    /// A name or the watched thing itself went away.
    Gone,
    /// Content was written, or attributes changed.
    Written,
    /// The watch has ended: its file system was unmounted, or the watched thing is gone for good.
    Ended,
    /// Events were lost: anything may have happened anywhere.
    Lost,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The number of the watch.
    pub watch: i32,
    /// What happened.
    pub kind: Kind,
    /// The name in the watched folder that it is about; empty: the watched thing itself.
    pub name: Box<[u8]>,
}

/// A set of watches. The kernel bounds its queue; [`Kind::Lost`] tells when that was too small.
#[derive(Debug)]
pub struct Inotify {
    fd: OwnedFd,
}

impl Inotify {
    /// A set without watches.
    pub fn new() -> Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        Ok(Self { fd: inotify::init(flags).context("create", "inotify")? })
    }

    /// Watches what `path` leads to, and returns the watch's number. Another watch on the same thing has the same
    /// number, and then notices what either asked for.
    pub fn add(&self, path: &Path, scope: Scope) -> Result<i32> {
        let mut mask = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::MASK_ADD;
        if scope != Scope::Names {
            mask |= WatchFlags::CLOSE_WRITE;
        }
        if matches!(scope, Scope::All | Scope::EveryWrite) {
            mask |= WatchFlags::ATTRIB;
        }
        if scope == Scope::EveryWrite {
            mask |= WatchFlags::MODIFY;
        }
        inotify::add_watch(&self.fd, name(path), mask).on("watch", path)
    }

    /// Ends a watch.
    pub fn remove(&self, watch: i32) {
        let _ = inotify::remove_watch(&self.fd, watch);
    }

    /// The changes since the last call, at most 256: the descriptor stays readable when there are more.
    pub fn take(&self) -> Vec<Change> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.fd, &mut buffer);
        let mut changes = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map_or(&[][..], |name| name.to_bytes());
                    changes.push(Change { watch: event.wd(), kind: kind(event.events()), name: name.into() });
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
            // The reader's buffer must be empty: what is left in it would be lost.
            if changes.len() >= BATCH && reader.is_buffer_empty() {
                break;
            }
        }
        changes
    }
}

fn kind(events: ReadFlags) -> Kind {
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        Kind::Lost
    } else if events.intersects(ReadFlags::IGNORED | ReadFlags::UNMOUNT) {
        Kind::Ended
    } else if events.contains(ReadFlags::CREATE) {
        Kind::Made
    } else if events.contains(ReadFlags::MOVED_TO) {
        Kind::Came
    } else if events.intersects(ReadFlags::CLOSE_WRITE | ReadFlags::ATTRIB | ReadFlags::MODIFY) {
        Kind::Written
    } else {
        Kind::Gone
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("minke-inotify-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    /// The changes as `kind name`, each once, when there are so many. What was written is closed when a child that another
    /// test starts right now, and that has a copy of the file, has executed.
    fn story(inotify: &Inotify, count: usize) -> Vec<String> {
        let mut story: Vec<String> = Vec::new();
        crate::soon(|| {
            for change in inotify.take() {
                let line = format!("{:?} {}", change.kind, String::from_utf8_lossy(&change.name));
                if !story.contains(&line) {
                    story.push(line);
                }
            }
            (story.len() >= count).then_some(())
        });
        story
    }

    #[test]
    fn names_writes_and_ends() {
        let folder = folder("names");
        let inotify = Inotify::new().unwrap();
        let watch = inotify.add(&folder, Scope::Writes).unwrap();
        fs::write(folder.join("a"), "x").unwrap();
        assert_eq!(story(&inotify, 2), ["Made a", "Written a"]);
        fs::rename(folder.join("a"), folder.join("b")).unwrap();
        assert_eq!(story(&inotify, 2), ["Gone a", "Came b"]);
        assert_eq!(inotify.add(&folder.join("."), Scope::Names).unwrap(), watch);
        let file = inotify.add(&folder.join("b"), Scope::All).unwrap();
        assert_ne!(file, watch);
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(story(&inotify, 4), ["Written ", "Gone ", "Ended ", "Gone b"]);
        assert!(inotify.add(&folder, Scope::Names).is_err());
        assert!(inotify.take().is_empty());
    }

    #[test]
    fn a_flood_is_taken_in_turns_and_an_overflow_is_told() {
        let folder = folder("flood");
        let inotify = Inotify::new().unwrap();
        inotify.add(&folder, Scope::Names).unwrap();
        let limit: usize =
            fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        for number in 0..limit + 10 {
            // Every second event differs from the one before, else the kernel would merge them.
            let path = folder.join(format!("{}", number % 2));
            fs::File::create(&path).unwrap();
            fs::remove_file(&path).unwrap();
        }
        let (mut turns, mut lost) = (0, 0);
        loop {
            let changes = inotify.take();
            if changes.is_empty() {
                break;
            }
            assert!(changes.len() < 2 * BATCH + 300, "{}", changes.len());
            lost += changes.iter().filter(|change| change.kind == Kind::Lost).count();
            turns += 1;
        }
        assert!(turns > 10 && lost == 1, "{turns} turns, {lost} lost");
        fs::remove_dir_all(folder).unwrap();
    }
}
