//! DHCPv4 messages (RFC 2131, RFC 2132): what a client sends and what a server answers.

mod frame;
mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use frame::{decapsulate, encapsulate};
pub use reply::{DecodeError, Reply, is_host};
pub use request::Request;

/// The port that servers listen on.
pub const SERVER_PORT: u16 = 67;
/// The port that clients listen on.
pub const CLIENT_PORT: u16 = 68;
/// A lease time that never ends (RFC 2131 §3.3).
pub const INFINITE: u32 = u32::MAX;

/// The four bytes before the options (RFC 1497).
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// The fixed part of a message, without the cookie.
const FIXED: usize = 236;

/// Option 53, DHCP message type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Who has an address for me?
    Discover = 1,
    /// Here is one.
    Offer = 2,
    /// I take it; or: is it still mine?
    Request = 3,
    /// Somebody else uses it.
    Decline = 4,
    /// It is yours.
    Ack = 5,
    /// It is not yours.
    Nak = 6,
    /// I give it back.
    Release = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        let all =
            [Self::Discover, Self::Offer, Self::Request, Self::Decline, Self::Ack, Self::Nak, Self::Release];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Option codes (RFC 2132; 119: RFC 3397; 121: RFC 3442).
mod option {
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS_SERVERS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN_NAME: u8 = 15;
    pub const INTERFACE_MTU: u8 = 26;
    pub const NTP_SERVERS: u8 = 42;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_IDENTIFIER: u8 = 54;
    pub const PARAMETER_LIST: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAXIMUM_SIZE: u8 = 57;
    pub const RENEWAL_TIME: u8 = 58;
    pub const REBINDING_TIME: u8 = 59;
    pub const CLIENT_IDENTIFIER: u8 = 61;
    pub const DOMAIN_SEARCH: u8 = 119;
    pub const CLASSLESS_ROUTES: u8 = 121;
    pub const END: u8 = 255;
}
