//! The names by which addresses have names: RFC 1035 §3.5, RFC 3596 §2.5.

use std::fmt::Write;
use std::net::IpAddr;

/// The name under which an address has its host's name.
pub fn reverse(address: IpAddr) -> String {
    reverse_zone(address, usize::MAX)
}

/// The zone of the addresses that begin as this one: its first bytes, of IPv6 its first half bytes, as many as `labels`.
#[inline(never)]
pub fn reverse_zone(address: IpAddr, labels: usize) -> String {
    let mut text = String::new();
    match address {
        IpAddr::V4(address) => {
            for byte in address.octets().iter().take(labels).rev() {
                let _ = write!(text, "{byte}.");
            }
            text.push_str("in-addr.arpa");
        }
        IpAddr::V6(address) => {
            let halves = address.octets().map(|byte| [byte >> 4, byte & 15]);
            for half in halves.as_flattened().iter().take(labels).rev() {
                let _ = write!(text, "{half:x}.");
            }
            text.push_str("ip6.arpa");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_zones_of_addresses() {
        assert_eq!(reverse([10, 1, 2, 3].into()), "3.2.1.10.in-addr.arpa");
        let address = "2001:db8::a5".parse().unwrap();
        let name = "5.a.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
        assert_eq!(reverse(address), name);
        assert_eq!(reverse_zone(address, 5), "0.1.0.0.2.ip6.arpa");
        assert_eq!(reverse_zone(address, 8), "8.b.d.0.1.0.0.2.ip6.arpa");
        assert_eq!(reverse_zone([10, 1, 2, 3].into(), 2), "1.10.in-addr.arpa");
        assert_eq!(reverse_zone([10, 1, 2, 3].into(), 0), "in-addr.arpa");
    }
}
