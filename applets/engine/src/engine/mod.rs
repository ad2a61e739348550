//! The engine's state and its loop.

mod exec;
mod files;
mod lifecycle;
mod links;
mod recover;
mod shims;

pub use exec::{Exec, take_connection};

use crate::container::{Container, WaitFor};
use crate::error::{ApiError, Result};
use crate::events::Subscriber;
use crate::fields::Fields;
use crate::network::Networks;
use crate::options::Options;
use crate::volume::Volumes;
use crate::{api, images};
use minke_http::{Conn, Event, Response, Server};
use minke_oci::ImageStore;
use minke_sys::event::{Interest, Poller, Timer, Waker};
use minke_sys::signal::{SIGCHLD, SIGINT, SIGPIPE, SIGTERM, Signals};
use minke_wire::json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

const SERVER: u64 = 1;
const TIMER: u64 = 2;
const SIGNALS: u64 = 3;
const WORKERS: u64 = 4;
/// Tokens of shims: this and the container's serial number.
const SHIMS: u64 = 1 << 32;

/// What a worker thread tells the loop.
#[derive(Debug)]
pub enum Done {
    /// An image load ended: the lines for the client.
    Load(Conn, Vec<Value>),
    /// An image was removed.
    Answer(Conn, Result<Value>),
    /// A log stream ended.
    LogEnded(u64),
}

/// The engine.
pub struct Engine {
    /// The command line.
    pub options: Options,
    /// The API server.
    pub server: Server,
    /// Images.
    pub images: Arc<ImageStore>,
    /// Containers, oldest first.
    pub containers: Vec<Container>,
    /// Networks.
    pub networks: Networks,
    /// Volumes.
    pub volumes: Volumes,
    /// Readers of `/events`.
    pub subscribers: Vec<Subscriber>,
    /// Processes of `exec`.
    pub execs: Vec<Exec>,
    /// Archives that are being uploaded.
    pub uploads: Vec<images::Upload>,
    /// Log streams that follow: (number, container, its end).
    pub followers: Vec<(u64, String, Waker)>,
    /// For worker threads.
    pub done: (Sender<Done>, Receiver<Done>),
    /// For worker threads.
    pub waker: Waker,
    /// The control group of all containers; empty without cgroup v2.
    pub group: PathBuf,
    poller: Poller,
    timer: Timer,
    serial: u64,
}

impl Engine {
    /// A fresh number.
    pub fn next_serial(&mut self) -> u64 {
        self.serial = self.serial.saturating_add(1);
        self.serial
    }

    /// Sets everything up, finds the containers of an earlier run, and returns an engine that can serve.
    pub fn new(options: Options) -> Result<Self> {
        let data = &options.data;
        for folder in ["containers", "tmp", "volumes"] {
            minke_sys::file::make_folder(&data.join(folder), 0o710)?;
        }
        minke_sys::file::make_folder(&options.run, 0o700)?;
        for entry in std::fs::read_dir(data.join("tmp")).into_iter().flatten().flatten() {
            let path = entry.path();
            let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
        }
        crate::volume::clean_up(&data.join("volumes"));
        let (images, problems) = ImageStore::open(&data.join("image/minke"))?;
        for problem in problems {
            minke_applet::log::error(format_args!("{}: {}", problem.path.display(), problem.text));
        }
        let volumes = Volumes::open(data.join("volumes"))?;
        minke_sys::file::make_folder(&data.join("network"), 0o710)?;
        let networks = Networks::open(&data.join("network/networks.json"), options.bridge, &options.range)?;
        let server = Server::new(api::body_mode, api::limits()).map_err(|error| ApiError::because(&error))?;
        let (poller, timer, waker) = (Poller::new()?, Timer::new()?, Waker::new()?);
        let group = files::container_group(options.group.as_deref(), &options.run);
        let mut engine = Self {
            options,
            server,
            images: Arc::new(images),
            containers: Vec::new(),
            networks,
            volumes,
            subscribers: Vec::new(),
            execs: Vec::new(),
            uploads: Vec::new(),
            followers: Vec::new(),
            done: std::sync::mpsc::channel(),
            waker,
            group,
            poller,
            timer,
            serial: 0,
        };
        engine.recover();
        Ok(engine)
    }

