//! Key files as GLib reads and writes them (glib "Key-value file parser"; the grammar is the Desktop Entry
//! Specification's): NetworkManager's profiles (nm-settings-keyfile(5)) and its configuration.
//!
//! A file that GLib refuses is refused here, with the line. Comments and their places are kept; of equal keys the last
//! counts, and groups of one name are one. A value's bytes stay as they are until somebody asks for their meaning
//! ([`value`]); what the groups of a network profile mean is in [`profile`].

pub mod profile;
#[cfg(test)]
mod tests;
pub mod value;

use std::fmt;
use value::{Escape, Meaning};

/// A key file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyfile {
    /// The lines before the first group, which are comments.
    head: Vec<Line>,
    groups: Vec<Group>,
}

/// A group with its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    lines: Vec<Line>,
}

/// A line: an assignment, or with an empty key a comment or an empty line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    key: String,
    value: Vec<u8>,
}

/// Why a file cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken {
    /// The line, from 1.
    pub line: usize,
    /// What about it.
    pub why: &'static str,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for Broken {}

impl Keyfile {
    /// Reads a file.
    pub fn parse(bytes: &[u8]) -> Result<Self, Broken> {
        let mut file = Self::default();
        let mut group = None;
        let mut rest = bytes;
        let mut line = 0usize;
        while !rest.is_empty() {
            line = line.saturating_add(1);
            let text = match rest.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    let text = rest.get(..end).unwrap_or_default();
                    rest = rest.get(end.saturating_add(1)..).unwrap_or_default();
                    text.strip_suffix(b"\r").unwrap_or(text)
                }
                None => std::mem::take(&mut rest),
            };
            file.take(text, &mut group).map_err(|why| Broken { line, why })?;
        }
        Ok(file)
    }

    /// Takes a line into the group that is open.
    fn take(&mut self, whole: &[u8], open: &mut Option<usize>) -> Result<(), &'static str> {
        let text = whole.trim_ascii_start();
        let key = match text {
            [] | [b'#', ..] => {
                let line = Line { key: String::new(), value: whole.to_owned() };
                match open.and_then(|index| self.groups.get_mut(index)) {
                    Some(group) => group.lines.push(line),
                    None => self.head.push(line),
                }
                return Ok(());
            }
            _ if text.contains(&0) => return Err("a NUL byte"),
            [b'[', rest @ ..] if is_header(rest) => {
                let end = rest.iter().position(|byte| *byte == b']').unwrap_or(0);
                let name = rest.get(..end).unwrap_or_default();
                let name = std::str::from_utf8(name).ok().filter(|name| is_group(name));
                *open = Some(self.group_index(name.ok_or("no name of a group")?));
                return Ok(());
            }
            _ => text.iter().position(|byte| *byte == b'=').filter(|end| *end > 0),
        };
        let end = key.ok_or("neither a group nor a key with a value nor a comment")?;
        let group =
            open.and_then(|index| self.groups.get_mut(index)).ok_or("a key before the first group")?;
        let key = text.get(..end).unwrap_or_default().trim_ascii_end();
        let key = std::str::from_utf8(key).ok().filter(|key| is_key(key)).ok_or("no name of a key")?;
        let value = text.get(end.saturating_add(1)..).unwrap_or_default().trim_ascii_start();
        group.lines.push(Line { key: key.to_owned(), value: value.to_owned() });
        Ok(())
    }

    /// The place of a group, which is made if there is none.
    fn group_index(&mut self, name: &str) -> usize {
        if let Some(index) = self.groups.iter().position(|group| group.name == name) {
            return index;
        }
        self.groups.push(Group { name: name.to_owned(), lines: Vec::new() });
        self.groups.len().saturating_sub(1)
    }

    fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The names of the groups, in order.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|group| group.name.as_str())
    }

    /// Whether there is such a group.
    pub fn has_group(&self, name: &str) -> bool {
        self.group(name).is_some()
    }

    /// The keys of a group, each once, in order; also those of other languages (`Name[de]`).
    pub fn keys(&self, group: &str) -> Vec<&str> {
        let mut keys: Vec<&str> = Vec::new();
        for line in self.group(group).map(|group| group.lines.as_slice()).unwrap_or_default() {
            if !line.key.is_empty() && !keys.contains(&line.key.as_str()) {
                keys.push(&line.key);
            }
        }
        keys
    }

    /// A value as it stands in the file.
    pub fn raw(&self, group: &str, key: &str) -> Option<&[u8]> {
        let line = self.group(group)?.lines.iter().rev().find(|line| line.key == key)?;
        Some(&line.value)
    }

    /// A value as text.
    pub fn text(&self, group: &str, key: &str) -> Meaning<Option<String>> {
        self.raw(group, key).map(value::text).transpose()
    }

    /// A value as texts, separated by `;`.
    pub fn list(&self, group: &str, key: &str) -> Meaning<Option<Vec<String>>> {
        self.raw(group, key).map(|raw| value::list(raw, b';')).transpose()
    }

    /// A text in the language that a locale such as `de_AT.UTF-8@euro` asks for; in that without one, if there is no
    /// nearer one.
    pub fn localized(&self, group: &str, key: &str, locale: &str) -> Meaning<Option<String>> {
        for name in value::variants(locale) {
            if let Some(raw) = self.raw(group, &format!("{key}[{name}]")) {
                return value::text(raw).map(Some);
            }
        }
        self.text(group, key)
    }

    /// Puts a value that is written already where the last one of this key is, else after the group's last key. A name
    /// that cannot stand in a file changes nothing, and neither does a value with a line feed; the answer tells.
    pub fn set_raw(&mut self, group: &str, key: &str, value: &[u8]) -> bool {
        let sane = !value.iter().any(|byte| matches!(byte, b'\n' | 0)) && !value.ends_with(b"\r");
        if !sane || value.first().is_some_and(u8::is_ascii_whitespace) || !is_group(group) || !is_key(key) {
            return false;
        }
        let index = self.group_index(group);
        let Some(group) = self.groups.get_mut(index) else { return false };
        let value = value.to_owned();
        if let Some(line) = group.lines.iter_mut().rev().find(|line| line.key == key) {
            line.value = value;
        } else {
            let end = group.lines.iter().rposition(|line| !line.key.is_empty());
            let end = end.map_or(0, |end| end.saturating_add(1));
            group.lines.insert(end, Line { key: key.to_owned(), value });
        }
        true
    }

    /// Sets a text.
    pub fn set(&mut self, group: &str, key: &str, text: &str) -> bool {
        self.set_raw(group, key, &value::written(text, Escape::Text))
    }

    /// Sets texts.
    pub fn set_list(&mut self, group: &str, key: &str, texts: &[&str]) -> bool {
        let mut raw = Vec::new();
        for text in texts {
            raw.extend(value::written(text, Escape::Item(b';')));
            raw.push(b';');
        }
        self.set_raw(group, key, &raw)
    }

    /// Removes a key. Whether there was one.
    pub fn remove(&mut self, group: &str, key: &str) -> bool {
        let Some(group) = self.groups.iter_mut().find(|known| known.name == group) else { return false };
        let before = group.lines.len();
        group.lines.retain(|line| line.key != key || key.is_empty());
        before > group.lines.len()
    }

    /// Puts a comment at the end of a group, or with an empty name at the head of the file. Each of its lines gets its
    /// own `#`.
    pub fn comment(&mut self, group: &str, text: &str) {
        let mut lines = Vec::new();
        for line in text.split('\n') {
            lines.push(Line { key: String::new(), value: format!("# {line}").into_bytes() });
        }
        if group.is_empty() {
            self.head.extend(lines);
        } else if is_group(group) {
            let index = self.group_index(group);
            if let Some(group) = self.groups.get_mut(index) {
                group.lines.extend(lines);
            }
        }
    }

    /// The file's bytes. Groups are set apart by an empty line where there is none yet.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_lines(&mut out, &self.head);
        for group in &self.groups {
            if !out.is_empty() && !out.ends_with(b"\n\n") {
                out.push(b'\n');
            }
            out.extend_from_slice(format!("[{}]\n", group.name).as_bytes());
            write_lines(&mut out, &group.lines);
        }
        out
    }
}

