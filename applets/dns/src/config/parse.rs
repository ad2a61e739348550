//! The formats: dnsmasq(8)'s options, resolv.conf(5), hosts(5), and the engine's list of names. Each takes a file's text
//! into the settings. A line that cannot be understood becomes a complaint, and changes nothing.

use super::{
    Host, MOST_DOMAINS, MOST_HOSTS, MOST_SEARCH, MOST_SERVERS, Network, PORT, Server, Settings, Subnet,
    TLS_PORT, Target, Transport,
};
use minke_wire::dns::{Name, reverse_zone};
use minke_wire::micros::Micros;
use minke_wire::text;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The comment after which the servers of a servers file are those that are asked for want of others.
pub(crate) const FALLBACK_MARK: &str = "# fallback";

/// The first line of a resolv.conf file whose servers are to be the only ones, for those of a VPN.
pub(crate) const EXCLUSIVE_MARK: &str = "# exclusive\n";

/// The most complaints about one file.
const MOST_COMPLAINTS: usize = 16;
/// dnsmasq counts the cache in names; so many bytes are one.
const BYTES_PER_NAME: usize = 300;
/// The largest cache that a file can ask for, in bytes.
const MOST_CACHE: usize = 16 << 20;
/// The largest `min-cache-ttl`, as in dnsmasq, in seconds.
const MOST_MIN_TTL: u64 = 3_600;

/// What is wrong with a line; the line's text follows it in the log.
type Outcome = Result<(), &'static str>;

const NO_SERVER: &str = "no server";
const NO_ADDRESS: &str = "no address";
const NO_NAME: &str = "no name";
const NO_NUMBER: &str = "no number";
const TOO_MANY: &str = "too many; left out";

/// Settings to be, and what was wrong on the way.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) settings: Settings,
    /// Lines for the log: file, line, problem.
    pub(crate) complaints: Vec<String>,
    /// Other hosts files that the options name.
    pub(crate) more_hosts: Vec<String>,
    /// Whether the servers of resolv.conf files count (no `no-resolv`).
    pub(crate) resolv: bool,
    /// A file's servers are to be the only ones.
    exclusive: bool,
    /// The servers of this file are those for want of others.
    fallback: bool,
}

/// How one line of a format is read.
type Line = fn(&mut Reader, &str) -> Outcome;

