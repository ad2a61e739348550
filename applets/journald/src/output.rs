//! How entries look: the output formats of journalctl(1).

use minke_control::journal::Entry;
use minke_wire::civil::Civil;
use minke_wire::journal::encode_field;
use minke_wire::json::Value;
use std::fmt::Write;

/// An output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `Nov 20 23:59:15 host program[pid]: message`
    Short,
    /// The same with another time.
    ShortIso,
    /// The same with microseconds.
    ShortPrecise,
    /// The same with weekday, year and zone.
    ShortFull,
    /// The same with seconds since boot.
    ShortMonotonic,
    /// The same with seconds since 1970.
    ShortUnix,
    /// The message alone.
    Cat,
    /// One JSON object a line.
    Json,
    /// The Journal Export Format.
    Export,
}

impl Format {
    /// The format of this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "short" => Self::Short,
            "short-iso" => Self::ShortIso,
            "short-precise" => Self::ShortPrecise,
            "short-full" => Self::ShortFull,
            "short-monotonic" => Self::ShortMonotonic,
            "short-unix" => Self::ShortUnix,
            "cat" => Self::Cat,
            "json" => Self::Json,
            "export" => Self::Export,
            _ => return None,
        })
    }

    /// Appends an entry. `all` shows every byte of a message.
    pub fn write(self, out: &mut Vec<u8>, entry: &Entry, all: bool) {
        match self {
            Self::Json => {
                out.extend_from_slice(entry.0.to_string().as_bytes());
                out.push(b'\n');
            }
            Self::Export => export(out, &entry.0),
            Self::Cat => {
                if let Some(message) = entry.field("MESSAGE") {
                    out.extend_from_slice(&message);
                    out.push(b'\n');
                }
            }
            _ => self.short(out, entry, all),
        }
    }

    fn short(self, out: &mut Vec<u8>, entry: &Entry, all: bool) {
        let Some(message) = entry.field("MESSAGE") else { return };
        let mut head = self.time(entry);
        let host = entry.text("_HOSTNAME").unwrap_or_default();
        let program = either(entry, "SYSLOG_IDENTIFIER", "_COMM").unwrap_or_else(|| "unknown".to_owned());
        let _ = write!(head, " {host} {program}");
        if let Some(pid) = either(entry, "_PID", "SYSLOG_PID") {
            let _ = write!(head, "[{pid}]");
        }
        head.push_str(": ");
        let message = if all { message.into_owned() } else { printable(&message) };
        write_lines(out, &head, &message);
    }

    fn time(self, entry: &Entry) -> String {
        let (micros, fraction) = (entry.realtime(), entry.realtime() % 1_000_000);
        let seconds = micros / 1_000_000;
        let civil = Civil::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX));
        // `2022-11-20 23:59:15`
        let text = civil.to_string();
        let (date, clock) = text.split_once(' ').unwrap_or_default();
        let (name, day) = (civil.month_name(), civil.day);
        match self {
            Self::ShortIso => format!("{date}T{clock}+0000"),
            Self::ShortPrecise => format!("{name} {day:02} {clock}.{fraction:06}"),
            Self::ShortFull => full_time(micros),
            Self::ShortUnix => format!("{seconds}.{fraction:06}"),
            Self::ShortMonotonic => {
                let micros = entry.monotonic();
                format!("[{:5}.{:06}]", micros / 1_000_000, micros % 1_000_000)
            }
            _ => format!("{name} {day:02} {clock}"),
        }
    }
}

/// The text of one field, or else of another.
fn either(entry: &Entry, one: &str, other: &str) -> Option<String> {
    entry.text(one).or_else(|| entry.text(other))
}

/// `Sun 2022-11-20 23:59:15 UTC`
pub fn full_time(micros: u64) -> String {
    let civil = Civil::from_unix(i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX));
    format!("{} {civil} UTC", civil.weekday_name())
}

/// Further lines of a message are indented below its beginning.
fn write_lines(out: &mut Vec<u8>, head: &str, message: &[u8]) {
    let message = message.strip_suffix(b"\n").unwrap_or(message);
    let indent = head.chars().count();
    for (index, line) in message.split(|byte| *byte == b'\n').enumerate() {
        if index == 0 {
            out.extend_from_slice(head.as_bytes());
        } else {
            out.resize(out.len().saturating_add(indent), b' ');
        }
        out.extend_from_slice(line);
        out.push(b'\n');
    }
}

/// The message without terminal sequences and with tabs as eight spaces; if other control characters or bytes
/// that are not UTF-8 remain, only its size.
fn printable(message: &[u8]) -> Vec<u8> {
    let blob = || format!("[{} blob data]", scaled(message.len())).into_bytes();
    let Ok(text) = std::str::from_utf8(message) else { return blob() };
    let plain = without_sequences(text);
    let odd = |char: char| char.is_control() && char != '\n';
    if plain.chars().any(odd) { blob() } else { plain.into_bytes() }
}

