//! The parser.

use super::{Map, Number, ToJson, Value};
use std::fmt;

/// How deep arrays and objects may nest; deeper documents are refused, since values are dropped recursively.
pub const MAX_DEPTH: usize = 128;

/// How many members one object may have: a lookup goes through all of them.
pub const MAX_MEMBERS: usize = 16_384;

/// Why a text is no JSON document, and where. Lines and columns (in bytes) begin with 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    reason: &'static str,
    line: usize,
    column: usize,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {} column {}", self.reason, self.line, self.column)
    }
}

impl std::error::Error for Error {}

impl Error {
    fn at(text: &[u8], place: usize, reason: &'static str) -> Self {
        let (before, _) = text.split_at_checked(place).unwrap_or((text, &[]));
        let mut lines = before.rsplit(|byte| *byte == b'\n');
        let column = lines.next().map_or(0, <[u8]>::len).saturating_add(1);
        Self { reason, line: lines.count().saturating_add(1), column }
    }
}

/// The document that `text` is.
///
/// # Errors
/// It is not one JSON document in UTF-8, or larger than [`MAX_DEPTH`] and [`MAX_MEMBERS`] allow.
#[inline(never)]
pub fn parse(text: &[u8]) -> Result<Value, Error> {
    match std::str::from_utf8(text) {
        Ok(text) => parse_str(text),
        Err(error) => Err(Error::at(text, error.valid_up_to(), "invalid UTF-8")),
    }
}

/// As [`parse`], of text.
///
/// # Errors
/// As [`parse`].
#[inline(never)]
pub fn parse_str(text: &str) -> Result<Value, Error> {
    read(text, None)
}

/// As [`parse_str`], of our own text: `$` stands for the next of `values`, and a comma may stand before a closing
/// bracket.
pub(super) fn template(text: &str, values: &[&dyn ToJson]) -> Result<Value, Error> {
    read(text, Some(values))
}

#[inline(never)]
fn read(text: &str, values: Option<&[&dyn ToJson]>) -> Result<Value, Error> {
    let mut parser = Parser { text, place: 0, values };
    parser.document().map_err(|reason| Error::at(text.as_bytes(), parser.place, reason))
}

type Result<T, E = &'static str> = std::result::Result<T, E>;

struct Parser<'a> {
    text: &'a str,
    /// Always between two characters.
    place: usize,
    /// Values to come, in a template.
    values: Option<&'a [&'a dyn ToJson]>,
}

impl<'a> Parser<'a> {
    fn document(&mut self) -> Result<Value> {
        let value = self.value(0)?;
        match self.token() {
            None => Ok(value),
            Some(_) => Err("trailing characters"),
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.place..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.place).copied()
    }

