//! The writer.

use super::{Map, Value};
use std::fmt;

/// Compact; `{:#}` is indented by two spaces.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&if f.alternate() { self.to_pretty() } else { self.to_text() })
    }
}

impl Value {
    /// The document on one line, without white space.
    #[inline(never)]
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        Writer { out: &mut out, indent: None }.value(self);
        out
    }

    /// The document as people read it: a line per member, indented by two spaces.
    #[inline(never)]
    pub fn to_pretty(&self) -> String {
        let mut out = String::new();
        Writer { out: &mut out, indent: Some(0) }.value(self);
        out
    }
}

impl Map {
    /// As [`Value::to_text`].
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        Writer { out: &mut out, indent: None }.object(self);
        out
    }

    /// As [`Value::to_pretty`].
    pub fn to_pretty(&self) -> String {
        let mut out = String::new();
        Writer { out: &mut out, indent: Some(0) }.object(self);
        out
    }
}

struct Writer<'a> {
    out: &'a mut String,
    /// How deep the next line stands, when there are lines.
    indent: Option<usize>,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(true) => self.out.push_str("true"),
            Value::Bool(false) => self.out.push_str("false"),
            Value::Number(number) => self.out.push_str(number.as_str()),
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.open('[');
                for (number, item) in items.iter().enumerate() {
                    self.separate(number);
                    self.value(item);
                }
                self.close(items.is_empty(), ']');
            }
            Value::Object(map) => self.object(map),
        }
    }

    #[inline(never)]
    fn object(&mut self, map: &Map) {
        self.open('{');
        for (number, (key, value)) in map.iter().enumerate() {
            self.separate(number);
            self.string(key);
            self.out.push_str(if self.indent.is_some() { ": " } else { ":" });
            self.value(value);
        }
        self.close(map.is_empty(), '}');
    }

    fn open(&mut self, bracket: char) {
        self.out.push(bracket);
        self.indent = self.indent.map(|depth| depth + 1);
    }

    fn close(&mut self, empty: bool, bracket: char) {
        self.indent = self.indent.map(|depth| depth - 1);
        if !empty {
            self.line();
        }
        self.out.push(bracket);
    }

    fn separate(&mut self, number: usize) {
        if number > 0 {
            self.out.push(',');
        }
        self.line();
    }

    #[inline(never)]
    fn line(&mut self) {
        if let Some(depth) = self.indent {
            self.out.push('\n');
            for _ in 0..depth {
                self.out.push_str("  ");
            }
        }
    }

    #[inline(never)]
    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            let escape = match character {
                '"' => '"',
                '\\' => '\\',
                '\n' => 'n',
                '\r' => 'r',
                '\t' => 't',
                '\x08' => 'b',
                '\x0c' => 'f',
                '\0'..' ' => {
                    self.out.push_str("\\u00");
                    for digit in [u32::from(character) >> 4, u32::from(character) & 15] {
                        self.out.push(char::from_digit(digit, 16).unwrap_or('0'));
                    }
                    continue;
                }
                _ => {
                    self.out.push(character);
                    continue;
                }
            };
            self.out.push('\\');
            self.out.push(escape);
        }
        self.out.push('"');
    }
}