/// Takes out CSI sequences (ECMA-48 section 5.4) and operating system commands, which end with BEL or ST.
fn without_sequences(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        match (char, chars.peek()) {
            ('\t', _) => plain.push_str("        "),
            ('\u{1b}', Some('[')) => {
                chars.next();
                let _ = chars.find(|char| ('@'..='~').contains(char));
            }
            ('\u{1b}', Some(']')) => {
                let end = chars.find(|char| matches!(char, '\u{7}' | '\u{1b}'));
                if end == Some('\u{1b}') {
                    let _ = chars.next_if_eq(&'\\');
                }
            }
            _ => plain.push(char),
        }
    }
    plain
}

/// A number of bytes, as `512B`, or with one decimal in units of 1024, as `1.5K`.
fn scaled(bytes: usize) -> String {
    let mut unit = 1usize;
    let mut name = "";
    for next in ["K", "M", "G"] {
        if bytes / unit < 1024 {
            break;
        }
        unit = unit.saturating_mul(1024);
        name = next;
    }
    if unit == 1 {
        return format!("{bytes}B");
    }
    let tenths = (bytes % unit).saturating_mul(10) / unit;
    format!("{}.{tenths}{name}", bytes / unit)
}

/// Journal Export Format: the fields in the native protocol's two forms, then an empty line.
fn export(out: &mut Vec<u8>, entry: &Value) {
    let Some(object) = entry.as_object() else { return };
    for (name, value) in object {
        let several = value.as_array().filter(|values| !values.iter().all(Value::is_number));
        let one = std::slice::from_ref(value);
        for value in several.map_or(one, Vec::as_slice) {
            let single = Entry(minke_wire::json::json!({ "value": value }));
            if let Some(bytes) = single.field("value") {
                encode_field(out, name, &bytes);
            }
        }
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    fn entry(message: impl Into<Value>) -> Entry {
        let message: Value = message.into();
        Entry(json!({"__REALTIME_TIMESTAMP": "1668988755000007", "__MONOTONIC_TIMESTAMP": "12000034",
            "_HOSTNAME": "abc", "SYSLOG_IDENTIFIER": "prog", "_PID": "7", "MESSAGE": message}))
    }

    fn show(format: Format, entry: &Entry, all: bool) -> String {
        let mut out = Vec::new();
        format.write(&mut out, entry, all);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times() {
        let entry = entry("hello");
        let known = [
            ("short", "Nov 20 23:59:15 abc prog[7]: hello\n"),
            ("short-iso", "2022-11-20T23:59:15+0000 abc prog[7]: hello\n"),
            ("short-precise", "Nov 20 23:59:15.000007 abc prog[7]: hello\n"),
            ("short-full", "Sun 2022-11-20 23:59:15 UTC abc prog[7]: hello\n"),
            ("short-monotonic", "[   12.000034] abc prog[7]: hello\n"),
            ("short-unix", "1668988755.000007 abc prog[7]: hello\n"),
            ("cat", "hello\n"),
        ];
        for (name, line) in known {
            assert_eq!(show(Format::by_name(name).unwrap(), &entry, false), line);
        }
    }

    #[test]
    fn lines_tabs_colours_and_blobs() {
        let two = "Nov 20 23:59:15 abc prog[7]: one\n                             two\n";
        assert_eq!(show(Format::Short, &entry("one\ntwo\n"), false), two);
        let short = |message: Value, all| show(Format::Short, &entry(message), all).split_off(29);
        assert_eq!(short("".into(), false), "\n");
        assert_eq!(short("a\tb".into(), false), "a        b\n");
        assert_eq!(short("\u{1b}[31mred\u{1b}[0m \u{1b}]0;x\u{7}!".into(), false), "red !\n");
        assert_eq!(short("\u{1b}[31mred".into(), true), "\u{1b}[31mred\n");
        assert_eq!(short("bell\u{7}".into(), false), "[5B blob data]\n");
        assert_eq!(short(json!([255, 0]), false), "[2B blob data]\n");
        assert_eq!((scaled(1_023), scaled(1_536)), ("1023B".to_owned(), "1.5K".to_owned()));
    }

    #[test]
    fn programs_without_names() {
        let mut entry = entry("x");
        entry.0.as_object_mut().unwrap().remove("SYSLOG_IDENTIFIER");
        entry.0.as_object_mut().unwrap().remove("_PID");
        assert_eq!(show(Format::Short, &entry, false), "Nov 20 23:59:15 abc unknown: x\n");
        entry.0.as_object_mut().unwrap().remove("MESSAGE");
        assert_eq!(show(Format::Short, &entry, false) + &show(Format::Cat, &entry, false), "");
    }

    #[test]
    fn export_has_both_forms() {
        let entry = Entry(json!({"__CURSOR": "s=1", "MESSAGE": [104, 10, 105], "A": ["1", "2"]}));
        let expected = "__CURSOR=s=1\nMESSAGE\n\u{3}\0\0\0\0\0\0\0h\ni\nA=1\nA=2\n\n";
        assert_eq!(show(Format::Export, &entry, false), expected);
    }
}
