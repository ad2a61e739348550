//! A client's query, and the response to it.

use super::Asked;
use super::key::{self, FRONT, UDP_SIZE};
use minke_wire::dns::{Class, Flags, Header, Kind, Message, NameRef, Opt, Rcode, Writer};

/// Bytes of the header.
pub(super) const HEADER: usize = 12;
/// What every client takes by UDP (RFC 1035 §4.2.1).
const LEAST: u16 = 512;
/// Bytes of OPT without options.
const OPT_SIZE: usize = 11;
/// The option "extended DNS error" (RFC 8914).
const EXTENDED_ERROR: u16 = 15;

/// Why a response is as it is (RFC 8914 §4); 0 says nothing.
pub(super) mod reason {
    pub(crate) const STALE: u16 = 3;
    pub(crate) const FILTERED: u16 = 17;
    pub(crate) const STALE_NXDOMAIN: u16 = 19;
    pub(crate) const UNREACHABLE: u16 = 22;
    pub(crate) const NONE: u16 = 0;
}

/// A client's query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a> {
    header: Header,
    /// The question as the client wrote it: name, type and class.
    pub(super) question: &'a [u8],
    /// The name in it, in wire form.
    pub(super) name: &'a [u8],
    pub(super) kind: Kind,
    pub(super) class: Class,
    opt: Option<Opt<'a>>,
    /// The longest response, in bytes.
    limit: usize,
}

/// What a response says of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saying {
    pub(super) code: Rcode,
    /// Records of each section.
    pub(super) counts: [u16; 3],
    /// We have authority: it is known here.
    pub(super) own: bool,
    pub(super) authentic: bool,
    /// Seconds that have gone since the records came.
    pub(super) age: u32,
    /// The records are old, and are given with this time to live.
    pub(super) stale: Option<u32>,
    pub(super) reason: u16,
}

impl Default for Saying {
    fn default() -> Self {
        Self {
            code: Rcode::NOERROR,
            counts: [0; 3],
            own: false,
            authentic: false,
            age: 0,
            stale: None,
            reason: reason::NONE,
        }
    }
}

impl<'a> Query<'a> {
    /// Reads a query. What cannot be asked here is answered with an error in `out`; what is no query is not.
    pub(super) fn read(asked: &Asked<'a>, out: &mut Vec<u8>) -> Option<Self> {
        let bytes = asked.query;
        let header = Header::read(bytes)?;
        if header.flags.has(Flags::QR) {
            return None;
        }
        let limit = usize::from(if asked.udp { LEAST } else { u16::MAX });
        let nothing =
            Self { header, question: &[], name: &[], kind: Kind(0), class: Class(0), opt: None, limit };
        if header.flags.opcode() != 0 {
            nothing.error(Rcode::NOTIMP, out);
            return None;
        }
        let message = Message::parse(bytes);
        let question = message.and_then(|message| message.question());
        let (Some(message), Some(question)) = (message, question) else {
            nothing.error(Rcode::FORMERR, out);
            return None;
        };
        let asked_for = bytes.get(HEADER..message.records_start()).unwrap_or_default();
        let mut query = Self {
            question: asked_for,
            name: asked_for.split_last_chunk::<4>().map(|(name, _)| name).unwrap_or_default(),
            kind: question.kind,
            class: question.class,
            opt: message.opt(),
            ..nothing
        };
        if asked.udp
            && let Some(opt) = &query.opt
        {
            query.limit = opt.size.clamp(LEAST, UDP_SIZE).into();
        }
        let code = if query.opt.is_some_and(|opt| opt.version > 0) {
            Rcode::BADVERS
        } else if query.kind == Kind::OPT {
            Rcode::FORMERR
        } else if matches!(query.kind, Kind::AXFR | Kind::IXFR) {
            // A transfer is a stream of messages between those who have the zone.
            Rcode::NOTIMP
        } else {
            return Some(query);
        };
        query.error(code, out);
        None
    }

    /// What stands before the name in the key of the question.
    pub(super) fn front(&self) -> [u8; FRONT] {
        key::front(self.kind, self.class, self.header.flags, self.dnssec_ok())
    }

    /// Whether the client wants DNSSEC records.
    pub(super) fn dnssec_ok(&self) -> bool {
        self.opt.is_some_and(|opt| opt.dnssec_ok)
    }

    /// Begins the response: header and question, as the client wrote it. The answer is where it begins.
    pub(super) fn begin(&self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        out.extend_from_slice(self.question);
        start
    }

