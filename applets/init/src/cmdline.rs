//! The kernel command line: Documentation/admin-guide/kernel-parameters.rst.

use std::path::Path;

/// Bytes of a command line; the largest kernel limit is 4096.
const LIMIT: usize = 16 << 10;

/// The words of a kernel command line.
#[derive(Debug, Clone, Default)]
pub struct Cmdline {
    words: Vec<String>,
}

impl Cmdline {
    /// The running kernel's; empty when it cannot be read.
    pub fn read() -> Self {
        Self::parse(&crate::read_text(Path::new("/proc/cmdline"), LIMIT))
    }

    /// Splits a command line at white space outside of double quotes, which are taken off.
    pub fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for character in text.chars() {
            match character {
                '"' => quoted = !quoted,
                _ if character.is_whitespace() && !quoted => words.push(std::mem::take(&mut word)),
                _ => word.push(character),
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        Self { words }
    }

    /// Whether `name` stands alone or with a value. `-` and `_` are equal, as in the kernel.
    pub fn has(&self, name: &str) -> bool {
        self.words.iter().any(|word| same(word.split('=').next().unwrap_or(word), name))
    }

    /// The value of `name=`; the last one wins.
    pub fn value(&self, name: &str) -> Option<&str> {
        let value = |word: &'_ String| word.split_once('=').is_some_and(|(key, _)| same(key, name));
        self.words.iter().rev().find(|word| value(word))?.split_once('=').map(|(_, value)| value)
    }

    /// Appends the words whose names are not among `without`. One with white space gets quotes.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    pub fn append(&self, to: &mut String, without: &[&str]) {
        for word in &self.words {
            let name = word.split('=').next().unwrap_or(word);
            if without.iter().any(|other| same(name, other)) {
                continue;
            }
            let quote = if word.contains(char::is_whitespace) { "\"" } else { "" };
            for part in [" ", quote, word, quote] {
                to.push_str(part);
            }
        }
    }

    /// Whether the word `text` stands there exactly; with no `=` in it, also with a value.
    pub fn contains(&self, text: &str) -> bool {
        if text.contains('=') { self.words.iter().any(|word| word == text) } else { self.has(text) }
    }
}

fn same(one: &str, other: &str) -> bool {
    one.replace('-', "_") == other.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_values_and_quotes() {
        let line = Cmdline::parse("ro quiet root=UUID=1-2 dyndbg=\"file a b\" rd-x=1 root=LABEL=z\n");
        assert_eq!(line.value("root"), Some("LABEL=z"));
        assert_eq!(line.value("dyndbg"), Some("file a b"));
        assert!(line.has("quiet") && line.has("rd_x") && !line.has("q"));
        let mut text = "a".to_owned();
        line.append(&mut text, &["rd_x", "root"]);
        assert_eq!(text, "a ro quiet \"dyndbg=file a b\"");
        assert!(line.contains("rd-x=1") && !line.contains("rd-x=2") && line.contains("root"));
    }
}
