//! Names that are known here, and who is asked for the others.

use crate::config::{Host, Settings, Target};
use minke_wire::dns::{Kind, Name, NameRef};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// These are its addresses of the kind asked for; where there is none, the name has no such record.
    Addresses(Vec<IpAddr>),
    /// The address has these names.
    Names(Vec<Name>),
    /// It is another name for this one.
    Alias(Name),
    /// There is no such name.
    NoName,
    /// `mdns` is asked.
    Mdns,
    /// A name of one label that nobody here knows: the search domains are tried, then this.
    Plain(Option<usize>),
    /// The servers of this group are asked.
    Ask(usize),
}

/// Where the names of hosts files are, sorted by their hashes: a name in thousands is found in a microsecond, and
/// takes eight bytes more.
#[derive(Debug, Default)]
pub(super) struct Local {
    hosts: Vec<(u32, u32)>,
    /// Some network has a name of more than one label.
    dotted: bool,
}

impl Local {
    /// The index of these settings.
    pub(super) fn new(settings: &Settings) -> Self {
        let mut hosts = Vec::new();
        for (place, host) in (0u32..).zip(&settings.hosts) {
            for name in &host.names {
                hosts.push((hash(name.as_ref()), place));
            }
        }
        hosts.sort_unstable();
        let mut dotted = false;
        for network in &settings.networks {
            for host in &network.hosts {
                dotted |= host.names.iter().any(|name| !is_plain(name.as_wire()));
            }
        }
        Self { hosts, dotted }
    }

    /// Whether a client can be told other things than others are: such names are looked up before the cache is.
    pub(super) fn is_before_cache(&self, settings: &Settings, name: &[u8], from: IpAddr) -> bool {
        is_plain(name) || self.dotted && settings.networks.iter().any(|network| network.subnet.holds(from))
    }

    /// What is known of a name when this client asks.
    pub(super) fn look(&self, settings: &Settings, from: IpAddr, name: &Name, kind: Kind) -> Known {
        let wants = wants(kind);
        let mut known = self.find(settings, from, name, kind, wants);
        if let Known::Addresses(addresses) = &mut known {
            addresses.retain(|address| wants.wants(*address));
        }
        known
    }

    /// The same with addresses of any kind.
    fn find(&self, settings: &Settings, from: IpAddr, name: &Name, kind: Kind, wants: Wants) -> Known {
        let address = reverse(name);
        // A name of one label that is known here has nothing but what is known here.
        if wants != Wants::Nothing || is_plain(name.as_wire()) {
            let found = match (kind, &address) {
                (Kind::PTR, Some(Reverse { whole: Some(address), .. })) => settings.names_at(from, *address),
                (Kind::PTR, _) => None,
                _ => self.addresses(settings, from, name),
            };
            if let Some(known) = found {
                return known;
            }
        }
        if let Some(mut target) = settings.alias(name) {
            // Its end at once; a circle has none.
            for _ in 0..settings.aliases.len() {
                match settings.alias(target) {
                    Some(next) => target = next,
                    None => return Known::Alias(target.clone()),
                }
            }
            return Known::NoName;
        }
        if let Some((domain, target)) = settings.rule(name) {
            match target {
                Target::Servers(group) => return Known::Ask(*group),
                Target::Standard if domain.is_root() => {}
                Target::Standard => return Known::Ask(0),
                Target::Local => return Known::NoName,
                Target::Addresses(addresses) => return Known::Addresses(addresses.clone()),
            }
        }
        if let Some(known) = special(name) {
            return known;
        }
        if address.as_ref().is_some_and(|address| address.link) {
            return Known::Mdns;
        }
        if settings.private_reverse && address.is_some_and(|address| address.private) {
            return Known::NoName;
        }
        // Servers of zones are looked for by other types, also those of one label (delv does).
        if is_plain(name.as_wire()) && !matches!(wants, Wants::Names | Wants::Nothing) {
            return match &settings.plain {
                None | Some(Target::Local) => Known::Plain(None),
                Some(Target::Servers(group)) => Known::Plain(Some(*group)),
                Some(Target::Standard) => Known::Plain(Some(0)),
                Some(Target::Addresses(addresses)) => Known::Addresses(addresses.clone()),
            };
        }
        Known::Ask(0)
    }

