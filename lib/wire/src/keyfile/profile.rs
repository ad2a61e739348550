//! What a profile of NetworkManager's says (nm-settings-keyfile(5), nm-settings(5)), as far as a network needs it. Each
//! value is read when it is asked for: one that makes no sense is an error of its own, and the rest still counts.

use super::Keyfile;
use super::value::{self, Meaning};
use crate::text::number;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

/// A profile.
#[derive(Debug, Clone, Copy)]
pub struct Profile<'a>(&'a Keyfile);

/// A setting that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Its group, by the name that people use.
    pub group: &'static str,
    /// Its key.
    pub key: String,
    /// What its value should be.
    pub wanted: &'static str,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} should be {}", self.group, self.key, self.wanted)
    }
}

impl std::error::Error for Wrong {}

/// A setting's value, if there is one.
pub type Setting<T> = Result<Option<T>, Wrong>;

/// The Internet Protocol's versions: groups `ipv4` and `ipv6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

impl Family {
    /// The name of its group.
    pub fn group(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    fn fits(self, address: IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }

    /// The bits of an address.
    fn bits(self) -> u8 {
        if self == Self::V4 { 32 } else { 128 }
    }
}

/// An address with its network's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub address: IpAddr,
    /// How many of its bits name the network.
    pub prefix: u8,
    /// The gateway that stands behind it. NetworkManager takes the first that any address has, and when that is `0.0.0.0` or
    /// `::`, none.
    pub gateway: Option<IpAddr>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads to.
    pub destination: IpAddr,
    /// How many of its bits count.
    pub prefix: u8,
    /// The next hop; `None`: the link itself.
    pub gateway: Option<IpAddr>,
    /// Its metric; `None`: the link's.
    pub metric: Option<u32>,
    /// Its attributes (`routeN_options`): `table`, `mtu`, `src`, `onlink`, …
    pub options: Vec<(String, String)>,
}

/// The names of the settings that have two: people's, and the older one, which GObject's type names are made of.
const ALIASES: [(&str, &str); 3] = [
    ("ethernet", "802-3-ethernet"),
    ("wifi", "802-11-wireless"),
    ("wifi-security", "802-11-wireless-security"),
];

/// Most addresses or routes of a profile.
const MANY: usize = 1024;

impl<'a> Profile<'a> {
    /// The profile that a file holds.
    pub fn new(file: &'a Keyfile) -> Self {
        Self(file)
    }