    /// The next byte that is not white space; it is not consumed.
    #[inline(never)]
    fn token(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.place += 1;
        }
        None
    }

    fn value(&mut self, depth: usize) -> Result<Value> {
        match self.token() {
            None => Err("EOF while parsing a value"),
            Some(b'{' | b'[') if depth == MAX_DEPTH => Err("recursion limit exceeded"),
            Some(b'"') => self.string().map(Value::String),
            Some(b'{') => self.object(depth + 1),
            Some(b'[') => self.array(depth + 1),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'$') => self.next_value(),
            Some(_) => self.word(),
        }
    }

    fn next_value(&mut self) -> Result<Value> {
        let (value, rest) = self.values.and_then(|values| values.split_first()).ok_or("expected value")?;
        self.place += 1;
        self.values = Some(rest);
        Ok(value.to_json())
    }

    fn word(&mut self) -> Result<Value> {
        for (word, value) in
            [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))]
        {
            if self.rest().starts_with(word) {
                self.place += word.len();
                return Ok(value);
            }
        }
        Err("expected value")
    }

    /// After an element or member: whether another follows.
    fn more(&mut self, end: u8, expected: &'static str) -> Result<bool> {
        let byte = self.token().ok_or("EOF while parsing a list or object")?;
        if byte != b',' && byte != end {
            return Err(expected);
        }
        self.place += 1;
        if byte == end || self.token() != Some(end) {
            return Ok(byte == b',');
        }
        if self.values.is_none() {
            return Err("trailing comma");
        }
        self.place += 1;
        Ok(false)
    }

    /// Consumes the opening bracket; whether something stands before the closing one, which is consumed too
    /// when not.
    fn begins(&mut self, end: u8) -> bool {
        self.place += 1;
        let empty = self.token() == Some(end);
        self.place += usize::from(empty);
        !empty
    }

    fn array(&mut self, depth: usize) -> Result<Value> {
        let mut items = Vec::new();
        let mut more = self.begins(b']');
        while more {
            items.push(self.value(depth)?);
            more = self.more(b']', "expected `,` or `]`")?;
        }
        Ok(Value::Array(items))
    }

    fn object(&mut self, depth: usize) -> Result<Value> {
        let mut map = Map::new();
        let mut more = self.begins(b'}');
        while more {
            let key = match self.token() {
                Some(b'"' | b'$') => self.value(depth)?,
                Some(_) => return Err("key must be a string"),
                None => return Err("EOF while parsing an object"),
            };
            let Value::String(key) = key else { return Err("key must be a string") };
            match self.token() {
                Some(b':') => self.place += 1,
                _ => return Err("expected `:`"),
            }
            let value = self.value(depth)?;
            map.add(key, value);
            if map.len() > MAX_MEMBERS {
                return Err("too many members in an object");
            }
            more = self.more(b'}', "expected `,` or `}`")?;
        }
        map.unite();
        Ok(Value::Object(map))
    }

    /// RFC 8259 §6. The text is kept.
    fn number(&mut self) -> Result<Value> {
        let start = self.place;
        self.place += usize::from(self.peek() == Some(b'-'));
        let leading_zero = self.peek() == Some(b'0');
        if self.digits()? > 1 && leading_zero {
            return Err("invalid number");
        }
        if self.peek() == Some(b'.') {
            self.place += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.place += 1;
            self.place += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(Value::Number(Number(self.text.get(start..self.place).unwrap_or_default().into())))
    }

    /// Consumes at least one digit; how many.
    fn digits(&mut self) -> Result<usize> {
        let start = self.place;
        while let Some(b'0'..=b'9') = self.peek() {
            self.place += 1;
        }
        match self.place - start {
            0 => Err("invalid number"),
            count => Ok(count),
        }
    }

    /// Consumes a string from its opening quote on.
    fn string(&mut self) -> Result<String> {
        self.place += 1;
        let mut out = String::new();
        loop {
            let special = |byte: u8| byte == b'"' || byte == b'\\' || byte < b' ';
            let rest = self.rest();
            let run = rest.bytes().position(special).unwrap_or(rest.len());
            out.push_str(rest.get(..run).unwrap_or_default());
            self.place += run;
            match self.peek() {
                Some(b'"') => {
                    self.place += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                None => return Err("EOF while parsing a string"),
                Some(_) => return Err("control character (\\u0000-\\u001F) found while parsing a string"),
            }
        }
    }

    /// The character of an escape, from its backslash on.
    fn escape(&mut self) -> Result<char> {
        self.place += 1;
        let byte = self.peek().ok_or("EOF while parsing a string")?;
        let character = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.code_point(),
            _ => return Err("invalid escape"),
        };
        self.place += 1;
        Ok(character)
    }

    /// `uXXXX`, or a pair of surrogates `uD8XX\uDCXX`.
    fn code_point(&mut self) -> Result<char> {
        let mut code = self.hex()?;
        if let 0xd800..0xdc00 = code
            && self.rest().starts_with("\\u")
        {
            self.place += 1;
            let low = self.hex()?;
            if let 0xdc00..0xe000 = low {
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            }
        }
        char::from_u32(code).ok_or("lone surrogate in hex escape")
    }

    /// `uXXXX`
    fn hex(&mut self) -> Result<u32> {
        let digits = self.text.get(self.place + 1..self.place + 5).ok_or("invalid escape")?;
        self.place += 5;
        crate::text::in_base(digits, 16).ok_or("invalid escape")
    }
}
