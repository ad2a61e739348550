//! The log in memory: entries in chunks of a bounded number of bytes. When the limit is reached, the oldest
//! chunk goes.
//!
//! A chunk is one allocation, so that many small entries cost neither allocations nor pointers. In it an entry is
//! a length (24 bits), two times as differences from the chunk's first entry (varints of zigzag numbers), and its
//! fields. A field is a tag (varint) and what the tag asks for:
//! - 0: a name (one length byte) and a value (varint length);
//! - 1: the offset in the chunk (varint) of an equal field that was written out before;
//! - n: a value, for the name with number n - 2 in [`NAMES`].

/// Bytes of a chunk. An entry that needs more gets a chunk of its own.
pub const CHUNK: usize = 64 << 10;

/// The most bytes that names and values of one entry may have together. An entry as a JSON line, where a byte
/// may become six, stays below the line limit of `minke_control`.
pub const ENTRY_LIMIT: usize = 128 << 10;

/// The most fields of one entry.
pub const FIELDS_LIMIT: usize = 128;

/// Names that take one byte. Their order is the format of one process' memory and may change.
const NAMES: [&str; 30] = [
    "MESSAGE",
    "PRIORITY",
    "SYSLOG_IDENTIFIER",
    "SYSLOG_FACILITY",
    "SYSLOG_PID",
    "SYSLOG_TIMESTAMP",
    "_TRANSPORT",
    "_PID",
    "_UID",
    "_GID",
    "_COMM",
    "_SYSTEMD_UNIT",
    "_STREAM_ID",
    "_LINE_BREAK",
    "_KERNEL_DEVICE",
    "_KERNEL_SUBSYSTEM",
    "_SOURCE_MONOTONIC_TIMESTAMP",
    "_SOURCE_REALTIME_TIMESTAMP",
    "CONTAINER_ID",
    "CONTAINER_ID_FULL",
    "CONTAINER_NAME",
    "CONTAINER_TAG",
    "CONTAINER_PARTIAL_MESSAGE",
    "IMAGE_NAME",
    "CODE_FILE",
    "CODE_LINE",
    "CODE_FUNC",
    "OBJECT_SYSTEMD_UNIT",
    "UNIT",
    "MESSAGE_ID",
];

const INLINE_NAME: u64 = 0;
const REFERENCE: u64 = 1;
const FIRST_KNOWN: u64 = 2;
/// Values shorter than this are not worth a reference.
const SHARED_FROM: usize = 4;
/// Places in the table of fields that references may point to.
const SHARED_SLOTS: usize = 128;

/// When something was logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Microseconds since 1970.
    pub realtime: u64,
    /// Microseconds since boot.
    pub monotonic: u64,
}

/// A field's name and value.
pub type Field<'a> = (&'a [u8], &'a [u8]);

/// The log.
#[derive(Debug)]
pub struct Ring {
    /// The oldest first.
    chunks: Vec<Chunk>,
    /// Number of the oldest chunk; chunks are counted from 0 and numbers are not used again.
    oldest: u64,
    limit: usize,
    used: usize,
    next: u64,
    shared: Vec<u32>,
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// Sequence number of its first entry.
    first: u64,
    base: Stamp,
    /// Least and greatest realtime in it.
    span: (u64, u64),
}

/// An entry in the log.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Its sequence number; the first entry has 1, and numbers have no gaps.
    pub number: u64,
    /// When it was logged.
    pub stamp: Stamp,
    chunk: &'a [u8],
    fields: &'a [u8],
}

/// A place between entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    chunk: u64,
    offset: usize,
    number: u64,
}

/// What [`Ring::advance`] found.
#[derive(Debug)]
pub enum Found<'a> {
    /// The entry after the place, which is behind it now.
    Entry(Entry<'a>),
    /// The place was in a chunk that is gone, with so many entries; it is at the oldest entry now.
    Lost(u64),
    /// No entry follows yet.
    End,
}