impl Reader {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            complaints: Vec::new(),
            more_hosts: Vec::new(),
            resolv: true,
            exclusive: false,
            fallback: false,
        }
    }

    /// A file of dnsmasq's options, one a line without the dashes.
    pub(crate) fn options(&mut self, file: &str, content: &str) {
        self.lines(file, content, |reader, line| {
            let (name, value) = text::split_once(line, "=").unwrap_or((line, ""));
            reader.option(name.trim_ascii(), value.trim_ascii())
        });
    }

    /// A resolv.conf file. Words that are not understood are passed over, as every resolver does.
    pub(crate) fn resolv_conf(&mut self, file: &str, content: &str) {
        if content.starts_with(EXCLUSIVE_MARK) {
            if !self.exclusive {
                self.exclusive = true;
                self.settings.fallback.clear();
                self.settings.search.clear();
                self.settings.groups.first_mut().map(Vec::clear);
            }
        } else if self.exclusive {
            return;
        }
        self.lines(file, content, |reader, line| {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => reader.server(words.next().unwrap_or_default()),
                Some("search" | "domain") => {
                    for word in words {
                        reader.search(word)?;
                    }
                    Ok(())
                }
                _ => Ok(()),
            }
        });
    }

    /// A hosts file: an address and its names.
    pub(crate) fn hosts(&mut self, file: &str, content: &str) {
        self.lines(file, content, |reader, line| {
            let host = host(line.split_ascii_whitespace())?;
            push(&mut reader.settings.hosts, host, MOST_HOSTS)
        });
    }

    /// What the engine writes: the subnet of a network, an address in it, and its names.
    pub(crate) fn networks(&mut self, file: &str, content: &str) {
        self.lines(file, content, |reader, line| {
            let mut words = line.split_ascii_whitespace();
            let subnet = words.next().and_then(subnet).ok_or(NO_ADDRESS)?;
            let host = host(words)?;
            let networks = &mut reader.settings.networks;
            let known: usize = networks.iter().map(|network| network.hosts.len()).sum();
            if known >= MOST_HOSTS {
                return Err(TOO_MANY);
            }
            match networks.iter_mut().find(|network| network.subnet == subnet) {
                Some(network) => network.hosts.push(host),
                None => networks.push(Network { subnet, hosts: vec![host] }),
            }
            Ok(())
        });
    }

    fn lines(&mut self, file: &str, content: &str, read: Line) {
        self.fallback = false;
        let mut wrong = 0usize;
        let mut number = 0u32;
        for line in content.lines() {
            number = number.wrapping_add(1);
            self.fallback |= line.starts_with(FALLBACK_MARK);
            let line = uncommented(line).trim_ascii();
            if line.is_empty() {
                continue;
            }
            if let Err(problem) = read(self, line) {
                wrong = wrong.saturating_add(1);
                if wrong <= MOST_COMPLAINTS {
                    let line = line.get(..100).unwrap_or(line);
                    self.complaints.push(format!("{file}:{number}: {problem}: {}", text::shown(line)));
                }
            }
        }
        if let Some(more) = wrong.checked_sub(MOST_COMPLAINTS).filter(|more| *more > 0) {
            self.complaints.push(format!("{file}: {more} more lines are ignored"));
        }
    }

    fn option(&mut self, name: &str, value: &str) -> Outcome {
        let settings = &mut self.settings;
        match name {
            "server" | "local" => return self.server(value),
            "rev-server" => return self.rev_server(value),
            "address" => return self.address(value),
            "cache-size" => {
                let names: usize = text::number(value).ok_or(NO_NUMBER)?;
                settings.cache.bytes = names.saturating_mul(BYTES_PER_NAME).min(MOST_CACHE);
            }
            "min-cache-ttl" => {
                settings.cache.min_ttl = Micros::from_secs(seconds(value)?.min(MOST_MIN_TTL));
            }
            "max-cache-ttl" => settings.cache.max_ttl = Micros::from_secs(seconds(value)?),
            "neg-ttl" => settings.cache.max_negative_ttl = Micros::from_secs(seconds(value)?),
            "use-stale-cache" => {
                // Without a number a day; with 0 for ever, which is more than anything should live (RFC 8767 §5).
                let limit = if value.is_empty() { 86_400 } else { seconds(value)? };
                settings.cache.stale = Micros::from_secs(if limit == 0 { 7 * 86_400 } else { limit });
            }
            "stop-dns-rebind" => settings.rebind_protection = true,
            "rebind-domain-ok" => {
                for word in value.split('/').filter(|word| !word.is_empty()) {
                    push(&mut settings.rebind_ok, domain(word)?, MOST_DOMAINS)?;
                }
            }
            "listen-address" => {
                for word in value.split(',') {
                    let address = SocketAddr::new(word.parse().map_err(|_| NO_ADDRESS)?, PORT);
                    if !settings.listen.contains(&address) {
                        push(&mut settings.listen, address, MOST_SERVERS)?;
                    }
                }
            }
            "no-resolv" => self.resolv = false,
            "addn-hosts" => push(&mut self.more_hosts, value.to_owned(), MOST_SERVERS)?,
            "host-record" => return self.host_record(value),
            "cname" => return self.cname(value),
            // Always so here.
            "domain-needed" | "bogus-priv" | "bind-interfaces" | "bind-dynamic" | "no-poll"
            | "all-servers" | "no-dhcp-interface" | "localise-queries" => {}
            _ => return Err("unknown option"),
        }
        Ok(())
    }

    /// `server=`: `[/domain[/domain…]/]SERVER`.
    pub(crate) fn server(&mut self, value: &str) -> Outcome {
        let (domains, word) = domains(value);
        if domains.is_none() {
            let server = self.checked(word)?;
            let settings = &mut self.settings;
            if self.fallback {
                return push_new(&mut settings.fallback, server);
            }
            return settings.groups.first_mut().map_or(Ok(()), |group| push_new(group, server));
        }
        for domain in domains.unwrap_or_default().split('/') {
            match word {
                "" => self.rule(domain, Target::Local)?,
                "#" => self.rule(domain, Target::Standard)?,
                _ => self.route(domain, word)?,
            }
        }
        Ok(())
    }

    /// A server that is asked for the names in a domain; one that has others gets it besides.
    fn route(&mut self, domain: &str, word: &str) -> Outcome {
        let server = self.checked(word)?;
        let settings = &mut self.settings;
        let rule = match domain {
            "" => settings.plain.as_ref(),
            _ => {
                let domain = self::domain(domain)?;
                settings.domains.iter().find(|(known, _)| *known == domain).map(|(_, target)| target)
            }
        };
        if let Some(Target::Servers(place)) = rule
            && let Some(group) = settings.groups.get_mut(*place)
        {
            return push_new(group, server);
        }
        let place = settings.groups.len();
        self.rule(domain, Target::Servers(place))?;
        self.settings.groups.push(vec![server]);
        Ok(())
    }

    /// Sets what becomes of a domain; an empty one stands for names of one label. What was said last counts.
    fn rule(&mut self, domain: &str, target: Target) -> Outcome {
        let settings = &mut self.settings;
        if domain.is_empty() {
            settings.plain = Some(target);
            return Ok(());
        }
        let domain = self::domain(domain)?;
        match settings.domains.iter_mut().find(|(known, _)| *known == domain) {
            Some((_, known)) => *known = target,
            None => push(&mut settings.domains, (domain, target), MOST_DOMAINS)?,
        }
        Ok(())
    }

    /// A server that is not this program itself: that would ask itself for ever.
    fn checked(&self, word: &str) -> Result<Server, &'static str> {
        let server = server(word).ok_or(NO_SERVER)?;
        if self.settings.listen.contains(&server.address) {
            return Err("this forwarder itself");
        }
        Ok(server)
    }

    /// `rev-server=SUBNET,SERVER`: reverse names of a subnet.
    fn rev_server(&mut self, value: &str) -> Outcome {
        let (net, word) = text::split_once(value, ",").ok_or(NO_SERVER)?;
        let subnet = subnet(net).ok_or(NO_ADDRESS)?;
        for zone in reverse_zones(subnet) {
            self.server(&format!("/{zone}/{word}"))?;
        }
        Ok(())
    }

    /// `address=/domain[/domain…]/[ADDRESS]`.
    fn address(&mut self, value: &str) -> Outcome {
        let (domains, word) = domains(value);
        let domains = domains.filter(|domains| !domains.is_empty()).ok_or(NO_NAME)?;
        let addresses: Vec<IpAddr> = match word {
            "" => Vec::new(),
            "#" => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            _ => vec![word.parse().map_err(|_| NO_ADDRESS)?],
        };
        for domain in domains.split('/') {
            let known = self::domain(domain)?;
            let known = self.settings.domains.iter_mut().find(|(name, _)| *name == known);
            match known {
                Some((_, Target::Addresses(list))) if !addresses.is_empty() => {
                    for address in &addresses {
                        push(list, *address, MOST_SERVERS)?;
                    }
                }
                _ if addresses.is_empty() => self.rule(domain, Target::Local)?,
                _ => self.rule(domain, Target::Addresses(addresses.clone()))?,
            }
        }
        Ok(())
    }

    /// `host-record=NAME[,NAME…],ADDRESS[,ADDRESS][,TTL]`.
    fn host_record(&mut self, value: &str) -> Outcome {
        let (mut names, mut addresses) = (Vec::new(), Vec::new());
        for word in value.split(',').map(str::trim_ascii) {
            if let Ok(address) = word.parse::<IpAddr>() {
                addresses.push(address);
            } else if addresses.is_empty() || text::number::<u32>(word).is_none() {
                names.push(name(word)?);
            }
        }
        if names.is_empty() || addresses.is_empty() {
            return Err(NO_ADDRESS);
        }
        for address in addresses {
            push(&mut self.settings.hosts, Host { address, names: names.clone() }, MOST_HOSTS)?;
        }
        Ok(())
    }

    /// `cname=ALIAS[,ALIAS…],TARGET[,TTL]`.
    fn cname(&mut self, value: &str) -> Outcome {
        let mut names = Vec::new();
        for word in value.split(',').map(str::trim_ascii) {
            if names.len() < 2 || text::number::<u32>(word).is_none() {
                names.push(name(word)?);
            }
        }
        let (target, aliases) =
            names.split_last().filter(|(_, aliases)| !aliases.is_empty()).ok_or(NO_NAME)?;
        for alias in aliases {
            push(&mut self.settings.aliases, (alias.clone(), target.clone()), MOST_DOMAINS)?;
        }
        Ok(())
    }

    fn search(&mut self, word: &str) -> Outcome {
        let domain = name(word)?;
        let search = &mut self.settings.search;
        if search.contains(&domain) || domain.is_root() {
            return Ok(());
        }
        push(search, domain, MOST_SEARCH)
    }
}

