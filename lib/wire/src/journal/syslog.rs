//! Messages on `/dev/log`: RFC 3164 section 4.1 as syslog(3) of C libraries writes it, `<PRI>` then a time
//! without year (`Nov 20 23:59:15`), then `TAG[PID]: message`, with each part possibly missing.

use super::{take_pri, trim_end};

/// One message taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Syslog<'a> {
    /// The facility, 1 (user) if it is not said.
    pub facility: u8,
    /// 0 (emergency) to 7 (debug), 5 (notice) if it is not said.
    pub priority: u8,
    /// The time as written, if it is one.
    pub timestamp: Option<&'a [u8]>,
    /// The program's name.
    pub identifier: Option<&'a [u8]>,
    /// The process id that the program claims; digits.
    pub pid: Option<&'a [u8]>,
    /// The text, without white space at its end.
    pub message: &'a [u8],
}

impl<'a> Syslog<'a> {
    /// Takes a datagram apart. Everything can be read as a message.
    pub fn decode(datagram: &'a [u8]) -> Self {
        let line = trim_end(datagram);
        let ((facility, priority), rest) = take_pri(line).unwrap_or(((1, 5), line));
        let (timestamp, rest) = take_time(rest);
        let (identifier, pid, message) = take_tag(rest);
        Self { facility, priority, timestamp, identifier, pid, message }
    }
}

/// Takes `Mmm dd hh:mm:ss ` off.
fn take_time(line: &[u8]) -> (Option<&[u8]>, &[u8]) {
    const PATTERN: &[u8; 16] = b"Aaa d0 00:00:00 ";
    let Some((time, rest)) = line.split_at_checked(PATTERN.len()) else { return (None, line) };
    let fits = time.iter().zip(PATTERN).all(|(byte, pattern)| match pattern {
        b'A' => byte.is_ascii_uppercase(),
        b'a' => byte.is_ascii_lowercase(),
        b'0' => byte.is_ascii_digit(),
        b'd' => byte.is_ascii_digit() || *byte == b' ',
        other => byte == other,
    });
    if fits { (time.get(..15), rest) } else { (None, line) }
}

/// Takes `TAG: ` or `TAG[PID]: ` off: the tag is the first word, and it ends with a colon.
pub(super) fn take_tag(line: &[u8]) -> (Option<&[u8]>, Option<&[u8]>, &[u8]) {
    let start = line.iter().position(|byte| *byte != b' ').unwrap_or(0);
    let line = line.get(start..).unwrap_or_default();
    let none = (None, None, line);
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let Some((word, rest)) = line.split_at_checked(end) else { return none };
    let Some(word) = word.strip_suffix(b":").filter(|word| !word.is_empty()) else { return none };
    let message = rest.get(1..).unwrap_or_default();
    let bracket = word.iter().position(|byte| *byte == b'[');
    if let (Some(at), Some(inner)) = (bracket, word.strip_suffix(b"]")) {
        let pid = inner.get(at.saturating_add(1)..).unwrap_or_default();
        let tag = inner.get(..at).unwrap_or_default();
        if !pid.is_empty() && pid.iter().all(u8::is_ascii_digit) {
            return (Some(tag).filter(|tag| !tag.is_empty()), Some(pid), message);
        }
    }
    (Some(word), None, message)
}

const PRIORITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// The number of a priority given as name or digit (syslog(3), with the old names that logger(1) takes).
pub fn priority_number(name: &str) -> Option<u8> {
    let name = match name {
        "panic" => "emerg",
        "error" => "err",
        "warn" => "warning",
        other => other,
    };
    let number =
        PRIORITIES.iter().position(|known| *known == name).or_else(|| crate::text::in_base(name, 10))?;
    u8::try_from(number).ok().filter(|number| *number < 8)
}

const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "",
    "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

/// The number of a facility given as name or number (syslog(3)).
pub fn facility_number(name: &str) -> Option<u8> {
    let name = if name == "security" { "auth" } else { name };
    if name.is_empty() {
        return None;
    }
    let number =
        FACILITIES.iter().position(|known| *known == name).or_else(|| crate::text::in_base(name, 10))?;
    u8::try_from(number).ok().filter(|number| *number < 24)
}

#[cfg(test)]
mod tests {
    use super::super::mutator::mutate;
    use super::*;

    fn parts(line: &str) -> (u8, u8, bool, &str, &str, &str) {
        let syslog = Syslog::decode(line.as_bytes());
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let (tag, pid) = (syslog.identifier.map_or("-", text), syslog.pid.map_or("-", text));
        (syslog.facility, syslog.priority, syslog.timestamp.is_some(), tag, pid, text(syslog.message))
    }

    #[test]
    fn what_programs_really_send() {
        assert_eq!(parts("<13>Nov 20 23:59:15 root: hello"), (1, 5, true, "root", "-", "hello"));
        assert_eq!(parts("<30>Nov  2 03:59:15 sshd[77]: a: b\n"), (3, 6, true, "sshd", "77", "a: b"));
        assert_eq!(parts("<86>sudo[1]: x"), (10, 6, false, "sudo", "1", "x"));
        assert_eq!(parts("plain words"), (1, 5, false, "-", "-", "plain words"));
        assert_eq!(parts("<4>note: two"), (0, 4, false, "note", "-", "two"));
        assert_eq!(parts("<4>a[x]: two"), (0, 4, false, "a[x]", "-", "two"));
        assert_eq!(parts("<6>"), (0, 6, false, "-", "-", ""));
        assert_eq!(parts("<6>tag:"), (0, 6, false, "tag", "-", ""));
    }

    #[test]
    fn names_and_numbers() {
        assert_eq!(
            (priority_number("err"), priority_number("warn"), priority_number("7")),
            (Some(3), Some(4), Some(7))
        );
        assert_eq!((priority_number("8"), priority_number("loud")), (None, None));
        assert_eq!(
            (facility_number("local7"), facility_number("user"), facility_number("")),
            (Some(23), Some(1), None)
        );
    }

    #[test]
    fn no_damage_makes_the_decoder_panic() {
        let examples: [&[u8]; 3] =
            [b"<13>Nov 20 23:59:15 root[12]: hello", b"<191>Jan  1 00:00:00 a[1]:", b" [7]: x\n\0 "];
        mutate(&examples, 50_000, |bytes| {
            let syslog = Syslog::decode(bytes);
            assert!(syslog.priority < 8 && syslog.message.len() <= bytes.len());
        });
    }
}
