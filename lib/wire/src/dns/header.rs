//! The twelve bytes that every message begins with (RFC 1035 §4.1.1).

use super::{HEADER, Rcode};

/// The header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Tells which query a response answers.
    pub id: u16,
    /// What kind of message this is.
    pub flags: Flags,
    /// How many questions, answers, authorities and additionals follow.
    pub counts: [u16; 4],
}

/// The bits between id and counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub u16);

impl Header {
    /// The header of a message; `None` for what is too short.
    pub fn read(message: &[u8]) -> Option<Self> {
        let [a, b, c, d, counts @ ..] = *message.first_chunk::<HEADER>()?;
        let [e, f, g, h, i, j, k, l] = counts;
        let pair = |high, low| u16::from_be_bytes([high, low]);
        Some(Self {
            id: pair(a, b),
            flags: Flags(pair(c, d)),
            counts: [pair(e, f), pair(g, h), pair(i, j), pair(k, l)],
        })
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes());
    }

    /// Puts it in the place of a message's header.
    pub fn put(&self, message: &mut [u8]) {
        if let Some(place) = message.first_chunk_mut() {
            *place = self.bytes();
        }
    }

    fn bytes(&self) -> [u8; HEADER] {
        let [questions, answers, authorities, additionals] = self.counts;
        let ([a, b], [c, d]) = (self.id.to_be_bytes(), self.flags.0.to_be_bytes());
        let ([e, f], [g, h]) = (questions.to_be_bytes(), answers.to_be_bytes());
        let ([i, j], [k, l]) = (authorities.to_be_bytes(), additionals.to_be_bytes());
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }
}

impl Flags {
    /// A response, not a query.
    pub const QR: Self = Self(0x8000);
    /// The server has authority over the name.
    pub const AA: Self = Self(0x0400);
    /// Truncated: not everything did fit. In queries of mDNS: more known answers follow.
    pub const TC: Self = Self(0x0200);
    /// The client wants recursion.
    pub const RD: Self = Self(0x0100);
    /// The server does recursion.
    pub const RA: Self = Self(0x0080);
    /// Authentic data (RFC 4035 §3.1.6, RFC 6840 §5.7).
    pub const AD: Self = Self(0x0020);
    /// Checking disabled (RFC 4035 §3.1.6).
    pub const CD: Self = Self(0x0010);
    const RCODE: u16 = 0x000F;

    /// Whether all of these bits are set.
    pub fn has(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// With these bits set as well.
    #[must_use]
    pub fn with(self, bits: Self) -> Self {
        Self(self.0 | bits.0)
    }

    /// With these bits cleared.
    #[must_use]
    pub fn without(self, bits: Self) -> Self {
        Self(self.0 & !bits.0)
    }

    /// Only those of these bits that are set.
    #[must_use]
    pub fn only(self, bits: Self) -> Self {
        Self(self.0 & bits.0)
    }

    /// What is asked for: 0 is a query, all others are rare.
    pub fn opcode(self) -> u8 {
        (self.0 >> 11) as u8 & 0x0F
    }

    /// The lower four bits of the response code.
    pub fn rcode(self) -> Rcode {
        Rcode(self.0 & Self::RCODE)
    }

    /// With the lower four bits of this response code.
    #[must_use]
    pub fn with_rcode(self, code: Rcode) -> Self {
        Self(self.0 & !Self::RCODE | code.0 & Self::RCODE)
    }
}
