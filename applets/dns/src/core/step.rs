//! The way of one query: the cache, what is known here, servers.

use super::answer::seconds;
use super::key::KeyRef;
use super::local::Known;
use super::query::{Query, Saying, reason};
use super::store::Meta;
use super::{Asked, Asking, FAILURE_TTL, Resolver, Route, Step};
use crate::config::Cache;
use minke_wire::dns::{Class, Data, Flags, Kind, Message, Name, NameRef, Rcode, Section, Writer};
use minke_wire::micros::Micros;
use std::net::IpAddr;

/// How long what is known here may be kept by others, in seconds: it can change at any time.
const LOCAL_TTL: u32 = 0;
/// How long old answers may be kept by others, in seconds (RFC 8767 §4).
const STALE_TTL: u32 = 30;
/// An answer that lives shorter than this is not asked anew before its end, in seconds.
const LEAST_PREFETCH: u32 = 10;

/// Why a query is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It came in.
    Ask,
    /// What it waited for is there.
    Reply,
    /// It has waited too long.
    Stale,
}

/// What answers a query.
#[derive(Debug, Clone, Copy)]
struct Hit {
    /// The entry of the cache; `None`: the latest answer.
    entry: Option<u32>,
    meta: Meta,
    age: u32,
    stale: bool,
    /// It is to be asked anew.
    refresh: bool,
}

/// What came of another name that may stand for the one asked for.
enum Stand {
    Done(Step),
    /// It does not exist.
    Missing,
    /// It is a name of the link, of which nobody has told such a record; others it may have.
    Nothing,
}

