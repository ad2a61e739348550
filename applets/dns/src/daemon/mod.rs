//! The service: one loop around listeners, questions to servers, and the settings. What is decided is in `core` and
//! `upstream`; here are the sockets.

mod answers;
mod clients;
mod connections;
mod listen;
mod local;
mod questions;
mod report;
pub(crate) mod slots;
pub(crate) mod stream;

use crate::config::{Settings, Source, Subnet, Watch};
use crate::core::{Asked, Resolver, Step};
use crate::upstream::servers::Upstreams;
use clients::Client;
use listen::Listening;
use local::Local;
use minke_applet::{Args, EXIT_USAGE, log, notify, report as outcome};
use minke_control::{Event, Limits, Server};
use minke_sys::batch::{Inbox, Outbox};
use minke_sys::event::{Interest, Poller, Ready};
use minke_sys::signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, Signals};
use minke_sys::{Result, clock, random};
use minke_wire::micros::Micros;
use questions::Question;
use slots::{Owner, Slots, Token};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;

const SIGNALS: u64 = 0;
const CONTROL: u64 = 1;
const WATCH: u64 = 2;

/// The most questions that wait for servers at a time, and how many of them one client's address may cause.
const MOST_QUESTIONS: usize = 256;
const MOST_OF_ONE: usize = 192;
/// The most clients that wait for answers to all of them.
const MOST_WAITING: usize = 1024;
/// The most questions that wait for `mdns` at a time.
const MOST_LOCAL: usize = 32;
/// The most connections of clients at a time, and of one client's address.
const MOST_CLIENTS: usize = 128;
const MOST_CLIENTS_OF_ONE: usize = 64;
/// The longest query by UDP; nothing makes a client send a longer one.
const LONGEST_QUERY: usize = 1232;
/// Room for an answer that is kept.
const KEEP: usize = 2048;

/// Where the answer for a client goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Via {
    /// By the listener for datagrams at this place, from this address if the listener has many.
    Datagram(usize, Option<IpAddr>),
    /// By a connection.
    Connection(Token),
}

/// A client that waits for an answer.
#[derive(Debug)]
struct Waiter {
    via: Via,
    from: SocketAddr,
    query: Vec<u8>,
    /// See [`Asked::search`].
    search: u8,
}

impl Waiter {
    fn asked(&self) -> Asked<'_> {
        let udp = matches!(self.via, Via::Datagram(..));
        Asked { from: self.from.ip(), query: &self.query, udp, search: self.search }
    }
}

struct Daemon {
    source: Source,
    poller: Poller,
    signals: Signals,
    control: Option<Server>,
    watch: Option<Watch>,
    resolver: Resolver,
    listeners: Vec<Option<Listening>>,
    /// There is none before the first datagram.
    inbox: Option<Inbox>,
    outbox: Outbox,
    /// Answers that had to wait, for clients of the listener at this place.
    late: Outbox,
    late_via: usize,
    /// Where an answer is written that had to wait.
    scratch: Vec<u8>,
    upstreams: Upstreams,
    questions: Slots<Question>,
    /// No question needs anything before; it is looked which does when that moment has come.
    due: Option<Micros>,
    /// Clients that wait for them.
    waiting: usize,
    clients: Slots<Client>,
    /// Clients whose turn it is when the events of a turn are done.
    touched: Vec<Token>,
    local: Slots<Local>,
    generation: u32,
    counts: report::Counts,
    /// Who may ask where containers do, and until when others are not looked for among new networks.
    near: Vec<Subnet>,
    near_until: Micros,
}

/// `dns serve`.
pub(crate) fn run(args: &Args) -> u8 {
    let source = match Source::from_args(args) {
        Ok(source) => source,
        Err(problem) => {
            log::error(format_args!("{problem}; see 'dns --help'"));
            return EXIT_USAGE;
        }
    };
    let socket = args.value(crate::status::SOCKET_FLAG.long).map(PathBuf::from);
    outcome(serve(source, socket).map(|()| 0))
}

fn serve(mut source: Source, socket: Option<PathBuf>) -> Result<()> {
    // First, so that nothing can change unseen after it was read.
    let watch = Watch::new(&source)?;
    let settings = Rc::new(source.read());
    let mut daemon = Daemon::new(source, watch, &settings, socket)?;
    crate::confine::confine();
    notify::ready();
    let mut ready = Vec::new();
    loop {
        let patience = daemon.deadline().map(|moment| moment.saturating_sub(now()).into());
        daemon.poller.wait(&mut ready, patience)?;
        let now = now();
        for event in &ready {
            if daemon.handle(*event, now)? {
                return Ok(());
            }
        }
        daemon.settle(now);
    }
}

