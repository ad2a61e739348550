//! What a lease puts on a link: the address, the routes, the MTU; and how it is taken away again.

use crate::lease::Lease;
use minke_sys::netlink::{Link, Route, RouteSpec};
use minke_sys::{clock, file};
use minke_wire::netlink::RTPROT_DHCP;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// What is on a link by our doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The address.
    pub address: Ipv4Addr,
    /// The length of its network in bits.
    pub prefix: u8,
    routes: Vec<RouteSpec>,
    /// The MTU that the link had before.
    mtu: Option<u32>,
}

impl Installed {
    /// An address that an earlier run of this program left on the link; its routes go with it.
    pub fn adopted(address: Ipv4Addr, prefix: u8) -> Self {
        Self { address, prefix, routes: Vec::new(), mtu: None }
    }

    /// Puts `lease` on `link` in place of `old`, its default route perhaps left out. What is the same stays where it is,
    /// so that connections over an unchanged address do not notice.
    pub fn install(
        route: &mut Route,
        link: &Link,
        metric: u32,
        lease: &Lease,
        takes_default: bool,
        old: Option<&Self>,
    ) -> Result<Self, minke_sys::Error> {
        let mtu = old.and_then(|old| old.mtu).or_else(|| lease.mtu.map(|_| link.mtu));
        let fresh = Self {
            address: lease.address,
            prefix: lease.prefix,
            routes: routes(lease, link.index, metric, takes_default),
            mtu,
        };
        if let Some(old) = old.filter(|old| (old.address, old.prefix) != (fresh.address, fresh.prefix)) {
            // First: of two addresses in one network, the kernel takes the later one away along with the earlier one.
            let _ = route.delete_address(link.index, old.address.into(), old.prefix);
        }
        route.add_address(link.index, lease.address.into(), lease.prefix, seconds_left(lease))?;
        if let Some(mtu) = lease.mtu.map(u32::from).filter(|mtu| *mtu != link.mtu) {
            // A driver may know its limits better than the server.
            warn(route.set_mtu(link.index, mtu));
        }
        for spec in &fresh.routes {
            // One bad route of a list must not take the others.
            warn(route.replace_route(spec));
        }
        if let Some(old) = old {
            for spec in old.routes.iter().filter(|spec| !fresh.routes.contains(spec)) {
                let _ = route.delete_route(spec);
            }
        }
        Ok(fresh)
    }

    /// Takes everything off again. What is gone already is no error.
    pub fn remove(&self, route: &mut Route, index: u32) {
        for spec in &self.routes {
            let _ = route.delete_route(spec);
        }
        let _ = route.delete_address(index, self.address.into(), self.prefix);
        if let Some(mtu) = self.mtu {
            let _ = route.set_mtu(index, mtu);
        }
    }
}

fn warn(result: Result<(), minke_sys::Error>) {
    if let Err(error) = result {
        minke_applet::log::warn(format_args!("{error}"));
    }
}

/// Lets a link that is about to come up use IPv6 addresses while the kernel looks whether somebody else has them, a second
/// or two (RFC 4429): so long its `.local` name would have no answer.
pub fn use_addresses_early(link: &str) {
    for setting in ["optimistic_dad", "use_optimistic"] {
        // Without IPv6, or with a kernel that cannot do that, addresses come later.
        let _ = file::write(format!("/proc/sys/net/ipv6/conf/{link}/{setting}"), "1");
    }
}

/// How long the kernel shall keep the address should this program not be there to take it away. A little
/// longer than the lease: while we run, we decide.
fn seconds_left(lease: &Lease) -> Option<u32> {
    const SPARE: Duration = Duration::from_secs(2);
    let left = lease.expiry?.saturating_sub(clock::boottime()).saturating_add(SPARE);
    u32::try_from(left.as_secs()).ok().filter(|seconds| *seconds != u32::MAX)
}

fn routes(lease: &Lease, interface: u32, metric: u32, takes_default: bool) -> Vec<RouteSpec> {
    let mut specs = Vec::new();
    for (network, prefix, router) in lease.routes.iter().filter(|(_, prefix, _)| takes_default || *prefix > 0)
    {
        let spec = |destination: Ipv4Addr, prefix, gateway: Option<Ipv4Addr>| RouteSpec {
            destination: destination.into(),
            prefix,
            gateway: gateway.map(IpAddr::from),
            interface,
            metric,
            source: Some(lease.address.into()),
            protocol: RTPROT_DHCP,
        };
        let gateway = Some(*router).filter(|router| !router.is_unspecified());
        // A router outside the link's network is reached over the link all the same (RFC 3442 allows it, and
        // clouds that give /32 addresses do it).
        if let Some(router) = gateway.filter(|router| !same_network(lease, *router)) {
            let direct = spec(router, 32, None);
            if !specs.contains(&direct) {
                specs.push(direct);
            }
        }
        specs.push(spec(*network, *prefix, gateway));
    }
    specs
}

fn same_network(lease: &Lease, other: Ipv4Addr) -> bool {
    let difference = u32::from(lease.address) ^ u32::from(other);
    difference.leading_zeros() >= lease.prefix.into()
}
