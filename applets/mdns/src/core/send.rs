//! Responses as packets: as few as possible, none longer than the link takes (RFC 6762 §6, §17, §18).

use super::record::{Record, hash};
use super::side::{LONGEST_PACKET, Own, Side};
use super::{Action, Mdns, Time, after, count};
use minke_wire::dns::{Class, Data, Flags, Kind, Message, Name, Question, Section, Writer};
use std::net::SocketAddr;

/// Flags of every response: its sender is the authority (RFC 6762 §18.4).
const RESPONSE: Flags = Flags(0x8400);
/// Own packets that are recognised when they come back.
const MOST_SENT: usize = 64;
/// Seconds that a resolver which knows nothing of multicast may keep what we tell (RFC 6762 §6.7).
const LEGACY_TTL: u32 = 10;
/// Bytes of a message that every resolver takes (RFC 1035 §4.2.1).
const LEGACY_LIMIT: usize = 512;

impl Mdns {
    /// Sends what is due on a side.
    pub(super) fn send_due(&mut self, now: Time, at: usize) {
        let Some(side) = self.sides.get_mut(at) else { return };
        let mut places = Vec::new();
        for (own, place) in side.own.iter_mut().zip(0..) {
            if own.due <= now {
                places.push(place);
            }
        }
        self.respond(now, at, &places, None);
        loop {
            let Some(side) = self.sides.get_mut(at) else { return };
            let Some(next) = side.replies.iter().position(|reply| reply.due <= now) else { return };
            let reply = side.replies.swap_remove(next);
            self.respond(now, at, &reply.places, Some(reply.to));
        }
    }

    /// Sends records to all, or to one.
    fn respond(&mut self, now: Time, at: usize, places: &[usize], to: Option<SocketAddr>) {
        let mut rest = places;
        while !rest.is_empty() {
            let Some(side) = self.sides.get_mut(at) else { return };
            let mut bytes = Vec::new();
            let mut packet = writer(&mut bytes, side.limit, RESPONSE);
            let mut told = Vec::new();
            let mut taken = 0usize;
            for place in rest {
                let Some(own) = side.own.get(*place) else { break };
                if !is_told(side, &told, &own.record)
                    && !put(&mut packet, Section::Answer, (&own.record, true), own.record.ttl)
                {
                    if taken > 0 {
                        break;
                    }
                    // Alone it may be longer than the link's packets.
                    packet.set_limit(LONGEST_PACKET.into());
                    let _ = put(&mut packet, Section::Answer, (&own.record, true), own.record.ttl);
                }
                told.push(*place);
                taken = taken.saturating_add(1);
            }
            let answers = told.len();
            for place in with_additional(side, &told).into_iter().skip(answers) {
                let Some(own) = side.own.get(place) else { break };
                let lately = after(own.told, 1000) > now;
                if (to.is_some() || !lately)
                    && !is_told(side, &told, &own.record)
                    && put(&mut packet, Section::Additional, (&own.record, true), own.record.ttl)
                {
                    told.push(place);
                }
            }
            count(&mut self.counters.answers, answers);
            rest = rest.get(taken.max(1)..).unwrap_or_default();
            let (link, v6) = (side.link, side.v6);
            let mut flushing = Vec::new();
            if to.is_none() {
                for place in &told {
                    if let Some(own) = side.own.get_mut(*place) {
                        own.told = now;
                        own.rest();
                        flushing.push(own.record.clone());
                    }
                }
            }
            let to = to.unwrap_or_else(|| side.everybody());
            self.send(at, to, bytes);
            for other in self.neighbours(link) {
                self.outlive(now, other, Some(v6), &flushing);
            }
        }
    }

