//! What a server answers. Everything in it is a claim of somebody on the network.

use super::{COOKIE, FIXED, Kind, option};
use std::fmt;
use std::net::Ipv4Addr;

/// The most addresses of one list that are kept.
const LIST_LIMIT: usize = 8;
/// The most classless routes that are kept.
const ROUTE_LIMIT: usize = 32;
/// The most search domains that are kept; the resolver's own limit is 6 in old C libraries.
const SEARCH_LIMIT: usize = 6;
/// The longest domain name in text (RFC 1035 §3.1).
const NAME_LIMIT: usize = 253;

/// A server's message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Option 53: offer, ack or nak.
    pub kind: Kind,
    /// The number of the request.
    pub xid: u32,
    /// The Ethernet address of the client that is meant.
    pub chaddr: [u8; 6],
    /// The address that the client gets.
    pub yiaddr: Ipv4Addr,
    /// Option 54: who answers.
    pub server: Option<Ipv4Addr>,
    /// Option 1 as a prefix length; `None` when missing or not contiguous.
    pub prefix: Option<u8>,
    /// Option 3, in order of preference.
    pub routers: Vec<Ipv4Addr>,
    /// Option 6, in order of preference.
    pub dns_servers: Vec<Ipv4Addr>,
    /// Option 42, in order of preference.
    pub ntp_servers: Vec<Ipv4Addr>,
    /// Option 15; empty when missing or not a domain name.
    pub domain: String,
    /// Option 119.
    pub search: Vec<String>,
    /// Option 26, bytes; at least 68 (RFC 2132 §5.1).
    pub mtu: Option<u16>,
    /// Option 121: network, prefix length, router (unspecified: on the link).
    pub classless_routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// Option 51, seconds.
    pub lease_time: Option<u32>,
    /// Option 58 (T1), seconds.
    pub renewal_time: Option<u32>,
    /// Option 59 (T2), seconds.
    pub rebinding_time: Option<u32>,
    /// Option 56: why the server says no. Printable ASCII.
    pub message: String,
}

/// Why bytes are no answer of a DHCP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than the fixed part and the cookie.
    Short,
    /// Not a BOOTP reply for Ethernet with the DHCP cookie.
    Foreign,
    /// An option runs over the end.
    Truncated,
    /// Not an offer, ack or nak.
    Kind,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Short => "too short for a DHCP message",
            Self::Foreign => "no DHCP reply for Ethernet",
            Self::Truncated => "an option runs over the end",
            Self::Kind => "neither offer nor ack nor nak",
        })
    }
}

impl std::error::Error for DecodeError {}

impl Reply {
    /// Reads a server's message, the content of a UDP packet.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (fixed, rest) = bytes.split_at_checked(FIXED).ok_or(DecodeError::Short)?;
        let (cookie, area) = rest.split_first_chunk().ok_or(DecodeError::Short)?;
        // BOOTREPLY, Ethernet, address length 6.
        if *cookie != COOKIE || !fixed.starts_with(&[2, 1, 6]) {
            return Err(DecodeError::Foreign);
        }
        let options = Options::collect(fixed, area)?;
        let kind = options.find(option::MESSAGE_TYPE).and_then(|value| match value {
            [byte] => Kind::from_byte(*byte),
            _ => None,
        });
        let kind = kind.filter(|kind| matches!(kind, Kind::Offer | Kind::Ack | Kind::Nak));
        Ok(Self {
            kind: kind.ok_or(DecodeError::Kind)?,
            xid: u32::from_be_bytes(field(fixed, 4)),
            chaddr: field(fixed, 28),
            yiaddr: Ipv4Addr::from(field::<4>(fixed, 16)),
            server: options.address(option::SERVER_IDENTIFIER),
            prefix: options.address(option::SUBNET_MASK).and_then(prefix_of),
            routers: options.addresses(option::ROUTER),
            dns_servers: options.addresses(option::DNS_SERVERS),
            ntp_servers: options.addresses(option::NTP_SERVERS),
            domain: options.find(option::DOMAIN_NAME).and_then(domain_name).unwrap_or_default(),
            search: options.find(option::DOMAIN_SEARCH).map(search_list).unwrap_or_default(),
            mtu: options.mtu(),
            classless_routes: options
                .find(option::CLASSLESS_ROUTES)
                .and_then(classless_routes)
                .unwrap_or_default(),
            lease_time: options.u32(option::LEASE_TIME),
            renewal_time: options.u32(option::RENEWAL_TIME),
            rebinding_time: options.u32(option::REBINDING_TIME),
            message: options.find(option::MESSAGE).map(printable).unwrap_or_default(),
        })
    }
}

/// The options of a message, each code once: parts are joined (RFC 3396 §7).
struct Options {
    found: Vec<(u8, Vec<u8>)>,
}

impl Options {
    fn collect(fixed: &[u8], area: &[u8]) -> Result<Self, DecodeError> {
        let mut options = Self { found: Vec::new() };
        options.read(area)?;
        // Option 52: the fields `file` (bit 0) and `sname` (bit 1) hold further options (RFC 2132 §9.3).
        let overload = options.find(option::OVERLOAD).and_then(<[u8]>::first).copied().unwrap_or(0);
        if overload & 1 != 0 {
            options.read(fixed.get(108..236).unwrap_or_default())?;
        }
        if overload & 2 != 0 {
            options.read(fixed.get(44..108).unwrap_or_default())?;
        }
        Ok(options)
    }

