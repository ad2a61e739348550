//! What is asked, for the cache and for servers: the same question of any client is the same key.

use minke_wire::dns::{Class, Flags, Kind, Name, Opt, Writer};

/// The longest message by UDP that we want and send, in bytes: it passes any path in one piece (DNS flag day 2020).
pub(crate) const UDP_SIZE: u16 = 1232;
/// Flags, type and class before the name.
pub(super) const FRONT: usize = 5;

/// DO: DNSSEC records are wanted.
const DNSSEC_OK: u8 = 1;
/// CD: not validated answers are wanted.
const CHECKING_DISABLED: u8 = 2;
/// RD is not set: only what a server knows by itself is wanted.
const NOT_RECURSIVE: u8 = 4;

/// A question with the flags that change its answer; the name in small letters. It tells queries in flight apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(Box<[u8]>);

/// A key as a query has it: nothing is copied for one that the cache answers. [`super::store::Store::key`] makes them.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyRef<'a> {
    pub(super) front: [u8; FRONT],
    /// In wire form without compression, of large and small letters.
    pub(super) name: &'a [u8],
    /// Of the name in small letters and what stands before it.
    pub(super) hash: u32,
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

/// What stands before the name.
pub(super) fn front(kind: Kind, class: Class, header: Flags, dnssec_ok: bool) -> [u8; FRONT] {
    let mut flags = u8::from(dnssec_ok) * DNSSEC_OK;
    if header.has(Flags::CD) {
        flags |= CHECKING_DISABLED;
    }
    if !header.has(Flags::RD) {
        flags |= NOT_RECURSIVE;
    }
    let [a, b] = kind.0.to_be_bytes();
    let [c, d] = class.0.to_be_bytes();
    [flags, a, b, c, d]
}

/// What stands before the name where it is remembered that there is no such name, whatever the type (RFC 2308 §5).
pub(super) fn nameless([flags, _, _, c, d]: [u8; FRONT]) -> [u8; FRONT] {
    [flags, 0, 0, c, d]
}

/// Takes the bytes of a key apart: what stands before the name, and the name.
pub(super) fn parts(bytes: &[u8]) -> ([u8; FRONT], &[u8]) {
    bytes.split_first_chunk().map_or(([0; FRONT], &[]), |(front, name)| (*front, name))
}

impl KeyRef<'_> {
    /// Bytes of the key.
    pub(super) fn len(&self) -> usize {
        self.name.len().saturating_add(FRONT)
    }

    pub(super) fn to_key(self) -> Key {
        let mut bytes = Vec::with_capacity(self.len());
        bytes.extend_from_slice(&self.front);
        // Lengths of labels are below the capitals.
        bytes.extend(self.name.iter().map(u8::to_ascii_lowercase));
        Key(bytes.into())
    }
}

impl PartialEq<[u8]> for KeyRef<'_> {
    fn eq(&self, other: &[u8]) -> bool {
        let (front, name) = parts(other);
        self.front == front && self.name.eq_ignore_ascii_case(name)
    }
}

/// A hash that nobody can foresee who does not know the seed: products of 32 bits, as in wyhash32.
pub(super) fn hash([seed, secret]: [u64; 2], front: [u8; FRONT], name: &[u8]) -> u32 {
    let [one, two] = [secret as u32, (secret >> 32) as u32];
    let mix = |state: u64, word: u64| {
        let product = u64::from(state as u32 ^ word as u32 ^ one);
        product.wrapping_mul(u64::from((state >> 32) as u32 ^ (word >> 32) as u32 ^ two))
    };
    let [flags, a, b, c, d] = front;
    let mut state = mix(seed, u64::from_le_bytes([a, b, c, d, flags, 0, 0, name.len() as u8]));
    let (words, rest) = name.as_chunks();
    for word in words {
        // What a product of nothing forgets is added again.
        state = mix(state, small(*word)).wrapping_add(seed).rotate_left(11);
    }
    state = mix(state, small(last(rest)));
    state = mix(state, 0);
    state as u32 ^ (state >> 32) as u32
}

/// Whether `kept` begins with `name` in small letters.
pub(super) fn is_small_of(kept: &[u8], name: &[u8]) -> bool {
    let (words, rest) = name.as_chunks();
    let (kept_words, _) = kept.as_chunks();
    let same = words.iter().zip(kept_words).all(|(word, kept)| small(*word) == u64::from_le_bytes(*kept));
    let tail = name.len().saturating_sub(rest.len());
    let tail = kept.get(tail..).and_then(|kept| kept.get(..rest.len()));
    same && tail.is_some_and(|kept| small(last(rest)) == u64::from_le_bytes(last(kept)))
}

/// Fewer than eight bytes, with zeros behind them.
fn last(rest: &[u8]) -> [u8; 8] {
    let mut bytes = [0; 8];
    for (place, byte) in bytes.iter_mut().zip(rest) {
        *place = *byte;
    }
    bytes
}

/// Eight bytes of a name at once, in small letters. Lengths of labels are below the capitals.
pub(super) fn small(bytes: [u8; 8]) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(bytes);
    // The high bit of a byte tells of its lower seven: 'A' or more, more than 'Z'. No sum reaches the next byte.
    let low = word & (EACH * 0x7F);
    let from_a = low.wrapping_add(EACH * 0x3F);
    let above_z = low.wrapping_add(EACH * 0x25);
    let capitals = from_a & !above_z & !word & (EACH * 0x80);
    word | capitals >> 2
}
