//! What this device publishes: the host and its services, their names, and the records that follow from them.

use super::record::{HOST_TTL, OTHER_TTL, Record};
use super::{Address, Service, Time};
use minke_wire::dns::{Kind, Name, reverse};
use minke_wire::text;
use std::net::IpAddr;
use std::rc::Rc;

/// Bytes of the longest label (RFC 1035 §2.3.4).
const LONGEST_LABEL: usize = 63;
/// Bytes of the longest TXT record that is published; RFC 6763 §6.2 advises 1,300, which fits an Ethernet packet.
const LONGEST_TXT: usize = 8000;
/// Most services, and most subtypes of each.
const MOST_SERVICES: usize = 256;
const MOST_SUBTYPES: usize = 32;

/// Records that are probed for, announced and renamed together: those of the host, or those of a service.
#[derive(Debug)]
pub(crate) struct Group {
    /// Tells it from all others of this run.
    pub(crate) id: u32,
    /// The caller's number and what it published; `None`: the host.
    pub(crate) service: Option<Rc<(u32, Service)>>,
    /// The label that is wanted.
    pub(crate) wanted: String,
    /// Which of `name`, `name-2`, `name-3`… it has.
    pub(crate) number: u32,
    /// The label now.
    pub(crate) label: String,
    /// The name of its unique records.
    pub(crate) name: Name,
    /// It only tries whether the wanted name of this group is free again.
    pub(crate) trial_of: Option<u32>,
    /// Conflicts since the wanted name was had last.
    pub(crate) attempts: u32,
    /// When it got a number; how long to wait before a trial; when that is.
    pub(crate) renamed: Time,
    pub(crate) pause: u32,
    pub(crate) retry: Time,
    /// When it went back to the wanted name; 0: never.
    pub(crate) returned: Time,
}

impl Group {
    /// A group with the name that it wants.
    pub(crate) fn new(id: u32, service: Option<Rc<(u32, Service)>>) -> Self {
        Self {
            id,
            service,
            wanted: String::new(),
            number: 1,
            label: String::new(),
            name: Name::ROOT,
            trial_of: None,
            attempts: 0,
            renamed: 0,
            pause: 0,
            retry: 0,
            returned: 0,
        }
    }

    /// Whether it is the host's.
    pub(crate) fn is_host(&self) -> bool {
        self.service.is_none()
    }

    /// Gives it a number; the label and the name follow.
    pub(crate) fn set_number(&mut self, number: u32) {
        self.number = number;
        self.label = numbered(&self.wanted, number, self.is_host());
        self.name = self.name_of(&self.label).unwrap_or(Name::ROOT);
    }

    /// The name of the unique records, had it this number.
    pub(crate) fn numbered_name(&self, number: u32) -> Option<Name> {
        self.name_of(&numbered(&self.wanted, number, self.is_host()))
    }

    fn name_of(&self, label: &str) -> Option<Name> {
        let label = Name::from_labels(std::iter::once(label.as_bytes()))?;
        let Some(service) = &self.service else { return label.join(&local()) };
        label.join(&type_name(&service.1.kind)?)
    }

    /// The records for a link with these addresses, over one of the families.
    pub(crate) fn records(&self, host: &Name, addresses: &[Address], v6: bool, out: &mut Vec<Record>) {
        if self.name.is_root() {
            return;
        }
        match &self.service {
            None => self.host_records(addresses, out),
            Some(service) if if v6 { service.1.ipv6 } else { service.1.ipv4 } => {
                // What is checked when it comes in has a name.
                let _ = self.service_records(&service.1, host, out);
            }
            Some(_) => {}
        }
    }

