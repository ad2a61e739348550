//! The memory of the cache: answers by key, never more bytes than allowed.
//!
//! Everything lies in three vectors that grow until together they reach the limit: the index, the entries, and cells of
//! 64 bytes that hold keys and records as chains. Nothing is allocated or freed for a single answer, so no pattern of
//! sizes can make holes that cost more than the limit says.
//!
//! Who gives way is found as in a segmented LRU list: entries begin on probation, and those that were used there are
//! protected, up to three quarters of the memory. Names that are asked once, however many, only push out each other.

use super::key::{FRONT, KeyRef, hash, is_small_of};
use std::mem::size_of;

/// No entry, no cell.
const NONE: u32 = u32::MAX;
/// Bytes of a cell's content.
const CONTENT: usize = 60;
/// An answer of more than this part of the memory is not kept.
const LARGEST_PART: usize = 8;

/// What the cache remembers of an answer besides its records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Meta {
    /// When it came, in seconds since boot.
    pub(super) stored: u32,
    /// How long it may be given, in seconds.
    pub(super) ttl: u32,
    /// How many records each section has.
    pub(super) counts: [u16; 3],
    /// The response code.
    pub(super) code: u8,
    /// AD was set by a server that can be believed.
    pub(super) authentic: bool,
    /// There is no such name or no such record.
    pub(super) negative: bool,
    /// To be asked anew has failed or takes too long: the old answer is given at once.
    pub(super) failing: bool,
    /// How often it was given.
    pub(super) used: u8,
    /// Not before this second it is asked anew once more.
    pub(super) retry: u32,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    meta: Meta,
    hash: u32,
    /// The next one of the same place of the index, or the next free one.
    next: u32,
    newer: u32,
    older: u32,
    /// The first cell.
    cell: u32,
    key: u16,
    body: u16,
    protected: bool,
    /// The second since boot in which it became the newest one of its segment.
    linked: u32,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    next: u32,
    content: [u8; CONTENT],
}

/// A list of entries by their last use, and the bytes that they take.
#[derive(Debug, Clone, Copy)]
struct Segment {
    newest: u32,
    oldest: u32,
    bytes: usize,
}

/// Answers by key.
#[derive(Debug)]
pub(super) struct Store {
    limit: usize,
    seed: [u64; 2],
    index: Vec<u32>,
    entries: Vec<Entry>,
    cells: Vec<Cell>,
    free_entry: u32,
    free_cell: u32,
    free_cells: usize,
    count: usize,
    /// On probation, and protected.
    segments: [Segment; 2],
    /// How many entries gave way to others.
    pub(super) evictions: u64,
}

impl Store {
    /// An empty store of at most `limit` bytes; `seed` is random.
    pub(super) fn new(limit: usize, seed: [u64; 2]) -> Self {
        let empty = Segment { newest: NONE, oldest: NONE, bytes: 0 };
        Self {
            limit,
            seed,
            index: Vec::new(),
            entries: Vec::new(),
            cells: Vec::new(),
            free_entry: NONE,
            free_cell: NONE,
            free_cells: 0,
            count: 0,
            segments: [empty; 2],
            evictions: 0,
        }
    }

    /// How many answers there are.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The bytes that it has taken from the system.
    pub(super) fn bytes(&self) -> usize {
        let index = self.index.capacity().saturating_mul(size_of::<u32>());
        let entries = self.entries.capacity().saturating_mul(size_of::<Entry>());
        let cells = self.cells.capacity().saturating_mul(size_of::<Cell>());
        index.saturating_add(entries).saturating_add(cells)
    }

