//! Asking others: once, or for as long as somebody wants to know (RFC 6762 §5).

use super::cache::{Entry, Kept};
use super::record::{Record, name_hash};
use super::send::{put, writer};
use super::{Action, Mdns, NEVER, Question, Time, after, count, sooner};
use minke_wire::dns::{Class, Flags, Kind, Name, Section};
use std::net::IpAddr;

/// Between the first two questions; each later pause is twice as long, up to an hour (RFC 6762 §5.2).
const FIRST_PAUSE: u32 = 1000;
const LAST_PAUSE: u32 = 3_600_000;
/// How long an answer is waited for by who asks once: a second question, should the first be lost, is just in it.
const ONCE: u32 = 1250;
/// The least wait before the first question that nobody waits for, and what is added at random (RFC 6762 §5.2).
const START: (u32, u32) = (20, 100);
/// How long a record is asked for that is said to be gone (RFC 6762 §10.4).
const RECONFIRM: u32 = 10_000;
/// A question is not asked again sooner than this.
const ASKED_PAUSE: u32 = 1000;

/// A question of ours.
#[derive(Debug)]
pub(crate) struct Ask {
    id: u32,
    question: Question,
    /// Of the question's name.
    hash: u32,
    /// When it ends.
    until: Time,
    /// Since when. What was answered before was not kept.
    since: Time,
    /// Nobody is told; it only refreshes the cache.
    quiet: bool,
    next: Time,
    pause: u32,
    /// When it was asked last; 0: never.
    asked: Time,
    /// A record that answers it is about to end.
    refresh: bool,
}

impl Ask {
    fn is_for(&self, link: u32) -> bool {
        self.question.link.is_none_or(|wanted| wanted == link)
    }

    /// Whether a record, whose name has this hash, answers it. An alias answers for whatever it leads to.
    fn wants(&self, link: u32, (record, hash): (&Record, u32)) -> bool {
        let kind = self.question.kind;
        self.hash == hash
            && self.is_for(link)
            && (record.answers(self.question.name.as_ref(), kind)
                || (record.kind == Kind::CNAME && record.name == self.question.name))
    }
}

impl Mdns {
    /// Asks. The answers come as actions with the number returned; `None`: too many ask already.
    pub(crate) fn ask(&mut self, now: Time, question: Question) -> Option<u32> {
        self.end_cached(now, None);
        let until = if question.once { after(now, ONCE) } else { NEVER };
        let id = self.add_ask(now, question, until, false)?;
        let mut settled = false;
        let ask = self.asks.last()?;
        let name = ask.question.name.as_ref();
        for link in &self.links {
            if !ask.is_for(link.index) {
                continue;
            }
            settled |= self.cache.is_denied(now, link.index, name, ask.question.kind);
            for entry in self.cache.find(now, link.index, name, ask.question.kind) {
                settled |= entry.record.unique;
                let record = Record { ttl: entry.left(now), ..entry.record.clone() };
                self.actions.push(Action::Found { question: id, link: link.index, record });
            }
        }
        for (side, place) in self.sides.iter().zip(0..) {
            for own in &side.own {
                let same = own.hash == ask.hash && own.record.name == ask.question.name;
                if !same || !ask.is_for(side.link) || !side.is_live(own.group) {
                    continue;
                }
                settled |= own.record.unique;
                if ask.wants(side.link, (&own.record, own.hash))
                    && !self.is_told(side.link, &own.record, ..place)
                {
                    let (link, record) = (side.link, own.record.clone());
                    self.actions.push(Action::Found { question: id, link, record });
                }
            }
        }
        if settled {
            self.settle(now, id);
        }
        for entry in &mut self.cache.entries {
            entry.wanted =
                entry.wanted || is_wanted(self.asks.last_chunk::<1>().map_or(&[], |last| last), entry);
        }
        Some(id)
    }

    /// Nobody wants to know any more.
    pub(crate) fn cancel(&mut self, question: u32) {
        let Some(place) = self.asks.iter().position(|ask| ask.id == question) else { return };
        let ask = self.asks.remove(place);
        for entry in &mut self.cache.entries {
            if ask.wants(entry.link, (&entry.record, entry.hash)) {
                entry.wanted = is_wanted(&self.asks, entry);
            }
        }
    }

    /// An address or service that a record told did not work: is it still there? (RFC 6762 §10.4)
    /// What is not remembered need not be asked for, and what is asked for is so once.
    pub(crate) fn reconfirm(&mut self, now: Time, name: &Name, kind: Kind) {
        let question = Question { name: name.clone(), kind, link: None, once: true };
        if !self.cache.doubt(now, |entry| entry.record.answers(name.as_ref(), kind))
            || self.asks.iter().any(|ask| ask.quiet && ask.question == question)
        {
            return;
        }
        self.add_ask(now, question, after(now, RECONFIRM), true);
    }