    fn read(&mut self, mut area: &[u8]) -> Result<(), DecodeError> {
        while let Some((code, rest)) = area.split_first() {
            area = rest;
            match *code {
                option::PAD => {}
                option::END => break,
                code => {
                    let (length, rest) = area.split_first().ok_or(DecodeError::Truncated)?;
                    let (value, rest) =
                        rest.split_at_checked((*length).into()).ok_or(DecodeError::Truncated)?;
                    area = rest;
                    self.append(code, value);
                }
            }
        }
        Ok(())
    }

    fn append(&mut self, code: u8, value: &[u8]) {
        match self.found.iter_mut().find(|(known, _)| *known == code) {
            Some((_, bytes)) => bytes.extend_from_slice(value),
            None => self.found.push((code, value.to_vec())),
        }
    }

    fn find(&self, code: u8) -> Option<&[u8]> {
        self.found.iter().find(|(known, _)| *known == code).map(|(_, value)| value.as_slice())
    }

    fn u32(&self, code: u8) -> Option<u32> {
        self.find(code)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn mtu(&self) -> Option<u16> {
        let mtu = u16::from_be_bytes(self.find(option::INTERFACE_MTU)?.try_into().ok()?);
        (mtu >= 68).then_some(mtu)
    }

    fn address(&self, code: u8) -> Option<Ipv4Addr> {
        self.u32(code).map(Ipv4Addr::from)
    }

    /// The usable addresses of a list; a list whose length is no multiple of four is damaged.
    fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let Some((chunks, [])) = self.find(code).map(<[u8]>::as_chunks::<4>) else { return Vec::new() };
        let mut list = Vec::new();
        for address in chunks.iter().map(|bytes| Ipv4Addr::from(*bytes)) {
            if list.len() < LIST_LIMIT && is_host(address) && !list.contains(&address) {
                list.push(address);
            }
        }
        list
    }
}

/// An address that one machine can have.
pub fn is_host(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first != 127 && first < 224
}

/// The length of a contiguous mask.
fn prefix_of(mask: Ipv4Addr) -> Option<u8> {
    let mask = u32::from(mask);
    let prefix = mask.leading_ones();
    let contiguous = mask.count_ones() == prefix && prefix > 0;
    contiguous.then(|| u8::try_from(prefix).ok()).flatten()
}

/// RFC 3442: prefix length, as many bytes of the network as it covers, router. A damaged list counts as none.
fn classless_routes(mut bytes: &[u8]) -> Option<Vec<(Ipv4Addr, u8, Ipv4Addr)>> {
    let mut routes = Vec::new();
    while let Some((prefix, rest)) = bytes.split_first() {
        if *prefix > 32 {
            return None;
        }
        let (significant, rest) = rest.split_at_checked(usize::from(prefix.div_ceil(8)))?;
        let (router, rest) = rest.split_first_chunk::<4>()?;
        let mut network = [0u8; 4];
        for (place, byte) in network.iter_mut().zip(significant) {
            *place = *byte;
        }
        let mask = u32::MAX.checked_shl(32u32.saturating_sub((*prefix).into())).unwrap_or(0);
        let network = Ipv4Addr::from(u32::from_be_bytes(network) & mask);
        if routes.len() < ROUTE_LIMIT {
            routes.push((network, *prefix, Ipv4Addr::from(*router)));
        }
        bytes = rest;
    }
    Some(routes)
}

/// A domain name in text form, checked: it ends up in `/etc/resolv.conf`.
fn domain_name(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches('\0').trim_end_matches('.');
    let good_label = |label: &str| {
        let all = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        all && (1..=63).contains(&label.len())
    };
    (text.len() <= NAME_LIMIT && text.split('.').all(good_label)).then(|| text.to_owned())
}

/// RFC 3397: names in DNS form, compressed within the option. What follows a damaged name is left out.
fn search_list(bytes: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = 0;
    while at < bytes.len() && names.len() < SEARCH_LIMIT {
        let Some((name, next)) = dns_name(bytes, at) else { break };
        names.extend(domain_name(&name));
        at = next;
    }
    names
}

/// One name and where the next one begins. Pointers may only lead backwards, so it ends.
fn dns_name(bytes: &[u8], start: usize) -> Option<(Vec<u8>, usize)> {
    let mut name = Vec::new();
    let (mut at, mut next, mut bound) = (start, None, start);
    loop {
        let length = *bytes.get(at)?;
        let after = at.checked_add(1)?;
        match length {
            0 => return Some((name, next.unwrap_or(after))),
            1..=63 => {
                let end = after.checked_add(length.into())?;
                if !name.is_empty() {
                    name.push(b'.');
                }
                name.extend_from_slice(bytes.get(after..end)?);
                if name.len() > NAME_LIMIT {
                    return None;
                }
                at = end;
            }
            0xc0.. => {
                let target = usize::from(length & 0x3f) << 8 | usize::from(*bytes.get(after)?);
                if target >= bound {
                    return None;
                }
                next = next.or(after.checked_add(1));
                (at, bound) = (target, target);
            }
            _ => return None,
        }
    }
}

fn printable(bytes: &[u8]) -> String {
    bytes.iter().take(128).filter(|byte| (0x20..0x7f).contains(*byte)).map(|byte| char::from(*byte)).collect()
}

/// `N` bytes of the fixed part, which is long enough for all its fields.
fn field<const N: usize>(fixed: &[u8], at: usize) -> [u8; N] {
    fixed.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; N])
}
