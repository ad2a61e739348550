//! DNS messages (RFC 1035 §4), also those of mDNS (RFC 6762 §18): [`Message`] reads, [`Writer`] writes; in [`lookup`] what
//! asks for addresses.

mod data;
mod header;
pub mod lookup;
mod message;
mod name;
mod numbers;
#[cfg(test)]
mod tests;
mod writer;

pub use data::{Data, Soa, bitmap, texts, types};
pub use header::{Flags, Header};
pub use message::{Message, Opt, Question, Questions, Record, Records};
pub use name::{LONGEST, Labels, Name, NameRef, plain_length};
pub use numbers::{Class, Kind, Rcode};
pub use writer::{Section, Writer};

/// The port of servers, by UDP and TCP.
pub const PORT: u16 = 53;

/// Bytes of the fixed header.
const HEADER: usize = 12;
/// QR, bit 0 of the flags: set in responses.
const RESPONSE: u8 = 0x80;
/// OPCODE and RD, which a response repeats from its query.
const REPEATED: u8 = 0x79;
/// RA with RCODE 2, SERVFAIL.
const SERVFAIL: u8 = 0x82;

/// The transaction id; `None` for what is no message.
pub fn id(message: &[u8]) -> Option<u16> {
    is_message(message).then(|| message.first_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes)))?
}

/// Replaces the transaction id.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
}

/// Whether this is a query with exactly one question, the only kind that is used on the Internet (RFC 9619).
pub fn is_query(message: &[u8]) -> bool {
    is_message(message)
        && message.get(2).is_some_and(|flags| flags & RESPONSE == 0)
        && message.get(4..6) == Some(&[0, 1])
        && question(message).is_some()
}

/// Whether `response` answers `query`: a response with the same id and the same question, letter case in the
/// name aside. A response without a question is accepted only with an error code, as RFC 5452 §9.1 allows.
pub fn answers(query: &[u8], response: &[u8]) -> bool {
    if id(query) != id(response) || response.get(2).is_none_or(|flags| flags & RESPONSE == 0) {
        return false;
    }
    match (question(query), question(response)) {
        (Some(asked), Some(answered)) => asked.eq_ignore_ascii_case(answered),
        (Some(_), None) => response.get(3).is_some_and(|code| code & 0x0f != 0),
        _ => false,
    }
}

/// The response to `query` when no upstream could answer: SERVFAIL with the question repeated.
pub fn server_failure(query: &[u8]) -> Option<Vec<u8>> {
    let question = question(query)?;
    let mut response = vec![0; HEADER];
    set_id(&mut response, id(query)?);
    *response.get_mut(2)? = RESPONSE | query.get(2)? & REPEATED;
    *response.get_mut(3)? = SERVFAIL;
    *response.get_mut(5)? = 1;
    response.extend_from_slice(question);
    Some(response)
}

fn is_message(message: &[u8]) -> bool {
    message.len() >= HEADER
}

/// The question section of a message with one question: name, type and class. Names in a question are never
/// compressed, as nothing stands before them.
fn question(message: &[u8]) -> Option<&[u8]> {
    if message.get(4..6) != Some(&[0, 1]) {
        return None;
    }
    let rest = message.get(HEADER..)?;
    let mut length = 0usize;
    loop {
        let label = usize::from(*rest.get(length)?);
        length = length.checked_add(1)?;
        match label {
            0 => break,
            1..=63 => length = length.checked_add(label)?,
            _ => return None,
        }
    }
    (length <= 255).then(|| rest.get(..length.checked_add(4)?)).flatten()
}

#[cfg(test)]
mod query_tests {
    use super::*;

    fn query() -> Vec<u8> {
        let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(b"\x07example\x03com\x00\x00\x01\x00\x01");
        message
    }

    #[test]
    fn a_query_is_told_from_what_is_none() {
        assert!(is_query(&query()));
        assert!(!is_query(&query()[..20]));
        assert!(!is_query(b"hello"));
        let mut response = query();
        response[2] |= RESPONSE;
        assert!(!is_query(&response));
    }

    #[test]
    fn only_the_matching_response_answers() {
        let mut response = query();
        response[2] |= RESPONSE;
        response[13..20].make_ascii_uppercase();
        assert!(answers(&query(), &response));
        let mut other = response.clone();
        set_id(&mut other, 0x4321);
        assert!(!answers(&query(), &other));
        let mut other = response.clone();
        other[13] = b'X';
        assert!(!answers(&query(), &other));
        assert!(!answers(&query(), &query()));
    }

    #[test]
    fn the_failure_repeats_the_question() {
        let failure = server_failure(&query()).unwrap();
        assert!(answers(&query(), &failure));
        assert_eq!(failure[3] & 0x0f, 2);
        assert_eq!(failure.len(), query().len());
    }

    #[test]
    fn no_input_makes_it_panic() {
        let mut state = 7u64;
        for _ in 0..200_000 {
            let mut message = query();
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let length = message.len();
                message[(state >> 33) as usize % length] = (state >> 24) as u8;
            }
            message.truncate((state >> 40) as usize % (message.len() + 1));
            let _ = (is_query(&message), answers(&query(), &message), server_failure(&message));
        }
    }
}
