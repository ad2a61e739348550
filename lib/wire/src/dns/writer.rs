//! Writing a message: names compressed, counts kept, never longer than allowed.

use super::data::{Data, layout};
use super::{Class, Flags, HEADER, Header, Kind, NameRef, Opt, Record};

/// How many places of names are remembered to be pointed at.
const MOST_NAMES: usize = 48;
/// Pointers have fourteen bits.
const FARTHEST: usize = 0x3FFF;

/// A section of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What answers the question.
    Answer = 1,
    /// Who has authority, or the SOA of what does not exist.
    Authority = 2,
    /// What may be useful besides.
    Additional = 3,
}

/// Appends one message to a vector. Sections are written in their order; a record that does not fit leaves no trace.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Where the message begins: what stands before it, the length for TCP for instance, is not ours.
    start: usize,
    limit: usize,
    compress_all: bool,
    names: [u16; MOST_NAMES],
    known: usize,
}

impl<'a> Writer<'a> {
    /// Begins a message behind what `out` holds, of at most `limit` bytes, with an id and flags.
    pub fn new(out: &'a mut Vec<u8>, limit: usize, id: u16, flags: Flags) -> Self {
        let start = out.len();
        Header { id, flags, counts: [0; 4] }.write(out);
        let limit = limit.min(usize::from(u16::MAX));
        Self { out, start, limit, compress_all: false, names: [0; MOST_NAMES], known: 0 }
    }

    /// Compresses names in the data of all types that have some, as mDNS does (RFC 6762 §18.14).
    #[must_use]
    pub fn compressing_all(mut self) -> Self {
        self.compress_all = true;
        self
    }