    /// The key of what stands before a name, and the name.
    pub(super) fn key<'a>(&self, front: [u8; FRONT], name: &'a [u8]) -> KeyRef<'a> {
        KeyRef { front, name, hash: hash(self.seed, front, name) }
    }

    /// The entry of a key.
    pub(super) fn find(&self, key: &KeyRef<'_>) -> Option<u32> {
        let mut at = *self.index.get(self.bucket(key.hash)?)?;
        loop {
            let entry = self.entries.get(at as usize)?;
            if entry.hash == key.hash && usize::from(entry.key) == key.len() && self.has_key(entry.cell, key)
            {
                return Some(at);
            }
            at = entry.next;
        }
    }

    /// Reads a little of all that belongs to keys with these hashes; the second numbers are for this alone. Memory is slow
    /// to answer, but answers many at a time: who looks for one key after the other waits for its index, entry and records
    /// each time.
    pub(super) fn warm(&self, keys: &mut [(u32, u32)]) {
        for (hash, place) in &mut *keys {
            let first = self.bucket(*hash).and_then(|bucket| self.index.get(bucket));
            *place = first.copied().unwrap_or(NONE);
        }
        // Few share their place of the index with more than two others.
        for _ in 0..2 {
            for (hash, place) in &mut *keys {
                *place = match self.entries.get(*place as usize) {
                    Some(entry) if entry.hash != *hash => entry.next,
                    _ => *place,
                };
            }
        }
        for (_, place) in &mut *keys {
            *place = self.entries.get(*place as usize).map_or(NONE, |entry| {
                std::hint::black_box((entry.key, entry.linked));
                entry.cell
            });
        }
        // A cell may lie across two lines of the processor's cache.
        for (_, place) in &*keys {
            let ends = self.cells.get(*place as usize).map(|cell| (cell.next, cell.content.last()));
            std::hint::black_box(ends);
        }
    }

    /// What is remembered of an entry.
    pub(super) fn meta(&self, at: u32) -> Meta {
        self.entries.get(at as usize).map(|entry| entry.meta).unwrap_or_default()
    }

    /// The same, to change it.
    pub(super) fn meta_mut(&mut self, at: u32) -> Option<&mut Meta> {
        self.entries.get_mut(at as usize).map(|entry| &mut entry.meta)
    }

    /// Appends the records of an entry.
    pub(super) fn copy(&self, at: u32, out: &mut Vec<u8>) {
        let Some(entry) = self.entries.get(at as usize) else { return };
        self.append(entry.cell, entry.key.into(), entry.body.into(), out);
    }

    /// Appends the key of an entry.
    pub(super) fn copy_key(&self, at: u32, out: &mut Vec<u8>) {
        let Some(entry) = self.entries.get(at as usize) else { return };
        self.append(entry.cell, 0, entry.key.into(), out);
    }

    /// Notes that an entry was used in this second since boot: it becomes the newest of the protected ones.
    pub(super) fn touch(&mut self, at: u32, now: u32) {
        let Some(entry) = self.entries.get_mut(at as usize) else { return };
        entry.meta.used = entry.meta.used.saturating_add(1);
        // Which use of a second came last is not worth three entries' change each time.
        if entry.protected && entry.linked == now {
            return;
        }
        entry.linked = now;
        self.unlink(at);
        self.link(at, true);
        // Who was not used for longest is on probation again.
        while self.segment(true).bytes > self.limit / 4 * 3 {
            let oldest = self.segment(true).oldest;
            if oldest == at || oldest == NONE {
                break;
            }
            self.unlink(oldest);
            self.link(oldest, false);
        }
    }

    /// Keeps an answer; others give way to it. `false` when it is too large. An entry of the same key is replaced.
    pub(super) fn insert(&mut self, key: &KeyRef<'_>, meta: Meta, body: &[u8]) -> bool {
        let size = key.len().saturating_add(body.len());
        let (Ok(key_length), Ok(body_length)) = (u16::try_from(key.len()), u16::try_from(body.len())) else {
            return false;
        };
        let mut protected = false;
        if let Some(old) = self.find(key) {
            protected = self.entries.get(old as usize).is_some_and(|entry| entry.protected);
            self.remove(old);
        }
        if size > self.limit / LARGEST_PART {
            return false;
        }
        let wanted = size.div_ceil(CONTENT).max(1);
        while !(self.has_entry() && self.has_cells(wanted)) {
            if !self.evict() {
                return false;
            }
        }
        self.grow_index();
        let cell = self.fill(key, body);
        let at = self.free_entry;
        let Some(bucket) = self.bucket(key.hash) else { return false };
        let Some(head) = self.index.get_mut(bucket) else { return false };
        let Some(entry) = self.entries.get_mut(at as usize) else { return false };
        self.free_entry = entry.next;
        *entry = Entry {
            meta,
            hash: key.hash,
            next: std::mem::replace(head, at),
            newer: NONE,
            older: NONE,
            cell,
            key: key_length,
            body: body_length,
            protected,
            linked: 0,
        };
        self.count = self.count.saturating_add(1);
        self.link(at, protected);
        true
    }

    /// Forgets an entry.
    pub(super) fn remove(&mut self, at: u32) {
        let Some(entry) = self.entries.get(at as usize).copied() else { return };
        self.unlink(at);
        // Out of its place of the index.
        if let Some(head) = self.bucket(entry.hash).and_then(|bucket| self.index.get_mut(bucket)) {
            if *head == at {
                *head = entry.next;
            } else {
                let mut before = *head;
                while let Some(other) = self.entries.get_mut(before as usize) {
                    if other.next == at {
                        other.next = entry.next;
                        break;
                    }
                    before = other.next;
                }
            }
        }
        let mut cell = entry.cell;
        while let Some(freed) = self.cells.get_mut(cell as usize) {
            let next = std::mem::replace(&mut freed.next, self.free_cell);
            self.free_cell = cell;
            self.free_cells = self.free_cells.saturating_add(1);
            cell = next;
        }
        if let Some(entry) = self.entries.get_mut(at as usize) {
            entry.next = std::mem::replace(&mut self.free_entry, at);
            entry.cell = NONE;
        }
        self.count = self.count.saturating_sub(1);
    }

    /// Forgets every entry of which `which` says so, by its key; what is remembered of the others may be changed. The
    /// answer is how many went.
    pub(super) fn remove_if(&mut self, which: &mut dyn FnMut(&[u8], &mut Meta) -> bool) -> usize {
        let before = self.count;
        let mut key = Vec::new();
        for at in 0..self.entries.len() as u32 {
            if self.entries.get(at as usize).is_none_or(|entry| entry.cell == NONE) {
                continue;
            }
            key.clear();
            self.copy_key(at, &mut key);
            if self.meta_mut(at).is_some_and(|meta| which(&key, meta)) {
                self.remove(at);
            }
        }
        before.saturating_sub(self.count)
    }

    /// Forgets everything and gives the memory back; from now on the limit is this.
    pub(super) fn clear(&mut self, limit: usize) {
        let evictions = self.evictions;
        *self = Self::new(limit, self.seed);
        self.evictions = evictions;
    }

    fn evict(&mut self) -> bool {
        let [probation, protected] = self.segments;
        let oldest = if probation.oldest == NONE { protected.oldest } else { probation.oldest };
        if oldest == NONE {
            return false;
        }
        self.remove(oldest);
        self.evictions = self.evictions.saturating_add(1);
        true
    }

    fn has_entry(&mut self) -> bool {
        if self.free_entry != NONE {
            return true;
        }
        let more = self.growth(self.entries.len(), size_of::<Entry>());
        self.entries.reserve_exact(more);
        let free = Entry {
            meta: Meta::default(),
            hash: 0,
            next: NONE,
            newer: NONE,
            older: NONE,
            cell: NONE,
            key: 0,
            body: 0,
            protected: false,
            linked: 0,
        };
        for _ in 0..more {
            let at = self.entries.len() as u32;
            self.entries.push(Entry { next: std::mem::replace(&mut self.free_entry, at), ..free });
        }
        more > 0
    }

    fn has_cells(&mut self, wanted: usize) -> bool {
        while self.free_cells < wanted {
            let more = self.growth(self.cells.len(), size_of::<Cell>());
            if more == 0 {
                return false;
            }
            self.cells.reserve_exact(more);
            for _ in 0..more {
                let at = self.cells.len() as u32;
                let next = std::mem::replace(&mut self.free_cell, at);
                self.cells.push(Cell { next, content: [0; CONTENT] });
            }
            self.free_cells = self.free_cells.saturating_add(more);
        }
        true
    }

    /// By how many elements of `size` bytes a vector of `length` shall grow: an eighth, as far as the limit goes.
    fn growth(&self, length: usize, size: usize) -> usize {
        let room = self.limit.saturating_sub(self.bytes()) / size;
        room.min((length / 8).max(8))
    }

    /// Keeps about one entry for each place of the index, as far as the limit goes.
    fn grow_index(&mut self) {
        let length = self.index.len();
        let wanted = length.saturating_mul(2).max(16);
        let room = self.limit.saturating_sub(self.bytes()) / size_of::<u32>();
        if length > 0 && (self.count < length || wanted > room) {
            return;
        }
        // Exactly as long as its memory: the old index goes before the new one is filled.
        self.index = Vec::new();
        self.index = vec![NONE; wanted];
        for at in 0..self.entries.len() {
            let Some(entry) = self.entries.get(at).copied() else { break };
            if entry.cell == NONE {
                continue;
            }
            let bucket = self.bucket(entry.hash).unwrap_or_default();
            let Some(head) = self.index.get_mut(bucket) else { break };
            let next = std::mem::replace(head, at as u32);
            if let Some(entry) = self.entries.get_mut(at) {
                entry.next = next;
            }
        }
    }

    /// Takes cells for a key and a body; [`Self::has_cells`] has made sure that there are enough.
    fn fill(&mut self, key: &KeyRef<'_>, body: &[u8]) -> u32 {
        let first = self.free_cell;
        let key = key.to_key();
        let (mut key, mut body) = (key.bytes(), body);
        let mut at = first;
        loop {
            let Some(cell) = self.cells.get_mut(at as usize) else { return first };
            self.free_cells = self.free_cells.saturating_sub(1);
            let mut place = &mut cell.content[..];
            for part in [&mut key, &mut body] {
                let length = part.len().min(place.len());
                let (now, later) = part.split_at(length);
                let (filled, rest) = place.split_at_mut(length);
                filled.copy_from_slice(now);
                (*part, place) = (later, rest);
            }
            self.free_cell = cell.next;
            if key.is_empty() && body.is_empty() {
                cell.next = NONE;
                return first;
            }
            at = cell.next;
        }
    }

    /// Appends a part of a chain of cells.
    fn append(&self, cell: u32, skip: usize, length: usize, out: &mut Vec<u8>) {
        let (mut at, mut skip, mut left) = (cell, skip, length);
        while left > 0 {
            let Some(cell) = self.cells.get(at as usize) else { return };
            at = cell.next;
            let Some(content) = cell.content.get(skip..) else {
                skip = skip.saturating_sub(CONTENT);
                continue;
            };
            skip = 0;
            let content = content.get(..left).unwrap_or(content);
            out.extend_from_slice(content);
            left = left.saturating_sub(content.len());
        }
    }

    fn has_key(&self, cell: u32, key: &KeyRef<'_>) -> bool {
        let (mut at, mut skip, mut name) = (cell, FRONT, key.name);
        let Some(first) = self.cells.get(cell as usize) else { return false };
        if first.content.first_chunk() != Some(&key.front) {
            return false;
        }
        while let Some(cell) = self.cells.get(at as usize) {
            let content = cell.content.get(skip..).unwrap_or_default();
            let (now, later) = name.split_at(name.len().min(content.len()));
            if !is_small_of(content, now) {
                return false;
            }
            if later.is_empty() {
                return true;
            }
            (at, skip, name) = (cell.next, 0, later);
        }
        false
    }

    fn bucket(&self, hash: u32) -> Option<usize> {
        Some(hash as usize & self.index.len().checked_sub(1)?)
    }

    fn segment(&mut self, protected: bool) -> &mut Segment {
        let [probation, safe] = &mut self.segments;
        if protected { safe } else { probation }
    }

    /// Makes an entry the newest of a segment.
    fn link(&mut self, at: u32, protected: bool) {
        let segment = self.segment(protected);
        let older = std::mem::replace(&mut segment.newest, at);
        if segment.oldest == NONE {
            segment.oldest = at;
        }
        if let Some(other) = self.entries.get_mut(older as usize) {
            other.newer = at;
        }
        let Some(entry) = self.entries.get_mut(at as usize) else { return };
        (entry.older, entry.newer, entry.protected) = (older, NONE, protected);
        let bytes = entry.bytes();
        let segment = self.segment(protected);
        segment.bytes = segment.bytes.saturating_add(bytes);
    }

    fn unlink(&mut self, at: u32) {
        let Some(entry) = self.entries.get(at as usize).copied() else { return };
        if let Some(newer) = self.entries.get_mut(entry.newer as usize) {
            newer.older = entry.older;
        }
        if let Some(older) = self.entries.get_mut(entry.older as usize) {
            older.newer = entry.newer;
        }
        let segment = self.segment(entry.protected);
        if segment.newest == at {
            segment.newest = entry.older;
        }
        if segment.oldest == at {
            segment.oldest = entry.newer;
        }
        segment.bytes = segment.bytes.saturating_sub(entry.bytes());
    }
}

impl Entry {
    /// What it takes, its cells included.
    fn bytes(&self) -> usize {
        let content = usize::from(self.key).saturating_add(self.body.into());
        content.div_ceil(CONTENT).saturating_mul(size_of::<Cell>()).saturating_add(size_of::<Self>())
    }
}
