//! One Ethernet link: its profile, its DHCP client, its sockets, and what is set up on it.

use crate::client::{Action, Addressing, Client, Event, Listening};
use crate::files::Places;
use crate::lease::Lease;
use crate::profile::{Choice, Names, USUAL_PRIORITY};
use crate::setup::Installed;
use minke_applet::log;
use minke_sys::event::{Interest, Poller};
use minke_sys::netlink::{Link, Route};
use minke_sys::packet::{self, BROADCAST, PacketSocket};
use minke_sys::{clock, random};
use minke_wire::dhcp::{CLIENT_PORT, Reply, SERVER_PORT, decapsulate, encapsulate};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::time::Duration;

/// The largest packet that is read: an Ethernet frame's.
const PACKET: usize = 1514;
/// The most packets that are read at once, so that a flood on one link cannot hold the loop.
const BATCH: usize = 16;

#[derive(Debug)]
enum Socket {
    Packets(PacketSocket),
    Port(UdpSocket),
}

/// A link that this program looks after.
#[derive(Debug)]
pub struct Port {
    /// The link as the kernel last told.
    pub link: Link,
    /// The client.
    pub client: Client,
    /// What it was given.
    pub choice: Choice,
    /// The metric of its routes, unless its profile has one; the lowest wins.
    pub metric: u32,
    socket: Option<Socket>,
    installed: Option<Installed>,
}

/// What a port works with.
pub struct Tools<'a> {
    /// The socket for requests.
    pub route: &'a mut Route,
    /// The event loop.
    pub poller: &'a Poller,
    /// The files.
    pub places: &'a Places,
}

impl Port {
    /// A port for a link that is new to us. It counts as one that is off: so a carrier that is there already
    /// is one that comes.
    pub fn new(link: &Link, metric: u32, places: &Places) -> minke_sys::Result<Self> {
        let mut seed = [0u8; 8];
        random::fill(&mut seed)?;
        let remembered = places.remembered(&link.name);
        let known = remembered.on_link.map(|(address, _)| address).or(remembered.known);
        let mut link = link.clone();
        link.flags = 0;
        Ok(Self {
            client: Client::new(link.mac.unwrap_or_default(), host_name(), u64::from_ne_bytes(seed), known),
            choice: Choice::Open,
            metric,
            socket: None,
            installed: remembered.on_link.map(|(address, prefix)| Installed::adopted(address, prefix)),
            link,
        })
    }

    /// The token by which the event loop knows the port's socket.
    pub fn token(&self) -> u64 {
        crate::daemon::FIRST_PORT.saturating_add(self.link.index.into())
    }

    /// The link changed. As with [`Port::step`], the answer is whether the lease came, changed or went.
    pub fn link_changed(&mut self, link: &Link, tools: &mut Tools<'_>) -> bool {
        let carrier = link.has_carrier();
        if self.link.has_carrier() != carrier {
            let state = if carrier { "has a carrier" } else { "lost its carrier" };
            log::info(format_args!("{} {state}", link.name));
        }
        self.link.clone_from(link);
        // What it is to do with its carrier is not known yet.
        if carrier && matches!(self.choice, Choice::Open) {
            return false;
        }
        self.step(if carrier { Event::CarrierUp } else { Event::CarrierDown }, tools)
    }

    /// The link, which has a carrier, is given something else. The answer is that the resolver's files must be written.
    pub fn adopt(&mut self, choice: &Choice, tools: &mut Tools<'_>) -> bool {
        let name = &self.link.name;
        let addressing = match choice {
            Choice::Profile(profile) => {
                log::info(format_args!("{name}: profile {}", profile.name));
                profile.addressing.clone()
            }
            Choice::Usual => Addressing::Dhcp,
            Choice::Off | Choice::Open => {
                log::info(format_args!(
                    "{name}: no profile that is made for it is free and comes up by itself"
                ));
                Addressing::Nothing
            }
        };
        self.choice = choice.clone();
        let is_off = matches!(addressing, Addressing::Nothing);
        let actions = self.client.adopt(clock::boottime(), addressing);
        let is_same = actions.is_empty();
        self.act(actions, tools);
        // The routes may be others.
        if let Some(lease) = self.client.lease().filter(|_| is_same).cloned() {
            self.configure(&lease, tools);
        }
        // What an earlier run has left, of which the client does not know.
        if is_off && self.installed.is_some() {
            self.abandon(tools);
        }
        true
    }

    /// Where names are asked while this link is as it is.
    pub fn names(&self, all: &mut Vec<Names>) {
        let profile = self.choice.profile();
        if let Some(lease) = self.client.lease() {
            let mut names = Names { priority: USUAL_PRIORITY, ..Names::default() };
            if let Some(profile) = profile {
                names.clone_from(&profile.names[0]);
            }
            if !profile.is_some_and(|profile| profile.ignores_dhcp_names) {
                names.servers.extend(lease.dns_servers.iter().map(Ipv4Addr::to_string));
                names.search.extend_from_slice(&lease.search);
            }
            all.push(names);
        }
        if let Some(profile) = profile {
            all.push(profile.names[1].clone());
        }
    }

    /// Goes on by one event. The answer is whether the lease came, changed or went: then the resolver's files
    /// must be written.
    pub fn step(&mut self, event: Event<'_>, tools: &mut Tools<'_>) -> bool {
        let actions = self.client.step(clock::boottime(), event);
        self.act(actions, tools)
    }

    fn act(&mut self, actions: Vec<Action>, tools: &mut Tools<'_>) -> bool {
        let mut changed = false;
        // What is sent goes over the socket that the new state listens on.
        self.listen(tools.poller);
        for action in actions {
            changed |= self.perform(&action, tools);
        }
        changed
    }

