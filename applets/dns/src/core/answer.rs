//! What of a server's response is believed, and what is remembered of it.

use super::key::Key;
use super::local::is_private as is_private_network;
use super::store::Meta;
use super::{Refusal, Taken};
use crate::config::Cache;
use minke_wire::dns::{
    self, Class, Data, Fit, Flags, Header, Kind, Message, NameRef, Question, Rcode, Record, Section, Writer,
};
use minke_wire::micros::Micros;
use std::net::IpAddr;

/// The most names of a chain of aliases.
const MOST_ALIASES: usize = 16;
/// Bytes of the header.
const HEADER: usize = super::query::HEADER;

/// Names that the answer may be about: what was asked for, and what that is an alias of.
struct Chain<'a> {
    names: [NameRef<'a>; MOST_ALIASES],
    count: usize,
}

/// What was made of a response: its records stand in the buffer that was given, behind header and question.
pub(super) struct Believed {
    pub(super) meta: Meta,
    pub(super) taken: Taken,
    /// How many records had nothing to do with the question.
    pub(super) unrelated: u32,
}

/// Whether `response` answers `sent`: our id, our question with our very letters (RFC 5452 §9.1).
pub(super) fn answers(sent: &[u8], response: &[u8]) -> Result<(), Refusal> {
    let fit = dns::fit(sent, response);
    let flags = Header::read(response).map_or(Flags::default(), |header| header.flags);
    let code = flags.rcode();
    match fit {
        Fit::Foreign => Err(Refusal::Foreign),
        Fit::Letters => Err(Refusal::Letters),
        Fit::Exact if flags.has(Flags::TC) => Err(Refusal::Truncated),
        Fit::Exact if matches!(code, Rcode::NOERROR | Rcode::NXDOMAIN) => Ok(()),
        Fit::Exact | Fit::WithoutQuestion => Err(failure(code, sent, response)),
    }
}

/// What a response with an error code means.
fn failure(code: Rcode, sent: &[u8], response: &[u8]) -> Refusal {
    let had_opt = Header::read(sent).is_some_and(|header| header.counts != [1, 0, 0, 0]);
    let opt = Message::parse(response).and_then(|message| message.opt());
    // FORMERR and NOTIMP without OPT: a server from before 1999 (RFC 6891 §7); BADVERS has 0 here and 1 in OPT.
    let old = matches!(code, Rcode::FORMERR | Rcode::NOTIMP) && opt.is_none();
    if had_opt && old { Refusal::NoEdns } else { Refusal::Failed(code) }
}

fn question_length(message: &[u8]) -> Option<usize> {
    dns::plain_length(message.get(HEADER..)?)?.checked_add(4)
}

/// Writes what of `response` belongs to the question into `out`, behind header and question, and tells how long it may
/// be kept. `private_ok` lets private addresses through.
pub(super) fn believe(
    now: Micros,
    key: &Key,
    response: &[u8],
    limits: &Cache,
    private_ok: bool,
    out: &mut Vec<u8>,
) -> Result<Believed, Refusal> {
    let message = Message::parse(response).ok_or(Refusal::Foreign)?;
    let question = message.question().ok_or(Refusal::Foreign)?;
    let code = message.rcode(message.opt().as_ref());
    if !matches!(code, Rcode::NOERROR | Rcode::NXDOMAIN) {
        return Err(Refusal::Failed(code));
    }
    let chain = Chain::of(&message, &question);
    let mut writer = Writer::new(out, usize::from(u16::MAX), 0, Flags::QR);
    writer.question(question.name, question.kind, question.class);
    let mut kept = Kept { limits, least: u32::MAX, unrelated: 0, lost: false };
    let (mut positive, mut private) = (false, false);
    for record in message.answers() {
        if !chain.wants(&record, &question, key) {
            kept.unrelated = kept.unrelated.saturating_add(1);
            continue;
        }
        positive |= record.name == chain.last()
            && (record.kind == question.kind || matches!(question.kind, Kind::ANY));
        private |= !private_ok && is_private(&record);
        kept.copy(&mut writer, Section::Answer, &record);
    }
    if private {
        // As dnsmasq does it: the name is there, but its addresses are not told.
        let start = HEADER.saturating_add(question_length(response).unwrap_or_default());
        out.truncate(start);
        let meta = Meta { stored: seconds(now), negative: true, ..Meta::default() };
        return Ok(Believed { meta, taken: Taken::Rebinding, unrelated: 0 });
    }
    let negative = !positive || code == Rcode::NXDOMAIN;
    let mut denied = None;
    let mut referral = false;
    for record in message.authorities() {
        referral |= record.kind == Kind::NS;
        let above = chain.last().is_within(record.name);
        let proof = key.dnssec_ok()
            && matches!(record.kind, Kind::NSEC | Kind::NSEC3 | Kind::RRSIG | Kind::DS | Kind::SIG);
        let wanted = match record.kind {
            Kind::SOA => negative && above,
            Kind::NS => !negative && above,
            _ => proof,
        };
        if !wanted || record.class.plain() != question.class {
            kept.unrelated = kept.unrelated.saturating_add(1);
            continue;
        }
        if let Some(Data::Soa(soa)) = record.data() {
            denied = Some(record.ttl.min(soa.minimum));
        }
        kept.copy(&mut writer, Section::Authority, &record);
    }
    if kept.lost {
        // Names that may not be compressed were, and written out they do not fit a message any more. A part is no answer.
        return Err(Refusal::Failed(Rcode::SERVFAIL));
    }
    if referral && negative && denied.is_none() && !message.header.flags.has(Flags::RA) {
        // It names others instead of asking them: no server for us.
        return Err(Refusal::Failed(Rcode::REFUSED));
    }
    let base = service_owner(question.name);
    for record in message.additionals() {
        let address = matches!(record.kind, Kind::A | Kind::AAAA);
        if address && record.class == question.class && record.name.is_within(base) {
            private |= !private_ok && is_private(&record);
            if !private {
                kept.copy(&mut writer, Section::Additional, &record);
            }
        } else if record.kind != Kind::OPT {
            kept.unrelated = kept.unrelated.saturating_add(1);
        }
    }
    let largest = if negative { limits.max_negative_ttl } else { limits.max_ttl };
    let ttl = match (negative, denied) {
        // Without SOA nobody says for how long (RFC 2308 §5).
        (true, None) => 0,
        (true, Some(denied)) => denied.min(kept.least),
        (false, _) => kept.least,
    };
    let counts = [writer.count(1), writer.count(2), writer.count(3)];
    let meta = Meta {
        stored: seconds(now),
        ttl: ttl.min(seconds(largest)),
        counts,
        code: code.0 as u8,
        authentic: message.header.flags.has(Flags::AD),
        negative,
        ..Meta::default()
    };
    Ok(Believed { meta, taken: Taken::Good, unrelated: kept.unrelated })
}

