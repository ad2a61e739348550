//! Calendar expressions of timers, in UTC and whole seconds: systemd.time(7), "Calendar Events".

use crate::civil::Civil;
use crate::text::number;

/// The moments that an expression such as `Mon..Fri *-*-* 06:00` stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    /// What [`YEAR`] and the others may be.
    fields: [Set; 7],
    /// The days count from the month's end; its last day is 1.
    from_end: bool,
}

/// The year less [`FIRST_YEAR`].
const YEAR: usize = 0;
const MONTH: usize = 1;
const DAY_OF_MONTH: usize = 2;
const HOUR: usize = 3;
const MINUTE: usize = 4;
const SECOND: usize = 5;
/// Monday is 0.
const WEEKDAY: usize = 6;

/// The years that an expression may name, as systemd has them.
const FIRST_YEAR: u32 = 1970;
const LAST_YEAR: u32 = 2199;
/// Seconds.
const DAY: u32 = 86_400;
const WEEKDAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
/// Words for whole expressions.
const SHORTHANDS: [(&str, &str); 12] = [
    ("minutely", "*:*"),
    ("hourly", "*:0"),
    ("daily", "*-*"),
    ("weekly", "mon"),
    ("monthly", "*-1"),
    ("quarterly", "1,4,7,10-1"),
    ("semiannually", "1,7-1"),
    ("semi-annually", "1,7-1"),
    ("biannually", "1,7-1"),
    ("bi-annually", "1,7-1"),
    ("annually", "1-1"),
    ("yearly", "1-1"),
];

/// Small numbers, a bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Set([u32; 8]);

impl Set {
    const NONE: Self = Self([0; 8]);
    const ALL: Self = Self([u32::MAX; 8]);

    fn one(number: u32) -> Self {
        let mut set = Self::NONE;
        set.insert(number);
        set
    }

    fn insert(&mut self, number: u32) {
        let index = usize::try_from(number / 32).unwrap_or(usize::MAX);
        if let Some(word) = self.0.get_mut(index) {
            *word |= 1 << (number & 31);
        }
    }

    #[inline(never)]
    fn has(&self, number: u32) -> bool {
        let index = usize::try_from(number / 32).unwrap_or(usize::MAX);
        self.0.get(index).is_some_and(|word| word & 1 << (number & 31) != 0)
    }
}

impl Calendar {
    /// Reads an expression; `None` for what is none, or one with a time zone other than UTC or parts of seconds.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_ascii().to_ascii_lowercase();
        let text = text.strip_suffix(" utc").unwrap_or(&text);
        if let Some(digits) = text.strip_prefix('@') {
            return Self::only(crate::number(digits.as_bytes(), 10)?.try_into().ok()?);
        }
        let known = SHORTHANDS.iter().find(|(word, _)| *word == text);
        let mut words = known.map_or(text, |(_, long)| *long).split_ascii_whitespace().peekable();
        words.peek()?;
        let mut calendar = Self { fields: [Set::ALL; 7], from_end: false };
        if let Some(word) = words.next_if(|word| word.starts_with(|first: char| first.is_ascii_lowercase())) {
            calendar.fields[WEEKDAY] = weekdays(word)?;
        }
        if let Some(word) = words.next_if(|word| !word.contains(':')) {
            calendar.set_date(word)?;
        }
        calendar.set_time(words.next().unwrap_or("0:0"))?;
        words.next().is_none().then_some(calendar)
    }

    /// One moment, in seconds since 1970.
    fn only(seconds: i64) -> Option<Self> {
        let at = Civil::from_unix(seconds);
        let number = u32::try_from(at.year).ok().filter(|year| *year <= LAST_YEAR)?;
        let [year, all] = [Set::one(number - FIRST_YEAR), Set::ALL];
        let [month, day, hour, minute, second] =
            [at.month, at.day, at.hour, at.minute, at.second].map(|number| Set::one(number.into()));
        let fields = [year, month, day, hour, minute, second, all];
        Some(Self { fields, from_end: false })
    }

    /// `YEAR-MONTH-DAY` or `MONTH-DAY`; `~` before a day that counts from the month's end.
    fn set_date(&mut self, word: &str) -> Option<()> {
        self.from_end = word.contains('~');
        let (before, days) = word.rsplit_once(if self.from_end { '~' } else { '-' })?;
        let (year, month) = before.split_once('-').unwrap_or(("*", before));
        self.fields[YEAR] = list(year, FIRST_YEAR, LAST_YEAR, false)?;
        self.fields[MONTH] = list(month, 1, 12, false)?;
        // The shortest month has 28 days; more from its end would be in the month before.
        self.fields[DAY_OF_MONTH] = list(days, 1, if self.from_end { 28 } else { 31 }, self.from_end)?;
        Some(())
    }

    /// `HOUR:MINUTE` or `HOUR:MINUTE:SECOND`.
    fn set_time(&mut self, word: &str) -> Option<()> {
        let (hour, rest) = word.split_once(':')?;
        let (minute, second) = rest.split_once(':').unwrap_or((rest, "0"));
        self.fields[HOUR] = list(hour, 0, 23, false)?;
        self.fields[MINUTE] = list(minute, 0, 59, false)?;
        self.fields[SECOND] = list(second, 0, 59, false)?;
        Some(())
    }

    /// The first of the moments after `after`, in seconds since 1970; `None` when there is no more.
    #[must_use]
    pub fn next(&self, after: i64) -> Option<i64> {
        // Days and seconds of a day have 32 bits: a third of the code.
        let first = after.max(-1).checked_add(1)?;
        let mut day = u32::try_from(first / i64::from(DAY)).ok()?;
        let mut second = u32::try_from(first % i64::from(DAY)).ok()?;
        loop {
            let date = Civil::from_unix(i64::from(day) * i64::from(DAY));
            let year = u32::try_from(date.year).ok().filter(|year| *year <= LAST_YEAR)?;
            let left = days_left(&date);
            let mut step = left;
            if self.fields[YEAR].has(year - FIRST_YEAR) && self.fields[MONTH].has(date.month.into()) {
                let number = if self.from_end { left } else { date.day.into() };
                // 1 January 1970 was a Thursday.
                if self.fields[DAY_OF_MONTH].has(number)
                    && self.fields[WEEKDAY].has((day + 3) % 7)
                    && let Some(second) = self.time_from(second)
                {
                    return Some(i64::from(day) * i64::from(DAY) + i64::from(second));
                }
                step = 1;
            }
            day = day.checked_add(step)?;
            second = 0;
        }
    }

    /// The first time of day that is not before `from`, in seconds.
    fn time_from(&self, from: u32) -> Option<u32> {
        let mut second = from;
        while second < DAY {
            // Whatever does not match is left at its end.
            second = if !self.fields[HOUR].has(second / 3600) {
                (second / 3600 + 1) * 3600
            } else if !self.fields[MINUTE].has(second / 60 % 60) {
                (second / 60 + 1) * 60
            } else if !self.fields[SECOND].has(second % 60) {
                second + 1
            } else {
                return Some(second);
            };
        }
        None
    }
}

