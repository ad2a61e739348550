//! What the journal reads: the native datagrams, the header of the stream socket, lines of `/dev/log`, records
//! of `/dev/kmsg`; and the export format.

mod kmsg;
mod native;
mod stream;
mod syslog;

pub use kmsg::Kmsg;
pub use native::{Fields, Malformed, encode_field};
pub use stream::{Header, HeaderError, encode_header};
pub use syslog::{Syslog, facility_number, priority_number};

/// The longest field name, in bytes (systemd.journal-fields(7)).
pub const NAME_LIMIT: usize = 64;

/// The lowest urgency, `debug` (syslog(3)).
pub const DEBUG: u8 = 7;

/// Whether a client may set a field of this name: capitals, digits and underscores, with neither a digit nor
/// an underscore in front; names with an underscore in front are the journal's own (systemd.journal-fields(7)).
pub fn is_client_name(name: &[u8]) -> bool {
    name.len() <= NAME_LIMIT
        && name.first().is_some_and(u8::is_ascii_uppercase)
        && name.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
}

/// Takes the `<N>` off that sd-daemon(3) allows in front of a line: the priority 0 to 7, if there is one, and
/// the rest.
pub fn take_level(line: &[u8]) -> (Option<u8>, &[u8]) {
    match line {
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => (Some(digit.wrapping_sub(b'0')), rest),
        _ => (None, line),
    }
}

/// Reads `<N>` with facility and priority in one number (RFC 3164 section 4.1.1), at most three digits:
/// (facility, priority) and the rest.
fn take_pri(line: &[u8]) -> Option<((u8, u8), &[u8])> {
    let rest = line.strip_prefix(b"<")?;
    let end = rest.iter().take(4).position(|byte| *byte == b'>')?;
    let (digits, rest) = rest.split_at_checked(end)?;
    let number = decimal(digits)?;
    let facility = u8::try_from(number >> 3).ok().filter(|facility| *facility < 128)?;
    Some(((facility, u8::try_from(number & 7).ok()?), rest.get(1..)?))
}

/// A decimal number without sign; `None` for anything else or one that does not fit.
fn decimal(digits: &[u8]) -> Option<u64> {
    crate::number(digits, 10)
}

fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t' | b'\r' | b'\n' | 0] = bytes {
        bytes = rest;
    }
    bytes
}

/// Seeded noise for the tests of decoders.
#[cfg(test)]
pub(crate) mod mutator {
    pub struct Random(pub u64);

    impl Random {
        pub fn below(&mut self, limit: usize) -> usize {
            // xorshift64 (Marsaglia)
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % limit.max(1) as u64) as usize
        }
    }

    /// Calls `decode` with `rounds` damaged copies of each example.
    pub fn mutate(examples: &[&[u8]], rounds: usize, mut decode: impl FnMut(&[u8])) {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        for _ in 0..rounds {
            for example in examples {
                let mut bytes = example.to_vec();
                for _ in 0..=random.below(4) {
                    let at = random.below(bytes.len() + 1);
                    match random.below(5) {
                        0 => bytes.truncate(at),
                        1 => bytes.insert(at, random.below(256) as u8),
                        2 => bytes.insert(at, b"\n\0=<>[:;, "[random.below(10)]),
                        3 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
                        _ if at < bytes.len() => bytes[at] = [0, 0xff, 0x80][random.below(3)],
                        _ => {}
                    }
                }
                decode(&bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_client_may_set() {
        for name in ["MESSAGE", "A1_", "CONTAINER_ID_FULL"] {
            assert!(is_client_name(name.as_bytes()), "{name}");
        }
        for name in ["", "_PID", "1A", "message", "A B", "A=", &"A".repeat(65)] {
            assert!(!is_client_name(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_level_is_one_digit() {
        assert_eq!(take_level(b"<3>x"), (Some(3), &b"x"[..]));
        for line in [&b"<8>x"[..], b"<13>x", b"<>", b"3>", b""] {
            assert_eq!(take_level(line), (None, line));
        }
    }

    #[test]
    fn a_pri_has_at_most_three_digits() {
        assert_eq!(take_pri(b"<13>x"), Some(((1, 5), &b"x"[..])));
        assert_eq!(take_pri(b"<191>"), Some(((23, 7), &b""[..])));
        for line in [&b"<>x"[..], b"<1234>", b"<1a>", b"<13", b""] {
            assert_eq!(take_pri(line), None);
        }
    }
}
