//! Reading answers: what is missing or of another type counts as empty, as engines differ in that.

use minke_wire::json::Value;

pub(crate) fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

pub(crate) fn flag(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_bool).unwrap_or(false)
}

pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(crate) fn texts(value: &Value, pointer: &str) -> Vec<String> {
    list(value, pointer).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A map of strings, sorted by key so that it compares.
pub(crate) fn pairs(value: &Value, pointer: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for (key, value) in value.pointer(pointer).and_then(Value::as_object).into_iter().flatten() {
        if let Some(value) = value.as_str() {
            let place = pairs.partition_point(|(other, _)| other < key);
            pairs.insert(place, (key.clone(), value.to_owned()));
        }
    }
    pairs
}

pub(crate) fn keys(value: &Value, pointer: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, _) in value.pointer(pointer).and_then(Value::as_object).into_iter().flatten() {
        keys.push(key.clone());
    }
    keys
}