/// How many days the month has from this one on, itself included.
fn days_left(date: &Civil) -> u32 {
    let (mut left, mut day) = (1, date.day);
    while day < 31 {
        day += 1;
        if (Civil { day, ..*date }).to_unix().is_none() {
            break;
        }
        left += 1;
    }
    left
}

/// `Mon..Wed,Friday`.
fn weekdays(word: &str) -> Option<Set> {
    let mut set = Set::NONE;
    // systemd takes a comma at the end.
    for part in word.strip_suffix(',').unwrap_or(word).split(',') {
        let range = crate::text::split_once(part, "..").or_else(|| part.split_once('-'));
        let (first, last) = range.unwrap_or((part, part));
        let (first, last) = (weekday(first)?, weekday(last)?);
        if first > last {
            return None;
        }
        (first..=last).for_each(|day| set.insert(day));
    }
    Some(set)
}

fn weekday(name: &str) -> Option<u32> {
    let is = |full: &&str| **full == *name || full.get(..3) == Some(name);
    u32::try_from(WEEKDAYS.iter().position(is)?).ok()
}

/// `*`, or `NUMBER`, `FIRST..LAST`, each with `/STEP` behind it or not, with commas between. A step without a range
/// goes forward in time, which is down when the numbers count from the end.
fn list(text: &str, least: u32, most: u32, from_end: bool) -> Option<Set> {
    if text == "*" {
        return Some(Set::ALL);
    }
    let base = if least == FIRST_YEAR { least } else { 0 };
    let mut set = Set::NONE;
    for part in text.split(',') {
        let (range, step) = part.split_once('/').map_or((part, None), |(range, step)| (range, Some(step)));
        let (first, last) = match crate::text::split_once(range, "..") {
            Some((first, last)) => (value(first, base)?, value(last, base)?),
            None => {
                let number = value(range, base)?;
                match (step, from_end) {
                    (None, _) => (number, number),
                    (Some(_), false) => (number, most),
                    (Some(_), true) => (least, number),
                }
            }
        };
        let open = step.is_some() && !range.contains('.');
        let step = step.map_or(Some(1), digits)?;
        // A step without a range that never gets anywhere is a mistake, as systemd has it.
        if first < least || last > most || first > last || step < 1 || open && step > last - first {
            return None;
        }
        let down = open && from_end;
        let mut number = if down { last } else { first };
        while (first..=last).contains(&number) {
            set.insert(number - base);
            // Below 0 and beyond the largest number is out of the range as well.
            number = if down { number.wrapping_sub(step) } else { number.wrapping_add(step) };
        }
    }
    Some(set)
}

/// A number; a year may have two digits.
fn value(text: &str, base: u32) -> Option<u32> {
    let number = digits(text)?;
    Some(match number {
        0..70 if base > 0 => number + 2000,
        70..100 if base > 0 => number + 1900,
        _ => number,
    })
}

fn digits(text: &str) -> Option<u32> {
    text.starts_with(|first: char| first.is_ascii_digit()).then(|| number(text))?
}

#[cfg(test)]
#[path = "calendar/tests.rs"]
mod tests;
