//! Times as the engine API writes them.

use minke_wire::civil::Civil;
use std::time::Duration;

/// RFC 3339 in UTC with nanoseconds, `2026-01-02T03:04:05.000000006Z`.
pub fn rfc3339(time: Duration) -> String {
    let Civil { year, month, day, hour, minute, second } =
        Civil::from_unix(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", time.subsec_nanos())
}

pub use minke_sys::clock::ahead;

/// What stands for "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// `"3 minutes"`, `"About an hour"`: how the command line shows an age.
pub fn age(seconds: u64) -> String {
    // Below the first number, in units of the second.
    const UNITS: [(u64, u64, &str); 6] = [
        (60, 1, "seconds"),
        (3600, 60, "minutes"),
        (172_800, 3600, "hours"),
        (1_209_600, 86_400, "days"),
        (5_184_000, 604_800, "weeks"),
        (63_072_000, 2_592_000, "months"),
    ];
    let words = match seconds {
        0 => "Less than a second",
        1 => "1 second",
        60..120 => "About a minute",
        3600..7200 => "About an hour",
        _ => {
            let unit = UNITS.iter().find(|(end, ..)| seconds < *end);
            let (_, length, name) = unit.unwrap_or(&(0, 31_536_000, "years"));
            return format!("{} {name}", seconds.checked_div(*length).unwrap_or(0));
        }
    };
    words.to_owned()
}

/// Reads a time as the API's filters have it: seconds since 1970 with an optional fraction.
pub fn parse_seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{fraction:0<9}");
    Some(Duration::new(minke_wire::text::number(whole)?, minke_wire::text::number(digits.get(..9)?)?))
}

/// Seconds since 1970 of an RFC 3339 time in UTC, without its fraction; 0 when it is none.
pub fn parse_rfc3339(text: &str) -> u64 {
    let mut parts = [0i64; 6];
    for (part, place) in parts.iter_mut().zip([0..4, 5..7, 8..10, 11..13, 14..16, 17..19]) {
        let Some(number) = text.get(place).and_then(minke_wire::text::number) else { return 0 };
        *part = number;
    }
    let [year, rest @ ..] = parts;
    let [month, day, hour, minute, second] = rest.map(|part| u8::try_from(part).unwrap_or(0));
    let civil = Civil { year, month, day, hour, minute, second };
    civil.to_unix().and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        let text = |seconds| rfc3339(Duration::from_secs(seconds));
        assert_eq!(text(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(text(951_782_399), "2000-02-28T23:59:59.000000000Z");
        assert_eq!(text(951_782_400), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(text(4_107_542_400), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(rfc3339(Duration::new(1_767_323_045, 6)), "2026-01-02T03:04:05.000000006Z");
    }

    #[test]
    fn what_is_written_is_read() {
        for seconds in [0, 951_782_399, 951_782_400, 1_767_323_045, 4_107_542_400] {
            assert_eq!(parse_rfc3339(&rfc3339(Duration::from_secs(seconds))), seconds);
        }
        for text in [
            "",
            "2026",
            "2026-13-01T00:00:00Z",
            "aaaa-bb-ccTdd:ee:ffZ",
            "0001-01-01T00:00:00Z",
            "2026-01-0\u{e9}T00:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), 0, "{text}");
        }
    }

    #[test]
    fn ages_and_seconds() {
        assert_eq!(
            (age(0).as_str(), age(59).as_str(), age(7199).as_str()),
            ("Less than a second", "59 seconds", "About an hour")
        );
        assert_eq!(parse_seconds("5.25"), Some(Duration::from_millis(5250)));
        assert_eq!(parse_seconds("x"), None);
    }
}
