//! IPv4 subnets and the addresses in them, as numbers. Pure functions.

use std::net::Ipv4Addr;

/// An IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// Its lowest address.
    network: u32,
    /// Its length in bits, 1 to 30.
    pub prefix: u8,
}

impl Subnet {
    /// Reads `10.114.104.0/25`. The address may be any in the network.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        Self::new(parse_address(address)?, minke_wire::text::number(prefix)?)
    }

    /// The network that holds `address`.
    pub fn new(address: u32, prefix: u8) -> Option<Self> {
        if !(1..=30).contains(&prefix) {
            return None;
        }
        Some(Self { network: address & mask(prefix), prefix })
    }

    /// Its last address, the broadcast address.
    fn last(self) -> u32 {
        self.network | !mask(self.prefix)
    }

    /// Whether an address lies in it.
    pub fn contains(self, address: u32) -> bool {
        address & mask(self.prefix) == self.network
    }

    /// Whether the lowest address of `other` lies in it.
    pub fn contains_start_of(self, other: Self) -> bool {
        self.contains(other.network)
    }

    /// Whether two networks share an address.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network) || other.contains(self.network)
    }

    /// The first address that a host can have.
    pub fn first_host(self) -> u32 {
        self.network.saturating_add(1)
    }

    /// The lowest address of `range` (a part of this network) that is not in `used`; never the network's first
    /// and last address.
    pub fn free_address(self, range: Self, used: &[u32]) -> Option<u32> {
        // Of used.len() + 3 candidates one is free, so the search is as long as the list.
        (range.network..=range.last()).find(|candidate| {
            *candidate != self.network && *candidate != self.last() && !used.contains(candidate)
        })
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.network), self.prefix)
    }
}

/// Reads `10.114.104.1`.
#[inline(never)]
pub fn parse_address(text: &str) -> Option<u32> {
    text.parse::<Ipv4Addr>().ok().map(u32::from)
}

/// Writes `10.114.104.1`.
pub fn show(address: u32) -> String {
    Ipv4Addr::from(address).to_string()
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32u32.saturating_sub(u32::from(prefix))).unwrap_or(0)
}

/// A network for a user's bridge: 172.17.0.0/16 to 172.31.0.0/16, then 192.168.0.0/20 and so on, the first that
/// overlaps none of `taken` (other bridges, and the networks that the host reaches).
pub fn free_subnet(taken: &[Subnet]) -> Option<Subnet> {
    for number in 0..31u8 {
        let subnet = match number {
            0..15 => Subnet::new(u32::from_be_bytes([172, number.saturating_add(17), 0, 0]), 16)?,
            _ => Subnet::new(
                u32::from_be_bytes([192, 168, number.saturating_sub(15).saturating_mul(16), 0]),
                20,
            )?,
        };
        if !taken.iter().any(|other| other.overlaps(subnet)) {
            return Some(subnet);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::parse(text).unwrap()
    }

    #[test]
    fn parse_and_show() {
        assert_eq!(subnet("10.114.101.1/24").to_string(), "10.114.101.0/24");
        assert_eq!(subnet("10.114.104.0/25").last(), u32::from(Ipv4Addr::new(10, 114, 104, 127)));
        for text in ["", "10.0.0.0", "10.0.0.0/0", "10.0.0.0/31", "10.0.0.0/33", "10.0.0/8", "a/8", "::1/64"]
        {
            assert!(Subnet::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn addresses_are_given_out_once_and_end() {
        let net = subnet("192.168.7.0/29");
        let mut used = vec![net.first_host()];
        while let Some(address) = net.free_address(net, &used) {
            used.push(address);
        }
        let last: Vec<u8> = used.iter().map(|address| address.to_be_bytes()[3]).collect();
        assert_eq!(last, [1, 2, 3, 4, 5, 6]);
        let half = subnet("10.114.101.0/25");
        assert_eq!(
            subnet("10.114.101.0/24").free_address(half, &[half.first_host()]),
            parse_address("10.114.101.2")
        );
    }

    #[test]
    fn free_subnets_avoid_all_others() {
        assert_eq!(free_subnet(&[]), Some(subnet("172.17.0.0/16")));
        assert_eq!(
            free_subnet(&[subnet("172.17.5.0/24"), subnet("172.18.0.0/15")]),
            Some(subnet("172.20.0.0/16"))
        );
        assert_eq!(free_subnet(&[subnet("172.16.0.0/12")]), Some(subnet("192.168.0.0/20")));
        assert_eq!(free_subnet(&[subnet("128.0.0.0/1")]), None);
    }
}
