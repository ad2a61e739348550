//! Calendar times in UTC: the proleptic Gregorian calendar without leap seconds, as POSIX counts time.

use std::fmt;

/// A second of a day in the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Civil {
    /// Year.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

const DAY: i64 = 86_400;
/// Days of 400 years, after which the calendar repeats.
const ERA: i64 = 146_097;
/// Days from 1 March of year 0 to 1 January 1970.
const EPOCH: i64 = 719_468;
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

impl Civil {
    /// The calendar time of a number of seconds since 1970. Times beyond about a hundred million years from
    /// now count as that far.
    #[must_use]
    pub fn from_unix(seconds: i64) -> Self {
        const FAR: i64 = 1 << 51;
        let seconds = seconds.clamp(-FAR, FAR);
        let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        // Years begin in March here, so that the leap day is the last day of a year.
        let days = days.wrapping_add(EPOCH);
        let (era, of_era) = (days.div_euclid(ERA), small(days.rem_euclid(ERA)));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (year_of_era * 365 + year_of_era / 4 - year_of_era / 100);
        let march_month = (of_year * 5 + 2) / 153;
        let day = of_year - (march_month * 153 + 2) / 5 + 1;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        let year = era.wrapping_mul(400).wrapping_add(i64::from(year_of_era + u32::from(month <= 2)));
        let rest = small(rest);
        let field = |number: u32| u8::try_from(number).unwrap_or(0);
        Self {
            year,
            month: field(month),
            day: field(day),
            hour: field(rest / 3_600),
            minute: field(rest / 60 % 60),
            second: field(rest % 60),
        }
    }

    /// Seconds since 1970; `None` for what is no date or time of day, or a year beyond ±100,000,000.
    #[must_use]
    pub fn to_unix(&self) -> Option<i64> {
        let valid = (-100_000_000..=100_000_000).contains(&self.year)
            && (1..=12).contains(&self.month)
            && (1..=31).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second < 60;
        if !valid {
            return None;
        }
        let month = u32::from(self.month);
        let year = self.year.wrapping_sub(i64::from(month <= 2));
        let (era, of_era) = (year.div_euclid(400), small(year.rem_euclid(400)));
        let march_month = if month > 2 { month - 3 } else { month + 9 };
        let of_year = (march_month * 153 + 2) / 5 + u32::from(self.day) - 1;
        let days = i64::from(of_era * 365 + of_era / 4 - of_era / 100 + of_year);
        let days = era.wrapping_mul(ERA).wrapping_add(days).wrapping_sub(EPOCH);
        let of_day = (u32::from(self.hour) * 60 + u32::from(self.minute)) * 60 + u32::from(self.second);
        let seconds = days.wrapping_mul(DAY).wrapping_add(of_day.into());
        // A day that the month has not comes back as another one.
        (Self::from_unix(seconds).day == self.day).then_some(seconds)
    }

    /// Reads a time that is written as `pattern` says, character by character: a digit of the year (`y`), month (`m`), day
    /// (`d`), hour (`h`), minute (`i`) or second (`s`), a letter of the month's name (`n`), any character (`?`), or that
    /// very one. `None` for anything else, and for what is no time of the calendar.
    #[must_use]
    pub fn parse(text: &[u8], pattern: &[u8]) -> Option<Self> {
        const FIELDS: [u8; 6] = *b"ymdhis";
        if text.len() != pattern.len() {
            return None;
        }
        let mut numbers = [0u16; FIELDS.len()];
        let mut name = Vec::new();
        for (byte, wanted) in text.iter().zip(pattern) {
            let field = FIELDS.iter().position(|field| field == wanted).and_then(|at| numbers.get_mut(at));
            match (field, wanted) {
                (Some(number), _) => {
                    let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
                    *number = number.checked_mul(10)?.checked_add(digit.into())?;
                }
                (None, b'n') => name.push(*byte),
                (None, b'?') => {}
                (None, wanted) if byte == wanted => {}
                _ => return None,
            }
        }
        let [year, mut month, day, hour, minute, second] = numbers;
        if !name.is_empty() {
            let place = MONTHS.iter().position(|month| *month.as_bytes() == *name)?;
            month = u16::try_from(place).ok()?.checked_add(1)?;
        }
        let field = |number: u16| u8::try_from(number).ok();
        let civil = Self {
            year: year.into(),
            month: field(month)?,
            day: field(day)?,
            hour: field(hour)?,
            minute: field(minute)?,
            second: field(second)?,
        };
        civil.to_unix().map(|_| civil)
    }

