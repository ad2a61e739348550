//! Asking for the addresses of a name: the query, and what its response says (RFC 1035 §4, RFC 3596).

use super::{Class, Data, Flags, Header, Kind, Message, Name, Rcode, Writer, answers};
use std::net::IpAddr;

/// Most addresses that are kept.
const MOST: usize = 16;

/// What a response says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name's addresses of the kind asked for; there may be none.
    Addresses(Vec<IpAddr>),
    /// There is no such name (NXDOMAIN).
    NoName,
    /// The server could not tell.
    Failed(Rcode),
    /// Ask again over TCP.
    Truncated,
}

/// The query for one kind of a name's addresses; `None` for what is no host name.
pub fn query(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let name = name.bytes().all(fits).then(|| Name::parse(name))?.filter(|name| !name.is_root())?;
    let mut message = Vec::new();
    Writer::new(&mut message, usize::MAX, id, Flags::RD).question(name.as_ref(), kind, Class::IN);
    Some(message)
}

/// What `response` says to `query`; `None` for what does not answer it: somebody else's, or broken.
pub fn answer(query: &[u8], response: &[u8]) -> Option<Answer> {
    if !answers(query, response) {
        return None;
    }
    let flags = Header::read(response)?.flags;
    if flags.has(Flags::TC) {
        return Some(Answer::Truncated);
    }
    match flags.rcode() {
        Rcode::NOERROR => addresses(response).map(Answer::Addresses),
        Rcode::NXDOMAIN => Some(Answer::NoName),
        code => Some(Answer::Failed(code)),
    }
}

/// The addresses of the name that was asked for, through its aliases. Records of other names are left out.
fn addresses(response: &[u8]) -> Option<Vec<IpAddr>> {
    let message = Message::parse(response)?;
    let question = message.question()?;
    let mut name = question.name;
    let mut found = Vec::new();
    // Servers send aliases in the order of the chain (RFC 1034 §4.3.1), so one walk is enough.
    for record in message.answers() {
        if record.class != Class::IN || record.name != name || found.len() >= MOST {
            continue;
        }
        match record.data()? {
            Data::Cname(target) => name = target,
            Data::A(address) if question.kind == Kind::A => found.push(address.into()),
            Data::Aaaa(address) if question.kind == Kind::AAAA => found.push(address.into()),
            _ => {}
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `www.example.com` is an alias of `web.example.com`, which has two addresses; a third is another name's.
    fn response(query: &[u8]) -> Vec<u8> {
        let mut message = query.to_vec();
        message[2] |= 0x80;
        message[7] = 4;
        message.extend_from_slice(b"\xC0\x0C\0\x05\0\x01\0\0\0\x05\0\x06\x03web\xC0\x10");
        for (name, last) in [(&b"\x03WEB\xC0\x10"[..], 1), (b"\x05other\xC0\x10", 9), (b"\xC0\x2D", 2)] {
            message.extend_from_slice(name);
            message.extend_from_slice(b"\0\x01\0\x01\0\0\0\x05\0\x04\x0A\0\0");
            message.push(last);
        }
        message
    }

    #[test]
    fn a_query_and_its_response() {
        let asked = query(7, "www.example.com", Kind::A).unwrap();
        assert_eq!(asked[12..], *b"\x03www\x07example\x03com\0\0\x01\0\x01");
        assert!(Message::parse(&asked).is_some());
        let told = |last| IpAddr::from([10, 0, 0, last]);
        assert_eq!(answer(&asked, &response(&asked)), Some(Answer::Addresses(vec![told(1), told(2)])));
        let other = query(8, "www.example.com", Kind::A).unwrap();
        assert_eq!(answer(&asked, &response(&other)), None);
        let asked = query(7, "www.example.com.", Kind::AAAA).unwrap();
        assert_eq!(answer(&asked, &response(&asked)), Some(Answer::Addresses(Vec::new())));
    }

    #[test]
    fn codes_and_truncation() {
        let asked = query(7, "a.b", Kind::A).unwrap();
        let with = |flags: u8, code: u8| {
            let mut message = asked.clone();
            (message[2], message[3]) = (0x80 | flags, code);
            answer(&asked, &message)
        };
        assert_eq!(with(0, 3), Some(Answer::NoName));
        assert_eq!(with(0, 2), Some(Answer::Failed(Rcode::SERVFAIL)));
        assert_eq!(with(2, 0), Some(Answer::Truncated));
        assert_eq!(with(0, 0), Some(Answer::Addresses(Vec::new())));
    }

    #[test]
    fn what_is_no_name_is_not_asked_for() {
        let long = "a.".repeat(128);
        for name in ["", ".", "a..b", "a b", "ä", &"x".repeat(64), &long] {
            assert_eq!(query(1, name, Kind::A), None, "{name}");
        }
        assert!(query(1, &"a.".repeat(127), Kind::A).is_some());
    }

    #[test]
    fn no_input_makes_it_panic_or_loop() {
        let asked = query(7, "www.example.com", Kind::A).unwrap();
        let mut state = 11u64;
        let mut good = 0;
        for _ in 0..200_000 {
            let mut message = response(&asked);
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let length = message.len();
                message[(state >> 33) as usize % length] = (state >> 24) as u8;
            }
            if state & 1 == 0 {
                message.truncate((state >> 40) as usize % (message.len() + 1));
            }
            good += u32::from(matches!(answer(&asked, &message), Some(Answer::Addresses(_))));
        }
        assert!(good > 1000, "{good}");
    }
}