    fn host_records(&self, addresses: &[Address], out: &mut Vec<Record>) {
        let mut kinds = Vec::new();
        for address in addresses.iter().filter(|address| address.published) {
            let (kind, data) = match address.ip {
                IpAddr::V4(ip) => (Kind::A, ip.octets().to_vec()),
                IpAddr::V6(ip) => (Kind::AAAA, ip.octets().to_vec()),
            };
            kinds.push(kind);
            out.push(Record { name: self.name.clone(), kind, unique: true, ttl: HOST_TTL, data });
            if let Some(name) = Name::parse(&reverse(address.ip)) {
                let data = self.name.as_wire().to_vec();
                out.push(Record::denial(&name, &[Kind::PTR]));
                out.push(Record { name, kind: Kind::PTR, unique: true, ttl: HOST_TTL, data });
            }
        }
        if !kinds.is_empty() {
            out.push(Record::denial(&self.name, &kinds));
        }
    }

    fn service_records(&self, service: &Service, host: &Name, out: &mut Vec<Record>) -> Option<()> {
        let kind = type_name(&service.kind)?;
        let target = match &service.target {
            Some(target) => Name::parse(target)?,
            None if host.is_root() => return None,
            None => host.clone(),
        };
        let name = &self.name;
        let mut data = vec![0, 0, 0, 0];
        data.extend_from_slice(&service.port.to_be_bytes());
        data.extend_from_slice(target.as_wire());
        out.push(Record { name: name.clone(), kind: Kind::SRV, unique: true, ttl: HOST_TTL, data });
        let data = txt_data(&service.txt);
        out.push(Record { name: name.clone(), kind: Kind::TXT, unique: true, ttl: OTHER_TTL, data });
        let mut pointer = |name: Name, to: &Name| {
            let data = to.as_wire().to_vec();
            out.push(Record { name, kind: Kind::PTR, unique: false, ttl: OTHER_TTL, data });
        };
        pointer(kind.clone(), name);
        for subtype in &service.subtypes {
            pointer(subtype_name(subtype, &kind)?, name);
        }
        pointer(Name::parse("_services._dns-sd._udp.local")?, &kind);
        out.push(Record::denial(name, &[Kind::SRV, Kind::TXT]));
        Some(())
    }
}

/// What is wrong with a service, in a few words.
pub(crate) fn check(service: &Service, others: usize) -> Result<(), &'static str> {
    if others >= MOST_SERVICES {
        return Err("too many services");
    }
    let Some(kind) = type_name(&service.kind) else { return Err("no type like _ssh._tcp") };
    // A host's name may be put in later, and a number; they are cut to fit.
    if service.instance.is_empty() || service.instance.bytes().any(|byte| byte < b' ' || byte == 0x7F) {
        return Err("its name is empty or has control characters");
    }
    if service.instance.len() > LONGEST_LABEL {
        return Err("its name has more than 63 bytes");
    }
    if service.subtypes.len() > MOST_SUBTYPES {
        return Err("too many subtypes");
    }
    for subtype in &service.subtypes {
        if subtype_name(subtype, &kind).is_none() {
            return Err("no subtype like _printer");
        }
    }
    if service.txt.iter().any(|text| text.len() > 255) || txt_data(&service.txt).len() > LONGEST_TXT {
        return Err("its TXT record is too long");
    }
    if service.target.as_ref().is_some_and(|target| Name::parse(target).is_none()) {
        return Err("its host is no name");
    }
    Ok(())
}

/// The domain of all names here.
pub(crate) fn local() -> Name {
    Name::parse("local").unwrap_or(Name::ROOT)
}

/// The name of a service type, as `_ssh._tcp.local` (RFC 6763 §7); `None` for what is none.
fn type_name(kind: &str) -> Option<Name> {
    let (application, transport) = text::split_once(kind, ".")?;
    let fits = (2..=LONGEST_LABEL).contains(&application.len()) && application.starts_with('_');
    if !fits || !(transport.eq_ignore_ascii_case("_tcp") || transport.eq_ignore_ascii_case("_udp")) {
        return None;
    }
    Name::from_labels([application.as_bytes(), transport.as_bytes(), b"local"].into_iter())
}

