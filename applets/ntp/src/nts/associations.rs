//! The daemon's associations: key exchanges in threads, cookies from the disk and to it.

use super::association::{Association, Judgement};
use super::exchange::{Asking, Clock, Granted, Unmade, exchange};
use super::session::RANDOM;
use super::store;
use minke_applet::log;
use minke_http::Trust;
use minke_sys::event::Waker;
use minke_sys::{Result, clock, random, thread};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// How long an exchange may take, with looking up the names.
const PATIENCE: Duration = Duration::from_secs(20);
/// Exchanges at a time: each takes some 100 KiB of memory.
const AT_ONCE: usize = 2;
/// How long a system may be in use after its build (SPECIFICATION.md, "Sane time at boot"), in seconds: twenty years.
const LIFETIME: u64 = 20 * 31_557_600;

/// What has come of an exchange for a line of the lists.
type Done = (u64, std::result::Result<Box<Granted>, Unmade>);

/// Where a line's NTP server is, or why that is not known.
pub(crate) type Found = std::result::Result<(Vec<IpAddr>, u16), String>;

#[derive(Debug)]
struct Item {
    /// The line of the lists.
    entry: u64,
    host: String,
    port: u16,
    association: Association,
    /// The file of cookies could not be written; said once.
    complained: bool,
}

/// All of them.
#[derive(Debug)]
pub(crate) struct Associations {
    items: Vec<Item>,
    folder: PathBuf,
    trust: Trust,
    waker: Waker,
    done: Arc<Mutex<Vec<Done>>>,
    running: usize,
}

impl Associations {
    /// None yet. Cookies are kept in `folder`.
    pub(crate) fn new(folder: PathBuf, trust: Trust) -> Result<Self> {
        Ok(Self { items: Vec::new(), folder, trust, waker: Waker::new()?, done: Arc::default(), running: 0 })
    }

    /// The lists were read again: lines that are not among `entries` are forgotten, and files of hosts that no line
    /// names.
    pub(crate) fn keep(&mut self, entries: &[u64], hosts: &[(&str, u16)]) {
        self.items.retain(|item| entries.contains(&item.entry));
        store::prune(&self.folder, hosts);
    }

    /// Where the NTP server of a line is, if that is known from before a restart; else an exchange is going to tell
    /// ([`Associations::take`]).
    pub(crate) fn find(&mut self, entry: u64, host: &str, port: u16) -> Option<(Vec<IpAddr>, u16)> {
        if let Some(item) = self.item(entry) {
            // Its server is of no use: perhaps there is another.
            item.association.refuse();
            return None;
        }
        let association = Association::new(store::take(&self.folder, host, port));
        let known = association.is_ready().then(|| (association.addresses().to_vec(), association.port()));
        self.items.push(Item { entry, host: host.to_owned(), port, association, complained: false });
        known
    }

    /// The time since boot when [`Associations::begin`] is due.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        if self.running >= AT_ONCE {
            return None;
        }
        self.items.iter().filter_map(|item| item.association.due()).min()
    }

    /// Begins the exchanges that are due. `confirmed`: something has confirmed the clock; `build`: the build time in seconds
    /// since 1970.
    pub(crate) fn begin(&mut self, now: Duration, confirmed: bool, build: u64) {
        for item in &mut self.items {
            if self.running >= AT_ONCE || item.association.due().is_none_or(|due| due > now) {
                continue;
            }
            let clock = item.association.begin(now, confirmed, build, build.saturating_add(LIFETIME));
            let asking = asking(item, &self.trust, clock);
            self.running = self.running.saturating_add(1);
            if let Err(error) = start(item.entry, asking, &self.waker, &self.done) {
                let unmade = Unmade { text: error.to_string().into(), unreached: true };
                deliver(&self.done, (item.entry, Err(unmade)));
                self.waker.wake();
            }
        }
    }

    /// The exchanges that have ended: for each line where its server is.
    pub(crate) fn take(&mut self) -> Vec<(u64, Found)> {
        self.waker.take();
        let done = self.done.lock().map(|mut list| std::mem::take(&mut *list)).unwrap_or_default();
        let mut found = Vec::new();
        for (entry, result) in done {
            self.running = self.running.saturating_sub(1);
            let Some(item) = self.item(entry) else { continue };
            match result {
                Ok(granted) => {
                    item.association.end(Some(granted));
                    let place = (item.association.addresses().to_vec(), item.association.port());
                    found.push((entry, Ok(place)));
                }
                Err(unmade) => {
                    item.association.end(None);
                    if unmade.unreached {
                        item.association.set_unreached();
                    }
                    found.push((entry, Err(unmade.text.into())));
                }
            }
        }
        found
    }

    /// Seals a question to the server of a line. `false`: it cannot be, and must not be sent.
    pub(crate) fn seal(&mut self, entry: u64, question: &mut Vec<u8>) -> bool {
        let mut numbers = [0; RANDOM];
        let Some(item) = self.item(entry) else { return false };
        random::fill(&mut numbers).is_ok() && item.association.seal(question, &numbers)
    }

    /// The last question to the server of a line was not sent after all.
    pub(crate) fn unsent(&mut self, entry: u64) {
        if let Some(item) = self.item(entry) {
            item.association.unsent();
        }
    }

    /// Judges what came for a line; `told` is its transmit time since 1970. Now and then it writes a file.
    pub(crate) fn open(&mut self, entry: u64, bytes: &[u8], told: Duration) -> Judgement {
        let folder = self.folder.clone();
        let Some(item) = self.item(entry) else { return Judgement::Foreign };
        let judgement = item.association.open(bytes, told);
        if judgement == Judgement::Authentic
            && let Some(kept) = item.association.reserve(clock::boottime())
            && let Err(error) = store::put(&folder, &item.host, item.port, &kept)
        {
            if !item.complained {
                log::warn(format_args!("{error}; after a restart keys are exchanged anew"));
            }
            item.complained = true;
        }
        judgement
    }

    /// The network has come, or the clock was set: what failed may work now.
    pub(crate) fn encourage(&mut self) {
        let now = clock::boottime();
        for item in &mut self.items {
            item.association.encourage(now);
        }
    }

    fn item(&mut self, entry: u64) -> Option<&mut Item> {
        self.items.iter_mut().find(|item| item.entry == entry)
    }
}

impl AsFd for Associations {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}

fn asking(item: &Item, trust: &Trust, clock: Clock) -> Asking {
    Asking {
        host: item.host.clone(),
        port: item.port,
        trust: trust.clone(),
        etc: "/etc".into(),
        only_v4: None,
        clock,
        patience: PATIENCE,
    }
}

fn start(entry: u64, asking: Asking, waker: &Waker, done: &Arc<Mutex<Vec<Done>>>) -> Result<()> {
    let (waker, done) = (waker.try_clone()?, Arc::clone(done));
    let work = move || {
        deliver(&done, (entry, exchange(&asking)));
        waker.wake();
    };
    thread::spawn("nts", Box::new(work))
}

fn deliver(done: &Mutex<Vec<Done>>, one: Done) {
    if let Ok(mut list) = done.lock() {
        list.push(one);
    }
}
