//! Unit names: `prefix@instance.kind`, and the specifiers that stand for their parts.

use std::fmt;

/// A unit's name, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    full: String,
    /// Length of the prefix.
    prefix: usize,
    /// Begin of the instance, after the `@`.
    instance: Option<usize>,
    /// Position of the dot before the kind.
    dot: usize,
}

/// Why a text is no unit name, or a specifier unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// There is no `.service` or the like at the end, or nothing before it.
    Shape,
    /// A character that no unit name has.
    Character(char),
    /// `%` before an unknown letter.
    Specifier(char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shape => f.write_str("a unit name has the form NAME.KIND"),
            Self::Character(character) => write!(f, "a unit name has no U+{:04X}", u32::from(*character)),
            Self::Specifier(letter) => write!(f, "unknown specifier %{letter}"),
        }
    }
}

/// Longest unit name: systemd's UNIT_NAME_MAX.
const LIMIT: usize = 255;

impl Name {
    /// Takes a name apart.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || crate::text::is_one_of(c, ":-_.\\@");
        if let Some(character) = text.chars().find(|character| !allowed(*character)) {
            return Err(NameError::Character(character));
        }
        let dot = text.rfind('.').ok_or(NameError::Shape)?;
        let stem = text.get(..dot).unwrap_or_default();
        let kind = text.get(dot..).unwrap_or_default();
        if stem.is_empty() || stem.starts_with('@') || kind.len() < 2 || text.len() > LIMIT {
            return Err(NameError::Shape);
        }
        let at = stem.find('@');
        let instance = at.and_then(|at| at.checked_add(1));
        Ok(Self { full: text.to_owned(), prefix: at.unwrap_or(dot), instance, dot })
    }

    /// The name with `.service` added when it has no kind, as systemctl(1) takes it.
    pub fn complete(text: &str) -> Result<Self, NameError> {
        const KINDS: [&str; 10] =
            ["service", "target", "socket", "timer", "path", "mount", "automount", "slice", "device", "swap"];
        let has_kind = text.rsplit_once('.').is_some_and(|(_, kind)| KINDS.contains(&kind));
        if has_kind { Self::parse(text) } else { Self::parse(&format!("{text}.service")) }
    }

    /// The whole name.
    pub fn full(&self) -> &str {
        &self.full
    }

    /// What stands before `@` or the kind.
    pub fn prefix(&self) -> &str {
        self.full.get(..self.prefix).unwrap_or_default()
    }

    /// What stands between `@` and the kind; empty in a template.
    pub fn instance(&self) -> Option<&str> {
        self.instance.and_then(|begin| self.full.get(begin..self.dot))
    }

    /// The name without its kind.
    pub fn stem(&self) -> &str {
        self.full.get(..self.dot).unwrap_or_default()
    }

    /// The kind, for instance `service`.
    pub fn kind(&self) -> &str {
        self.full.get(self.dot..).unwrap_or_default().trim_start_matches('.')
    }

    /// Whether it is `prefix@.kind`, which cannot be started.
    pub fn is_template(&self) -> bool {
        self.instance() == Some("")
    }

    /// The template of an instance: `prefix@.kind`.
    pub fn template(&self) -> Option<String> {
        self.instance().filter(|instance| !instance.is_empty())?;
        Some(format!("{}@.{}", self.prefix(), self.kind()))
    }

    /// The instance `instance` of a template.
    pub fn instantiate(&self, instance: &str) -> String {
        format!("{}@{instance}.{}", self.prefix(), self.kind())
    }

    /// Replaces specifiers in a value: `%n` name, `%N` name without kind, `%p` prefix, `%i` instance, `%I`
    /// instance unescaped, `%j` the prefix's last part, `%t` `/run`, `%S` `/var/lib`, `%%` a percent sign.
    pub fn expand(&self, value: &str) -> Result<String, NameError> {
        let mut text = String::with_capacity(value.len());
        let mut rest = value.chars();
        while let Some(character) = rest.next() {
            if character != '%' {
                text.push(character);
                continue;
            }
            match rest.next() {
                Some('n') => text.push_str(&self.full),
                Some('N') => text.push_str(self.stem()),
                Some('p') => text.push_str(self.prefix()),
                Some('i') => text.push_str(self.instance().unwrap_or_default()),
                Some('I') => text.push_str(&unescape(self.instance().unwrap_or_default())),
                Some('j') => text.push_str(self.prefix().rsplit('-').next().unwrap_or_default()),
                Some('t') => text.push_str("/run"),
                Some('S') => text.push_str("/var/lib"),
                Some('%') => text.push('%'),
                Some(letter) => return Err(NameError::Specifier(letter)),
                None => text.push('%'),
            }
        }
        Ok(text)
    }
}

/// Takes the escapes out of an instance name: `-` is `/`, `\xNN` a byte (systemd-escape(1)).
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let code = rest.strip_prefix("\\x").and_then(|digits| digits.get(..2));
        if let Some(byte) = code.and_then(|digits| crate::text::in_base::<u8>(digits, 16)) {
            bytes.push(byte);
            rest = rest.get(4..).unwrap_or_default();
            continue;
        }
        let plain = if character == '-' { '/' } else { character };
        bytes.extend_from_slice(plain.encode_utf8(&mut [0; 4]).as_bytes());
        rest = rest.get(character.len_utf8()..).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
