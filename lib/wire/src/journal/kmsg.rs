//! Records of `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg):
//! `PRI,SEQUENCE,MICROSECONDS,FLAGS[,…];TEXT\n`, then lines ` KEY=value\n`; other bytes than printable ASCII
//! and UTF-8 are written as `\xHH`.

use super::decimal;
use super::syslog::take_tag;
use std::borrow::Cow;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kmsg<'a> {
    /// 0 for the kernel itself; others were written to `/dev/kmsg` by programs.
    pub facility: u8,
    /// 0 (emergency) to 7 (debug).
    pub priority: u8,
    /// The kernel's count of records; a jump means that records were lost.
    pub sequence: u64,
    /// Microseconds since boot, by the kernel's own clock.
    pub microseconds: u64,
    /// The program's name, for a record that a program wrote.
    pub identifier: Option<&'a [u8]>,
    /// The process id that the program claims.
    pub pid: Option<&'a [u8]>,
    /// The text.
    pub message: Cow<'a, [u8]>,
    tail: &'a [u8],
}

impl<'a> Kmsg<'a> {
    /// Takes a record apart; `None` if it is none.
    pub fn decode(record: &'a [u8]) -> Option<Self> {
        let semicolon = record.iter().position(|byte| *byte == b';')?;
        let (head, text) = record.split_at_checked(semicolon)?;
        let text = text.get(1..)?;
        let mut numbers = head.split(|byte| *byte == b',');
        let pri = decimal(numbers.next()?)?;
        let sequence = decimal(numbers.next()?)?;
        let microseconds = decimal(numbers.next()?)?;
        let facility = u8::try_from(pri >> 3).ok()?;
        let priority = u8::try_from(pri & 7).ok()?;
        let end = text.iter().position(|byte| *byte == b'\n').unwrap_or(text.len());
        let (line, tail) = text.split_at_checked(end)?;
        let (identifier, pid, message) = if facility == 0 { (None, None, line) } else { take_tag(line) };
        Some(Self {
            facility,
            priority,
            sequence,
            microseconds,
            identifier,
            pid,
            message: unescape(message),
            tail,
        })
    }

    /// The value of a line ` KEY=value` below the text, for instance `SUBSYSTEM` or `DEVICE`.
    pub fn property(&self, key: &str) -> Option<&'a [u8]> {
        self.tail
            .split(|byte| *byte == b'\n')
            .filter_map(|line| line.strip_prefix(b" ")?.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
            .next()
    }
}

/// Undoes `\xHH`.
fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        let escaped = match rest {
            [b'\\', b'x', high, low, after @ ..] => {
                hex(*high).zip(hex(*low)).map(|(high, low)| (high.wrapping_shl(4) | low, after))
            }
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, after));
        plain.push(byte);
        rest = after;
    }
    Cow::Owned(plain)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::super::mutator::mutate;
    use super::*;

    #[test]
    fn a_kernel_record_with_a_device() {
        let record =
            b"4,1234,98765432,-,caller=T1;usb 1-1: odd \\x5c \\x0a \\q\n SUBSYSTEM=usb\n DEVICE=c189:1\n";
        let kmsg = Kmsg::decode(record).unwrap();
        assert_eq!(
            (kmsg.facility, kmsg.priority, kmsg.sequence, kmsg.microseconds),
            (0, 4, 1234, 98_765_432)
        );
        assert_eq!(&*kmsg.message, b"usb 1-1: odd \\ \n \\q");
        assert_eq!(kmsg.identifier, None);
        assert_eq!(kmsg.property("SUBSYSTEM"), Some(&b"usb"[..]));
        assert_eq!(kmsg.property("DEVICE"), Some(&b"c189:1"[..]));
        assert_eq!(kmsg.property("DEV"), None);
    }

    #[test]
    fn a_record_that_a_program_wrote() {
        let kmsg = Kmsg::decode(b"30,5,7,-;init[1]: hello\n").unwrap();
        assert_eq!((kmsg.facility, kmsg.priority), (3, 6));
        assert_eq!((kmsg.identifier, kmsg.pid), (Some(&b"init"[..]), Some(&b"1"[..])));
        assert_eq!(&*kmsg.message, b"hello");
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for record in [&b""[..], b";", b"1,2;x", b"a,2,3;x", b"99999,1,1,-;x", b"6,1,1,-"] {
            assert_eq!(Kmsg::decode(record), None);
        }
    }

    #[test]
    fn no_damage_makes_the_decoder_panic() {
        let examples: [&[u8]; 2] =
            [b"4,1234,98765432,-;a\\x41\\n\n SUBSYSTEM=usb\n", b"30,5,7,-;init[1]: hi\n"];
        mutate(&examples, 50_000, |bytes| {
            if let Some(kmsg) = Kmsg::decode(bytes) {
                assert!(kmsg.message.len() <= bytes.len());
                let _ = kmsg.property("SUBSYSTEM");
            }
        });
    }
}
