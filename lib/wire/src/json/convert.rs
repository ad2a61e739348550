//! Values from Rust's types, and the literal form.

use super::{Map, Number, Value};
use std::borrow::Cow;

/// What can stand as a value in [`json!`](super::json).
pub trait ToJson {
    /// The value.
    fn to_json(&self) -> Value;
}

/// The document of `template`, where each `$` stands for the next of `values`: what [`json!`](super::json) becomes.
/// Two words for a value at the caller, where an insertion takes a dozen instructions.
#[inline(never)]
pub fn fill(template: &'static str, values: &[&dyn ToJson]) -> Value {
    let document = super::parse::template(template, values);
    debug_assert!(document.is_ok(), "{template}: {document:?}");
    document.unwrap_or_default()
}

/// A JSON value from its literal form: `json!({"key": [1, expression], "other": {"inner": null}})`. Keys are
/// literals without escapes, or names of texts; texts that stand as values have no escapes but those of JSON.
// The text of the template and the values are gathered in `[text] [values]`; what follows the object or array
// that is being read waits in `[stack]`, innermost first.
#[macro_export]
#[doc(hidden)]
macro_rules! __json {
    (null) => { $crate::json::Value::Null };
    ({}) => { $crate::json::Value::Object($crate::json::Map::new()) };
    ([]) => { $crate::json::Value::Array(Vec::new()) };
    ({ $($members:tt)+ }) => { $crate::__json!(@object ["{",] [] [] $($members)+) };
    ([ $($elements:tt)+ ]) => { $crate::__json!(@array ["[",] [] [] $($elements)+) };

    (@object [$($text:tt)*] [$($value:tt)*] [] ) => {
        $crate::json::fill($crate::__json!(@checked $($text)* "}"), &[$(&$value),*])
    };
    (@object [$($text:tt)*] $values:tt [(@$outer:ident $($after:tt)*) $($stack:tt)*]) => {
        $crate::__json!(@$outer [$($text)* "},",] $values [$($stack)*] $($after)*)
    };
    (@object [$($text:tt)*] $values:tt $stack:tt $key:literal : null $(, $($rest:tt)*)?) => {
        $crate::__json!(@object [$($text)* "\"", $key, "\":null,",] $values $stack $($($rest)*)?)
    };
    (@object [$($text:tt)*] $values:tt $stack:tt $key:literal : $new:literal $(, $($rest:tt)*)?) => {
        $crate::__json!(@object [$($text)* "\"", $key, "\":", stringify!($new), ",",] $values $stack $($($rest)*)?)
    };
    (@object [$($text:tt)*] $values:tt [$($stack:tt)*] $key:literal : { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $crate::__json!(@object [$($text)* "\"", $key, "\":{",] $values [(@object $($($rest)*)?) $($stack)*] $($inner)*)
    };
    (@object [$($text:tt)*] $values:tt [$($stack:tt)*] $key:literal : [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $crate::__json!(@array [$($text)* "\"", $key, "\":[",] $values [(@object $($($rest)*)?) $($stack)*] $($inner)*)
    };
    (@object [$($text:tt)*] [$($value:tt)*] $stack:tt $key:literal : $new:expr $(, $($rest:tt)*)?) => {
        $crate::__json!(@object [$($text)* "\"", $key, "\":$,",] [$($value)* ($new)] $stack $($($rest)*)?)
    };
    (@object [$($text:tt)*] [$($value:tt)*] $stack:tt $key:ident : $new:expr $(, $($rest:tt)*)?) => {
        $crate::__json!(@object [$($text)* "$:$,",] [$($value)* $key ($new)] $stack $($($rest)*)?)
    };

    (@array [$($text:tt)*] [$($value:tt)*] []) => {
        $crate::json::fill($crate::__json!(@checked $($text)* "]"), &[$(&$value),*])
    };
    (@array [$($text:tt)*] $values:tt [(@$outer:ident $($after:tt)*) $($stack:tt)*]) => {
        $crate::__json!(@$outer [$($text)* "],",] $values [$($stack)*] $($after)*)
    };
    (@array [$($text:tt)*] $values:tt $stack:tt null $(, $($rest:tt)*)?) => {
        $crate::__json!(@array [$($text)* "null,",] $values $stack $($($rest)*)?)
    };
    (@array [$($text:tt)*] $values:tt $stack:tt $new:literal $(, $($rest:tt)*)?) => {
        $crate::__json!(@array [$($text)* stringify!($new), ",",] $values $stack $($($rest)*)?)
    };
    (@array [$($text:tt)*] $values:tt [$($stack:tt)*] { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $crate::__json!(@object [$($text)* "{",] $values [(@array $($($rest)*)?) $($stack)*] $($inner)*)
    };
    (@array [$($text:tt)*] $values:tt [$($stack:tt)*] [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $crate::__json!(@array [$($text)* "[",] $values [(@array $($($rest)*)?) $($stack)*] $($inner)*)
    };
    (@array [$($text:tt)*] [$($value:tt)*] $stack:tt $new:expr $(, $($rest:tt)*)?) => {
        $crate::__json!(@array [$($text)* "$,",] [$($value)* ($new)] $stack $($($rest)*)?)
    };

    (@checked $($text:tt)*) => {
        const {
            assert!($crate::json::is_template(concat!($($text)*)), "json!: a number with a suffix or with underscores");
            concat!($($text)*)
        }
    };

    ($value:expr) => { $crate::json::ToJson::to_json(&$value) };
}

/// Whether the literals of a template have JSON's spelling: Rust's numbers may also end in their type, and hold `_`.
#[doc(hidden)]
pub const fn is_template(text: &str) -> bool {
    let (mut rest, mut in_text, mut before) = (text.as_bytes(), false, 0);
    while let [byte, after @ ..] = rest {
        rest = after;
        if *byte == b'"' && before != b'\\' {
            in_text = !in_text;
        } else if !in_text && (*byte == b'_' || byte.is_ascii_alphabetic() && before.is_ascii_digit()) {
            return false;
        }
        before = *byte;
    }
    true
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn to_json(&self) -> Value {
        (**self).to_json()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, ToJson::to_json)
    }
}

impl<T: ToJson> ToJson for [T] {
    fn to_json(&self) -> Value {
        Value::Array(self.iter().map(ToJson::to_json).collect())
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self) -> Value {
        self.as_slice().to_json()
    }
}

impl<T: ToJson, const N: usize> ToJson for [T; N] {
    fn to_json(&self) -> Value {
        self.as_slice().to_json()
    }
}

impl ToJson for str {
    #[inline(never)]
    fn to_json(&self) -> Value {
        Value::String(self.to_owned())
    }
}

impl ToJson for String {
    fn to_json(&self) -> Value {
        self.as_str().to_json()
    }
}

impl ToJson for Cow<'_, str> {
    fn to_json(&self) -> Value {
        (**self).to_json()
    }
}

impl ToJson for Box<str> {
    fn to_json(&self) -> Value {
        (**self).to_json()
    }
}

impl ToJson for Value {
    #[inline(never)]
    fn to_json(&self) -> Value {
        self.clone()
    }
}

impl ToJson for Map {
    #[inline(never)]
    fn to_json(&self) -> Value {
        Value::Object(self.clone())
    }
}

impl ToJson for bool {
    fn to_json(&self) -> Value {
        Value::Bool(*self)
    }
}

impl ToJson for i64 {
    #[inline(never)]
    fn to_json(&self) -> Value {
        Value::Number(Number::from(*self))
    }
}

impl ToJson for u64 {
    #[inline(never)]
    fn to_json(&self) -> Value {
        Value::Number(Number::from(*self))
    }
}

impl ToJson for usize {
    fn to_json(&self) -> Value {
        u64::try_from(*self).unwrap_or(u64::MAX).to_json()
    }
}

macro_rules! small_numbers {
    ($($kind:ty),*) => {
        $(impl ToJson for $kind {
            fn to_json(&self) -> Value {
                i64::from(*self).to_json()
            }
        })*
    };
}
small_numbers!(i32, u32, i16, u16, i8, u8);

macro_rules! from_by_to_json {
    ($($kind:ty),*) => {
        $(impl From<$kind> for Value {
            fn from(value: $kind) -> Self {
                value.to_json()
            }
        })*
    };
}
from_by_to_json!(bool, &str, &String, Cow<'_, str>, i64, u64, usize, i32, u32, u16, u8);

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Value::Object(map)
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        Value::Number(number)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        items.into_iter().collect()
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Value::Array(items.into_iter().map(Into::into).collect())
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Value {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(members: I) -> Self {
        Value::Object(members.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl PartialEq<str> for Value {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == Some(other)
    }
}

impl PartialEq<&str> for Value {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == Some(*other)
    }
}

impl PartialEq<String> for Value {
    fn eq(&self, other: &String) -> bool {
        self.as_str() == Some(other.as_str())
    }
}

impl PartialEq<Value> for &str {
    fn eq(&self, other: &Value) -> bool {
        other == self
    }
}

impl PartialEq<bool> for Value {
    fn eq(&self, other: &bool) -> bool {
        self.as_bool() == Some(*other)
    }
}

macro_rules! same_number {
    ($($kind:ty),*) => {
        $(impl PartialEq<$kind> for Value {
            fn eq(&self, other: &$kind) -> bool {
                self.as_i64().is_some_and(|number| i128::from(number) == *other as i128)
                    || self.as_u64().is_some_and(|number| i128::from(number) == *other as i128)
            }
        })*
    };
}
same_number!(i32, u32, i64, u64, u16, usize);
