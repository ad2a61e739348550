//! What the kernel tells: links, addresses, routes, and that they changed.

use super::{
    AF_INET, AF_INET6, Attributes, IFF_LOWER_UP, IFF_UP, Message, RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE,
    RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const RTMSG: usize = 12;

pub(super) const IFLA_ADDRESS: u16 = 1;
pub(super) const IFLA_IFNAME: u16 = 3;
pub(super) const IFLA_MTU: u16 = 4;
pub(super) const IFLA_MASTER: u16 = 10;
pub(super) const IFLA_OPERSTATE: u16 = 16;
pub(super) const IFLA_LINKINFO: u16 = 18;
pub(super) const IFLA_NET_NS_PID: u16 = 19;
pub(super) const IFLA_NET_NS_FD: u16 = 28;
pub(super) const IFLA_INFO_KIND: u16 = 1;
pub(super) const IFLA_INFO_DATA: u16 = 2;
pub(super) const IFA_ADDRESS: u16 = 1;
pub(super) const IFA_LOCAL: u16 = 2;
pub(super) const IFA_BROADCAST: u16 = 4;
pub(super) const IFA_CACHEINFO: u16 = 6;
pub(super) const IFA_FLAGS: u16 = 8;
pub(super) const RTA_DST: u16 = 1;
pub(super) const RTA_OIF: u16 = 4;
pub(super) const RTA_GATEWAY: u16 = 5;
pub(super) const RTA_PRIORITY: u16 = 6;
pub(super) const RTA_PREFSRC: u16 = 7;
pub(super) const RTA_TABLE: u16 = 15;

/// A network link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The number by which requests name it; never 0.
    pub index: u32,
    /// The interface name.
    pub name: String,
    /// What it is made of, for instance `bridge` or `veth`; `None` for hardware and loopback.
    pub kind: Option<String>,
    /// The hardware type, [`super::ARPHRD_ETHER`] and others.
    pub hardware: u16,
    /// Flags, [`IFF_UP`] and others.
    pub flags: u32,
    /// The largest packet in bytes.
    pub mtu: u32,
    /// The Ethernet address.
    pub mac: Option<[u8; 6]>,
    /// The index of the bridge that it is a port of.
    pub master: Option<u32>,
    /// The operational state of RFC 2863: 0 unknown, 2 down, 5 dormant, 6 up.
    pub oper_state: u8,
}

impl Link {
    /// The link is switched on.
    pub fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }

    /// The link is on and the other end answers: packets can pass.
    pub fn has_carrier(&self) -> bool {
        self.flags & (IFF_UP | IFF_LOWER_UP) == IFF_UP | IFF_LOWER_UP
    }
}

/// An address on a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The link's index.
    pub interface: u32,
    /// The address itself.
    pub address: IpAddr,
    /// The length of its network in bits.
    pub prefix: u8,
    /// The scope: 0 everywhere, 253 this link, 254 this machine.
    pub scope: u8,
    /// Flags, `IFA_F_…`.
    pub flags: u32,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// The routing table, [`super::RT_TABLE_MAIN`] mostly.
    pub table: u32,
    /// The network it leads to; the unspecified address with prefix 0 is the default route.
    pub destination: IpAddr,
    /// The length of the network in bits.
    pub prefix: u8,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// The index of the link.
    pub interface: Option<u32>,
    /// The priority; the lowest wins.
    pub metric: u32,
    /// The source address that it prefers.
    pub source: Option<IpAddr>,
    /// Who made it: [`super::RTPROT_DHCP`] and others.
    pub protocol: u8,
    /// Its type; 1 is an ordinary one (unicast).
    pub kind: u8,
}

/// One change, or one object of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Changes were lost: what follows is everything that is there, and what does not follow is gone.
    Resync,
    /// A link is there, as it is now.
    Link(Link),
    /// The link with this index is gone.
    LinkGone(u32),
    /// An address is there.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A route is there.
    Route(Route),
    /// A route is gone.
    RouteGone(Route),
}

