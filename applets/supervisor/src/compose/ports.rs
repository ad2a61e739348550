//! Published ports (spec supervisor §3.3): `[[host-ip:]ext[-ext]:]int[-int][/tcp|udp]`.

use minke_wire::json::Value;

/// Most ports of one service: each takes memory in the engine.
const MAX_PORTS: usize = 4096;

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Port and protocol in the container, for instance `80/tcp`.
    pub internal: String,
    /// The host address to listen on, or empty for all.
    pub host: String,
    /// The host's port.
    pub external: u16,
}

/// Reads all entries of a service.
pub fn ports(entries: &[Value]) -> Result<Vec<Port>, String> {
    let mut ports = Vec::new();
    for entry in entries {
        let text = match entry {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return Err(format!("port {entry}: must be a text")),
        };
        let found = port(text.trim())
            .ok_or_else(|| format!("port '{text}': must be [[host-ip:]port[-port]:]port[-port][/tcp|udp]"))?;
        ports.extend(found);
        if ports.len() > MAX_PORTS {
            return Err(format!("more than {MAX_PORTS} published ports"));
        }
    }
    Ok(ports)
}

fn port(text: &str) -> Option<Vec<Port>> {
    let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp") {
        return None;
    }
    let (outside, internal) = match text.rsplit_once(':') {
        Some((outside, internal)) => (Some(outside), internal),
        None => (None, text),
    };
    let (host, external) = match outside.map(|outside| outside.rsplit_once(':').unwrap_or(("", outside))) {
        Some((host, external)) => (host, Some(external)),
        None => ("", None),
    };
    if outside.is_some_and(|outside| outside.starts_with(':') && host.is_empty())
        || !host.bytes().all(|byte| byte.is_ascii_hexdigit() || b".:".contains(&byte))
    {
        return None;
    }
    let (first, last) = range(internal)?;
    let size = last.checked_sub(first)?;
    let (start, end) = match external.map(range) {
        None => (first, last),
        Some(found) => match found? {
            // One outside port and a range inside: a range of the same size outside.
            (start, end) if start == end => (start, start.checked_add(size)?),
            pair => pair,
        },
    };
    if end.checked_sub(start)? != size {
        return None;
    }
    let pair = |(internal, external): (u16, u16)| Port {
        internal: format!("{internal}/{protocol}"),
        host: host.to_owned(),
        external,
    };
    Some((first..=last).zip(start..=end).map(pair).collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { text.parse::<u16>().ok().filter(|port| *port > 0) } else { None }
    };
    match text.split_once('-') {
        Some((first, last)) => Some((number(first)?, number(last)?)),
        None => number(text).map(|port| (port, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    fn read(text: &str) -> Option<Vec<(String, String, u16)>> {
        let found = ports(&[json!(text)]).ok()?;
        Some(found.into_iter().map(|port| (port.internal, port.host, port.external)).collect())
    }

    fn one(internal: &str, host: &str, external: u16) -> Option<Vec<(String, String, u16)>> {
        Some(vec![(internal.to_owned(), host.to_owned(), external)])
    }

    #[test]
    fn single_ports() {
        assert_eq!(read("80"), one("80/tcp", "", 80));
        assert_eq!(read("8080:80"), one("80/tcp", "", 8080));
        assert_eq!(read("53:53/udp"), one("53/udp", "", 53));
        assert_eq!(read("127.0.0.1:8080:80"), one("80/tcp", "127.0.0.1", 8080));
        assert_eq!(read("fe80::1:8080:80"), one("80/tcp", "fe80::1", 8080));
        assert_eq!(ports(&[json!(80)]).unwrap()[0].external, 80);
    }

    #[test]
    fn ranges() {
        assert_eq!(read("80-82").unwrap().len(), 3);
        assert_eq!(read("8080-8081:80-81").unwrap()[1], ("81/tcp".to_owned(), String::new(), 8081));
        assert_eq!(read("8080:80-81").unwrap()[1], ("81/tcp".to_owned(), String::new(), 8081));
    }

    #[test]
    fn what_does_not_match_is_an_error() {
        for text in [
            "",
            "a",
            "0",
            "65536",
            "80/sctp",
            "80-79",
            "1-2:80-82",
            "8080:",
            ":80",
            "127.0.0.1::80",
            "x:1:2",
            "80-",
            "65535:80-81",
            "1-9999",
            "+80",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(ports(&[json!({})]).is_err());
    }
}
