//! The service: one loop around the kernel's notices, the clients' timers and sockets, and the control
//! socket.

use crate::client::Event;
use crate::files::Places;
use crate::port::{Port, Tools};
use crate::profile::{self, Choice, Names, Profile};
use crate::setup::use_addresses_early;
use crate::status;
use minke_applet::{log, notify};
use minke_control::{self as control, Limits, Server, ntp};
use minke_sys::event::{Interest, Poller, Ready, Timer};
use minke_sys::netlink::{Change, Link, Monitor, Route};
use minke_sys::signal::{SIGINT, SIGTERM, Signals};
use minke_sys::{Result, clock, seccomp};
use minke_wire::json::{Map, Value, json};
use minke_wire::netlink::{ARPHRD_ETHER, IFF_LOOPBACK};
use minke_wire::table::Table;
use std::net::Ipv4Addr;
use std::path::Path;
use std::rc::Rc;

const MONITOR: u64 = 0;
const TIMER: u64 = 1;
const SIGNALS: u64 = 2;
const CONTROL: u64 = 3;
/// The token of the port with link index 0, which no link has.
pub const FIRST_PORT: u64 = 16;

/// The metric of the first Ethernet link's routes; each further one has one more (as NetworkManager does).
const FIRST_METRIC: u32 = 100;
/// The most links that are looked after.
const PORTS: usize = 64;
/// Interfaces of the engine and of the host's own bridges (spec os §11.1 and the engine's names).
const FOREIGN: [&str; 6] = ["balena", "resin", "br", "veth", "supervisor", "docker"];

/// The bridge without ports at which containers ask the host's forwarder (spec os §7.3, §11.7).
const DNS_BRIDGE: &str = "resin-dns";
const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 114, 102, 1);
const DNS_BITS: u8 = 24;

/// What the command line says.
#[derive(Debug)]
pub struct Settings {
    /// Where the files are.
    pub places: Places,
    /// The links to look after; empty: every Ethernet link that is not the engine's.
    pub only: Vec<String>,
}

/// The service.
#[derive(Debug)]
pub struct Daemon {
    settings: Settings,
    poller: Poller,
    monitor: Monitor,
    route: Route,
    timer: Timer,
    signals: Signals,
    control: Server,
    ports: Table<u32, Port>,
    /// The owner's, in the order in which links take them.
    profiles: Vec<Rc<Profile>>,
    /// Connections that wait for the first address.
    waiting: Vec<u64>,
    /// What the time client was told last: addresses, and the servers that came with them.
    told: Vec<(Ipv4Addr, Vec<Ipv4Addr>)>,
}

/// Runs the service until it is told to end. What is set up on the links stays: a restart must not cut
/// connections.
pub fn serve(settings: Settings, profiles: &Map) -> Result<()> {
    let mut daemon = Daemon::new(settings)?;
    daemon.load(profiles);
    daemon.write_resolver();
    // From here on packets of others are read. A kernel that has no filters is no reason to have no network.
    warn(seccomp::allow_packets(&[seccomp::LOOP, seccomp::SOCKETS, seccomp::READING, seccomp::WRITING]));
    let changes = Monitor::resync(&mut daemon.route)?;
    daemon.apply(changes);
    notify::ready();
    // After that, as nothing at the boot waits for it.
    if daemon.settings.only.is_empty() {
        warn(daemon.route.ensure_bridge(DNS_BRIDGE, DNS_ADDRESS.into(), DNS_BITS).map(|_| ()));
    }
    let mut ready = Vec::new();
    loop {
        daemon.set_timer()?;
        daemon.poller.wait(&mut ready, None)?;
        for Ready { token, .. } in ready.drain(..) {
            match token {
                MONITOR => daemon.kernel()?,
                TIMER => daemon.timers(),
                SIGNALS if daemon.signals.take().is_some() => return Ok(()),
                SIGNALS => {}
                CONTROL => daemon.answer()?,
                port => daemon.packets(port),
            }
        }
    }
}

impl Daemon {
    fn new(settings: Settings) -> Result<Self> {
        let poller = Poller::new()?;
        let monitor = Monitor::links()?;
        poller.add(&monitor, MONITOR, Interest::Read)?;
        let timer = Timer::new()?;
        poller.add(&timer, TIMER, Interest::Read)?;
        let signals = Signals::new(&[SIGTERM, SIGINT])?;
        poller.add(&signals, SIGNALS, Interest::Read)?;
        // All profiles come in one request.
        let limits = Limits { connections: 16, request: control::LINE_LIMIT, ..Limits::default() };
        let control = Server::bind(&settings.places.socket(), 0o660, limits)?;
        poller.add(&control, CONTROL, Interest::Read)?;
        let (ports, waiting) = (Table::new(), Vec::new());
        Ok(Self {
            settings,
            poller,
            monitor,
            route: Route::new()?,
            timer,
            signals,
            control,
            ports,
            profiles: Vec::new(),
            waiting,
            told: Vec::new(),
        })
    }

