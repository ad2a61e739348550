//! Service files in Avahi's format (avahi.service(5)): one XML document with a `service-group`, in which a `name` and
//! services.

use crate::core::Service;
use minke_wire::base64;
use minke_wire::text;
use minke_wire::xml::{Event, Problem, Reader};

/// The most services of one file.
const MOST_SERVICES: usize = 16;
/// The longest string of a TXT record (RFC 6763 §6.1).
const LONGEST_TEXT: usize = 255;

/// The services of a file.
pub(crate) fn parse(document: &str) -> Result<Vec<Service>, Problem> {
    let mut parser = Parser { reader: Reader::new(document), name: None, services: Vec::new() };
    parser.document()?;
    let Parser { reader, name, mut services } = parser;
    let Some((name, wildcards)) = name else { return Err(reader.problem("<name> is missing")) };
    if services.is_empty() {
        return Err(reader.problem("<service> is missing"));
    }
    for service in &mut services {
        service.instance.clone_from(&name);
        service.wildcards = wildcards;
    }
    Ok(services)
}

struct Parser<'a> {
    reader: Reader<'a>,
    name: Option<(String, bool)>,
    services: Vec<Service>,
}

type Attributes<'a> = Vec<(&'a str, String)>;

impl<'a> Parser<'a> {
    fn document(&mut self) -> Result<(), Problem> {
        let Some(("service-group", _)) = self.child()? else {
            return Err(self.reader.problem("<service-group> is missing"));
        };
        while let Some((element, attributes)) = self.child()? {
            match element {
                "name" => {
                    let wildcards = attribute(&attributes, "replace-wildcards") == Some("yes");
                    let name = self.text()?;
                    if name.is_empty() || self.name.is_some() {
                        return Err(self.reader.problem("<name> must stand once"));
                    }
                    self.name = Some((name, wildcards));
                }
                "service" => self.service(&attributes)?,
                _ => return Err(self.reader.problem("unknown element")),
            }
        }
        // The document's own end: what follows is checked too.
        self.reader.read().map(|_| ())
    }

    fn service(&mut self, attributes: &Attributes<'a>) -> Result<(), Problem> {
        let (ipv4, ipv6) = match attribute(attributes, "protocol") {
            None | Some("any") => (true, true),
            Some("ipv4") => (true, false),
            Some("ipv6") => (false, true),
            Some(_) => return Err(self.reader.problem("protocol is none of any, ipv4, ipv6")),
        };
        let mut service = Service {
            instance: String::new(),
            wildcards: false,
            kind: String::new(),
            subtypes: Vec::new(),
            port: 0,
            txt: Vec::new(),
            target: None,
            ipv4,
            ipv6,
        };
        let mut port = None;
        while let Some((element, attributes)) = self.child()? {
            let text = self.text()?;
            match element {
                "type" => service.kind = text,
                "subtype" => service.subtypes.push(text),
                "domain-name" if matches!(text.as_str(), "" | "local" | "local.") => {}
                "domain-name" => return Err(self.reader.problem("a domain other than local")),
                "host-name" => service.target = Some(text).filter(|text| !text.is_empty()),
                "port" => port = text::number::<u16>(&text),
                "txt-record" => {
                    let format = attribute(&attributes, "value-format");
                    let txt = txt(&text, format.unwrap_or("text"));
                    service.txt.push(txt.ok_or_else(|| self.reader.problem("wrong <txt-record>"))?);
                }
                _ => return Err(self.reader.problem("unknown element")),
            }
        }
        service.port = port.ok_or_else(|| self.reader.problem("<port> is missing or wrong"))?;
        if !is_type(&service.kind) {
            return Err(self.reader.problem("<type> is missing or wrong"));
        }
        if self.services.len() >= MOST_SERVICES {
            return Err(self.reader.problem("too many services"));
        }
        self.services.push(service);
        Ok(())
    }

    /// The next element within the open one; `None`: that has ended. Text between elements has no place but white space.
    fn child(&mut self) -> Result<Option<(&'a str, Attributes<'a>)>, Problem> {
        loop {
            match self.reader.read()? {
                Some(Event::Start { name, attributes }) => return Ok(Some((name, attributes))),
                Some(Event::Text(text)) if !text.trim().is_empty() => {
                    return Err(self.reader.problem("text between elements"));
                }
                Some(Event::Text(_)) => {}
                Some(Event::End) | None => return Ok(None),
            }
        }
    }

    /// The text of the open element, up to its end, without white space around it.
    fn text(&mut self) -> Result<String, Problem> {
        let mut whole = String::new();
        loop {
            match self.reader.read()? {
                Some(Event::Text(text)) => whole.push_str(&text),
                Some(Event::Start { .. }) => return Err(self.reader.problem("an element where text stands")),
                Some(Event::End) | None => return Ok(whole.trim().to_owned()),
            }
        }
    }
}

fn attribute<'a>(attributes: &'a Attributes<'_>, name: &str) -> Option<&'a str> {
    attributes.iter().find(|(found, _)| *found == name).map(|(_, value)| value.as_str())
}

/// Whether it is a type of services, as in `_ssh._tcp` (RFC 6763 §7).
pub(crate) fn is_type(text: &str) -> bool {
    let Some((application, transport)) = text::split_once(text, ".") else { return false };
    application.len() > 1 && application.starts_with('_') && matches!(transport, "_tcp" | "_udp")
}

