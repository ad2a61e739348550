//! Unit files in the systemd syntax: systemd.syntax(7), systemd.unit(5).
//!
//! This module knows lines, sections, names, words and values; which directives there are and what they mean
//! is the service manager's.

mod name;
mod value;

pub use name::{Name, NameError};
pub use value::{Span, boolean, bytes, signal_name, signal_number, span_micros, time_span};

/// One assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The section without its brackets.
    pub section: String,
    /// What stands before the first `=`.
    pub key: String,
    /// What stands after it, without white space at the ends, continuation lines joined by a space.
    pub value: String,
    /// The number of the line on which it begins, from 1.
    pub line: u32,
}

/// A line that is neither comment, section, assignment nor continuation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// The number of the line, from 1.
    pub line: u32,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// The lines of one unit file or drop-in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// Assignments in order.
    pub entries: Vec<Entry>,
    /// Lines that could not be read; the others count.
    pub errors: Vec<SyntaxError>,
}

/// Reads a unit file. A line that ends with a backslash goes on in the next one; comment lines in between are
/// skipped.
pub fn parse(text: &str) -> File {
    let mut file = File::default();
    let mut section = None;
    let mut lines = text.lines().zip(1u32..);
    while let Some((first, line)) = lines.next() {
        let first = first.trim();
        if first.is_empty() || first.starts_with(['#', ';']) {
            continue;
        }
        let mut logical = first.to_owned();
        while let Some(head) = logical.strip_suffix('\\') {
            logical = format!("{head} ");
            let Some((next, _)) = lines.by_ref().find(|(next, _)| !next.trim_start().starts_with(['#', ';']))
            else {
                break;
            };
            logical.push_str(next.trim());
        }
        if let Err(problem) = parse_line(logical.trim(), line, &mut section, &mut file.entries) {
            file.errors.push(SyntaxError { line, problem });
        }
    }
    file
}

fn parse_line(
    text: &str,
    line: u32,
    section: &mut Option<String>,
    entries: &mut Vec<Entry>,
) -> Result<(), &'static str> {
    if let Some(head) = text.strip_prefix('[') {
        let name = head.strip_suffix(']').filter(|name| !name.is_empty());
        *section = Some(name.ok_or("a section line must end with ]")?.to_owned());
        return Ok(());
    }
    let (key, value) = text.split_once('=').ok_or("neither a section nor an assignment")?;
    let section = section.clone().ok_or("an assignment before the first section")?;
    let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
    if key.is_empty() {
        return Err("an assignment without a name");
    }
    entries.push(Entry { section, key, value, line });
    Ok(())
}

/// Splits a value into words at white space. Quotes keep white space in a word; a backslash begins an escape
/// as in C. `None`: a quote is not closed or an escape is unknown.
pub fn words(value: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut rest = value.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => word.get_or_insert_default().push(escape(&mut rest)?),
            '"' | '\'' if quote == Some(character) => quote = None,
            '"' | '\'' if quote.is_none() => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            _ if character.is_whitespace() && quote.is_none() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    quote.is_none().then_some(words)
}

/// The character that an escape stands for; the backslash was read. systemd.syntax(7), "Quoting".
fn escape(rest: &mut std::str::Chars<'_>) -> Option<char> {
    Some(match rest.next()? {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        's' => ' ',
        'x' => numbered(rest, 2)?,
        'u' => numbered(rest, 4)?,
        character @ ('\\' | '"' | '\'') => character,
        _ => return None,
    })
}

/// The character with the hexadecimal number in the next `digits` characters.
fn numbered(rest: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let text: String = rest.by_ref().take(digits).collect();
    if text.len() != digits {
        return None;
    }
    crate::text::in_base(&text, 16).and_then(char::from_u32)
}

#[cfg(test)]
#[path = "unit/tests.rs"]
mod tests;
