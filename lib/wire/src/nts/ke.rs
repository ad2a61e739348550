//! The records of the key exchange (RFC 8915 §4).

use super::{AES_SIV_CMAC_256, COOKIES, LONGEST_COOKIE};
use std::fmt;

/// The bit of a record's type that says: who does not know the record must not go on.
const CRITICAL: u16 = 0x8000;
const END: u16 = 0;
const NEXT_PROTOCOL: u16 = 1;
const ERROR: u16 = 2;
const WARNING: u16 = 3;
const ALGORITHM: u16 = 4;
const COOKIE: u16 = 5;
const SERVER: u16 = 6;
const SERVER_PORT: u16 = 7;
/// The number of NTPv4 among the protocols.
const NTPV4: u16 = 0;
/// The longest name of a server, as in DNS.
const LONGEST_NAME: usize = 253;

/// A client's message: NTPv4 with [`AES_SIV_CMAC_256`].
pub fn request() -> Vec<u8> {
    let mut message = Vec::new();
    for (kind, body) in
        [(NEXT_PROTOCOL, &NTPV4.to_be_bytes()[..]), (ALGORITHM, &AES_SIV_CMAC_256.to_be_bytes()), (END, &[])]
    {
        put(&mut message, kind | CRITICAL, body);
    }
    message
}

fn put(message: &mut Vec<u8>, kind: u16, body: &[u8]) {
    message.extend_from_slice(&kind.to_be_bytes());
    // Bodies of ours have two bytes at most.
    message.extend_from_slice(&(body.len() as u16).to_be_bytes());
    message.extend_from_slice(body);
}

/// What a server has granted.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Established {
    /// At least one and at most [`COOKIES`].
    pub cookies: Vec<Vec<u8>>,
    /// The NTP server's name or address; without one it is the address of the key exchange.
    pub server: Option<String>,
    /// The NTP server's port, if it is another than 123.
    pub port: Option<u16>,
}

/// Why there is no agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is no message of the key exchange.
    Malformed,
    /// A record of this type is not known here, and the server insists on it.
    Critical(u16),
    /// The server's error code.
    Error(u16),
    /// The server's warning code; none is defined.
    Warning(u16),
    /// Not for NTPv4.
    Protocol,
    /// Not with [`AES_SIV_CMAC_256`].
    Algorithm,
    /// Nothing with which the NTP server could be asked.
    NoCookie,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Malformed => "the server's answer is no NTS key exchange",
            Self::Critical(kind) => {
                return write!(f, "the server insists on record type {kind} of the NTS key exchange");
            }
            Self::Error(0) => "the server does not understand a record of ours (NTS-KE error 0)",
            Self::Error(1) => "the server finds our request bad (NTS-KE error 1)",
            Self::Error(2) => "the server has an internal error (NTS-KE error 2)",
            Self::Error(code) => return write!(f, "the server answers with NTS-KE error {code}"),
            Self::Warning(code) => return write!(f, "the server answers with NTS-KE warning {code}"),
            Self::Protocol => "the server has no NTS for NTPv4",
            Self::Algorithm => "the server does not have AEAD_AES_SIV_CMAC_256",
            Self::NoCookie => "the server gave no cookie",
        };
        f.write_str(text)
    }
}

impl Established {
    /// Reads a server's message as far as it has come; `None`: its end is missing yet. What follows the end is left out.
    pub fn parse(message: &[u8]) -> Result<Option<Box<Self>>, Refusal> {
        let mut established = Box::<Self>::default();
        let (mut protocol, mut algorithm) = (None, None);
        let mut rest = message;
        loop {
            let Some(([k0, k1, l0, l1], after)) = rest.split_first_chunk() else { return Ok(None) };
            let kind = u16::from_be_bytes([*k0, *k1]);
            let length = u16::from_be_bytes([*l0, *l1]);
            let Some((body, after)) = after.split_at_checked(length.into()) else { return Ok(None) };
            rest = after;
            match kind & !CRITICAL {
                END if body.is_empty() => break,
                ERROR => return Err(number(body).map_or(Refusal::Malformed, Refusal::Error)),
                WARNING => return Err(number(body).map_or(Refusal::Malformed, Refusal::Warning)),
                // An empty list, or another protocol's number: the server does not agree.
                NEXT_PROTOCOL if protocol.is_none() => protocol = Some(number(body)),
                ALGORITHM if algorithm.is_none() => algorithm = Some(number(body)),
                COOKIE if body.is_empty() => return Err(Refusal::Malformed),
                COOKIE => established.keep(body),
                SERVER if established.server.is_none() => established.server = Some(name(body)?),
                SERVER_PORT if established.port.is_none() => {
                    let port = number(body).filter(|port| *port != 0);
                    established.port = Some(port.ok_or(Refusal::Malformed)?);
                }
                // One of ours that comes twice, or an end with a body.
                ..=SERVER_PORT => return Err(Refusal::Malformed),
                unknown if kind & CRITICAL != 0 => return Err(Refusal::Critical(unknown)),
                _ => {}
            }
        }
        if protocol != Some(Some(NTPV4)) {
            return Err(Refusal::Protocol);
        }
        if algorithm != Some(Some(AES_SIV_CMAC_256)) {
            return Err(Refusal::Algorithm);
        }
        if established.cookies.is_empty() {
            return Err(Refusal::NoCookie);
        }
        Ok(Some(established))
    }

    fn keep(&mut self, cookie: &[u8]) {
        if self.cookies.len() < COOKIES && cookie.len() <= LONGEST_COOKIE {
            self.cookies.push(cookie.to_vec());
        }
    }
}

/// A body that is one number.
fn number(body: &[u8]) -> Option<u16> {
    body.as_array().copied().map(u16::from_be_bytes)
}

/// A name or an address, as far as its characters tell.
fn name(body: &[u8]) -> Result<String, Refusal> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-' | b'_');
    if body.is_empty() || body.len() > LONGEST_NAME || !body.iter().all(|byte| fits(*byte)) {
        return Err(Refusal::Malformed);
    }
    Ok(String::from_utf8_lossy(body).into_owned())
}
