//! Asking for the addresses of a name: the query, and what its response says (RFC 1035 §4, RFC 3596).

use super::{HEADER, answers, question};
use std::net::IpAddr;

/// RD: the server asks others for us.
const RECURSION_DESIRED: u8 = 0x01;
/// TC: the response did not fit; ask again over TCP.
const TRUNCATED: u8 = 0x02;
const IN: [u8; 2] = [0, 1];
/// Most links of a chain of CNAME records, and most addresses that are kept.
const MOST: usize = 16;

/// A type of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 addresses.
    A = 1,
    /// IPv6 addresses.
    Aaaa = 28,
}

/// What a response says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The name's addresses of the kind asked for; there may be none.
    Addresses(Vec<IpAddr>),
    /// There is no such name (NXDOMAIN).
    NoName,
    /// The server could not tell; the number is its RCODE (RFC 1035 §4.1.1).
    Failed(u8),
    /// Ask again over TCP.
    Truncated,
}

/// The query for one kind of a name's addresses; `None` for what is no host name.
pub fn query(id: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut message = vec![0; HEADER];
    super::set_id(&mut message, id);
    *message.get_mut(2)? = RECURSION_DESIRED;
    *message.get_mut(5)? = 1;
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !label.bytes().all(fits) {
            return None;
        }
        message.push(length);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, kind as u8]);
    message.extend_from_slice(&IN);
    // 255 bytes is the longest name (RFC 1035 §2.3.4); `question` knows.
    question(&message)?;
    Some(message)
}

/// What `response` says to `query`; `None` for what does not answer it: somebody else's, or broken.
pub fn answer(query: &[u8], response: &[u8]) -> Option<Answer> {
    if !answers(query, response) {
        return None;
    }
    if response.get(2)? & TRUNCATED != 0 {
        return Some(Answer::Truncated);
    }
    match response.get(3)? & 0x0F {
        0 => addresses(query, response).map(Answer::Addresses),
        3 => Some(Answer::NoName),
        code => Some(Answer::Failed(code)),
    }
}

/// The addresses of the name that was asked for, through its aliases. Records of other names are left out.
fn addresses(query: &[u8], response: &[u8]) -> Option<Vec<IpAddr>> {
    let asked = question(query)?;
    let wanted = u16::from(*asked.get(asked.len().checked_sub(3)?)?);
    let count = u16::from_be_bytes(*response.get(6..)?.first_chunk()?);
    let mut name = name_at(response, HEADER)?.0;
    let mut found = Vec::new();
    let mut at = HEADER.checked_add(asked.len())?;
    // Servers send aliases in the order of the chain (RFC 1034 §4.3.1), so one walk is enough.
    for _ in 0..count {
        let (owner, rest) = name_at(response, at)?;
        let fields: [u8; 10] = *response.get(rest..)?.first_chunk()?;
        let [high, low, class @ .., long, short] = fields;
        let kind = u16::from_be_bytes([high, low]);
        let start = rest.checked_add(fields.len())?;
        let end = start.checked_add(u16::from_be_bytes([long, short]).into())?;
        let data = response.get(start..end)?;
        at = end;
        if class.get(..2) != Some(&IN) || !owner.eq_ignore_ascii_case(&name) || found.len() >= MOST {
            continue;
        }
        match kind {
            5 => name = name_at(response, start)?.0,
            1 if wanted == kind => found.push(IpAddr::from(*data.first_chunk::<4>()?)),
            28 if wanted == kind => found.push(IpAddr::from(*data.first_chunk::<16>()?)),
            _ => {}
        }
    }
    Some(found)
}

/// The name at a place, its labels with their lengths, and where what follows it begins. Compressed names point
/// backwards only (RFC 1035 §4.1.4), so every walk ends.
fn name_at(message: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let (mut at, mut after, mut bound) = (start, None, start);
    let mut name = Vec::new();
    loop {
        let length = *message.get(at)?;
        let next = at.checked_add(1)?;
        match length {
            0 => return Some((name, after.unwrap_or(next))),
            1..=63 => {
                let end = next.checked_add(length.into())?;
                name.extend_from_slice(message.get(at..end)?);
                at = end;
            }
            192.. => {
                let low = *message.get(next)?;
                after = after.or(next.checked_add(1));
                at = usize::from(u16::from_be_bytes([length & 0x3F, low]));
                if at >= bound {
                    return None;
                }
                bound = at;
            }
            _ => return None,
        }
        if name.len() > 254 {
            return None;
        }
    }
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
        assert!(super::super::is_query(&asked));
        let told = |last| IpAddr::from([10, 0, 0, last]);
        assert_eq!(answer(&asked, &response(&asked)), Some(Answer::Addresses(vec![told(1), told(2)])));
        let other = query(8, "www.example.com", Kind::A).unwrap();
        assert_eq!(answer(&asked, &response(&other)), None);
        let asked = query(7, "www.example.com.", Kind::Aaaa).unwrap();
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
        assert_eq!(with(0, 2), Some(Answer::Failed(2)));
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
