//! A container's links: one veth pair per network, its far end in the container.

use super::failure::{Failure, Step};
use crate::fields::Fields;
use minke_sys::Errno;
use minke_sys::namespace::{self, Namespace};
use minke_sys::netlink::{Namespace as Place, Route, RouteSpec};
use minke_wire::json::Value;
use minke_wire::netlink::RTPROT_BOOT;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;

/// Sets up the fresh network namespace of process `pid`: loopback and one link per endpoint. An endpoint is
/// `{bridge, host_link, interface, address, prefix, gateway, mac, only}`; the first with a gateway gives the default
/// route. Where `only` is a list, the gateway leads to these addresses and no further.
pub fn set_up(pid: i32, endpoints: &[Value]) -> Result<(), Failure> {
    let fd = namespace::open(pid, Namespace::Network).step("network")?;
    let mut inside = Route::new_in(fd.as_fd()).step("network")?;
    let loopback = inside.index_of("lo").step("network")?;
    inside.set_up(loopback).step("network")?;
    let mut routed = false;
    for endpoint in endpoints {
        routed |= add_link(&mut inside, fd.as_fd(), endpoint, !routed)?;
    }
    Ok(())
}

/// Adds one link to a container that runs.
pub fn connect(pid: i32, endpoint: &Value) -> Result<(), Failure> {
    let fd = namespace::open(pid, Namespace::Network).step("network")?;
    let mut inside = Route::new_in(fd.as_fd()).step("network")?;
    let default = has_default(&mut inside);
    add_link(&mut inside, fd.as_fd(), endpoint, !default).map(|_| ())
}

/// Takes the link of an endpoint away; the container's end goes with it.
pub fn disconnect(host_link: &str) -> Result<(), Failure> {
    let mut host = Route::new().step("network")?;
    match host.index_of(host_link) {
        Err(error) if error.errno == Errno::NODEV => Ok(()),
        Err(error) => Err(error).step("network"),
        Ok(index) => host.delete_link(index).step("network"),
    }
}

fn has_default(route: &mut Route) -> bool {
    route.routes().is_ok_and(|routes| routes.iter().any(|route| route.gateway.is_some() && route.prefix == 0))
}

fn add_link(
    inside: &mut Route,
    place: std::os::fd::BorrowedFd<'_>,
    endpoint: &Value,
    wants_default: bool,
) -> Result<bool, Failure> {
    let (near, far) = (endpoint.text("host_link"), endpoint.text("interface"));
    let mut host = Route::new().step("network")?;
    let bridge = host.index_of(endpoint.text("bridge")).step("network bridge")?;
    // One that a crash left behind.
    if let Ok(stale) = host.index_of(near) {
        let _ = host.delete_link(stale);
    }
    let near = host.create_veth(near, far, Place::Descriptor(place)).step("network link")?;
    host.set_master(near, Some(bridge)).step("network link")?;
    host.set_up(near).step("network link")?;
    let far = inside.index_of(far).step("network link")?;
    if let Some(mac) = parse_mac(endpoint.text("mac")) {
        inside.set_mac(far, mac).step("MAC address")?;
    }
    inside.set_up(far).step("network link")?;
    if let Ok(address) = endpoint.text("address").parse::<IpAddr>() {
        let prefix = u8::try_from(endpoint.number("prefix")).unwrap_or(24);
        inside.add_address(far, address, prefix, None).step("network address")?;
    }
    let Ok(gateway) = endpoint.text("gateway").parse::<IpAddr>() else { return Ok(false) };
    let mut route = RouteSpec {
        destination: Ipv4Addr::UNSPECIFIED.into(),
        prefix: 0,
        gateway: Some(gateway),
        interface: far,
        metric: 0,
        source: None,
        protocol: RTPROT_BOOT,
    };
    if let Some(only) = endpoint.at("only").as_array() {
        for address in only.iter().filter_map(Value::as_str) {
            if let Ok(address) = address.parse::<Ipv4Addr>() {
                (route.destination, route.prefix) = (address.into(), 32);
                inside.replace_route(&route).step("route to the DNS server")?;
            }
        }
        return Ok(false);
    }
    if wants_default {
        inside.replace_route(&route).step("default route")?;
    }
    Ok(wants_default)
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0u8; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = minke_wire::text::in_base(parts.next()?, 16)?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::parse_mac;

    #[test]
    fn mac_addresses() {
        assert_eq!(parse_mac("02:42:0a:72:65:02"), Some([2, 0x42, 0x0a, 0x72, 0x65, 2]));
        assert_eq!(parse_mac(""), None);
        assert_eq!(parse_mac("02:42:0a:72:65"), None);
        assert_eq!(parse_mac("02:42:0a:72:65:02:03"), None);
    }
}