/// The time since boot.
fn now() -> Micros {
    clock::boottime().into()
}

impl Daemon {
    fn new(
        source: Source,
        watch: Option<Watch>,
        settings: &Rc<Settings>,
        socket: Option<PathBuf>,
    ) -> Result<Self> {
        let poller = Poller::new()?;
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])?;
        poller.add(&signals, SIGNALS, Interest::Read)?;
        if let Some(watch) = &watch {
            poller.add(watch, WATCH, Interest::Read)?;
        }
        // By hand there may be many; only the system's own, or one that is asked for, can be spoken to.
        let socket = socket.or_else(|| watch.is_some().then(|| minke_control::dns::SOCKET.into()));
        let control = match socket {
            Some(socket) => {
                if let Some(folder) = socket.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                    minke_sys::file::make_folder(folder, 0o770)?;
                }
                let limits = Limits { connections: 16, request: 4096, queued: 256 << 10 };
                let control = Server::bind(&socket, 0o660, limits)?;
                poller.add(&control, CONTROL, Interest::Read)?;
                Some(control)
            }
            None => None,
        };
        let mut seed = [0; 16];
        random::fill(&mut seed)?;
        let (words, _) = seed.as_chunks::<8>();
        let mut numbers = [0; 2];
        for (number, word) in numbers.iter_mut().zip(words) {
            *number = u64::from_ne_bytes(*word);
        }
        let mut daemon = Self {
            source,
            poller,
            signals,
            control,
            watch,
            resolver: Resolver::new(Rc::clone(settings), numbers),
            listeners: Vec::new(),
            inbox: None,
            outbox: Outbox::new(KEEP),
            late: Outbox::new(KEEP),
            late_via: 0,
            scratch: Vec::new(),
            upstreams: Upstreams::default(),
            questions: Slots::new(Owner::Question, MOST_QUESTIONS),
            due: None,
            waiting: 0,
            clients: Slots::new(Owner::Client, MOST_CLIENTS),
            touched: Vec::new(),
            local: Slots::new(Owner::Local, MOST_LOCAL),
            generation: 0,
            counts: report::Counts::default(),
            near: Vec::new(),
            near_until: Micros::ZERO,
        };
        if let Err(error) = daemon.listen(&settings.listen) {
            // One address that somebody else has is no reason to leave the others alone.
            if daemon.listeners.is_empty() {
                return Err(error);
            }
            log::error(format_args!("{error}"));
        }
        daemon.upstreams.set(settings);
        log_servers(settings);
        Ok(daemon)
    }

    /// Does what an event asks for; whether the service shall end.
    fn handle(&mut self, event: Ready, now: Micros) -> Result<bool> {
        let token = Token(event.token);
        match token.owner() {
            Owner::Datagrams => self.datagrams(token.place(), now),
            Owner::Listener => self.accept(token.place(), now),
            Owner::Client => self.client_event(token, event, now),
            Owner::Question => self.heard(token, now),
            Owner::Link => self.link_event(token, event, now),
            Owner::Local => self.local_event(token, now),
            Owner::Fixed => match token.0 {
                SIGNALS => match self.signals.take() {
                    Some(SIGHUP) => self.reload(now),
                    // As dnsmasq has them: its counters into the log, and a new log file, of which there is none.
                    Some(SIGUSR1) => log::info(format_args!("{}", self.report(now))),
                    Some(SIGUSR2) | None => {}
                    Some(_) => return Ok(true),
                },
                CONTROL => self.obey(now)?,
                _ => {
                    if self.watch.as_mut().is_some_and(Watch::take) {
                        self.reload(now);
                    }
                }
            },
        }
        Ok(false)
    }

    /// What follows the events: what is due, and what was put off until all is known.
    fn settle(&mut self, now: Micros) {
        self.expire_questions(now);
        self.expire_links(now);
        self.expire_local(now);
        self.flush_late();
        self.settle_clients(now);
        self.flush_late();
    }

    /// When there is something to do though nothing happens; `None`: never.
    fn deadline(&mut self) -> Option<Micros> {
        let deadlines = [self.due, self.next_link(), self.next_local(), self.next_client()];
        deadlines.into_iter().flatten().min()
    }

    /// Reads the settings again. Clients that wait are looked after by the new ones.
    fn reload(&mut self, now: Micros) {
        let settings = Rc::new(self.source.read());
        self.near.clear();
        self.near_until = Micros::ZERO;
        self.apply(&settings, now);
    }

    fn apply(&mut self, settings: &Rc<Settings>, now: Micros) {
        if **settings == *self.resolver.settings() {
            return log_servers(settings);
        }
        let told = settings.asks_as(self.resolver.settings());
        self.resolver.apply(Rc::clone(settings));
        self.upstreams.set(settings);
        if let Err(error) = self.listen(&settings.listen) {
            // The right to listen at port 53 was given up at the start.
            log::error(format_args!(
                "{error}; restart dnsmasq.service for other addresses; until then the old ones are served"
            ));
        }
        if !told {
            log_servers(settings);
        }
        self.ask_again(now);
    }

    fn obey(&mut self, now: Micros) -> Result<()> {
        use minke_control::dns::Command;
        use minke_wire::json::json;
        let Some(mut control) = self.control.take() else { return Ok(()) };
        for event in control.events()? {
            let Event::Request { conn, request, .. } = event else { continue };
            match Command::from_value(&request) {
                Some(Command::Status) => control.finish(conn, &self.report(now)),
                Some(Command::Reload) => {
                    self.reload(now);
                    control.finish(conn, &json!({}));
                }
                Some(Command::Flush(name)) => {
                    let parsed = name.as_deref().map(minke_wire::dns::Name::parse);
                    match parsed {
                        Some(None) => control.refuse(conn, "that is no name"),
                        parsed => {
                            let count = self.resolver.flush(parsed.flatten().as_ref());
                            control.finish(conn, &json!({ "flushed": count as u64 }));
                        }
                    }
                }
                None => control.refuse(conn, "there is no such command"),
            }
        }
        self.control = Some(control);
        Ok(())
    }

    /// A question that is not answered here goes to others, with the client that waits for it.
    fn wait(&mut self, step: Step, waiter: Waiter, now: Micros) {
        let refused = match step {
            Step::Forward(route) => self.begin(route, Some(waiter), now),
            Step::Mdns(key, _) => self.ask_local(key, waiter, now),
            Step::Answered | Step::Refresh(_) | Step::Drop => None,
        };
        if let Some(waiter) = refused {
            self.refuse(&waiter, now);
        }
    }

    /// There is no room for a client's question. By UDP it is not told: it asks again by and by, and a failure would end
    /// its search.
    fn refuse(&mut self, waiter: &Waiter, now: Micros) {
        self.counts.refused = self.counts.refused.wrapping_add(1);
        self.scratch.clear();
        let asked = waiter.asked();
        if !self.resolver.stale(now, &asked, &mut self.scratch) && !asked.udp {
            self.resolver.refuse(&asked, &mut self.scratch);
        }
        self.deliver(waiter, now);
    }

    /// Answers clients by what the resolver was told last.
    fn reply(&mut self, waiters: Vec<Waiter>, now: Micros) {
        let mut further = Vec::new();
        for waiter in waiters {
            self.scratch.clear();
            match self.resolver.reply(now, &waiter.asked(), &mut self.scratch) {
                Step::Answered | Step::Refresh(_) => self.deliver(&waiter, now),
                Step::Drop => self.forget(&waiter),
                step => further.push((step, waiter)),
            }
        }
        // Only now: what is asked next may be answered at once, and is another answer then.
        for (step, mut waiter) in further {
            waiter.search = step.search();
            self.wait(step, waiter, now);
        }
    }

    /// Sends what is in `scratch` to a client.
    fn deliver(&mut self, waiter: &Waiter, now: Micros) {
        match waiter.via {
            Via::Connection(token) => self.answer_client(token, now),
            Via::Datagram(..) if self.scratch.is_empty() => {}
            Via::Datagram(listener, to) => {
                if self.late_via != listener || self.late.is_full() {
                    self.flush_late();
                    self.late_via = listener;
                }
                self.late.buffer().extend_from_slice(&self.scratch);
                self.late.push(waiter.from, to);
            }
        }
        if self.scratch.capacity() > KEEP {
            self.scratch = Vec::new();
        }
    }

    /// A client is not answered.
    fn forget(&mut self, waiter: &Waiter) {
        if let Via::Connection(token) = waiter.via {
            self.forget_query(token);
        }
    }

    fn flush_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        if let Some(Some(listener)) = self.listeners.get(self.late_via) {
            self.late.flush(&listener.udp);
        }
    }
}

/// One line for each server, as dnsmasq has them.
fn log_servers(settings: &Settings) {
    for (place, group) in settings.groups.iter().enumerate() {
        let names = settings.names_of(place);
        let purpose = match names.as_str() {
            "" => continue,
            _ if place == 0 => String::new(),
            "plain" => " for unqualified names".to_owned(),
            domain => format!(" for domain {domain}"),
        };
        for server in group {
            log::info(format_args!("using nameserver {server}{purpose}"));
        }
    }
    for server in &settings.fallback {
        log::info(format_args!("using nameserver {server} while no other answers"));
    }
}

#[cfg(test)]
mod tests;
