//! The journal's query socket: one [`Query`] as a JSON line, then entries, one JSON object a line, until there
//! are no more; with `follow` until the asking side closes.
//!
//! An entry has the members of `journalctl -o json`: `__CURSOR`, `__REALTIME_TIMESTAMP` and
//! `__MONOTONIC_TIMESTAMP` (microseconds, as text), `__SEQNUM`, `_BOOT_ID`, `_HOSTNAME`, and the entry's fields.
//! A value that is not UTF-8 is an array of bytes; a field that an entry has several times is an array of its
//! values. A line `{"lost": N}` says that N entries left the journal before a slow reader took them.

use crate::Error;
use minke_wire::json::{Map, Value, json};
use std::borrow::Cow;
use std::path::Path;

/// Where the journal answers queries.
pub const SOCKET: &str = "/run/minke/journald.sock";

/// Which entries to read. The default is all that the journal has. All conditions must hold; of several values
/// for one of them, one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    /// Units: what their processes said, what PID 1 said about them, and what root said on their behalf
    /// (`OBJECT_SYSTEMD_UNIT`).
    pub units: Vec<String>,
    /// Values of `SYSLOG_IDENTIFIER`.
    pub identifiers: Vec<String>,
    /// Fields and values. Values for the same field are alternatives.
    pub matches: Vec<(String, String)>,
    /// Lowest and highest number of `PRIORITY`, 0 (emergency) to 7 (debug).
    pub priority: Option<(u8, u8)>,
    /// Only the last so many of the entries that match (with `follow`: before new ones come).
    pub lines: Option<u64>,
    /// Not before this time, in microseconds since 1970.
    pub since: Option<u64>,
    /// Not after this time, in microseconds since 1970.
    pub until: Option<u64>,
    /// Not before this time since boot, in microseconds.
    pub since_monotonic: Option<u64>,
    /// Not after this time since boot, in microseconds.
    pub until_monotonic: Option<u64>,
    /// Only from the boot with this id, or `0` for the current one. The journal in memory has no other.
    pub boot: Option<String>,
    /// Wait for further entries.
    pub follow: bool,
    /// Newest first. Not together with `follow`.
    pub reverse: bool,
    /// Only entries after the one with this cursor.
    pub after_cursor: Option<String>,
}

impl Query {
    /// The request line: the members that are not at their defaults.
    pub fn to_value(&self) -> Value {
        let mut request = json!({
            "unit": self.units,
            "identifier": self.identifiers,
            "matches": matches_value(&self.matches),
            "priority": self.priority.map(|(low, high)| [low, high]),
            "lines": self.lines,
            "since": self.since,
            "until": self.until,
            "since_monotonic": self.since_monotonic,
            "until_monotonic": self.until_monotonic,
            "boot": self.boot,
            "after_cursor": self.after_cursor,
            "follow": self.follow,
            "reverse": self.reverse,
        });
        if let Value::Object(members) = &mut request {
            members.retain(|_, value| match value {
                Value::Array(list) => !list.is_empty(),
                Value::Object(map) => !map.is_empty(),
                value => !matches!(value, Value::Null | Value::Bool(false)),
            });
        }
        request
    }

    /// Reads a request; the error names the member that makes no sense. A single text may stand for a list of
    /// one, and a single number for a priority range from 0.
    pub fn from_value(value: &Value) -> Result<Box<Self>, String> {
        let object = value.as_object().ok_or("the query is no object")?;
        let mut query = Box::new(Self::default());
        for (name, value) in object {
            if query.member(name, value).is_none() {
                return Err(format!("member '{name}' of the query makes no sense"));
            }
        }
        if query.follow && query.reverse {
            return Err("a query cannot follow in reverse".to_owned());
        }
        Ok(query)
    }

    fn member(&mut self, name: &str, value: &Value) -> Option<()> {
        let number = match name {
            "lines" => &mut self.lines,
            "since" => &mut self.since,
            "until" => &mut self.until,
            "since_monotonic" => &mut self.since_monotonic,
            "until_monotonic" => &mut self.until_monotonic,
            _ => return self.other_member(name, value),
        };
        *number = Some(value.as_u64()?);
        Some(())
    }

    fn other_member(&mut self, name: &str, value: &Value) -> Option<()> {
        match name {
            "unit" => self.units = texts(value)?,
            "identifier" => self.identifiers = texts(value)?,
            "matches" => {
                for (field, values) in value.as_object()? {
                    for value in texts(values)? {
                        self.matches.push((field.clone(), value));
                    }
                }
            }
            "priority" => self.priority = Some(range(value)?),
            "boot" => self.boot = Some(value.as_str()?.to_owned()),
            "after_cursor" => self.after_cursor = Some(value.as_str()?.to_owned()),
            "follow" => self.follow = value.as_bool()?,
            "reverse" => self.reverse = value.as_bool()?,
            _ => return None,
        }
        Some(())
    }
}

fn matches_value(matches: &[(String, String)]) -> Value {
    let mut map = Map::new();
    for (field, value) in matches {
        if let Value::Array(values) = map.entry(field.as_str()).or_insert(json!([])) {
            values.push(value.as_str().into());
        }
    }
    Value::Object(map)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let list = match value {
        Value::Array(values) => values,
        value => std::slice::from_ref(value),
    };
    let mut texts = Vec::new();
    for value in list {
        texts.push(value.as_str()?.to_owned());
    }
    Some(texts)
}

