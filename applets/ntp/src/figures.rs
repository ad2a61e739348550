//! Numbers as people read them, from whole nanoseconds, thousandths and seconds: floating point has no place in a
//! text here.

/// `value` with its last `decimals` digits behind the point.
#[inline(never)]
pub(crate) fn fixed(value: i64, decimals: u32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let unit = 10u64.saturating_pow(decimals);
    let value = value.unsigned_abs();
    let (whole, part) = (value.checked_div(unit).unwrap_or(0), value.checked_rem(unit).unwrap_or(0));
    let width = usize::try_from(decimals).unwrap_or(0);
    format!("{sign}{whole}.{part:0width$}")
}

/// The same with a sign in any case.
pub(crate) fn signed(value: i64, decimals: u32) -> String {
    let text = fixed(value, decimals);
    if value < 0 { text } else { format!("+{text}") }
}

/// Nanoseconds per unit, up to which multiple of it a span is told in it, and its name.
const UNITS: [(u64, &str); 7] = [
    (1, "ns"),
    (1_000, "us"),
    (1_000_000, "ms"),
    (1_000_000_000, "s"),
    (60_000_000_000, "m"),
    (3_600_000_000_000, "h"),
    (86_400_000_000_000, "d"),
];

/// A span in at most four digits (five for long ones) and its unit, as chronyc(1) has it: `472ns`, `12.0s`, `16667m`.
#[inline(never)]
pub(crate) fn span(nanoseconds: i64) -> String {
    let value = nanoseconds.unsigned_abs();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    for (unit, name) in UNITS {
        let rounded = value.saturating_add(unit / 2).checked_div(unit).unwrap_or(0);
        if name == "s" && rounded < 1_000 {
            let tenths = value.saturating_add(unit / 20) / (unit / 10);
            return format!("{sign}{}s", fixed(i64::try_from(tenths).unwrap_or(0), 1));
        }
        if rounded < if unit < 1_000_000_000 { 10_000 } else { 100_000 } || name == "d" {
            return format!("{sign}{rounded}{name}");
        }
    }
    String::new()
}

/// The same with a sign in any case.
pub(crate) fn signed_span(nanoseconds: i64) -> String {
    let text = span(nanoseconds);
    if nanoseconds < 0 { text } else { format!("+{text}") }
}

/// A span since an event, of whole seconds, as chronyc(1) has it: `17`, `35m`, `12h`, `4d`, `2y`; `-` when there was
/// no event.
pub(crate) fn ago(seconds: Option<u64>) -> String {
    let Some(seconds) = seconds else { return "-".to_owned() };
    match seconds {
        0..1_200 => format!("{seconds}"),
        1_200..36_000 => format!("{}m", seconds / 60),
        36_000..345_600 => format!("{}h", seconds / 3_600),
        345_600..86_400_000 => format!("{}d", seconds / 86_400),
        _ => format!("{}y", seconds / 31_536_000),
    }
}

/// Words for a span with three digits behind the point: `-1.479 us`, `12.000 s`.
#[inline(never)]
pub(crate) fn amount(nanoseconds: i64) -> String {
    let mut chosen = (1, "ns");
    for (unit, name) in UNITS.into_iter().take(4) {
        if nanoseconds.unsigned_abs() >= unit {
            chosen = (unit, name);
        }
    }
    let (unit, name) = chosen;
    if unit == 1 {
        return format!("{nanoseconds} ns");
    }
    let thousandths = nanoseconds.checked_div(i64::try_from(unit / 1_000).unwrap_or(1)).unwrap_or(0);
    format!("{} {name}", fixed(thousandths, 3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals() {
        assert_eq!(fixed(1_479, 9), "0.000001479");
        assert_eq!(fixed(-120_500_000_000, 9), "-120.500000000");
        assert_eq!(fixed(-5, 3), "-0.005");
        assert_eq!(
            (signed(5, 3), signed(-5, 3), signed(0, 3)),
            ("+0.005".into(), "-0.005".into(), "+0.000".into())
        );
        assert_eq!(fixed(i64::MIN, 9), "-9223372036.854775808");
    }

    /// The texts that chronyc 4.3 printed for servers that lied by these amounts.
    #[test]
    fn spans_as_chronyc_has_them() {
        let seen = [
            (0, "+0ns"),
            (-128, "-128ns"),
            (2_472, "+2472ns"),
            (-64_788, "-65us"),
            (-10_023_377, "-10ms"),
            (499_947_608, "+500ms"),
            (-5_000_046_253, "-5000ms"),
            (-9_999_432_564, "-9999ms"),
            (-12_000_049_591, "-12.0s"),
            (-150_000_015_259, "-150.0s"),
            (-5_000_000_000_000, "-5000s"),
            (-9_999_599_609_375, "-10000s"),
            (-20_000_000_000_000, "-20000s"),
            (1_000_000_000_000_000, "+16667m"),
            (-100_000_000_000_000_000, "-27778h"),
            (i64::MAX, "+106752d"),
            (i64::MIN, "-106752d"),
        ];
        for (nanoseconds, text) in seen {
            assert_eq!(signed_span(nanoseconds), text, "{nanoseconds}");
        }
    }

    #[test]
    fn amounts_and_ages() {
        let amounts = [(0, "0 ns"), (-51, "-51 ns"), (1_479, "1.479 us"), (12_345_678, "12.345 ms")];
        for (nanoseconds, text) in amounts {
            assert_eq!(amount(nanoseconds), text);
        }
        assert_eq!(amount(-120_000_000_000), "-120.000 s");
        assert_eq!(amount(i64::MIN), "-9223372036.854 s");
        let ages = [(Some(0), "0"), (Some(1_199), "1199"), (Some(1_200), "20m"), (Some(36_000), "10h")];
        for (seconds, text) in ages {
            assert_eq!(ago(seconds), text);
        }
        assert_eq!(
            (ago(None), ago(Some(345_600)), ago(Some(u64::MAX))),
            ("-".into(), "4d".into(), "584942417355y".into())
        );
    }
}
