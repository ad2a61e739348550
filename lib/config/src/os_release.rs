//! `/etc/os-release` (os-release(5), spec os §18.1).

use minke_sys::file;
use std::path::Path;

/// The variables of an `os-release` file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OsRelease {
    values: Vec<(String, String)>,
}

const LIMIT: usize = 64 * 1024;

/// Reads `path` (usually `/etc/os-release`); what cannot be read has no variables.
pub fn os_release(path: &Path) -> OsRelease {
    let content = file::read_bounded(path, LIMIT).unwrap_or_default();
    OsRelease::parse(&String::from_utf8_lossy(&content))
}

impl OsRelease {
    /// Reads the text. Lines that are no assignment are left out.
    pub fn parse(text: &str) -> Self {
        let mut values = Vec::new();
        for line in text.lines() {
            let Some((name, value)) = line.trim().split_once('=') else { continue };
            if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                values.push((name.to_owned(), unquote(value)));
            }
        }
        Self { values }
    }

    /// The value of a variable; the last assignment counts. Empty counts as absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.values.iter().rev().find(|(found, _)| found == name)?;
        Some(found.1.as_str()).filter(|value| !value.is_empty())
    }

    /// `VERSION`, for instance `8.0.2+rev1`.
    pub fn version(&self) -> Option<&str> {
        self.get("VERSION")
    }

    /// `SLUG`: the device type.
    pub fn slug(&self) -> Option<&str> {
        self.get("SLUG")
    }
}

/// A value as a POSIX shell reads it, without expansions: quotes of both kinds and backslashes.
fn unquote(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut quote = None;
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            (None, '\\') => text.extend(characters.next()),
            (Some('"'), '\\') => match characters.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => text.push(escaped),
                other => {
                    text.push('\\');
                    text.extend(other);
                }
            },
            // An unquoted blank ends the word.
            (None, ' ' | '\t') => break,
            _ => text.push(character),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_comments_and_the_last_assignment() {
        let read = OsRelease::parse(
            "ID=\"balena-os\"\n# comment = x\nVERSION=1\nVERSION='8.0.2+rev1'\nSLUG=raspberry-pi # x\n\
             PRETTY_NAME=\"a \\\"b\\\" \\$c \\n\"\nEMPTY=\nbad name=1\n=2\nODD=\"open\n",
        );
        assert_eq!(read.get("ID"), Some("balena-os"));
        assert_eq!((read.version(), read.slug()), (Some("8.0.2+rev1"), Some("raspberry-pi")));
        assert_eq!(read.get("PRETTY_NAME"), Some("a \"b\" $c \\n"));
        assert_eq!((read.get("EMPTY"), read.get("bad name"), read.get("ODD")), (None, None, Some("open")));
    }

    #[test]
    fn this_machines_own_file_as_the_shell_reads_it() {
        let read = os_release(Path::new("/etc/os-release"));
        let shell = std::process::Command::new("sh")
            .args(["-c", ". /etc/os-release; printf %s \"$PRETTY_NAME\""])
            .output()
            .unwrap();
        assert_eq!(read.get("PRETTY_NAME").unwrap().as_bytes(), shell.stdout);
        assert_eq!(os_release(Path::new("/nonexistent")), OsRelease::default());
    }
}
