//! Addresses of names, found in threads that live as long as a look-up.

use minke_sys::event::Waker;
use minke_sys::{Result, clock, thread};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The longest that a look-up takes.
const PATIENCE: Duration = Duration::from_secs(15);

/// What was found of a line, or why nothing was.
type Found = (u64, std::result::Result<Vec<IpAddr>, String>);

#[derive(Debug)]
pub(crate) struct Names {
    waker: Waker,
    found: Arc<Mutex<Vec<Found>>>,
}

impl Names {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { waker: Waker::new()?, found: Arc::default() })
    }

    /// Looks up `host` for a line; the waker tells when that is done.
    pub(crate) fn find(&self, entry: u64, host: String) {
        let found = Arc::clone(&self.found);
        let put = move |one: Found| {
            if let Ok(mut list) = found.lock() {
                list.push(one);
            }
        };
        let begun = self.waker.try_clone().and_then(|waker| {
            let put = put.clone();
            let work = move || {
                let until = clock::ahead(PATIENCE);
                let addresses = minke_http::resolve(Path::new("/etc"), &host, until);
                put((entry, addresses.map_err(|error| error.to_string())));
                waker.wake();
            };
            thread::spawn("resolve", Box::new(work))
        });
        if let Err(error) = begun {
            put((entry, Err(error.to_string())));
            self.waker.wake();
        }
    }

    /// What has been found since the last call.
    pub(crate) fn take(&self) -> Vec<Found> {
        self.waker.take();
        self.found.lock().map(|mut list| std::mem::take(&mut *list)).unwrap_or_default()
    }
}

impl AsFd for Names {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.waker.as_fd()
    }
}
