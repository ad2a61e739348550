//! Reading the log for a query: which entries match, where to begin, in which direction. One step looks at one
//! entry, so that the daemon decides how much it does at a time.

use crate::ring::{Entry, Field, Found, Place, Ring};
use minke_control::journal::Query;

/// What the journal says about itself in every entry.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// `_BOOT_ID`: 32 hexadecimal digits.
    pub boot: String,
    /// The name of this run of the daemon in cursors: 32 hexadecimal digits.
    pub run: String,
}

/// Which entries match.
#[derive(Debug)]
struct Filter {
    /// What is asked for. Of several `matches` for one field, one must hold; identifiers are among them.
    query: Box<Query>,
    /// The first sequence number that counts.
    first: u64,
    /// Nothing can match.
    nothing: bool,
}

/// Whether a number lies within bounds that may be missing.
fn within(number: u64, least: Option<u64>, most: Option<u64>) -> bool {
    least.is_none_or(|least| least <= number) && most.is_none_or(|most| number <= most)
}

impl Filter {
    fn new(mut query: Box<Query>, host: &Host) -> Self {
        let mut nothing = query.boot.as_ref().is_some_and(|boot| *boot != "0" && *boot != host.boot);
        for value in std::mem::take(&mut query.identifiers) {
            query.matches.push(("SYSLOG_IDENTIFIER".to_owned(), value));
        }
        // This one is the same in all entries and is stored in none.
        let before = query.matches.len();
        let ours = query.matches.iter().any(|(name, boot)| name == "_BOOT_ID" && *boot == host.boot);
        query.matches.retain(|(name, _)| name != "_BOOT_ID");
        nothing |= query.matches.len() < before && !ours;
        Self { query, first: 0, nothing }
    }

    /// Restricts to entries after the one with this cursor. A cursor of an earlier run of the daemon counts by
    /// its time.
    fn after(&mut self, cursor: &Cursor<'_>, host: &Host) {
        if cursor.run == host.run {
            self.first = cursor.number.saturating_add(1);
        } else if cursor.boot == host.boot {
            self.query.since_monotonic =
                self.query.since_monotonic.max(Some(cursor.monotonic.saturating_add(1)));
        } else {
            self.query.since = self.query.since.max(Some(cursor.realtime.saturating_add(1)));
        }
    }

    fn matches(&self, entry: Entry<'_>) -> bool {
        let query = &self.query;
        if entry.number < self.first
            || !within(entry.stamp.realtime, query.since, query.until)
            || !within(entry.stamp.monotonic, query.since_monotonic, query.until_monotonic)
            || query.priority.is_some_and(|range| !priority_within(entry, range))
        {
            return false;
        }
        for (name, _) in &query.matches {
            let holds = |field: Field<'_>| {
                let is = |wanted: &str, value: &str| (wanted.as_bytes(), value.as_bytes()) == field;
                field.0 == name.as_bytes() && query.matches.iter().any(|(name, value)| is(name, value))
            };
            if !entry.fields().any(holds) {
                return false;
            }
        }
        query.units.is_empty() || query.units.iter().any(|unit| is_about(entry, unit.as_bytes()))
    }
}

fn priority_within(entry: Entry<'_>, (low, high): (u8, u8)) -> bool {
    match entry.field("PRIORITY") {
        Some([digit]) => (low..=high).contains(&digit.wrapping_sub(b'0')),
        _ => false,
    }
}

/// Whether an entry belongs to a unit, by the rules of `journalctl -u`: the unit's processes said it, or PID 1,
/// root or the journal itself said it about the unit.
fn is_about(entry: Entry<'_>, unit: &[u8]) -> bool {
    entry.field("_SYSTEMD_UNIT") == Some(unit)
        || entry.field("UNIT") == Some(unit) && entry.field("_PID") == Some(b"1")
        || entry.field("OBJECT_SYSTEMD_UNIT") == Some(unit)
            && (entry.field("_UID") == Some(b"0") || entry.field("_TRANSPORT") == Some(b"driver"))
}

/// The place of an entry, for readers: `s=RUN;i=NUMBER;b=BOOT;m=MONOTONIC;t=REALTIME`, numbers in hexadecimal.
#[derive(Debug, PartialEq, Eq)]
struct Cursor<'a> {
    run: &'a str,
    number: u64,
    boot: &'a str,
    monotonic: u64,
    realtime: u64,
}

impl<'a> Cursor<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut cursor = Self { run: "", number: 0, boot: "", monotonic: 0, realtime: 0 };
        for part in text.split(';') {
            let (name, value) = part.split_once('=')?;
            let number = || minke_wire::text::in_base(value, 16);
            match name {
                "s" => cursor.run = value,
                "i" => cursor.number = number()?,
                "b" => cursor.boot = value,
                "m" => cursor.monotonic = number()?,
                "t" => cursor.realtime = number()?,
                // systemd's own cursors have a checksum, `x`.
                _ => {}
            }
        }
        Some(cursor)
    }
}

