//! A lease: what a server gave, checked, with its times.

use minke_wire::dhcp::{INFINITE, Reply, is_host};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

/// The shortest lease that we believe, in seconds: a shorter one would make us ask without a pause.
const SHORTEST: u32 = 4;

/// A lease. Times are since boot; `None` is never.
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    /// The link's address.
    pub address: Ipv4Addr,
    /// The length of its network in bits.
    pub prefix: u8,
    /// The server that gave it; unspecified when a profile did.
    pub server: Ipv4Addr,
    /// Networks by router: network, prefix length, router (unspecified: on the link). The default route is
    /// among them.
    pub routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// Resolvers, in order of preference.
    pub dns_servers: Vec<Ipv4Addr>,
    /// Time servers, in order of preference.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// Domains to search, the link's own first.
    pub search: Vec<String>,
    /// The largest packet, bytes.
    pub mtu: Option<u16>,
    /// When the server was asked.
    pub start: Duration,
    /// T1: when to ask it for an extension.
    pub renewal: Option<Duration>,
    /// T2: when to ask anybody.
    pub rebinding: Option<Duration>,
    /// The end.
    pub expiry: Option<Duration>,
}

impl Lease {
    /// The lease of an offer or an ack to a question that was sent at `start`. `None` when it is unusable.
    pub fn new(reply: &Reply, start: Duration) -> Option<Rc<Self>> {
        if !is_host(reply.yiaddr) {
            return None;
        }
        let seconds = reply.lease_time.filter(|seconds| *seconds != 0)?.max(SHORTEST);
        let at = |seconds: u32| start.checked_add(Duration::from_secs(seconds.into()));
        let (renewal, rebinding) = times(reply, seconds);
        let (renewal, rebinding, expiry) = match seconds {
            INFINITE => (None, None, None),
            seconds => (at(renewal), at(rebinding), at(seconds)),
        };
        let mut search = reply.search.clone();
        if !reply.domain.is_empty() && !search.contains(&reply.domain) {
            search.insert(0, reply.domain.clone());
        }
        Some(Rc::new(Self {
            address: reply.yiaddr,
            prefix: reply.prefix.unwrap_or_else(|| class_prefix(reply.yiaddr)),
            server: reply.server.filter(|server| is_host(*server))?,
            routes: routes(reply),
            dns_servers: reply.dns_servers.clone(),
            ntp_servers: reply.ntp_servers.clone(),
            search,
            mtu: reply.mtu,
            start,
            renewal,
            rebinding,
            expiry,
        }))
    }

    /// What a profile sets by hand: as a lease without end.
    pub fn fixed(address: Ipv4Addr, prefix: u8, routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>) -> Rc<Self> {
        Rc::new(Self {
            address,
            prefix,
            server: Ipv4Addr::UNSPECIFIED,
            routes,
            dns_servers: Vec::new(),
            ntp_servers: Vec::new(),
            search: Vec::new(),
            mtu: None,
            start: Duration::ZERO,
            renewal: None,
            rebinding: None,
            expiry: None,
        })
    }

    /// Whether a profile gave it.
    pub fn is_fixed(&self) -> bool {
        self.server.is_unspecified()
    }
}

/// T1 and T2 in seconds: the server's where they make sense, else a half and seven eighths
/// (RFC 2131 §4.4.5).
fn times(reply: &Reply, lease: u32) -> (u32, u32) {
    let rebinding = reply.rebinding_time.filter(|t2| (2..lease).contains(t2));
    let rebinding = rebinding.unwrap_or_else(|| lease.saturating_sub((lease / 8).max(1)));
    let renewal = reply.renewal_time.filter(|t1| (1..rebinding).contains(t1));
    (renewal.unwrap_or_else(|| (lease / 2).min(rebinding.saturating_sub(1))), rebinding)
}

/// Classless routes replace the router (RFC 3442).
fn routes(reply: &Reply) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    if !reply.classless_routes.is_empty() {
        return reply.classless_routes.clone();
    }
    let router = reply.routers.first();
    router.map(|router| (Ipv4Addr::UNSPECIFIED, 0, *router)).into_iter().collect()
}

/// The network's length where a server gives no mask (RFC 791 §3.2).
fn class_prefix(address: Ipv4Addr) -> u8 {
    match address.octets() {
        [0..128, ..] => 8,
        [128..192, ..] => 16,
        _ => 24,
    }
}
