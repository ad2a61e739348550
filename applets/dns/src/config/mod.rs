//! What the forwarder is told: by files of the system, of other programs and of the owner, or by the command line.
//!
//! [`Settings`] is a plain value: reading it anew and comparing tells what changed. Its limits bound what any file can
//! make of it.

mod parse;
mod read;
mod watch;

pub(crate) use parse::{EXCLUSIVE_MARK, Reader, server};
pub(crate) use read::{CONF_FLAG, LISTEN_FLAG, ROOT_FLAG, Source, UPSTREAM_FLAG, near};
pub(crate) use watch::Watch;

use minke_wire::dns::Name;
use minke_wire::micros::Micros;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The port of plain DNS (RFC 1035 §4.2).
pub(crate) const PORT: u16 = 53;
/// The port of DNS over TLS (RFC 7858 §3.1).
pub(crate) const TLS_PORT: u16 = 853;

/// Where containers ask (spec os §7.3), and nobody else.
pub(crate) const CONTAINERS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 114, 102, 1)), PORT);

/// The most servers of a group; what is named after them is told in the log and left out.
pub(crate) const MOST_SERVERS: usize = 16;
/// The most groups and the most domains with a rule of their own.
pub(crate) const MOST_DOMAINS: usize = 256;
/// The most lines of hosts files, and the most names of containers.
pub(crate) const MOST_HOSTS: usize = 4096;
/// The most search domains (resolv.conf(5) had 6; more only make a wrong name slow).
pub(crate) const MOST_SEARCH: usize = 6;

/// Everything that the forwarder is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where clients ask, by UDP and TCP (spec os §7.2). An address may not exist yet.
    pub(crate) listen: Vec<SocketAddr>,
    /// Groups of servers, of which [`Target::Servers`] holds the place. The first is the default group: DHCP's servers
    /// and configured ones, all equal (spec os §7.2); it may be empty.
    pub(crate) groups: Vec<Vec<Server>>,
    /// Asked in the default group's place while that has no server or none of them answers (spec os §7.6).
    pub(crate) fallback: Vec<Server>,
    /// Domains with a rule of their own; the longest that a name lies in counts, and the domain itself lies in it.
    /// There is one rule for a domain.
    pub(crate) domains: Vec<(Name, Target)>,
    /// What becomes of names of one label that no search domain makes a known name of; `None`: they do not exist
    /// (dnsmasq's `domain-needed`; spec os §7.2).
    pub(crate) plain: Option<Target>,
    /// Tried behind names of one label, in this order.
    pub(crate) search: Vec<Name>,
    /// The host's own name, of one label (spec os §6.1); `None` while it has none.
    pub(crate) host_name: Option<Name>,
    /// Addresses of this host's interfaces with the bits of their subnets, loopback and link-local ones not: a client
    /// in one of the subnets is told that address for the host's own name.
    pub(crate) interfaces: Vec<Subnet>,
    /// Addresses and their names, from hosts files and the like. The first name is that for the way back.
    pub(crate) hosts: Vec<Host>,
    /// Names that stand for others: the alias and what it stands for.
    pub(crate) aliases: Vec<(Name, Name)>,
    /// Names of containers, which only clients in the same subnet see.
    pub(crate) networks: Vec<Network>,
    /// Whether reverse names of private addresses that nobody here knows are answered here (RFC 6303, dnsmasq's
    /// `bogus-priv`; spec os §7.2).
    pub(crate) private_reverse: bool,
    /// Whether answers with private addresses for names of the outside are refused (dnsmasq's `stop-dns-rebind`).
    pub(crate) rebind_protection: bool,
    /// Domains that may have private addresses all the same.
    pub(crate) rebind_ok: Vec<Name>,
    /// What the cache may take.
    pub(crate) cache: Cache,
}

/// A server that is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Server {
    /// Where it is asked.
    pub(crate) address: SocketAddr,
    /// How it is asked.
    pub(crate) transport: Transport,
}

/// How a server is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Transport {
    /// UDP, and TCP for what is too long for it.
    Plain,
    /// DNS over TLS by a certificate for this name or address, and never else (RFC 8310 §5, strict).
    Strict(Box<str>),
    /// DNS over TLS with whatever certificate, against those who only listen (RFC 8310 §5, opportunistic). The plain
    /// way is taken while there is no TLS; `address` has the TLS port.
    Opportunistic,
}

/// What becomes of the names in a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The group of servers at this place is asked, and nobody else.
    Servers(usize),
    /// The default group is asked, whatever rule a shorter domain has (dnsmasq's `#`).
    Standard,
    /// Nobody is asked: what is not known here does not exist.
    Local,
    /// These are their addresses; a kind of address that is not among them has no record.
    Addresses(Vec<IpAddr>),
}

/// An address and its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) address: IpAddr,
    pub(crate) names: Vec<Name>,
}

/// An address and how many of its first bits its subnet has in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    pub(crate) address: IpAddr,
    pub(crate) bits: u8,
}

/// The names of one of the engine's networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) subnet: Subnet,
    pub(crate) hosts: Vec<Host>,
}

