//! Rules for loosely typed values (spec supervisor §0): cloud, CLI and people write the same thing in several
//! ways.

use minke_wire::json::{Map, Value};
pub use minke_wire::oci::is_made_of;
use std::time::Duration;

/// `1`, `true`, `on` in any case, and the JSON forms of the first two (§0.1).
pub fn truthy(text: &str) -> bool {
    ["1", "true", "on"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// The text of a number or of a text.
pub fn word(value: &Value) -> Option<&str> {
    match value {
        Value::Number(number) => Some(number.as_str()),
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// A whole number as JSON number or decimal text; `1.0` is whole (§0.2).
pub fn int(value: &Value) -> Option<i64> {
    let text = word(value)?;
    let (whole, zeros) = text.split_once('.').unwrap_or((text, ""));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_number = !digits.is_empty() && is_digits(digits) && zeros.bytes().all(|byte| byte == b'0');
    if is_number { minke_wire::text::number(whole) } else { None }
}

/// A decimal number times 10^9, rounded; so `0.5` of a processor becomes 500,000,000. No floats.
pub fn nano(value: &Value) -> Option<i64> {
    nano_of(word(value)?.trim())
}

const NANO: i64 = 1_000_000_000;

fn nano_of(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if (whole.is_empty() && fraction.is_empty()) || !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { minke_wire::text::number(whole)? };
    // Ten digits: the tenth decides the rounding.
    let mut tenths = 0i64;
    for digit in fraction.bytes().chain(*b"0000000000").take(10) {
        tenths = tenths.wrapping_mul(10).wrapping_add((digit & 15).into());
    }
    times(whole, NANO)?.checked_add(tenths.wrapping_add(5) / 10)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Splits behind the first characters that are digits or, if so wanted, dots.
fn split_number(text: &str, dots: bool) -> (&str, &str) {
    let is_part = |byte: u8| byte.is_ascii_digit() || (dots && byte == b'.');
    let end = text.bytes().position(|byte| !is_part(byte)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[inline(never)]
fn times(one: i64, other: i64) -> Option<i64> {
    one.checked_mul(other)
}

/// A memory size: `^([0-9]+)([bkmg]?)b?$` in any case, powers of 1024; a bare number is bytes (§0.7).
pub fn memory(value: &Value) -> Option<i64> {
    let text = word(value)?.trim().to_ascii_lowercase();
    let (digits, unit) = split_number(&text, false);
    let factor = match unit.strip_suffix('b').unwrap_or(unit) {
        "" | "b" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    times(minke_wire::text::number(digits)?, factor)
}

/// A duration in Go's notation (`1m30s`, `500ms`, `1.5h`), in nanoseconds (§0.7).
pub fn duration(value: &Value) -> Option<i64> {
    let mut rest = value.as_str()?.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest, true);
        let end = after.bytes().position(|byte| byte.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let unit: i64 = match unit {
            "h" => 3600 * NANO,
            "m" => 60 * NANO,
            "s" => NANO,
            "ms" => 1_000_000,
            "us" | "µs" | "μs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        // The fraction apart, so that it is exact to nine digits.
        let number = nano_of(number)?;
        let part =
            if unit < NANO { times(number % NANO, unit)? / NANO } else { times(number % NANO, unit / NANO)? };
        total = total.checked_add(times(number / NANO, unit)?)?.checked_add(part)?;
        rest = after;
    }
    Some(total)
}

/// Whether a text is what engines take as a name: letters, digits and `_.-`, in front a letter or digit (§0.5).
pub fn is_name(text: &str) -> bool {
    is_made_of(text, "_.-") && !text.starts_with(['_', '.', '-'])
}

/// The elements of an array; none of anything else.
#[inline(never)]
pub fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The members of an object; none of anything else.
#[inline(never)]
pub fn members(value: Option<&Value>) -> &Map {
    static NONE: Map = Map::new();
    value.and_then(Value::as_object).unwrap_or(&NONE)
}

/// The text of a member; empty when it is missing or no text.
#[inline(never)]
pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a member is true.
#[inline(never)]
pub fn flag(value: &Value, key: &str) -> bool {
    value.get(key).and_then(Value::as_bool).unwrap_or(false)
}

/// The pause after this many failures in a row: it doubles from `first` up to `longest`.
#[inline(never)]
pub fn backoff(first: Duration, failures: u32, longest: Duration) -> Duration {
    let mut pause = first;
    for _ in 1..failures {
        if pause >= longest {
            break;
        }
        pause = pause.saturating_add(pause);
    }
    pause.min(longest)
}

/// Sets a member of a value that is an object.
#[inline(never)]
pub fn set(object: &mut Value, key: &str, value: Value) {
    put(object.make_object(), key, value);
}

/// Sets a member.
#[inline(never)]
pub fn put(map: &mut Map, key: &str, value: Value) {
    map.insert(key.to_owned(), value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    /// A number that no integer is.
    fn number(text: &str) -> Value {
        minke_wire::json::parse_str(text).unwrap()
    }

    #[test]
    fn whole_numbers() {
        for (value, wanted) in [
            (json!(7), Some(7)),
            (json!("1.0"), Some(1)),
            (json!("-3"), Some(-3)),
            (number("1.0"), Some(1)),
            (json!("1.5"), None),
            (json!("a1"), None),
            (json!(""), None),
            (json!("-"), None),
            (json!("+1"), None),
            (json!(null), None),
            (json!(true), None),
        ] {
            assert_eq!(int(&value), wanted, "{value}");
        }
    }

    #[test]
    fn processors_without_floats() {
        for (value, wanted) in [
            (number("0.5"), Some(500_000_000)),
            (json!("1.25"), Some(1_250_000_000)),
            (json!(2), Some(2_000_000_000)),
            (json!(".1"), Some(100_000_000)),
            (json!("0.00000000051"), Some(1)),
            (json!("x"), None),
            (json!("."), None),
            (json!("-1"), None),
        ] {
            assert_eq!(nano(&value), wanted, "{value}");
        }
    }

    #[test]
    fn memory_sizes_of_the_reference() {
        for (value, wanted) in [
            (json!(64), Some(64)),
            (json!("64"), Some(64)),
            (json!("64b"), Some(64)),
            (json!("64k"), Some(65_536)),
            (json!("64KB"), Some(65_536)),
            (json!("64m"), Some(67_108_864)),
            (json!("64g"), Some(68_719_476_736)),
            (json!("64t"), None),
            (json!("m"), None),
            (json!("99999999999999g"), None),
        ] {
            assert_eq!(memory(&value), wanted, "{value}");
        }
    }

    #[test]
    fn durations() {
        for (text, wanted) in [
            ("1m30s", Some(90_000_000_000)),
            ("500ms", Some(500_000_000)),
            ("10s", Some(10_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("10", None),
            ("s", None),
            ("", None),
            ("10x", None),
            ("99999999h", None),
        ] {
            assert_eq!(duration(&json!(text)), wanted, "{text}");
        }
    }

    #[test]
    fn truth() {
        assert!(truthy("1") && truthy("True") && truthy("ON"));
        assert!(!truthy("yes") && !truthy("0") && !truthy(""));
    }
}
