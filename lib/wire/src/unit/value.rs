//! Values: booleans, time spans, sizes, signals. systemd.syntax(7), systemd.time(7).

use crate::text;
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
    span_micros(value).map(|micros| Span::Limited(Duration::from_micros(micros)))
}

/// Names of units of time, and their microseconds. A month is 30.44 days, a year 365.25.
const UNITS_OF_TIME: [(&str, u64); 9] = [
    ("us usec", 1),
    ("ms msec", 1_000),
    (" s sec secs second seconds", 1_000_000),
    ("m min mins minute minutes", 60_000_000),
    ("h hr hrs hour hours", 3_600_000_000),
    ("d day days", 86_400_000_000),
    ("w week weeks", 604_800_000_000),
    ("M month months", 2_629_800_000_000),
    ("y year years", 31_557_600_000_000),
];

/// Reads a time span that has an end, in microseconds.
pub fn span_micros(value: &str) -> Option<u64> {
    let mut total = 0u64;
    let mut rest = value.trim_ascii();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (count, after) = leading(rest, u8::is_ascii_digit);
        let (unit, after) = leading(after.trim_ascii_start(), u8::is_ascii_alphabetic);
        let (_, size) = UNITS_OF_TIME.iter().find(|(names, _)| names.split(' ').any(|name| name == unit))?;
        total = total.checked_add(text::in_base::<u64>(count, 10)?.checked_mul(*size)?)?;
        rest = after.trim_ascii_start();
    }
    Some(total)
}

/// The bytes at the beginning that belong together, and the rest.
fn leading(text: &str, belongs: fn(&u8) -> bool) -> (&str, &str) {
    let end = text.bytes().position(|byte| !belongs(&byte)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
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
        _ => return text::in_base(value, 10).map(Some),
    };
    let digits = value.get(..value.len().checked_sub(1)?)?;
    text::in_base::<u64>(digits, 10)?.checked_mul(1u64.checked_shl(shift)?).map(Some)
}

/// The names of the signals from 1 on, in Linux's order (signal(7); the same on x86 and ARM).
const SIGNALS: &str = "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP TSTP \
                       TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS";

/// The number of a signal given as `SIGTERM`, `TERM`, `15` or `RTMIN+3`.
pub fn signal_number(text: &str) -> Option<i32> {
    if let Some(number) = text::number(text) {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if let Some(offset) = name.strip_prefix("RTMIN+") {
        let offset: i32 = text::number(offset)?;
        return (0..=30).contains(&offset).then(|| offset.saturating_add(34));
    }
    let index = SIGNALS.split(' ').position(|known| known == name)?;
    i32::try_from(index).ok()?.checked_add(1)
}

/// The name of a signal without `SIG`.
pub fn signal_name(number: i32) -> Option<&'static str> {
    SIGNALS.split(' ').nth(usize::try_from(number.checked_sub(1)?).ok()?)
}