    /// Sets another limit in bytes.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(usize::from(u16::MAX));
    }

    /// Bytes of the message so far.
    pub fn len(&self) -> usize {
        self.out.len().saturating_sub(self.start)
    }

    /// Whether nothing but the header is there.
    pub fn is_empty(&self) -> bool {
        self.len() <= HEADER
    }

    /// How many questions (0) or records of a section there are.
    pub fn count(&self, section: usize) -> u16 {
        self.number(section.saturating_mul(2).saturating_add(4))
    }

    /// Sets flags besides those that are set.
    pub fn set(&mut self, flags: Flags) {
        let flags = Flags(self.number(2)).with(flags);
        self.set_number(2, flags.0);
    }

    /// Adds a question; `false` when it does not fit.
    pub fn question(&mut self, name: NameRef<'_>, kind: Kind, class: Class) -> bool {
        let mark = self.mark();
        self.name(name, true);
        self.numbers(&[kind.0, class.0]);
        self.keep(mark, 0)
    }

    /// Adds a record with data; `false` when it does not fit. `kind` counts for [`Data::Other`] only.
    pub fn record(
        &mut self,
        section: Section,
        (name, kind, class): (NameRef<'_>, Kind, Class),
        ttl: u32,
        data: &Data<'_>,
    ) -> bool {
        let kind = data.kind().unwrap_or(kind);
        let mark = self.mark();
        let place = self.front(name, kind, class, ttl);
        self.data(kind, data);
        self.patch(place);
        self.keep(mark, section as usize)
    }

    /// Adds a record of a message with another time to live, its data untouched but for the compression of names;
    /// `false` when it does not fit.
    pub fn copy(&mut self, section: Section, record: &Record<'_>, ttl: u32) -> bool {
        let mark = self.mark();
        let place = self.front(record.name, record.kind, record.class, ttl);
        let (message, start, end) = record.place();
        let layout = layout(record.meant());
        let mut at = start;
        if layout.names > 0 {
            at = at.saturating_add(layout.skip);
            self.out.extend_from_slice(message.get(start..at).unwrap_or_default());
            for _ in 0..layout.names {
                // The message was checked: the names are there.
                let Some((name, next)) = NameRef::read(message, at) else { break };
                self.name(name, layout.compressible || self.compress_all);
                at = next;
            }
        }
        self.out.extend_from_slice(message.get(at..end).unwrap_or_default());
        self.patch(place);
        self.keep(mark, section as usize)
    }

    /// Adds OPT; `false` when it does not fit.
    pub fn opt(&mut self, opt: &Opt<'_>) -> bool {
        let mark = self.mark();
        opt.write(self.out);
        self.keep(mark, Section::Additional as usize)
    }

    fn data(&mut self, kind: Kind, data: &Data<'_>) {
        let compress = self.compress_all || layout(kind).compressible;
        match *data {
            Data::A(address) => self.out.extend_from_slice(&address.octets()),
            Data::Aaaa(address) => self.out.extend_from_slice(&address.octets()),
            Data::Cname(name) | Data::Ns(name) | Data::Ptr(name) => self.name(name, compress),
            Data::Mx { preference, exchange } => {
                self.numbers(&[preference]);
                self.name(exchange, compress);
            }
            Data::Srv { priority, weight, port, target } => {
                self.numbers(&[priority, weight, port]);
                self.name(target, compress);
            }
            Data::Soa(soa) => {
                self.name(soa.mname, compress);
                self.name(soa.rname, compress);
                for number in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
                    self.out.extend_from_slice(&number.to_be_bytes());
                }
            }
            Data::Nsec { next, types } => {
                self.name(next, compress);
                self.out.extend_from_slice(types);
            }
            Data::Txt(data) | Data::Opt(data) | Data::Other(data) => self.out.extend_from_slice(data),
        }
    }

    /// Everything before the data; the answer is where its length stands.
    fn front(&mut self, name: NameRef<'_>, kind: Kind, class: Class, ttl: u32) -> usize {
        self.name(name, true);
        self.numbers(&[kind.0, class.0]);
        self.out.extend_from_slice(&ttl.to_be_bytes());
        let place = self.out.len();
        self.numbers(&[0]);
        place
    }

    /// Tells the length of the data in its place. Data beyond 65,535 bytes does not fit any limit.
    fn patch(&mut self, place: usize) {
        let length = self.out.len().saturating_sub(place).saturating_sub(2) as u16;
        if let Some(there) = self.out.get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
            *there = length.to_be_bytes();
        }
    }

    /// The name, its end as a pointer to where the same stands already.
    fn name(&mut self, name: NameRef<'_>, compress: bool) {
        // Not the labels of this very name: they do not make a name yet.
        let before = self.known;
        let mut labels = name.labels();
        loop {
            let rest = labels.rest();
            let Some(label) = labels.next() else { break };
            if compress && let Some(at) = self.find(rest, before) {
                self.numbers(&[at | 0xC000]);
                return;
            }
            let here = self.len();
            if let Some(place) = self.names.get_mut(self.known)
                && here <= FARTHEST
            {
                *place = here as u16;
                self.known = self.known.saturating_add(1);
            }
            self.out.push(label.len() as u8);
            self.out.extend_from_slice(label);
        }
        self.out.push(0);
    }

    fn find(&self, name: NameRef<'_>, known: usize) -> Option<u16> {
        let message = self.out.get(self.start..)?;
        for place in self.names.get(..known)? {
            if NameRef::written(message, usize::from(*place)) == name {
                return Some(*place);
            }
        }
        None
    }

    fn numbers(&mut self, numbers: &[u16]) {
        for number in numbers {
            self.out.extend_from_slice(&number.to_be_bytes());
        }
    }

    fn mark(&self) -> (usize, usize) {
        (self.out.len(), self.known)
    }

    /// Counts what was written since `mark`, or takes it back when it is too much.
    fn keep(&mut self, (end, known): (usize, usize), section: usize) -> bool {
        let count = self.count(section).checked_add(1);
        match count {
            Some(count) if self.len() <= self.limit => {
                self.set_number(section.saturating_mul(2).saturating_add(4), count);
                true
            }
            _ => {
                self.out.truncate(end);
                self.known = known;
                false
            }
        }
    }

    fn number(&self, at: usize) -> u16 {
        let place = self.start.saturating_add(at);
        let bytes = self.out.get(place..).and_then(<[u8]>::first_chunk);
        bytes.map_or(0, |bytes| u16::from_be_bytes(*bytes))
    }

    fn set_number(&mut self, at: usize, number: u16) {
        let place = self.start.saturating_add(at);
        if let Some(bytes) = self.out.get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
            *bytes = number.to_be_bytes();
        }
    }
}
