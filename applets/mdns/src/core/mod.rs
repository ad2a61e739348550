//! Responder and querier without sockets and clocks: events come in with the time, what is to be done comes out
//! (RFC 6762, RFC 6763).

mod ask;
mod cache;
mod links;
mod probe;
mod random;
mod record;
mod registry;
mod respond;
mod send;
mod side;
#[cfg(test)]
mod tests;
mod time;

use ask::Ask;
use cache::Cache;
use minke_wire::dns::{Kind, Message, Name};
use random::Random;
pub(crate) use record::Record;
use registry::Group;
use side::Side;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
pub(crate) use time::Time;
use time::{NEVER, after, count, sooner};

/// The port of multicast DNS.
pub(crate) const PORT: u16 = 5353;

/// Bounds of what others can make us keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Most records in the cache, and their bytes with what keeping them takes.
    pub(crate) cache_records: usize,
    pub(crate) cache_bytes: usize,
    /// Most questions at a time.
    pub(crate) questions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cache_records: 1024, cache_bytes: 256 << 10, questions: 64 }
    }
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    /// Bits of the subnet: who lies in it is on the link.
    pub(crate) prefix: u8,
    /// Whether others are told of it.
    pub(crate) published: bool,
}

/// An interface on which we speak: over IPv4 when it has such an address, over IPv6 when it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// The kernel's index.
    pub(crate) index: u32,
    /// Bytes of the longest IP packet.
    pub(crate) mtu: u16,
    pub(crate) addresses: Vec<Address>,
}

/// A service to publish on all links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    /// Its name for people; at most 63 bytes.
    pub(crate) instance: String,
    /// `%h` in `instance` stands for the host's name.
    pub(crate) wildcards: bool,
    /// Application and transport, as in `_ssh._tcp`.
    pub(crate) kind: String,
    /// As in `_resin-device`, or with the type, `_resin-device._sub._ssh._tcp`.
    pub(crate) subtypes: Vec<String>,
    pub(crate) port: u16,
    /// Strings of the TXT record, each `key` or `key=value` (RFC 6763 §6); none makes one empty string.
    pub(crate) txt: Vec<Vec<u8>>,
    /// Another host that offers it, as a full name; `None`: this one.
    pub(crate) target: Option<String>,
    /// Over which family it is told.
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
}

/// A datagram that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packet<'a> {
    /// The interface.
    pub(crate) link: u32,
    pub(crate) from: SocketAddr,
    /// It was sent to 224.0.0.251 or ff02::fb, not to an address of ours.
    pub(crate) to_group: bool,
    pub(crate) bytes: &'a [u8],
}

/// What somebody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    /// On this link alone.
    pub(crate) link: Option<u32>,
    /// Ends with the first answer, or after a second; else it goes on until [`Mdns::cancel`].
    pub(crate) once: bool,
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Send a datagram from port 5353 of this link.
    Send { link: u32, to: SocketAddr, bytes: Vec<u8> },
    /// A record that answers a question came, or was known (`ttl`: seconds that are left).
    Found { question: u32, link: u32, record: Record },
    /// One that was found before is gone.
    Gone { question: u32, link: u32, record: Record },
    /// A question that was to be asked once has ended; with what was found before.
    Done { question: u32 },
    /// From now on the host has this name on the link, without `.local`.
    Host(String),
    /// A line for the log.
    Log(String),
}

/// What happened so far, for the status.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) packets_in: u64,
    pub(crate) packets_out: u64,
    /// Own packets that came back.
    pub(crate) reflected: u64,
    /// Packets that were no DNS message, or nobody's on the link.
    pub(crate) refused: u64,
    /// Packets beyond what is read in a second.
    pub(crate) flooded: u64,
    pub(crate) questions: u64,
    /// Records that were multicast or sent as an answer.
    pub(crate) answers: u64,
    pub(crate) conflicts: u64,
    /// Records that found no place in the cache.
    pub(crate) uncached: u64,
}

/// A service as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Published<'a> {
    pub(crate) id: u32,
    /// Its instance name now.
    pub(crate) instance: &'a str,
    pub(crate) service: &'a Service,
    /// Its name has been found to be free on each link.
    pub(crate) established: bool,
}

