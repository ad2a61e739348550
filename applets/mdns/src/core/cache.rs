//! What others told (RFC 6762 §10): kept only when somebody here asked for it, and never more than a bound.

use super::record::{Record, hash, name_hash};
use super::side::sooner;
use super::{Limits, Time};
use minke_wire::dns::{Kind, NameRef};
use std::net::IpAddr;

/// One host may fill this part of the cache.
const SHARE_OF_ONE: usize = 4;
/// Seconds after which even the longest-lived record has to be told again.
const LONGEST_TTL: u32 = 86_400;
/// How long a record lives on that its owner took back or replaced (RFC 6762 §10.1, §10.2).
const GRACE: Time = 1000;
/// Questions of others that stay without answer for so long say that a record is gone (RFC 6762 §10.5).
const SUSPICIONS: u8 = 2;
const SUSPICION: Time = 10_000;
/// What is longer ago than this is another matter.
const SUSPICION_WINDOW: Time = 60_000;
/// Hundredths of its life at which a record is asked for again: these, and up to two more (RFC 6762 §5.2).
const FIRST_REFRESH: u64 = 80;
const REFRESHES: u8 = 4;

/// A record of somebody.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) link: u32,
    pub(crate) record: Record,
    /// Of the record's name.
    hash: u64,
    source: u64,
    received: Time,
    pub(crate) expires: Time,
    /// When it is to be asked for again, and how often that was done.
    refresh: Time,
    refreshed: u8,
    /// Since when questions for it had no answer, and how many.
    suspect: Option<Time>,
    suspicions: u8,
    /// Somebody wants to know when it goes.
    pub(crate) wanted: bool,
}

impl Entry {
    /// When it ends, if nothing comes.
    fn end(&self) -> Time {
        match self.suspect {
            Some(since) if self.suspicions >= SUSPICIONS => self.expires.min(since.saturating_add(SUSPICION)),
            _ => self.expires,
        }
    }

    /// Seconds that are left.
    pub(crate) fn left(&self, now: Time) -> u32 {
        (self.expires.saturating_sub(now).div_ceil(1000)).min(LONGEST_TTL.into()) as u32
    }

    /// Whether it is worth telling others that we know it (RFC 6762 §7.1).
    pub(crate) fn is_known(&self, now: Time) -> bool {
        self.end() > now && self.left(now) > self.record.ttl / 2
    }

    fn is_of(&self, link: u32, (name, hash): (NameRef<'_>, u64), kind: Kind) -> bool {
        self.hash == hash && self.link == link && self.record.answers(name, kind)
    }

    fn renew(&mut self, now: Time, ttl: u32, random: u64) {
        let life = Time::from(ttl.min(LONGEST_TTL)).saturating_mul(1000);
        self.received = now;
        self.record.ttl = ttl;
        self.expires = now.saturating_add(life);
        self.refreshed = 0;
        self.refresh = now.saturating_add(part(life, FIRST_REFRESH, random));
        (self.suspect, self.suspicions) = (None, 0);
    }
}

/// Hundredths of a life, and up to two more at random.
fn part(life: Time, hundredths: u64, random: u64) -> Time {
    life.saturating_mul(hundredths.saturating_mul(10).saturating_add(random % 20)) / 1000
}

/// What came of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It is new.
    New,
    /// It was known.
    Renewed,
    /// It is not kept.
    No,
}

/// All records.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    pub(crate) entries: Vec<Entry>,
    bytes: usize,
}

