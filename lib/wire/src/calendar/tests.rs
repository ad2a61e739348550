use super::*;
use std::process::Command;

/// 2026-11-21 06:36:46, a Saturday.
const NOW: i64 = 1_795_243_006;

fn next(text: &str) -> String {
    let calendar = Calendar::parse(text).unwrap_or_else(|| panic!("{text}"));
    calendar.next(NOW).map_or("never".to_owned(), |next| Civil::from_unix(next).to_string())
}

#[test]
fn known_expressions() {
    for (text, wanted) in [
        ("minutely", "2026-11-21 06:37:00"),
        ("hourly", "2026-11-21 07:00:00"),
        ("Daily", "2026-11-22 00:00:00"),
        ("weekly", "2026-11-23 00:00:00"),
        ("quarterly UTC", "2027-01-01 00:00:00"),
        ("*:0/15", "2026-11-21 06:45:00"),
        ("Mon..Fri 10:00", "2026-11-23 10:00:00"),
        ("Mon *-05~07/1", "2027-05-31 00:00:00"),
        ("*-02~01", "2027-02-28 00:00:00"),
        ("*-2-29", "2028-02-29 00:00:00"),
        ("Mon *-2-29", "2044-02-29 00:00:00"),
        ("12:30", "2026-11-21 12:30:00"),
        ("*-*-* *:*:*", "2026-11-21 06:36:47"),
        ("2027..2030/3-*-31 1:2:3", "2027-01-31 01:02:03"),
        ("@1900000000", "2030-03-17 17:46:40"),
        ("2000-1-1", "never"),
        ("*-2-30", "never"),
    ] {
        assert_eq!(next(text), wanted, "{text}");
    }
}

#[test]
fn what_is_no_expression_is_refused() {
    for text in [
        "",
        " ",
        "x",
        "1",
        "*",
        "5..7",
        "24:00",
        "1:60",
        "1:1:60",
        "1:",
        ":1",
        "*:*/7",
        "Fri..Mon",
        "Mon..",
        "1-2 3",
        "*-13-1",
        "*-0-1",
        "*-*-32",
        "*-*~31",
        "1/0:0",
        "1:+1",
        "1:-1",
        "1:1 Europe/Berlin",
        "@",
        "@-1",
        "@99999999999999999999",
        "Mon 1-1 1:1 1:1",
        "1:1 1-1",
        "1,:0",
        "5..1:0",
        "2300-1-1",
        "12:30:00.5",
    ] {
        assert_eq!(Calendar::parse(text), None, "{text}");
    }
}

/// Numbers that look random; the same at each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % limit
    }

    fn list(&mut self, least: usize, most: usize) -> String {
        if self.below(3) == 0 {
            return "*".to_owned();
        }
        // In order and apart: of other lists systemd 252 refuses some, and forgets a member of some.
        let (mut parts, mut least) = (Vec::new(), least);
        for _ in 0..=self.below(3) {
            // One too many on both sides, now and then.
            let first =
                (least + self.below(most + 2 - least)).saturating_sub(usize::from(self.below(9) == 0));
            let last = (first + self.below(9)).min(most.max(first));
            let step = 1 + self.below(9);
            parts.push(match self.below(5) {
                0 => format!("{first}..{last}"),
                1 => format!("{first}..{last}/{step}"),
                2 => format!("{first}/{step}"),
                _ => format!("{first:02}"),
            });
            least = last + 1;
            if least > most || parts.last().is_some_and(|part| part.contains('/')) {
                break;
            }
        }
        parts.join(",")
    }

    fn expression(&mut self) -> String {
        let mut words = Vec::new();
        if self.below(3) == 0 {
            let days = ["Mon", "tuesday", "Wed..Fri", "Sat,Sun", "Thu,", "Fri..Mon", "mon-sun"];
            words.push(days[self.below(days.len())].to_owned());
        }
        if self.below(3) > 0 {
            let year = match self.below(4) {
                0 => format!("{}-", self.list(2024, 2032)),
                1 => format!("{}-", self.list(1970, 2199)),
                2 => format!("{}-", self.list(20, 40)),
                _ => String::new(),
            };
            let (from_end, month) = (self.below(4) == 0, self.list(1, 12));
            let day = if from_end { self.list(1, 28) } else { self.list(1, 31) };
            words.push(format!("{year}{month}{}{day}", if from_end { '~' } else { '-' }));
        }
        if self.below(3) > 0 || words.is_empty() {
            let second = if self.below(2) == 0 { format!(":{}", self.list(0, 59)) } else { String::new() };
            words.push(format!("{}:{}{second}", self.list(0, 23), self.list(0, 59)));
        }
        words.join(" ")
    }
}