/// The responder and querier of this device.
#[derive(Debug)]
pub(crate) struct Mdns {
    random: Random,
    limits: Limits,
    links: Vec<Link>,
    /// Each link over each family: answers to one are not heard on the other (RFC 6762 §20).
    sides: Vec<Side>,
    /// The host is the first, once it has a name.
    groups: Vec<Group>,
    asks: Vec<Ask>,
    cache: Cache,
    /// Of packets that were sent.
    sent: Vec<u32>,
    /// Of records that were ours, and until when they are remembered.
    recent: Vec<(u32, Time)>,
    /// When conflicts were seen.
    clashes: Vec<Time>,
    /// Until then there are too many.
    crowded_until: Time,
    told_host: String,
    last_id: u32,
    closed: bool,
    actions: Vec<Action>,
    pub(crate) counters: Counters,
}

impl Mdns {
    /// Without links, names and questions. `seed`: other devices have another.
    pub(crate) fn new(seed: u64, limits: Limits) -> Self {
        Self {
            random: Random::new(seed),
            limits,
            links: Vec::new(),
            sides: Vec::new(),
            groups: Vec::new(),
            asks: Vec::new(),
            cache: Cache::default(),
            sent: Vec::new(),
            recent: Vec::new(),
            clashes: Vec::new(),
            crowded_until: 0,
            told_host: String::new(),
            last_id: 0,
            closed: false,
            actions: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// What has to be done since the last call.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// When [`Mdns::timer`] is due; `None`: not before something happens.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let mut first = self.next_return();
        self.next_ask(&mut first);
        for side in &self.sides {
            side.deadline(&mut first);
        }
        (first != NEVER).then_some(first)
    }

    /// Does what is due.
    pub(crate) fn timer(&mut self, now: Time) {
        self.try_returns(now);
        for side in 0..self.sides.len() {
            self.advance(now, side);
        }
        // Others may have got a step nearer to their names.
        for side in 0..self.sides.len() {
            self.send_due(now, side);
        }
        self.ask_due(now);
    }

    /// The name that the host wants: one label, at most 63 bytes; what is longer is cut.
    pub(crate) fn set_host(&mut self, now: Time, label: &str) {
        let place = self.groups.iter().position(|group| group.is_host() && group.trial_of.is_none());
        let at = match place {
            Some(at) if self.groups.get(at).is_some_and(|group| group.wanted == label) => return,
            Some(at) => at,
            None => {
                let id = self.fresh_id();
                self.groups.insert(0, Group::new(id, None));
                0
            }
        };
        let Some(group) = self.groups.get_mut(at) else { return };
        let id = group.id;
        group.wanted = label.to_owned();
        group.attempts = 0;
        group.returned = 0;
        group.set_number(1);
        self.groups.retain(|group| group.trial_of != Some(id));
        let wait = self.probe_start();
        self.renamed(now, at, wait);
    }

    /// The name of the host now, without `.local`; another than the wanted one while somebody else has that.
    pub(crate) fn host(&self) -> &str {
        let host = self.groups.iter().find(|group| group.is_host() && group.trial_of.is_none());
        host.map_or("", |group| &group.label)
    }

    /// Publishes a service, or changes the one of this id. The caller chooses ids.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub(crate) fn set_service(&mut self, now: Time, id: u32, service: Service) -> Result<(), &'static str> {
        registry::check(&service, self.groups.len())?;
        let wanted = if service.wildcards {
            minke_wire::text::replace(&service.instance, "%h", self.host())
        } else {
            service.instance.clone()
        };
        let found = self.service(id);
        let same = |group: &Group| {
            group.service.as_ref().is_some_and(|other| {
                other.0 != id && other.1.kind.eq_ignore_ascii_case(&service.kind) && group.wanted == wanted
            })
        };
        if self.groups.iter().any(same) {
            return Err("another service of this type has this name");
        }
        let service = Rc::new((id, service));
        let at = match found {
            Some(at) => at,
            None => {
                let id = self.fresh_id();
                self.groups.push(Group::new(id, None));
                self.groups.len().saturating_sub(1)
            }
        };
        let Some(group) = self.groups.get_mut(at) else { return Ok(()) };
        let old = group.service.replace(service);
        // Another text or port is told at once; another name or type has to be found free.
        let kept = old.is_some_and(|old| group.service.as_ref().is_some_and(|new| old.1.kind == new.1.kind));
        if kept && group.wanted == wanted {
            self.rebuild(now);
            return Ok(());
        }
        group.wanted = wanted;
        group.attempts = 0;
        group.set_number(1);
        let id = group.id;
        self.groups.retain(|group| group.trial_of != Some(id));
        let wait = self.probe_start();
        self.restart(now, id, wait);
        self.rebuild(now);
        Ok(())
    }

