//! Times as the engine API writes them.

use std::time::Duration;

/// RFC 3339 in UTC with nanoseconds, `2026-01-02T03:04:05.000000006Z`.
pub fn rfc3339(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (rest / 3600, rest % 3600 / 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", time.subsec_nanos())
}

/// What stands for "never".
pub const NEVER: &str = "0001-01-01T00:00:00Z";

/// Year, month and day of the day with this number since 1970-01-01, in the Gregorian calendar. The year is
/// counted from March, so that the leap day is its last.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days.saturating_add(719_468);
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let leap_days = day_of_era / 1460 + day_of_era / 146_096;
    let year_of_era = day_of_era.saturating_add(day_of_era / 36_524).saturating_sub(leap_days) / 365;
    let before = year_of_era * 365 + year_of_era / 4 - year_of_era / 100;
    let day_of_year = day_of_era.saturating_sub(before);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// `"3 minutes"`, `"About an hour"`: how the command line shows an age.
pub fn age(seconds: u64) -> String {
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{} minutes", seconds / 60),
        3600..7200 => "About an hour".to_owned(),
        7200..172_800 => format!("{} hours", seconds / 3600),
        172_800..1_209_600 => format!("{} days", seconds / 86_400),
        1_209_600..5_184_000 => format!("{} weeks", seconds / 604_800),
        5_184_000..63_072_000 => format!("{} months", seconds / 2_592_000),
        _ => format!("{} years", seconds / 31_536_000),
    }
}

/// Reads a time as the API's filters have it: seconds since 1970 with an optional fraction.
pub fn parse_seconds(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(Duration::new(whole.parse().ok()?, digits.parse().ok()?))
}

/// Seconds since 1970 of an RFC 3339 time in UTC, without its fraction; 0 when it is none.
pub fn parse_rfc3339(text: &str) -> u64 {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<u64>().ok();
    let parts = || {
        Some((
            number(0..4)?,
            number(5..7)?,
            number(8..10)?,
            number(11..13)?,
            number(14..16)?,
            number(17..19)?,
        ))
    };
    let Some((year, month @ 1..=12, day @ 1..=31, hour, minute, second)) = parts() else { return 0 };
    // The inverse of `civil`.
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let from_march = (month + 9) % 12;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * from_march + 2) / 5 + day - 1;
    days.saturating_sub(719_468) * 86_400 + hour * 3600 + minute * 60 + second
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
