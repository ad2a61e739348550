//! DNS messages (RFC 1035 §4), also those of mDNS (RFC 6762 §18): [`Message`] reads, [`Writer`] writes; in [`lookup`] what
//! asks for addresses.

mod data;
mod header;
pub mod lookup;
mod message;
mod name;
mod numbers;
mod plain;
mod reverse;
#[cfg(test)]
mod tests;
mod writer;

pub use data::{Data, Soa, bitmap, texts, types};
pub use header::{Flags, Header};
pub use message::{Message, Opt, Question, Questions, Record, Records};
pub use name::{LONGEST, Labels, Name, NameRef, plain_length};
pub use numbers::{Class, Kind, Rcode};
pub use reverse::{reverse, reverse_zone};
pub use writer::{Section, Writer};

/// The port of servers, by UDP and TCP.
pub const PORT: u16 = 53;

/// Bytes of the fixed header.
const HEADER: usize = 12;

/// How a response fits a query (RFC 5452 §9.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It is no response, or to another query.
    Foreign,
    /// The question is the same but for the case of letters.
    Letters,
    /// The question is the same byte for byte.
    Exact,
    /// It has an error code and repeats no question, as some do who did not understand it.
    WithoutQuestion,
}

/// The transaction id; `None` for what is no message.
pub fn id(message: &[u8]) -> Option<u16> {
    Header::read(message).map(|header| header.id)
}

/// Replaces the transaction id.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
}

/// How `response` fits `query`, which is one of ours. Nothing behind the question is looked at.
pub fn fit(query: &[u8], response: &[u8]) -> Fit {
    let (Some(ours), Some(theirs)) = (Header::read(query), Header::read(response)) else {
        return Fit::Foreign;
    };
    if !theirs.flags.has(Flags::QR) || theirs.flags.opcode() != 0 || theirs.id != ours.id {
        return Fit::Foreign;
    }
    let [questions, ..] = theirs.counts;
    if questions == 0 && theirs.flags.rcode() != Rcode::NOERROR {
        return Fit::WithoutQuestion;
    }
    let (Some((name, rest)), Some((other, others)), 1) = (question(query), question(response), questions)
    else {
        return Fit::Foreign;
    };
    match rest == others && name.eq_ignore_ascii_case(other) {
        true if name == other => Fit::Exact,
        true => Fit::Letters,
        false => Fit::Foreign,
    }
}

/// Whether `response` answers `query`: a response with the same id and the same question, letter case in the
/// name aside. A response without a question is accepted only with an error code.
pub fn answers(query: &[u8], response: &[u8]) -> bool {
    fit(query, response) != Fit::Foreign
}

/// Whether the name of the first question has capitals.
pub fn has_capitals(message: &[u8]) -> bool {
    question(message).is_some_and(|(name, _)| name.iter().any(u8::is_ascii_uppercase))
}

/// The name of the first question, and its type and class. Names in a question are never compressed, as nothing stands
/// before them.
fn question(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = message.get(HEADER..)?;
    let (name, rest) = rest.split_at_checked(plain_length(rest)?)?;
    Some((name, rest.get(..4)?))
}
