//! The service: one loop around the sockets, the interfaces, the service files, the host's name and those who ask.

mod clients;
mod files;
mod links;
mod shipped;

use crate::core::{Action, Limits, Mdns, PORT, Packet, Time};
use clients::{ALL_QUESTIONS, Clients, FIRST_PUBLISHED};
use files::Files;
use links::{Links, Update};
use minke_applet::{Args, Flag, log, notify, report};
use minke_control::Event;
use minke_control::mdns::{Request, SOCKET};
use minke_sys::event::{Interest, Poller, Ready, Timer};
use minke_sys::multicast::Group;
use minke_sys::netlink::{Monitor, Route};
use minke_sys::signal::{SIGHUP, SIGINT, SIGTERM, Signals};
use minke_sys::{Errno, Result, clock, file, random, seccomp};
use minke_wire::json::{Value, json};
use shipped::{Said, Shipped};
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

const TIMER: u64 = 0;
const SIGNALS: u64 = 1;
const CONTROL: u64 = 2;
const NETWORK: u64 = 3;
const FILES: u64 = 4;
const NAME: u64 = 5;
/// The sockets of the two families.
const V4: u64 = 6;
const V6: u64 = 7;

/// The groups of multicast DNS (RFC 6762 §3).
const GROUPS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251)), IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb))];
/// The longest packet (RFC 6762 §17).
const LONGEST: usize = 9000;
/// Packets of one socket that are looked at in a row.
const BATCH: usize = 64;
/// Where the kernel tells the host's name, and that it has changed.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
/// Where service files are: those of the image, and those of the device, which outlast reboots and updates.
const FOLDERS: [&str; 2] = ["/etc/avahi/services", "/mnt/state/root-overlay/etc/avahi/services"];

/// Options of `mdns run`.
pub(crate) const INTERFACE_FLAG: Flag = Flag {
    short: Some('i'),
    long: "interface",
    value: Some("NAME"),
    help: "run: speak on this interface alone, whatever it is; may be repeated",
};
pub(crate) const SERVICES_FLAG: Flag = Flag {
    short: None,
    long: "services",
    value: Some("DIR"),
    help: "run: where the service files are, instead of /etc/avahi/services; may be repeated",
};
pub(crate) const HOST_FLAG: Flag =
    Flag { short: None, long: "host", value: Some("NAME"), help: "run: a name other than the host's own" };
/// `mdns run`.
pub(crate) fn run(args: &Args) -> u8 {
    report(serve(args).map(|()| 0))
}

struct Daemon {
    poller: Poller,
    timer: Timer,
    /// What the timer is set to.
    set: Option<Time>,
    signals: Signals,
    monitor: Monitor,
    route: Route,
    sockets: [Option<Group>; 2],
    /// On which interfaces the sockets hear, family by family.
    joined: [Vec<u32>; 2],
    links: Links,
    files: Files,
    /// The service files' services.
    shipped: Vec<Shipped>,
    last_id: u32,
    /// The kernel's file with the host's name, unless another name was given.
    host: Option<File>,
    wanted: String,
    clients: Clients,
    mdns: Mdns,
    /// How long the machine has slept since boot.
    slept: Duration,
    /// The last error of sending, so that it is told once.
    complained: Option<Errno>,
}

fn serve(args: &Args) -> Result<()> {
    let mut daemon = Daemon::new(args)?;
    daemon.name_changed();
    daemon.files_changed();
    let changes = Monitor::resync(&mut daemon.route)?;
    daemon.network_changed(changes);
    // What others send is read from here on. A kernel that has no filters is no reason to be silent.
    if let Err(error) = seccomp::allow(&[seccomp::LOOP, seccomp::SOCKETS, seccomp::READING]) {
        log::warn(format_args!("{error}"));
    }
    daemon.work()?;
    notify::ready();
    let mut ready = Vec::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        daemon.poller.wait(&mut ready, None)?;
        daemon.look_for_sleep();
        for Ready { token, .. } in &ready {
            match *token {
                TIMER => {
                    daemon.timer.take();
                    daemon.set = None;
                }
                SIGNALS => match daemon.signals.take() {
                    Some(SIGHUP) => {
                        daemon.name_changed();
                        daemon.files_changed();
                    }
                    Some(_) => return daemon.end(),
                    None => {}
                },
                CONTROL => daemon.answer()?,
                NETWORK => {
                    let changes = daemon.monitor.read(&mut daemon.route)?;
                    daemon.network_changed(changes);
                }
                FILES => {
                    daemon.files.take();
                    daemon.files_changed();
                }
                NAME => daemon.name_changed(),
                V4 => daemon.receive(0, &mut buffer),
                V6 => daemon.receive(1, &mut buffer),
                _ => {}
            }
            daemon.work()?;
        }
        daemon.mdns.timer(now());
        daemon.work()?;
    }
}