    /// Serves until SIGTERM. Containers go on running.
    pub fn run(&mut self) -> Result<()> {
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGCHLD, SIGPIPE])?;
        crate::preload::load(&self.images, &self.options.preload);
        self.listen()?;
        self.start_at_boot();
        self.poller.add(&self.server, SERVER, Interest::Read)?;
        self.poller.add(&self.timer, TIMER, Interest::Read)?;
        self.poller.add(&signals, SIGNALS, Interest::Read)?;
        self.poller.add(&self.waker, WORKERS, Interest::Read)?;
        minke_applet::notify::ready();
        // Twice in the time that the service manager allows.
        let watchdog: Option<u64> = std::env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok());
        let watchdog = watchdog.map(|time| Duration::from_micros(time / 2));
        let mut alive = watchdog.map(|period| minke_sys::clock::boottime().saturating_add(period));
        let mut ready = Vec::new();
        loop {
            let now = minke_sys::clock::boottime();
            self.act_on_time(now);
            if alive.is_some_and(|time| time <= now) {
                minke_applet::notify::watchdog();
                alive = watchdog.map(|period| now.saturating_add(period));
            }
            let next = [self.next_time(), alive].into_iter().flatten().min();
            self.timer.set(next.map(|time| time.saturating_sub(now)))?;
            self.poller.wait(&mut ready, None)?;
            for event in std::mem::take(&mut ready) {
                match event.token {
                    SERVER => self.serve(),
                    TIMER => self.timer.take(),
                    SIGNALS => {
                        while let Some(signal) = signals.take() {
                            if matches!(signal, SIGTERM | SIGINT) {
                                return Ok(());
                            }
                        }
                        // Shims that this run started; their containers' ends come by their channels.
                        while minke_sys::process::reap().is_some() {}
                    }
                    WORKERS => self.take_results(),
                    token => self.take_shim_message(token.saturating_sub(SHIMS)),
                }
            }
        }
    }

    fn listen(&mut self) -> Result<()> {
        let failed = |error: minke_http::Error| ApiError::because(&error);
        let gid = files::group_id(crate::options::GROUP);
        for path in self.options.sockets.clone() {
            if let Some(folder) = path.parent() {
                minke_sys::file::make_folder(folder, 0o755)?;
            }
            self.server.listen_unix(&path, 0o660, gid).map_err(failed)?;
        }
        for address in self.options.addresses.clone() {
            self.server.listen_tcp(address).map_err(failed)?;
        }
        Ok(())
    }

    fn serve(&mut self) {
        for event in self.server.events() {
            match event {
                Event::Request { conn, request } => api::handle(self, conn, &request),
                Event::Body { conn, data } => images::upload_piece(self, conn, &data),
                Event::BodyEnd { conn } => images::upload_end(self, conn),
                Event::Drained { .. } => {}
                Event::Closed { conn } => self.forget(conn),
            }
        }
    }

    /// A client went away: nobody works for it any more.
    fn forget(&mut self, conn: Conn) {
        self.subscribers.retain(|subscriber| subscriber.conn != conn);
        self.uploads.retain(|upload| upload.conn != conn);
        for container in &mut self.containers {
            container.waiters.retain(|(waiter, _)| *waiter != conn);
        }
    }

    fn take_results(&mut self) {
        self.waker.take();
        while let Ok(done) = self.done.1.try_recv() {
            match done {
                Done::Load(conn, lines) => images::answer_load(self, conn, &lines),
                Done::Answer(conn, result) => self.answer(conn, result),
                Done::LogEnded(number) => self.followers.retain(|(other, ..)| *other != number),
            }
        }
    }

    /// Answers a request with a JSON document or an error.
    pub fn answer(&mut self, conn: Conn, result: Result<Value>) {
        match result {
            Ok(body) => self.server.respond(conn, Response::json(200, body.to_string().into_bytes())),
            Err(error) => self.fail(conn, &error),
        }
    }

    /// Answers with a status and no body, or an error.
    pub fn answer_status(&mut self, conn: Conn, status: u16, result: &Result<()>) {
        match result {
            Ok(()) => self.server.respond(conn, Response::empty(status)),
            Err(error) => self.fail(conn, error),
        }
    }

    /// Answers with an error.
    pub fn fail(&mut self, conn: Conn, error: &ApiError) {
        let response = if error.status == 304 {
            Response::empty(304)
        } else {
            let body = crate::fields::json!({ "message": error.message });
            Response::json(error.status, body.to_string().into_bytes())
        };
        self.server.respond(conn, response);
    }

    /// The place of a container by id, name, or the unique beginning of an id.
    pub fn find(&self, query: &str) -> Result<usize> {
        let name = query.strip_prefix('/').unwrap_or(query);
        let exact = |container: &Container| container.id == query || container.name == name;
        if let Some(index) = self.containers.iter().position(exact) {
            return Ok(index);
        }
        let mut found = self
            .containers
            .iter()
            .enumerate()
            .filter(|(_, container)| !query.is_empty() && container.id.starts_with(query));
        match (found.next(), found.next()) {
            (Some((index, _)), None) => Ok(index),
            (Some(_), Some(_)) => {
                Err(ApiError::bad(format!("multiple IDs found with provided prefix: {query}")))
            }
            _ => Err(ApiError::missing(format!("No such container: {query}"))),
        }
    }

    /// A container by id, which may have gone.
    pub fn get(&mut self, id: &str) -> Option<&mut Container> {
        self.containers.iter_mut().find(|container| container.id == id)
    }

    /// As [`Engine::find`], the container itself.
    pub fn container(&mut self, query: &str) -> Result<&mut Container> {
        let index = self.find(query)?;
        self.containers.get_mut(index).ok_or_else(|| ApiError::missing(format!("No such container: {query}")))
    }

    /// The folder of a container below the data root.
    pub fn folder(&self, id: &str) -> PathBuf {
        self.options.data.join("containers").join(id)
    }

    /// The folder of a container's run state.
    pub fn run_folder(&self, id: &str) -> PathBuf {
        self.options.run.join(id)
    }

    fn next_time(&self) -> Option<Duration> {
        self.containers.iter().flat_map(|container| [container.restart_at, container.kill_at]).flatten().min()
    }

    /// Tells everybody who waits for a container.
    pub fn tell_waiters(&mut self, id: &str, removed: bool) {
        let Some(container) = self.get(id) else { return };
        let code = container.exit_code;
        let (told, left): (Vec<_>, Vec<_>) = std::mem::take(&mut container.waiters)
            .into_iter()
            .partition(|(_, condition)| removed || *condition != WaitFor::Removed);
        container.waiters = left;
        for (conn, _) in told {
            // The head went out when the wait began.
            let _ = self.server.send(conn, format!("{{\"StatusCode\":{code}}}\n").as_bytes());
            self.server.finish(conn);
        }
    }

    /// Tells the readers of `/events`.
    pub fn publish(&mut self, kind: &str, action: &str, id: &str, attributes: &Value) {
        let event = crate::events::event(kind, action, id, attributes);
        let mut gone = Vec::new();
        for subscriber in self.subscribers.iter().filter(|subscriber| subscriber.wants(&event)) {
            if self.server.send(subscriber.conn, format!("{event}\n").as_bytes()).is_err() {
                gone.push(subscriber.conn);
            }
        }
        self.subscribers.retain(|subscriber| !gone.contains(&subscriber.conn));
    }

    /// As [`Engine::publish`] for a container, with its attributes.
    pub fn publish_container(&mut self, id: &str, action: &str) {
        let Some(container) = self.get(id) else { return };
        let mut attributes = container.config.at("Labels").clone();
        let map = crate::fields::object(&mut attributes);
        map.insert("image".to_owned(), container.config.at("Image").clone());
        map.insert("name".to_owned(), container.name.as_str().into());
        if action == "die" {
            map.insert("exitCode".to_owned(), container.exit_code.to_string().into());
        }
        self.publish("container", action, id, &attributes);
    }
}

/// Whether a file is there.
pub(crate) fn exists(path: &Path) -> bool {
    path.try_exists().unwrap_or(false)
}