    /// Takes a service back.
    pub(crate) fn drop_service(&mut self, now: Time, id: u32) {
        let id = self.service(id).and_then(|at| self.groups.get(at)).map(|group| group.id);
        if let Some(id) = id {
            self.drop_group(now, id);
        }
    }

    fn service(&self, id: u32) -> Option<usize> {
        let same = |group: &Group| group.service.as_ref().is_some_and(|service| service.0 == id);
        self.groups.iter().position(|group| same(group) && group.trial_of.is_none())
    }

    /// All services.
    pub(crate) fn services(&self) -> Vec<Published<'_>> {
        let mut all = Vec::new();
        for group in &self.groups {
            let Some(service) = group.service.as_ref().filter(|_| group.trial_of.is_none()) else { continue };
            all.push(Published {
                id: service.0,
                instance: &group.label,
                service: &service.1,
                established: self.sides.iter().all(|side| side.is_live(group.id)),
            });
        }
        all
    }

    /// A datagram came.
    pub(crate) fn received(&mut self, now: Time, packet: Packet<'_>) {
        let ip = packet.from.ip();
        let place = self.sides.iter().position(|side| side.link == packet.link && side.v6 == ip.is_ipv6());
        let Some(at) = place.filter(|_| !self.closed) else { return };
        let Some(side) = self.sides.get_mut(at) else { return };
        count(&mut self.counters.packets_in, 1);
        // What is longer than Ethernet's packets takes as long to read as several of them.
        let weight = packet.bytes.len().div_ceil(1500) as u32;
        if !side.packets.take(now, weight) {
            count(&mut self.counters.flooded, 1);
            return;
        }
        let own = self.links.iter().any(|link| link.addresses.iter().any(|address| address.ip == ip));
        let reflected = own && self.sent.contains(&record::hash(packet.bytes));
        match Message::parse(packet.bytes) {
            Some(message) if reflected => {
                count(&mut self.counters.reflected, 1);
                let mut told = Vec::new();
                record::read(message.answers(), &mut told);
                record::read(message.additionals(), &mut told);
                self.outlive(now, packet.link, None, &told);
            }
            Some(message) if self.understood(now, at, &packet, &message) => {}
            _ => count(&mut self.counters.refused, 1),
        }
        self.send_due(now, at);
    }

    fn understood(&mut self, now: Time, at: usize, packet: &Packet<'_>, message: &Message<'_>) -> bool {
        let flags = message.header.flags;
        // What is no ordinary query or success is ignored (RFC 6762 §18.3, §18.11).
        if flags.opcode() != 0 || flags.rcode().0 != 0 {
            return false;
        }
        if !flags.has(minke_wire::dns::Flags::QR) {
            self.query(now, at, packet, message);
            return true;
        }
        // Responses come from port 5353; by unicast only to who asked for that, and from the link (RFC 6762 §6, §11).
        let asked = self.sides.get(at).is_some_and(|side| now <= side.unicast_until);
        if packet.from.port() != PORT
            || !(packet.to_group || asked && self.is_on_link(packet.link, packet.from.ip()))
        {
            return false;
        }
        let mut records = Vec::new();
        record::read(message.answers(), &mut records);
        record::read(message.additionals(), &mut records);
        self.response(now, at, packet, &records);
        true
    }

    fn response(&mut self, now: Time, at: usize, packet: &Packet<'_>, records: &[Record]) {
        for record in records {
            self.check_conflict(now, at, record);
            if packet.to_group {
                self.heard_ours(now, at, record);
            }
        }
        self.learn(now, at, packet.from.ip(), records);
    }

    /// How many records the cache has, and their bytes.
    pub(crate) fn cached(&self) -> (usize, usize) {
        self.cache.size()
    }

    fn fresh_id(&mut self) -> u32 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }
}