impl Daemon {
    fn new(args: &Args) -> Result<Self> {
        let poller = Poller::new()?;
        let timer = Timer::new()?;
        poller.add(&timer, TIMER, Interest::Read)?;
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP])?;
        poller.add(&signals, SIGNALS, Interest::Read)?;
        let socket = Path::new(args.value("socket").unwrap_or(SOCKET));
        if let Some(folder) = socket.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            file::make_folder(folder, 0o755)?;
        }
        let uid = minke_sys::status::of("/proc/self")?.uid;
        let clients = Clients::new(socket, uid)?;
        poller.add(&clients.server, CONTROL, Interest::Read)?;
        let sockets = [open(&poller, V4)?, open(&poller, V6)?];
        let monitor = Monitor::links_and_addresses()?;
        poller.add(&monitor, NETWORK, Interest::Read)?;
        let mut folders: Vec<PathBuf> = args.values(SERVICES_FLAG.long).map(PathBuf::from).collect();
        if folders.is_empty() {
            folders = FOLDERS.iter().map(PathBuf::from).collect();
        }
        let files = Files::new(folders)?;
        poller.add(&files, FILES, Interest::Read)?;
        let wanted = args.value(HOST_FLAG.long).unwrap_or_default().to_owned();
        let host = if wanted.is_empty() { Some(file::open_to_read(HOST_NAME)?) } else { None };
        if let Some(host) = &host {
            // proc(5): a change of the name is an error condition of its file.
            poller.add(host, NAME, Interest::None)?;
        }
        Ok(Self {
            poller,
            timer,
            set: None,
            signals,
            monitor,
            route: Route::new()?,
            sockets,
            joined: [Vec::new(), Vec::new()],
            links: Links::new(args.values(INTERFACE_FLAG.long).map(str::to_owned).collect()),
            files,
            shipped: Vec::new(),
            last_id: 0,
            host,
            wanted,
            clients,
            mdns: Mdns::new(random::quick(), Limits { questions: ALL_QUESTIONS, ..Limits::default() }),
            slept: slept(),
            complained: None,
        })
    }

    /// Does what there is to do until there is nothing more, and sets the timer.
    fn work(&mut self) -> Result<()> {
        loop {
            let actions = self.mdns.take_actions();
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.perform(action);
            }
        }
        self.clients.tell_names(&self.mdns);
        let first = self.mdns.deadline();
        if first != self.set {
            self.set = first;
            let now = now();
            self.timer.set(first.map(|due| Duration::from_millis(due.saturating_sub(now))))?;
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Send { link, to, bytes } => {
                let [v4, v6] = &self.sockets;
                let socket = if to.is_ipv4() { v4 } else { v6 };
                let Some(socket) = socket else { return };
                match socket.send(&bytes, to, link) {
                    Ok(()) => self.complained = None,
                    // A link that went away at this moment, or has a filter: what matters is sent again.
                    Err(error) if self.complained != Some(error.errno) => {
                        self.complained = Some(error.errno);
                        log::warn(format_args!("{error} on {}", self.links.name(link)));
                    }
                    Err(_) => {}
                }
            }
            Action::Found { question, link, record } => {
                let place = (question, link, self.links.name(link));
                self.clients.record(&mut self.mdns, now(), place, &record, false);
            }
            Action::Gone { question, link, record } => {
                let place = (question, link, self.links.name(link));
                self.clients.record(&mut self.mdns, now(), place, &record, true);
            }
            Action::Done { question } => self.clients.done(question),
            Action::Host(name) => {
                log::info(format_args!("this host is {name}.local"));
                notify::status(&format!("{name}.local"));
            }
            Action::Log(line) => log::info(format_args!("{line}")),
        }
    }

    fn receive(&mut self, family: usize, buffer: &mut [u8]) {
        let Some(Some(socket)) = self.sockets.get(family) else { return };
        for _ in 0..BATCH {
            match socket.receive(buffer) {
                Ok(None) => return,
                Ok(Some(heard)) => {
                    let bytes = buffer.get(..heard.length).unwrap_or_default();
                    let packet =
                        Packet { link: heard.interface, from: heard.from, to_group: heard.to_group, bytes };
                    self.mdns.received(now(), packet);
                }
                // What a host reported of an earlier answer.
                Err(_) => {}
            }
        }
    }

    fn network_changed(&mut self, changes: Vec<minke_sys::netlink::Change>) {
        for update in self.links.apply(changes) {
            match update {
                Update::Set(link) => {
                    for family in [0, 1] {
                        let has = link.addresses.iter().any(|address| address.ip.is_ipv4() == (family == 0));
                        self.hear(family, link.index, has);
                    }
                    self.mdns.set_link(now(), &link);
                }
                Update::Drop(index) => {
                    self.mdns.drop_link(now(), index);
                    // The farewells leave before the groups are left.
                    for action in self.mdns.take_actions() {
                        self.perform(action);
                    }
                    for family in [0, 1] {
                        self.hear(family, index, false);
                    }
                }
            }
        }
    }

    /// Joins or leaves the group of a family on an interface.
    fn hear(&mut self, family: usize, index: u32, wanted: bool) {
        let (Some(Some(socket)), Some(joined)) = (self.sockets.get(family), self.joined.get_mut(family))
        else {
            return;
        };
        if !wanted {
            if joined.contains(&index) {
                joined.retain(|known| *known != index);
                socket.leave(index);
            }
        } else if !joined.contains(&index) {
            match socket.join(index) {
                Ok(()) => joined.push(index),
                Err(error) => log::warn(format_args!("{error}")),
            }
        }
    }

    fn name_changed(&mut self) {
        if self.host.is_some() {
            self.wanted = file::text(HOST_NAME).trim().to_owned();
        }
        // The host's name is one label here, whatever its domain.
        let label = self.wanted.split('.').next().unwrap_or_default();
        if label.is_empty() || label == "(none)" || label == "localhost" {
            log::warn(format_args!("the host has no name yet: nothing is published"));
            return;
        }
        self.mdns.set_host(now(), label);
    }

    /// Publishes what the service files say now. What is the same as before stays as it is; what a file says otherwise
    /// keeps its number, and so is no farewell to anybody.
    fn files_changed(&mut self) {
        self.files.read();
        let mut old = std::mem::take(&mut self.shipped);
        let mut all = Vec::new();
        for (path, service) in self.files.services() {
            all.push(Said { path: path.to_owned(), service: service.clone(), before: None });
        }
        shipped::find(&mut old, &mut all);
        // Before others come, who may have the same names.
        for Shipped { id, .. } in old {
            self.mdns.drop_service(now(), id);
        }
        for Said { path, service, before } in all {
            let id = match before {
                Some(before) if before.service == service => {
                    self.shipped.push(Shipped { path, ..before });
                    continue;
                }
                Some(before) => before.id,
                None => {
                    self.last_id = (self.last_id + 1) % FIRST_PUBLISHED;
                    self.last_id
                }
            };
            match self.mdns.set_service(now(), id, service.clone()) {
                Ok(()) => self.shipped.push(Shipped { id, path, service }),
                Err(why) => {
                    log::warn(format_args!("{}: {why}", path.display()));
                    // Nobody would know its number any more.
                    self.mdns.drop_service(now(), id);
                }
            }
        }
    }

    fn answer(&mut self) -> Result<()> {
        for event in self.clients.server.events()? {
            match event {
                Event::Request { conn, request, uid } => match Request::from_value(&request) {
                    Some(Request::Status) => {
                        let status = self.status();
                        self.clients.server.finish(conn, &status);
                    }
                    Some(request) => self.clients.request(&mut self.mdns, now(), conn, request, uid),
                    None => self.clients.server.refuse(conn, "unknown command"),
                },
                Event::Closed { conn } => self.clients.closed(&mut self.mdns, now(), conn),
            }
        }
        Ok(())
    }

    /// The answer to `status`; [`minke_control::mdns`] says what it means.
    fn status(&self) -> Value {
        let mut interfaces = Vec::new();
        for link in self.links.told() {
            let mut addresses = Vec::new();
            for address in &link.addresses {
                if address.published {
                    addresses.push(Value::String(address.ip.to_string()));
                }
            }
            let name = self.links.name(link.index);
            interfaces.push(json!({ "name": name, "addresses": Value::Array(addresses) }));
        }
        let mut services = Vec::new();
        for service in self.mdns.services() {
            let file = self.shipped.iter().find(|shipped| shipped.id == service.id);
            services.push(json!({
                "name": service.instance,
                "type": service.service.kind,
                "port": service.service.port,
                "file": file.map(|file| file.path.display().to_string()).unwrap_or_default(),
                "established": service.established,
            }));
        }
        let counters = self.mdns.counters;
        json!({
            "host": local(self.mdns.host()),
            "wanted": local(self.wanted.split('.').next().unwrap_or_default()),
            "interfaces": Value::Array(interfaces),
            "services": Value::Array(services),
            "conflicts": counters.conflicts,
            "cached": self.mdns.cached().0,
            "questions": self.clients.questions(),
            "received": counters.packets_in,
            "sent": counters.packets_out,
            "dropped": counters.refused.saturating_add(counters.flooded),
        })
    }

    /// After the machine has slept, others may have come with our names.
    fn look_for_sleep(&mut self) {
        let slept = slept();
        if slept.saturating_sub(self.slept) >= Duration::from_secs(1) {
            self.slept = slept;
            self.mdns.resumed(now());
        }
    }

    /// Says farewell.
    fn end(&mut self) -> Result<()> {
        self.mdns.close(now());
        for action in self.mdns.take_actions() {
            self.perform(action);
        }
        Ok(())
    }
}

/// The socket of a family, if the kernel has it.
fn open(poller: &Poller, token: u64) -> Result<Option<Group>> {
    let [v4, v6] = GROUPS;
    match Group::open(if token == V4 { v4 } else { v6 }, PORT) {
        Ok(socket) => {
            poller.add(&socket, token, Interest::Read)?;
            Ok(Some(socket))
        }
        Err(error) if error.errno == Errno::AFNOSUPPORT => Ok(None),
        Err(error) => Err(error),
    }
}

fn local(label: &str) -> String {
    if label.is_empty() { String::new() } else { format!("{label}.local") }
}

/// Milliseconds since boot.
fn now() -> Time {
    clock::milliseconds(clock::boottime())
}

fn slept() -> Duration {
    clock::boottime().saturating_sub(clock::monotonic())
}
