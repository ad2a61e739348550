//! The header (RFC 5905 §7.3).

use super::{HEADER, Short, Timestamp, VERSION};

/// Association modes (RFC 5905 figure 10).
pub mod mode {
    /// A request.
    pub const CLIENT: u8 = 3;
    /// An answer.
    pub const SERVER: u8 = 4;
    /// Spoken by nobody who asked us.
    pub const BROADCAST: u8 = 5;
}

/// The leap indicator (RFC 5905 figure 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Leap {
    /// No leap second is announced.
    #[default]
    None = 0,
    /// The last minute of the month has 61 seconds.
    Insert = 1,
    /// The last minute of the month has 59 seconds.
    Delete = 2,
    /// The clock is not synchronised.
    Unknown = 3,
}

/// Why a server that does not serve us says so (RFC 5905 §7.4, RFC 8915 §5.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kiss {
    /// Never ask this server again.
    Deny,
    /// The same, by its policy.
    Restrict,
    /// Ask less often.
    Rate,
    /// The cookie is not known: a new key exchange is due.
    NtsNak,
    /// Another code; nothing follows from it.
    Other,
}

/// An NTP header, with the RFC's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packet {
    /// Leap indicator.
    pub leap: Leap,
    /// Version number.
    pub version: u8,
    /// See [`mode`].
    pub mode: u8,
    /// 0: unspecified or a kiss; 1: has a reference clock; to 15: hops from it; from 16: not synchronised.
    pub stratum: u8,
    /// Interval of requests, as power of two in seconds.
    pub poll: i8,
    /// Precision of the clock, as power of two in seconds.
    pub precision: i8,
    /// Round trip to the reference clock.
    pub rootdelay: Short,
    /// Error towards the reference clock.
    pub rootdisp: Short,
    /// Who the server's source is; in a kiss its code; at stratum 1 the kind of clock.
    pub refid: [u8; 4],
    /// When the server's clock was last set or corrected.
    pub reftime: Timestamp,
    /// What the request had as `xmt` (in interleaved mode its `rec`).
    pub org: Timestamp,
    /// When the server received the request.
    pub rec: Timestamp,
    /// When the packet was sent.
    pub xmt: Timestamp,
}

impl Packet {
    /// A request that tells nothing but its version, its mode and `xmt`, a random number by which the answer is known. The
    /// precision is what all clients say that tell nothing (draft-ietf-ntp-data-minimization-04 §3).
    pub fn request(xmt: Timestamp) -> Self {
        Self { version: VERSION, mode: mode::CLIENT, precision: 0x20, xmt, ..Self::default() }
    }

    /// The bytes of the header.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let first = (self.leap as u8) << 6 | (self.version & 7) << 3 | self.mode & 7;
        let head = [first, self.stratum, self.poll.cast_unsigned(), self.precision.cast_unsigned()];
        let [root_delay, root_disp] = [self.rootdelay.0, self.rootdisp.0].map(u32::to_be_bytes);
        let times = [self.reftime, self.org, self.rec, self.xmt].map(|time| time.0.to_be_bytes());
        let parts = [head, root_delay, root_disp, self.refid];
        for (place, byte) in bytes.iter_mut().zip(parts.as_flattened().iter().chain(times.as_flattened())) {
            *place = *byte;
        }
        bytes
    }

    /// Reads a header; the answer's second part is what follows it. `None`: too short, or of a version that has another
    /// format (1 to 4 share this one).
    pub fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
        let (words, _) = header.as_chunks::<4>();
        let [head, root_delay, root_disp, refid, times @ ..] = words else { return None };
        let [first, stratum, poll, precision] = *head;
        let version = first >> 3 & 7;
        let mut packet = Self {
            leap: match first >> 6 {
                0 => Leap::None,
                1 => Leap::Insert,
                2 => Leap::Delete,
                _ => Leap::Unknown,
            },
            version,
            mode: first & 7,
            stratum,
            poll: poll.cast_signed(),
            precision: precision.cast_signed(),
            rootdelay: Short(u32::from_be_bytes(*root_delay)),
            rootdisp: Short(u32::from_be_bytes(*root_disp)),
            refid: *refid,
            ..Self::default()
        };
        let places = [&mut packet.reftime, &mut packet.org, &mut packet.rec, &mut packet.xmt];
        for (place, bytes) in places.into_iter().zip(times.as_flattened().as_chunks().0) {
            *place = Timestamp(u64::from_be_bytes(*bytes));
        }
        (1..=4).contains(&version).then_some((packet, rest))
    }

    /// The kiss that the packet is, if it is one: of stratum 0 with a code of ASCII characters. OpenNTPD says by stratum 0
    /// without a code that it is not synchronised.
    pub fn kiss(&self) -> Option<Kiss> {
        let [first, ..] = self.refid;
        if self.stratum != 0 || !first.is_ascii_graphic() {
            return None;
        }
        Some(match &self.refid {
            b"DENY" => Kiss::Deny,
            b"RSTR" => Kiss::Restrict,
            b"RATE" => Kiss::Rate,
            b"NTSN" => Kiss::NtsNak,
            _ => Kiss::Other,
        })
    }
}