    /// A value as it stands in the file. Of a setting's two names the newer counts.
    pub fn raw(self, group: &str, key: &str) -> Option<&'a [u8]> {
        let other = ALIASES.iter().find(|(name, _)| *name == group).map(|(_, older)| *older);
        self.0.raw(group, key).or_else(|| self.0.raw(other?, key))
    }

    fn get<T>(self, group: &'static str, key: &str, meaning: fn(&[u8]) -> Meaning<T>) -> Setting<T> {
        let value = self.raw(group, key).map(meaning).transpose();
        value.map_err(|wanted| Wrong { group, key: key.to_owned(), wanted })
    }

    /// A text: `connection.id`, `connection.uuid`, `wifi.mode`, `wifi-security.psk`, `gsm.apn`, `proxy.pac-url`, ….
    pub fn text(self, group: &'static str, key: &str) -> Setting<String> {
        self.get(group, key, value::text)
    }

    /// A switch: `connection.autoconnect`, `wifi.hidden`, `ipv4.never-default`, ….
    pub fn flag(self, group: &'static str, key: &str) -> Setting<bool> {
        self.get(group, key, value::boolean)
    }

    /// A number: `ipv4.route-metric`, `ethernet.mtu`, `wifi.channel`, ….
    pub fn number<T: TryFrom<i64>>(self, group: &'static str, key: &str) -> Setting<T> {
        self.get(group, key, value::integer)
    }

    /// Texts: `ipv4.dns-search`, `connection.permissions`, `wifi-security.pairwise`, ….
    pub fn list(self, group: &'static str, key: &str) -> Setting<Vec<String>> {
        self.get(group, key, |raw| value::list(raw, b';'))
    }

    /// The kind of link that it is for (`connection.type`), by the newer name: `ethernet`, `wifi`, `gsm`, `bridge`, ….
    pub fn kind(self) -> Setting<String> {
        let kind = self.text("connection", "type")?;
        Ok(kind.map(|kind| match ALIASES.iter().find(|(_, older)| *older == kind) {
            Some((newer, _)) => (*newer).to_owned(),
            None => kind,
        }))
    }

    /// Whether it may come up by itself.
    pub fn autoconnect(self) -> Result<bool, Wrong> {
        Ok(self.flag("connection", "autoconnect")?.unwrap_or(true))
    }

    /// The name of a wireless network, which may have any bytes: a text, or `;` behind each byte's number.
    pub fn ssid(self) -> Setting<Vec<u8>> {
        let ssid = self.get("wifi", "ssid", bytes)?;
        match ssid {
            Some(ssid) if ssid.is_empty() || ssid.len() > 32 => {
                Err(Wrong { group: "wifi", key: "ssid".to_owned(), wanted: "1 to 32 bytes" })
            }
            ssid => Ok(ssid),
        }
    }

    /// How addresses come about: `auto`, `manual`, `link-local`, `shared`, `disabled`, for version 6 also `dhcp` and
    /// `ignore`.
    pub fn method(self, family: Family) -> Setting<String> {
        self.text(family.group(), "method")
    }

    /// The addresses, in the order of their numbers.
    pub fn addresses(self, family: Family) -> Result<Vec<Address>, Wrong> {
        let mut addresses = Vec::new();
        for key in self.numbered(family, "address") {
            let mut fields = self.fields(family, &key)?;
            let default = if family == Family::V4 { 24 } else { 64 };
            let (address, prefix, gateway) = fields.network(default)?;
            if prefix == 0 {
                return Err(fields.wrong("an address with its network's length"));
            }
            fields.end()?;
            addresses.push(Address { address, prefix, gateway });
        }
        Ok(addresses)
    }

    /// The address that [`Profile::addresses`] begins with as a rule, for programs that set one only: with its network's
    /// length and the gateway behind it. `None`: there is none, or it makes no sense.
    pub fn first_address_v4(self) -> Option<(Ipv4Addr, u8, Option<Ipv4Addr>)> {
        let keys = ["addresses", "address", "address0", "addresses1", "address1"];
        let raw = keys.iter().find_map(|key| self.raw("ipv4", key))?;
        let text = std::str::from_utf8(raw).ok()?;
        let has_length = text.bytes().any(|byte| matches!(byte, b'/' | b';'));
        let mut fields = text.split(['/', ',', ';']).map(str::trim_ascii);
        let address = fields.next()?.parse().ok()?;
        let prefix = match if has_length { fields.next() } else { None } {
            None | Some("") => 24,
            Some(length) => number(length).filter(|length| (1..=32).contains(length))?,
        };
        let gateway = fields.next().filter(|gateway| !gateway.is_empty());
        let gateway =
            gateway.map(|gateway| gateway.parse().ok()).map_or(Some(None), |gateway| gateway.map(Some))?;
        fields.all(str::is_empty).then_some((address, prefix, gateway))
    }

    /// The gateway of the default route: `gateway`, else the first that an address has; none with `never-default`.
    pub fn gateway(self, family: Family) -> Setting<IpAddr> {
        let group = family.group();
        if self.flag(group, "never-default")? == Some(true) {
            return Ok(None);
        }
        if let Some(text) = self.text(group, "gateway")?.filter(|text| !text.is_empty()) {
            let gateway = text.parse().ok().filter(|address| family.fits(*address));
            let wanted = "an address of this version";
            return gateway.map(Some).ok_or(Wrong { group, key: "gateway".to_owned(), wanted });
        }
        let first = self.addresses(family)?.iter().find_map(|address| address.gateway);
        Ok(first.filter(|gateway| !gateway.is_unspecified()))
    }

    /// The routes, in the order of their numbers.
    pub fn routes(self, family: Family) -> Result<Vec<Route>, Wrong> {
        let mut routes = Vec::new();
        for key in self.numbered(family, "route") {
            let mut fields = self.fields(family, &key)?;
            let default = if family == Family::V4 { 24 } else { 128 };
            let (destination, prefix, gateway) = fields.network(default)?;
            let metric = match fields.next() {
                Some(text) if !text.is_empty() => {
                    Some(number(text).ok_or_else(|| fields.wrong("a route whose metric is a number"))?)
                }
                _ => None,
            };
            fields.end()?;
            let gateway = gateway.filter(|gateway| !gateway.is_unspecified());
            let options = self.options(family, &key)?;
            routes.push(Route { destination, prefix, gateway, metric, options });
        }
        Ok(routes)
    }

    /// The servers of names: addresses, with what a server may have behind its address (`#NAME` for TLS).
    pub fn name_servers(self, family: Family) -> Result<Vec<String>, Wrong> {
        let group = family.group();
        let servers = self.list(group, "dns")?.unwrap_or_default();
        let is_address = |server: &str| {
            let address = server.split(['#', '%']).next().unwrap_or_default();
            address.parse().is_ok_and(|address| family.fits(address))
        };
        match servers.iter().all(|server| is_address(server)) {
            true => Ok(servers),
            false => Err(Wrong { group, key: "dns".to_owned(), wanted: "addresses of this version" }),
        }
    }

    /// The keys `NAME`, `NAMEs`, `NAME1`, `NAMEs1`, …, in the order of their numbers.
    fn numbered(self, family: Family, name: &str) -> Vec<String> {
        let mut found: Vec<(i64, bool, &str)> = Vec::new();
        for key in self.0.keys(family.group()) {
            let Some(rest) = key.strip_prefix(name) else { continue };
            let plural = rest.strip_prefix(if name == "address" { "es" } else { "s" });
            let digits = plural.unwrap_or(rest);
            let place = match digits.as_bytes() {
                [] => Some(-1),
                [b'0', _, ..] | [b'+' | b'-', ..] => None,
                _ => number(digits),
            };
            found.extend(place.map(|place| (place, plural.is_some(), key)));
        }
        found.sort_unstable();
        found.truncate(MANY);
        found.into_iter().map(|(_, _, key)| key.to_owned()).collect()
    }

    fn fields(self, family: Family, key: &str) -> Result<Fields, Wrong> {
        let group = family.group();
        let text = self.text(group, key)?.unwrap_or_default();
        let fields = text.split(['/', ',', ';']).map(|field| field.trim_ascii().to_owned()).collect();
        let has_length = crate::text::contains(&text, "/") || crate::text::contains(&text, ";");
        Ok(Fields { family, key: key.to_owned(), fields, place: 0, has_length })
    }

    fn options(self, family: Family, key: &str) -> Result<Vec<(String, String)>, Wrong> {
        let mut options = Vec::new();
        let text = self.text(family.group(), &format!("{key}_options"))?.unwrap_or_default();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, "true"));
            options.push((name.trim_ascii().to_owned(), value.trim_ascii().to_owned()));
        }
        Ok(options)
    }
}