/// The cursor of an entry.
pub fn cursor(entry: Entry<'_>, host: &Host) -> String {
    let Host { boot, run } = host;
    format!(
        "s={run};i={:x};b={boot};m={:x};t={:x}",
        entry.number, entry.stamp.monotonic, entry.stamp.realtime
    )
}

/// A query under way.
#[derive(Debug)]
pub struct Scan {
    filter: Filter,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Going back to find where the last so many entries begin.
    Seek {
        back: Back,
        left: u64,
        found: Place,
    },
    /// Newest first, at most so many.
    Reverse {
        back: Back,
        left: u64,
    },
    /// Oldest first.
    Forward(Place),
    Done,
}

/// A walk towards the oldest entry, chunk by chunk.
#[derive(Debug)]
struct Back {
    /// Everything from here on was seen.
    begin: Place,
    /// Entries of the present chunk that are still to be looked at; the last is next.
    places: Vec<Place>,
}

/// What one step gave.
#[derive(Debug)]
pub enum Step<'a> {
    /// An entry that matches.
    Entry(Entry<'a>),
    /// So many entries, matching or not, were gone before they were read.
    Lost(u64),
    /// No result yet: call again.
    Busy,
    /// All was read, and the query follows: call again when there are new entries.
    Idle,
    /// All was read.
    Done,
}

impl Scan {
    /// Begins a query; the error says what is wrong with it.
    pub fn new(query: Box<Query>, ring: &Ring, host: &Host) -> Result<Self, String> {
        let mut filter = Filter::new(query, host);
        if let Some(text) = filter.query.after_cursor.take() {
            let cursor = Cursor::parse(&text).ok_or_else(|| format!("'{text}' is no cursor"))?;
            filter.after(&cursor, host);
        }
        let query = &filter.query;
        let end = ring.end();
        let back = Back { begin: end, places: Vec::new() };
        let state = match (query.reverse, query.lines) {
            _ if filter.nothing && !query.follow => State::Done,
            (true, lines) => State::Reverse { back, left: lines.unwrap_or(u64::MAX) },
            (false, Some(0)) => State::Forward(end),
            (false, Some(left)) => State::Seek { back, left, found: end },
            (false, None) if filter.first > 0 => State::Forward(ring.near(filter.first)),
            (false, None) => State::Forward(ring.start()),
        };
        Ok(Self { filter, state })
    }

    /// Looks at the next entry.
    pub fn step<'a>(&mut self, ring: &'a Ring) -> Step<'a> {
        match &mut self.state {
            State::Done => Step::Done,
            State::Forward(place) => {
                if place_skips(place, ring, &self.filter) {
                    return Step::Busy;
                }
                match ring.advance(place) {
                    Found::Entry(entry) if self.filter.matches(entry) && !self.filter.nothing => {
                        Step::Entry(entry)
                    }
                    Found::Entry(_) => Step::Busy,
                    Found::Lost(count) => Step::Lost(count),
                    Found::End if self.filter.query.follow => Step::Idle,
                    Found::End => Step::Done,
                }
            }
            State::Seek { back, left, found } => {
                match back.step(ring, &self.filter) {
                    Backed::End => *left = 0,
                    Backed::Entry(place, _) => {
                        *found = place;
                        *left = left.saturating_sub(1);
                    }
                    Backed::Busy => {}
                }
                if *left == 0 {
                    self.state = State::Forward(*found);
                }
                Step::Busy
            }
            State::Reverse { left: 0, .. } => Step::Done,
            State::Reverse { back, left } => match back.step(ring, &self.filter) {
                Backed::End => Step::Done,
                Backed::Busy => Step::Busy,
                Backed::Entry(_, entry) => {
                    *left = left.saturating_sub(1);
                    Step::Entry(entry)
                }
            },
        }
    }
}

fn place_skips(place: &mut Place, ring: &Ring, filter: &Filter) -> bool {
    ring.skip_chunk(place, filter.query.since.unwrap_or(0), filter.query.until.unwrap_or(u64::MAX))
}

enum Backed<'a> {
    Entry(Place, Entry<'a>),
    Busy,
    End,
}

impl Back {
    fn step<'a>(&mut self, ring: &'a Ring, filter: &Filter) -> Backed<'a> {
        let Some(place) = self.places.pop() else {
            let Some((places, begin)) = ring.chunk_before(self.begin) else { return Backed::End };
            self.begin = begin;
            // A chunk of another time need not be looked at.
            if !place_skips(&mut begin.clone(), ring, filter) {
                self.places = places;
            }
            return Backed::Busy;
        };
        match ring.advance(&mut place.clone()) {
            Found::Entry(entry) if entry.number < filter.first => Backed::End,
            Found::Entry(entry) if filter.matches(entry) && !filter.nothing => Backed::Entry(place, entry),
            Found::Entry(_) => Backed::Busy,
            // The chunk was given up meanwhile, and what is older with it.
            Found::Lost(_) | Found::End => Backed::End,
        }
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
