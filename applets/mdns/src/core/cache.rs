//! What others told (RFC 6762 §10): kept only when somebody here asked for it, and never more than a bound.

use super::record::{Record, name_hash};
use super::respond::address_hash;
use super::{Limits, Time, after, sooner};
use minke_wire::dns::{Kind, NameRef};
use std::net::IpAddr;

/// One host may fill this part of the cache.
const SHARE_OF_ONE: usize = 4;
/// Seconds after which even the longest-lived record has to be told again.
const LONGEST_TTL: u32 = 86_400;
/// How long a record lives on that its owner took back or replaced (RFC 6762 §10.1, §10.2).
const GRACE: u32 = 1000;
/// Questions of others that stay without answer for so long say that a record is gone (RFC 6762 §10.5).
const SUSPICIONS: u8 = 2;
const SUSPICION: u32 = 10_000;
/// What is longer ago than this is another matter.
const SUSPICION_WINDOW: u32 = 60_000;
/// Hundredths of its life at which a record is asked for again: these, and up to two more (RFC 6762 §5.2).
const FIRST_REFRESH: u32 = 80;
const REFRESHES: u8 = 4;

/// A record of somebody.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) link: u32,
    pub(crate) record: Record,
    /// Of the record's name.
    pub(crate) hash: u32,
    source: u32,
    received: Time,
    pub(crate) expires: Time,
    /// When it is to be asked for again, and how often that was done.
    refresh: Time,
    refreshed: u8,
    /// Since when questions for it had no answer, and how many.
    suspect: Time,
    suspicions: u8,
    /// Somebody wants to know when it goes.
    pub(crate) wanted: bool,
}

impl Entry {
    /// When it ends, if nothing comes.
    fn end(&self) -> Time {
        let mut end = self.expires;
        if self.suspicions >= SUSPICIONS {
            sooner(&mut end, after(self.suspect, SUSPICION));
        }
        end
    }

    /// Seconds that are left.
    pub(crate) fn left(&self, now: Time) -> u32 {
        (self.expires.saturating_sub(now).div_ceil(1000)).min(LONGEST_TTL.into()) as u32
    }

    /// Whether it is worth telling others that we know it (RFC 6762 §7.1).
    pub(crate) fn is_known(&self, now: Time) -> bool {
        self.end() > now && self.left(now) > self.record.ttl / 2
    }

    fn is_of(&self, link: u32, (name, hash): (NameRef<'_>, u32), kind: Kind) -> bool {
        self.hash == hash && self.link == link && self.record.answers(name, kind)
    }

    fn renew(&mut self, now: Time, ttl: u32, random: u32) {
        self.received = now;
        self.record.ttl = ttl;
        self.expires = after(now, self.life());
        (self.refreshed, self.suspicions) = (0, 0);
        self.refresh = self.refresh_at(random);
    }

    fn life(&self) -> u32 {
        self.record.ttl.min(LONGEST_TTL).saturating_mul(1000)
    }

    /// Hundredths of its life, and up to two more at random.
    fn refresh_at(&self, random: u32) -> Time {
        let thousandths = u32::from(self.refreshed).saturating_mul(50).saturating_add(FIRST_REFRESH * 10);
        after(self.received, (self.life() / 1000).saturating_mul(thousandths.saturating_add(random % 20)))
    }
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
        (limits, random): (&Limits, u32),
    ) -> Kept {
        let hash = name_hash(record.name.as_ref(), Kind(0));
        for entry in &mut self.entries {
            if entry.hash == hash && entry.link == link && entry.record.says(record) {
                if record.ttl == 0 {
                    sooner(&mut entry.expires, after(now, GRACE));
                    return Kept::No;
                }
                entry.renew(now, record.ttl, random);
                return Kept::Renewed;
            }
        }
        if !admit || record.ttl == 0 || !self.make_room(address_hash(source), record.size(), limits) {
            return Kept::No;
        }
        let mut entry = Entry {
            link,
            record: record.clone(),
            hash,
            source: address_hash(source),
            received: now,
            expires: now,
            refresh: now,
            refreshed: 0,
            suspect: 0,
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
                && after(entry.received, GRACE) < now
                && other.name == record.name
                && !other.says(record)
            {
                sooner(&mut entry.expires, after(now, GRACE));
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
                let lately = after(entry.suspect, SUSPICION_WINDOW) > now;
                entry.suspicions = if lately { entry.suspicions.saturating_add(1) } else { 1 };
                // The last chance begins with the question that makes it one too many.
                if entry.suspicions <= SUSPICIONS {
                    entry.suspect = now;
                }
            }
        }
    }

    /// Is it still there? What is not told anew within ten seconds is forgotten (RFC 6762 §10.4). Whether there is any.
    pub(crate) fn doubt(&mut self, now: Time, is_doubtful: impl Fn(&Entry) -> bool) -> bool {
        let mut any = false;
        for entry in &mut self.entries {
            if is_doubtful(entry) {
                sooner(&mut entry.expires, after(now, SUSPICION));
                any = true;
            }
        }
        any
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
    pub(crate) fn deadline(&self, first: &mut Time) {
        for entry in self.entries.iter().filter(|entry| entry.wanted) {
            sooner(first, entry.end());
            if entry.refreshed < REFRESHES {
                sooner(first, entry.refresh);
            }
        }
    }

    /// The records that are to be asked for again.
    pub(crate) fn refresh(&mut self, now: Time, random: u32) -> Vec<Record> {
        let mut due = Vec::new();
        for entry in &mut self.entries {
            if entry.wanted && entry.refreshed < REFRESHES && entry.refresh <= now {
                entry.refreshed = entry.refreshed.saturating_add(1);
                entry.refresh = entry.refresh_at(random);
                due.push(entry.record.clone());
            }
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
    fn make_room(&mut self, source: u32, size: usize, limits: &Limits) -> bool {
        let same = self.entries.iter().filter(|entry| entry.source == source).count();
        if same >= (limits.cache_records / SHARE_OF_ONE).max(1) {
            return false;
        }
        while self.entries.len() >= limits.cache_records
            || self.bytes.saturating_add(size) > limits.cache_bytes
        {
            let (mut first, mut found) = (Time::MAX, None);
            for (entry, place) in self.entries.iter().zip(0..) {
                if !entry.wanted && entry.end() < first {
                    (first, found) = (entry.end(), Some(place));
                }
            }
            let Some(place) = found else { return false };
            let old = self.entries.swap_remove(place);
            self.bytes = self.bytes.saturating_sub(old.record.size());
        }
        true
    }
}