    /// Begins the response with a writer, for what is made anew.
    pub(super) fn writer<'o>(&self, out: &'o mut Vec<u8>) -> Writer<'o> {
        let mut writer = Writer::new(out, usize::from(u16::MAX), self.header.id, Flags::QR);
        if let Some((name, _)) = NameRef::read(self.question, 0) {
            writer.question(name, self.kind, self.class);
        }
        writer
    }

    /// Ends the response that began at `start` and has its records: times to live, length, header, OPT.
    pub(super) fn finish(&self, out: &mut Vec<u8>, start: usize, saying: &Saying) {
        let explained = self.opt.is_some() && saying.reason != reason::NONE;
        let mut limit = self.limit;
        if self.opt.is_some() {
            limit = limit.saturating_sub(OPT_SIZE);
        }
        if explained {
            limit = limit.saturating_sub(6);
        }
        let message = out.get_mut(start..).unwrap_or_default();
        let records = HEADER.saturating_add(self.question.len());
        let (end, [answers, authorities, additionals], cut) = patch(message, records, limit, saying);
        out.truncate(start.saturating_add(end));
        let mut flags = Flags::QR.with(Flags::RA).with(self.header.flags.only(Flags::RD.with(Flags::CD)));
        if saying.own {
            flags = flags.with(Flags::AA);
        }
        // Who sets neither AD nor DO does not know what AD means (RFC 6840 §5.8).
        if saying.authentic && (self.header.flags.has(Flags::AD) || self.dnssec_ok()) {
            flags = flags.with(Flags::AD);
        }
        if cut {
            flags = flags.with(Flags::TC);
        }
        let additionals = additionals.saturating_add(u16::from(self.opt.is_some()));
        let header = Header {
            id: self.header.id,
            flags: flags.with_rcode(saying.code),
            counts: [u16::from(!self.question.is_empty()), answers, authorities, additionals],
        };
        header.put(out.get_mut(start..).unwrap_or_default());
        if self.opt.is_some() {
            let [high, low] = saying.reason.to_be_bytes();
            let [code_high, code_low] = EXTENDED_ERROR.to_be_bytes();
            let data = [code_high, code_low, 0, 2, high, low];
            let data = if explained { &data[..] } else { &[] };
            let upper_code = (saying.code.0 >> 4) as u8;
            Opt { size: UDP_SIZE, dnssec_ok: self.dnssec_ok(), upper_code, data, version: 0 }.write(out);
        }
    }

    /// The response without records.
    pub(super) fn error(&self, code: Rcode, out: &mut Vec<u8>) {
        let start = self.begin(out);
        self.finish(out, start, &Saying { code, ..Saying::default() });
    }
}

/// Sets the times to live and finds out how many records fit; the answer is where the last one ends, how many of each
/// section there are, and whether something that was asked for is missing.
fn patch(message: &mut [u8], records: usize, limit: usize, saying: &Saying) -> (usize, [u16; 3], bool) {
    let mut counts = [0u16; 3];
    let mut at = records;
    let [wanted_answers, ..] = saying.counts;
    for ((section, count), wanted) in counts.iter_mut().enumerate().zip(saying.counts) {
        while *count < wanted {
            let Some((ttl, next)) = record(message, at) else { return (at, counts, true) };
            if next > limit {
                // What is only useful besides may be missing (RFC 2181 §9), the SOA of what does not exist may not.
                let cut = section == 0 || section == 1 && wanted_answers == 0;
                return (at, counts, cut);
            }
            if let Some(place) = message.get_mut(ttl..).and_then(<[u8]>::first_chunk_mut::<4>) {
                let left = u32::from_be_bytes(*place).saturating_sub(saying.age);
                *place = saying.stale.unwrap_or(left).to_be_bytes();
            }
            at = next;
            *count = count.saturating_add(1);
        }
    }
    (at, counts, false)
}

/// Where the time to live of the record at a place stands, and where the next one begins.
fn record(message: &[u8], start: usize) -> Option<(usize, usize)> {
    let mut at = start;
    loop {
        let length = usize::from(*message.get(at)?);
        at = at.checked_add(1)?;
        match length {
            0 => break,
            1..=63 => at = at.checked_add(length)?,
            _ => {
                at = at.checked_add(1)?;
                break;
            }
        }
    }
    let ttl = at.checked_add(4)?;
    let length = *message.get(ttl.checked_add(4)?..)?.first_chunk()?;
    let next = ttl.checked_add(6)?.checked_add(u16::from_be_bytes(length).into())?;
    (next <= message.len()).then_some((ttl, next))
}
