//! Times on the command line (systemd.time(7)), in UTC, in microseconds since 1970.

use minke_wire::civil::Civil;
use minke_wire::unit::span_micros;

const SECOND: u64 = 1_000_000;
const DAY: u64 = 86_400 * SECOND;

/// Reads a time: `now`, `today`, `yesterday`, `tomorrow`, `-5min`, `+1h 30min`, `5min ago`, `@SECONDS[.FRACTION]`,
/// `YYYY-MM-DD`, `HH:MM[:SS]` of today, or both with a space or `T` between and perhaps `UTC` or `Z` behind.
pub fn parse(text: &str, now: u64) -> Option<u64> {
    let text = text.trim();
    let midnight = now.saturating_sub(now.checked_rem(DAY)?);
    match text {
        "now" => return Some(now),
        "today" => return Some(midnight),
        "yesterday" => return midnight.checked_sub(DAY),
        "tomorrow" => return midnight.checked_add(DAY),
        _ => {}
    }
    if let Some(rest) = text.strip_prefix('-') {
        return Some(now.saturating_sub(span_micros(rest)?));
    }
    if let Some(rest) = text.strip_prefix('+') {
        return now.checked_add(span_micros(rest)?);
    }
    if let Some(rest) = text.strip_prefix('@') {
        return seconds(rest);
    }
    if let Some(rest) = text.strip_suffix("ago") {
        return Some(now.saturating_sub(span_micros(rest)?));
    }
    calendar(text, midnight)
}

fn calendar(text: &str, midnight: u64) -> Option<u64> {
    let text = text.strip_suffix("UTC").or_else(|| text.strip_suffix('Z')).unwrap_or(text).trim_end();
    let (date, clock) = match text.split_once([' ', 'T']) {
        Some((date, clock)) => (Some(date), Some(clock.trim_start())),
        None if text.contains(':') => (None, Some(text)),
        None => (Some(text), None),
    };
    let day = match date {
        Some(date) => date_of(date)?,
        None => midnight,
    };
    day.checked_add(clock.map_or(Some(0), time_of_day)?)
}

fn date_of(text: &str) -> Option<u64> {
    let mut parts = text.split('-');
    let year = number(parts.next()?, 4)?.try_into().ok()?;
    let month = number(parts.next()?, 2)?.try_into().ok()?;
    let day = number(parts.next()?, 2)?.try_into().ok()?;
    if parts.next().is_some() {
        return None;
    }
    let civil = Civil { year, month, day, hour: 0, minute: 0, second: 0 };
    u64::try_from(civil.to_unix()?).ok()?.checked_mul(SECOND)
}

fn time_of_day(text: &str) -> Option<u64> {
    let mut parts = text.split(':');
    let hour = number(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = number(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let rest = match parts.next() {
        Some(text) => seconds(text).filter(|rest| *rest < 60 * SECOND)?,
        None => 0,
    };
    if parts.next().is_some() {
        return None;
    }
    hour.checked_mul(60)?.checked_add(minute)?.checked_mul(60 * SECOND)?.checked_add(rest)
}

/// `SECONDS[.FRACTION]` as microseconds.
fn seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut scale = SECOND;
    let mut micros = number(whole, 19)?.checked_mul(SECOND)?;
    for digit in fraction.bytes() {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        scale /= 10;
        micros = micros.checked_add(u64::from(digit).checked_mul(scale)?)?;
    }
    Some(micros)
}

/// Digits alone, at most so many.
fn number(text: &str, digits: usize) -> Option<u64> {
    let good = !text.is_empty() && text.len() <= digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if good { minke_wire::text::number(text) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2022-11-20 23:59:15.5 UTC
    const NOW: u64 = 1_668_988_755_500_000;

    #[test]
    fn what_people_write() {
        let midnight = 1_668_902_400 * SECOND;
        let known = [
            ("now", NOW),
            ("today", midnight),
            ("yesterday", midnight - DAY),
            ("tomorrow", midnight + DAY),
            ("-5min", NOW - 300 * SECOND),
            ("-5", NOW - 5 * SECOND),
            ("+1h 30min", NOW + 5_400 * SECOND),
            ("1h30m ago", NOW - 5_400 * SECOND),
            ("2 days ago", NOW - 2 * DAY),
            ("@1668988755", NOW - 500_000),
            ("@1.25", 1_250_000),
            ("2022-11-20", midnight),
            ("2022-11-20 23:59:15", NOW - 500_000),
            ("2022-11-20 23:59:15.500 UTC", NOW),
            ("2022-11-20T23:59:15.5Z", NOW),
            ("2022-11-20 23:59", NOW - 15_500_000),
            ("23:59:15", NOW - 500_000),
        ];
        for (text, expected) in known {
            assert_eq!(parse(text, NOW), Some(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = [
            "",
            "-",
            "soon",
            "2022-13-01",
            "2022-02-30",
            "24:00",
            "1:60",
            "1:2:60",
            "@",
            "@-1",
            "-5parsecs",
            "ago",
            "2022-11",
            "2022-11-20-1",
            "-99999999999999999999",
            "+18446744073709551615",
            "1:2:3:4",
            "-5 5 min x",
            "@1.x",
        ];
        for text in refused {
            assert_eq!(parse(text, NOW), None, "{text}");
        }
        assert_eq!(parse("-1000y", NOW), Some(0));
    }

    #[test]
    fn no_damage_makes_the_parser_panic() {
        let mut random = 0x1234_5678_9ABC_DEF1_u64;
        let mut below = move |limit: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random % limit as u64) as usize
        };
        for _ in 0..100_000 {
            let mut text = ["2022-11-20 23:59:15.5 UTC", "-1h 30min", "@1668988755.5", "5 days ago"]
                [below(4)]
            .to_owned();
            let at = below(text.len());
            text.replace_range(at..=at, ["", "9", "-", ":", " ", ".", "\u{e9}", "99999999999"][below(8)]);
            let _ = parse(&text, NOW);
        }
    }
}
