//! Names: finding them free, announcing them, giving way, going back (RFC 6762 §8, §9).

use super::record::Record;
use super::registry::Group;
use super::send::{put, writer};
use super::side::{Own, Phase, Progress};
use super::{Action, Mdns, NEVER, Time, after, count, sooner};
use minke_wire::dns::{Class, Flags, Kind, Section};
use std::cmp::Ordering;

/// Probes before a name is ours, and the time between them (RFC 6762 §8.1).
const PROBES: u8 = 3;
const PROBE_PAUSE: u32 = 250;
/// The longest wait before the first of them. The RFC has 250 ms; with 200, a name is ours within 950 ms.
const PROBE_START: u32 = 200;
/// How long the loser of simultaneous probes waits (RFC 6762 §8.2).
const DEFER: u32 = 1000;
/// So many conflicts within ten seconds, and each further try waits five (RFC 6762 §8.1).
const MOST_CONFLICTS: usize = 15;
const CONFLICT_WINDOW: u32 = 10_000;
const CONFLICT_PAUSE: u32 = 5000;
/// Until there was no conflict for so long.
const CROWDED: u32 = 60_000;
/// Announcements, the second a second after the first, the third two seconds later (RFC 6762 §8.3).
const ANNOUNCEMENTS: u8 = 3;
/// How long a record that was ours can come back from a reflector without being somebody else's.
const RECENT: u32 = 120_000;
const MOST_RECENT: usize = 256;
/// After a rename, how long until the wanted name is tried again; it doubles with each failure.
const FIRST_RETURN: u32 = 120_000;
const LAST_RETURN: u32 = 3_600_000;
/// A name that was lost again so soon after going back to it was not free: the pause stays long.
const STEADY: u32 = 600_000;
/// From the third conflict on numbers are drawn from a range that doubles, up to this, so that many hosts part soon.
const WIDEST: u32 = 64;

impl Mdns {
    /// What is due of probes and announcements on a side.
    pub(super) fn advance(&mut self, now: Time, place: usize) {
        let Some(side) = self.sides.get_mut(place) else { return };
        let mut probes = Vec::new();
        let mut established = Vec::new();
        for progress in &mut side.progress {
            if progress.at > now || progress.phase == Phase::Settled {
                continue;
            }
            let trial =
                self.groups.iter().any(|group| group.id == progress.group && group.trial_of.is_some());
            match progress.phase {
                Phase::Probing(sent) if sent < PROBES => {
                    probes.push((progress.group, sent));
                    progress.phase = Phase::Probing(sent.saturating_add(1));
                    progress.at = after(now, PROBE_PAUSE);
                    continue;
                }
                Phase::Probing(_) => {
                    established.push(progress.group);
                    progress.phase = if trial { Phase::Settled } else { Phase::Announcing(0) };
                }
                _ => {}
            }
            let Phase::Announcing(sent) = progress.phase else { continue };
            let more = sent.saturating_add(1);
            progress.phase = if more < ANNOUNCEMENTS { Phase::Announcing(more) } else { Phase::Settled };
            progress.at = after(now, 1000 << sent.min(8));
            for own in &mut side.own {
                if own.group == progress.group && own.record.kind != Kind::NSEC {
                    own.schedule(now, 1000);
                    own.asker = 0;
                }
            }
        }
        self.send_probes(now, place, &probes);
        for group in established {
            self.tell_established(now, place, group);
        }
    }

    /// One packet for as many groups as fit.
    fn send_probes(&mut self, now: Time, place: usize, groups: &[(u32, u8)]) {
        let mut rest = groups;
        while !rest.is_empty() {
            let Some(side) = self.sides.get_mut(place) else { return };
            let mut bytes = Vec::new();
            let mut packet = writer(&mut bytes, side.limit, Flags(0));
            let (mut taken, mut size) = (0usize, 12usize);
            for (id, sent) in rest {
                let Some(group) = self.groups.iter().find(|group| group.id == *id) else {
                    taken = taken.saturating_add(1);
                    continue;
                };
                let mut more = group.name.as_wire().len().saturating_add(4);
                for own in probed(&side.own, group) {
                    more = more.saturating_add(own.record.size());
                }
                size = size.saturating_add(more);
                if taken > 0 && size > side.limit {
                    break;
                }
                if taken == 0 && size > side.limit {
                    packet.set_limit(super::side::LONGEST_PACKET.into());
                }
                // Answers to the first probe may come by unicast, which is quicker (RFC 6762 §8.1); those to the others
                // come to all, as another program on this host may take what is unicast to the port (§15.1).
                let class = if *sent == 0 { Class::IN.with_top() } else { Class::IN };
                packet.question(group.name.as_ref(), Kind::ANY, class);
                taken = taken.saturating_add(1);
            }
            let (now_sent, later) = rest.split_at_checked(taken).unwrap_or((rest, &[]));
            rest = later;
            for (id, _) in now_sent {
                let Some(group) = self.groups.iter().find(|group| group.id == *id) else { continue };
                for own in probed(&side.own, group) {
                    let _ = put(&mut packet, Section::Authority, (&own.record, false), own.record.ttl);
                }
            }
            side.unicast_until = after(now, 2000);
            let to = side.everybody();
            self.send(place, to, bytes);
        }
    }

