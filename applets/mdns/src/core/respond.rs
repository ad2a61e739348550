//! Answering the questions of others (RFC 6762 §5, §6, §7).

use super::record::{Record, name_hash};
use super::side::{MOST_REPLIES, Reply, Side};
use super::{Mdns, PORT, Packet, Time};
use minke_wire::dns::{Class, Flags, Kind, Message, NameRef};
use std::net::{IpAddr, SocketAddr};

/// Questions of one packet that are looked at.
const MOST_QUESTIONS: usize = 128;
/// And of those that are not for us.
const MOST_OVERHEARD: usize = 32;
/// When others may answer as well, and when more known answers are announced: the least wait and what is added at
/// random (RFC 6762 §6, §7.2).
const SHARED_DELAY: (Time, Time) = (20, 100);
const TRUNCATED_DELAY: (Time, Time) = (400, 100);
/// A record is multicast at most once in this time, and when it defends a name against a probe (RFC 6762 §6).
const MULTICAST_PAUSE: Time = 1000;
const DEFENCE_PAUSE: Time = 250;

/// A record that is an answer.
struct Pick {
    place: usize,
    /// The asker wants it for himself.
    unicast: bool,
}

impl Mdns {
    /// A query came.
    pub(super) fn query(&mut self, now: Time, at: usize, packet: &Packet<'_>, message: &Message<'_>) {
        let from = packet.from;
        let legacy = from.port() != PORT;
        let on_link = self.is_on_link(packet.link, from.ip());
        if !on_link && (legacy || !packet.to_group) {
            self.counters.refused = self.counters.refused.saturating_add(1);
            return;
        }
        let [questions, _, authorities, _] = message.header.counts;
        let truncated = message.header.flags.has(Flags::TC);
        if authorities > 0 {
            let mut theirs = Vec::new();
            for record in message.authorities().take(MOST_QUESTIONS) {
                theirs.extend(Record::of(&record));
            }
            self.break_ties(now, at, &theirs);
        } else if packet.to_group && !legacy && !truncated {
            self.overhear(now, at, packet.link, message);
        }
        let Some(side) = self.sides.get_mut(at) else { return };
        // More known answers of somebody who asked before.
        take_back(side, from, message);
        self.counters.questions = self.counters.questions.saturating_add(questions.into());
        let mut picks = Vec::new();
        for question in message.questions().take(MOST_QUESTIONS) {
            let class = question.class.plain();
            if class == Class::IN || class == Class::ANY {
                let unicast = question.class.unicast_response() || !packet.to_group;
                pick(side, question.name, question.kind, unicast, &mut picks);
            }
        }
        let Some(side) = self.sides.get_mut(at) else { return };
        picks.retain(|pick| side.own.get(pick.place).is_some_and(|own| !is_known(message, &own.record, 2)));
        if picks.is_empty() {
            return;
        }
        if legacy {
            let mut places = Vec::new();
            picks.iter().for_each(|pick| places.push(pick.place));
            self.answer_legacy(now, at, from, message, &places);
            return;
        }
        let unique = picks.iter().all(|pick| side.own.get(pick.place).is_some_and(|own| own.record.unique));
        let defence = authorities > 0 && unique;
        let (least, spread) = match (defence, truncated, unique && questions == 1) {
            (true, ..) => (0, 0),
            (_, true, _) => TRUNCATED_DELAY,
            (.., true) => (0, 0),
            _ => SHARED_DELAY,
        };
        let due = now.saturating_add(self.random.delay(least, spread));
        let pause = if defence { DEFENCE_PAUSE } else { MULTICAST_PAUSE };
        let mut places = Vec::new();
        for Pick { place, unicast } in picks {
            let Some(own) = side.own.get_mut(place) else { continue };
            // What was not told to all for a quarter of its time is told to all (RFC 6762 §5.4).
            let quarter = Time::from(own.record.ttl).saturating_mul(250);
            let fresh = own.told.is_some_and(|told| told.saturating_add(quarter) > now);
            // Whose port 5353 has several owners may not get what is sent to him alone (§15.1); a name is at stake.
            let shout = defence && own.told.is_none_or(|told| told.saturating_add(pause) <= now);
            if on_link && unicast && !shout && (fresh || !packet.to_group) {
                places.push(place);
                continue;
            }
            let soonest = own.told.map_or(due, |told| due.max(told.saturating_add(pause)));
            own.asker = if own.due.is_none() && !defence { Some(from.ip()) } else { None };
            own.due = Some(own.due.map_or(soonest, |due| due.min(soonest)));
        }
        if !places.is_empty() && side.replies.len() < MOST_REPLIES && side.unicasts.take(now) {
            side.replies.push(Reply { to: from, due, places });
        }
    }