/// What stands before a comment: `#` at the beginning or after a space, as dnsmasq has it. A server's `#port` is none.
fn uncommented(line: &str) -> &str {
    if line.starts_with('#') {
        return "";
    }
    let at = [" #", "\t#"].into_iter().filter_map(|mark| text::find(line, mark)).min();
    at.and_then(|at| line.get(..at)).unwrap_or(line)
}

/// Takes `/domain/domain/` off: the domains with the slashes between them, and what follows.
fn domains(value: &str) -> (Option<&str>, &str) {
    match value.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) {
        Some((domains, word)) => (Some(domains), word),
        None => (None, value),
    }
}

/// A domain of a rule: `example.org`, also `.example.org` and `*.example.org`; `#` is every name.
fn domain(word: &str) -> Result<Name, &'static str> {
    if word == "#" {
        return name(".");
    }
    let word = word.strip_prefix('*').unwrap_or(word);
    name(word.strip_prefix('.').filter(|rest| !rest.is_empty()).unwrap_or(word))
}

/// The host's own name: the first label, as the system's may be a whole one.
pub(super) fn host_name(word: &str) -> Option<Name> {
    Name::parse(word.split('.').next().unwrap_or_default())
}

fn name(word: &str) -> Result<Name, &'static str> {
    Name::parse(word).ok_or(NO_NAME)
}