    /// A name is ours on a side.
    fn tell_established(&mut self, now: Time, place: usize, id: u32) {
        let Some(group) = self.groups.iter().find(|group| group.id == id) else { return };
        if let Some(parent) = group.trial_of {
            self.end_trial(now, id, parent);
            return;
        }
        if group.is_host() && self.told_host != group.label {
            self.told_host.clone_from(&group.label);
            self.actions.push(Action::Host(group.label.clone()));
        }
        self.tell_own(place, id);
    }

    /// Other hosts probe: who wins a name that both want? (RFC 6762 §8.2)
    pub(super) fn break_ties(&mut self, now: Time, place: usize, theirs: &[Record]) {
        let Some(side) = self.sides.get(place) else { return };
        let mut losers = Vec::new();
        for progress in &side.progress {
            let Phase::Probing(_) = progress.phase else { continue };
            let Some(group) = self.groups.iter().find(|group| group.id == progress.group) else { continue };
            let mut other = Vec::new();
            for record in theirs.iter().filter(|record| record.name == group.name) {
                insert(&mut other, record);
            }
            // Our own, from another interface on this link or through a reflector, is no rival.
            if other.is_empty() || other.iter().all(|record| self.is_ours(record)) {
                continue;
            }
            let mut ours = Vec::new();
            for own in probed(&side.own, group) {
                insert(&mut ours, &own.record);
            }
            if compare(&ours, &other) == Ordering::Less {
                losers.push(progress.group);
            }
        }
        let Some(side) = self.sides.get_mut(place) else { return };
        for id in losers {
            if let Some(progress) = side.progress_of(id) {
                *progress = Progress { group: id, phase: Phase::Probing(0), at: after(now, DEFER) };
            }
        }
    }

    /// Somebody said this in a response: does it contradict what we say or want to say? (RFC 6762 §8.1, §9)
    pub(super) fn check_conflict(&mut self, now: Time, place: usize, record: &Record) {
        if record.ttl == 0 {
            self.name_freed(now, record);
            return;
        }
        let Some(side) = self.sides.get(place) else { return };
        let mut found = None;
        for progress in &side.progress {
            let Some(group) = self.groups.iter().find(|group| group.id == progress.group) else { continue };
            if group.name != record.name {
                continue;
            }
            let probing = matches!(progress.phase, Phase::Probing(_));
            let same_kind = |own: &Own| own.record.kind == record.kind && own.record.kind != Kind::NSEC;
            if probing || probed(&side.own, group).any(same_kind) {
                // The first probe goes out next: who has the name says so then. The other records of the packet that made us
                // probe again are no answer to it.
                if progress.phase == Phase::Probing(0) && progress.at <= now {
                    return;
                }
                found = Some((group.id, probing));
                break;
            }
        }
        let Some((id, probing)) = found else { return };
        if self.is_ours(record) {
            return;
        }
        count(&mut self.counters.conflicts, 1);
        if probing {
            self.give_way(now, id);
            return;
        }
        // It was ours, and somebody has it too: probe again. Who defends it keeps it.
        let wait = self.conflict_pause(now, 0);
        let Some(side) = self.sides.get_mut(place) else { return };
        if let Some(progress) = side.progress_of(id) {
            *progress = Progress { group: id, phase: Phase::Probing(0), at: after(now, wait) };
        }
        for own in &mut side.own {
            if own.group == id {
                own.rest();
            }
        }
    }

    /// Notes a conflict; how long to wait before the next probe.
    fn conflict_pause(&mut self, now: Time, usual: u32) -> u32 {
        if self.clashes.len() >= MOST_CONFLICTS {
            self.clashes.remove(0);
        }
        self.clashes.push(now);
        let crowded = self.clashes.len() >= MOST_CONFLICTS
            && self.clashes.first().is_some_and(|first| after(*first, CONFLICT_WINDOW) >= now);
        if crowded || now < self.crowded_until {
            self.crowded_until = after(now, CROWDED);
            return CONFLICT_PAUSE;
        }
        usual
    }

