//! Forgiving access to the members of a JSON object: what is missing or has another type reads as empty. The
//! API's documents are large and mostly optional; what must have a type is checked where it comes in
//! (`container::create`).

use minke_wire::json::{Map, ToJson, Value};

/// Members of a JSON object.
pub trait Fields {
    /// A member, `Null` when missing.
    fn at(&self, key: &str) -> &Value;
    /// Text, or the empty text.
    fn text(&self, key: &str) -> &str;
    /// A whole number; numbers in text count, as some clients send them. Otherwise 0.
    fn number(&self, key: &str) -> i64;
    /// As [`Fields::number`], or `otherwise` when it does not fit.
    fn int(&self, key: &str, otherwise: i32) -> i32;
    /// A boolean, or false.
    fn flag(&self, key: &str) -> bool;
    /// Its elements when it is an array, or none.
    fn elements(&self) -> &[Value];
    /// Its members when it is an object, or none.
    fn members(&self) -> &Map;
    /// A copy when it is an object, or an empty one.
    fn or_empty(&self) -> Value;
    /// The elements of an array, or none.
    fn items(&self, key: &str) -> &[Value];
    /// The text elements of an array; a single text is an array of one.
    fn texts(&self, key: &str) -> Vec<String>;
    /// A copy of an object, or an empty one.
    fn object(&self, key: &str) -> Value;
    /// A member, made when it is missing; a value that is no object becomes one.
    fn member(&mut self, key: &str) -> &mut Value;
    /// Sets a member.
    fn set(&mut self, key: &str, value: &dyn ToJson);
    /// The members of an object, or none.
    fn entries(&self, key: &str) -> &Map;
}

static NULL: Value = Value::Null;
static NO_MEMBERS: Map = Map::new();

// Called hundreds of times: as functions of their own these cost a call, inlined ten times that.
impl Fields for Value {
    #[inline(never)]
    fn at(&self, key: &str) -> &Value {
        self.get(key).unwrap_or(&NULL)
    }

    #[inline(never)]
    fn text(&self, key: &str) -> &str {
        self.at(key).as_str().unwrap_or("")
    }

    #[inline(never)]
    fn number(&self, key: &str) -> i64 {
        let value = self.at(key);
        value.as_i64().or_else(|| minke_wire::text::number(value.as_str()?)).unwrap_or(0)
    }

    #[inline(never)]
    fn int(&self, key: &str, otherwise: i32) -> i32 {
        i32::try_from(self.number(key)).unwrap_or(otherwise)
    }

    #[inline(never)]
    fn flag(&self, key: &str) -> bool {
        self.at(key).as_bool().unwrap_or(false)
    }

    #[inline(never)]
    fn elements(&self) -> &[Value] {
        self.as_array().map_or(&[], Vec::as_slice)
    }

    #[inline(never)]
    fn members(&self) -> &Map {
        self.as_object().unwrap_or(&NO_MEMBERS)
    }

    #[inline(never)]
    fn or_empty(&self) -> Value {
        Value::Object(self.members().clone())
    }

    #[inline(never)]
    fn items(&self, key: &str) -> &[Value] {
        self.at(key).elements()
    }

    #[inline(never)]
    fn texts(&self, key: &str) -> Vec<String> {
        match self.at(key) {
            Value::String(text) => vec![text.clone()],
            Value::Array(items) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    }

    #[inline(never)]
    fn object(&self, key: &str) -> Value {
        self.at(key).or_empty()
    }

    #[inline(never)]
    fn member(&mut self, key: &str) -> &mut Value {
        self.make_object().entry(key).or_insert(Value::Null)
    }

    #[inline(never)]
    fn set(&mut self, key: &str, value: &dyn ToJson) {
        *self.member(key) = value.to_json();
    }

    #[inline(never)]
    fn entries(&self, key: &str) -> &Map {
        self.at(key).members()
    }
}

pub use minke_wire::json::json;
