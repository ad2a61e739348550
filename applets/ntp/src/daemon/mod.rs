//! The service: one loop around the client's sockets, its timer, the clock, names, routes and the control socket.

mod drift;
mod health;
mod kernel;
mod names;
mod nts;
mod report;
mod server;

use crate::client::{Action, Beginning, Client, Now};
use crate::nanos::Nanos;
use crate::nts::associations::Associations;
use crate::serve::{Subnet, options};
use crate::sources;
use drift::Drift;
use health::{Finding, Health};
use kernel::Kernel;
use minke_applet::{Args, EXIT_USAGE, Flag, build, log, notify, report as outcome};
use minke_control::ntp::{Command, SOCKET, SOURCES};
use minke_control::{Event, Limits, Server};
use minke_sys::alarm::Alarm;
use minke_sys::event::{Interest, Poller, Ready, Timer};
use minke_sys::netlink::Monitor;
use minke_sys::signal::{SIGHUP, SIGINT, SIGTERM, Signals};
use minke_sys::stamp::Stamped;
use minke_sys::{Errno, Result, clock, random};
use minke_wire::json::{Value, json};
use names::Names;
use server::Serving;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const TIMER: u64 = 0;
const SIGNALS: u64 = 1;
const CONTROL: u64 = 2;
const ALARM: u64 = 3;
const NAMES: u64 = 4;
const ROUTES: u64 = 5;
const NTS: u64 = 6;
/// The two sockets at which clients ask.
const SERVER: u64 = 8;
const SERVER_TOO: u64 = 9;
/// From here on tokens are those of questions.
const FIRST_QUESTION: u64 = 16;

/// The longest answer: a header and what NTS adds.
const LONGEST: usize = 2048;
/// Datagrams of one server that are looked at in a row.
const BATCH: usize = 16;
/// The alarm never rings; it tells when somebody sets the clock. 2200, in seconds.
const NEVER: Duration = Duration::from_secs(7_258_118_400);

/// Options of `ntp run`.
pub(crate) const CONFIG_FLAG: Flag = Flag {
    short: None,
    long: "config",
    value: Some("FILE"),
    help: "run: the main list of servers (/etc/chrony.conf)",
};
pub(crate) const SOURCES_FLAG: Flag = Flag {
    short: None,
    long: "sources",
    value: Some("DIR"),
    help: "run: where further lists are, *.sources (/run/chrony)",
};
pub(crate) const STATE_FLAG: Flag = Flag {
    short: None,
    long: "state",
    value: Some("DIR"),
    help: "run: where the frequency and cookies are kept (/var/lib/chrony)",
};
pub(crate) const NO_CLOCK_FLAG: Flag =
    Flag { short: None, long: "no-clock", value: None, help: "run: watch the clock and leave it alone" };

struct Settings {
    config: PathBuf,
    sources: PathBuf,
    state: PathBuf,
    socket: PathBuf,
    watch_only: bool,
    trust: minke_http::Trust,
    allowed: Vec<Subnet>,
}

impl Settings {
    /// The device's own lines, which outlast reboots and updates: servers, and who is served.
    fn own(&self) -> PathBuf {
        self.state.join("chrony.conf")
    }
}

/// `ntp run`.
pub(crate) fn run(args: &Args) -> u8 {
    let path = |flag: &Flag, usual: &str| PathBuf::from(args.value(flag.long).unwrap_or(usual));
    let (trust, allowed) = match crate::query::trust(args).and_then(|trust| Ok((trust, options(args)?))) {
        Ok(both) => both,
        Err(problem) => {
            log::error(format_args!("{problem}"));
            return EXIT_USAGE;
        }
    };
    let settings = Settings {
        config: path(&CONFIG_FLAG, "/etc/chrony.conf"),
        sources: path(&SOURCES_FLAG, SOURCES),
        state: path(&STATE_FLAG, "/var/lib/chrony"),
        socket: path(&crate::status::SOCKET_FLAG, SOCKET),
        watch_only: args.has(NO_CLOCK_FLAG.long),
        trust,
        allowed,
    };
    outcome(serve(settings).map(|()| 0))
}

