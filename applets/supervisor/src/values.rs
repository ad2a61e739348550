//! Rules for loosely typed values (spec supervisor §0): cloud, CLI and people write the same thing in several
//! ways.

use minke_wire::json::{Map, Value};

/// `1`, `true`, `on` in any case, and the JSON forms of the first two (§0.1).
pub fn truthy(text: &str) -> bool {
    ["1", "true", "on"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// A whole number as JSON number or decimal text; `1.0` is whole (§0.2).
pub fn int(value: &Value) -> Option<i64> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let (whole, zeros) = text.split_once('.').unwrap_or((&text, ""));
    let digits = whole.strip_prefix('-').unwrap_or(whole);
    let is_number = !digits.is_empty()
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && zeros.bytes().all(|byte| byte == b'0');
    if is_number { whole.parse().ok() } else { None }
}

/// A decimal number times 10^9, rounded; so `0.5` of a processor becomes 500,000,000. No floats.
pub fn nano(value: &Value) -> Option<i64> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_owned(),
        _ => return None,
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digits(whole) || !digits(fraction) {
        return None;
    }
    let whole: i64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Ten digits: the tenth decides the rounding.
    let padded: String = fraction.chars().chain("0000000000".chars()).take(10).collect();
    let tenths: i64 = padded.parse().ok()?;
    whole.checked_mul(1_000_000_000)?.checked_add(tenths.checked_add(5)?.checked_div(10)?)
}

/// A memory size: `^([0-9]+)([bkmg]?)b?$` in any case, powers of 1024; a bare number is bytes (§0.7).
pub fn memory(value: &Value) -> Option<i64> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.trim().to_ascii_lowercase(),
        _ => return None,
    };
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    let shift = match unit {
        "" | "b" | "bb" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(1_i64.checked_shl(shift)?)
}

/// A duration in Go's notation (`1m30s`, `500ms`, `1.5h`), in nanoseconds (§0.7).
pub fn duration(value: &Value) -> Option<i64> {
    let mut rest = value.as_str()?.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total: i64 = 0;
    while !rest.is_empty() {
        let end = rest.find(|character: char| !character.is_ascii_digit() && character != '.')?;
        let (number, after) = rest.split_at_checked(end)?;
        let end = after.find(|character: char| character.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at_checked(end)?;
        let unit: i64 = match unit {
            "h" => 3_600_000_000_000,
            "m" => 60_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" | "µs" | "μs" => 1_000,
            "ns" => 1,
            _ => return None,
        };
        // Nano-units of the unit, so that a fraction is exact to nine digits.
        let scaled = i128::from(nano(&Value::from(number))?).checked_mul(unit.into())?;
        total = total.checked_add(i64::try_from(scaled.checked_div(1_000_000_000)?).ok()?)?;
        rest = after;
    }
    Some(total)
}

/// An object of these members. `json!` would do the same in many more bytes: at each place it puts its own
/// map, and it serializes what is a value already.
#[inline(never)]
pub fn object(members: Vec<(&str, Value)>) -> Value {
    let mut map = Map::new();
    for (key, value) in members {
        put(&mut map, key, value);
    }
    Value::Object(map)
}

/// An object without members.
#[inline(never)]
pub fn empty() -> Value {
    Value::Object(Map::new())
}

/// Sets a member.
#[inline(never)]
pub fn put(map: &mut Map, key: &str, value: Value) {
    map.insert(key.to_owned(), value);
}

/// The lower-case hex form of random bytes or a digest.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
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
