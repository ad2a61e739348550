//! Values: booleans, time spans, sizes, signals. systemd.syntax(7), systemd.time(7).

use std::time::Duration;

/// A time span that may be without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// This long.
    Limited(Duration),
    /// `infinity`.
    Infinite,
}

impl Span {
    /// The duration; `None` for one without end.
    pub fn limit(self) -> Option<Duration> {
        match self {
            Self::Limited(duration) => Some(duration),
            Self::Infinite => None,
        }
    }
}

/// Reads `1`, `yes`, `y`, `true`, `t`, `on` and their opposites.
pub fn boolean(value: &str) -> Option<bool> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "yes" | "y" | "true" | "t" | "on" => Some(true),
        "0" | "no" | "n" | "false" | "f" | "off" => Some(false),
        _ => None,
    }
}

/// Reads a time span: `20`, `5min 20s`, `500ms`, `infinity`. A number without a unit is in seconds.
pub fn time_span(value: &str) -> Option<Span> {
    if value == "infinity" {
        return Some(Span::Infinite);
    }
    let mut total = Duration::ZERO;
    let mut rest = value.trim_start();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, after) = rest.split_at_checked(end)?;
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let count: u64 = number.parse().ok()?;
        total = total.checked_add(unit_of_time(unit, count)?)?;
        rest = after.trim_start();
    }
    Some(Span::Limited(total))
}

fn unit_of_time(unit: &str, count: u64) -> Option<Duration> {
    let seconds = match unit {
        "us" | "usec" => return Some(Duration::from_micros(count)),
        "ms" | "msec" => return Some(Duration::from_millis(count)),
        "" | "s" | "sec" | "second" | "seconds" => 1,
        "m" | "min" | "minute" | "minutes" => 60,
        "h" | "hr" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 604_800,
        _ => return None,
    };
    count.checked_mul(seconds).map(Duration::from_secs)
}

/// Reads a count of bytes with `K`, `M`, `G` or `T` (powers of 1024); the inner `None` is `infinity`.
pub fn bytes(value: &str) -> Option<Option<u64>> {
    if value == "infinity" {
        return Some(None);
    }
    let shift = match value.chars().last()? {
        'K' => 10,
        'M' => 20,
        'G' => 30,
        'T' => 40,
        _ => return value.parse().ok().map(Some),
    };
    let digits = value.get(..value.len().checked_sub(1)?)?;
    digits.parse::<u64>().ok()?.checked_mul(1u64.checked_shl(shift)?).map(Some)
}

/// Signals by name, with Linux's numbers (signal(7); the same on x86 and ARM).
const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The number of a signal given as `SIGTERM`, `TERM`, `15` or `RTMIN+3`.
pub fn signal_number(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if let Some(offset) = name.strip_prefix("RTMIN+") {
        let offset: i32 = offset.parse().ok()?;
        return (0..=30).contains(&offset).then(|| offset.saturating_add(34));
    }
    SIGNALS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The name of a signal without `SIG`.
pub fn signal_name(number: i32) -> Option<&'static str> {
    SIGNALS.iter().find(|(_, known)| *known == number).map(|(name, _)| *name)
}
