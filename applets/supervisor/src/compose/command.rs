//! Splitting a command line into words (spec supervisor §3.2, `command`): quotes as in a shell, `$` literal,
//! operators kept as words of their own. Nothing is ever run by a shell here.

/// Operators, longest first.
const OPERATORS: [&str; 15] =
    ["<<<", "||", "&&", ";;", "|&", "<(", ">>", ">&", "<&", "&", ";", "(", ")", "|", "<"];

/// Splits `text`. The error says which quote has no end.
pub fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    // `None` between words; an empty quoted word is `Some`.
    let mut word: Option<String> = None;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = rest.get(first.len_utf8()..).unwrap_or_default();
        if first.is_whitespace() {
            words.extend(word.take());
            rest = after;
        } else if first == '\'' {
            let (quoted, tail) = after.split_once('\'').ok_or_else(|| unclosed("'", text))?;
            word.get_or_insert_default().push_str(quoted);
            rest = tail;
        } else if first == '"' {
            rest = double_quoted(after, word.get_or_insert_default()).ok_or_else(|| unclosed("\"", text))?;
        } else if first == '\\' {
            let escaped = after.chars().next();
            word.get_or_insert_default().extend(escaped);
            rest = after.get(escaped.map_or(0, char::len_utf8)..).unwrap_or_default();
        } else if let Some(operator) = operator(rest) {
            words.extend(word.take());
            words.push(operator.to_owned());
            rest = rest.get(operator.len()..).unwrap_or_default();
        } else {
            word.get_or_insert_default().push(first);
            rest = after;
        }
    }
    words.extend(word);
    Ok(words)
}

fn operator(text: &str) -> Option<&'static str> {
    OPERATORS.iter().chain(&[">"]).find(|operator| text.starts_with(**operator)).copied()
}

/// Reads to the closing quote and returns what follows it.
fn double_quoted<'a>(text: &'a str, word: &mut String) -> Option<&'a str> {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some(characters.as_str()),
            // POSIX, XCU 2.2.3: only before these is the backslash taken off.
            '\\' => match characters.next()? {
                escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                other => word.extend(['\\', other]),
            },
            other => word.push(other),
        }
    }
    None
}

fn unclosed(quote: &str, text: &str) -> String {
    format!("a {quote} without its end in: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_quotes_and_escapes() {
        for (text, wanted) in [
            ("a  b\tc", vec!["a", "b", "c"]),
            ("sh -c 'echo \"x\" $Y'", vec!["sh", "-c", "echo \"x\" $Y"]),
            ("a\"b c\"d ''", vec!["ab cd", ""]),
            (r#"a\ b "q\"\n\\""#, vec!["a b", r#"q"\n\"#]),
            ("echo $HOME *.txt é", vec!["echo", "$HOME", "*.txt", "é"]),
            ("a&&b || c>d;e", vec!["a", "&&", "b", "||", "c", ">", "d", ";", "e"]),
            ("", vec![]),
            ("a\\", vec!["a"]),
        ] {
            assert_eq!(split(text).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn an_open_quote_is_an_error() {
        assert!(split("a 'b").is_err() && split("a \"b").is_err() && split("\"\\").is_err());
    }
}
