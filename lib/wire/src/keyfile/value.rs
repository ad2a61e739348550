//! What values of a key file mean: texts with escapes, lists, switches, numbers.

use crate::text::number;

/// A value's meaning; the error says what the value should be.
pub type Meaning<T> = Result<T, &'static str>;

/// How a text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// As a value of its own.
    Text,
    /// As an item of a list with this separator.
    Item(u8),
}

/// A value as text. `\s`, `\n`, `\t`, `\r` and `\\` stand for space, line feed, tab, return and backslash.
pub fn text(raw: &[u8]) -> Meaning<String> {
    Ok(pieces(raw, None)?.pop().unwrap_or_default())
}

/// A value as texts. The last one may or may not end with the separator; `\` and the separator stand for the separator
/// itself.
pub fn list(raw: &[u8], separator: u8) -> Meaning<Vec<String>> {
    let mut pieces = pieces(raw, Some(separator))?;
    // What follows the last separator is an item only if there is something.
    if pieces.last().is_some_and(String::is_empty) {
        pieces.pop();
    }
    Ok(pieces)
}

fn pieces(raw: &[u8], separator: Option<u8>) -> Meaning<Vec<String>> {
    let raw = std::str::from_utf8(raw).map_err(|_| "text in UTF-8")?;
    let (mut pieces, mut piece) = (Vec::new(), String::new());
    let mut characters = raw.chars();
    while let Some(character) = characters.next() {
        let is_separator = |character: char| separator.is_some_and(|byte| character == char::from(byte));
        piece.push(match character {
            '\\' => match characters.next() {
                Some('s') => ' ',
                Some('n') => '\n',
                Some('t') => '\t',
                Some('r') => '\r',
                Some('\\') => '\\',
                Some(escaped) if is_separator(escaped) => escaped,
                _ => return Err("text with \\s, \\n, \\t, \\r or \\\\ after a backslash"),
            },
            character if is_separator(character) => {
                pieces.push(std::mem::take(&mut piece));
                continue;
            }
            character => character,
        });
    }
    pieces.push(piece);
    Ok(pieces)
}

/// A text as it stands in a file: blanks at its beginning, line ends and backslashes are escaped.
pub fn written(text: &str, escape: Escape) -> Vec<u8> {
    let mut out = Vec::new();
    let mut leading = true;
    for byte in text.bytes() {
        let letter = match byte {
            b' ' if leading => b's',
            b'\t' if leading => b't',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\\' => b'\\',
            separator if escape == Escape::Item(separator) => separator,
            _ => {
                out.push(byte);
                leading &= matches!(byte, b' ' | b'\t');
                continue;
            }
        };
        out.extend([b'\\', letter]);
        leading &= matches!(byte, b' ' | b'\t');
    }
    out
}

/// A switch: `true` or `1`, `false` or `0`.
pub fn boolean(raw: &[u8]) -> Meaning<bool> {
    match raw.trim_ascii_end() {
        b"true" | b"1" => Ok(true),
        b"false" | b"0" => Ok(false),
        _ => Err("true or false"),
    }
}

/// A whole number that the type can hold. As for GLib, it ends at the first blank, whatever follows.
pub fn integer<T: TryFrom<i64>>(raw: &[u8]) -> Meaning<T> {
    let word = raw.split(u8::is_ascii_whitespace).next();
    let word = word.and_then(|word| std::str::from_utf8(word).ok());
    word.and_then(number).ok_or("a whole number")
}

/// The names of the languages that serve a locale `LANGUAGE[_COUNTRY][.ENCODING][@MODIFIER]`, the nearest first: as GLib's
/// `g_get_locale_variants` has them.
pub fn variants(locale: &str) -> Vec<String> {
    let cut = |text: &str, at: char| match text.find(at) {
        Some(at) => {
            (text.get(..at).unwrap_or_default().to_owned(), text.get(at..).unwrap_or_default().to_owned())
        }
        None => (text.to_owned(), String::new()),
    };
    let (rest, modifier) = cut(locale, '@');
    let (rest, encoding) = cut(&rest, '.');
    let (language, country) = cut(&rest, '_');
    let mut names = Vec::new();
    for mask in (0..8).rev() {
        let mut name = language.clone();
        let mut missing = false;
        for (bit, part) in [(2, &country), (1, &encoding), (4, &modifier)] {
            if mask & bit != 0 {
                missing |= part.is_empty();
                name.push_str(part);
            }
        }
        if !missing {
            names.push(name);
        }
    }
    names
}