struct Daemon {
    settings: Settings,
    poller: Poller,
    timer: Timer,
    /// What the timer is set to, in nanoseconds since boot.
    set: Option<i64>,
    signals: Signals,
    control: Server,
    alarm: Alarm,
    names: Names,
    routes: Option<Monitor>,
    nts: Associations,
    serving: Serving,
    kernel: Kernel,
    client: Client,
    drift: Drift,
    health: Health,
    /// Sources and the sockets that wait for their answers.
    questions: Vec<(u64, u64, Stamped)>,
    next_token: u64,
}

fn serve(settings: Settings) -> Result<()> {
    let mut daemon = Daemon::new(settings)?;
    daemon.reload();
    daemon.work()?;
    confine();
    notify::ready();
    let mut ready = Vec::new();
    loop {
        daemon.poller.wait(&mut ready, None)?;
        for Ready { token, .. } in &ready {
            match *token {
                TIMER => daemon.timer.take(),
                SIGNALS => match daemon.signals.take() {
                    Some(SIGHUP) => daemon.reload(),
                    Some(_) => {
                        daemon.drift.write(daemon.client.clock.drift());
                        return Ok(());
                    }
                    None => {}
                },
                CONTROL => daemon.answer()?,
                ALARM => _ = daemon.alarm.take(),
                NAMES => daemon.named(),
                ROUTES => daemon.routes_changed(),
                NTS => daemon.keyed(),
                SERVER | SERVER_TOO => daemon.serve_clients(*token),
                token => daemon.receive(token),
            }
            daemon.work()?;
        }
        let now = daemon.kernel.now();
        daemon.client.timer(now);
        daemon.exchange_keys();
        daemon.check_health(now);
        daemon.work()?;
    }
}

/// Gives up the system calls that are not needed, before the first packet is read. A kernel that has no filters is no
/// reason to have no time.
fn confine() {
    use minke_sys::seccomp::{self, CLOCK, LOOP, READING, SOCKETS, THREADS, WRITING};
    if let Err(error) = seccomp::allow(&[LOOP, SOCKETS, READING, WRITING, THREADS, CLOCK]) {
        log::warn(format_args!("{error}; going on with more rights than are needed"));
    }
}