impl Ring {
    /// A log that takes at most `limit` bytes (and at least four chunks), and nothing while it is empty.
    pub fn new(limit: usize) -> Self {
        Self {
            chunks: Vec::new(),
            oldest: 0,
            limit: limit.max(CHUNK.saturating_mul(4)),
            used: 0,
            next: 1,
            shared: vec![0; SHARED_SLOTS],
        }
    }

    /// Bytes that the chunks take.
    #[cfg(test)]
    pub fn used(&self) -> usize {
        self.used
    }

    /// The sequence number that the next entry gets.
    pub fn next_number(&self) -> u64 {
        self.next
    }

    /// Adds an entry and returns its sequence number. Fields beyond [`FIELDS_LIMIT`] and [`ENTRY_LIMIT`] are
    /// left out.
    pub fn append(&mut self, stamp: Stamp, fields: &[Field<'_>]) -> u64 {
        let mut room = ENTRY_LIMIT;
        // Length, times, and for each field at most a tag, the lengths of name and value.
        let mut bound = 32usize;
        let mut kept = Vec::new();
        for field in fields {
            let Some(left) = room.checked_sub(size(field)) else { continue };
            if kept.len() < FIELDS_LIMIT {
                room = left;
                bound = bound.saturating_add(size(field)).saturating_add(8);
                kept.push(*field);
            }
        }
        let fits = |chunk: &Chunk| chunk.bytes.capacity().saturating_sub(chunk.bytes.len()) >= bound;
        if !self.chunks.last().is_some_and(fits) {
            self.open_chunk(bound.max(CHUNK), stamp);
        }
        let number = self.next;
        self.next = number.wrapping_add(1);
        let Some(chunk) = self.chunks.last_mut() else { return number };
        chunk.span = (chunk.span.0.min(stamp.realtime), chunk.span.1.max(stamp.realtime));
        write_entry(chunk, stamp, &kept, &mut self.shared);
        number
    }

    fn open_chunk(&mut self, capacity: usize, stamp: Stamp) {
        let mut spare = None;
        while self.used.saturating_add(capacity) > self.limit {
            if self.chunks.is_empty() {
                break;
            }
            let chunk = self.chunks.remove(0);
            self.oldest = self.oldest.wrapping_add(1);
            self.used = self.used.saturating_sub(chunk.bytes.capacity());
            spare = Some(chunk.bytes);
        }
        let mut bytes = spare.filter(|bytes| bytes.capacity() == capacity).unwrap_or_default();
        bytes.clear();
        bytes.reserve_exact(capacity);
        self.used = self.used.saturating_add(bytes.capacity());
        self.shared.fill(0);
        let span = (stamp.realtime, stamp.realtime);
        self.chunks.push(Chunk { bytes, first: self.next, base: stamp, span });
    }

    /// The place before the oldest entry.
    pub fn start(&self) -> Place {
        let number = self.chunks.first().map_or(self.next, |chunk| chunk.first);
        Place { chunk: self.oldest, offset: 0, number }
    }

    /// The place after the newest entry.
    pub fn end(&self) -> Place {
        let Some(chunk) = self.chunks.last() else { return self.start() };
        Place { chunk: self.newest(), offset: chunk.bytes.len(), number: self.next }
    }

    /// A place at or before the entry with this number, and not in an earlier chunk than it must be.
    pub fn near(&self, number: u64) -> Place {
        let later = self.chunks.partition_point(|chunk| chunk.first <= number);
        let index = u64::try_from(later.saturating_sub(1)).unwrap_or(0);
        let chunk = self.oldest.wrapping_add(index);
        self.chunk(chunk).map_or(self.start(), |found| Place { chunk, offset: 0, number: found.first })
    }

    /// Moves `place` over the next entry.
    pub fn advance(&self, place: &mut Place) -> Found<'_> {
        loop {
            let Some(chunk) = self.chunk(place.chunk) else {
                if place.chunk >= self.oldest {
                    return Found::End;
                }
                let start = self.start();
                let lost = start.number.saturating_sub(place.number);
                *place = start;
                if lost == 0 {
                    continue;
                }
                return Found::Lost(lost);
            };
            if let Some((entry, after)) = chunk.entry(place.offset, place.number) {
                place.offset = after;
                place.number = place.number.wrapping_add(1);
                return Found::Entry(entry);
            }
            if place.chunk == self.newest() {
                return Found::End;
            }
            *place = Place { chunk: place.chunk.wrapping_add(1), offset: 0, number: place.number };
        }
    }