    /// The addresses of a name that is known here, of whatever kind.
    fn addresses(&self, settings: &Settings, from: IpAddr, name: &Name) -> Option<Known> {
        for network in &settings.networks {
            if network.subnet.holds(from)
                && let Some(known) = found(&network.hosts, name)
            {
                return Some(known);
            }
        }
        if settings.host_name.as_ref() == Some(name) {
            return Some(Known::Addresses(settings.own_addresses(from)));
        }
        let wanted = hash(name.as_ref());
        let first = self.hosts.partition_point(|(hash, _)| *hash < wanted);
        let mut addresses = Vec::new();
        for (hash, place) in self.hosts.get(first..).unwrap_or_default() {
            if *hash != wanted {
                break;
            }
            if let Some(host) = settings.hosts.get(*place as usize)
                && host.names.contains(name)
                && !addresses.contains(&host.address)
            {
                addresses.push(host.address);
            }
        }
        (!addresses.is_empty()).then_some(Known::Addresses(addresses))
    }
}

impl Settings {
    /// The host's own addresses as a client can use them: all of them for the host itself; for others the one in their
    /// own subnet, or all that are not loopback.
    fn own_addresses(&self, from: IpAddr) -> Vec<IpAddr> {
        let mut addresses = Vec::new();
        if !from.is_loopback() {
            for subnet in &self.interfaces {
                if subnet.holds(from) {
                    addresses.push(subnet.address);
                }
            }
            if !addresses.is_empty() {
                return addresses;
            }
        }
        for subnet in &self.interfaces {
            addresses.push(subnet.address);
        }
        if from.is_loopback() {
            addresses.push(Ipv4Addr::LOCALHOST.into());
            addresses.push(Ipv6Addr::LOCALHOST.into());
        }
        addresses
    }

    /// The names of an address that is known here.
    fn names_at(&self, from: IpAddr, address: IpAddr) -> Option<Known> {
        let mut names = Vec::new();
        for network in &self.networks {
            if network.subnet.holds(from) {
                first_names(&network.hosts, address, &mut names);
            }
        }
        first_names(&self.hosts, address, &mut names);
        if let Some(own) = &self.host_name
            && self.interfaces.iter().any(|subnet| subnet.address == address)
            && !names.contains(own)
        {
            names.push(own.clone());
        }
        if names.is_empty() && address.is_loopback() {
            names.push(Name::parse("localhost")?);
        }
        (!names.is_empty()).then_some(Known::Names(names))
    }

    /// What a name is another name for.
    fn alias(&self, name: &Name) -> Option<&Name> {
        for (alias, target) in &self.aliases {
            if alias == name {
                return Some(target);
            }
        }
        None
    }

    /// The rule of the longest domain that a name lies in.
    pub(super) fn rule(&self, name: &Name) -> Option<(&Name, &Target)> {
        let mut best: Option<(&Name, &Target)> = None;
        for (domain, target) in &self.domains {
            let longer = best.is_none_or(|(known, _)| known.as_wire().len() < domain.as_wire().len());
            if longer && name.is_within(domain) {
                best = Some((domain, target));
            }
        }
        best
    }

    /// Whether with other settings something may come from elsewhere that could be in the cache: containers and
    /// interfaces change often, and what they tell is not.
    pub(super) fn tells_others(&self, other: &Self) -> bool {
        self.groups != other.groups
            || self.fallback != other.fallback
            || self.domains != other.domains
            || self.hosts != other.hosts
            || self.aliases != other.aliases
            || self.private_reverse != other.private_reverse
    }

