//! Links come, change and go; on each, the records that follow from names, services and addresses.

use super::record::{Record, name_hash};
use super::side::{Own, Phase, Progress, Side};
use super::{Address, Link, Mdns, NEVER, Time, after};
use minke_wire::dns::Kind;

/// What was told so lately is safe from the bit that flushes caches: half of what RFC 6762 §10.2 says, as packets need
/// their time.
const LATELY: u32 = 500;

impl Mdns {
    /// A link is there, or its addresses or its MTU are others.
    pub(crate) fn set_link(&mut self, now: Time, link: &Link) {
        if self.closed || self.links.contains(link) {
            return;
        }
        self.links.retain(|other| other.index != link.index);
        self.links.push(link.clone());
        let mut fresh = false;
        for v6 in [false, true] {
            let speaks = link.addresses.iter().any(|address| address.ip.is_ipv6() == v6);
            let place = self.sides.iter().position(|side| side.link == link.index && side.v6 == v6);
            match place {
                Some(at) if !speaks => self.drop_side(now, at),
                None if speaks => {
                    self.add_side(now, link, v6);
                    fresh = true;
                }
                _ => {}
            }
        }
        for side in &mut self.sides {
            if side.link == link.index {
                side.set_mtu(link.mtu);
            }
        }
        if fresh {
            self.ask_anew(now);
        }
        self.rebuild(now);
    }

    /// A link is gone, or its carrier. Farewells are among the actions; they may fail to be sent.
    pub(crate) fn drop_link(&mut self, now: Time, index: u32) {
        while let Some(at) = self.sides.iter().position(|side| side.link == index) {
            self.drop_side(now, at);
        }
        self.links.retain(|link| link.index != index);
        self.end_cached(now, Some(index));
    }

    /// The machine slept, or a link was away for a moment: other hosts may be there, with our names (RFC 6762 §8).
    pub(crate) fn resumed(&mut self, now: Time) {
        let wait = self.probe_start();
        for side in &mut self.sides {
            side.replies.clear();
            for own in &mut side.own {
                own.rest();
            }
            for progress in &mut side.progress {
                (progress.phase, progress.at) = (Phase::Probing(0), after(now, wait));
            }
        }
        self.cache.doubt(now, |_| true);
        self.ask_anew(now);
    }

    /// Says farewell for everything; nothing is answered afterwards.
    pub(crate) fn close(&mut self, now: Time) {
        while !self.sides.is_empty() {
            self.drop_side(now, 0);
        }
        self.closed = true;
        self.links.clear();
        self.groups.clear();
        self.asks.clear();
    }

    fn add_side(&mut self, now: Time, link: &Link, v6: bool) {
        let mut side = Side::new(now, link.index, v6);
        side.set_mtu(link.mtu);
        let at = after(now, self.probe_start());
        for group in self.groups.iter().filter(|group| !group.name.is_root()) {
            side.progress.push(Progress { group: group.id, phase: Phase::Probing(0), at });
        }
        self.sides.push(side);
    }

    fn drop_side(&mut self, now: Time, at: usize) {
        let Some(side) = self.sides.get_mut(at) else { return };
        let mut gone = Vec::new();
        for own in &side.own {
            if own.told != 0 && own.record.kind != Kind::NSEC {
                gone.push(Record { ttl: 0, ..own.record.clone() });
            }
        }
        self.farewell(at, &gone);
        let side = self.sides.remove(at);
        // Who hears us by another interface or over the other family as well must not believe it.
        for at in 0..self.sides.len() {
            for record in &gone {
                self.heard_ours(now, at, record);
            }
        }
        for own in &side.own {
            self.was_ours(now, &own.record);
            if own.told != 0 {
                self.tell_gone(side.link, &own.record);
            }
        }
    }

    /// Makes the records of all sides anew. What is new of a name that is ours is announced, what is gone gets a farewell.
    pub(super) fn rebuild(&mut self, now: Time) {
        let host = self.groups.iter().find(|group| group.is_host() && group.trial_of.is_none());
        let host = host.map_or(minke_wire::dns::Name::ROOT, |group| group.name.clone());
        for at in 0..self.sides.len() {
            let Some(side) = self.sides.get(at) else { return };
            let addresses = self.links.iter().find(|link| link.index == side.link);
            let addresses = addresses.map_or(&[][..], |link| &link.addresses);
            let mut own = Vec::new();
            for group in &self.groups {
                let mut records = Vec::new();
                group.records(&host, addresses, side.v6, &mut records);
                for record in records {
                    let hash = name_hash(record.name.as_ref(), Kind(0));
                    own.push(Own { record, hash, group: group.id, told: 0, due: NEVER, asker: 0 });
                }
            }
            self.replace(now, at, own);
        }
    }

