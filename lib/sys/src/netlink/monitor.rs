//! Changes of links, addresses and routes, as they happen.

use super::{Change, DATAGRAM, Route, open, receive};
use crate::socket::set_receive_buffer;
use crate::{Context, Result};
use minke_wire::netlink::{Messages, change};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Multicast groups of `linux/rtnetlink.h`: links, IPv4 addresses and routes, IPv6 addresses and routes.
const LINKS: u32 = 0x1;
const ADDRESSES: u32 = 0x10 | 0x100;
const ROUTES: u32 = 0x40 | 0x400;
/// Room for changes that nobody has read yet. More are dropped by the kernel, and everything is read anew.
const BUFFER: usize = 256 * 1024;
/// The most datagrams that one call of [`Monitor::read`] takes, so that a storm cannot hold the loop.
const BATCH: usize = 64;

/// A socket that tells of every change. Readable when there is one.
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
}

impl Monitor {
    /// A monitor of links of the caller's network namespace.
    pub fn links() -> Result<Self> {
        Self::new(LINKS)
    }

    /// A monitor of addresses.
    pub fn addresses() -> Result<Self> {
        Self::new(ADDRESSES)
    }

    /// A monitor of links and addresses.
    pub fn links_and_addresses() -> Result<Self> {
        Self::new(LINKS | ADDRESSES)
    }

    /// A monitor of links, addresses and routes.
    pub fn everything() -> Result<Self> {
        Self::new(LINKS | ADDRESSES | ROUTES)
    }

    fn new(groups: u32) -> Result<Self> {
        let fd = open(None, groups, SocketFlags::NONBLOCK)?;
        // A smaller buffer only means that all is read anew more often.
        let _ = set_receive_buffer(&fd, BUFFER);
        Ok(Self { fd })
    }

    /// Takes the changes that have come, oldest first. When some were lost, it begins with
    /// [`Change::Resync`] and all that is there now, read with `route`; so does the first call by
    /// [`Monitor::resync`].
    pub fn read(&mut self, route: &mut Route) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        // Changes are rare, and 32 KiB are much for a daemon to keep.
        let mut buffer = vec![0; DATAGRAM];
        for _ in 0..BATCH {
            match receive(&self.fd, &mut buffer) {
                Ok(Some(length)) => {
                    let datagram = buffer.get(..length).unwrap_or_default();
                    changes.extend(Messages::new(datagram).filter_map(change));
                }
                Ok(None) => {}
                Err(Errno::AGAIN) => break,
                Err(Errno::NOBUFS | Errno::MSGSIZE) => {
                    // What came before the loss is in the lists too; what comes after it follows them.
                    changes = Self::resync(route)?;
                }
                Err(errno) => return Err(errno).context("read", "netlink monitor"),
            }
        }
        Ok(changes)
    }

    /// Everything that is there now, after a [`Change::Resync`]. Open the monitor first, then ask: so
    /// nothing falls between.
    pub fn resync(route: &mut Route) -> Result<Vec<Change>> {
        let mut changes = vec![Change::Resync];
        changes.extend(route.links()?.into_iter().map(Change::Link));
        changes.extend(route.addresses()?.into_iter().map(Change::Address));
        changes.extend(route.routes()?.into_iter().map(Change::Route));
        Ok(changes)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
