//! XML (W3C XML 1.0, fifth edition), of which files that people drop in need a part: elements, attributes, text, CDATA,
//! the five named entities and numbers of characters. Comments, processing instructions and a document type without
//! declarations are passed over. Nothing is fetched and nothing expands, so that a document is never larger than its
//! file.

use std::fmt;

/// How deep elements may be within each other.
const DEPTH: usize = 16;
/// How many attributes an element may have.
const ATTRIBUTES: usize = 16;

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// An element begins.
    Start {
        /// Its name.
        name: &'a str,
        /// Its attributes with their values, each name once.
        attributes: Vec<(&'a str, String)>,
    },
    /// The element ends that began last; so does one without content.
    End,
    /// Text within an element, up to the next tag; white space is text.
    Text(String),
}

/// Why a document is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong there.
    pub what: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

/// A document that is read from its beginning to its end.
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    /// The elements that are open.
    open: Vec<&'a str>,
    /// The last element had no content: its end comes next.
    ends: bool,
    /// There was an element; a second one has no place beside it.
    begun: bool,
}

impl<'a> Reader<'a> {
    /// A reader of a document.
    pub fn new(text: &'a str) -> Self {
        // A byte order mark is none of the document's characters.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { text, rest: text, open: Vec::new(), ends: false, begun: false }
    }

    /// What comes next; `None` at the end of a whole document.
    pub fn read(&mut self) -> Result<Option<Event<'a>>, Problem> {
        if std::mem::take(&mut self.ends) {
            self.open.pop();
            return Ok(Some(Event::End));
        }
        if self.open.is_empty() {
            self.skip_outside()?;
            if self.rest.is_empty() {
                return if self.begun { Ok(None) } else { Err(self.problem("no element")) };
            }
        } else if let Some(text) = self.read_text()? {
            return Ok(Some(Event::Text(text)));
        }
        if self.take("</") {
            let name = self.name()?;
            self.space();
            let (matches, closed) = (self.open.pop() == Some(name), self.take(">"));
            return if matches && closed { Ok(Some(Event::End)) } else { Err(self.problem("wrong end tag")) };
        }
        if !self.take("<") || (self.open.is_empty() && self.begun) {
            return Err(self.problem(if self.rest.is_empty() {
                "unexpected end"
            } else {
                "not expected here"
            }));
        }
        self.begun = true;
        self.start().map(Some)
    }

    /// Where it stands, with what is wrong there: for what the caller finds.
    pub fn problem(&self, what: &'static str) -> Problem {
        let read = self.text.len().saturating_sub(self.rest.len());
        let before = self.text.as_bytes().get(..read).unwrap_or_default();
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        Problem { line: u32::try_from(lines).unwrap_or(u32::MAX).saturating_add(1), what }
    }

    fn start(&mut self) -> Result<Event<'a>, Problem> {
        let name = self.name()?;
        let mut attributes: Vec<(&'a str, String)> = Vec::new();
        loop {
            let spaced = self.space();
            self.ends = self.take("/>");
            if self.ends || self.take(">") {
                break;
            }
            if !spaced || attributes.len() >= ATTRIBUTES {
                return Err(self.problem("wrong tag"));
            }
            let (name, value) = self.attribute()?;
            if attributes.iter().any(|(known, _)| *known == name) {
                return Err(self.problem("an attribute twice"));
            }
            attributes.push((name, value));
        }
        if self.open.len() >= DEPTH {
            return Err(self.problem("elements too deep"));
        }
        self.open.push(name);
        Ok(Event::Start { name, attributes })
    }

    fn attribute(&mut self) -> Result<(&'a str, String), Problem> {
        let name = self.name()?;
        self.space();
        let equals = self.take("=");
        self.space();
        let quote = if self.take("\"") {
            "\""
        } else if self.take("'") {
            "'"
        } else {
            ""
        };
        if !equals || quote.is_empty() {
            return Err(self.problem("an attribute without a value"));
        }
        let mut value = String::new();
        let raw = self.until(quote)?;
        self.decode(raw, true, &mut value)?;
        Ok((name, value))
    }

    /// Text and CDATA up to the next tag; `None`: there is none.
    fn read_text(&mut self) -> Result<Option<String>, Problem> {
        let mut text = None;
        loop {
            if self.skip_remark()? {
                continue;
            }
            let out = text.get_or_insert_default();
            if self.take("<![CDATA[") {
                let raw = self.until("]]>")?;
                self.check(raw)?;
                push_lines(raw, false, out);
            } else if self.rest.starts_with('<') || self.rest.is_empty() {
                return Ok(text.filter(|text| !text.is_empty()));
            } else {
                let end = self.rest.find('<').unwrap_or(self.rest.len());
                let (raw, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
                if crate::text::contains(raw, "]]>") {
                    return Err(self.problem("]]> in text"));
                }
                self.decode(raw, false, out)?;
                self.rest = rest;
            }
        }
    }

    /// White space, remarks and the document type before and after the one element.
    fn skip_outside(&mut self) -> Result<(), Problem> {
        loop {
            if self.space() || self.skip_remark()? {
                continue;
            }
            if self.begun || !self.take("<!DOCTYPE") {
                return Ok(());
            }
            loop {
                let end =
                    self.rest.find(['>', '[', '"', '\'']).ok_or_else(|| self.problem("unexpected end"))?;
                let (_, rest) = self.rest.split_at_checked(end).unwrap_or_default();
                self.rest = rest;
                if self.take(">") {
                    break;
                } else if self.take("\"") {
                    self.until("\"")?;
                } else if self.take("'") {
                    self.until("'")?;
                } else {
                    return Err(self.problem("declarations are not read"));
                }
            }
        }
    }

    /// A comment or processing instruction.
    fn skip_remark(&mut self) -> Result<bool, Problem> {
        if self.take("<!--") {
            self.until("--")?;
            return if self.take(">") { Ok(true) } else { Err(self.problem("-- in a comment")) };
        }
        if self.take("<?") {
            self.until("?>")?;
            return Ok(true);
        }
        Ok(false)
    }

    fn take(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Passes over white space; whether there was any.
    fn space(&mut self) -> bool {
        let before = self.rest.len();
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        self.rest.len() != before
    }

    /// What stands before `end`, which is passed over too.
    fn until(&mut self, end: &str) -> Result<&'a str, Problem> {
        let (before, rest) =
            crate::text::split_once(self.rest, end).ok_or_else(|| self.problem("unexpected end"))?;
        self.rest = rest;
        Ok(before)
    }

    fn name(&mut self) -> Result<&'a str, Problem> {
        let inner = |character: char| {
            character.is_ascii_alphanumeric()
                || matches!(character, '_' | ':' | '-' | '.')
                || !character.is_ascii()
        };
        let end = self.rest.find(|character| !inner(character)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at_checked(end).unwrap_or_default();
        if name.is_empty()
            || name.starts_with(|first: char| first.is_ascii_digit() || matches!(first, '-' | '.'))
        {
            return Err(self.problem("a name is missing"));
        }
        self.rest = rest;
        Ok(name)
    }

    fn check(&self, raw: &str) -> Result<(), Problem> {
        let wrong = raw.chars().any(|character| !is_character(character));
        if wrong { Err(self.problem("a control character")) } else { Ok(()) }
    }

    /// Appends `raw`, which is the value of an attribute or text, with its entities replaced.
    fn decode(&self, raw: &str, value: bool, out: &mut String) -> Result<(), Problem> {
        self.check(raw)?;
        if raw.bytes().any(|byte| byte == b'<') {
            return Err(self.problem("< in a value"));
        }
        let mut rest = raw;
        while let Some((before, after)) = crate::text::split_once(rest, "&") {
            push_lines(before, value, out);
            let (entity, after) =
                crate::text::split_once(after, ";").ok_or_else(|| self.problem("& without an entity"))?;
            out.push(character(entity).ok_or_else(|| self.problem("unknown entity"))?);
            rest = after;
        }
        push_lines(rest, value, out);
        Ok(())
    }
}

