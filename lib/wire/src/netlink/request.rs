//! Requests to the kernel: what `ip link`, `ip address` and `ip route` ask.

use super::message::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE};
use super::record::{
    IFA_ADDRESS, IFA_BROADCAST, IFA_CACHEINFO, IFA_LOCAL, IFLA_ADDRESS, IFLA_IFNAME, IFLA_INFO_DATA,
    IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MASTER, IFLA_MTU, IFLA_NET_NS_FD, IFLA_NET_NS_PID, RTA_DST,
    RTA_GATEWAY, RTA_OIF, RTA_PREFSRC, RTA_PRIORITY,
};
use super::{
    AF_INET, AF_INET6, AF_UNSPEC, Builder, IFF_UP, RTM_DELADDR, RTM_DELLINK, RTM_DELROUTE, RTM_GETADDR,
    RTM_GETLINK, RTM_GETROUTE, RTM_NEWADDR, RTM_NEWLINK, RTM_NEWROUTE, RTM_SETLINK,
};
use std::net::IpAddr;

/// The peer's description within a veth's data (`linux/veth.h`).
const VETH_INFO_PEER: u16 = 1;
const RT_TABLE_MAIN: u8 = 254;
const RTN_UNICAST: u8 = 1;
const RT_SCOPE_UNIVERSE: u8 = 0;
const RT_SCOPE_LINK: u8 = 253;
/// In a request to delete: whatever the scope is.
const RT_SCOPE_NOWHERE: u8 = 255;
const FOREVER: u32 = u32::MAX;

/// The network namespace in which a link shall live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerNamespace {
    /// That of the one who asks.
    Current,
    /// That of a process.
    Process(u32),
    /// That of an open namespace descriptor.
    Descriptor(i32),
}

/// A route to make or to delete, in the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteSpec {
    /// The network it leads to; the unspecified address with prefix 0 is the default route.
    pub destination: IpAddr,
    /// The length of the network in bits.
    pub prefix: u8,
    /// The next hop; `None`: the network is on the link itself.
    pub gateway: Option<IpAddr>,
    /// The link's index.
    pub interface: u32,
    /// The priority; the lowest wins. 0 is the kernel's default.
    pub metric: u32,
    /// The source address to prefer.
    pub source: Option<IpAddr>,
    /// Who makes it, [`super::RTPROT_DHCP`] for instance.
    pub protocol: u8,
}

/// Makes a bridge.
pub fn create_bridge(name: &str) -> Builder {
    create(name).nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge"))
}

/// Makes a pair of links; the peer lives in `namespace` from the start.
pub fn create_veth(name: &str, peer: &str, namespace: PeerNamespace) -> Builder {
    create(name).nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |inner| {
                into_namespace(inner.head(&ifinfomsg(0, 0, 0)).text(IFLA_IFNAME, peer), namespace)
            })
        })
    })
}

/// Asks for one link by name.
pub fn get_link(name: &str) -> Builder {
    Builder::new(RTM_GETLINK, NLM_F_ACK).head(&ifinfomsg(0, 0, 0)).text(IFLA_IFNAME, name)
}

/// Deletes a link; a veth's peer goes with it.
pub fn delete_link(index: u32) -> Builder {
    Builder::new(RTM_DELLINK, NLM_F_ACK).head(&ifinfomsg(index, 0, 0))
}

/// Switches a link on or off.
pub fn set_up(index: u32, up: bool) -> Builder {
    let flags = if up { IFF_UP } else { 0 };
    Builder::new(RTM_NEWLINK, NLM_F_ACK).head(&ifinfomsg(index, flags, IFF_UP))
}

/// Makes a link a port of a bridge; 0 takes it out.
pub fn set_master(index: u32, master: u32) -> Builder {
    set(index).u32(IFLA_MASTER, master)
}

/// Renames a link; it must be off.
pub fn set_name(index: u32, name: &str) -> Builder {
    set(index).text(IFLA_IFNAME, name)
}

/// Sets the largest packet, in bytes.
pub fn set_mtu(index: u32, mtu: u32) -> Builder {
    set(index).u32(IFLA_MTU, mtu)
}

/// Sets the Ethernet address.
pub fn set_mac(index: u32, mac: [u8; 6]) -> Builder {
    set(index).bytes(IFLA_ADDRESS, &mac)
}

/// Moves a link into another network namespace, under a new name if one is given.
pub fn move_link(index: u32, namespace: PeerNamespace, name: Option<&str>) -> Builder {
    let request = into_namespace(set(index), namespace);
    match name {
        Some(name) => request.text(IFLA_IFNAME, name),
        None => request,
    }
}

