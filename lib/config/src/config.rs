//! The content of `config.json`: an object whose unknown members and whose order are kept.

use minke_wire::json::{Map, Value};
use std::fmt;

/// The largest file that is read. Real ones are a few kilobytes; a user's may carry many keys and rules.
pub const LIMIT: usize = 2 << 20;

/// The configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    members: Map,
}

/// Why a file is no configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// There is no such file.
    Missing,
    /// It has no content but white space.
    Empty,
    /// It has nothing but NUL bytes: a power cut during a write.
    Zeroed,
    /// It is longer than [`LIMIT`].
    TooLarge,
    /// It is UTF-16, as some editors write it.
    Utf16,
    /// It is not JSON; the text names line and column.
    NotJson(String),
    /// It is JSON, and not an object.
    NotObject(&'static str),
    /// It could not be read; the text says why.
    Unreadable(String),
}

impl Problem {
    /// Whether the file holds nothing that a person wrote, so that it may be replaced.
    pub fn nothing_to_lose(&self) -> bool {
        matches!(self, Self::Missing | Self::Empty | Self::Zeroed)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Empty => f.write_str("is empty"),
            Self::Zeroed => f.write_str("holds only NUL bytes"),
            Self::TooLarge => write!(f, "is larger than {LIMIT} bytes"),
            Self::Utf16 => f.write_str("is UTF-16 (line 1 column 1); save it as UTF-8"),
            Self::NotJson(reason) => write!(f, "is not JSON: {reason}"),
            Self::NotObject(kind) => write!(f, "is {kind} and not an object (line 1 column 1)"),
            Self::Unreadable(reason) => write!(f, "cannot be read: {reason}"),
        }
    }
}

