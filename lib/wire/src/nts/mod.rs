//! Network Time Security for NTPv4 (RFC 8915): the records of its key exchange and its extension fields. Encryption is
//! the caller's.

mod fields;
mod ke;
#[cfg(test)]
mod tests;

pub use fields::{Answer, IDENTIFIER, NONCE, Sealed, cookies, identify, put_authenticator};
pub use ke::{Established, Refusal, request};

/// The TCP port of key exchanges (RFC 8915 §7.2).
pub const PORT: u16 = 4460;
/// What both sides of the TLS session say that they speak (RFC 8915 §4).
pub const ALPN: &[u8] = b"ntske/1";
/// The label under which TLS hands out the keys (RFC 8915 §5.1).
pub const EXPORTER: &[u8] = b"EXPORTER-network-time-security";
/// AEAD_AES_SIV_CMAC_256 (RFC 5297), which every server has (RFC 8915 §5.1), by its number at IANA.
pub const AES_SIV_CMAC_256: u16 = 15;
/// Bytes of a key of [`AES_SIV_CMAC_256`].
pub const KEY: usize = 32;
/// How many cookies a client keeps (RFC 8915 §5.7).
pub const COOKIES: usize = 8;
/// The longest cookie that is kept: a request with it fits into one datagram on every path.
pub const LONGEST_COOKIE: usize = 1024;

/// The exporter's context for one key (RFC 8915 §5.1): NTPv4, the algorithm, and the direction.
pub fn context(server_to_client: bool) -> [u8; 5] {
    let [high, low] = AES_SIV_CMAC_256.to_be_bytes();
    [0, 0, high, low, server_to_client.into()]
}