    fn set_timer(&self) -> Result<()> {
        let deadline = self.ports.values().filter_map(|port| port.deadline()).min();
        self.timer.set(deadline.map(|deadline| deadline.saturating_sub(clock::boottime())))
    }

    fn timers(&mut self) {
        self.timer.take();
        let now = clock::boottime();
        let due = self.ports.values().filter(|port| port.deadline().is_some_and(|deadline| deadline <= now));
        let due: Vec<u32> = due.map(|port| port.link.index).collect();
        for index in due {
            self.with_port(index, &|port, tools| port.step(Event::Timer, tools));
        }
        self.choose(false);
    }

    fn packets(&mut self, token: u64) {
        if let Ok(index) = u32::try_from(token.saturating_sub(FIRST_PORT)) {
            self.with_port(index, &|port, tools| port.readable(tools));
        }
    }

    fn kernel(&mut self) -> Result<()> {
        let changes = self.monitor.read(&mut self.route)?;
        self.apply(changes);
        Ok(())
    }

    fn apply(&mut self, changes: Vec<Change>) {
        // After a loss of notices, a port whose link does not follow is gone.
        let mut unseen: Vec<u32> = Vec::new();
        for change in changes {
            match change {
                Change::Resync => unseen = self.ports.keys().copied().collect(),
                Change::Link(link) => {
                    unseen.retain(|index| *index != link.index);
                    self.link(&link);
                }
                Change::LinkGone(index) => self.drop_port(index),
                _ => {}
            }
        }
        for index in unseen {
            self.drop_port(index);
        }
        self.choose(false);
    }

    /// The owner's profiles are these now.
    fn load(&mut self, files: &Map) {
        let files = files.iter().map(|(name, text)| (name.as_str(), text.as_str().unwrap_or_default()));
        self.profiles = profile::all(files, &self.profiles);
        self.choose(true);
    }

    /// Gives each link that has a carrier and nothing yet what it shall have; with `all` also those that have something,
    /// first those that have a profile: if it still fits it is theirs. Without a carrier, the next one brings the choice.
    fn choose(&mut self, all: bool) {
        let mut order = Vec::new();
        for (index, port) in self.ports.iter_mut() {
            if port.link.has_carrier() {
                let place = if port.choice.profile().is_some() { 0 } else { order.len() };
                order.insert(place, *index);
            } else if all || port.client.is_stopped() {
                port.choice = Choice::Open;
            }
        }
        for index in order {
            let Some(port) = self.ports.get(&index) else { continue };
            if !all && matches!(port.choice, Choice::Usual | Choice::Profile(_)) {
                continue;
            }
            let is_taken = |profile: &Profile| {
                let mut ports = self.ports.values();
                ports.any(|other| other.link.index != index && other.choice.holds(&profile.name))
            };
            let choice = profile::choose(&self.profiles, &port.link, &is_taken);
            if !choice.is(&port.choice) {
                self.with_port(index, &|port, tools| port.adopt(&choice, tools));
            }
        }
    }

    fn link(&mut self, link: &Link) {
        let index = link.index;
        if link.flags & IFF_LOOPBACK != 0 {
            if !link.is_up() {
                warn(self.route.set_up(index));
            }
            return;
        }
        if !is_ours(link, &self.settings.only) {
            return self.drop_port(index);
        }
        // A link that was renamed or has a new Ethernet address starts anew.
        if self.ports.get(&index).is_some_and(|port| port.link.name != link.name || port.link.mac != link.mac)
        {
            self.drop_port(index);
        }
        if !self.ports.contains_key(&index) {
            if self.ports.len() >= PORTS {
                return;
            }
            log::info(format_args!("{}: found", link.name));
            match Port::new(link, self.free_metric(), &self.settings.places) {
                Ok(port) => _ = self.ports.insert(index, port),
                Err(error) => return log::error(format_args!("{error}")),
            }
            use_addresses_early(&link.name);
            if !link.is_up() {
                warn(self.route.set_up(index));
            }
        }
        self.with_port(index, &|port, tools| port.link_changed(link, tools));
    }

    fn free_metric(&self) -> u32 {
        let taken = |metric| self.ports.values().any(|port| port.metric == metric);
        (FIRST_METRIC..).find(|metric| !taken(*metric)).unwrap_or(u32::MAX)
    }

    fn drop_port(&mut self, index: u32) {
        if let Some(mut port) = self.ports.remove(&index) {
            log::info(format_args!("{}: gone", port.link.name));
            let Self { route, poller, settings, .. } = self;
            port.abandon(&mut Tools { route, poller, places: &settings.places });
            self.write_resolver();
            self.tell_clock();
        }
    }