/// Reads a message about a link, an address or a route. `None`: something else, or damaged.
pub fn change(message: Message<'_>) -> Option<Change> {
    match message.kind {
        RTM_NEWLINK => link(message.payload).map(Change::Link),
        RTM_DELLINK => link(message.payload).map(|link| Change::LinkGone(link.index)),
        RTM_NEWADDR => address(message.payload).map(Change::Address),
        RTM_DELADDR => address(message.payload).map(Change::AddressGone),
        RTM_NEWROUTE => route(message.payload).map(Change::Route),
        RTM_DELROUTE => route(message.payload).map(Change::RouteGone),
        _ => None,
    }
}

/// `struct ifinfomsg` and its attributes.
fn link(payload: &[u8]) -> Option<Link> {
    let (head, rest) = payload.split_first_chunk::<IFINFOMSG>()?;
    let [family, _, h0, h1, i0, i1, i2, i3, f0, f1, f2, f3, ..] = *head;
    if family != 0 {
        // A bridge's own view of its ports (AF_BRIDGE) comes over the same group; its "gone" means "left".
        return None;
    }
    let attributes = Attributes::new(rest);
    let info = attributes.find(IFLA_LINKINFO).map(|info| info.nested());
    let kind = info.and_then(|info| info.find(IFLA_INFO_KIND)?.text());
    Some(Link {
        index: u32::from_ne_bytes([i0, i1, i2, i3]),
        name: attributes.find(IFLA_IFNAME)?.text()?.to_owned(),
        kind: kind.map(str::to_owned),
        hardware: u16::from_ne_bytes([h0, h1]),
        flags: u32::from_ne_bytes([f0, f1, f2, f3]),
        mtu: attributes.find(IFLA_MTU).and_then(|mtu| mtu.u32()).unwrap_or(0),
        mac: attributes.find(IFLA_ADDRESS).and_then(|mac| mac.value.try_into().ok()),
        master: attributes.find(IFLA_MASTER).and_then(|master| master.u32()),
        oper_state: attributes.find(IFLA_OPERSTATE).and_then(|state| state.u8()).unwrap_or(0),
    })
}

/// `struct ifaddrmsg` and its attributes.
fn address(payload: &[u8]) -> Option<Address> {
    let ([_, prefix, flags, scope, i0, i1, i2, i3], rest) = payload.split_first_chunk::<IFADDRMSG>()?;
    let attributes = Attributes::new(rest);
    // On a point-to-point link IFA_ADDRESS is the peer; IPv6 has no IFA_LOCAL elsewhere.
    let address = attributes.find(IFA_LOCAL).or_else(|| attributes.find(IFA_ADDRESS))?.address()?;
    Some(Address {
        interface: u32::from_ne_bytes([*i0, *i1, *i2, *i3]),
        address,
        prefix: *prefix,
        scope: *scope,
        flags: attributes.find(IFA_FLAGS).and_then(|flags| flags.u32()).unwrap_or_else(|| (*flags).into()),
    })
}

/// `struct rtmsg` and its attributes.
fn route(payload: &[u8]) -> Option<Route> {
    let (head, rest) = payload.split_first_chunk::<RTMSG>()?;
    let [family, prefix, _, _, table, protocol, _, kind, ..] = *head;
    let attributes = Attributes::new(rest);
    let number = |kind| attributes.find(kind).and_then(|attribute| attribute.u32());
    let address = |kind| attributes.find(kind).and_then(|attribute| attribute.address());
    let nowhere: IpAddr = match family {
        AF_INET => Ipv4Addr::UNSPECIFIED.into(),
        AF_INET6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    Some(Route {
        table: number(RTA_TABLE).unwrap_or_else(|| table.into()),
        destination: address(RTA_DST).unwrap_or(nowhere),
        prefix,
        gateway: address(RTA_GATEWAY),
        interface: number(RTA_OIF),
        metric: number(RTA_PRIORITY).unwrap_or(0),
        source: address(RTA_PREFSRC),
        protocol,
        kind,
    })
}