    fn add_ask(&mut self, now: Time, question: Question, until: Time, quiet: bool) -> Option<u32> {
        if self.asks.len() >= self.limits.questions || self.closed {
            return None;
        }
        let id = self.fresh_id();
        let wait = if until != NEVER { 0 } else { self.random.delay(START.0, START.1) };
        let next = after(now, wait);
        let hash = name_hash(question.name.as_ref(), Kind(0));
        self.asks.push(Ask {
            id,
            question,
            hash,
            until,
            since: now,
            quiet,
            next,
            pause: FIRST_PAUSE,
            asked: 0,
            refresh: false,
        });
        Some(id)
    }

    /// A link has come: everything is asked there soon.
    pub(super) fn ask_anew(&mut self, now: Time) {
        for ask in &mut self.asks {
            ask.pause = FIRST_PAUSE;
            let soon = after(now, self.random.delay(START.0, START.1));
            sooner(&mut ask.next, soon.max(after(ask.asked, ASKED_PAUSE)));
        }
    }

    /// When a question is due or ends.
    pub(super) fn next_ask(&self, first: &mut Time) {
        self.cache.deadline(first);
        for ask in &self.asks {
            if !self.sides.is_empty() {
                sooner(first, ask.next);
            }
            sooner(first, ask.until);
        }
    }

    /// Asks what is due, and ends what has ended.
    pub(super) fn ask_due(&mut self, now: Time) {
        self.end_cached(now, None);
        while let Some(id) = self.asks.iter().find(|ask| ask.until <= now).map(|ask| ask.id) {
            self.finish(id);
        }
        let random = self.random.below(1 << 20);
        for record in self.cache.refresh(now, random) {
            let hash = name_hash(record.name.as_ref(), Kind(0));
            for ask in self.asks.iter_mut().filter(|ask| ask.hash == hash && ask.until == NEVER) {
                ask.refresh |= record.answers(ask.question.name.as_ref(), ask.question.kind);
            }
        }
        let mut due = Vec::new();
        for (ask, place) in self.asks.iter_mut().zip(0..) {
            let rested = after(ask.asked, ASKED_PAUSE) <= now;
            let refresh = std::mem::take(&mut ask.refresh) && rested;
            if self.sides.is_empty() || (ask.next > now && !refresh) {
                continue;
            }
            if ask.next <= now {
                ask.next = after(now, ask.pause);
                ask.pause = ask.pause.saturating_mul(2).min(LAST_PAUSE);
            }
            ask.asked = now;
            due.push(place);
        }
        if !due.is_empty() {
            for side in 0..self.sides.len() {
                self.send_questions(now, side, &due);
            }
        }
    }

    /// Questions with the answers that are known, in as few packets as they take (RFC 6762 §7.1, §7.2).
    fn send_questions(&mut self, now: Time, at: usize, due: &[usize]) {
        let Some(side) = self.sides.get(at) else { return };
        let mut packets = Vec::new();
        let mut rest = due.iter();
        let mut next = rest.next();
        while next.is_some() {
            let mut bytes = Vec::new();
            let mut packet = writer(&mut bytes, side.limit, Flags(0));
            let mut asked: Vec<&Ask> = Vec::new();
            while let Some(ask) = next.and_then(|place| self.asks.get(*place)) {
                let question = &ask.question;
                let same = |other: &&Ask| other.hash == ask.hash && other.question.kind == question.kind;
                let spared = !ask.is_for(side.link)
                    || asked.iter().any(same)
                    || side.was_heard(now, name_hash(question.name.as_ref(), question.kind), ask.since);
                if !spared {
                    if !packet.question(question.name.as_ref(), question.kind, Class::IN) {
                        break;
                    }
                    asked.push(ask);
                }
                next = rest.next();
            }
            if asked.is_empty() {
                break;
            }
            for entry in &self.cache.entries {
                let wanted = |ask: &&Ask| ask.wants(side.link, (&entry.record, entry.hash));
                if entry.link != side.link || !entry.is_known(now) || !asked.iter().any(wanted) {
                    continue;
                }
                if put(&mut packet, Section::Answer, (&entry.record, false), entry.left(now)) {
                    continue;
                }
                // More of them follow (RFC 6762 §7.2).
                packet.set(Flags::TC);
                packets.push(std::mem::take(&mut bytes));
                packet = writer(&mut bytes, side.limit, Flags(0));
                let _ = put(&mut packet, Section::Answer, (&entry.record, false), entry.left(now));
            }
            packets.push(bytes);
        }
        let to = side.everybody();
        for bytes in packets {
            self.send(at, to, bytes);
        }
    }

