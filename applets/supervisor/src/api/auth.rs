//! Who may ask (spec supervisor §1.3).

use minke_http::Request;

/// What a caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everything.
    All,
    /// What belongs to this app.
    App(i64),
}

impl Access {
    /// Whether it includes the app.
    pub fn includes(self, app: i64) -> bool {
        match self {
            Self::All => true,
            Self::App(own) => own == app,
        }
    }
}

/// The caller's access, or `None` without a valid key. On an `open` device keys are not even read.
pub fn access(request: &Request, keys: &[(String, i64)], open: bool) -> Option<Access> {
    if open {
        return Some(Access::All);
    }
    let given = given_key(request)?;
    let owner = keys.iter().find(|(key, _)| is_same(key, given)).map(|(_, app)| *app)?;
    Some(if owner == 0 { Access::All } else { Access::App(owner) })
}

/// The query parameter first, then the header.
fn given_key(request: &Request) -> Option<&str> {
    if let Some(key) = request.query("apikey") {
        return Some(key);
    }
    let (scheme, key) = request.headers.get("authorization")?.trim().split_once(' ')?;
    let known = ["apikey", "bearer"].iter().any(|name| scheme.eq_ignore_ascii_case(name));
    let key = key.trim();
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    (known && !key.is_empty() && key.chars().all(is_word)).then_some(key)
}

/// Compares in a time that does not tell how much of the key is right.
fn is_same(key: &str, given: &str) -> bool {
    let difference = key.bytes().zip(given.bytes()).fold(0, |all, (one, other)| all | (one ^ other));
    key.len() == given.len() && difference == 0 && !key.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_http::Headers;

    fn ask(query: Option<(&str, &str)>, header: Option<&str>) -> Option<Access> {
        let mut headers = Headers::new();
        if let Some(header) = header {
            headers.push("Authorization", header);
        }
        let query = query.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        let request = Request { method: "GET".into(), path: "/".into(), query, headers, body: vec![] };
        access(&request, &[("global1".into(), 0), ("app7".into(), 7)], false)
    }

    #[test]
    fn keys_come_by_query_or_header() {
        assert_eq!(ask(Some(("apikey", "global1")), None), Some(Access::All));
        assert_eq!(ask(None, Some("Bearer app7")), Some(Access::App(7)));
        assert_eq!(ask(None, Some("apikey global1")), Some(Access::All));
        assert_eq!(ask(Some(("apikey", "wrong")), Some("Bearer app7")), None);
    }

    #[test]
    fn everything_else_is_refused() {
        for header in
            ["Bearer", "Bearer ", "Basic global1", "Bearer global", "Bearer global1x", "Bearer glo-bal1"]
        {
            assert_eq!(ask(None, Some(header)), None, "{header}");
        }
        assert_eq!(ask(Some(("ApiKey", "global1")), None), None);
        assert_eq!(ask(None, None), None);
    }
}
