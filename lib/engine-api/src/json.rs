//! Reading answers: what is missing or of another type counts as empty, as engines differ in that.

use minke_wire::json::{Map, Value};

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
    let mut texts = Vec::new();
    for text in list(value, pointer).iter().filter_map(Value::as_str) {
        texts.push(text.to_owned());
    }
    texts
}

/// A map of strings, sorted by key so that it compares.
pub(crate) fn pairs(value: &Value, pointer: &str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for (key, value) in members(value, pointer) {
        if let Some(text) = value.as_str() {
            pairs.push((key.clone(), text.to_owned()));
        }
    }
    pairs.sort_unstable();
    pairs
}

pub(crate) fn keys(value: &Value, pointer: &str) -> Vec<String> {
    members(value, pointer).keys().cloned().collect()
}

fn members<'a>(value: &'a Value, pointer: &str) -> &'a Map {
    static NONE: Map = Map::new();
    value.pointer(pointer).and_then(Value::as_object).unwrap_or(&NONE)
}