fn write_lines(out: &mut Vec<u8>, lines: &[Line]) {
    for line in lines {
        if !line.key.is_empty() {
            out.extend_from_slice(line.key.as_bytes());
            out.push(b'=');
        }
        out.extend_from_slice(&line.value);
        out.push(b'\n');
    }
}

/// Whether what follows a `[` ends in `]`, with nothing but blanks behind it.
fn is_header(rest: &[u8]) -> bool {
    let end = rest.iter().position(|byte| *byte == b']');
    let behind = end.and_then(|end| rest.get(end.saturating_add(1)..));
    behind.is_some_and(|behind| behind.iter().all(|byte| matches!(byte, b' ' | b'\t')))
}

fn is_group(name: &str) -> bool {
    !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_control() || matches!(byte, b'[' | b']'))
}

/// Whether a key may have this name: anything without blanks at its ends, and perhaps a locale in brackets.
fn is_key(key: &str) -> bool {
    let (name, locale) = match key.split_once('[') {
        Some((name, locale)) => (name, Some(locale)),
        None => (key, None),
    };
    let plain = |name: &str| !name.bytes().any(|byte| matches!(byte, b'=' | b']' | b'\n' | b'\r' | 0));
    // Of other alphabets each sign counts as a letter: the table that says which are takes 2.5 kB.
    let in_locale =
        |one: char| one.is_ascii_alphanumeric() || !one.is_ascii() || matches!(one, '-' | '_' | '.' | '@');
    let locale_is_sane =
        locale.is_none_or(|locale| locale.strip_suffix(']').is_some_and(|name| name.chars().all(in_locale)));
    !name.is_empty()
        && plain(name)
        && !name.starts_with(|one: char| one.is_ascii_whitespace() || one == '#')
        && !name.ends_with(|one: char| one.is_ascii_whitespace())
        && locale_is_sane
}