impl Daemon {
    fn new(settings: Settings) -> Result<Self> {
        let poller = Poller::new()?;
        let timer = Timer::new()?;
        poller.add(&timer, TIMER, Interest::Read)?;
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP])?;
        poller.add(&signals, SIGNALS, Interest::Read)?;
        if let Some(folder) = settings.socket.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            minke_sys::file::make_folder(folder, 0o770)?;
        }
        let limits = Limits { connections: 16, request: 4096, queued: 256 << 10 };
        let control = Server::bind(&settings.socket, 0o660, limits)?;
        poller.add(&control, CONTROL, Interest::Read)?;
        let alarm = Alarm::new()?;
        alarm.set(Some(NEVER))?;
        poller.add(&alarm, ALARM, Interest::Read)?;
        let names = Names::new()?;
        poller.add(&names, NAMES, Interest::Read)?;
        let nts = Associations::new(settings.state.clone(), settings.trust.clone())?;
        poller.add(&nts, NTS, Interest::Read)?;
        let kernel = Kernel::new(settings.watch_only);
        let drift = Drift::new(&settings.state);
        let beginning = Beginning {
            drift: drift.read(),
            build: i64::try_from(build().time).unwrap_or(0).saturating_mul(1_000_000_000),
            synchronized: kernel.is_synchronized(),
            watch_only: settings.watch_only,
        };
        let now = kernel.now();
        let client = Client::new(now, beginning);
        let health = Health::new(now.boot, watchdog_period());
        Ok(Self {
            settings,
            poller,
            timer,
            set: None,
            signals,
            control,
            alarm,
            names,
            routes: None,
            nts,
            serving: Serving::default(),
            kernel,
            client,
            drift,
            health,
            questions: Vec::new(),
            next_token: FIRST_QUESTION,
        })
    }

    fn reload(&mut self) {
        let mut lines = sources::read(&self.settings.config, &self.settings.sources);
        let own = self.settings.own();
        sources::parse(&minke_sys::file::text(&own), &own, &mut lines);
        if lines.is_empty() {
            log::warn(format_args!("there is no server to ask; see 'ntp --help'"));
        }
        self.client.set_lines(self.kernel.now(), lines);
        self.keep_keys();
        self.open_server();
    }

    /// Does what the client wants until it wants nothing more, and sets the timer.
    fn work(&mut self) -> Result<()> {
        loop {
            let actions = self.client.take_actions();
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.perform(action);
            }
        }
        let now = self.kernel.now();
        self.kernel.refresh(now, &self.client);
        self.drift.note(now.boot, self.client.clock.drift(), self.client.clock.synchronized);
        self.watch_routes()?;
        let keys = self.nts.deadline().filter(|_| self.client.online).map(nanos);
        let deadlines = [self.client.deadline(), self.health.deadline(), self.kernel.deadline(), keys];
        let first = deadlines.into_iter().flatten().min();
        if first != self.set {
            self.set = first;
            let nanos = |due: i64| u64::try_from(due.since(now.boot)).unwrap_or(0);
            self.timer.set(first.map(|due| Duration::from_nanos(nanos(due))))?;
        }
        Ok(())
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Ask(id) => self.ask(id),
            Action::Close(id) => self.questions.retain(|(source, ..)| *source != id),
            Action::Resolve { entry, host, nts: None } => self.names.find(entry, host),
            Action::Resolve { entry, host, nts: Some(port) } => self.find_keys(entry, &host, port),
            Action::Step(by) => {
                if self.kernel.step(by) {
                    self.client.stepped(self.kernel.now());
                    self.nts.encourage();
                }
            }
            Action::Steer(steering) => self.kernel.steer(&steering),
            Action::Lost => self.kernel.lost(),
            Action::Log(line) => log::info(format_args!("{line}")),
        }
    }

    fn ask(&mut self, id: u64) {
        self.questions.retain(|(source, ..)| *source != id);
        let mut numbers = [0; 16];
        if random::fill(&mut numbers).is_err() {
            return;
        }
        let (halves, _) = numbers.as_chunks::<8>();
        let [a, b] = halves else { return };
        let random = [u64::from_ne_bytes(*a), u64::from_ne_bytes(*b)];
        let Some((address, mut bytes)) = self.client.ask(id, self.kernel.now(), random) else { return };
        if !self.seal(id, &mut bytes) {
            return self.client.was_refused(id, self.kernel.now(), "no key or cookie for it yet", false);
        }
        if let Err(error) = self.send(id, address, &bytes) {
            self.unsent(id);
            self.refused(id, error.errno);
        }
    }

    /// Each question has a socket of its own, so that its port is another one that nobody can guess (RFC 9109).
    fn send(&mut self, id: u64, address: SocketAddr, bytes: &[u8]) -> Result<()> {
        let socket = Stamped::connect(address)?;
        let before = self.kernel.now();
        socket.send(bytes)?;
        let sent = socket.sent().unwrap_or(before.real);
        self.client.was_sent(id, before, sent);
        self.next_token = self.next_token.wrapping_add(1).max(FIRST_QUESTION);
        self.poller.add(&socket, self.next_token, Interest::Read)?;
        self.questions.push((id, self.next_token, socket));
        Ok(())
    }

    fn receive(&mut self, token: u64) {
        let Some(place) = self.questions.iter().position(|(_, found, _)| *found == token) else { return };
        let mut buffer = [0; LONGEST];
        for _ in 0..BATCH {
            let Some((id, _, socket)) = self.questions.get(place) else { return };
            let id = *id;
            // When it left a queue that had held it back is known only now.
            if let Some(sent) = socket.sent() {
                self.client.was_sent(id, self.kernel.now(), sent);
            }
            match socket.receive(&mut buffer) {
                Ok(None) => return,
                Ok(Some(arrival)) => {
                    let now = self.kernel.now();
                    let bytes = buffer.get(..arrival.length).unwrap_or_default();
                    if self.hear(id, now, bytes, arrival.time.unwrap_or(now.real)) {
                        self.questions.swap_remove(place);
                        return;
                    }
                }
                Err(error) => {
                    self.questions.swap_remove(place);
                    return self.refused(id, error.errno);
                }
            }
        }
    }

    fn refused(&mut self, id: u64, errno: Errno) {
        let (problem, unrouted) = match errno {
            Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::ADDRNOTAVAIL => {
                ("no route leads to it", true)
            }
            Errno::CONNREFUSED => ("nobody listens there", false),
            Errno::PERM | Errno::ACCESS => ("this device's firewall forbids to ask it", false),
            _ => ("it cannot be asked", false),
        };
        self.client.was_refused(id, self.kernel.now(), problem, unrouted);
    }

    fn named(&mut self) {
        for (entry, addresses) in self.names.take() {
            self.client.resolved(entry, self.kernel.now(), addresses);
        }
    }

    /// Routes are watched only while somebody waits for one.
    fn watch_routes(&mut self) -> Result<()> {
        if !self.client.waits_for_route() {
            self.routes = None;
        } else if self.routes.is_none() {
            let monitor = Monitor::everything()?;
            self.poller.add(&monitor, ROUTES, Interest::Read)?;
            self.routes = Some(monitor);
            // One may have come before the watch began.
            if is_routed(&self.client) {
                self.client.route_changed(self.kernel.now());
            }
        }
        Ok(())
    }

    fn routes_changed(&mut self) {
        // A fresh monitor each time: what changed does not matter, and so need not be read.
        self.routes = None;
        if is_routed(&self.client) {
            self.nts.encourage();
            self.client.route_changed(self.kernel.now());
        }
    }

    fn check_health(&mut self, now: Now) {
        let selected = self.client.clock.report.selected.is_some();
        let close = |left: i64| left.saturating_abs() <= health::MOST_LEFT;
        let client = &self.client;
        let synchronized = self.client.clock.is_synchronized(now)
            && self.client.clock.remaining(now).is_some_and(|left| close(left) || self.settings.watch_only);
        match self.health.check(now.boot, selected, synchronized, &|| is_routed(client)) {
            Finding::Nothing => {}
            Finding::Well => notify::watchdog(),
            Finding::NoSource => {
                log::warn(format_args!("No online NTP sources - forcing poll"));
                self.client.burst(now, 4);
            }
            Finding::Lost => log::error(format_args!("NTP time lost synchronization - restarting chronyd")),
        }
    }

    fn answer(&mut self) -> Result<()> {
        for event in self.control.events()? {
            let Event::Request { conn, request, .. } = event else { continue };
            let answer = self.obey(&request);
            match answer {
                Some(answer) => self.control.finish(conn, &answer),
                None => self.control.refuse(conn, "unknown command"),
            }
        }
        Ok(())
    }

    fn obey(&mut self, request: &Value) -> Option<Value> {
        let now = self.kernel.now();
        if request.get("command").and_then(Value::as_str) == Some("status") {
            return Some(report::status(&self.client, &self.kernel, now).to_value());
        }
        match Command::from_value(request)? {
            Command::Online => {
                self.nts.encourage();
                self.client.go_online(now);
            }
            Command::Offline => self.client.go_offline(now),
            Command::OnOffline if is_routed(&self.client) => self.client.go_online(now),
            Command::OnOffline => self.client.go_offline(now),
            Command::Burst { good, .. } => {
                self.client.burst(now, u8::try_from(good.clamp(1, 16)).unwrap_or(4));
            }
            Command::Step => self.client.step_now(now),
            Command::Reload => self.reload(),
        }
        Some(json!({}))
    }
}

/// Whether a route leads to any source; before there are any, to the internet, by addresses of documentation (RFC 5737,
/// RFC 3849). Connecting a datagram socket sends nothing.
fn is_routed(client: &Client) -> bool {
    let reaches = |peer: SocketAddr| minke_sys::batch::ask_udp(peer).is_ok();
    if client.sources.iter().any(|source| reaches(source.address)) {
        return true;
    }
    client.sources.is_empty()
        && (reaches((Ipv4Addr::new(192, 0, 2, 1), 123).into())
            || reaches((Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 123).into()))
}

/// How often the service manager wants to hear of us, in nanoseconds: `WATCHDOG_USEC` of sd_watchdog_enabled(3).
fn watchdog_period() -> Option<i64> {
    let micros = minke_wire::text::number::<i64>(std::env::var("WATCHDOG_USEC").ok()?.as_str())?;
    Some(micros.saturating_mul(1000)).filter(|period| *period > 0)
}

/// Nanoseconds of a clock.
fn nanos(time: Duration) -> i64 {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_mul(1_000_000_000).after(time.subsec_nanos().into())
}

fn boot() -> i64 {
    nanos(clock::boottime())
}