    /// Remembers what others ask everybody: we need not ask it as well (RFC 6762 §7.3), and who does not answer may be
    /// gone (§10.5).
    fn overhear(&mut self, now: Time, at: usize, link: u32, message: &Message<'_>) {
        let nothing_known = message.header.counts.get(1) == Some(&0);
        for question in message.questions().take(MOST_OVERHEARD) {
            if question.class.unicast_response() {
                continue;
            }
            if nothing_known && let Some(side) = self.sides.get_mut(at) {
                side.heard(now, name_hash(question.name, question.kind));
            }
            self.cache
                .unanswered(now, link, question.name, question.kind, |record| is_known(message, record, 0));
        }
    }

    /// Whether an address lies in a subnet of the link (RFC 6762 §11).
    pub(super) fn is_on_link(&self, link: u32, ip: IpAddr) -> bool {
        let linked = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let Some(link) = self.links.iter().find(|other| other.index == link) else { return false };
        linked || link.addresses.iter().any(|address| same_subnet(address.ip, ip, address.prefix))
    }
}

fn same_subnet(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let differing = bits(one) ^ bits(other);
    one.is_ipv4() == other.is_ipv4() && differing.leading_zeros() >= prefix.into()
}

/// Adds the records that answer a question, or the one that says that there are none (RFC 6762 §6.1).
fn pick(side: &Side, name: NameRef<'_>, kind: Kind, unicast: bool, picks: &mut Vec<Pick>) {
    let (mut denial, mut found) = (None, false);
    let hash = name_hash(name, Kind(0));
    for (own, place) in side.own.iter().zip(0..) {
        if own.hash != hash || name != own.record.name || !side.is_live(own.group) {
            continue;
        }
        let answers = own.record.answers(name, kind);
        if own.record.kind == Kind::NSEC {
            denial = Some(place);
        }
        found |= answers;
        if answers && !picks.iter().any(|pick| pick.place == place) {
            picks.push(Pick { place, unicast });
        }
    }
    if let Some(place) = denial
        && !found
        && !picks.iter().any(|pick| pick.place == place)
    {
        picks.push(Pick { place, unicast });
    }
}

/// Whether the asker knows a record, with at least this part of its time left (RFC 6762 §7.1).
fn is_known(message: &Message<'_>, record: &Record, part: u32) -> bool {
    let least = record.ttl.checked_div(part).unwrap_or(0);
    for known in message.answers() {
        if known.kind == record.kind
            && known.ttl >= least
            && known.name == record.name
            && Record::of(&known).is_some_and(|known| known.says(record))
        {
            return true;
        }
    }
    false
}

/// Somebody whose question had more known answers than a packet takes sends the rest (RFC 6762 §7.2).
fn take_back(side: &mut Side, from: SocketAddr, message: &Message<'_>) {
    if message.header.counts.get(1) == Some(&0) {
        return;
    }
    for own in &mut side.own {
        if own.due.is_some() && own.asker == Some(from.ip()) && is_known(message, &own.record, 2) {
            own.due = None;
        }
    }
    let own = &side.own;
    for reply in side.replies.iter_mut().filter(|reply| reply.to == from) {
        reply.places.retain(|place| own.get(*place).is_some_and(|own| !is_known(message, &own.record, 2)));
    }
    side.replies.retain(|reply| !reply.places.is_empty());
}
