//! Published ports (spec supervisor §3.3): `[[host-ip:]ext[-ext]:]int[-int][/tcp|udp]`.

use crate::values::word;
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
        let text = word(entry).ok_or_else(|| format!("port {entry}: must be a text"))?;
        add(text.trim(), &mut ports)
            .ok_or_else(|| format!("port '{text}': must be [[host-ip:]port[-port]:]port[-port][/tcp|udp]"))?;
        if ports.len() > MAX_PORTS {
            return Err(format!("more than {MAX_PORTS} published ports"));
        }
    }
    Ok(ports)
}

fn add(text: &str, ports: &mut Vec<Port>) -> Option<()> {
    let (text, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    if !matches!(protocol, "tcp" | "udp") {
        return None;
    }
    // What has no outside port gets the same one.
    let (outside, internal) = text.rsplit_once(':').unwrap_or((text, text));
    let (host, external) = outside.rsplit_once(':').unwrap_or(("", outside));
    if (host.is_empty() && outside.starts_with(':'))
        || !host.bytes().all(|byte| byte.is_ascii_hexdigit() || b".:".contains(&byte))
    {
        return None;
    }
    let (first, last) = range(internal)?;
    let size = last.checked_sub(first)?;
    let (start, mut end) = range(external)?;
    if start == end {
        // One outside port and a range inside: a range of the same size outside.
        end = start.checked_add(size)?;
    }
    if end.checked_sub(start)? != size {
        return None;
    }
    for step in 0..=size {
        ports.push(Port {
            internal: format!("{}/{protocol}", first.saturating_add(step)),
            host: host.to_owned(),
            external: start.saturating_add(step),
        });
    }
    Some(())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some((number(first)?, number(last)?))
}

fn number(text: &str) -> Option<u16> {
    // `parse` would take a sign.
    if text.starts_with('+') { None } else { minke_wire::text::number(text).filter(|port| *port > 0) }
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
