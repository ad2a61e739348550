//! Where clients ask: datagrams in batches, and connections that are accepted.

use super::slots::{Owner, Token};
use super::{Daemon, LONGEST_QUERY, Via, Waiter};
use crate::config::{CONTAINERS, near};
use crate::core::{Asked, Asking, Step};
use minke_sys::batch::{BATCH, Datagram, Inbox, listen_tcp, listen_udp};
use minke_sys::event::Interest;
use minke_sys::{Result, clock, socket};
use minke_wire::micros::Micros;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How many batches of one listener are answered in a row.
const ROUNDS: usize = 8;
/// From so many datagrams of a batch on the next ones are let come together, for this long and up to 50 µs that the kernel's
/// timers may be late: to wake up for each few, and to wake clients for as few answers, is a tenth of all time when there are
/// many.
const MANY: usize = 4;
const GATHER: Duration = Duration::from_micros(50);
/// Room for datagrams that wait while the loop is busy, in bytes of the kernel's memory.
const QUEUE: usize = 1 << 20;

/// How often the networks are looked at because of strangers.
const NEAR: Micros = Micros::from_secs(1);

/// An address where clients ask.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) address: SocketAddr,
    pub(super) udp: OwnedFd,
    pub(super) tcp: TcpListener,
}

impl Daemon {
    /// Listens at these addresses and no others. Sockets of addresses that stay are not touched. The error is the first
    /// one; the other addresses are served all the same, and so are those that are not named any more.
    pub(super) fn listen(&mut self, addresses: &[SocketAddr]) -> Result<()> {
        self.flush_late();
        let mut result = Ok(());
        for address in addresses {
            if !self.listeners.iter().flatten().any(|listener| listener.address == *address) {
                let opened = open(*address).and_then(|listener| self.watch_listener(listener));
                result = result.and(opened);
            }
        }
        result?;
        for slot in &mut self.listeners {
            *slot = slot.take().filter(|listener| addresses.contains(&listener.address));
        }
        Ok(())
    }

    fn watch_listener(&mut self, listener: Listening) -> Result<()> {
        // A client that waits for an answer of the one that was there before gets it from another address, and asks again.
        let place = self.listeners.iter().position(Option::is_none).unwrap_or(self.listeners.len());
        self.poller.add(&listener.udp, Token::new(Owner::Datagrams, place).0, Interest::Read)?;
        self.poller.add(&listener.tcp, Token::new(Owner::Listener, place).0, Interest::Read)?;
        match self.listeners.get_mut(place) {
            Some(slot) => *slot = Some(listener),
            None => self.listeners.push(Some(listener)),
        }
        Ok(())
    }

    pub(super) fn listener(&self, place: usize) -> Option<&Listening> {
        self.listeners.get(place)?.as_ref()
    }

    /// Whether somebody at this address may ask there. The kernel takes what is for an address of this host by whatever
    /// interface it comes, so a host of the network that has a route would reach the address of the containers; theirs are in
    /// the subnets of bridges.
    pub(super) fn may_ask(&mut self, place: usize, from: IpAddr, now: Micros) -> bool {
        let guarded = self.watch.is_some()
            && self.listener(place).is_some_and(|listener| listener.address == CONTAINERS);
        if !guarded || from.is_loopback() || self.is_near(from) {
            return true;
        }
        if now < self.near_until {
            return false;
        }
        // It may be a container of a network that has just been made.
        self.near_until = now.saturating_add(NEAR);
        match near() {
            Ok(near) => self.near = near,
            // Names are worth more than a second wall.
            Err(_) => return true,
        }
        self.is_near(from)
    }

    fn is_near(&self, from: IpAddr) -> bool {
        self.near.iter().any(|subnet| subnet.holds(from))
    }

    /// Answers what has come to a listener.
    pub(super) fn datagrams(&mut self, place: usize, now: Micros) {
        let mut inbox = self.inbox.take().unwrap_or_else(|| Inbox::new(LONGEST_QUERY));
        let mut watched = true;
        for _ in 0..ROUNDS {
            let Some(Some(listener)) = self.listeners.get(place) else { break };
            let count = inbox.receive(&listener.udp).unwrap_or(0);
            if watched && count >= MANY {
                // There are many. The kernel tells a watched socket of each datagram that leaves it, which costs a tenth of
                // all time; it is not watched while this goes on.
                watched = self.poller.remove(&listener.udp).is_err();
            }
            let mut read = [const { None }; BATCH];
            for (number, read) in read.iter_mut().enumerate().take(count) {
                *read = inbox.get(number).and_then(|datagram| self.read(place, datagram, now));
            }
            if count > 1 {
                self.resolver.warm(read.iter().flatten().map(|(_, asking)| asking));
            }
            for (datagram, asking) in read.iter().flatten() {
                self.datagram(place, datagram, asking, now);
            }
            if let Some(Some(listener)) = self.listeners.get(place) {
                self.outbox.flush(&listener.udp);
            }
            match count {
                0..MANY => break,
                MANY..BATCH => clock::sleep(GATHER),
                _ => {}
            }
        }
        if let Some(Some(listener)) = self.listeners.get(place).filter(|_| !watched) {
            // It was watched just now, so that there is room for it.
            let _ = self.poller.add(&listener.udp, Token::new(Owner::Datagrams, place).0, Interest::Read);
        }
        self.inbox = Some(inbox);
    }

    /// Reads a query; `None` for one that has its answer already, or gets none.
    fn read<'a>(
        &mut self,
        place: usize,
        datagram: Datagram<'a>,
        now: Micros,
    ) -> Option<(Datagram<'a>, Asking<'a>)> {
        let Datagram { bytes: query, from, to } = datagram;
        if !self.may_ask(place, from.ip(), now) {
            return None;
        }
        let asked = Asked { from: from.ip(), query, udp: true, search: 0 };
        match self.resolver.read(asked, self.outbox.buffer()) {
            Ok(asking) => return Some((datagram, asking)),
            Err(Step::Answered) => self.outbox.push(from, to),
            Err(_) => {}
        }
        None
    }

    fn datagram(&mut self, place: usize, datagram: &Datagram<'_>, asking: &Asking<'_>, now: Micros) {
        let Datagram { bytes: query, from, to } = *datagram;
        match self.resolver.answer(now, asking, self.outbox.buffer()) {
            Step::Answered => self.outbox.push(from, to),
            Step::Refresh(route) => {
                self.outbox.push(from, to);
                self.begin(route, None, now);
            }
            Step::Drop => {}
            step => {
                let search = step.search();
                let waiter = Waiter { via: Via::Datagram(place, to), from, query: query.to_vec(), search };
                self.wait(step, waiter, now);
            }
        }
    }
}

fn open(address: SocketAddr) -> Result<Listening> {
    let udp = listen_udp(address)?;
    // A smaller one only loses more while the machine is busy with other things.
    let _ = socket::set_receive_buffer(&udp, QUEUE);
    Ok(Listening { address, udp, tcp: listen_tcp(address)? })
}
