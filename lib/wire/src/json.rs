//! JSON (RFC 8259): one small value type with its parser and writer, for every document that minke reads or
//! writes.
//!
//! Members keep their order and numbers keep their text, so that a document that is read and written again says
//! the same. Nothing here is generic over readers or types: each function exists once in the binary.

mod convert;
mod map;
mod parse;
#[cfg(test)]
mod tests;
mod write;

pub use crate::__json as json;
pub use convert::{ToJson, fill, is_template};
pub use map::{Entry, Map};
pub use parse::{Error, MAX_DEPTH, MAX_MEMBERS, parse, parse_str};

use std::ops::{Index, IndexMut};

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Value {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it was written.
    Number(Number),
    /// A string, without its escapes.
    String(String),
    /// An array.
    Array(Vec<Value>),
    /// An object.
    Object(Map),
}

/// A JSON number: its text. `1`, `1.0` and `1e0` are three different numbers here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number(Box<str>);

impl Number {
    /// The number when it is whole and fits.
    pub fn as_i64(&self) -> Option<i64> {
        crate::text::number(&self.0)
    }

    /// The number when it is whole, not negative, and fits.
    pub fn as_u64(&self) -> Option<u64> {
        crate::number(self.0.as_bytes(), 10)
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<i64> for Number {
    #[inline(never)]
    fn from(number: i64) -> Self {
        Self(number.to_string().into())
    }
}

impl From<u64> for Number {
    #[inline(never)]
    fn from(number: u64) -> Self {
        Self(number.to_string().into())
    }
}

static NULL: Value = Value::Null;

// Accessors are called hundreds of times: as functions of their own they cost a call each, inlined ten times that.
impl Value {
    /// The member `key` of an object, or the element `key` of an array.
    pub fn get<K: Key>(&self, key: K) -> Option<&Value> {
        key.of(self)
    }

    /// As [`get`](Self::get), to change it.
    pub fn get_mut<K: Key>(&mut self, key: K) -> Option<&mut Value> {
        key.of_mut(self)
    }

    /// What a JSON pointer (RFC 6901) leads to. `~0` and `~1` are not decoded: no member that is asked for has
    /// `~` or `/` in its name.
    #[inline(never)]
    pub fn pointer(&self, pointer: &str) -> Option<&Value> {
        let mut value = self;
        for step in pointer.split('/').skip(1) {
            value = match value {
                Value::Object(map) => map.get(step)?,
                Value::Array(items) => items.get(crate::text::in_base::<usize>(step, 10)?)?,
                _ => return None,
            };
        }
        Some(value)
    }

    /// As [`pointer`](Self::pointer), to change it.
    #[inline(never)]
    pub fn pointer_mut(&mut self, pointer: &str) -> Option<&mut Value> {
        let mut value = self;
        for step in pointer.split('/').skip(1) {
            value = match value {
                Value::Object(map) => map.get_mut(step)?,
                Value::Array(items) => items.get_mut(crate::text::in_base::<usize>(step, 10)?)?,
                _ => return None,
            };
        }
        Some(value)
    }

    /// The value, `null` left in its place.
    #[inline(never)]
    pub fn take(&mut self) -> Value {
        std::mem::take(self)
    }

    /// The text of a string.
    #[inline(never)]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number that fits.
    #[inline(never)]
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    /// A whole number that is not negative and fits.
    #[inline(never)]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    /// A boolean.
    #[inline(never)]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn as_array(&self) -> Option<&Vec<Value>> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The elements of an array, to change them.
    pub fn as_array_mut(&mut self) -> Option<&mut Vec<Value>> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The members of an object.
    pub fn as_object(&self) -> Option<&Map> {
        match self {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }

    /// The members of an object, to change them.
    pub fn as_object_mut(&mut self) -> Option<&mut Map> {
        match self {
            Value::Object(map) => Some(map),
            _ => None,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Whether it is a boolean.
    pub fn is_boolean(&self) -> bool {
        matches!(self, Value::Bool(_))
    }

    /// Whether it is a number.
    pub fn is_number(&self) -> bool {
        matches!(self, Value::Number(_))
    }

    /// Whether it is a whole number that fits an `i64`.
    pub fn is_i64(&self) -> bool {
        self.as_i64().is_some()
    }

    /// Whether it is a whole number that fits a `u64`.
    pub fn is_u64(&self) -> bool {
        self.as_u64().is_some()
    }

    /// Whether it is a string.
    pub fn is_string(&self) -> bool {
        matches!(self, Value::String(_))
    }

    /// Whether it is an array.
    pub fn is_array(&self) -> bool {
        matches!(self, Value::Array(_))
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        matches!(self, Value::Object(_))
    }
}

/// What leads from a value to a value in it: a member's name or an element's number.
pub trait Key {
    /// The value that it leads to.
    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value>;
    /// The same, to change it.
    fn of_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value>;
}

impl Key for str {
    #[inline(never)]
    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        value.as_object()?.get(self)
    }
    #[inline(never)]
    fn of_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        value.as_object_mut()?.get_mut(self)
    }
}

impl Key for String {
    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.as_str().of(value)
    }
    fn of_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        self.as_str().of_mut(value)
    }
}

impl Key for usize {
    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        value.as_array()?.get(*self)
    }
    fn of_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        value.as_array_mut()?.get_mut(*self)
    }
}

impl<K: Key + ?Sized> Key for &K {
    fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        (**self).of(value)
    }
    fn of_mut<'a>(&self, value: &'a mut Value) -> Option<&'a mut Value> {
        (**self).of_mut(value)
    }
}

/// `value["key"]`, `value[0]`: `null` where there is nothing.
impl<K: Key> Index<K> for Value {
    type Output = Value;
    fn index(&self, key: K) -> &Value {
        key.of(self).unwrap_or(&NULL)
    }
}

/// `value["key"] = …` adds the member when it is missing, and makes an object of what is not one. An element
/// must exist; the write to a missing one is lost.
impl IndexMut<&str> for Value {
    #[inline(never)]
    fn index_mut(&mut self, key: &str) -> &mut Value {
        self.make_object().entry(key).or_insert(Value::Null)
    }
}

impl IndexMut<usize> for Value {
    fn index_mut(&mut self, key: usize) -> &mut Value {
        match key.of_mut(self) {
            Some(element) => element,
            // A place that nobody sees.
            None => Box::leak(Box::default()),
        }
    }
}

impl Value {
    /// The members; a value that is no object becomes an empty one first.
    #[inline(never)]
    pub fn make_object(&mut self) -> &mut Map {
        if !self.is_object() {
            *self = Value::Object(Map::new());
        }
        match self {
            Value::Object(map) => map,
            // Made an object just above; a map that nobody sees keeps the caller alive.
            _ => Box::leak(Box::default()),
        }
    }
}
