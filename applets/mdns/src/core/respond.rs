//! Answering the questions of others (RFC 6762 §5, §6, §7).

use super::record::{Record, hash, name_hash, read};
use super::side::{MOST_REPLIES, Reply, Side};
use super::{Address, Mdns, NEVER, PORT, Packet, Time, after, count};
use minke_wire::dns::{Class, Flags, Kind, Message, NameRef, Question};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Questions of one packet that are looked at.
const MOST_QUESTIONS: usize = 128;
/// And of those that are not for us.
const MOST_OVERHEARD: usize = 32;
/// When others may answer as well, and when more known answers are announced: the least wait and what is added at
/// random (RFC 6762 §6, §7.2).
const SHARED_DELAY: (u32, u32) = (20, 100);
const TRUNCATED_DELAY: (u32, u32) = (400, 100);
/// A record is multicast at most once in this time, and when it defends a name against a probe (RFC 6762 §6).
const MULTICAST_PAUSE: u32 = 1000;
const DEFENCE_PAUSE: u32 = 250;

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
            count(&mut self.counters.refused, 1);
            return;
        }
        let [questions, _, authorities, _] = message.header.counts;
        let truncated = message.header.flags.has(Flags::TC);
        let mut asked = Vec::new();
        for question in message.questions() {
            if asked.len() < MOST_QUESTIONS {
                asked.push(question);
            }
        }
        if authorities > 0 {
            let mut theirs = Vec::new();
            read(message.authorities(), &mut theirs);
            self.break_ties(now, at, &theirs);
        } else if packet.to_group && !legacy && !truncated {
            self.overhear(now, at, packet.link, message, &asked);
        }
        let Some(side) = self.sides.get_mut(at) else { return };
        // More known answers of somebody who asked before.
        take_back(side, from, message);
        count(&mut self.counters.questions, questions.into());
        let mut picks = Vec::new();
        for question in &asked {
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
            self.answer_legacy(now, at, from, (message, &asked), &places);
            return;
        }
        let unique = picks.iter().all(|pick| side.own.get(pick.place).is_some_and(|own| own.record.unique));
        let probe = authorities > 0;
        let defence = probe && unique;
        let (least, spread) = match (defence, truncated, unique && questions == 1) {
            (true, ..) => (0, 0),
            (_, true, _) => TRUNCATED_DELAY,
            (.., true) => (0, 0),
            _ => SHARED_DELAY,
        };
        let due = after(now, self.random.delay(least, spread));
        // Also of what many have: python-zeroconf looks among the pointers of the type whether its name is free.
        let pause = if probe { DEFENCE_PAUSE } else { MULTICAST_PAUSE };
        let (mut places, asker) = (Vec::new(), address_hash(from.ip()));
        for Pick { place, unicast } in picks {
            let Some(own) = side.own.get_mut(place) else { continue };
            // What was not told to all for a quarter of its time is told to all (RFC 6762 §5.4).
            let fresh = own.told != 0 && after(own.told, own.record.ttl.saturating_mul(250)) > now;
            // Whose port 5353 has several owners may not get what is sent to him alone (§15.1); a name is at stake.
            let shout = probe && after(own.told, pause) <= now;
            if on_link && unicast && !shout && (fresh || !packet.to_group) {
                places.push(place);
                continue;
            }
            own.asker = if own.due == NEVER && !defence { asker } else { 0 };
            own.schedule(due, pause);
        }
        if !places.is_empty() && side.replies.len() < MOST_REPLIES && side.unicasts.take(now, 1) {
            side.replies.push(Reply { to: from, due, places });
        }
    }

    /// Remembers what others ask everybody: we need not ask it as well (RFC 6762 §7.3), and who does not answer may be
    /// gone (§10.5).
    fn overhear(&mut self, now: Time, at: usize, link: u32, message: &Message<'_>, asked: &[Question<'_>]) {
        let nothing_known = message.header.counts.get(1) == Some(&0);
        for question in asked.get(..MOST_OVERHEARD).unwrap_or(asked) {
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
        let Some(link) = self.links.iter().find(|other| other.index == link) else { return false };
        LINKED.iter().chain(&link.addresses).any(|address| is_within(ip, address))
    }
}

/// What no router forwards (RFC 3927, RFC 4291 §2.5.6).
static LINKED: [Address; 2] = [
    Address { ip: IpAddr::V4(Ipv4Addr::new(169, 254, 0, 0)), prefix: 16, published: false },
    Address { ip: IpAddr::V6(Ipv6Addr::new(0xFE80, 0, 0, 0, 0, 0, 0, 0)), prefix: 64, published: false },
];

impl Address {
    /// Whether every link has its subnet.
    pub(super) fn is_linked(&self) -> bool {
        LINKED.iter().any(|subnet| is_within(self.ip, subnet))
    }
}

fn is_within(ip: IpAddr, subnet: &Address) -> bool {
    let (one, start) = octets(ip);
    let (other, _) = octets(subnet.ip);
    let mut left = u32::from(subnet.prefix).saturating_add(start);
    for (one, other) in one.iter().zip(other) {
        if (one ^ other).leading_zeros() < left.min(8) {
            return false;
        }
        left = left.saturating_sub(8);
    }
    true
}

/// The bytes of an address, IPv4 in IPv6's form, and how many bits that form adds.
#[inline(never)]
fn octets(ip: IpAddr) -> ([u8; 16], u32) {
    match ip {
        IpAddr::V4(ip) => (ip.to_ipv6_mapped().octets(), 96),
        IpAddr::V6(ip) => (ip.octets(), 0),
    }
}

/// A number that stands for an address.
pub(super) fn address_hash(ip: IpAddr) -> u32 {
    hash(&octets(ip).0)
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
    let asker = address_hash(from.ip());
    for own in &mut side.own {
        if own.asker == asker && is_known(message, &own.record, 2) {
            own.rest();
        }
    }
    let own = &side.own;
    for reply in side.replies.iter_mut().filter(|reply| reply.to == from) {
        reply.places.retain(|place| own.get(*place).is_some_and(|own| !is_known(message, &own.record, 2)));
    }
    side.replies.retain(|reply| !reply.places.is_empty());
}