    /// Reads what has arrived. As with [`Port::step`], the answer is whether the lease came, changed or went.
    pub fn readable(&mut self, tools: &mut Tools<'_>) -> bool {
        let mut changed = false;
        let mut buffer = vec![0u8; PACKET];
        for _ in 0..BATCH {
            let message = match &self.socket {
                Some(Socket::Packets(socket)) => match socket.receive(&mut buffer) {
                    Ok(Some(packet)) => decapsulate(packet),
                    _ => break,
                },
                Some(Socket::Port(socket)) => match socket.recv_from(&mut buffer) {
                    Ok((length, from)) if from.port() == SERVER_PORT => buffer.get(..length),
                    Ok(_) => None,
                    Err(_) => break,
                },
                None => break,
            };
            if let Some(Ok(reply)) = message.map(Reply::decode) {
                changed |= self.step(Event::Reply(&reply), tools);
            }
        }
        changed
    }

    /// When the client's timer is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.client.deadline()
    }

    /// Takes everything off the link, which is no longer ours.
    pub fn abandon(&mut self, tools: &mut Tools<'_>) {
        if let Some(installed) = self.installed.take() {
            installed.remove(tools.route, self.link.index);
        }
        tools.places.forget(&self.link.name);
        tools.places.write_time_servers(&self.link.name, &[]);
    }

    fn perform(&mut self, action: &Action, tools: &mut Tools<'_>) -> bool {
        match action {
            Action::Broadcast(message) => self.broadcast(message),
            Action::Unicast(server, message) => self.send(*server, message),
            Action::Rebind(message) => self.send(Ipv4Addr::BROADCAST, message),
            Action::Configure(lease) => {
                self.configure(lease, tools);
                return true;
            }
            Action::Unconfigure(why) => {
                log::warn(format_args!("{}: address removed: {why}", self.link.name));
                self.abandon(tools);
                return true;
            }
            Action::Refused(why) => {
                log::warn(format_args!("{}: the DHCP server refuses the address ({why})", self.link.name));
                // Also one that an earlier run left, of which the client does not know.
                if self.installed.is_some() {
                    self.abandon(tools);
                    return true;
                }
            }
        }
        false
    }

    fn configure(&mut self, lease: &Lease, tools: &mut Tools<'_>) {
        let old = self.installed.take();
        let same = old.as_ref().is_some_and(|old| (old.address, old.prefix) == (lease.address, lease.prefix));
        let profile = self.choice.profile();
        let metric = profile.and_then(|profile| profile.metric).unwrap_or(self.metric);
        let takes_default = !profile.is_some_and(|profile| profile.is_never_default);
        match Installed::install(tools.route, &self.link, metric, lease, takes_default, old.as_ref()) {
            Ok(installed) => {
                if !same {
                    let (name, Lease { address, prefix, server, .. }) = (&self.link.name, lease);
                    let from = if lease.is_fixed() { "its profile" } else { "DHCP server " };
                    let server: &dyn std::fmt::Display = if lease.is_fixed() { &"" } else { server };
                    log::info(format_args!("{name}: address {address}/{prefix} from {from}{server}"));
                }
                self.installed = Some(installed);
            }
            Err(error) => {
                log::error(format_args!("{error}"));
                self.installed = old;
            }
        }
        tools.places.remember(&self.link.name, lease);
        tools.places.write_time_servers(&self.link.name, &lease.ntp_servers);
    }

    fn broadcast(&self, message: &[u8]) {
        if let Some(Socket::Packets(socket)) = &self.socket {
            let packet = encapsulate(Ipv4Addr::UNSPECIFIED, message);
            // A link that is just going down refuses; the client asks again.
            if let Err(error) = socket.send(&packet, BROADCAST) {
                log::warn(format_args!("{}: {error}", self.link.name));
            }
        }
    }

    fn send(&self, to: Ipv4Addr, message: &[u8]) {
        if let Some(Socket::Port(socket)) = &self.socket
            && let Err(error) = socket.send_to(message, SocketAddrV4::new(to, SERVER_PORT))
        {
            log::warn(format_args!("{}: ask DHCP server {to}: {error}", self.link.name));
        }
    }

    /// Opens and closes sockets as the client's state wants. One that cannot be opened is tried again with
    /// the next event.
    fn listen(&mut self, poller: &Poller) {
        let wanted = self.client.listening();
        let present = match &self.socket {
            None => Listening::Nothing,
            Some(Socket::Packets(_)) => Listening::Packets,
            Some(Socket::Port(_)) => Listening::Port,
        };
        if present != wanted {
            self.socket = None;
            match self.open(wanted, poller) {
                Ok(socket) => self.socket = socket,
                Err(error) => log::warn(format_args!("{}: {error}", self.link.name)),
            }
        }
    }

    fn open(&self, wanted: Listening, poller: &Poller) -> minke_sys::Result<Option<Socket>> {
        Ok(match wanted {
            Listening::Nothing => None,
            Listening::Packets => {
                let socket = PacketSocket::open(self.link.index, &packet::udp_port_filter(CLIENT_PORT))?;
                poller.add(&socket, self.token(), Interest::Read)?;
                Some(Socket::Packets(socket))
            }
            Listening::Port => {
                let socket = packet::udp_on_link(&self.link.name, CLIENT_PORT)?;
                poller.add(&socket, self.token(), Interest::Read)?;
                Some(Socket::Port(socket))
            }
        })
    }
}

/// The host's name, for the server's table.
fn host_name() -> String {
    let path = Path::new("/proc/sys/kernel/hostname");
    let bytes = minke_sys::file::read_bounded(path, 256).unwrap_or_default();
    let name = String::from_utf8(bytes).unwrap_or_default();
    match name.trim() {
        "(none)" | "localhost" => String::new(),
        name => name.to_owned(),
    }
}
