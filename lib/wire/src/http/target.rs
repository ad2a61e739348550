//! Request targets (RFC 9112, section 3.2) and percent-coding (RFC 3986, section 2.1).

/// A decoded request target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The path, percent-decoded; it starts with a slash.
    pub path: String,
    /// The query's fields in order, decoded as forms are (`+` is a blank).
    pub query: Vec<(String, String)>,
}

/// Most fields of a query.
const MAX_FIELDS: usize = 64;

/// Decodes a target in origin form (`/path?query`) or absolute form (`http://host/path`). `None` when it is
/// neither, is not UTF-8 after decoding, or holds a NUL.
pub fn parse_target(target: &str) -> Option<Target> {
    let local = if target.starts_with('/') {
        target
    } else {
        let (_, after) = crate::text::split_once(target, "://")?;
        match after.find('/') {
            Some(slash) => after.get(slash..)?,
            None => "/",
        }
    };
    let (path, query) = local.split_once('?').unwrap_or((local, ""));
    let mut fields = Vec::new();
    for field in query.split('&').filter(|field| !field.is_empty()) {
        if fields.len() == MAX_FIELDS {
            return None;
        }
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        fields.push((decode(name, true)?, decode(value, true)?));
    }
    Some(Target { path: decode(path, false)?, query: fields })
}

fn decode(text: &str, form: bool) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                high.checked_mul(16)?.checked_add(low)?
            }
            b'+' if form => b' ',
            _ => byte,
        });
    }
    if out.contains(&0) {
        return None;
    }
    String::from_utf8(out).ok()
}

fn digit(byte: u8) -> Option<u8> {
    u8::try_from(char::from(byte).to_digit(16)?).ok()
}

/// Percent-codes everything but the unreserved characters, for one path segment or query field.
pub fn escape(text: &str) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let digit = |value: u8| DIGITS.get(usize::from(value)).copied().unwrap_or('0');
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_decoded() {
        let target =
            parse_target("/v1.43/images/a%2Fb/json?x=1&&filters=%7B%22a%22%3A1%7D&q=a+b&flag").unwrap();
        assert_eq!(target.path, "/v1.43/images/a/b/json");
        let query: Vec<_> = target.query.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(query, [("x", "1"), ("filters", "{\"a\":1}"), ("q", "a b"), ("flag", "")]);
        assert_eq!(parse_target("http://host:1/a").unwrap().path, "/a");
        assert_eq!(parse_target("http://host").unwrap().path, "/");
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        for target in ["", "*", "a", "/%", "/%4", "/%zz", "/%ff", "/%00", "/?a=%", "/?a=%+1"] {
            assert_eq!(parse_target(target), None, "{target}");
        }
        assert_eq!(parse_target(&format!("/?{}", "a&".repeat(MAX_FIELDS + 1))), None);
    }

    #[test]
    fn escapes_read_back() {
        let text = "a/b c+d%é\"&=?";
        let target = parse_target(&format!("/{}?k={}", escape(text), escape(text))).unwrap();
        assert_eq!((&*target.path, &*target.query[0].1), (&*format!("/{text}"), text));
    }

    #[test]
    fn mutated_targets_never_panic() {
        crate::http::chunked::tests::mutate(b"/v1.43/a%2Fb?x=%41&y=1+2", 200_000, |input| {
            let _ = parse_target(&String::from_utf8_lossy(input));
        });
    }
}
