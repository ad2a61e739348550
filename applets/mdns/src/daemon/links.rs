//! The interfaces on which we speak, out of what the kernel tells of links and addresses.

use crate::core::{Address, Link};
use minke_wire::netlink;
use minke_wire::netlink::{Change, IFF_LOOPBACK, IFF_RUNNING};
use std::net::IpAddr;

/// Flags of netdevice(7): a link to one other machine, and one that can do multicast.
const IFF_POINTOPOINT: u32 = 0x10;
const IFF_MULTICAST: u32 = 0x1000;
/// Flags of addresses in `linux/if_addr.h`. The first means for IPv4 that the subnet has an earlier address.
const IFA_F_TEMPORARY: u32 = 0x01;
const IFA_F_OPTIMISTIC: u32 = 0x04;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_DEPRECATED: u32 = 0x20;
const IFA_F_TENTATIVE: u32 = 0x40;
/// The scope of addresses of this machine alone.
const HOST: u8 = 254;
/// The most interfaces (the kernel lets a socket join 20 groups of IPv4) and addresses of one.
const MOST_LINKS: usize = 20;
const MOST_ADDRESSES: usize = 16;

/// What became of an interface.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Update {
    /// It is there, or is another.
    Set(Link),
    /// It is gone.
    Drop(u32),
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Only these, whatever they are; none named: all that others can be on.
    only: Vec<String>,
    links: Vec<netlink::Link>,
    addresses: Vec<minke_wire::netlink::Address>,
    /// Those on which we speak, as they were told last.
    told: Vec<Link>,
}

impl Links {
    pub(super) fn new(only: Vec<String>) -> Self {
        Self { only, ..Self::default() }
    }

    /// Takes changes in, and tells what has become of the interfaces.
    pub(super) fn apply(&mut self, changes: Vec<Change>) -> Vec<Update> {
        for change in changes {
            match change {
                Change::Resync => {
                    self.links.clear();
                    self.addresses.clear();
                }
                Change::Link(link) => {
                    self.links.retain(|known| known.index != link.index);
                    self.links.push(link);
                }
                Change::LinkGone(index) => {
                    self.links.retain(|known| known.index != index);
                    self.addresses.retain(|address| address.interface != index);
                }
                Change::Address(address) => {
                    self.forget(&address);
                    self.addresses.push(address);
                }
                Change::AddressGone(address) => self.forget(&address),
                Change::Route(_) | Change::RouteGone(_) => {}
            }
        }
        self.updates()
    }

    /// An interface's name.
    pub(super) fn name(&self, index: u32) -> String {
        let link = self.links.iter().find(|link| link.index == index);
        link.map(|link| link.name.clone()).unwrap_or_default()
    }

    /// Those on which we speak.
    pub(super) fn told(&self) -> &[Link] {
        &self.told
    }

    fn forget(&mut self, address: &minke_wire::netlink::Address) {
        let same = |known: &minke_wire::netlink::Address| {
            (known.interface, known.address, known.prefix)
                == (address.interface, address.address, address.prefix)
        };
        self.addresses.retain(|known| !same(known));
    }

    fn updates(&mut self) -> Vec<Update> {
        let mut wanted = Vec::new();
        for link in &self.links {
            if self.is_for_us(link) && wanted.len() < MOST_LINKS {
                wanted.extend(self.link(link));
            }
        }
        let mut updates = Vec::new();
        for old in &self.told {
            if !wanted.iter().any(|link: &Link| link.index == old.index) {
                updates.push(Update::Drop(old.index));
            }
        }
        for link in &wanted {
            if !self.told.contains(link) {
                updates.push(Update::Set(link.clone()));
            }
        }
        self.told = wanted;
        updates
    }

    /// Up, with others on it. Not the engine's bridges and what hangs on them: containers have their own ways, and a port
    /// of a bridge is not spoken to.
    fn is_for_us(&self, link: &netlink::Link) -> bool {
        if !link.has_carrier() || link.flags & IFF_RUNNING == 0 {
            return false;
        }
        if !self.only.is_empty() {
            return self.only.contains(&link.name);
        }
        link.flags & (IFF_LOOPBACK | IFF_POINTOPOINT) == 0
            && link.flags & IFF_MULTICAST != 0
            && link.master.is_none()
            && !is_own(&link.name)
    }

