//! Responder and querier without sockets and clocks: events come in with the time, what is to be done comes out
//! (RFC 6762, RFC 6763).

// Until the daemon around it uses all of it.
#![allow(dead_code)]

mod name;

pub(crate) use name::{Kind, Name};
use std::net::{IpAddr, SocketAddr};

/// Milliseconds since boot, suspend included.
pub(crate) type Time = u64;

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

/// A record of somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    /// Whoever sends it has no other of this name and type: the cache-flush bit.
    pub(crate) unique: bool,
    /// Seconds.
    pub(crate) ttl: u32,
    /// Names in it are not compressed.
    pub(crate) data: Vec<u8>,
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
    actions: Vec<Action>,
    pub(crate) counters: Counters,
}

impl Mdns {
    /// Without links, names and questions. `seed`: other devices have another.
    pub(crate) fn new(_seed: u64, _limits: Limits) -> Self {
        Self { actions: Vec::new(), counters: Counters::default() }
    }

    /// What has to be done since the last call.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// When [`Mdns::timer`] is due; `None`: not before something happens.
    pub(crate) fn deadline(&self) -> Option<Time> {
        None
    }

    /// Does what is due.
    pub(crate) fn timer(&mut self, _now: Time) {}

    /// A link is there, or its addresses or its MTU are others.
    pub(crate) fn set_link(&mut self, _now: Time, _link: &Link) {}

    /// A link is gone, or its carrier. Farewells are among the actions; they may fail to be sent.
    pub(crate) fn drop_link(&mut self, _now: Time, _index: u32) {}

    /// The machine slept, or a link was away for a moment: other hosts may be there, with our names.
    pub(crate) fn resumed(&mut self, _now: Time) {}

    /// The name that the host wants: one label, at most 63 bytes.
    pub(crate) fn set_host(&mut self, _now: Time, _label: &str) {}

    /// The name of the host now, without `.local`; another than the wanted one while somebody else has that.
    pub(crate) fn host(&self) -> &str {
        ""
    }

    /// Publishes a service, or changes the one of this id. The caller chooses ids.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub(crate) fn set_service(
        &mut self,
        _now: Time,
        _id: u32,
        _service: Service,
    ) -> Result<(), &'static str> {
        Ok(())
    }

    /// Takes a service back.
    pub(crate) fn drop_service(&mut self, _now: Time, _id: u32) {}

    /// All services.
    pub(crate) fn services(&self) -> Vec<Published<'_>> {
        Vec::new()
    }

    /// A datagram came.
    pub(crate) fn received(&mut self, _now: Time, _packet: Packet<'_>) {}

    /// Asks. The answers come as actions with the number returned; `None`: too many ask already.
    pub(crate) fn ask(&mut self, _now: Time, _question: Question) -> Option<u32> {
        None
    }

    /// Nobody wants to know any more.
    pub(crate) fn cancel(&mut self, _question: u32) {}

    /// An address or service that a record told did not work: is it still there? (RFC 6762 §10.4)
    pub(crate) fn reconfirm(&mut self, _now: Time, _name: &Name, _kind: Kind) {}

    /// How many records the cache has, and their bytes.
    pub(crate) fn cached(&self) -> (usize, usize) {
        (0, 0)
    }

    /// Forgets what others told.
    pub(crate) fn flush(&mut self, _now: Time) {}

    /// Says farewell for everything; nothing is answered afterwards.
    pub(crate) fn close(&mut self, _now: Time) {}
}