    /// Somebody else has the name that a group probes for.
    fn give_way(&mut self, now: Time, id: u32) {
        let Some(at) = self.groups.iter().position(|group| group.id == id) else { return };
        if let Some(parent) = self.groups.get(at).and_then(|group| group.trial_of) {
            self.drop_group(now, id);
            let jitter = self.random.below(LAST_RETURN);
            if let Some(parent) = self.groups.iter_mut().find(|group| group.id == parent) {
                parent.pause = parent.pause.saturating_mul(2).min(LAST_RETURN);
                parent.retry = after(now, parent.pause.saturating_add(jitter % (parent.pause / 4).max(1)));
            }
            return;
        }
        let start = self.random.delay(0, PROBE_START);
        let wait = self.conflict_pause(now, start);
        let jitter = self.random.below(FIRST_RETURN / 4);
        let Some(group) = self.groups.get_mut(at) else { return };
        let old = std::mem::take(&mut group.label);
        if group.number == 1 {
            let lost_again = group.returned != 0 && after(group.returned, STEADY) > now;
            let pause = if lost_again { group.pause.saturating_mul(2) } else { FIRST_RETURN };
            group.pause = pause.clamp(FIRST_RETURN, LAST_RETURN);
        }
        group.attempts = group.attempts.saturating_add(1);
        group.renamed = now;
        group.retry = after(now, group.pause.saturating_add(jitter));
        let range = 1u32.checked_shl(group.attempts.saturating_sub(2)).unwrap_or(WIDEST).clamp(1, WIDEST);
        let skip = self.random.below(range);
        group.set_number(group.number.max(1).saturating_add(1).saturating_add(skip));
        let line = format!("'{old}' is somebody else's here; trying '{}'", group.label);
        self.actions.push(Action::Log(line));
        self.renamed(now, at, wait);
    }

    /// A group has another name: it and all that depends on it starts anew.
    pub(super) fn renamed(&mut self, now: Time, at: usize, wait: u32) {
        let Some(group) = self.groups.get(at) else { return };
        let (id, is_host) = (group.id, group.is_host());
        self.restart(now, id, wait);
        if is_host {
            self.name_after_host(now, wait);
        }
        self.rebuild(now);
    }

    /// Services that are named after the host take its name.
    pub(super) fn name_after_host(&mut self, now: Time, wait: u32) {
        let host = self.host().to_owned();
        let mut changed = Vec::new();
        for group in &mut self.groups {
            let Some(service) = &group.service else { continue };
            if !service.1.wildcards || group.trial_of.is_some() {
                continue;
            }
            let wanted = minke_wire::text::replace(&service.1.instance, "%h", &host);
            if group.wanted != wanted {
                group.wanted = wanted;
                group.attempts = 0;
                group.set_number(1);
                changed.push(group.id);
            }
        }
        for id in changed {
            self.drop_trials_of(now, id);
            self.restart(now, id, wait);
        }
    }

    /// A group begins to probe on all sides.
    pub(super) fn restart(&mut self, now: Time, id: u32, wait: u32) {
        let named = self.groups.iter().any(|group| group.id == id && !group.name.is_root());
        for side in &mut self.sides {
            if !named {
                side.progress.retain(|progress| progress.group != id);
                continue;
            }
            let at = after(now, wait);
            let fresh = Progress { group: id, phase: Phase::Probing(0), at };
            match side.progress_of(id) {
                Some(progress) => *progress = fresh,
                None => side.progress.push(fresh),
            }
        }
    }

    /// A random time before the first probe.
    pub(super) fn probe_start(&mut self) -> u32 {
        self.random.delay(0, PROBE_START)
    }

    /// When the wanted names are tried again.
    pub(super) fn next_return(&self) -> Time {
        let mut first = NEVER;
        for group in &self.groups {
            if group.number > 1 && !self.sides.is_empty() && !self.has_trial(group.id) {
                sooner(&mut first, group.retry);
            }
        }
        first
    }

    fn has_trial(&self, id: u32) -> bool {
        self.groups.iter().any(|group| group.trial_of == Some(id))
    }