/// A string of a TXT record: `key` or `key=value`, the value as it stands, in hexadecimal digits or in base64.
fn txt(text: &str, format: &str) -> Option<Vec<u8>> {
    let bytes = match (format, text::split_once(text, "=")) {
        ("text", _) | ("binary-hex" | "binary-base64", None) => text.as_bytes().to_vec(),
        ("binary-hex", Some((key, value))) => joined(key, &hexadecimal(value)?),
        ("binary-base64", Some((key, value))) => joined(key, &base64::decode(value.as_bytes())?),
        _ => return None,
    };
    // RFC 6763 §6.4: a string without a key is no use to anybody.
    (!bytes.is_empty() && bytes.len() <= LONGEST_TEXT && !bytes.starts_with(b"=")).then_some(bytes)
}

fn joined(key: &str, value: &[u8]) -> Vec<u8> {
    [key.as_bytes(), b"=", value].concat()
}

fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    for pair in pairs {
        let mut byte = 0;
        for digit in pair {
            byte = byte << 4 | char::from(*digit).to_digit(16)?;
        }
        bytes.push(u8::try_from(byte).ok()?);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSH: &str = include_str!("../../../image/files/ssh.service");

    fn group(inner: &str) -> String {
        format!("<service-group><name>x</name><service>{inner}</service></service-group>")
    }

    fn refused(document: &str) -> &'static str {
        parse(document).unwrap_err().what
    }

    #[test]
    fn the_file_that_ships() {
        let services = parse(SSH).unwrap();
        let [ssh] = &services[..] else { panic!("{services:?}") };
        assert_eq!((ssh.instance.as_str(), ssh.wildcards), ("%h", true));
        assert_eq!((ssh.kind.as_str(), ssh.port, &ssh.target), ("_ssh._tcp", 22222, &None));
        assert_eq!(ssh.subtypes, ["_resin-device._sub._ssh._tcp"]);
        assert!(ssh.txt.is_empty() && ssh.ipv4 && ssh.ipv6);
    }

    #[test]
    fn everything_that_a_file_can_say() {
        let document = r#"<?xml version="1.0" standalone='no'?>
            <!DOCTYPE service-group SYSTEM "avahi-service.dtd">
            <service-group>
              <name>A &amp; B</name>
              <service protocol="ipv4">
                <type>_http._tcp</type><subtype>_printer._sub._http._tcp</subtype>
                <domain-name>local</domain-name><host-name>other.local</host-name><port>80</port>
                <txt-record>path=/ x</txt-record>
                <txt-record value-format="binary-hex">key=00fF</txt-record>
                <txt-record value-format="binary-base64">key=Zm9v</txt-record>
                <txt-record value-format="text">alone</txt-record>
              </service>
              <service protocol='ipv6'><type>_x._udp</type><port>65535</port></service>
            </service-group>"#;
        let services = parse(document).unwrap();
        let [http, other] = &services[..] else { panic!("{services:?}") };
        assert_eq!((http.instance.as_str(), http.wildcards), ("A & B", false));
        assert_eq!(http.target.as_deref(), Some("other.local"));
        assert_eq!(http.txt, [&b"path=/ x"[..], b"key=\0\xff", b"key=foo", b"alone"]);
        assert_eq!((http.ipv4, http.ipv6, http.port), (true, false, 80));
        assert_eq!((other.ipv4, other.ipv6, other.port), (false, true, 65535));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(refused("<a/>"), "<service-group> is missing");
        assert_eq!(refused("<service-group/>"), "<name> is missing");
        assert_eq!(refused("<service-group><name>x</name></service-group>"), "<service> is missing");
        assert_eq!(refused("<service-group><name/></service-group>"), "<name> must stand once");
        assert_eq!(refused("<service-group>x</service-group>"), "text between elements");
        assert_eq!(refused(&group("<port>1</port>")), "<type> is missing or wrong");
        assert_eq!(refused(&group("<type>_a._b</type><port>1</port>")), "<type> is missing or wrong");
        for port in ["", "65536", "-1", "ssh"] {
            let inner = format!("<type>_a._tcp</type><port>{port}</port>");
            assert_eq!(refused(&group(&inner)), "<port> is missing or wrong", "{port}");
        }
        assert_eq!(refused(&group("<domain-name>example.com</domain-name>")), "a domain other than local");
        assert_eq!(refused(&group("<txt-record>=x</txt-record>")), "wrong <txt-record>");
        let binary = |format: &str, value: &str| {
            refused(&group(&format!("<txt-record value-format='binary-{format}'>k={value}</txt-record>")))
        };
        for (format, value) in [("hex", "1"), ("hex", "+1"), ("hex", "0g"), ("base64", "Z"), ("octal", "1")] {
            assert_eq!(binary(format, value), "wrong <txt-record>", "{format} {value}");
        }
        let long = format!("<txt-record>{}</txt-record>", "x".repeat(256));
        assert_eq!(refused(&group(&long)), "wrong <txt-record>");
        assert_eq!(refused(&group("<mail/>")), "unknown element");
        let many = "<service><type>_a._tcp</type><port>1</port></service>".repeat(17);
        assert_eq!(
            refused(&format!("<service-group><name>x</name>{many}</service-group>")),
            "too many services"
        );
        let problem = parse(&group("\n\n<mail/>")).unwrap_err();
        assert_eq!(problem.to_string(), "line 3: unknown element");
    }
}