/// What the cache may take, and how long answers live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cache {
    /// Memory for answers, in bytes; none: nothing is kept.
    pub(crate) bytes: usize,
    /// The least and the largest time to live of an answer, whatever its server says.
    pub(crate) min_ttl: Micros,
    pub(crate) max_ttl: Micros,
    /// The largest time to live of "there is none" (RFC 2308 §5 advises one to three hours).
    pub(crate) max_negative_ttl: Micros,
    /// How long beyond its time an answer may be given when no server answers (RFC 8767 §5 advises one to three days).
    pub(crate) stale: Micros,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            bytes: 512 << 10,
            min_ttl: Micros::ZERO,
            max_ttl: Micros::from_secs(86_400),
            max_negative_ttl: Micros::from_secs(3_600),
            stale: Micros::from_secs(86_400),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), PORT), CONTAINERS],
            groups: vec![Vec::new()],
            fallback: vec![
                Server::plain(IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8))),
                Server::plain(IpAddr::V6(Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888))),
            ],
            domains: Vec::new(),
            plain: None,
            search: Vec::new(),
            host_name: None,
            interfaces: Vec::new(),
            hosts: Vec::new(),
            aliases: Vec::new(),
            networks: Vec::new(),
            private_reverse: true,
            rebind_protection: false,
            rebind_ok: Vec::new(),
            cache: Cache::default(),
        }
    }
}

/// As dnsmasq writes it: `ADDRESS#PORT`; DNS over TLS as `tls://ADDRESS:PORT` and `#NAME`.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.transport {
            Transport::Plain => match self.address {
                SocketAddr::V6(six) if six.scope_id() != 0 => {
                    write!(f, "{}%{}#{}", six.ip(), six.scope_id(), six.port())
                }
                address => write!(f, "{}#{}", address.ip(), address.port()),
            },
            Transport::Strict(name) => write!(f, "tls://{}#{name}", self.address),
            Transport::Opportunistic => write!(f, "tls://{}", self.address),
        }
    }
}

impl Settings {
    /// Whether the same servers are asked for the same names as by `other`.
    pub(crate) fn asks_as(&self, other: &Self) -> bool {
        self.groups == other.groups
            && self.fallback == other.fallback
            && self.domains == other.domains
            && self.plain == other.plain
    }

    /// Which names the servers of a group are asked for: domains with spaces between them, `default`, or `plain` for
    /// names of one label.
    pub(crate) fn names_of(&self, group: usize) -> String {
        let mut text = String::new();
        let mut add = |word: &dyn fmt::Display| {
            let _ = if text.is_empty() { write!(text, "{word}") } else { write!(text, " {word}") };
        };
        if group == 0 {
            add(&"default");
        }
        if self.plain == Some(Target::Servers(group)) {
            add(&"plain");
        }
        for (domain, target) in &self.domains {
            if *target == Target::Servers(group) {
                add(domain);
            }
        }
        text
    }
}

impl Server {
    /// A server at the usual port.
    pub(crate) fn plain(address: IpAddr) -> Self {
        Self { address: SocketAddr::new(address, PORT), transport: Transport::Plain }
    }
}

impl Subnet {
    /// Whether an address lies in the subnet. No bits of an IPv6 subnet match an IPv4 address.
    pub(crate) fn holds(self, address: IpAddr) -> bool {
        let (differs, width) = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                (u128::from(ours.to_bits() ^ theirs.to_bits()).wrapping_shl(96), 32)
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (ours.to_bits() ^ theirs.to_bits(), 128),
            _ => return false,
        };
        differs.leading_zeros() >= u32::from(self.bits.min(width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_what_they_are_asked_for() {
        let of = |word| server(word).unwrap().to_string();
        for word in
            ["8.8.8.8#53", "2001:db8::1#54", "fe80::1%1#53", "tls://1.1.1.1:853#a.b", "tls://[::1]:853"]
        {
            assert_eq!(of(word), word);
        }
        let mut reader = Reader::new(Settings::default());
        reader.options("", "server=/a/b.c/10.0.0.1\nserver=//10.0.0.2\nserver=/d/#\nserver=/e/\n");
        let settings = &reader.settings;
        assert_eq!([0, 1, 2, 3].map(|group| settings.names_of(group)), ["default", "a", "b.c", "plain"]);
    }

    #[test]
    fn subnets() {
        let of = |address: &str, bits| Subnet { address: address.parse().unwrap(), bits };
        let holds = |subnet: Subnet, address: &str| subnet.holds(address.parse().unwrap());
        assert!(holds(of("10.114.101.1", 24), "10.114.101.200"));
        assert!(!holds(of("10.114.101.1", 24), "10.114.102.1"));
        assert!(holds(of("0.0.0.0", 0), "255.255.255.255") && !holds(of("0.0.0.0", 0), "::1"));
        assert!(holds(of("10.0.0.1", 32), "10.0.0.1") && !holds(of("10.0.0.1", 32), "10.0.0.0"));
        assert!(holds(of("fd00::1", 64), "fd00::ffff") && !holds(of("fd00::1", 64), "fd00:0:0:1::1"));
        assert!(!holds(of("::", 0), "10.0.0.1"));
    }
}
