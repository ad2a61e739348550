//! What a profile wants of a link, and which profile a link gets: as NetworkManager reads and chooses (spec os §11.2,
//! nm-settings(5)), as far as Ethernet needs it.

use crate::client::Addressing;
use crate::lease::Lease;
use minke_applet::log;
use minke_sys::netlink::Link;
use minke_wire::keyfile::Keyfile;
use minke_wire::keyfile::profile::{self, Family, Setting, Wrong};
use minke_wire::text;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

/// The priority of a link's servers of names where none is set (nm-settings(5), `ipv4.dns-priority`).
pub const USUAL_PRIORITY: i32 = 100;
/// `connection.multi-connect`: the profile may be in use on any number of links.
const MULTIPLE: i32 = 3;
/// How long the list of settings that are not supported gets, about.
const LONGEST: usize = 200;

/// Settings that are honoured, or that change nothing here. Digits at their ends count the values.
const KNOWN: [&str; 14] = [
    "method",
    "dns",
    "dns-search",
    "dns-priority",
    "ignore-auto-dns",
    "may-fail",
    "addr-gen-mode",
    "ip6-privacy",
    "never-default",
    "route-metric",
    "mac-address",
    "address",
    "addresses",
    "gateway",
];
/// The groups that have them, and those whose settings change nothing here.
const GROUPS: [&str; 4] = ["ipv4", "ipv6", "ethernet", "802-3-ethernet"];
const IDLE_GROUPS: [&str; 3] = ["connection", "proxy", "user"];
/// Without these a profile would be used where it must not be. An empty name stands for all of a group.
const ESSENTIAL: [(&str, &str); 5] = [
    ("connection", "master"),
    ("connection", "controller"),
    ("ethernet", "mac-address-blacklist"),
    ("ethernet", "mac-address-denylist"),
    ("match", ""),
];

/// Servers of names that come with a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The lowest counts first; a negative one makes those with higher ones void.
    pub priority: i32,
    /// Addresses, with zones where they need one.
    pub servers: Vec<String>,
    /// Domains to search.
    pub search: Vec<String>,
}

/// A profile for Ethernet.
#[derive(Debug)]
pub struct Profile {
    /// The name of its file, for messages.
    pub name: String,
    /// How the link comes by its IPv4 address.
    pub addressing: Addressing,
    /// Its servers of names: those of `[ipv4]`, then those of `[ipv6]`.
    pub names: [Names; 2],
    /// The servers of DHCP are not asked.
    pub ignores_dhcp_names: bool,
    /// DHCP's default route is not set.
    pub is_never_default: bool,
    /// The metric of the routes; `None`: the link's.
    pub metric: Option<u32>,
    text: String,
    interface: Option<String>,
    mac: Option<[u8; 6]>,
    autoconnects: bool,
    priority: i32,
    is_multiple: bool,
}

/// What a link was given.
#[derive(Debug, Clone)]
pub enum Choice {
    /// Nothing yet: it has no carrier.
    Open,
    /// No profile is made for it: DHCP, as NetworkManager's automatic connection has it (spec os §11.1).
    Usual,
    /// There are profiles for it, but none may come up by itself: it stays without an address.
    Off,
    /// A profile.
    Profile(Rc<Profile>),
}

impl Choice {
    /// The profile.
    pub fn profile(&self) -> Option<&Rc<Profile>> {
        match self {
            Self::Profile(profile) => Some(profile),
            _ => None,
        }
    }

    /// Whether it is the profile of this name.
    pub fn holds(&self, name: &str) -> bool {
        self.profile().is_some_and(|profile| profile.name == name)
    }

    /// Whether both are the same; a profile is the same as long as its file is.
    pub fn is(&self, other: &Self) -> bool {
        match (self.profile(), other.profile()) {
            (Some(one), Some(other)) => Rc::ptr_eq(one, other),
            (None, None) => std::mem::discriminant(self) == std::mem::discriminant(other),
            _ => false,
        }
    }
}