/// As `_printer._sub._http._tcp.local` (RFC 6763 §7.1), of `_printer` or of `_printer._sub._http._tcp`.
fn subtype_name(subtype: &str, kind: &Name) -> Option<Name> {
    let label = text::split_once(subtype, "._sub").map_or(subtype, |(label, _)| label);
    Name::from_labels([label.as_bytes(), b"_sub"].into_iter())?.join(kind)
}

/// The strings of a TXT record; at least one, which may be empty (RFC 6763 §6.1).
fn txt_data(strings: &[Vec<u8>]) -> Vec<u8> {
    let mut data = Vec::new();
    for string in strings {
        data.push(string.len() as u8);
        data.extend_from_slice(string);
    }
    if data.is_empty() {
        data.push(0);
    }
    data
}

/// `wanted` for the first; then `name-2` for hosts and `name #2` for services, as Avahi names them. What is too long
/// is cut at a character.
pub(crate) fn numbered(wanted: &str, number: u32, host: bool) -> String {
    let suffix = match (number, host) {
        (0 | 1, _) => String::new(),
        (_, true) => format!("-{number}"),
        (_, false) => format!(" #{number}"),
    };
    let mut end = wanted.len().min(LONGEST_LABEL.saturating_sub(suffix.len()));
    while !wanted.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let mut label = wanted.get(..end).unwrap_or_default().to_owned();
    label.push_str(&suffix);
    label
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        Service { instance: "box".into(), wildcards: false, ..crate::core::tests::ssh() }
    }

    #[test]
    fn numbers_are_avahis_and_fit_a_label() {
        assert_eq!(numbered("box", 1, true), "box");
        assert_eq!(numbered("box", 2, true), "box-2");
        assert_eq!(numbered("My box", 3, false), "My box #3");
        let long = "ä".repeat(31) + "x";
        assert_eq!(numbered(&long, 1, true).len(), 63);
        assert_eq!(numbered(&long, 12, true), "ä".repeat(30) + "-12");
    }

    #[test]
    fn rfc6763_records_of_a_service() {
        let mut group = Group::new(2, Some(Rc::new((0, service()))));
        group.wanted = "box".into();
        group.set_number(1);
        let mut records = Vec::new();
        group.records(&Name::parse("box.local").unwrap(), &[], false, &mut records);
        let texts: Vec<_> = records.iter().map(|record| (record.name.to_string(), record.kind)).collect();
        let expected = [
            ("box._ssh._tcp.local", Kind::SRV),
            ("box._ssh._tcp.local", Kind::TXT),
            ("_ssh._tcp.local", Kind::PTR),
            ("_resin-device._sub._ssh._tcp.local", Kind::PTR),
            ("_services._dns-sd._udp.local", Kind::PTR),
            ("box._ssh._tcp.local", Kind::NSEC),
        ];
        assert_eq!(texts, expected.map(|(name, kind)| (name.to_owned(), kind)));
        assert_eq!(records[0].data, b"\0\0\0\0\x56\xce\x03box\x05local\0");
        assert_eq!(records[1].data, [0], "RFC 6763 §6.1: one empty string");
        assert_eq!(records[4].data, b"\x04_ssh\x04_tcp\x05local\0");
        assert!(records[0].ttl == 120 && records[1].ttl == 4500 && records[2].ttl == 4500);
    }

    #[test]
    fn what_is_no_service_is_told() {
        assert_eq!(check(&service(), 0), Ok(()));
        let wrong: [fn(&mut Service); 6] = [
            |service| service.kind = "ssh._tcp".into(),
            |service| service.kind = "_ssh._sctp".into(),
            |service| service.instance = String::new(),
            |service| service.instance = "x".repeat(64),
            |service| service.subtypes = vec!["x".repeat(64)],
            |service| service.txt = vec![vec![b'x'; 256]],
        ];
        for change in wrong {
            let mut service = service();
            change(&mut service);
            assert!(check(&service, 0).is_err(), "{service:?}");
        }
        assert!(check(&service(), MOST_SERVICES).is_err());
    }
}
