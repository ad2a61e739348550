//! Netlink sockets (netlink(7)): network links, addresses and routes; what changes about them; device events.
//!
//! The messages themselves are built and read by `minke_wire::netlink`. A socket belongs to the network
//! namespace in which it was opened, wherever its owner goes afterwards.

mod generic;
mod monitor;
mod route;
#[cfg(test)]
mod tests;
mod uevents;

pub use generic::set_country;
pub use minke_wire::netlink::{Address, Change, Link, Route as RouteEntry, RouteSpec, Uevent};
pub use monitor::Monitor;
pub use route::{Namespace, Route};
pub use uevents::{Received, Uevents};

use crate::{Context, Result};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Room for one datagram. The kernel sends at most 32 KiB to a reader that asked with such a buffer
/// (netlink(7)).
const DATAGRAM: usize = 32 * 1024;

/// Opens a socket that is subscribed to the multicast groups of the bit mask `groups`.
fn open(protocol: Option<Protocol>, groups: u32, flags: SocketFlags) -> Result<OwnedFd> {
    let flags = flags | SocketFlags::CLOEXEC;
    let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)
        .context("open", "netlink socket")?;
    rustix::net::bind(&fd, &SocketAddrNetlink::new(0, groups)).context("bind", "netlink socket")?;
    Ok(fd)
}

/// Asks for answers that say in words what is wrong and do not repeat the request.
fn set_explaining(fd: &OwnedFd) {
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
        let on: libc::c_int = 1;
        let size = size_of_val(&on) as libc::socklen_t;
        // SAFETY: the pointer is to `on`, which outlives the call, and `size` is its size.
        unsafe {
            libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast(), size);
        };
        // A kernel before 4.12 has neither option: it explains nothing and repeats more, both harmless.
    }
}

/// Receives one datagram. `Ok(None)`: it was not the kernel that sent it.
fn receive(fd: impl AsFd, buffer: &mut [u8]) -> std::result::Result<Option<usize>, Errno> {
    loop {
        match rustix::net::recvfrom(&fd, &mut *buffer, RecvFlags::TRUNC) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok((_, length, _)) if length > buffer.len() => return Err(Errno::MSGSIZE),
            Ok((length, _, from)) => {
                // Port 0 is the kernel's alone; any process can send to a netlink socket otherwise.
                let sender = from.and_then(|from| SocketAddrNetlink::try_from(from).ok());
                return Ok(sender.is_some_and(|sender| sender.pid() == 0).then_some(length));
            }
        }
    }
}