fn host<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Host, &'static str> {
    let address = words.next().and_then(|word| word.parse().ok()).ok_or(NO_ADDRESS)?;
    let mut names = Vec::new();
    for word in words.take(MOST_SERVERS) {
        names.push(name(word)?);
    }
    if names.is_empty() { Err(NO_NAME) } else { Ok(Host { address, names }) }
}

/// `ADDRESS[#PORT]`, `ADDRESS:PORT`, `tls://ADDRESS[:PORT][#NAME]`; IPv6 addresses may have a zone. What dnsmasq lets
/// follow behind `@` (interface or source) has no meaning here.
pub(crate) fn server(word: &str) -> Option<Server> {
    let (transport, rest) = match word.strip_prefix("tls://") {
        Some(rest) => match text::split_once(rest, "#") {
            Some((rest, name)) if !name.is_empty() => (Transport::Strict(name.into()), rest),
            Some((rest, _)) => (Transport::Opportunistic, rest),
            None => (Transport::Opportunistic, rest),
        },
        None => (Transport::Plain, text::split_once(word, "@").map_or(word, |(word, _)| word)),
    };
    let usual = if transport == Transport::Plain { PORT } else { TLS_PORT };
    let (place, port) = match text::split_once(rest, "#") {
        Some((place, port)) => (place, text::number(port)?),
        None => (rest, usual),
    };
    let address = place.parse::<SocketAddr>().ok().or_else(|| {
        scoped(place.strip_prefix('[').and_then(|place| place.strip_suffix(']')).unwrap_or(place), port)
    })?;
    (address.port() != 0).then_some(Server { address, transport })
}

/// An address, of IPv6 perhaps with a zone by number or by the name of an interface (RFC 4007 §11).
fn scoped(word: &str, port: u16) -> Option<SocketAddr> {
    let Some((address, zone)) = text::split_once(word, "%") else {
        return Some(SocketAddr::new(word.parse().ok()?, port));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let zone = text::number(zone).or_else(|| super::read::index_of(zone))?;
    Some(SocketAddrV6::new(address, port, 0, zone).into())
}

/// `ADDRESS[/BITS]`.
fn subnet(word: &str) -> Option<Subnet> {
    let (address, bits) =
        text::split_once(word, "/").map_or((word, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) => text::number::<u8>(bits).filter(|bits| *bits <= width)?,
        None => width,
    };
    Some(Subnet { address, bits })
}

/// The reverse zones that are a subnet together: at whole bytes of IPv4 and half ones of IPv6.
fn reverse_zones(subnet: Subnet) -> Vec<String> {
    let (octets, step) = match subnet.address {
        IpAddr::V4(address) => (address.octets().to_vec(), 8u8),
        IpAddr::V6(address) => (address.octets().to_vec(), 4),
    };
    let labels = subnet.bits.div_ceil(step);
    let whole = labels.saturating_mul(step);
    // The bits that the last label has and the subnet leaves open, and where they stand in their byte.
    let open = whole.saturating_sub(subnet.bits);
    let shift = whole.next_multiple_of(8).saturating_sub(whole);
    let mut zones = Vec::new();
    for number in 0..1u8.checked_shl(open.into()).unwrap_or(0) {
        let mut octets = octets.clone();
        if let Some(byte) = octets.get_mut(usize::from(whole.saturating_sub(1) / 8)) {
            *byte = (*byte >> shift >> open << open | number) << shift;
        }
        let address = match (octets.first_chunk::<16>(), octets.first_chunk::<4>()) {
            (Some(octets), _) => IpAddr::from(*octets),
            (None, Some(octets)) => IpAddr::from(*octets),
            (None, None) => break,
        };
        zones.push(reverse_zone(address, labels.into()));
    }
    zones
}

fn seconds(value: &str) -> Result<u64, &'static str> {
    text::number(value).ok_or(NO_NUMBER)
}

fn push<T>(list: &mut Vec<T>, item: T, most: usize) -> Outcome {
    if list.len() >= most {
        return Err(TOO_MANY);
    }
    list.push(item);
    Ok(())
}

fn push_new(group: &mut Vec<Server>, server: Server) -> Outcome {
    if group.contains(&server) { Ok(()) } else { push(group, server, MOST_SERVERS) }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
