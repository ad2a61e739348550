//! Requests about links, addresses and routes.

use super::{DATAGRAM, open, receive, set_explaining};
use crate::{Context, Error, Result};
use minke_wire::netlink::{
    self as wire, Address, Answer, Builder, Change, Link, Message, Messages, RouteSpec,
};
use rustix::io::Errno;
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{Protocol, SendFlags, SocketFlags, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fmt::Display;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The kernel answers within the system call; a limit keeps a daemon alive should it ever not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a list is asked for again because it changed while it was read.
const LIST_TRIES: usize = 5;
/// The most objects of one list that are kept; a machine with more has other troubles.
const LIST_LIMIT: usize = 65_536;

/// The network namespace in which a link shall live.
#[derive(Debug, Clone, Copy)]
pub enum Namespace<'a> {
    /// That of the socket.
    Current,
    /// That of the process with this id.
    Process(u32),
    /// That of an open namespace descriptor, `/proc/PID/ns/net` for instance.
    Descriptor(BorrowedFd<'a>),
}

impl From<Namespace<'_>> for wire::PeerNamespace {
    fn from(namespace: Namespace<'_>) -> Self {
        match namespace {
            Namespace::Current => Self::Current,
            Namespace::Process(pid) => Self::Process(pid),
            Namespace::Descriptor(fd) => Self::Descriptor(fd.as_raw_fd()),
        }
    }
}

/// A socket for requests. Each waits for the kernel's answer, which comes at once.
///
/// The errors are those of the kernel with its explanation where it gives one: `EEXIST` for what is there
/// already, `ENODEV` for a link that is not, `ESRCH` for a route that is not, `EPERM` without CAP_NET_ADMIN.
#[derive(Debug)]
pub struct Route {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Route {
    /// A socket in the caller's network namespace.
    pub fn new() -> Result<Self> {
        Self::of(None)
    }

    /// A socket of another of netlink's protocols.
    pub(super) fn of(protocol: Option<Protocol>) -> Result<Self> {
        let fd = open(protocol, 0, SocketFlags::empty())?;
        set_explaining(&fd);
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(ANSWER_TIMEOUT))
            .context("set time limit of", "netlink socket")?;
        Ok(Self { fd, sequence: 0, buffer: Vec::new() })
    }

    /// A socket in another network namespace, given by an open descriptor of `/proc/PID/ns/net`. The caller
    /// stays where it is: a short-lived thread goes there. Needs CAP_SYS_ADMIN.
    pub fn new_in(namespace: BorrowedFd<'_>) -> Result<Self> {
        let namespace = crate::file::duplicate(namespace)?;
        let opened = Arc::new(Mutex::new(None));
        let place = opened.clone();
        let open = move || {
            let kind = Some(LinkNameSpaceType::Network);
            let entered =
                move_into_link_name_space(namespace.as_fd(), kind).context("enter", "network namespace");
            let socket = entered.and_then(|()| Self::new());
            if let Ok(mut place) = place.lock() {
                *place = Some(socket);
            }
        };
        crate::thread::run("netlink", Box::new(open))?;
        let opened = opened.lock().ok().and_then(|mut opened| opened.take());
        opened.unwrap_or_else(|| Err(Error::new("enter", "network namespace", Errno::CANCELED)))
    }

    /// Makes a bridge and returns its index.
    pub fn create_bridge(&mut self, name: &str) -> Result<u32> {
        self.command(wire::create_bridge(name), "create bridge", &name)?;
        self.index_of(name)
    }

    /// Sees to it that there is a bridge of this name, switched on, with an address whose subnet has so many bits, and
    /// returns its index. What is there already stays.
    pub fn ensure_bridge(&mut self, name: &str, address: IpAddr, bits: u8) -> Result<u32> {
        let index = match self.index_of(name) {
            Err(error) if error.errno == Errno::NODEV => self.create_bridge(name)?,
            other => other?,
        };
        match self.add_address(index, address, bits, None) {
            Err(error) if error.errno != Errno::EXIST => return Err(error),
            _ => {}
        }
        self.set_up(index)?;
        Ok(index)
    }

    /// Makes a pair of links, `name` here and `peer` in `peer_namespace`; returns the index of `name`.
    pub fn create_veth(&mut self, name: &str, peer: &str, peer_namespace: Namespace<'_>) -> Result<u32> {
        let request = wire::create_veth(name, peer, peer_namespace.into());
        self.command(request, "create veth", &format_args!("{name} with peer {peer}"))?;
        self.index_of(name)
    }

    /// Deletes a link; the peer of a veth goes with it.
    pub fn delete_link(&mut self, index: u32) -> Result<()> {
        self.command(wire::delete_link(index), "delete", &link_text(index))
    }

    /// Switches a link on.
    pub fn set_up(&mut self, index: u32) -> Result<()> {
        self.command(wire::set_up(index, true), "switch on", &link_text(index))
    }

    /// Switches a link off.
    pub fn set_down(&mut self, index: u32) -> Result<()> {
        self.command(wire::set_up(index, false), "switch off", &link_text(index))
    }

    /// Makes a link a port of the bridge `master`, or of none.
    pub fn set_master(&mut self, index: u32, master: Option<u32>) -> Result<()> {
        self.command(wire::set_master(index, master.unwrap_or(0)), "set bridge of", &link_text(index))
    }

