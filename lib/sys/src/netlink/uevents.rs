//! Device events from the kernel.

use super::{Uevent, open, receive};
use crate::socket::set_receive_buffer;
use crate::{Context, Result};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use rustix::net::netlink::KOBJECT_UEVENT;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The kernel's own events. Group 2 would be those that udevd passes on.
const KERNEL: u32 = 1;
/// Room for events that nobody has read yet: a coldplug of a few thousand devices.
const BUFFER: usize = 2 * 1024 * 1024;
/// The kernel's limit on one event is 2 KiB and a few fields (`UEVENT_BUFFER_SIZE`).
const EVENT: usize = 8 * 1024;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<'a> {
    /// A device event.
    Event(Uevent<'a>),
    /// Events were lost: look at all of `/sys` again.
    Lost,
    /// Nothing more at present.
    Empty,
}

/// A socket of device events. Readable when there is one. Only what the kernel sends is taken.
#[derive(Debug)]
pub struct Uevents {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Uevents {
    /// A socket that receives the events from now on.
    pub fn new() -> Result<Self> {
        let fd = open(Some(KOBJECT_UEVENT), KERNEL, SocketFlags::NONBLOCK)?;
        // A smaller buffer only means that all is read anew more often.
        let _ = set_receive_buffer(&fd, BUFFER);
        Ok(Self { fd, buffer: vec![0; EVENT] })
    }

    /// Takes the next event, without waiting.
    pub fn read(&mut self) -> Result<Received<'_>> {
        let length = loop {
            match receive(&self.fd, &mut self.buffer) {
                Ok(Some(length)) if self.is_event(length) => break length,
                Ok(_) => {}
                Err(Errno::AGAIN) => return Ok(Received::Empty),
                Err(Errno::NOBUFS | Errno::MSGSIZE) => return Ok(Received::Lost),
                Err(errno) => return Err(errno).context("read", "uevent socket"),
            }
        };
        let event = self.buffer.get(..length).and_then(Uevent::parse);
        Ok(event.map_or(Received::Empty, Received::Event))
    }

    fn is_event(&self, length: usize) -> bool {
        self.buffer.get(..length).and_then(Uevent::parse).is_some()
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