impl Resolver {
    /// Reads a query; an error as that of [`Resolver::read`].
    pub(super) fn parse<'a>(&self, asked: Asked<'a>, out: &mut Vec<u8>) -> Result<Asking<'a>, Step> {
        let start = out.len();
        match Query::read(&asked, out) {
            Some(query) => {
                let key = self.store.key(query.front(), query.name);
                Ok(Asking { asked, query, key })
            }
            None if out.len() > start => Err(Step::Answered),
            None => Err(Step::Drop),
        }
    }

    pub(super) fn step_of(&mut self, now: Micros, asked: &Asked<'_>, mode: Mode, out: &mut Vec<u8>) -> Step {
        match self.parse(*asked, out) {
            Ok(asking) => self.step(now, &asking, mode, out),
            Err(step) => step,
        }
    }

    pub(super) fn step(
        &mut self,
        now: Micros,
        Asking { asked, query, key }: &Asking<'_>,
        mode: Mode,
        out: &mut Vec<u8>,
    ) -> Step {
        let internet = query.class == Class::IN;
        let here_first = internet && self.local.is_before_cache(&self.settings, query.name, asked.from);
        if !here_first && let Ok(hit) = self.lookup(now, key, mode) {
            self.give(query, &hit, out);
            return if hit.refresh { self.refresh(asked.from, key) } else { Step::Answered };
        }
        let Some(name) = Name::from_wire(query.name) else { return Step::Drop };
        let known = if internet {
            self.local.look(&self.settings, asked.from, &name, query.kind)
        } else {
            Known::Ask(0)
        };
        match known {
            Known::Mdns => self.elsewhere(now, (asked, mode), query, key, None, out),
            Known::Ask(group) => self.elsewhere(now, (asked, mode), query, key, Some(group), out),
            Known::Plain(group) => self.search(now, (asked, mode), query, &name, group, out),
            Known::Alias(target) => match self.stand_in(now, (asked, mode), query, &target, 0, out) {
                Stand::Done(step) => step,
                Stand::Missing => self.tell(query, Rcode::NXDOMAIN, out),
                Stand::Nothing => self.tell(query, Rcode::NOERROR, out),
            },
            Known::Addresses(addresses) => {
                self.tell_records(query, name.as_ref(), None, &addresses, &[], out)
            }
            Known::Names(names) => self.tell_records(query, name.as_ref(), None, &[], &names, out),
            Known::NoName => self.tell(query, Rcode::NXDOMAIN, out),
        }
    }

    /// From the cache or from servers; without a group from `mdns`.
    fn elsewhere(
        &mut self,
        now: Micros,
        (asked, mode): (&Asked<'_>, Mode),
        query: &Query<'_>,
        key: &KeyRef<'_>,
        group: Option<usize>,
        out: &mut Vec<u8>,
    ) -> Step {
        let stale = match self.lookup(now, key, mode) {
            Ok(hit) => {
                self.give(query, &hit, out);
                return if hit.refresh { self.refresh(asked.from, key) } else { Step::Answered };
            }
            Err(stale) => stale,
        };
        match (mode, group) {
            (Mode::Stale, _) => Step::Drop,
            (Mode::Reply, _) => self.tell(query, Rcode::SERVFAIL, out),
            (Mode::Ask, None) => Step::Mdns(key.to_key(), asked.search),
            (Mode::Ask, Some(group)) => {
                Step::Forward(Route { group, key: key.to_key(), stale, search: asked.search })
            }
        }
    }

    /// A plain name: the first of the search domains that has it counts.
    fn search(
        &mut self,
        now: Micros,
        (asked, mode): (&Asked<'_>, Mode),
        query: &Query<'_>,
        name: &Name,
        group: Option<usize>,
        out: &mut Vec<u8>,
    ) -> Step {
        let count = self.settings.search.len();
        let mut missing = Rcode::NXDOMAIN;
        for index in 0..count {
            let Some(target) = self.settings.search.get(index).and_then(|domain| name.join(domain)) else {
                continue;
            };
            let place = u8::try_from(index).unwrap_or(u8::MAX);
            match self.stand_in(now, (asked, mode), query, &target, place, out) {
                Stand::Done(step) => return step,
                Stand::Missing => {}
                // "No such name" would be one too many for who asks for both kinds of addresses.
                Stand::Nothing => missing = Rcode::NOERROR,
            }
        }
        let Some(group) = group else {
            return if mode == Mode::Stale { Step::Drop } else { self.tell(query, missing, out) };
        };
        let key = self.store.key(query.front(), name.as_wire());
        let last = u8::try_from(count).unwrap_or(u8::MAX).saturating_add(1);
        let mode = if mode == Mode::Reply && asked.search < last { Mode::Ask } else { mode };
        let asked = &Asked { search: last, ..*asked };
        // The answer to what was just asked is the latest one, whatever the mode is now.
        self.elsewhere(now, (asked, mode), query, &key, Some(group), out)
    }

    /// Answers with what `target` has, as an alias of it. `place` is that of the search domain; those below
    /// [`Asked::search`] were asked for.
    fn stand_in(
        &mut self,
        now: Micros,
        (asked, mode): (&Asked<'_>, Mode),
        query: &Query<'_>,
        target: &Name,
        place: u8,
        out: &mut Vec<u8>,
    ) -> Stand {
        let Some((name, _)) = NameRef::read(query.question, 0) else { return Stand::Missing };
        let group = match self.local.look(&self.settings, asked.from, target, query.kind) {
            Known::Ask(group) => Some(group),
            Known::Mdns => None,
            Known::Addresses(addresses) => {
                return Stand::Done(self.tell_records(query, name, Some(target), &addresses, &[], out));
            }
            _ => return Stand::Missing,
        };
        let key = self.store.key(query.front(), target.as_wire());
        match self.lookup(now, &key, mode) {
            Ok(hit) if Rcode(hit.meta.code.into()) == Rcode::NXDOMAIN => Stand::Missing,
            Ok(hit) if group.is_none() && hit.meta.negative => Stand::Nothing,
            Ok(hit) if !hit.meta.is_answer() => {
                let start = query.begin(out);
                let saying = self.saying(&hit);
                query.finish(out, start, &Saying { counts: [0; 3], ..saying });
                Stand::Done(Step::Answered)
            }
            Ok(hit) => {
                self.give_as_alias(query, name, target, &hit, out);
                Stand::Done(if hit.refresh { self.refresh(asked.from, &key) } else { Step::Answered })
            }
            Err(_) if mode == Mode::Stale => Stand::Done(Step::Drop),
            // It was asked for, and the answer could not be kept: there was none.
            Err(_) if place < asked.search && group.is_none() => Stand::Nothing,
            Err(_) if place < asked.search => Stand::Missing,
            Err(stale) => {
                let (key, search) = (key.to_key(), place.saturating_add(1));
                Stand::Done(match group {
                    Some(group) => Step::Forward(Route { group, key, stale, search }),
                    None => Step::Mdns(key, search),
                })
            }
        }
    }

    /// What the cache has; an error tells whether an old answer is there.
    fn lookup(&mut self, now: Micros, key: &KeyRef<'_>, mode: Mode) -> Result<Hit, bool> {
        if mode == Mode::Reply && *key == self.latest.key[..] {
            return Ok(Hit { entry: None, meta: self.latest.meta, age: 0, stale: false, refresh: false });
        }
        let at = self.find(key).ok_or(false)?;
        let (meta, now) = (self.store.meta(at), seconds(now));
        let age = now.saturating_sub(meta.stored);
        let mut refresh = false;
        let stale = age >= meta.ttl;
        if !stale {
            refresh = meta.used > 0
                && meta.ttl >= LEAST_PREFETCH
                && age >= meta.ttl.saturating_sub(meta.ttl / 10)
                && meta.is_answer();
        } else if !meta.may_be_given(now, &self.settings.cache) {
            self.store.remove(at);
            return Err(false);
        } else if mode == Mode::Stale {
            // The next clients do not wait.
            if let Some(meta) = self.store.meta_mut(at) {
                (meta.failing, meta.retry) = (true, now.saturating_add(FAILURE_TTL));
            }
        } else if meta.failing {
            refresh = true;
        } else {
            return Err(true);
        }
        refresh &= mode == Mode::Ask && now >= meta.retry;
        if refresh && let Some(meta) = self.store.meta_mut(at) {
            meta.retry = now.saturating_add(FAILURE_TTL);
        }
        Ok(Hit { entry: Some(at), meta, age, stale, refresh })
    }

    fn refresh(&self, from: IpAddr, key: &KeyRef<'_>) -> Step {
        let key = key.to_key();
        match self.local.look(&self.settings, from, &key.name(), key.kind()) {
            Known::Ask(group) => Step::Refresh(Route { group, key, stale: false, search: 0 }),
            _ => Step::Answered,
        }
    }

    /// The response of a hit: its records, behind the client's own question. Their pointers fit, as the question is as
    /// long as the one that they were written behind.
    fn give(&mut self, query: &Query<'_>, hit: &Hit, out: &mut Vec<u8>) {
        let start = query.begin(out);
        self.copy_body(hit, out);
        query.finish(out, start, &self.saying(hit));
    }

    /// The response of a hit for another name, of which the asked one is an alias.
    fn give_as_alias(
        &mut self,
        query: &Query<'_>,
        name: NameRef<'_>,
        target: &Name,
        hit: &Hit,
        out: &mut Vec<u8>,
    ) {
        let mut whole = std::mem::take(&mut self.scratch);
        whole.clear();
        let mut saying = self.saying(hit);
        let mut writer = Writer::new(&mut whole, usize::MAX, 0, Flags::QR);
        writer.question(target.as_ref(), query.kind, query.class);
        self.copy_body(hit, &mut whole);
        minke_wire::dns::Header { counts: counts(saying.counts), ..minke_wire::dns::Header::default() }
            .put(&mut whole);
        let start = out.len();
        let mut writer = query.writer(out);
        writer.record(
            Section::Answer,
            (name, Kind::CNAME, Class::IN),
            LOCAL_TTL,
            &Data::Cname(target.as_ref()),
        );
        let mut whole_fits = true;
        if let Some(message) = Message::parse(&whole) {
            for record in message.answers() {
                whole_fits &= writer.copy(Section::Answer, &record, record.ttl);
            }
            for record in message.authorities() {
                whole_fits &= writer.copy(Section::Authority, &record, record.ttl);
            }
            for record in message.additionals() {
                writer.copy(Section::Additional, &record, record.ttl);
            }
        }
        saying.counts = [writer.count(1), writer.count(2), writer.count(3)];
        query.finish(out, start, &saying);
        if !whole_fits {
            // With the alias it is longer than a message may be. A part is no answer.
            out.truncate(start);
            query.error(Rcode::SERVFAIL, out);
        }
        if whole.capacity() <= super::LARGE {
            self.scratch = whole;
        }
    }

    fn copy_body(&mut self, hit: &Hit, out: &mut Vec<u8>) {
        let Some(at) = hit.entry else {
            out.extend_from_slice(self.latest.message.get(self.latest.records..).unwrap_or_default());
            return;
        };
        self.store.copy(at, out);
        self.store.touch(at, hit.meta.stored.saturating_add(hit.age));
        let counters = &mut self.counters;
        counters.hits = counters.hits.saturating_add(1);
        counters.negative_hits = counters.negative_hits.saturating_add(hit.meta.negative.into());
        counters.stale = counters.stale.saturating_add(hit.stale.into());
    }

    fn saying(&self, hit: &Hit) -> Saying {
        let code = Rcode(hit.meta.code.into());
        let reason = match hit.entry {
            None => self.latest.reason,
            Some(_) if hit.stale && code == Rcode::NXDOMAIN => reason::STALE_NXDOMAIN,
            Some(_) if hit.stale => reason::STALE,
            Some(_) if !hit.meta.is_answer() => reason::UNREACHABLE,
            Some(_) => reason::NONE,
        };
        Saying {
            code,
            counts: hit.meta.counts,
            own: false,
            authentic: hit.meta.authentic,
            age: hit.age,
            stale: hit.stale.then_some(STALE_TTL),
            reason,
        }
    }

    /// A response without records of our own.
    fn tell(&mut self, query: &Query<'_>, code: Rcode, out: &mut Vec<u8>) -> Step {
        self.count_local();
        let start = query.begin(out);
        query.finish(out, start, &Saying { code, own: code != Rcode::SERVFAIL, ..Saying::default() });
        Step::Answered
    }

    /// A response with what is known here, perhaps by an alias.
    fn tell_records(
        &mut self,
        query: &Query<'_>,
        name: NameRef<'_>,
        alias_of: Option<&Name>,
        addresses: &[IpAddr],
        names: &[Name],
        out: &mut Vec<u8>,
    ) -> Step {
        self.count_local();
        let start = out.len();
        let mut writer = query.writer(out);
        let mut put = |name: NameRef<'_>, data: &Data<'_>| {
            writer.record(Section::Answer, (name, query.kind, Class::IN), LOCAL_TTL, data);
        };
        let mut owner = name;
        if let Some(target) = alias_of {
            put(name, &Data::Cname(target.as_ref()));
            owner = target.as_ref();
        }
        for address in addresses {
            match address {
                IpAddr::V4(address) => put(owner, &Data::A(*address)),
                IpAddr::V6(address) => put(owner, &Data::Aaaa(*address)),
            }
        }
        for name in names {
            put(owner, &Data::Ptr(name.as_ref()));
        }
        let answers = writer.count(1);
        query.finish(out, start, &Saying { counts: [answers, 0, 0], own: true, ..Saying::default() });
        Step::Answered
    }

    fn count_local(&mut self) {
        self.counters.local = self.counters.local.saturating_add(1);
    }
}

impl Meta {
    /// It tells something about the name, not that servers failed.
    pub(super) fn is_answer(&self) -> bool {
        matches!(Rcode(self.code.into()), Rcode::NOERROR | Rcode::NXDOMAIN)
    }

    /// Whether it may be given when nobody has a newer one.
    pub(super) fn may_be_given(&self, now: u32, limits: &Cache) -> bool {
        let age = now.saturating_sub(self.stored);
        age < self.ttl || self.is_answer() && age.saturating_sub(self.ttl) < seconds(limits.stale)
    }
}

/// The counts of a whole message with one question.
fn counts([answers, authorities, additionals]: [u16; 3]) -> [u16; 4] {
    [1, answers, authorities, additionals]
}
