//! Notices that the settings may be others: one descriptor for the loop.
//!
//! Files are watched by their folders (inotify(7)), the host's name by the kernel's file of it, addresses by netlink. After
//! a notice it waits for a moment, so that many changes are one; nothing is looked at while nothing happens.

use super::Subnet;
use super::read::{self, HOST_NAME, INTERFACES, NAMES, OPTIONS, Source};
use minke_sys::event::{Interest, Poller, Timer};
use minke_sys::file::Flags;
use minke_sys::inotify::{Inotify, Kind, Scope};
use minke_sys::netlink::{Monitor, Route};
use minke_sys::{Result, file};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

/// How long after a change it is looked at.
const PAUSE: Duration = Duration::from_millis(50);

const FILES: u64 = 0;
const NAME: u64 = 1;
const ADDRESSES: u64 = 2;
const TIMER: u64 = 3;

/// A folder, and which name in it counts; empty: each.
type Place = (&'static str, &'static str);

const PLACES: [Place; 6] = [
    ("run", "dnsmasq.servers"),
    (INTERFACES, ""),
    (OPTIONS[0], ""),
    (OPTIONS[1], ""),
    ("etc", "hosts"),
    (NAMES, ""),
];

/// Watches what a [`Source`] reads.
#[derive(Debug)]
pub(crate) struct Watch {
    poller: Poller,
    timer: Timer,
    inotify: Inotify,
    /// The number of a watch and the name that counts in it.
    watches: Vec<(i32, &'static str)>,
    /// Held open: the kernel tells of a change as an error on it, which the outer poller takes when it asks this one. So
    /// here it shows by the name alone.
    _host_file: Option<File>,
    host_name: String,
    monitor: Monitor,
    addresses: Vec<Subnet>,
    /// The timer runs.
    pending: bool,
}

impl Watch {
    /// Watches; `None` for a source that has no files. Folders that are not there are made where that is allowed, for
    /// what is not there cannot be watched.
    pub(crate) fn new(source: &Source) -> Result<Option<Self>> {
        let Some(root) = &source.root else { return Ok(None) };
        let poller = Poller::new()?;
        let (timer, inotify, monitor) = (Timer::new()?, Inotify::new()?, Monitor::addresses()?);
        poller.add(&timer, TIMER, Interest::Read)?;
        poller.add(&inotify, FILES, Interest::Read)?;
        poller.add(&monitor, ADDRESSES, Interest::Read)?;
        let host_file = file::open(HOST_NAME, Flags::RDONLY).ok();
        if let Some(file) = &host_file {
            poller.add(file, NAME, Interest::None)?;
        }
        let mut watches = Vec::new();
        for (folder, name) in PLACES {
            let folder = root.join(folder);
            let _ = file::make_folder(&folder, 0o755);
            watches.extend(inotify.add(&folder, Scope::Writes).map(|watch| (watch, name)));
        }
        let addresses = read::interfaces();
        Ok(Some(Self {
            poller,
            timer,
            inotify,
            watches,
            _host_file: host_file,
            host_name: file::text(HOST_NAME),
            monitor,
            addresses,
            pending: false,
        }))
    }

    /// Takes what has happened; whether it is time to read everything again.
    pub(crate) fn take(&mut self) -> bool {
        let (mut ready, mut changed, mut due) = (Vec::new(), false, false);
        let _ = self.poller.wait(&mut ready, Some(Duration::ZERO));
        for event in &ready {
            match event.token {
                FILES => changed |= self.files(),
                NAME => {}
                ADDRESSES => changed |= self.addresses(),
                _ => due = true,
            }
        }
        if due {
            self.timer.take();
        }
        let host_name = file::text(HOST_NAME);
        if host_name != self.host_name {
            self.host_name = host_name;
            changed = true;
        }
        self.pending &= !due;
        if changed && !self.pending {
            self.pending = self.timer.set(Some(PAUSE)).is_ok();
        }
        due
    }

    fn files(&self) -> bool {
        let mut counts = false;
        for change in self.inotify.take() {
            let wanted = self.watches.iter().find(|(watch, _)| *watch == change.watch).map(|(_, name)| *name);
            counts |= match (change.kind, wanted) {
                (Kind::Lost, _) => true,
                // The writer is about to write.
                (Kind::Made, _) | (_, None) => false,
                (_, Some("")) => !change.name.starts_with(b"."),
                (_, Some(name)) => *change.name == *name.as_bytes(),
            };
        }
        counts
    }

    /// Addresses are renewed often, and are the same then.
    fn addresses(&mut self) -> bool {
        let Ok(mut route) = Route::new() else { return false };
        let _ = self.monitor.read(&mut route);
        let now = read::interfaces();
        if now == self.addresses {
            return false;
        }
        self.addresses = now;
        true
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