    fn with_port(&mut self, index: u32, act: &dyn Fn(&mut Port, &mut Tools<'_>) -> bool) {
        let Self { route, poller, settings, ports, .. } = self;
        let Some(port) = ports.get_mut(&index) else { return };
        if act(port, &mut Tools { route, poller, places: &settings.places }) {
            self.write_resolver();
            self.tell_clock();
            self.tell_waiting();
        }
    }

    fn write_resolver(&self) {
        let mut ports: Vec<&Port> = Vec::new();
        for port in self.ports.values() {
            let place = ports.partition_point(|other| other.metric < port.metric);
            ports.insert(place, port);
        }
        let mut names: Vec<Names> = Vec::new();
        let mut connected = false;
        for port in ports {
            connected |= port.client.lease().is_some();
            port.names(&mut names);
        }
        self.settings.places.write_resolver(&names);
        notify::status(if connected { "connected" } else { "no address" });
    }

    /// A renewed lease is no news.
    fn tell_clock(&mut self) {
        let mut news = Vec::new();
        for lease in self.ports.values().filter_map(|port| port.client.lease()) {
            news.push((lease.address, lease.ntp_servers.clone()));
        }
        if news == self.told {
            return;
        }
        let places = &self.settings.places;
        places.tell_clock(ntp::Command::Reload);
        if !news.is_empty() {
            places.tell_clock(ntp::Command::Online);
        }
        self.told = news;
    }

    fn answer(&mut self) -> Result<()> {
        for event in self.control.events()? {
            match event {
                control::Event::Closed { conn } => self.waiting.retain(|waiting| *waiting != conn),
                control::Event::Request { conn, request, .. } => {
                    match request.get("command").and_then(Value::as_str) {
                        Some("status") => self.control.finish(conn, &self.status()),
                        Some("wait-online") => self.waiting.push(conn),
                        Some("profiles") => {
                            if let Some(profiles) = request.get("profiles").and_then(Value::as_object) {
                                self.load(profiles);
                            }
                            self.control.finish(conn, &json!({}));
                        }
                        _ => self.control.refuse(conn, "unknown command"),
                    }
                }
            }
        }
        self.tell_waiting();
        Ok(())
    }

    fn tell_waiting(&mut self) {
        if self.ports.values().any(|port| port.client.lease().is_some()) {
            for conn in std::mem::take(&mut self.waiting) {
                self.control.finish(conn, &self.status());
            }
        }
    }

    /// The state of all ports: `state` (`connected`, `connecting` or `disconnected`) and `links`.
    fn status(&self) -> Value {
        let (mut state, mut links) = ("disconnected", Vec::new());
        for port in self.ports.values() {
            if port.client.lease().is_some() {
                state = "connected";
            } else if port.link.has_carrier() && state != "connected" {
                state = "connecting";
            }
            links.push(status::link(port));
        }
        json!({ "state": state, "links": links })
    }
}

/// Whether this program looks after a link: `only` names those that it shall; empty, every Ethernet port
/// that is no part of a bridge and not the engine's.
fn is_ours(link: &Link, only: &[String]) -> bool {
    if !only.is_empty() {
        return only.contains(&link.name);
    }
    let foreign = FOREIGN.iter().any(|prefix| link.name.starts_with(prefix));
    // Hardware has no kind; veth, bridge, tun, vlan and so on have, and somebody else made them.
    let hardware = link.hardware == ARPHRD_ETHER && link.kind.is_none();
    hardware && link.master.is_none() && !foreign && !is_wireless(&link.name)
}

/// A wireless link has a carrier only after a supplicant's work, which this program does not do yet.
fn is_wireless(name: &str) -> bool {
    minke_sys::status::exists(Path::new("/sys/class/net").join(name).join("phy80211"))
}

fn warn(result: Result<()>) {
    if let Err(error) = result {
        log::warn(format_args!("{error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str) -> Link {
        Link {
            index: 2,
            name: name.to_owned(),
            kind: None,
            hardware: ARPHRD_ETHER,
            flags: 0,
            mtu: 1500,
            mac: Some([2, 0, 0, 0, 0, 1]),
            master: None,
            oper_state: 2,
        }
    }

    #[test]
    fn hardware_is_ours_and_the_engines_links_are_not() {
        for name in ["eth0", "enp1s0", "end0", "usb0"] {
            assert!(is_ours(&link(name), &[]), "{name}");
        }
        for name in ["balena0", "br-0123456789ab", "veth12", "supervisor0", "resin-dns"] {
            assert!(!is_ours(&link(name), &[]), "{name}");
        }
        assert!(!is_ours(&Link { kind: Some("veth".into()), ..link("eth0") }, &[]));
        assert!(!is_ours(&Link { master: Some(9), ..link("eth0") }, &[]));
        assert!(!is_ours(&Link { hardware: 65534, ..link("tun0") }, &[]));
    }

    #[test]
    fn named_links_are_ours_alone() {
        let only = ["lan0".to_owned()];
        assert!(is_ours(&Link { kind: Some("veth".into()), ..link("lan0") }, &only));
        assert!(!is_ours(&link("eth0"), &only));
    }
}