impl Profile {
    /// The profile that a file holds. `None`: it must not be used, which is told.
    pub fn read(name: &str, text: &str) -> Option<Rc<Self>> {
        let result = match Keyfile::parse(text.as_bytes()) {
            Ok(file) => Self::of(name, text, &file).map_err(|wrong| wrong.to_string()),
            Err(broken) => Err(broken.to_string()),
        };
        match result {
            Ok(profile) => Some(Rc::new(profile)),
            Err(why) => {
                log::warn(format_args!("profile {name} is not used: {why}"));
                None
            }
        }
    }

    fn of(name: &str, text: &str, file: &Keyfile) -> Result<Self, Wrong> {
        let from = profile::Profile::new(file);
        for (group, key) in ESSENTIAL {
            if from.raw(group, key).is_some() || key.is_empty() && file.has_group(group) {
                return Err(Wrong { group, key: key.to_owned(), wanted: "left out: it is not supported" });
            }
        }
        let mac = from.text("ethernet", "mac-address")?.filter(|mac| !mac.is_empty());
        let wrong_mac = || Wrong {
            group: "ethernet",
            key: "mac-address".to_owned(),
            wanted: "six bytes as in 02:00:5e:10:00:01",
        };
        let mac = mac.map(|mac| parse_mac(&mac).ok_or_else(wrong_mac)).transpose()?;
        let tell = Tell(name);
        let method = from.method(Family::V4)?.unwrap_or_else(|| "auto".to_owned());
        let addressing = match method.as_str() {
            "auto" => Addressing::Dhcp,
            "manual" => by_hand(from)?,
            _ => Addressing::Nothing,
        };
        tell.unsupported(file, &method);
        let number = |group, key| tell.unless_wrong(from.number::<i32>(group, key));
        Ok(Self {
            name: name.to_owned(),
            addressing,
            names: [tell.names(from, Family::V4), tell.names(from, Family::V6)],
            ignores_dhcp_names: tell.unless_wrong(from.flag("ipv4", "ignore-auto-dns")) == Some(true),
            is_never_default: tell.unless_wrong(from.flag("ipv4", "never-default")) == Some(true),
            metric: number("ipv4", "route-metric").and_then(|metric| metric.try_into().ok()),
            text: text.to_owned(),
            interface: from.text("connection", "interface-name")?.filter(|name| !name.is_empty()),
            mac,
            autoconnects: from.autoconnect()?,
            priority: number("connection", "autoconnect-priority").unwrap_or(0),
            is_multiple: number("connection", "multi-connect") == Some(MULTIPLE),
        })
    }

    fn fits(&self, link: &Link) -> bool {
        self.interface.as_ref().is_none_or(|name| *name == link.name)
            && (self.mac.is_none() || self.mac == link.mac)
    }

    /// Whether it comes before another one: by its priority, then because it says which link it is for.
    fn is_before(&self, other: &Self) -> bool {
        let rank = |one: &Self| (one.priority, one.interface.is_some() || one.mac.is_some());
        rank(self) > rank(other)
    }
}

/// The profiles that these files hold, in the order in which links take them. What has not changed since stays the same.
pub fn all<'a>(files: impl Iterator<Item = (&'a str, &'a str)>, old: &[Rc<Profile>]) -> Vec<Rc<Profile>> {
    let mut profiles: Vec<Rc<Profile>> = Vec::new();
    for (name, text) in files {
        let known = old.iter().find(|profile| profile.name == name && profile.text == text);
        if let Some(profile) = known.cloned().or_else(|| Profile::read(name, text)) {
            let place = profiles.iter().position(|other| profile.is_before(other));
            profiles.insert(place.unwrap_or(profiles.len()), profile);
        }
    }
    profiles
}

/// What a link with a carrier is given. One profile serves one link, unless it says otherwise.
pub fn choose(profiles: &[Rc<Profile>], link: &Link, is_taken: &dyn Fn(&Profile) -> bool) -> Choice {
    let mut choice = Choice::Usual;
    for profile in profiles.iter().filter(|profile| profile.fits(link)) {
        if profile.autoconnects && (profile.is_multiple || !is_taken(profile)) {
            return Choice::Profile(Rc::clone(profile));
        }
        choice = Choice::Off;
    }
    choice
}