    /// A response came: who asked is told, the cache learns.
    pub(super) fn learn(&mut self, now: Time, at: usize, source: IpAddr, records: &[Record]) {
        let Some(side) = self.sides.get_mut(at) else { return };
        let link = side.link;
        let hashes: Vec<u32> =
            records.iter().map(|record| name_hash(record.name.as_ref(), Kind(0))).collect();
        let denies = |ask: &Ask, (record, hash): (&Record, u32)| {
            ask.hash == hash
                && ask.is_for(link)
                && record.denies(ask.question.kind)
                && record.name == ask.question.name
        };
        // What nobody asked for is not kept; what comes along with an answer is.
        let mut admit = false;
        for record in records.iter().zip(hashes.iter().copied()) {
            admit = admit || self.asks.iter().any(|ask| ask.wants(link, record) || denies(ask, record));
        }
        let mut settled = Vec::new();
        for (record, hash) in records.iter().zip(hashes.iter().copied()) {
            if record.unique {
                self.cache.flush_others(now, link, record);
            }
            let random = self.random.below(1 << 20);
            let kept = self.cache.hear(now, (link, source), record, admit, (&self.limits, random));
            if admit && kept == Kept::No && record.ttl > 0 {
                count(&mut self.counters.uncached, 1);
            }
            if kept == Kept::New
                && let Some(entry) = self.cache.entries.last_mut()
            {
                entry.wanted = is_wanted(&self.asks, entry);
            }
            for ask in self.asks.iter().filter(|ask| ask.hash == hash) {
                let answers = ask.wants(link, (record, hash)) && record.ttl > 0;
                if answers && !ask.quiet && (kept == Kept::New || ask.until != NEVER) {
                    let (question, record) = (ask.id, record.clone());
                    self.actions.push(Action::Found { question, link, record });
                }
                // Only one answers for a unique record; for others there may be more answers.
                let last = (answers && record.unique) || denies(ask, (record, hash));
                if last && !ask.quiet && !settled.contains(&ask.id) {
                    settled.push(ask.id);
                }
            }
        }
        for id in settled {
            self.settle(now, id);
        }
    }

    /// Tells who asked of the records that have become ours.
    pub(super) fn tell_own(&mut self, at: usize, group: u32) {
        let Some(side) = self.sides.get(at) else { return };
        let link = side.link;
        let mut records = Vec::new();
        for own in side.own.iter().filter(|own| own.group == group) {
            records.push(own.record.clone());
        }
        for record in records {
            self.tell_new(at, link, &record);
        }
    }

    /// Tells who asked that a record is ours, unless it was so over the other family.
    pub(super) fn tell_new(&mut self, at: usize, link: u32, record: &Record) {
        for (side, place) in self.sides.iter().zip(0..) {
            if place != at && side.link == link && side.publishes(record) {
                return;
            }
        }
        let hash = name_hash(record.name.as_ref(), Kind(0));
        for ask in &self.asks {
            if !ask.quiet && ask.wants(link, (record, hash)) {
                self.actions.push(Action::Found { question: ask.id, link, record: record.clone() });
            }
        }
    }

    /// Tells who asked that a record is gone, unless it is ours, or was so a moment ago, over the other family.
    pub(super) fn tell_gone(&mut self, link: u32, record: &Record) {
        for side in self.sides.iter().filter(|side| side.link == link) {
            if side.own.iter().any(|own| own.told != 0 && own.record.says(record)) {
                return;
            }
        }
        let hash = name_hash(record.name.as_ref(), Kind(0));
        for ask in &self.asks {
            if ask.until == NEVER && ask.wants(link, (record, hash)) {
                self.actions.push(Action::Gone { question: ask.id, link, record: record.clone() });
            }
        }
    }

    /// Whether one of these sides publishes a record on a link.
    pub(super) fn is_told(&self, link: u32, record: &Record, sides: std::ops::RangeTo<usize>) -> bool {
        let sides = self.sides.get(sides).unwrap_or_default();
        sides.iter().any(|side| side.link == link && side.publishes(record))
    }

    /// Forgets what has ended, and everything of a link; who waited for it is told.
    pub(super) fn end_cached(&mut self, now: Time, link: Option<u32>) {
        for entry in self.cache.expire(now, |entry| Some(entry.link) == link) {
            if entry.wanted {
                self.tell_gone(entry.link, &entry.record);
            }
        }
    }

    /// A question has the one answer that there is: it ends, or, on one link, rests, as a change is told to all and the
    /// record is asked for again before it ends.
    fn settle(&mut self, now: Time, id: u32) {
        let Some(ask) = self.asks.iter_mut().find(|ask| ask.id == id) else { return };
        if ask.until != NEVER {
            self.finish(id);
        } else if ask.question.link.is_some() {
            ask.next = after(now, LAST_PAUSE);
            ask.pause = LAST_PAUSE;
        }
    }

    /// A question has ended.
    fn finish(&mut self, id: u32) {
        if let Some(place) = self.asks.iter().position(|ask| ask.id == id) {
            let ask = self.asks.remove(place);
            if !ask.quiet {
                self.actions.push(Action::Done { question: id });
            }
        }
    }
}

/// Whether somebody wants to know the end of a record.
fn is_wanted(asks: &[Ask], entry: &Entry) -> bool {
    asks.iter().any(|ask| ask.until == NEVER && ask.wants(entry.link, (&entry.record, entry.hash)))
}
