//! The extension fields (RFC 8915 §5).

use super::{COOKIES, LONGEST_COOKIE};
use crate::ntp::{Extensions, HEADER, put};

const UNIQUE_IDENTIFIER: u16 = 0x0104;
const COOKIE: u16 = 0x0204;
const COOKIE_PLACEHOLDER: u16 = 0x0304;
const AUTHENTICATOR: u16 = 0x0404;

/// Bytes of a request's identifier (RFC 8915 §5.3: at least 32).
pub const IDENTIFIER: usize = 32;
/// Bytes of a request's nonce (RFC 8915 §5.6: with as many, no padding is needed).
pub const NONCE: usize = 16;
/// The shortest extension field (RFC 7822 §3).
const SHORTEST: usize = 16;
/// The longest request: what every IPv6 path carries in one datagram, less the heads of IPv6 and UDP.
const LONGEST_REQUEST: usize = 1232;
/// Bytes of the authenticator of a request: its head, two lengths, the nonce, and the tag of an empty text.
const AUTHENTICATOR_LENGTH: usize = 8 + NONCE + 16;

/// Appends to a request's header its identifier, its cookie, and as many placeholders as fit of those wanted: for each
/// of them the answer brings a cookie more, so that it is never longer than the request (RFC 8915 §5.7).
pub fn identify(request: &mut Vec<u8>, identifier: &[u8; IDENTIFIER], cookie: &[u8], placeholders: usize) {
    put(request, UNIQUE_IDENTIFIER, identifier, SHORTEST);
    put(request, COOKIE, cookie, SHORTEST);
    let blank = vec![0; cookie.len()];
    for _ in 0..placeholders {
        let length = cookie.len().saturating_add(8 + AUTHENTICATOR_LENGTH);
        if request.len().saturating_add(length) > LONGEST_REQUEST {
            break;
        }
        put(request, COOKIE_PLACEHOLDER, &blank, SHORTEST);
    }
}

/// Appends the authenticator, last of all: the nonce, and what the encryption of no text gave, with all before this field
/// as associated data.
pub fn put_authenticator(request: &mut Vec<u8>, nonce: &[u8; NONCE], ciphertext: &[u8]) {
    let mut value = Vec::new();
    for length in [NONCE, ciphertext.len()] {
        // Ours are 16 bytes each.
        value.extend_from_slice(&(length as u16).to_be_bytes());
    }
    value.extend_from_slice(nonce);
    value.extend_from_slice(ciphertext);
    put(request, AUTHENTICATOR, &value, SHORTEST);
}

/// What an answer's fields say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The request's identifier, by its own account. It stands before the authenticator.
    pub identifier: &'a [u8],
    /// What is to be checked, if the answer has an authenticator.
    pub sealed: Option<Sealed<'a>>,
}

/// An authenticator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// All that stands before it: the associated data.
    pub covered: &'a [u8],
    /// The nonce.
    pub nonce: &'a [u8],
    /// Further fields, encrypted.
    pub ciphertext: &'a [u8],
}

impl<'a> Answer<'a> {
    /// Reads the fields of a packet up to the authenticator: what follows it is protected by nothing.
    pub fn parse(packet: &'a [u8]) -> Self {
        let mut answer = Self::default();
        for field in Extensions::new(packet.get(HEADER..).unwrap_or_default()) {
            match field.kind {
                UNIQUE_IDENTIFIER if answer.identifier.is_empty() => answer.identifier = field.value,
                AUTHENTICATOR => {
                    let covered = packet.get(..field.start.saturating_add(HEADER));
                    answer.sealed = covered.and_then(|covered| Sealed::parse(covered, field.value));
                    break;
                }
                _ => {}
            }
        }
        answer
    }
}

impl<'a> Sealed<'a> {
    /// Each of nonce and text is padded to whole words (RFC 8915 §5.6).
    fn parse(covered: &'a [u8], value: &'a [u8]) -> Option<Self> {
        let ([n0, n1, c0, c1], rest) = value.split_first_chunk()?;
        let nonce = usize::from(u16::from_be_bytes([*n0, *n1]));
        let ciphertext = usize::from(u16::from_be_bytes([*c0, *c1]));
        let (padded, rest) = rest.split_at_checked(nonce.next_multiple_of(4))?;
        Some(Self { covered, nonce: padded.get(..nonce)?, ciphertext: rest.get(..ciphertext)? })
    }
}

/// The cookies among the fields that were encrypted.
pub fn cookies(mut text: Vec<u8>) -> Vec<Vec<u8>> {
    // Behind the fields of a packet there may be a code of 24 bytes; here is none.
    text.resize(text.len().saturating_add(SHORTEST + 12), 0);
    let mut cookies = Vec::new();
    for field in Extensions::new(&text) {
        let fits = (1..=LONGEST_COOKIE).contains(&field.value.len());
        if field.kind == COOKIE && fits && cookies.len() < COOKIES {
            cookies.push(field.value.to_vec());
        }
    }
    cookies
}