impl Cache {
    /// Records and bytes.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.bytes)
    }

    /// A record came; `admit`: it is kept although it was not known.
    pub(crate) fn hear(
        &mut self,
        now: Time,
        (link, source): (u32, IpAddr),
        record: &Record,
        admit: bool,
        (limits, random): (&Limits, u64),
    ) -> Kept {
        let hash = name_hash(record.name.as_ref(), Kind(0));
        for entry in &mut self.entries {
            if entry.hash == hash && entry.link == link && entry.record.says(record) {
                if record.ttl == 0 {
                    entry.expires = entry.expires.min(now.saturating_add(GRACE));
                    return Kept::No;
                }
                entry.renew(now, record.ttl, random);
                return Kept::Renewed;
            }
        }
        if !admit || record.ttl == 0 || !self.make_room(now, hash_of(source), record.size(), limits) {
            return Kept::No;
        }
        let mut entry = Entry {
            link,
            record: record.clone(),
            hash,
            source: hash_of(source),
            received: now,
            expires: now,
            refresh: now,
            refreshed: 0,
            suspect: None,
            suspicions: 0,
            wanted: false,
        };
        entry.renew(now, record.ttl, random);
        self.bytes = self.bytes.saturating_add(record.size());
        self.entries.push(entry);
        Kept::New
    }

    /// A unique record came: what else was said of its name and type ends in a second, but for what came just now
    /// (RFC 6762 §10.2).
    pub(crate) fn flush_others(&mut self, now: Time, link: u32, record: &Record) {
        let hash = name_hash(record.name.as_ref(), Kind(0));
        for entry in &mut self.entries {
            let other = &entry.record;
            if entry.hash == hash
                && entry.link == link
                && other.kind == record.kind
                && entry.received.saturating_add(GRACE) < now
                && other.name == record.name
                && !other.says(record)
            {
                entry.expires = entry.expires.min(now.saturating_add(GRACE));
            }
        }
    }

    /// Others ask for a record and do not name it as known.
    pub(crate) fn unanswered(
        &mut self,
        now: Time,
        link: u32,
        name: NameRef<'_>,
        kind: Kind,
        is_known: impl Fn(&Record) -> bool,
    ) {
        let name = (name, name_hash(name, Kind(0)));
        for entry in &mut self.entries {
            if entry.is_of(link, name, kind) && !is_known(&entry.record) {
                let lately = entry.suspect.is_some_and(|since| since.saturating_add(SUSPICION_WINDOW) > now);
                entry.suspicions = if lately { entry.suspicions.saturating_add(1) } else { 1 };
                // The last chance begins with the question that makes it one too many.
                if entry.suspicions <= SUSPICIONS {
                    entry.suspect = Some(now);
                }
            }
        }
    }

    /// Is it still there? What is not told anew within ten seconds is forgotten (RFC 6762 §10.4).
    pub(crate) fn doubt(&mut self, now: Time, is_doubtful: impl Fn(&Entry) -> bool) {
        for entry in &mut self.entries {
            if is_doubtful(entry) {
                entry.expires = entry.expires.min(now.saturating_add(SUSPICION));
            }
        }
    }

    /// The living records that answer a question.
    pub(crate) fn find<'a>(
        &'a self,
        now: Time,
        link: u32,
        name: NameRef<'a>,
        kind: Kind,
    ) -> impl Iterator<Item = &'a Entry> {
        let name = (name, name_hash(name, Kind(0)));
        self.entries.iter().filter(move |entry| entry.is_of(link, name, kind) && entry.end() > now)
    }

    /// Whether a name's owner has said that it has no records of a type.
    pub(crate) fn is_denied(&self, now: Time, link: u32, name: NameRef<'_>, kind: Kind) -> bool {
        self.find(now, link, name, Kind::NSEC).any(|entry| entry.record.denies(kind))
    }

    /// When a record that somebody wants is to be asked for or ends.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let mut first = None;
        for entry in self.entries.iter().filter(|entry| entry.wanted) {
            sooner(&mut first, entry.end());
            if entry.refreshed < REFRESHES {
                sooner(&mut first, entry.refresh);
            }
        }
        first
    }

    /// Whether records are to be asked for again that answer a question; each is counted once.
    pub(crate) fn refresh(&mut self, now: Time, random: u64) -> Vec<Record> {
        let mut due = Vec::new();
        for entry in &mut self.entries {
            if !entry.wanted || entry.refreshed >= REFRESHES || entry.refresh > now {
                continue;
            }
            entry.refreshed = entry.refreshed.saturating_add(1);
            let life = Time::from(entry.record.ttl.min(LONGEST_TTL)).saturating_mul(1000);
            let hundredths = u64::from(entry.refreshed).saturating_mul(5).saturating_add(FIRST_REFRESH);
            entry.refresh = entry.received.saturating_add(part(life, hundredths, random));
            due.push(entry.record.clone());
        }
        due
    }

    /// Removes what has ended, and what `gone` names.
    pub(crate) fn expire(&mut self, now: Time, gone: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut ended = Vec::new();
        let mut place = 0;
        while let Some(entry) = self.entries.get(place) {
            if entry.end() > now && !gone(entry) {
                place = place.saturating_add(1);
                continue;
            }
            self.bytes = self.bytes.saturating_sub(entry.record.size());
            ended.push(self.entries.swap_remove(place));
        }
        ended
    }

    /// Finds room for a record, by forgetting those that nobody waits for and that end first.
    fn make_room(&mut self, now: Time, source: u64, size: usize, limits: &Limits) -> bool {
        let fits = |cache: &Self| {
            cache.entries.len() < limits.cache_records
                && cache.bytes.saturating_add(size) <= limits.cache_bytes
        };
        if self.entries.iter().filter(|entry| entry.source == source).count()
            >= (limits.cache_records / SHARE_OF_ONE).max(1)
        {
            return false;
        }
        while !fits(self) {
            let mut first: Option<(Time, usize)> = None;
            for (entry, place) in self.entries.iter().zip(0..) {
                // What has ended goes with those who wait for it being told; that is not here.
                if !entry.wanted && first.is_none_or(|(end, _)| entry.end().max(now) < end) {
                    first = Some((entry.end().max(now), place));
                }
            }
            let Some((_, place)) = first else { return false };
            let old = self.entries.swap_remove(place);
            self.bytes = self.bytes.saturating_sub(old.record.size());
        }
        true
    }
}

fn hash_of(source: IpAddr) -> u64 {
    match source {
        IpAddr::V4(ip) => hash(&ip.octets()),
        IpAddr::V6(ip) => hash(&ip.octets()),
    }
}