/// Adds an address to a link, or renews its lifetime. `seconds` is how long it stays; `None`: for ever.
pub fn add_address(index: u32, address: IpAddr, prefix: u8, seconds: Option<u32>) -> Builder {
    let request = Builder::new(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE);
    let request = local_address(request, index, address, prefix);
    let request = match broadcast(address, prefix) {
        Some(broadcast) => request.bytes(IFA_BROADCAST, &broadcast),
        None => request,
    };
    let lifetime = seconds.unwrap_or(FOREVER);
    // struct ifa_cacheinfo: preferred, valid, and two time stamps that only the kernel sets.
    let mut cache = [0u8; 16];
    for (place, value) in cache.iter_mut().zip(lifetime.to_ne_bytes().into_iter().cycle().take(8)) {
        *place = value;
    }
    request.bytes(IFA_CACHEINFO, &cache)
}

/// Takes an address from a link.
pub fn delete_address(index: u32, address: IpAddr, prefix: u8) -> Builder {
    local_address(Builder::new(RTM_DELADDR, NLM_F_ACK), index, address, prefix)
}

/// Makes a route, in place of one to the same network with the same metric.
pub fn replace_route(route: &RouteSpec) -> Builder {
    let scope = if route.gateway.is_some() { RT_SCOPE_UNIVERSE } else { RT_SCOPE_LINK };
    build_route(Builder::new(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE), route, scope)
}

/// Deletes a route.
pub fn delete_route(route: &RouteSpec) -> Builder {
    build_route(Builder::new(RTM_DELROUTE, NLM_F_ACK), route, RT_SCOPE_NOWHERE)
}

/// Asks for all links.
pub fn list_links() -> Builder {
    Builder::new(RTM_GETLINK, NLM_F_DUMP).head(&ifinfomsg(0, 0, 0))
}

/// Asks for all addresses.
pub fn list_addresses() -> Builder {
    Builder::new(RTM_GETADDR, NLM_F_DUMP).head(&[0; 8])
}

/// Asks for all routes.
pub fn list_routes() -> Builder {
    Builder::new(RTM_GETROUTE, NLM_F_DUMP).head(&[0; 12])
}

fn create(name: &str) -> Builder {
    Builder::new(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL)
        .head(&ifinfomsg(0, 0, 0))
        .text(IFLA_IFNAME, name)
}

fn set(index: u32) -> Builder {
    Builder::new(RTM_SETLINK, NLM_F_ACK).head(&ifinfomsg(index, 0, 0))
}

fn into_namespace(request: Builder, namespace: PeerNamespace) -> Builder {
    match namespace {
        PeerNamespace::Current => request,
        PeerNamespace::Process(pid) => request.u32(IFLA_NET_NS_PID, pid),
        PeerNamespace::Descriptor(fd) => request.bytes(IFLA_NET_NS_FD, &fd.to_ne_bytes()),
    }
}

/// `struct ifinfomsg`: family, padding, type, index, flags, and which of the flags to change.
fn ifinfomsg(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let [i0, i1, i2, i3] = index.to_ne_bytes();
    let [f0, f1, f2, f3] = flags.to_ne_bytes();
    let [c0, c1, c2, c3] = change.to_ne_bytes();
    [AF_UNSPEC, 0, 0, 0, i0, i1, i2, i3, f0, f1, f2, f3, c0, c1, c2, c3]
}

fn local_address(request: Builder, index: u32, address: IpAddr, prefix: u8) -> Builder {
    let [i0, i1, i2, i3] = index.to_ne_bytes();
    let request = request.head(&[family(address), prefix, 0, 0, i0, i1, i2, i3]);
    let request = put_address(request, IFA_LOCAL, address);
    put_address(request, IFA_ADDRESS, address)
}

/// The last address of an IPv4 network that is large enough to have one (RFC 919; RFC 3021 for /31).
fn broadcast(address: IpAddr, prefix: u8) -> Option<[u8; 4]> {
    match address {
        IpAddr::V4(address) if prefix < 31 => {
            let hosts = u32::MAX.checked_shr(prefix.into())?;
            Some((u32::from(address) | hosts).to_be_bytes())
        }
        _ => None,
    }
}

fn build_route(request: Builder, route: &RouteSpec, scope: u8) -> Builder {
    let family = family(route.destination);
    let head = [family, route.prefix, 0, 0, RT_TABLE_MAIN, route.protocol, scope, RTN_UNICAST, 0, 0, 0, 0];
    let mut request = request.head(&head);
    if route.prefix > 0 {
        request = put_address(request, RTA_DST, route.destination);
    }
    if let Some(gateway) = route.gateway {
        request = put_address(request, RTA_GATEWAY, gateway);
    }
    if let Some(source) = route.source {
        request = put_address(request, RTA_PREFSRC, source);
    }
    if route.metric != 0 {
        request = request.u32(RTA_PRIORITY, route.metric);
    }
    request.u32(RTA_OIF, route.interface)
}

fn put_address(request: Builder, kind: u16, address: IpAddr) -> Builder {
    match address {
        IpAddr::V4(address) => request.bytes(kind, &address.octets()),
        IpAddr::V6(address) => request.bytes(kind, &address.octets()),
    }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => AF_INET,
        IpAddr::V6(_) => AF_INET6,
    }
}
