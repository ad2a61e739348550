//! What is asked, for the cache and for servers: the same question of any client is the same key.

use minke_wire::dns::{Class, Flags, Kind, Name, Opt, Writer};

/// The longest message by UDP that we want and send, in bytes: it passes any path in one piece (DNS flag day 2020).
pub(crate) const UDP_SIZE: u16 = 1232;
/// Flags, type and class before the name.
pub(super) const FRONT: usize = 5;
/// The longest key.
pub(super) const LONGEST: usize = FRONT + minke_wire::dns::LONGEST;

/// DO: DNSSEC records are wanted.
const DNSSEC_OK: u8 = 1;
/// CD: not validated answers are wanted.
const CHECKING_DISABLED: u8 = 2;
/// RD is not set: only what a server knows by itself is wanted.
const NOT_RECURSIVE: u8 = 4;

/// A question with the flags that change its answer; the name in small letters. It tells queries in flight apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(Box<[u8]>);

/// A key on the stack: nothing is allocated for a query that the cache answers.
pub(super) struct KeyBuffer {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Key {
    /// The name, in small letters.
    pub(crate) fn name(&self) -> Name {
        Self::name_in(&self.0).unwrap_or(Name::ROOT)
    }

    /// The type.
    pub(crate) fn kind(&self) -> Kind {
        Self::kind_in(&self.0)
    }

    /// The class.
    pub(crate) fn class(&self) -> Class {
        Class(number(&self.0, 3))
    }

    /// Bytes of the question.
    pub(super) fn question_length(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    /// The name in bytes of a key.
    pub(super) fn name_in(bytes: &[u8]) -> Option<Name> {
        Name::from_wire(bytes.get(FRONT..)?)
    }

    /// The type in bytes of a key; 0 where it is about all types.
    pub(super) fn kind_in(bytes: &[u8]) -> Kind {
        Kind(number(bytes, 1))
    }

    /// The bytes as the cache has them.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends the query for servers: with our own OPT when `edns`, and with `letters` as capitals: bit n is for the
    /// n-th letter of the name, modulo 64 (the "0x20" of draft-vixie-dnsext-dns0x20); 0 leaves the name small. The
    /// client's cookies, subnets and other options stay here.
    pub(crate) fn query(&self, id: u16, letters: u64, edns: bool, out: &mut Vec<u8>) {
        let flags = self.flags();
        // AD in a query asks for AD in the response (RFC 6840 §5.7).
        let mut bits = Flags::AD;
        if flags & NOT_RECURSIVE == 0 {
            bits = bits.with(Flags::RD);
        }
        if flags & CHECKING_DISABLED != 0 {
            bits = bits.with(Flags::CD);
        }
        let start = out.len();
        let mut writer = Writer::new(out, usize::MAX, id, bits);
        writer.question(self.name().as_ref(), self.kind(), self.class());
        if edns {
            let opt = Opt { size: UDP_SIZE, dnssec_ok: flags & DNSSEC_OK != 0, ..Opt::default() };
            writer.opt(&opt);
        }
        let name = start.saturating_add(12);
        let end = name.saturating_add(self.0.len()).saturating_sub(FRONT);
        let mut letters = letters;
        for byte in out.get_mut(name..end).unwrap_or_default() {
            if byte.is_ascii_lowercase() {
                *byte ^= (letters as u8 & 1) << 5;
                letters = letters.rotate_right(1);
            }
        }
    }

    /// Whether the client wants DNSSEC records.
    pub(crate) fn dnssec_ok(&self) -> bool {
        self.flags() & DNSSEC_OK != 0
    }

    fn flags(&self) -> u8 {
        self.0.first().copied().unwrap_or_default()
    }
}

fn number(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |two| u16::from_be_bytes(*two))
}

impl KeyBuffer {
    /// The key of a question, `name` in wire form without compression.
    pub(super) fn new(name: &[u8], kind: Kind, class: Class, header: Flags, dnssec_ok: bool) -> Self {
        let mut bytes = [0; LONGEST];
        let mut flags = u8::from(dnssec_ok) * DNSSEC_OK;
        if header.has(Flags::CD) {
            flags |= CHECKING_DISABLED;
        }
        if !header.has(Flags::RD) {
            flags |= NOT_RECURSIVE;
        }
        let [a, b] = kind.0.to_be_bytes();
        let [c, d] = class.0.to_be_bytes();
        let front = [flags, a, b, c, d];
        if let Some(place) = bytes.first_chunk_mut() {
            *place = front;
        }
        let length = name.len().saturating_add(FRONT);
        if let Some(place) = bytes.get_mut(FRONT..length) {
            place.copy_from_slice(name);
            // Lengths of labels are below the capitals.
            place.make_ascii_lowercase();
        }
        Self { bytes, length }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The key under which it is remembered that there is no such name, whatever the type (RFC 2308 §5).
    pub(super) fn nameless(bytes: &[u8]) -> Self {
        let mut buffer = Self { bytes: [0; LONGEST], length: bytes.len().min(LONGEST) };
        if let Some(place) = buffer.bytes.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
        }
        let [_, high, low, ..] = &mut buffer.bytes;
        (*high, *low) = (0, 0);
        buffer
    }

    pub(super) fn to_key(&self) -> Key {
        Key(self.bytes().into())
    }
}