/// `ipv4.method=manual`: the address, and the default route over the gateway.
fn by_hand(from: profile::Profile<'_>) -> Result<Addressing, Wrong> {
    let wrong = |key: &str| Wrong {
        group: "ipv4",
        key: key.to_owned(),
        wanted: "ADDRESS/LENGTH or ADDRESS/LENGTH,GATEWAY",
    };
    let (address, prefix, gateway) = from.first_address_v4().ok_or_else(|| wrong("address1"))?;
    let own = from.text("ipv4", "gateway")?.filter(|gateway| !gateway.is_empty());
    let own = own.map(|gateway| gateway.parse().map_err(|_| wrong("gateway"))).transpose()?;
    let mut routes = Vec::new();
    if let Some(gateway) = own.or(gateway).filter(|gateway: &Ipv4Addr| !gateway.is_unspecified()) {
        routes.push((Ipv4Addr::UNSPECIFIED, 0, gateway));
    }
    Ok(Addressing::Fixed(Lease::fixed(address, prefix, routes)))
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0u8; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        *byte = text::in_base(parts.next()?, 16)?;
    }
    parts.next().is_none().then_some(mac)
}

/// Says in the log what of a profile has no effect, each time by the profile's name.
#[derive(Clone, Copy)]
struct Tell<'a>(&'a str);

impl Tell<'_> {
    fn ignored(self, what: &dyn std::fmt::Display) {
        log::warn(format_args!("profile {}: {what}", self.0));
    }

    /// A setting; one that makes no sense is as one that is not there.
    fn unless_wrong<T>(self, setting: Setting<T>) -> Option<T> {
        setting.unwrap_or_else(|wrong| {
            self.ignored(&wrong);
            None
        })
    }

    fn names(self, from: profile::Profile<'_>, family: Family) -> Names {
        let group = family.group();
        let mut names = Names::default();
        let priority = self.unless_wrong(from.number::<i32>(group, "dns-priority"));
        names.priority = priority.filter(|priority| *priority != 0).unwrap_or(USUAL_PRIORITY);
        for server in self.unless_wrong(from.list(group, "dns")).unwrap_or_default() {
            // Behind the `#` is the name that its certificate should have; nobody asks for that here.
            let server = server.split('#').next().unwrap_or_default();
            let (address, zone) = server.split_once('%').unwrap_or((server, ""));
            let fits =
                address.parse().is_ok_and(|address: IpAddr| address.is_ipv4() == (family == Family::V4));
            if fits && is_word(zone) {
                names.servers.push(server.to_owned());
            } else {
                self.ignored(&format_args!("{group}.dns: '{}' is no address", text::shown(server)));
            }
        }
        for domain in self.unless_wrong(from.list(group, "dns-search")).unwrap_or_default() {
            // With `~` it is no domain to search: it says which names go to which servers, where that is done.
            if domain.starts_with('~') {
                continue;
            }
            if !domain.is_empty() && is_word(&domain) {
                names.search.push(domain);
            } else {
                self.ignored(&format_args!("{group}.dns-search: '{}' is no domain", text::shown(&domain)));
            }
        }
        names
    }

    /// Names what is set and has no effect.
    fn unsupported(self, file: &Keyfile, method: &str) {
        let mut found = String::new();
        let mut addresses = usize::from(method != "manual");
        for group in file.groups().filter(|group| !IDLE_GROUPS.contains(group)) {
            for key in file.keys(group) {
                let stem = key.trim_end_matches(|digit: char| digit.is_ascii_digit());
                let is_address = group == "ipv4" && stem.starts_with("address");
                addresses = addresses.saturating_add(is_address.into());
                let is_known =
                    GROUPS.contains(&group) && KNOWN.contains(&stem) && !(is_address && addresses > 1);
                if !is_known && found.len() < LONGEST {
                    let _ = write!(found, " {group}.{key}");
                }
            }
        }
        if !["auto", "manual", "disabled"].contains(&method) {
            let _ = write!(found, " ipv4.method={method}");
        }
        if !found.is_empty() {
            self.ignored(&format_args!("not supported yet:{}", printable(&found)));
        }
    }
}

/// A text as it can stand in the log.
pub fn printable(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { '?' } else { one }).collect()
}

/// Whether a text can be part of a line of words in another program's file.
fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':'))
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
