//! Forgiving access to the members of a JSON object: what is missing or has another type reads as empty. The
//! API's documents are large and mostly optional; what must have a type is checked where it comes in
//! (`container::create`).

use serde_json::Value;

/// Members of a JSON object.
pub trait Fields {
    /// A member, `Null` when missing.
    fn at(&self, key: &str) -> &Value;
    /// Text, or the empty text.
    fn text(&self, key: &str) -> &str;
    /// A whole number; numbers in text count, as some clients send them. Otherwise 0.
    fn number(&self, key: &str) -> i64;
    /// A boolean, or false.
    fn flag(&self, key: &str) -> bool;
    /// The elements of an array, or none.
    fn items(&self, key: &str) -> &[Value];
    /// The text elements of an array; a single text is an array of one.
    fn texts(&self, key: &str) -> Vec<String>;
    /// The members of an object, or none.
    fn entries<'a>(&'a self, key: &str) -> Box<dyn Iterator<Item = (&'a str, &'a Value)> + 'a>;
}

static NULL: Value = Value::Null;

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
        value.as_i64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
    }

    #[inline(never)]
    fn flag(&self, key: &str) -> bool {
        self.at(key).as_bool().unwrap_or(false)
    }

    #[inline(never)]
    fn items(&self, key: &str) -> &[Value] {
        self.at(key).as_array().map_or(&[], Vec::as_slice)
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
    fn entries<'a>(&'a self, key: &str) -> Box<dyn Iterator<Item = (&'a str, &'a Value)> + 'a> {
        match self.at(key).as_object() {
            Some(map) => Box::new(map.iter().map(|(key, value)| (key.as_str(), value))),
            None => Box::new(std::iter::empty()),
        }
    }
}

/// What can stand as a value in [`json!`].
pub trait ToJson {
    /// The value.
    fn to_json(&self) -> Value;
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

impl ToJson for Value {
    #[inline(never)]
    fn to_json(&self) -> Value {
        self.clone()
    }
}

impl ToJson for serde_json::Map<String, Value> {
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
        Value::Number((*self).into())
    }
}

impl ToJson for u64 {
    #[inline(never)]
    fn to_json(&self) -> Value {
        Value::Number((*self).into())
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
small_numbers!(i32, u32, u16, u8);

impl ToJson for usize {
    fn to_json(&self) -> Value {
        u64::try_from(*self).unwrap_or(u64::MAX).to_json()
    }
}

/// The object of these members: what [`json!`] becomes. One function instead of an inlined insertion per
/// member, which made a third of the engine's bytes.
#[inline(never)]
pub fn object_of<const N: usize>(members: [(&'static str, Value); N]) -> Value {
    object_of_slice(&mut { members })
}

#[inline(never)]
fn object_of_slice(members: &mut [(&'static str, Value)]) -> Value {
    let taken = members.iter_mut().map(|(key, value)| ((*key).to_owned(), value.take()));
    Value::Object(taken.collect())
}

/// A JSON value from its literal form, as `serde_json::json!`, with fewer bytes per member.
macro_rules! json {
    (null) => { serde_json::Value::Null };
    ({}) => { serde_json::Value::Object(serde_json::Map::new()) };
    ([]) => { serde_json::Value::Array(Vec::new()) };
    ({ $($members:tt)+ }) => { $crate::fields::json!(@members [] $($members)+) };
    ([ { $($members:tt)* } ]) => { serde_json::Value::Array(vec![$crate::fields::json!({ $($members)* })]) };
    ([ $($element:expr),+ $(,)? ]) => { serde_json::Value::Array(vec![$($crate::fields::ToJson::to_json(&$element)),+]) };
    (@members [$($done:tt)*]) => { $crate::fields::object_of([$($done)*]) };
    (@members [$($done:tt)*] $key:tt : null $(, $($rest:tt)*)?) => {
        $crate::fields::json!(@members [$($done)* ($key, serde_json::Value::Null),] $($($rest)*)?)
    };
    (@members [$($done:tt)*] $key:tt : { $($value:tt)* } $(, $($rest:tt)*)?) => {
        $crate::fields::json!(@members [$($done)* ($key, $crate::fields::json!({ $($value)* })),] $($($rest)*)?)
    };
    (@members [$($done:tt)*] $key:tt : [ $($value:tt)* ] $(, $($rest:tt)*)?) => {
        $crate::fields::json!(@members [$($done)* ($key, $crate::fields::json!([ $($value)* ])),] $($($rest)*)?)
    };
    (@members [$($done:tt)*] $key:tt : $value:expr $(, $($rest:tt)*)?) => {
        $crate::fields::json!(@members [$($done)* ($key, $crate::fields::ToJson::to_json(&$value)),] $($($rest)*)?)
    };
}
pub(crate) use json;

/// The object behind a value, made when the value is something else.
pub fn object(value: &mut Value) -> &mut serde_json::Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(serde_json::Map::new());
    }
    match value {
        Value::Object(map) => map,
        // Made an object just above; a map that nobody sees keeps the caller alive.
        _ => Box::leak(Box::default()),
    }
}