    /// Whether a name may have private addresses, although rebinding is watched for: where the owner says so, and in
    /// domains whose servers the owner names.
    pub(super) fn may_be_private(&self, name: &Name) -> bool {
        if !self.rebind_protection || self.rebind_ok.iter().any(|domain| name.is_within(domain)) {
            return true;
        }
        matches!(self.rule(name), Some((_, Target::Servers(group))) if *group > 0)
    }
}

/// Adds the names of an address that are told on the way back.
fn first_names(hosts: &[Host], address: IpAddr, names: &mut Vec<Name>) {
    for host in hosts {
        if host.address == address
            && let Some(name) = host.names.first()
        {
            names.push(name.clone());
        }
    }
}

fn found(hosts: &[Host], name: &Name) -> Option<Known> {
    let mut addresses = Vec::new();
    for host in hosts {
        if host.names.contains(name) {
            addresses.push(host.address);
        }
    }
    (!addresses.is_empty()).then_some(Known::Addresses(addresses))
}

/// Which of what is known here a question is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Four,
    Six,
    All,
    /// The names of an address.
    Names,
    /// Whatever hangs together with addresses, and is not known here: a name with addresses of its own has none of it.
    Related,
    Nothing,
}

fn wants(kind: Kind) -> Wants {
    match kind {
        Kind::A => Wants::Four,
        Kind::AAAA => Wants::Six,
        Kind::ANY => Wants::All,
        Kind::PTR => Wants::Names,
        // They carry addresses as hints (RFC 9460 §7.3).
        Kind::HTTPS | Kind::SVCB => Wants::Related,
        _ => Wants::Nothing,
    }
}

impl Wants {
    fn wants(self, address: IpAddr) -> bool {
        match self {
            Self::Four => address.is_ipv4(),
            Self::Six => address.is_ipv6(),
            Self::All => true,
            Self::Names | Self::Related | Self::Nothing => false,
        }
    }
}

