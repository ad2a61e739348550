//! What a client sends.

use super::{COOKIE, FIXED, Kind, option};
use std::net::Ipv4Addr;

/// The smallest message that old relays and servers take (RFC 1542 §2.1).
const MINIMUM: usize = 300;
/// The largest answer that we ask for: what fits an Ethernet frame unfragmented.
const MAXIMUM_ANSWER: u16 = 1472;
/// What we ask servers for, in the order of importance.
const PARAMETERS: [u8; 8] = [
    option::SUBNET_MASK,
    // RFC 3442: classless routes are asked for before the router, as they replace it.
    option::CLASSLESS_ROUTES,
    option::ROUTER,
    option::DNS_SERVERS,
    option::DOMAIN_NAME,
    option::DOMAIN_SEARCH,
    option::INTERFACE_MTU,
    option::NTP_SERVERS,
];

/// A client's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Option 53.
    pub kind: Kind,
    /// The number that answers repeat.
    pub xid: u32,
    /// Seconds since the client began to ask.
    pub secs: u16,
    /// The client's address, when it has one and can answer for it (RENEWING, REBINDING, RELEASE); else
    /// unspecified.
    pub ciaddr: Ipv4Addr,
    /// The client's Ethernet address; it is also the client identifier (option 61, type 1).
    pub chaddr: [u8; 6],
    /// Option 50: the address that the client wants.
    pub requested: Option<Ipv4Addr>,
    /// Option 54: the server that it talks to.
    pub server: Option<Ipv4Addr>,
    /// Option 12; left out when empty. Cut at 63 bytes.
    pub host_name: &'a str,
}

impl Request<'_> {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MINIMUM);
        // BOOTREQUEST, Ethernet, address length 6, no relay hops.
        bytes.extend_from_slice(&[1, 1, 6, 0]);
        bytes.extend_from_slice(&self.xid.to_be_bytes());
        bytes.extend_from_slice(&self.secs.to_be_bytes());
        // No broadcast flag: we receive unicast answers before we have an address.
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&self.ciaddr.octets());
        bytes.extend_from_slice(&[0; 12]);
        bytes.extend_from_slice(&self.chaddr);
        bytes.resize(FIXED, 0);
        bytes.extend_from_slice(&COOKIE);
        self.encode_options(&mut bytes);
        bytes.push(option::END);
        if bytes.len() < MINIMUM {
            bytes.resize(MINIMUM, 0);
        }
        bytes
    }

    fn encode_options(&self, bytes: &mut Vec<u8>) {
        put(bytes, option::MESSAGE_TYPE, &[self.kind as u8]);
        let [a, b, c, d, e, f] = self.chaddr;
        put(bytes, option::CLIENT_IDENTIFIER, &[1, a, b, c, d, e, f]);
        if let Some(address) = self.requested {
            put(bytes, option::REQUESTED_ADDRESS, &address.octets());
        }
        if let Some(server) = self.server {
            put(bytes, option::SERVER_IDENTIFIER, &server.octets());
        }
        if matches!(self.kind, Kind::Discover | Kind::Request) {
            put(bytes, option::MAXIMUM_SIZE, &MAXIMUM_ANSWER.to_be_bytes());
            put(bytes, option::PARAMETER_LIST, &PARAMETERS);
            let name = self.host_name.as_bytes();
            put(bytes, option::HOST_NAME, name.get(..63).unwrap_or(name));
        }
    }
}

/// Appends an option of at most 255 bytes; an empty one is left out.
fn put(bytes: &mut Vec<u8>, code: u8, value: &[u8]) {
    if let (Ok(length), false) = (u8::try_from(value.len()), value.is_empty()) {
        bytes.extend_from_slice(&[code, length]);
        bytes.extend_from_slice(value);
    }
}