/// What systemd-analyze(1) says: the two next moments, or `never`; nothing for an expression that it refuses.
fn peer(expression: &str, after: i64) -> Option<Vec<String>> {
    let output = Command::new("systemd-analyze")
        .env("TZ", "UTC")
        .args(["calendar", "--iterations=2", &format!("--base-time=@{after}"), "--", expression])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut moments = Vec::new();
    for line in text.lines() {
        let line = line.trim();
        let moment = line.strip_prefix("Next elapse: ").or(line.strip_prefix("Iter. #2: "));
        // Without the weekday and the zone.
        moments.extend(moment.map(|moment| match moment.split(' ').collect::<Vec<_>>()[..] {
            [_, date, time, _] => format!("{date} {time}"),
            _ => moment.to_owned(),
        }));
    }
    (!moments.is_empty()).then_some(moments)
}

#[test]
fn as_systemd_has_it() {
    if peer("daily", NOW).is_none() {
        eprintln!("skipped: no systemd-analyze");
        return;
    }
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let (mut refused, mut some, mut odd) = (0, 0, 0);
    for _ in 0..600 {
        let expression = random.expression();
        let after = NOW + i64::try_from(random.below(400_000_000)).unwrap();
        let ours = Calendar::parse(&expression).map(|calendar| {
            let mut moments = Vec::new();
            let mut last = after;
            while moments.len() < 2 {
                let next = calendar.next(last);
                match next {
                    Some(next) => moments.push(Civil::from_unix(next).to_string()),
                    None if moments.is_empty() => moments.push("never".to_owned()),
                    None => {}
                }
                let Some(next) = next else { break };
                last = next;
            }
            moments
        });
        refused += u32::from(ours.is_none());
        some += u32::from(ours.as_ref().is_some_and(|moments| moments.len() == 2));
        let theirs = peer(&expression, after);
        if ours.is_some() && theirs.is_none() {
            // systemd 252 refuses some lists of which it takes each part: `*-*~14,28`, `1:2:52,34,21..21`.
            odd += 1;
            continue;
        }
        assert_eq!(ours, theirs, "{expression} after {after}");
    }
    assert!(refused > 50 && some > 200 && odd < 30, "{refused} {some} {odd}");
}

#[test]
fn a_moment_matches_and_nothing_before_it_does() {
    let mut random = Random(7);
    for _ in 0..2_000 {
        let expression = random.expression();
        let Some(calendar) = Calendar::parse(&expression) else { continue };
        let after = NOW + i64::try_from(random.below(90_000_000)).unwrap();
        let Some(next) = calendar.next(after) else { continue };
        assert!(next > after, "{expression}");
        assert_eq!(calendar.next(next - 1), Some(next), "{expression} after {after}");
        let between = after + i64::try_from(random.below(usize::try_from(next - after).unwrap())).unwrap();
        assert_eq!(calendar.next(between), Some(next), "{expression} after {after}");
    }
}

#[test]
fn never_panics_on_mutated_input() {
    let seed = b"Mon..Wed,Fri 2026..2030/2-1,3~1..7/2 0..23/4:*:00/15 UTC";
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    for _ in 0..50_000 {
        let mut bytes = seed.to_vec();
        for _ in 0..4 {
            let index = random.below(bytes.len());
            bytes[index] = b"0123456789*/.,-~: @+Mu\xff"[random.below(23)];
        }
        if let Some(calendar) = Calendar::parse(&String::from_utf8_lossy(&bytes)) {
            for after in [i64::MIN, -1, 0, NOW, i64::MAX] {
                let _ = calendar.next(after);
            }
        }
    }
}