/// The character that an entity stands for.
fn character(entity: &str) -> Option<char> {
    let named = match entity {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = entity.strip_prefix('#')?;
            let (digits, base) = number.strip_prefix('x').map_or((number, 10), |digits| (digits, 16));
            let mut code = if digits.is_empty() { u32::MAX } else { 0u32 };
            for digit in digits.chars() {
                code = code.checked_mul(base)?.checked_add(digit.to_digit(base)?)?;
            }
            return char::from_u32(code).filter(|character| is_character(*character));
        }
    };
    Some(named)
}

/// XML §2.2. Surrogates are no characters of ours.
fn is_character(character: char) -> bool {
    !matches!(character, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}')
}

/// Appends text; lines end by a line feed (XML §2.11). White space in the value of an attribute is a space (§3.3.3).
fn push_lines(raw: &str, value: bool, out: &mut String) {
    let mut characters = raw.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' | '\n' | '\t' if value => out.push(' '),
            '\r' => out.push('\n'),
            character => out.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A document as one line: `name[attribute=value] text /`.
    fn read(text: &str) -> Result<String, Problem> {
        let (mut reader, mut out) = (Reader::new(text), String::new());
        while let Some(event) = reader.read()? {
            match event {
                Event::Start { name, attributes } => {
                    out.push_str(name);
                    for (name, value) in attributes {
                        out.push_str(&format!("[{name}={value}]"));
                    }
                }
                Event::End => out.push('/'),
                Event::Text(text) => out.push_str(&format!("'{text}'")),
            }
        }
        Ok(out)
    }

    const SERVICE: &str = "<?xml version=\"1.0\" standalone='no'?><!--*-nxml-*-->\n\
        <!DOCTYPE service-group SYSTEM \"avahi-service.dtd\">\n<service-group>\n\
        <name replace-wildcards=\"yes\">%h</name>\n  <service protocol='any'>\n    <type>_ssh._tcp</type>\n\
        <port>22</port><txt-record>a=&lt;b&gt;&amp;&#x41;&#66;</txt-record></service>\n</service-group>\n<!-- end -->\n";

    #[test]
    fn a_service_file() {
        let read = read(SERVICE).unwrap().replace([' ', '\n'], "");
        assert_eq!(
            read,
            "service-group''name[replace-wildcards=yes]'%h'/''service[protocol=any]''type'_ssh._tcp'/''\
             port'22'/txt-record'a=<b>&AB'//''/"
        );
    }

    #[test]
    fn what_stands_for_characters() {
        assert_eq!(read("<a>&quot;&apos;&#10;<![CDATA[<&amp;>]]>x</a>").unwrap(), "a'\"'\n<&amp;>x'/");
        assert_eq!(read("<a b=\"1\r\n2\t3&#9;4\"/>").unwrap(), "a[b=1 2 3\t4]/");
        assert_eq!(read("<a>1\r\n2\r3</a>").unwrap(), "a'1\n2\n3'/");
        assert_eq!(read("<ä>ö<!-- c -->ü<?p i?></ä>").unwrap(), "ä'öü'/");
        assert_eq!(read("\u{feff}<a/>").unwrap(), "a/");
    }

    #[test]
    fn what_is_no_document_is_refused_with_its_line() {
        let cases = [
            ("", 1, "no element"),
            ("\n\n", 3, "no element"),
            ("<a>", 1, "unexpected end"),
            ("<a>\n</b>", 2, "wrong end tag"),
            ("<a/>\n<b/>", 2, "not expected here"),
            ("text", 1, "not expected here"),
            ("<a/>text", 1, "not expected here"),
            ("<a>&nbsp;</a>", 1, "unknown entity"),
            ("<a>&#0;</a>", 1, "unknown entity"),
            ("<a>&#xd800;</a>", 1, "unknown entity"),
            ("<a>&#99999999999;</a>", 1, "unknown entity"),
            ("<a>1 & 2</a>", 1, "& without an entity"),
            ("<a>\u{1}</a>", 1, "a control character"),
            ("<a b=1/>", 1, "an attribute without a value"),
            ("<a b/>", 1, "an attribute without a value"),
            ("<a b='1'c='2'/>", 1, "wrong tag"),
            ("<a b='1' b='2'/>", 1, "an attribute twice"),
            ("<a b='<'/>", 1, "< in a value"),
            ("<a>]]></a>", 1, "]]> in text"),
            ("<a><!-- -- --></a>", 1, "-- in a comment"),
            ("<a><!-- ", 1, "unexpected end"),
            ("<a><![CDATA[", 1, "unexpected end"),
            ("<1/>", 1, "a name is missing"),
            ("<a/", 1, "wrong tag"),
            ("<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", 1, "declarations are not read"),
            ("<!DOCTYPE a", 1, "unexpected end"),
            ("<a/><!DOCTYPE a>", 1, "not expected here"),
        ];
        for (text, line, what) in cases {
            assert_eq!(read(text), Err(Problem { line, what }), "{text}");
        }
        let deep = "<a>".repeat(DEPTH + 1);
        assert_eq!(read(&deep).unwrap_err().what, "elements too deep");
        assert_eq!(Problem { line: 3, what: "wrong tag" }.to_string(), "line 3: wrong tag");
    }

    #[test]
    fn any_bytes_end_without_a_panic_and_grow_nothing() {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut below = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).unwrap() % limit
        };
        let pieces = [
            "<",
            ">",
            "</a>",
            "<a>",
            "&",
            ";",
            "&#",
            "<!--",
            "-->",
            "<![CDATA[",
            "]]>",
            "'",
            "\"",
            "=",
            "/",
            "ö",
        ];
        let mut whole = 0;
        for _ in 0..30_000 {
            let mut bytes = SERVICE.as_bytes().to_vec();
            for _ in 0..below(4) {
                let at = below(bytes.len());
                match below(4) {
                    0 => bytes[at] = u8::try_from(below(256)).unwrap(),
                    1 => bytes.truncate(at + 1),
                    2 => drop(bytes.remove(at)),
                    _ => {
                        let piece = pieces[below(pieces.len())].bytes();
                        bytes.splice(at..at, piece);
                    }
                }
            }
            let text = String::from_utf8_lossy(&bytes);
            if let Ok(read) = read(&text) {
                whole += 1;
                assert!(read.len() <= text.len() * 3);
            }
        }
        assert!(whole > 1000);
    }
}