    /// If `place` is at the start of a chunk whose realtimes all lie outside of `since..=until`, and newer
    /// chunks follow, moves it to the next chunk.
    pub fn skip_chunk(&self, place: &mut Place, since: u64, until: u64) -> bool {
        let Some(chunk) = self.chunk(place.chunk) else { return false };
        let outside = chunk.span.1 < since || chunk.span.0 > until;
        let next = place.chunk.wrapping_add(1);
        match self.chunk(next) {
            Some(following) if outside && place.offset == 0 => {
                *place = Place { chunk: next, offset: 0, number: following.first };
                true
            }
            _ => false,
        }
    }

    /// The places before each entry in the newest chunk that begins before `place`, in order, and the place
    /// where that chunk begins. Nothing if there is no such chunk.
    pub fn chunk_before(&self, place: Place) -> Option<(Vec<Place>, Place)> {
        let number = if place.offset == 0 { place.chunk.checked_sub(1)? } else { place.chunk };
        let chunk = self.chunk(number)?;
        let begin = Place { chunk: number, offset: 0, number: chunk.first };
        let mut places = Vec::new();
        let mut at = begin;
        while at.chunk != place.chunk || at.offset < place.offset {
            let Some((_, after)) = chunk.entry(at.offset, at.number) else { break };
            places.push(at);
            at = Place { offset: after, number: at.number.wrapping_add(1), ..at };
        }
        Some((places, begin))
    }

    fn chunk(&self, number: u64) -> Option<&Chunk> {
        self.chunks.get(usize::try_from(number.checked_sub(self.oldest)?).ok()?)
    }

    fn newest(&self) -> u64 {
        self.oldest.wrapping_add(u64::try_from(self.chunks.len().saturating_sub(1)).unwrap_or(0))
    }
}

fn size(field: &Field<'_>) -> usize {
    field.0.len().min(255).saturating_add(field.1.len())
}

fn write_entry(chunk: &mut Chunk, stamp: Stamp, fields: &[Field<'_>], shared: &mut [u32]) {
    let begin = chunk.bytes.len();
    chunk.bytes.extend_from_slice(&[0; 3]);
    put_number(&mut chunk.bytes, zigzag(stamp.realtime.wrapping_sub(chunk.base.realtime)));
    put_number(&mut chunk.bytes, zigzag(stamp.monotonic.wrapping_sub(chunk.base.monotonic)));
    for (name, value) in fields {
        write_field(&mut chunk.bytes, name, value, shared);
    }
    let length = chunk.bytes.len().saturating_sub(begin.saturating_add(3));
    let [low, middle, high, ..] = u32::try_from(length).unwrap_or(0).to_le_bytes();
    if let Some(place) = chunk.bytes.get_mut(begin..).and_then(|rest| rest.first_chunk_mut::<3>()) {
        *place = [low, middle, high];
    }
}

fn write_field(bytes: &mut Vec<u8>, name: &[u8], value: &[u8], shared: &mut [u32]) {
    let slot = if value.len() >= SHARED_FROM && name != b"MESSAGE" { slot(name, value) } else { None };
    if let Some(offset) = slot.and_then(|slot| shared.get(slot)).and_then(|offset| offset.checked_sub(1)) {
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if read_field(bytes, bytes.get(at..).unwrap_or_default())
            .is_some_and(|(field, _)| field == (name, value))
        {
            put_number(bytes, REFERENCE);
            put_number(bytes, u64::from(offset));
            return;
        }
    }
    if let Some(place) = slot.and_then(|slot| shared.get_mut(slot)) {
        *place = u32::try_from(bytes.len().saturating_add(1)).unwrap_or(0);
    }
    match (FIRST_KNOWN..).zip(NAMES).find(|(_, known)| known.as_bytes() == name) {
        Some((tag, _)) => put_number(bytes, tag),
        None => {
            put_number(bytes, INLINE_NAME);
            let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
            bytes.push(length);
            bytes.extend(name.iter().take(usize::from(length)));
        }
    }
    put_number(bytes, u64::try_from(value.len()).unwrap_or(0));
    bytes.extend_from_slice(value);
}

/// Where the table keeps a field: FNV-1a over name and value.
fn slot(name: &[u8], value: &[u8]) -> Option<usize> {
    let hash = name
        .iter()
        .chain(value)
        .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    usize::try_from(hash).ok()?.checked_rem(SHARED_SLOTS)
}

/// Reads the field at the start of `bytes`, which lie in `chunk`, and returns what follows it.
fn read_field<'a>(chunk: &'a [u8], bytes: &'a [u8]) -> Option<(Field<'a>, &'a [u8])> {
    let (tag, rest) = take_number(bytes)?;
    match tag {
        REFERENCE => {
            let (offset, rest) = take_number(rest)?;
            let target = chunk.get(usize::try_from(offset).ok()?..)?;
            // References point to written-out fields only, so one step is enough.
            let (tag, _) = take_number(target)?;
            let (field, _) = (tag != REFERENCE).then(|| read_plain(tag, target))??;
            Some((field, rest))
        }
        tag => read_plain(tag, bytes),
    }
}