    /// Renames a link, which must be off.
    pub fn set_name(&mut self, index: u32, name: &str) -> Result<()> {
        self.command(wire::set_name(index, name), "rename", &format_args!("link {index} to {name}"))
    }

    /// Sets the largest packet, in bytes.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> Result<()> {
        self.command(wire::set_mtu(index, mtu), "set MTU of", &format_args!("link {index} to {mtu}"))
    }

    /// Sets the Ethernet address.
    pub fn set_mac(&mut self, index: u32, mac: [u8; 6]) -> Result<()> {
        self.command(wire::set_mac(index, mac), "set address of", &link_text(index))
    }

    /// Moves a link into another namespace, under a new name if one is given. Its index may change there.
    pub fn move_link(&mut self, index: u32, namespace: Namespace<'_>, name: Option<&str>) -> Result<()> {
        self.command(wire::move_link(index, namespace.into(), name), "move", &link_text(index))
    }

    /// Adds an address, or renews the lifetime of one that is there. `seconds` is how long the kernel keeps
    /// it; `None`: for ever.
    pub fn add_address(
        &mut self,
        index: u32,
        address: IpAddr,
        prefix: u8,
        seconds: Option<u32>,
    ) -> Result<()> {
        let request = wire::add_address(index, address, prefix, seconds);
        self.command(request, "add", &format_args!("{address}/{prefix} to link {index}"))
    }

    /// Takes an address from a link.
    pub fn delete_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<()> {
        let request = wire::delete_address(index, address, prefix);
        self.command(request, "delete", &format_args!("{address}/{prefix} of link {index}"))
    }

    /// Makes a route, in place of one to the same network with the same metric.
    pub fn replace_route(&mut self, route: &RouteSpec) -> Result<()> {
        self.command(wire::replace_route(route), "set", &route_text(route))
    }

    /// Deletes a route.
    pub fn delete_route(&mut self, route: &RouteSpec) -> Result<()> {
        self.command(wire::delete_route(route), "delete", &route_text(route))
    }

    /// The index of the link with this name.
    pub fn index_of(&mut self, name: &str) -> Result<u32> {
        self.link(name).map(|link| link.index)
    }

    /// The link with this name; `ENODEV` when there is none.
    pub fn link(&mut self, name: &str) -> Result<Link> {
        let mut found = None;
        self.exchange(wire::get_link(name), "find link", &name, &mut |message| {
            if let Some(Change::Link(link)) = wire::change(message) {
                found = Some(link);
            }
        })?;
        found.ok_or_else(|| Error::new("find link", name, Errno::NODEV))
    }

    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        self.list(wire::list_links, "links", |change| match change {
            Change::Link(link) => Some(link),
            _ => None,
        })
    }

    /// All addresses of the namespace, IPv4 and IPv6.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        self.list(wire::list_addresses, "addresses", |change| match change {
            Change::Address(address) => Some(address),
            _ => None,
        })
    }

    /// All routes of the namespace, of all tables.
    pub fn routes(&mut self) -> Result<Vec<wire::Route>> {
        self.list(wire::list_routes, "routes", |change| match change {
            Change::Route(route) => Some(route),
            _ => None,
        })
    }

    fn list<T>(
        &mut self,
        request: fn() -> Builder,
        what: &'static str,
        pick: fn(Change) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut tries = 0;
        loop {
            let mut items = Vec::new();
            let complete = self.exchange(request(), "list", &what, &mut |message| {
                if items.len() < LIST_LIMIT {
                    items.extend(wire::change(message).and_then(pick));
                }
            })?;
            tries += 1;
            if complete || tries >= LIST_TRIES {
                return Ok(items);
            }
        }
    }

    fn command(&mut self, request: Builder, operation: &'static str, object: &dyn Display) -> Result<()> {
        self.exchange(request, operation, object, &mut |_| {}).map(|_| ())
    }

    /// Sends a request and hands each object of the answer to `take`. Returns whether the answer is
    /// consistent.
    pub(super) fn exchange(
        &mut self,
        request: Builder,
        operation: &'static str,
        object: &dyn Display,
        take: &mut dyn FnMut(Message<'_>),
    ) -> Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence);
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.fd, &bytes, SendFlags::empty(), &kernel).context(operation, object)?;
        self.answers(take).map_err(|(errno, text)| match text.as_str() {
            "" => Error::new(operation, object, errno),
            text => Error::new(operation, format_args!("{object} ({text})"), errno),
        })
    }

    fn answers(&mut self, take: &mut dyn FnMut(Message<'_>)) -> std::result::Result<bool, (Errno, String)> {
        self.buffer.resize(DATAGRAM, 0);
        loop {
            let Some(length) = receive(&self.fd, &mut self.buffer).map_err(|errno| (errno, String::new()))?
            else {
                continue;
            };
            for message in Messages::new(self.buffer.get(..length).unwrap_or_default()) {
                if message.sequence != self.sequence {
                    // The rest of an answer that an earlier request gave up waiting for.
                    continue;
                }
                match wire::answer(message) {
                    Answer::Content(message) => take(message),
                    Answer::Done => return Ok(true),
                    Answer::Interrupted => return Ok(false),
                    Answer::Failed { errno, text } => {
                        return Err((Errno::from_raw_os_error(errno), text.to_owned()));
                    }
                }
            }
        }
    }
}

fn link_text(index: u32) -> String {
    format!("link {index}")
}

fn route_text(route: &RouteSpec) -> String {
    format!("route to {}/{} on link {}", route.destination, route.prefix, route.interface)
}
