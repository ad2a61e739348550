//! URLs of the web, as far as a client of one server needs them (RFC 3986, RFC 9110 §4.2).

use crate::Error;

/// The parts of `http[s]://host[:port][/path]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Url<'a> {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// The host's name or address; an IPv6 address without its brackets.
    pub host: &'a str,
    /// The port: the scheme's, where none is given.
    pub port: u16,
    /// Path and query; `/` where there is none.
    pub target: &'a str,
}

impl<'a> Url<'a> {
    /// Takes a URL apart. A fragment is left out, as it is not sent; a user name is refused.
    pub fn parse(text: &'a str) -> Result<Self, Error> {
        let wrong = |what| Err(Error::Url(what, text.into()));
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return wrong("has a character that does not belong there");
        }
        let (tls, rest) = match minke_wire::text::split_once(text, "://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            _ => return wrong("does not begin with https:// or http://"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.bytes().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        // A colon of an IPv6 address stands before its closing bracket.
        let colon =
            authority.rfind(':').filter(|colon| !authority.get(*colon..).unwrap_or("]").contains(']'));
        let (host, port) = match colon.and_then(|colon| authority.split_at_checked(colon)) {
            Some((host, port)) => (host, minke_wire::text::number::<u16>(port.get(1..).unwrap_or_default())),
            None => (authority, Some(if tls { 443 } else { 80 })),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let strange = |byte: u8| matches!(byte, b'@' | b'[' | b']') || byte == b':' && bare.is_none();
        if host.is_empty() || host.bytes().any(strange) {
            return wrong("has no proper host name");
        }
        let Some(port) = port.filter(|port| *port > 0) else { return wrong("has no proper port") };
        match target {
            "" => Ok(Self { tls, host, port, target: "/" }),
            _ if target.starts_with('/') => Ok(Self { tls, host, port, target }),
            _ => wrong("has no path before its query"),
        }
    }

    /// The value of the field `Host`: the port is named where it is not the scheme's (RFC 9110 §7.2).
    pub(crate) fn authority(&self) -> String {
        let (open, close) = if self.host.bytes().any(|byte| byte == b':') { ("[", "]") } else { ("", "") };
        let usual = self.port == if self.tls { 443 } else { 80 };
        if usual {
            format!("{open}{}{close}", self.host)
        } else {
            format!("{open}{}{close}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_url() {
        for (text, tls, host, port, target, authority) in [
            ("https://api.example.com", true, "api.example.com", 443, "/", "api.example.com"),
            ("HTTPS://a:8443/os/v1/config?x=1#y", true, "a", 8443, "/os/v1/config?x=1", "a:8443"),
            ("http://10.0.0.1:80/", false, "10.0.0.1", 80, "/", "10.0.0.1"),
            ("https://[::1]/x", true, "::1", 443, "/x", "[::1]"),
            ("https://[fe80::1]:4433", true, "fe80::1", 4433, "/", "[fe80::1]:4433"),
        ] {
            let url = Url::parse(text).unwrap();
            assert_eq!(url, Url { tls, host, port, target });
            assert_eq!(url.authority(), authority);
        }
    }

    #[test]
    fn what_is_no_url_is_told() {
        for (text, problem) in [
            ("api.example.com", "does not begin with https:// or http://"),
            ("ftp://a", "does not begin with https:// or http://"),
            ("https://", "has no proper host name"),
            ("https://:443/", "has no proper host name"),
            ("https://user@host/", "has no proper host name"),
            ("https://::1/", "has no proper host name"),
            ("https://[::1/", "has no proper host name"),
            ("https://a:0/", "has no proper port"),
            ("https://a:65536/", "has no proper port"),
            ("https://a:b/", "has no proper port"),
            ("https://a?x", "has no path before its query"),
            ("https://a/\r\nX: y", "has a character that does not belong there"),
            ("https://a b", "has a character that does not belong there"),
        ] {
            assert_eq!(
                Url::parse(text).unwrap_err().to_string(),
                format!("URL \"{}\" {problem}", minke_wire::text::shown(text))
            );
        }
    }
}