fn range(value: &Value) -> Option<(u8, u8)> {
    match value.as_array().map(Vec::as_slice) {
        Some([low, high]) => Some((byte(low)?, byte(high)?)),
        Some(_) => None,
        None => Some((0, byte(value)?)),
    }
}

fn byte(value: &Value) -> Option<u8> {
    value.as_u64().and_then(|number| u8::try_from(number).ok())
}

/// What a query answers, in order.
#[derive(Debug)]
pub enum Item {
    /// An entry.
    Entry(Entry),
    /// So many entries were lost here, as this reader was slower than the log.
    Lost(u64),
}

/// One entry.
#[derive(Debug)]
pub struct Entry(pub Value);

impl Entry {
    /// The first value of a field.
    pub fn field(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        match self.0.get(name)? {
            Value::Array(values) => match values.first()? {
                Value::Number(_) => bytes(values),
                first => plain(first),
            },
            value => plain(value),
        }
    }

    /// The first value of a field as text; bytes that are no UTF-8 are replaced.
    pub fn text(&self, name: &str) -> Option<String> {
        self.field(name).map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    /// Microseconds since 1970.
    pub fn realtime(&self) -> u64 {
        self.number("__REALTIME_TIMESTAMP")
    }

    /// Microseconds since boot.
    pub fn monotonic(&self) -> u64 {
        self.number("__MONOTONIC_TIMESTAMP")
    }

    /// The place of the entry, for [`Query::after_cursor`].
    pub fn cursor(&self) -> &str {
        self.0.get("__CURSOR").and_then(Value::as_str).unwrap_or_default()
    }

    fn number(&self, name: &str) -> u64 {
        self.0
            .get(name)
            .and_then(Value::as_str)
            .and_then(|text| minke_wire::text::in_base(text, 10))
            .unwrap_or(0)
    }
}

fn plain(value: &Value) -> Option<Cow<'_, [u8]>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text.as_bytes())),
        Value::Array(values) => bytes(values),
        _ => None,
    }
}

fn bytes(values: &[Value]) -> Option<Cow<'_, [u8]>> {
    let mut bytes = Vec::new();
    for value in values {
        bytes.push(byte(value)?);
    }
    Some(Cow::Owned(bytes))
}

/// The entries that answer a query.
#[derive(Debug)]
pub struct Entries(crate::Stream);

impl Entries {
    /// The connection, for an event loop or to end it from another thread.
    pub fn socket(&self) -> &std::os::unix::net::UnixStream {
        self.0.socket()
    }
}

impl Iterator for Entries {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.map(|value| match value.get("lost").and_then(Value::as_u64) {
            Some(count) => Item::Lost(count),
            None => Item::Entry(Entry(value)),
        }))
    }
}

/// Asks the journal at `socket` (usually [`SOCKET`]).
pub fn query(socket: &Path, query: &Query) -> Result<Entries, Error> {
    crate::stream(socket, &query.to_value(), None).map(Entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_comes_back() {
        let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let query = Query {
            units: text(&["a.service", "b.service"]),
            identifiers: text(&["x"]),
            matches: vec![("A".into(), "1".into()), ("B".into(), "2".into()), ("B".into(), "3".into())],
            priority: Some((0, 4)),
            lines: Some(10),
            since: Some(u64::MAX),
            until: Some(2),
            since_monotonic: Some(3),
            until_monotonic: Some(4),
            boot: Some("0".into()),
            follow: true,
            reverse: false,
            after_cursor: Some("s=1;i=2".into()),
        };
        let line = query.to_value().to_string();
        assert_eq!(*Query::from_value(&minke_wire::json::parse_str(&line).unwrap()).unwrap(), query);
        assert_eq!(*Query::from_value(&Query::default().to_value()).unwrap(), Query::default());
    }

    #[test]
    fn short_forms_and_nonsense() {
        let read = |text: &str| Query::from_value(&minke_wire::json::parse_str(text).unwrap());
        let query = read(r#"{"unit":"a","priority":3,"matches":{"A":"1"}}"#).unwrap();
        assert_eq!((query.units.len(), query.priority, query.matches.len()), (1, Some((0, 3)), 1));
        let refused = [
            "[]",
            r#"{"units":["a"]}"#,
            r#"{"lines":-1}"#,
            r#"{"since":1.5}"#,
            r#"{"priority":[1,2,3]}"#,
            r#"{"unit":[1]}"#,
            r#"{"follow":true,"reverse":true}"#,
        ];
        for text in refused {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn fields_of_an_entry() {
        let entry =
            Entry(json!({"A": "x", "B": [104, 105], "C": ["one", "two"], "D": [[255], "y"], "E": null,
            "__REALTIME_TIMESTAMP": "17"}));
        assert_eq!(entry.field("A").as_deref(), Some(&b"x"[..]));
        assert_eq!(entry.field("B").as_deref(), Some(&b"hi"[..]));
        assert_eq!(entry.field("C").as_deref(), Some(&b"one"[..]));
        assert_eq!(entry.field("D").as_deref(), Some(&b"\xff"[..]));
        assert_eq!(entry.field("E"), None);
        assert_eq!((entry.realtime(), entry.monotonic()), (17, 0));
    }
}