    /// Answers a resolver that knows nothing of multicast: as a server would (RFC 6762 §6.7).
    pub(super) fn answer_legacy(
        &mut self,
        now: Time,
        at: usize,
        to: SocketAddr,
        (message, asked): (&Message<'_>, &[Question<'_>]),
        places: &[usize],
    ) {
        let Some(side) = self.sides.get_mut(at) else { return };
        if !side.unicasts.take(now, 1) {
            count(&mut self.counters.flooded, 1);
            return;
        }
        let size = message.opt().map_or(LEGACY_LIMIT, |opt| opt.size.into());
        let mut bytes = Vec::new();
        let limit = size.clamp(LEGACY_LIMIT, side.limit.max(LEGACY_LIMIT));
        let mut packet = writer(&mut bytes, limit, RESPONSE);
        for question in asked {
            packet.question(question.name, question.kind, question.class.plain());
        }
        let mut told = Vec::new();
        for (place, number) in with_additional(side, places).into_iter().zip(0..) {
            let Some(own) = side.own.get(place).filter(|own| !is_told(side, &told, &own.record)) else {
                continue;
            };
            told.push(place);
            let answer = number < places.len();
            let section = if answer { Section::Answer } else { Section::Additional };
            // The bit that flushes caches means nothing to it, and would make the class another.
            let fits = put(&mut packet, section, (&own.record, false), own.record.ttl.min(LEGACY_TTL));
            if answer && !fits {
                packet.set(Flags::TC);
            }
        }
        count(&mut self.counters.answers, places.len());
        minke_wire::dns::set_id(&mut bytes, message.header.id);
        self.send(at, to, bytes);
    }

    /// Says that records are gone (RFC 6762 §10.1). The bit that flushes caches is not set: others may have records of
    /// this name.
    pub(super) fn farewell(&mut self, at: usize, gone: &[Record]) {
        let mut rest = gone;
        while !rest.is_empty() {
            let Some(side) = self.sides.get(at) else { return };
            let mut bytes = Vec::new();
            let mut packet = writer(&mut bytes, side.limit, RESPONSE);
            let mut taken = 0usize;
            for record in rest {
                if !put(&mut packet, Section::Answer, (record, false), 0) {
                    if taken > 0 {
                        break;
                    }
                    packet.set_limit(LONGEST_PACKET.into());
                    let _ = put(&mut packet, Section::Answer, (record, false), 0);
                }
                taken = taken.saturating_add(1);
            }
            rest = rest.get(taken..).unwrap_or_default();
            let to = side.everybody();
            self.send(at, to, bytes);
        }
    }

    /// Sends a packet, which is known again when it comes back.
    pub(super) fn send(&mut self, at: usize, to: SocketAddr, bytes: Vec<u8>) {
        let Some(side) = self.sides.get(at) else { return };
        if self.sent.len() >= MOST_SENT {
            self.sent.remove(0);
        }
        self.sent.push(hash(&bytes));
        count(&mut self.counters.packets_out, 1);
        self.actions.push(Action::Send { link: side.link, to, bytes });
    }
}

/// A message, which begins with the id 0.
#[inline(never)]
pub(super) fn writer(bytes: &mut Vec<u8>, limit: usize, flags: Flags) -> Writer<'_> {
    Writer::new(bytes, limit, 0, flags).compressing_all()
}

/// Adds a record, with the bit that flushes caches when it is to be `told` and is unique; `false` when it does not fit.
#[inline(never)]
pub(super) fn put(
    writer: &mut Writer<'_>,
    section: Section,
    (record, told): (&Record, bool),
    ttl: u32,
) -> bool {
    let class = if record.unique && told { Class::IN.with_top() } else { Class::IN };
    let front = (record.name.as_ref(), record.kind, class);
    // What was read or made here can be read again; what could not is left out.
    Data::of(record.kind, &record.data).is_none_or(|data| writer.record(section, front, ttl, &data))
}

/// Whether the records at these places say this already: two services of one type have one pointer from the list of
/// types.
fn is_told(side: &Side, told: &[usize], record: &Record) -> bool {
    told.iter().any(|place| side.own.get(*place).is_some_and(|own| own.record.says(record)))
}

/// These records, and behind them what who gets them will ask for next (RFC 6762 §6.2, RFC 6763 §12).
fn with_additional(side: &Side, answers: &[usize]) -> Vec<usize> {
    let mut all = answers.to_vec();
    let mut next = 0;
    while let Some(answer) = all.get(next).and_then(|place| side.own.get(*place)) {
        next = next.saturating_add(1);
        let record = &answer.record;
        let skip = match record.kind {
            Kind::PTR if !record.unique => 0,
            Kind::SRV => 6,
            Kind::A | Kind::AAAA => {
                add(side, &record.name, &[Kind::A, Kind::AAAA], &mut all);
                continue;
            }
            _ => continue,
        };
        let Some(target) = record.data.get(skip..).and_then(Name::from_wire) else { continue };
        let kinds: &[Kind] = if skip == 0 { &[Kind::SRV, Kind::TXT] } else { &[Kind::A, Kind::AAAA] };
        add(side, &target, kinds, &mut all);
    }
    all
}

/// Adds the places of a name's records of these types; of the one that denies, when a type is missing.
fn add(side: &Side, name: &Name, kinds: &[Kind], all: &mut Vec<usize>) {
    let has = |kind: &Kind| side.own.iter().any(|own| own.record.kind == *kind && own.record.name == *name);
    let missing = !kinds.iter().all(has);
    for (Own { record, group, .. }, place) in side.own.iter().zip(0..) {
        let wanted = kinds.contains(&record.kind) || (missing && record.kind == Kind::NSEC);
        if wanted && record.name == *name && !all.contains(&place) && side.is_live(*group) {
            all.push(place);
        }
    }
}
