//! The service loop: the API, signals and the watchdog. What talks to the engine is in its own threads.

use crate::api::{self, Context};
use crate::cloud;
use crate::queue::Queue;
use crate::settings::{PORT, Settings};
use crate::state::State;
use crate::view::Shared;
use crate::watch::watch;
use crate::worker::Worker;
use minke_applet::{log, notify};
use minke_engine_api::Engine;
use minke_http::{BodyMode, Conn, Event, Limits, Request, Server};
use minke_sys::Errno;
use minke_sys::clock::{boottime, milliseconds};
use minke_sys::event::{Interest, Poller, Timer};
use minke_sys::signal::{SIGINT, SIGTERM, Signals};
use minke_sys::thread;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const SERVER: u64 = 0;
const SIGNALS: u64 = 1;
const WATCHDOG: u64 = 2;

/// Largest request body. Nothing takes a large one yet.
const MAX_BODY: usize = 64 * 1024;

/// API connections at a time.
const CONNECTIONS: usize = 32;

/// Why the supervisor ended.
#[derive(Debug)]
pub enum Error {
    /// The durable state: nothing is known then, and nothing may be changed.
    State(crate::state::Error),
    /// The API.
    Http(minke_http::Error),
    /// Another system call.
    System(minke_sys::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State(error) => error.fmt(f),
            Self::Http(error) => error.fmt(f),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl From<minke_sys::Error> for Error {
    fn from(error: minke_sys::Error) -> Self {
        Self::System(error)
    }
}

/// Runs until SIGTERM.
pub fn run(settings: Box<Settings>) -> Result<u8, Error> {
    let signals = Signals::new(&[SIGTERM, SIGINT])?;
    let (state, problem) = State::open(&settings.data).map_err(Error::State)?;
    for problem in settings.problem.iter().chain(&problem) {
        log::warn(format_args!("{problem}"));
    }
    let context = Context {
        unmanaged: settings.is_unmanaged(),
        now: Duration::ZERO,
        poll_interval: settings.poll_interval,
    };
    let limits = Limits { connections: CONNECTIONS, idle: settings.api_timeout, ..Limits::default() };
    let mut server = Server::new(|_| BodyMode::Memory(MAX_BODY), limits).map_err(Error::Http)?;
    listen(&mut server, &settings).map_err(Error::Http)?;
    let shared = Shared::default();
    start_threads(settings, state, &shared)?;
    log::info(format_args!("Supervisor starting"));
    notify::ready();
    serve(&mut server, &signals, &shared, context)
}

/// On one address if told so; else on all addresses of both families, or of IPv4 where the kernel has no IPv6.
fn listen(server: &mut Server, settings: &Settings) -> Result<SocketAddr, minke_http::Error> {
    if let Some(address) = settings.listen {
        return server.listen_tcp(address);
    }
    let both = SocketAddr::from((Ipv6Addr::UNSPECIFIED, settings.port));
    match server.listen_tcp(both) {
        Err(minke_http::Error::System(error))
            if [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL].contains(&error.errno) =>
        {
            server.listen_tcp(SocketAddr::from((Ipv4Addr::UNSPECIFIED, settings.port)))
        }
        other => other,
    }
}

fn start_threads(settings: Box<Settings>, state: State, shared: &Shared) -> Result<(), Error> {
    let (queue, engine) = (Queue::default(), Engine::unix(&settings.engine));
    if settings.unregistered {
        let (store, shared) = (settings.store.clone(), shared.clone());
        let device_type = settings.device.device_type.clone();
        thread::spawn("cloud", Box::new(move || cloud::register(&store, &device_type, &shared)))?;
    }
    let worker = Worker::new(engine.clone(), settings, state, shared.clone());
    let messages = queue.clone();
    thread::spawn("worker", Box::new(move || worker.run(&messages)))?;
    Ok(thread::spawn("watch", Box::new(move || watch(&engine, &queue)))?)
}

fn serve(server: &mut Server, signals: &Signals, shared: &Shared, mut context: Context) -> Result<u8, Error> {
    let (poller, timer) = (Poller::new()?, Timer::new()?);
    poller.add(&*server, SERVER, Interest::Read)?;
    poller.add(signals, SIGNALS, Interest::Read)?;
    poller.add(&timer, WATCHDOG, Interest::Read)?;
    let watchdog = watchdog_period();
    timer.set(watchdog)?;
    let mut ready = Vec::new();
    loop {
        poller.wait(&mut ready, None)?;
        context.now = boottime();
        for item in &ready {
            match item.token {
                SIGNALS if signals.take().is_some() => return Ok(0),
                WATCHDOG => {
                    timer.take();
                    timer.set(watchdog)?;
                    // A stuck engine loop is what the watchdog is for: this loop alone proves nothing.
                    if api::is_healthy(&shared.get(), &context) {
                        notify::watchdog();
                    }
                }
                SERVER => answer_all(server, shared, &context),
                _ => {}
            }
        }
    }
}

fn answer_all(server: &mut Server, shared: &Shared, context: &Context) {
    for event in server.events() {
        if let Event::Request { conn, request } = event {
            answer(server, conn, &request, shared, context);
        }
    }
}

fn answer(server: &mut Server, conn: Conn, request: &Request, shared: &Shared, context: &Context) {
    let response = api::answer(request, &shared.get(), context);
    let spent = milliseconds(boottime().saturating_sub(context.now));
    // The path alone: a query may hold a key (§1.1.6).
    log::info(format_args!("{} {} {} - {spent} ms", request.method, request.path, response.status));
    server.respond(conn, response);
}

/// Half of what the service manager allows (sd_watchdog_enabled(3)); none when it does not watch.
fn watchdog_period() -> Option<Duration> {
    let text = std::env::var("WATCHDOG_USEC").ok()?;
    let half = minke_wire::text::in_base::<u64>(&text, 10)?.checked_div(2)?;
    Some(Duration::from_micros(half))
}

/// Where the local API of this device is reached.
pub fn local_address(settings: &Settings) -> SocketAddr {
    let port = if settings.port == 0 { PORT } else { settings.port };
    match settings.listen {
        Some(address) if !address.ip().is_unspecified() => address,
        _ => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
    }
}