fn read_plain(tag: u64, bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (_, rest) = take_number(bytes)?;
    let (name, rest) = match tag.checked_sub(FIRST_KNOWN) {
        Some(index) => (NAMES.get(usize::try_from(index).ok()?)?.as_bytes(), rest),
        None => {
            let (length, rest) = rest.split_first()?;
            rest.split_at_checked(usize::from(*length))?
        }
    };
    let (length, rest) = take_number(rest)?;
    let (value, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some(((name, value), rest))
}

impl Chunk {
    /// The entry at `offset`, and where the next one begins.
    fn entry(&self, offset: usize, number: u64) -> Option<(Entry<'_>, usize)> {
        let ([low, middle, high], rest) = self.bytes.get(offset..)?.split_first_chunk::<3>()?;
        let length = usize::try_from(u32::from_le_bytes([*low, *middle, *high, 0])).ok()?;
        let (body, _) = rest.split_at_checked(length)?;
        let (realtime, body) = take_number(body)?;
        let (monotonic, fields) = take_number(body)?;
        let stamp = Stamp {
            realtime: self.base.realtime.wrapping_add(unzigzag(realtime)),
            monotonic: self.base.monotonic.wrapping_add(unzigzag(monotonic)),
        };
        let after = offset.checked_add(3)?.checked_add(length)?;
        Some((Entry { number, stamp, chunk: &self.bytes, fields }, after))
    }
}

impl<'a> Entry<'a> {
    /// The fields in the order they were added.
    pub fn fields(self) -> impl Iterator<Item = Field<'a>> {
        let mut rest = self.fields;
        std::iter::from_fn(move || {
            let (field, after) = read_field(self.chunk, rest)?;
            rest = after;
            Some(field)
        })
    }

    /// The first value of a field.
    pub fn field(self, name: &str) -> Option<&'a [u8]> {
        self.fields().find(|field| field.0 == name.as_bytes()).map(|field| field.1)
    }
}

/// Appends a number in groups of seven bits, the lowest first.
fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().take(10).position(|byte| *byte < 0x80)?;
    let (groups, rest) = bytes.split_at_checked(end.checked_add(1)?)?;
    let number = groups.iter().rev().fold(0u64, |number, group| (number << 7) | u64::from(group & 0x7F));
    Some((number, rest))
}

/// A difference, as a number that is small when the difference is near zero on either side.
fn zigzag(difference: u64) -> u64 {
    (difference << 1) ^ (difference.cast_signed() >> 63).cast_unsigned()
}

fn unzigzag(number: u64) -> u64 {
    (number >> 1) ^ (number & 1).wrapping_neg()
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