    /// The interface with its addresses; `None` when it has none.
    fn link(&self, link: &netlink::Link) -> Option<Link> {
        let mut addresses = Vec::new();
        for address in &self.addresses {
            let tentative = address.flags & IFA_F_TENTATIVE != 0 && address.flags & IFA_F_OPTIMISTIC == 0;
            if address.interface != link.index
                || address.scope == HOST
                || tentative
                || address.flags & IFA_F_DADFAILED != 0
                || addresses.len() >= MOST_ADDRESSES
            {
                continue;
            }
            let passing = if address.address.is_ipv4() { 0 } else { IFA_F_TEMPORARY };
            let published = address.flags & (passing | IFA_F_DEPRECATED) == 0;
            // In order: the kernel's own changes when it tells everything anew.
            let place = addresses.iter().take_while(|other: &&Address| other.ip < address.address).count();
            addresses.insert(place, Address { ip: address.address, prefix: address.prefix, published });
        }
        // What is reached from elsewhere too is the better one to give, and the only one where there is one.
        for v4 in [true, false] {
            let of_family = |address: &&mut Address| address.ip.is_ipv4() == v4 && address.published;
            let routable = addresses.iter_mut().filter(of_family).any(|address| !is_of_link(address.ip));
            for address in addresses.iter_mut().filter(of_family) {
                address.published = !routable || !is_of_link(address.ip);
            }
        }
        let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
        (!addresses.is_empty()).then_some(Link { index: link.index, mtu, addresses })
    }
}