    /// The month's English name, three letters.
    #[must_use]
    pub fn month_name(&self) -> &'static str {
        MONTHS.get(usize::from(self.month.wrapping_sub(1))).copied().unwrap_or("???")
    }

    /// The weekday's English name, three letters.
    #[must_use]
    pub fn weekday_name(&self) -> &'static str {
        let midnight = Self { hour: 0, minute: 0, second: 0, ..*self };
        // 1 January 1970 was a Thursday.
        let number = midnight.to_unix().map(|seconds| (seconds / DAY).wrapping_add(4).rem_euclid(7));
        number.and_then(|number| WEEKDAYS.get(usize::try_from(number).ok()?)).copied().unwrap_or("???")
    }
}

/// A remainder, which fits: short numbers take a third of the code.
fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// `YYYY-MM-DD hh:mm:ss`.
impl fmt::Display for Civil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        let known = [
            (0, "1970-01-01 00:00:00", "Thu"),
            (-1, "1969-12-31 23:59:59", "Wed"),
            (951_782_400, "2000-02-29 00:00:00", "Tue"),
            (1_669_031_955, "2022-11-21 11:59:15", "Mon"),
            (2_147_483_648, "2038-01-19 03:14:08", "Tue"),
            (4_107_542_399, "2100-02-28 23:59:59", "Sun"),
            (4_107_542_400, "2100-03-01 00:00:00", "Mon"),
            (-62_135_596_800, "0001-01-01 00:00:00", "Mon"),
        ];
        for (seconds, text, weekday) in known {
            let civil = Civil::from_unix(seconds);
            assert_eq!((civil.to_string().as_str(), civil.weekday_name()), (text, weekday));
            assert_eq!(civil.to_unix(), Some(seconds));
        }
    }

    #[test]
    fn every_day_of_800_years_comes_back_and_follows_the_one_before() {
        let mut before = Civil::from_unix(-400 * 365 * DAY - DAY);
        for day in -400 * 365..400 * 365 {
            let civil = Civil::from_unix(day * DAY + 3_661);
            assert_eq!(civil.to_unix(), Some(day * DAY + 3_661));
            let next_month = civil.day == 1 && before.day >= 28 && before.month % 12 + 1 == civil.month;
            assert!(civil.day == before.day + 1 || next_month, "{before} {civil}");
            before = civil;
        }
    }

    #[test]
    fn times_are_read_by_a_pattern_and_by_it_alone() {
        const IMF: &[u8] = b"???, dd nnn yyyy hh:ii:ss GMT";
        const SAVED: &[u8] = b"yyyy-mm-dd hh:ii:ss";
        let read = |text: &[u8], pattern| Civil::parse(text, pattern).and_then(|civil| civil.to_unix());
        assert_eq!(read(b"Sun, 06 Nov 1994 08:49:37 GMT", IMF), Some(784_111_777));
        assert_eq!(read(b"2038-01-19 03:14:08", SAVED), Some(2_147_483_648));
        assert_eq!(read(b"20260101000000", b"yyyymmddhhiiss"), Some(1_767_225_600));
        for bad in [
            &b""[..],
            b"Sun, 06 nov 1994 08:49:37 GMT",
            b"Sun, 06 Nov 1994 08:49:37 UTC",
            b"Sun, 31 Feb 1994 08:49:37 GMT",
            b"Sun, 06 Nov 1994 08:49:61 GMT",
            b"Sunday, 06-Nov-94 08:49:37 GMT",
            b"Sun, 06 Nov 1994 08:49:37 GMT ",
            &[0; 29],
            &[0xff; 29],
        ] {
            assert_eq!(read(bad, IMF), None, "{bad:?}");
        }
        let mut seed = 7u64;
        for _ in 0..20_000 {
            let mut text = *b"2026-11-21 10:00:00";
            for _ in 0..2 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = usize::try_from(seed >> 40).unwrap() % text.len();
                text[at] = u8::try_from((seed >> 32) & 0xff).unwrap();
            }
            if let Some(civil) = Civil::parse(&text, SAVED) {
                assert_eq!(civil.to_string().as_bytes(), text);
            }
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        let good = Civil { year: 2023, month: 2, day: 28, hour: 23, minute: 59, second: 59 };
        assert!(good.to_unix().is_some());
        for bad in [
            Civil { day: 29, ..good },
            Civil { month: 13, ..good },
            Civil { month: 0, ..good },
            Civil { day: 0, ..good },
            Civil { hour: 24, ..good },
            Civil { minute: 60, ..good },
            Civil { second: 60, ..good },
            Civil { year: i64::MAX, ..good },
        ] {
            assert_eq!(bad.to_unix(), None, "{bad}");
        }
        let _ = (Civil::from_unix(i64::MAX), Civil::from_unix(i64::MIN));
    }
}