/// Names that mean the same everywhere and are asked from no server.
///
/// | name | | |
/// |---|---|---|
/// | `localhost` | this host | RFC 6761 §6.3 |
/// | `local` | mDNS, as for reverse names of link-local addresses | RFC 6762 §3, §4 |
/// | `invalid`, `onion`, `alt` | do not exist | RFC 6761 §6.4, RFC 7686, RFC 9476 |
/// | `resolver.arpa` | has no records: no server here is found that way | RFC 9462 §6.4 |
///
/// `test` is forwarded, against RFC 6761 §6.2: those who use it have servers that know it.
fn special(name: &Name) -> Option<Known> {
    let mut labels = name.labels();
    let mut last = [&[][..]; 2];
    let mut count = 0u32;
    for label in &mut labels {
        let [_, newer] = last;
        last = [newer, label];
        count = count.saturating_add(1);
    }
    let [before, top] = last;
    let is = |label: &[u8], text: &str| label.eq_ignore_ascii_case(text.as_bytes());
    if is(top, "localhost") {
        return Some(Known::Addresses(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
    }
    if is(top, "local") {
        // Of the domain itself no server shall say that it has one (RFC 6762 §22.1).
        return Some(if count == 1 { Known::NoName } else { Known::Mdns });
    }
    if is(top, "arpa") && is(before, "resolver") {
        return Some(Known::Addresses(Vec::new()));
    }
    ["invalid", "onion", "alt"].iter().any(|text| is(top, text)).then_some(Known::NoName)
}

/// What a name below `in-addr.arpa` or `ip6.arpa` stands for (RFC 1035 §3.5, RFC 3596 §2.5).
struct Reverse {
    /// The address; `None` for the name of a subnet.
    whole: Option<IpAddr>,
    /// It lies in a zone that no server of the Internet has (RFC 6303 §4, RFC 7793).
    private: bool,
    /// It lies in a zone of the link, which `mdns` knows (RFC 6762 §4).
    link: bool,
}

/// What a reverse name stands for; `None` for any other name.
fn reverse(name: &Name) -> Option<Reverse> {
    let mut labels: Vec<&[u8]> = name.labels().collect();
    if !labels.pop()?.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    let zone = labels.pop()?;
    let six = zone.eq_ignore_ascii_case(b"ip6");
    if !six && !zone.eq_ignore_ascii_case(b"in-addr") {
        return None;
    }
    let (mut bits, mut known) = (0u128, 0u32);
    let (base, width, most) = if six { (16, 4, 128) } else { (10, 8, 32) };
    // Services of a subnet have names there as well (RFC 6763 §11): the end of the name tells where it lies.
    while known < most
        && let Some(number) = labels.pop().and_then(|label| digits(label, base))
        && number >> width == 0
    {
        bits = bits << width | u128::from(number);
        known = known.saturating_add(width);
    }
    let whole = (known == most && labels.is_empty()).then(|| match u32::try_from(bits) {
        Ok(bits) if !six => Ipv4Addr::from_bits(bits).into(),
        _ => IpAddr::from(Ipv6Addr::from_bits(bits)),
    });
    let first = bits.wrapping_shl(32u32.saturating_sub(known)) >> known.saturating_sub(32);
    let private = is_private(six, first as u32, known, false) || six && known == most && bits <= 1;
    let link = known >= 12 && if six { first >> 22 == 0xFE80 >> 6 } else { first >> 16 == 0xA9FE };
    Some(Reverse { whole, private, link })
}

fn digits(label: &[u8], base: u32) -> Option<u32> {
    let mut number = 0u32;
    for digit in label {
        let digit = char::from(*digit).to_digit(base)?;
        number = number.checked_mul(base)?.checked_add(digit)?;
    }
    Some(number)
}

/// Networks that nobody has for himself: of IPv6, the first 32 bits, how many of them count, and whether an address in it
/// may lead a browser to a victim; the others are for documentation, for carriers, and broadcast.
static PRIVATE: &[(bool, u32, u32, bool)] = &[
    (false, 0x0000_0000, 8, true),
    (false, 0x0A00_0000, 8, true),
    (false, 0x7F00_0000, 8, true),
    (false, 0xA9FE_0000, 16, true),
    (false, 0xAC10_0000, 12, true),
    (false, 0xC0A8_0000, 16, true),
    (false, 0x6440_0000, 10, false),
    (false, 0xC000_0200, 24, false),
    (false, 0xC633_6400, 24, false),
    (false, 0xCB00_7100, 24, false),
    (false, 0xFFFF_FFFF, 32, false),
    (true, 0xFC00_0000, 7, true),
    // Link-local addresses, and those of sites, which were private once.
    (true, 0xFE80_0000, 9, true),
    (true, 0x2001_0DB8, 32, false),
];

/// Whether an address with these first bits, of which so many are known, lies in a private network.
pub(super) fn is_private(six: bool, first: u32, known: u32, rebinding: bool) -> bool {
    for (of_six, network, bits, leads) in PRIVATE {
        let differs = (first ^ network).leading_zeros() < *bits;
        if *of_six == six && !differs && *bits <= known && (*leads || !rebinding) {
            return true;
        }
    }
    false
}

/// Whether a name in wire form has one label.
pub(super) fn is_plain(name: &[u8]) -> bool {
    match name.split_first() {
        Some((length, rest)) if *length > 0 => rest.get(usize::from(*length)) == Some(&0),
        _ => false,
    }
}

/// FNV-1a of the name in small letters; the owner's own files make no collisions on purpose.
fn hash(name: NameRef<'_>) -> u32 {
    let mut hash = 0x811C_9DC5u32;
    for label in name.labels() {
        for byte in label.iter().chain(b".") {
            hash = (hash ^ u32::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0193);
        }
    }
    hash
}
