//! What a server wants of who asks: the field `WWW-Authenticate` (RFC 9110 §11.6.1, RFC 6750 §3).

/// Most challenges that are read, and most parameters of one.
const MOST: usize = 16;

/// One way to authenticate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme, as written: `Bearer`, `Basic`. To be compared without case.
    pub scheme: String,
    /// Names as written, and values without their quotes.
    pub parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Whether this is the scheme.
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }

    /// A parameter's value, or the empty text.
    pub fn get(&self, name: &str) -> &str {
        let found = self.parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    }
}

/// The challenges of one field. What is not understood ends the list.
pub fn parse_challenges(field: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = field;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let name = word(&mut rest);
        if name.is_empty() {
            return found;
        }
        let after = rest.trim_start_matches([' ', '\t']);
        let Some(value) = after.strip_prefix('=') else {
            if found.len() >= MOST {
                return found;
            }
            found.push(Challenge { scheme: name.to_owned(), parameters: Vec::new() });
            rest = after;
            continue;
        };
        rest = value.trim_start_matches([' ', '\t']);
        let value = value_of(&mut rest);
        let (Some(value), Some(challenge)) = (value, found.last_mut()) else { return found };
        if challenge.parameters.len() < MOST {
            challenge.parameters.push((name.to_owned(), value));
        }
    }
}

/// A token from the front (RFC 9110 §5.6.2; and the characters of token68, which is no parameter).
fn word<'a>(rest: &mut &'a str) -> &'a str {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte);
    let end = rest.bytes().position(|byte| !is_token(byte)).unwrap_or(rest.len());
    let (word, after) = rest.split_at_checked(end).unwrap_or_default();
    *rest = after;
    word
}

/// A token or a quoted text from the front.
fn value_of(rest: &mut &str) -> Option<String> {
    let Some(quoted) = rest.strip_prefix('"') else { return Some(word(rest).to_owned()) };
    let mut value = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next()? {
            '"' => break,
            '\\' => value.push(letters.next()?),
            letter => value.push(letter),
        }
    }
    *rest = letters.as_str();
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_as_registries_write_them() {
        let field = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/busybox:pull,push""#;
        let [bearer] = parse_challenges(field).try_into().unwrap();
        assert!(bearer.is("bearer"));
        assert_eq!(bearer.get("realm"), "https://auth.docker.io/token");
        assert_eq!(bearer.get("Scope"), "repository:library/busybox:pull,push");
        assert_eq!(bearer.get("error"), "");
        let two = parse_challenges(r#"Negotiate YII/a==, Basic realm = "a \"b\"" , charset=UTF-8"#);
        assert_eq!(two.len(), 1, "what follows a token68 with padding is not looked at");
        let two = parse_challenges(r#"Negotiate , Basic realm = "a \"b\"" , charset=UTF-8,, Bearer realm=x"#);
        assert_eq!(two.iter().map(|one| &*one.scheme).collect::<Vec<_>>(), ["Negotiate", "Basic", "Bearer"]);
        assert_eq!((two[1].get("realm"), two[1].get("charset")), ("a \"b\"", "UTF-8"));
        for broken in ["", ",", "=x", "Basic realm=\"open", "Bearer =", "é"] {
            assert!(parse_challenges(broken).iter().all(|one| one.get("realm").is_empty()), "{broken}");
        }
    }

    #[test]
    fn never_panics() {
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut random = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % limit
        };
        let start = br#"Bearer realm="https://a/b", service="c" , Basic realm=x"#;
        for _ in 0..20_000 {
            let mut text = start.to_vec();
            for _ in 0..=random(4) {
                let at = random(text.len());
                match random(3) {
                    0 => text[at] = b"\"\\=, \xc3a"[random(7)],
                    1 => text.truncate(at.max(1)),
                    _ => text.insert(at, b"\"=,\\ "[random(5)]),
                }
            }
            for challenge in parse_challenges(&String::from_utf8_lossy(&text)) {
                assert!(!challenge.scheme.is_empty());
            }
        }
    }
}
