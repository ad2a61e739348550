//! Records, when two are the same, and the ones that deny others.

use minke_wire::dns::{Class, Kind, Name, NameRef};
use std::cmp::Ordering;

/// Seconds that records live which hold a host's name or address (RFC 6762 §10).
pub(crate) const HOST_TTL: u32 = 120;
/// And all others.
pub(crate) const OTHER_TTL: u32 = 4500;

/// A record of class IN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) name: Name,
    pub(crate) kind: Kind,
    /// Whoever sends it has no other of this name and type: the cache-flush bit.
    pub(crate) unique: bool,
    /// Seconds.
    pub(crate) ttl: u32,
    /// Names in it are not compressed.
    pub(crate) data: Vec<u8>,
}

impl Record {
    /// A record of a message; `None` for what is of another class.
    pub(crate) fn of(record: &minke_wire::dns::Record<'_>) -> Option<Self> {
        (record.class.plain() == Class::IN && record.kind != Kind::OPT).then(|| Self {
            name: record.name.to_name(),
            kind: record.kind,
            unique: record.class.cache_flush(),
            ttl: record.ttl,
            data: record.plain(),
        })
    }

    /// Whether both say the same, whatever their TTL.
    pub(crate) fn says(&self, other: &Self) -> bool {
        self.kind == other.kind && same_data(self.kind, &self.data, &other.data) && self.name == other.name
    }

    /// Whether it is of this name and answers a question for this type.
    pub(crate) fn answers(&self, name: NameRef<'_>, kind: Kind) -> bool {
        (self.kind == kind || (kind == Kind::ANY && self.kind != Kind::NSEC)) && name == self.name
    }

    /// Whether an NSEC record says that its name has no records of this type (RFC 6762 §6.1).
    pub(crate) fn denies(&self, kind: Kind) -> bool {
        if self.kind != Kind::NSEC || kind == Kind::ANY {
            return false;
        }
        let own = self.name.as_wire();
        // Who points to another name speaks of unicast DNS's chains; here the name is the record's own.
        let Some(rest) =
            self.data.split_at_checked(own.len()).filter(|(next, _)| next.eq_ignore_ascii_case(own))
        else {
            return false;
        };
        let [window, _, bits @ ..] = rest.1 else { return false };
        let [high, low] = kind.0.to_be_bytes();
        // Only block 0 is used; what it leaves out does not exist.
        *window == 0
            && high == 0
            && bits.get(usize::from(low >> 3)).is_none_or(|byte| byte & (0x80 >> (low & 7)) == 0)
    }

    /// The record that says which types `name` has and so that it has no others (RFC 6762 §6.1).
    pub(crate) fn denial(name: &Name, kinds: &[Kind]) -> Self {
        let mut bits = [0u8; 32];
        let mut length = 0;
        for kind in kinds {
            let [_, low] = kind.0.to_be_bytes();
            let place = usize::from(low >> 3);
            if let Some(byte) = bits.get_mut(place) {
                *byte |= 0x80 >> (low & 7);
                length = length.max(place.saturating_add(1));
            }
        }
        let mut data = name.as_wire().to_vec();
        data.extend_from_slice(&[0, length as u8]);
        data.extend_from_slice(bits.get(..length).unwrap_or_default());
        Self { name: name.clone(), kind: Kind::NSEC, unique: true, ttl: HOST_TTL, data }
    }

    /// A number that records which say the same share.
    pub(crate) fn hash(&self) -> u32 {
        let mut hash = name_hash(self.name.as_ref(), self.kind);
        for byte in &self.data {
            hash = mix(hash, byte.to_ascii_lowercase());
        }
        hash
    }

    /// What it takes in memory.
    pub(crate) fn size(&self) -> usize {
        self.name.as_wire().len().saturating_add(self.data.len()).saturating_add(160)
    }

    /// The order in which records of simultaneous probes are compared: class, which is always the same, type, data
    /// (RFC 6762 §8.2).
    pub(crate) fn probe_order(&self, other: &Self) -> Ordering {
        self.kind.0.cmp(&other.kind.0).then_with(|| self.data.cmp(&other.data))
    }
}

/// The records of a section that we understand.
#[inline(never)]
pub(crate) fn read(section: minke_wire::dns::Records<'_>, out: &mut Vec<Record>) {
    for record in section {
        if let Some(record) = Record::of(&record) {
            out.push(record);
        }
    }
}

/// A number that questions for the same share.
pub(crate) fn name_hash(name: NameRef<'_>, kind: Kind) -> u32 {
    let mut hash = mix(0x811c_9dc5, kind.0 as u8);
    for label in name.labels() {
        hash = mix(hash, label.len() as u8);
        for byte in label {
            hash = mix(hash, byte.to_ascii_lowercase());
        }
    }
    hash
}

/// FNV-1a's number for any bytes.
pub(crate) fn hash(bytes: &[u8]) -> u32 {
    let mut hash = 0x811c_9dc5;
    for byte in bytes {
        hash = mix(hash, *byte);
    }
    hash
}

fn mix(hash: u32, byte: u8) -> u32 {
    (hash ^ u32::from(byte)).wrapping_mul(0x100_0193)
}

/// Data that holds names is the same in any case of letters: compression may have replaced a name by one that was
/// spelt otherwise.
fn same_data(kind: Kind, one: &[u8], other: &[u8]) -> bool {
    let exact = match kind {
        Kind::PTR | Kind::CNAME | Kind::NSEC => 0,
        // Priority, weight and port.
        Kind::SRV => 6,
        _ => return one == other,
    };
    one.get(..exact) == other.get(..exact) && one.eq_ignore_ascii_case(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    #[test]
    fn rfc6762_6_1_nsec_names_itself_and_the_types_that_exist() {
        let record = Record::denial(&name("a.local"), &[Kind::A, Kind::SRV]);
        assert_eq!(record.data, b"\x01a\x05local\0\0\x05\x40\0\0\0\x40");
        for (kind, denied) in [(Kind::A, false), (Kind::AAAA, true), (Kind::SRV, false), (Kind(200), true)] {
            assert_eq!(record.denies(kind), denied, "{kind:?}");
        }
        assert!(!record.denies(Kind::ANY), "it has some");
        assert!(!record.denies(Kind(256)), "blocks after the first are not for multicast DNS");
        for (place, value, why) in
            [(1, b'b', "the next name is another's"), (9, 1, "a list that has no first block")]
        {
            let mut other = record.clone();
            other.data[place] = value;
            assert!(!other.denies(Kind::AAAA), "{why}");
        }
    }

    #[test]
    fn same_whatever_the_case_of_names_in_the_data() {
        let srv = |data: &[u8]| Record {
            name: name("x._ssh._tcp.local"),
            kind: Kind::SRV,
            unique: true,
            ttl: 120,
            data: data.to_vec(),
        };
        assert!(srv(b"\0\0\0\0\0A\x01h\x05local\0").says(&srv(b"\0\0\0\0\0A\x01H\x05LOCAL\0")));
        assert!(!srv(b"\0\0\0\0\0A\x01h\x05local\0").says(&srv(b"\0\0\0\0\0a\x01h\x05local\0")));
    }
}