/// Whole seconds.
pub(super) fn seconds(time: Micros) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// What was taken over from a response so far.
struct Kept<'a> {
    limits: &'a Cache,
    /// The least time to live.
    least: u32,
    unrelated: u32,
    /// Some record had no room.
    lost: bool,
}

impl Kept<'_> {
    fn copy(&mut self, writer: &mut Writer<'_>, section: Section, record: &Record<'_>) {
        let (min, max) = (seconds(self.limits.min_ttl), seconds(self.limits.max_ttl));
        let ttl = record.ttl.max(min).min(max.max(min));
        self.least = self.least.min(ttl);
        self.lost |= !writer.copy(section, record, ttl);
    }
}

impl<'a> Chain<'a> {
    /// The names that the answers lead to from the question, in whatever order they stand.
    fn of(message: &Message<'a>, question: &Question<'a>) -> Self {
        let mut chain = Self { names: [question.name; MOST_ALIASES], count: 1 };
        if matches!(question.kind, Kind::CNAME | Kind::ANY) {
            return chain;
        }
        loop {
            let before = chain.count;
            for record in message.answers() {
                if record.kind == Kind::CNAME
                    && record.class == question.class
                    && record.name == chain.last()
                    && let Some(Data::Cname(target)) = record.data()
                    && !chain.has(target)
                {
                    chain.push(target);
                }
            }
            if chain.count == before || chain.count >= MOST_ALIASES {
                return chain;
            }
        }
    }

    fn push(&mut self, name: NameRef<'a>) {
        if let Some(place) = self.names.get_mut(self.count) {
            *place = name;
            self.count = self.count.saturating_add(1);
        }
    }

    fn names(&self) -> &[NameRef<'a>] {
        self.names.get(..self.count).unwrap_or_default()
    }

    fn last(&self) -> NameRef<'a> {
        let [first, ..] = self.names;
        self.names().last().copied().unwrap_or(first)
    }

    fn has(&self, name: NameRef<'a>) -> bool {
        self.names().contains(&name)
    }

    /// Whether a record of the answer has to do with the question.
    fn wants(&self, record: &Record<'a>, question: &Question<'_>, key: &Key) -> bool {
        if record.class != question.class && question.class != Class::ANY {
            return false;
        }
        let signature = matches!(record.kind, Kind::RRSIG | Kind::SIG) && key.dnssec_ok();
        let right = record.kind == question.kind
            || question.kind == Kind::ANY
            || record.kind == Kind::CNAME
            || signature;
        if right && self.has(record.name) {
            return true;
        }
        // DNAME stands above what it makes an alias of (RFC 6672), and so does its signature.
        (record.kind == Kind::DNAME || signature) && self.last_within(record.name)
    }

    fn last_within(&self, zone: NameRef<'_>) -> bool {
        self.names().iter().any(|name| name.is_within(zone))
    }
}

/// The domain that a service belongs to: the name without its first labels that begin with `_` (RFC 8552).
fn service_owner(name: NameRef<'_>) -> NameRef<'_> {
    let mut labels = name.labels();
    loop {
        let rest = labels.rest();
        match labels.next() {
            Some([b'_', ..]) => {}
            _ => return rest,
        }
    }
}

/// Whether the record has an address that means nothing outside of a network of somebody's own.
fn is_private(record: &Record<'_>) -> bool {
    match record.data() {
        Some(Data::A(address)) => private_address(address.into()),
        Some(Data::Aaaa(address)) => private_address(address.into()),
        _ => false,
    }
}

/// Private, loopback, link-local and unspecified addresses, also those of IPv4 in IPv6 (RFC 4291 §2.5.5.2).
fn private_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_private_network(false, address.to_bits(), 32, true),
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => private_address(mapped.into()),
            None => {
                let bits = address.to_bits();
                // The unspecified address and that of this host.
                bits <= 1 || is_private_network(true, (bits >> 96) as u32, 32, true)
            }
        },
    }
}