    /// Begins to try the wanted names whose time has come, while the present ones stay.
    pub(super) fn try_returns(&mut self, now: Time) {
        if self.next_return() > now {
            return;
        }
        let mut trials = Vec::new();
        for group in &self.groups {
            if group.number > 1 && group.retry <= now && !self.has_trial(group.id) {
                let mut trial = Group::new(0, group.service.clone());
                trial.wanted.clone_from(&group.wanted);
                trial.trial_of = Some(group.id);
                trial.set_number(1);
                trials.push(trial);
            }
        }
        for mut trial in trials {
            trial.id = self.fresh_id();
            let wait = self.probe_start();
            let id = trial.id;
            self.groups.push(trial);
            self.restart(now, id, wait);
        }
        self.rebuild(now);
    }

    /// A trial has found the wanted name free on one side; when it is on all, the group goes back to it.
    fn end_trial(&mut self, now: Time, trial: u32, parent: u32) {
        if !self.sides.iter().all(|side| side.is_live(trial)) {
            return;
        }
        self.groups.retain(|group| group.id != trial);
        for side in &mut self.sides {
            side.progress.retain(|progress| progress.group != trial);
        }
        let Some(at) = self.groups.iter().position(|group| group.id == parent) else { return };
        let Some(group) = self.groups.get_mut(at) else { return };
        group.attempts = 0;
        group.returned = now;
        group.set_number(1);
        let is_host = group.is_host();
        let line = format!("'{}' is free again", group.label);
        self.actions.push(Action::Log(line));
        for side in &mut self.sides {
            if let Some(progress) = side.progress_of(parent) {
                *progress = Progress { group: parent, phase: Phase::Announcing(0), at: now };
            }
        }
        if is_host {
            self.told_host = self.host().to_owned();
            self.actions.push(Action::Host(self.told_host.clone()));
            self.name_after_host(now, 0);
        }
        self.rebuild(now);
    }

    /// Who had a name says farewell: those who want it try it soon, but not all at once, and not sooner than half the
    /// pause after they gave way.
    fn name_freed(&mut self, now: Time, record: &Record) {
        for at in 0..self.groups.len() {
            let Some(group) = self.groups.get(at) else { return };
            if group.number < 2 || group.numbered_name(1).is_none_or(|name| name != record.name) {
                continue;
            }
            if self.is_ours(record) {
                return;
            }
            let soon = after(now, self.random.delay(2000, 8000));
            if let Some(group) = self.groups.get_mut(at) {
                let soonest = after(group.renamed, group.pause / 2).max(soon);
                sooner(&mut group.retry, soonest);
            }
        }
    }

    /// Whether a record is one of ours, on any link, or was a short while ago.
    pub(super) fn is_ours(&self, record: &Record) -> bool {
        for side in &self.sides {
            if side.own.iter().any(|own| own.record.says(record)) {
                return true;
            }
        }
        let hash = record.hash();
        self.recent.iter().any(|(other, _)| *other == hash)
    }

    /// A record is ours no longer.
    pub(super) fn was_ours(&mut self, now: Time, record: &Record) {
        self.recent.retain(|(_, until)| *until > now);
        if self.recent.len() >= MOST_RECENT {
            self.recent.remove(0);
        }
        self.recent.push((record.hash(), after(now, RECENT)));
    }

    fn drop_trials_of(&mut self, now: Time, id: u32) {
        if let Some(trial) = self.groups.iter().find(|group| group.trial_of == Some(id)).map(|group| group.id)
        {
            self.drop_group(now, trial);
        }
    }

    /// Forgets a group and what tries its name.
    pub(super) fn drop_group(&mut self, now: Time, id: u32) {
        self.groups.retain(|group| group.id != id && group.trial_of != Some(id));
        self.rebuild(now);
    }
}

/// The records that are proposed for a group's name.
fn probed<'a>(own: &'a [Own], group: &'a Group) -> impl Iterator<Item = &'a Own> {
    own.iter().filter(move |own| {
        own.group == group.id && own.record.kind != Kind::NSEC && own.record.name == group.name
    })
}

/// Puts a record in its place among sorted ones.
fn insert<'a>(sorted: &mut Vec<&'a Record>, record: &'a Record) {
    let place = sorted.iter().position(|other| other.probe_order(record).is_gt());
    sorted.insert(place.unwrap_or(sorted.len()), record);
}

/// Whose sorted records are lexicographically later; when one list ends, the longer one is (RFC 6762 §8.2.1).
fn compare(ours: &[&Record], theirs: &[&Record]) -> Ordering {
    for (one, two) in ours.iter().zip(theirs) {
        let order = one.probe_order(two);
        if order.is_ne() {
            return order;
        }
    }
    ours.len().cmp(&theirs.len())
}