impl Config {
    /// Reads the text of a `config.json`. A byte order mark before it is accepted.
    pub fn parse(content: &[u8]) -> Result<Self, Problem> {
        let text = content.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(content);
        if text.len() > LIMIT {
            return Err(Problem::TooLarge);
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            return Err(Problem::Empty);
        }
        if text.iter().all(|byte| *byte == 0) {
            return Err(Problem::Zeroed);
        }
        if matches!(text, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..]) {
            return Err(Problem::Utf16);
        }
        match minke_wire::json::parse(text) {
            Ok(Value::Object(members)) => Ok(Self { members }),
            Ok(other) => Err(Problem::NotObject(kind_of(&other))),
            Err(error) => Err(Problem::NotJson(error.to_string())),
        }
    }

    /// The text that is written to the file: indented, with a line feed at the end.
    pub fn to_text(&self) -> String {
        let mut text = self.members.to_pretty();
        text.push('\n');
        text
    }

    /// The members, in the file's order.
    pub fn members(&self) -> &Map {
        &self.members
    }

    /// The value at a dotted path such as `os.network.connectivity.uri`; JSON null counts as absent.
    pub fn get(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let mut value = self.members.get(parts.next()?)?;
        for part in parts {
            value = match value {
                Value::Object(members) => members.get(part)?,
                Value::Array(items) => items.get(minke_wire::text::number::<usize>(part)?)?,
                _ => return None,
            };
        }
        (!value.is_null()).then_some(value)
    }

    /// A non-empty string without NUL, which no environment, file name or command line can hold.
    pub fn string(&self, path: &str) -> Option<&str> {
        self.get(path)?.as_str().filter(|text| !text.is_empty() && is_text(text))
    }

    /// A non-empty string, or a number's digits: some keys were written in both ways (spec os §4.3).
    pub fn text(&self, path: &str) -> Option<String> {
        match self.get(path)? {
            Value::String(_) => self.string(path).map(str::to_owned),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// A whole number that is not negative, also as a string of digits.
    pub fn number(&self, path: &str) -> Option<u64> {
        match self.get(path)? {
            Value::String(text) => minke_wire::text::number(text.trim()),
            Value::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    /// Whether a switch is on: `true` or `"true"`, and nothing else (spec os §0.5).
    pub fn flag(&self, path: &str) -> bool {
        match self.get(path) {
            Some(Value::Bool(on)) => *on,
            Some(Value::String(text)) => text == "true",
            _ => false,
        }
    }

    /// The strings of an array; what is not a string is left out.
    pub fn strings(&self, path: &str) -> Vec<&str> {
        let items = self.get(path).and_then(Value::as_array);
        items.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Whether the device belongs to a cloud: it has an `apiEndpoint` (spec os §0.4).
    pub fn managed(&self) -> bool {
        self.string("apiEndpoint").is_some()
    }

    /// The certificates in PEM of `balenaRootCA`; empty where it is absent or not base64, of which the cloud's certificate
    /// will then say that its issuer is missing (spec os §4.7).
    pub fn authority(&self) -> Vec<u8> {
        self.string("balenaRootCA")
            .and_then(|text| minke_wire::base64::decode(text.as_bytes()))
            .unwrap_or_default()
    }

    /// Sets the value at a dotted path; objects on the way are made, and what stands there and is no object is
    /// replaced.
    pub fn set(&mut self, path: &str, value: Value) {
        let (mut members, mut name) = (&mut self.members, path);
        while let Some((part, below)) = name.split_once('.') {
            name = below;
            let next = members.entry(part).or_insert_with(|| Value::Object(Map::new()));
            if !next.is_object() {
                *next = Value::Object(Map::new());
            }
            match next {
                Value::Object(inner) => members = inner,
                _ => return,
            }
        }
        members.insert(name.to_owned(), value);
    }

    /// Removes the value at a dotted path and tells whether there was one. The other members keep their order.
    pub fn remove(&mut self, path: &str) -> bool {
        let (mut members, mut name) = (&mut self.members, path);
        while let Some((part, below)) = name.split_once('.') {
            name = below;
            match members.get_mut(part) {
                Some(Value::Object(inner)) => members = inner,
                _ => return false,
            }
        }
        members.remove(name).is_some()
    }
}

/// Whether other programs can take it.
pub(crate) fn is_text(text: &str) -> bool {
    !text.as_bytes().contains(&0)
}

/// A JSON value's type with its article, for messages.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(text) if !is_text(text) => "a string with NUL",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn order_unknown_members_and_long_numbers_are_kept() {
        let text = "{\n  \"z\": 12345678901234567890123,\n  \"uuid\": \"a\",\n  \"mine\": {\n    \"b\": [\n      1.50\n    ]\n  }\n}\n";
        let mut read = config(text);
        assert_eq!(read.to_text(), text);
        read.set("uuid", "b".into());
        assert_eq!(read.to_text(), text.replace("\"a\"", "\"b\""));
        assert!(read.remove("z") && !read.remove("z"));
        assert_eq!(read.members().keys().collect::<Vec<_>>(), ["uuid", "mine"]);
    }

    #[test]
    fn truth_as_the_specification_has_it() {
        let read =
            config(r#"{"a":true,"b":"true","c":false,"d":"false","e":1,"f":null,"g":"True","h":{"i":true}}"#);
        let on: Vec<&str> = ["a", "b", "c", "d", "e", "f", "g", "h", "h.i", "none"]
            .into_iter()
            .filter(|key| read.flag(key))
            .collect();
        assert_eq!(on, ["a", "b", "h.i"]);
    }

    #[test]
    fn getters_by_type() {
        let read =
            config(r#"{"n":5,"s":"7","e":"","neg":-1,"o":{"k":["x",3,"y"]},"apiEndpoint":"","big":1e400}"#);
        assert_eq!(
            (read.text("n"), read.text("s"), read.text("e")),
            (Some("5".into()), Some("7".into()), None)
        );
        assert_eq!((read.number("n"), read.number("s"), read.number("neg")), (Some(5), Some(7), None));
        assert_eq!((read.string("n"), read.string("s"), read.number("big")), (None, Some("7"), None));
        assert_eq!(read.strings("o.k"), ["x", "y"]);
        assert_eq!(read.get("o.k.1"), Some(&Value::from(3)));
        assert_eq!((read.get("o.k.9"), read.get("s.k"), read.get("")), (None, None, None));
        assert!(!read.managed());
    }

    #[test]
    fn setting_below_what_is_no_object() {
        let mut read = config(r#"{"os":"text","keep":1}"#);
        read.set("os.network.wifi.randomMacAddressScan", true.into());
        assert!(read.flag("os.network.wifi.randomMacAddressScan"));
        assert!(read.remove("os.network.wifi") && !read.remove("keep.x"));
        assert_eq!(read.to_text().replace(char::is_whitespace, ""), r#"{"os":{"network":{}},"keep":1}"#);
    }

    #[test]
    fn what_is_broken_names_line_and_column() {
        let problem = |content: &[u8]| Config::parse(content).unwrap_err();
        assert_eq!(problem(b""), Problem::Empty);
        assert_eq!(problem(b" \r\n\xA0"[..3].as_ref()), Problem::Empty);
        assert_eq!(problem(b"\xEF\xBB\xBF"), Problem::Empty);
        assert_eq!(problem(&[0; 512]), Problem::Zeroed);
        assert_eq!(problem(b"[]"), Problem::NotObject("an array"));
        assert_eq!(problem(b"null"), Problem::NotObject("null"));
        assert_eq!(problem(b"\xFF\xFE{\0}\0"), Problem::Utf16);
        assert_eq!(problem(&vec![b' '; LIMIT + 1]), Problem::TooLarge);
        let cases: [(&[u8], &str); 6] = [
            (b"{\"uuid\":\"a\",\r\n\"x\":tru", "line 2 column 5"),
            (b"{\"uuid\":\"a\"}\0\0\0", "line 1 column 13"),
            (b"{\"a\":1,}", "line 1 column 8"),
            (b"{\"a\":\"\xFF\"}", "line 1 column"),
            (b"not json", "line 1 column 1"),
            (b"{\"a\":1}{}", "line 1 column 8"),
        ];
        for (content, place) in cases {
            let text = problem(content).to_string();
            assert!(text.starts_with("is not JSON: ") && text.contains(place), "{text}");
        }
        let deep = format!("{}{}", "{\"a\":".repeat(100_000), "1");
        assert!(problem(deep.as_bytes()).to_string().contains("recursion limit exceeded at line 1 column"));
    }

    #[test]
    fn editors_may_add_a_mark_and_carriage_returns_and_a_megabyte_is_fine() {
        assert_eq!(config("\u{FEFF}{\r\n\"uuid\": \"a\"\r\n}\r\n").string("uuid"), Some("a"));
        let long = format!("{{\"uuid\":\"a\",\"os\":{{\"x\":\"{}\"}}}}", "y".repeat(1 << 20));
        assert_eq!(config(&long).string("uuid"), Some("a"));
    }

    #[test]
    fn never_panics_on_mutated_text() {
        let seed =
            br#"{"uuid":"0123","os":{"sshKeys":["a"],"udevRules":{"1":"x\n"}},"n":1.5e3,"t":true,"e":null}"#;
        let mut state = 0x0123_4567_89AB_CDEFu64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 20).unwrap()
        };
        let mut good = 0;
        for _ in 0..60_000 {
            let mut text = seed.to_vec();
            for _ in 0..1 + random() % 3 {
                let at = random() % text.len();
                match random() % 3 {
                    0 => text[at] = b"{}[],:\"\\\0 0etn\xFF"[random() % 15],
                    1 if text.len() > 8 => drop(text.remove(at)),
                    _ => text.truncate(at.max(8)),
                }
            }
            if let Ok(mut read) = Config::parse(&text) {
                good += 1;
                read.set("os.network.x", 1.into());
                let _ = (read.flag("t"), read.number("n"), read.text("uuid"), read.strings("os.sshKeys"));
                assert_eq!(Config::parse(read.to_text().as_bytes()).unwrap(), read);
            }
        }
        assert!(good > 100, "{good}");
    }
}