    fn replace(&mut self, now: Time, at: usize, fresh: Vec<Own>) {
        let Some(side) = self.sides.get_mut(at) else { return };
        let link = side.link;
        let groups = &self.groups;
        side.progress.retain(|progress| groups.iter().any(|group| group.id == progress.group));
        // Places have changed; who asked for himself asks again.
        side.replies.clear();
        let old = std::mem::replace(&mut side.own, fresh);
        let (mut changed, mut added) = (Vec::new(), Vec::new());
        for own in &mut side.own {
            let same = old.iter().find(|old| old.group == own.group && old.record == own.record);
            if let Some(same) = same {
                (own.told, own.due, own.asker) = (same.told, same.due, same.asker);
            } else {
                changed.push(own.group);
                added.push((own.group, own.record.clone()));
            }
        }
        let (mut farewells, mut gone) = (Vec::new(), Vec::new());
        for own in old {
            if side.own.iter().any(|other| other.hash == own.hash && other.record.says(&own.record)) {
                continue;
            }
            changed.push(own.group);
            // The bit that flushes caches makes an end of what is replaced (RFC 6762 §8.4).
            let replaced = |other: &Own| {
                other.record.unique
                    && other.record.kind == own.record.kind
                    && other.record.name == own.record.name
            };
            if own.told != 0 && own.record.kind != Kind::NSEC && !side.own.iter().any(replaced) {
                farewells.push(own.record.clone());
            }
            gone.push(own);
        }
        for progress in &mut side.progress {
            let trial = groups.iter().any(|group| group.id == progress.group && group.trial_of.is_some());
            if changed.contains(&progress.group) && !trial && !matches!(progress.phase, Phase::Probing(_)) {
                (progress.phase, progress.at) = (Phase::Announcing(0), now);
            }
        }
        added.retain(|(group, _)| side.is_live(*group));
        self.farewell(at, &farewells);
        for own in gone {
            self.was_ours(now, &own.record);
            if own.told != 0 {
                self.tell_gone(link, &own.record);
            }
        }
        for (_, record) in added {
            self.tell_new(at, link, &record);
        }
    }

    /// Other interfaces of ours that are on the same link, by their subnets: IPv4 never hears what comes from an address
    /// of the machine itself.
    pub(super) fn neighbours(&self, index: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let Some(link) = self.links.iter().find(|link| link.index == index) else { return found };
        for other in &self.links {
            let shares = |address: &Address| !address.is_linked() && self.is_on_link(other.index, address.ip);
            if other.index != index && link.addresses.iter().any(shares) {
                found.push(other.index);
            }
        }
        found
    }

    /// Another interface of ours told everybody these records, and their bit that flushes caches makes an end of what
    /// this one told of the same names, but for what came within a second before: it is told again at once
    /// (RFC 6762 §10.2). `v6`: over this family alone.
    pub(super) fn outlive(&mut self, now: Time, link: u32, v6: Option<bool>, flushing: &[Record]) {
        for side in &mut self.sides {
            if side.link != link || v6.is_some_and(|v6| v6 != side.v6) {
                continue;
            }
            for place in 0..side.own.len() {
                let Some(own) = side.own.get(place) else { break };
                let record = &own.record;
                let rival = |other: &Record| {
                    other.unique && other.kind == record.kind && other.name == record.name && record.unique
                };
                if own.told == 0
                    || after(own.told, LATELY) > now
                    || record.kind == Kind::NSEC
                    || !flushing.iter().any(rival)
                    || flushing.iter().any(|other| other.says(record))
                    || !side.is_live(own.group)
                {
                    continue;
                }
                if let Some(own) = side.own.get_mut(place) {
                    own.schedule(now, 1000);
                    own.asker = 0;
                }
            }
        }
    }

    /// Somebody told everybody a record of ours: we need not tell it as well (RFC 6762 §7.4); or took it back for all,
    /// though we still have it (§10.1).
    pub(super) fn heard_ours(&mut self, now: Time, at: usize, record: &Record) {
        let Some(side) = self.sides.get_mut(at) else { return };
        let hash = name_hash(record.name.as_ref(), Kind(0));
        for place in 0..side.own.len() {
            let live = side.own.get(place).is_some_and(|own| own.hash == hash && side.is_live(own.group));
            let Some(own) = side.own.get_mut(place).filter(|own| live && own.record.says(record)) else {
                continue;
            };
            if record.ttl == 0 {
                own.schedule(after(now, self.random.delay(20, 100)), 1000);
                own.asker = 0;
            } else if record.ttl >= own.record.ttl {
                own.rest();
            }
        }
    }
}