fn is_of_link(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Interfaces of the engine, the proxy and the VPN, by the names of supervisor spec §2.9.6.
fn is_own(name: &str) -> bool {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let bridge = name.strip_prefix("br-").is_some_and(|id| {
        id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
    });
    bridge
        || ["balena", "docker", "rce", "tun"].iter().any(|prefix| numbered(prefix))
        || ["lo", "resin-vpn", "resin-dns", "supervisor0", "balena-redsocks", "resin-redsocks"]
            .contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: u32 = 0x1 | IFF_RUNNING | 0x1_0000 | IFF_MULTICAST;

    fn link(index: u32, name: &str) -> netlink::Link {
        netlink::Link {
            index,
            name: name.to_owned(),
            kind: None,
            hardware: 1,
            flags: UP,
            mtu: 1500,
            mac: None,
            master: None,
            oper_state: 6,
        }
    }

    fn address(interface: u32, ip: &str, flags: u32) -> minke_wire::netlink::Address {
        minke_wire::netlink::Address { interface, address: ip.parse().unwrap(), prefix: 24, scope: 0, flags }
    }

    fn published(update: &Update) -> Vec<String> {
        let Update::Set(link) = update else { panic!("{update:?}") };
        link.addresses
            .iter()
            .filter(|address| address.published)
            .map(|address| address.ip.to_string())
            .collect()
    }

    #[test]
    fn links_and_addresses_come_and_go() {
        let mut links = Links::new(Vec::new());
        let eth0 = link(2, "eth0");
        // Without an address it is none of ours.
        assert!(links.apply(vec![Change::Resync, Change::Link(eth0.clone())]).is_empty());
        let updates = links.apply(vec![Change::Address(address(2, "10.0.0.2", 0))]);
        assert_eq!(published(&updates[0]), ["10.0.0.2"]);
        assert_eq!((links.name(2), links.told().len()), ("eth0".to_owned(), 1));
        assert!(links.apply(vec![Change::Link(eth0.clone())]).is_empty(), "nothing is new");
        let updates = links.apply(vec![
            Change::Address(address(2, "10.0.0.3", 0)),
            Change::AddressGone(address(2, "10.0.0.2", 0)),
        ]);
        assert_eq!(published(&updates[0]), ["10.0.0.3"]);
        // The cable is pulled, and put in again.
        let pulled = netlink::Link { flags: UP & !0x1_0000 & !IFF_RUNNING, ..eth0.clone() };
        assert_eq!(links.apply(vec![Change::Link(pulled)]), [Update::Drop(2)]);
        assert_eq!(published(&links.apply(vec![Change::Link(eth0.clone())])[0]), ["10.0.0.3"]);
        assert_eq!(links.apply(vec![Change::LinkGone(2)]), [Update::Drop(2)]);
        // After a loss everything is told anew, and what is not told is gone.
        links.apply(vec![Change::Link(eth0), Change::Address(address(2, "10.0.0.3", 0))]);
        assert_eq!(links.apply(vec![Change::Resync]), [Update::Drop(2)]);
    }

    #[test]
    fn which_addresses_are_given() {
        let mut links = Links::new(Vec::new());
        links.apply(vec![Change::Link(link(2, "eth0"))]);
        let updates = links.apply(vec![
            Change::Address(address(2, "fe80::1", 0)),
            Change::Address(address(2, "169.254.1.1", 0)),
        ]);
        assert_eq!(published(&updates[0]), ["169.254.1.1", "fe80::1"]);
        assert!(links.apply(vec![Change::Address(address(2, "2001:db8::1", IFA_F_TENTATIVE))]).is_empty());
        let updates = links.apply(vec![
            Change::Address(address(2, "2001:db8::1", 0)),
            Change::Address(address(2, "2001:db8::2", IFA_F_TEMPORARY)),
            Change::Address(address(2, "2001:db8::3", IFA_F_DEPRECATED)),
            Change::Address(address(2, "2001:db8::4", IFA_F_TENTATIVE | IFA_F_DADFAILED)),
        ]);
        assert_eq!(published(&updates[0]), ["169.254.1.1", "2001:db8::1"]);
        let updates = links.apply(vec![Change::Address(address(2, "192.0.2.1", 0))]);
        assert_eq!(published(&updates[0]), ["192.0.2.1", "2001:db8::1"]);
        // The second of a subnet of IPv4 has the flag that marks temporary ones of IPv6.
        let updates = links.apply(vec![Change::Address(address(2, "192.0.2.2", IFA_F_TEMPORARY))]);
        assert_eq!(published(&updates[0]), ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    }

    #[test]
    fn engine_bridges_and_ports_are_left_alone() {
        let mut links = Links::new(Vec::new());
        let own =
            ["lo", "balena0", "docker12", "br-0123456789ab", "resin-dns", "supervisor0", "tun0", "resin-vpn"];
        for (index, name) in (10..).zip(own) {
            links.apply(vec![Change::Link(link(index, name))]);
            assert!(links.apply(vec![Change::Address(address(index, "10.1.0.1", 0))]).is_empty(), "{name}");
        }
        let port = netlink::Link { master: Some(10), ..link(30, "veth1") };
        let modem = netlink::Link { flags: UP | IFF_POINTOPOINT, ..link(31, "ppp0") };
        for link in [port, modem] {
            let index = link.index;
            links.apply(vec![Change::Link(link)]);
            assert!(links.apply(vec![Change::Address(address(index, "10.1.0.1", 0))]).is_empty());
        }
        for (index, name) in (40..).zip(["eth0", "wlan0", "br-lan", "br0", "docker", "dockerx", "tunnel0"]) {
            links.apply(vec![Change::Link(link(index, name))]);
            assert_eq!(links.apply(vec![Change::Address(address(index, "10.1.0.1", 0))]).len(), 1, "{name}");
        }
        // Told so, even those.
        let mut links = Links::new(vec!["balena0".to_owned()]);
        links.apply(vec![Change::Link(link(2, "balena0")), Change::Link(link(3, "eth0"))]);
        let both =
            vec![Change::Address(address(2, "10.0.0.1", 0)), Change::Address(address(3, "10.0.1.1", 0))];
        assert_eq!(links.apply(both).len(), 1);
    }
}