/// The fields of an address or a route: `ADDRESS[/LENGTH][,GATEWAY[,METRIC]]`, of old with `;` in between.
struct Fields {
    family: Family,
    key: String,
    fields: Vec<String>,
    place: usize,
    /// The second field is a length, and no gateway.
    has_length: bool,
}

impl Fields {
    fn next(&mut self) -> Option<&str> {
        let place = self.place;
        self.place = place.saturating_add(1);
        self.fields.get(place).map(String::as_str)
    }

    fn network(&mut self, default: u8) -> Result<(IpAddr, u8, Option<IpAddr>), Wrong> {
        let (family, has_length) = (self.family, self.has_length);
        let address = self.next().and_then(|text| text.parse().ok()).filter(|one| family.fits(*one));
        let address = address.ok_or_else(|| self.wrong("an address of this version"))?;
        let prefix = match if has_length { self.next() } else { None } {
            None | Some("") => Some(default),
            Some(text) => number(text).filter(|prefix| *prefix <= family.bits()),
        };
        let prefix = prefix.ok_or_else(|| self.wrong("an address with its network's length"))?;
        let gateway: Option<IpAddr> = match self.next() {
            None | Some("") => None,
            Some(text) => {
                let gateway = text.parse().ok().filter(|one| family.fits(*one));
                Some(gateway.ok_or_else(|| self.wrong("an address with a gateway of this version"))?)
            }
        };
        Ok((address, prefix, gateway))
    }

    /// Nothing more may follow but the last separator.
    fn end(&mut self) -> Result<(), Wrong> {
        match self.next() {
            None | Some("") => Ok(()),
            Some(_) => Err(self.wrong("ADDRESS/LENGTH,GATEWAY; for a route with METRIC behind it")),
        }
    }

    fn wrong(&self, wanted: &'static str) -> Wrong {
        Wrong { group: self.family.group(), key: self.key.clone(), wanted }
    }
}

/// Bytes that are a text, or as NetworkManager has written them of old: the number of each, with `;` behind it. In a text
/// NetworkManager writes `\;` for a `;`, and its backslash as GLib does, so that there are two; both forms are read.
fn bytes(raw: &[u8]) -> Meaning<Vec<u8>> {
    let is_numbers = raw.contains(&b';')
        && raw.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b' '))
        && raw.trim_ascii_end().ends_with(b";");
    if is_numbers {
        let mut bytes = Vec::new();
        for item in value::list(raw, b';')? {
            let Some(byte) = number(item.trim_ascii()) else { return text_bytes(raw) };
            bytes.push(byte);
        }
        return Ok(bytes);
    }
    text_bytes(raw)
}

fn text_bytes(raw: &[u8]) -> Meaning<Vec<u8>> {
    let mut escaped = Vec::new();
    let mut rest = raw;
    // Only here, `\;` is a way to write a `;` outside of lists.
    while let Some((byte, behind)) = rest.split_first() {
        match (byte, behind.first()) {
            (b'\\', Some(b';')) => {
                escaped.push(b';');
                rest = behind.get(1..).unwrap_or_default();
            }
            (b'\\', Some(next)) => {
                escaped.extend([b'\\', *next]);
                rest = behind.get(1..).unwrap_or_default();
            }
            _ => {
                escaped.push(*byte);
                rest = behind;
            }
        }
    }
    let text = value::text(&escaped)?;
    Ok(crate::text::replace(&text, "\\;", ";").into_bytes())
}
