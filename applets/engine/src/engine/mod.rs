//! The engine's state and its loop.

mod exec;
mod files;
mod lifecycle;
mod links;
mod recover;
mod shims;

pub use exec::{Exec, UPGRADE, take_connection};
pub use files::kernel_setting;

use crate::container::{Container, WaitFor};
use crate::error::{ApiError, Result};
use crate::events::Subscriber;
use crate::fields::Fields;
use crate::fields::json;
use crate::network::Networks;
use crate::options::Options;
use crate::volume::Volumes;
use crate::{api, images, pull};
use minke_http::{Conn, Event, Response, Server};
use minke_oci::ImageStore;
use minke_sys::event::{Interest, Poller, Timer, Waker};
use minke_sys::signal::{SIGCHLD, SIGINT, SIGPIPE, SIGTERM, Signals};
use minke_wire::json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    /// A pull, by its number, has something to tell.
    Pull(u64, pull::News),
    /// A log stream ended.
    LogEnded(u64),
}

/// What worker threads have done; it wakes the loop.
#[derive(Debug)]
pub struct Results {
    list: Mutex<Vec<Done>>,
    waker: Waker,
}

impl Results {
    fn list(&self) -> MutexGuard<'_, Vec<Done>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the loop.
    pub fn push(&self, done: Done) {
        self.list().push(done);
        self.waker.wake();
    }

    fn take(&self) -> Vec<Done> {
        self.waker.take();
        std::mem::take(&mut self.list())
    }
}

/// The engine. It lives as long as the process, and so does what worker threads use of it.
pub struct Engine {
    /// The command line.
    pub options: &'static Options,
    /// The API server.
    pub server: &'static mut Server,
    /// Images.
    pub images: &'static ImageStore,
    /// Containers, oldest first.
    #[expect(clippy::vec_box, reason = "a container has 330 bytes and its place changes")]
    pub containers: Vec<Box<Container>>,
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
    /// Pulls that are under way.
    pub pulls: Vec<pull::Pull>,
    /// Log streams that follow: (number, container, its end).
    pub followers: Vec<(u64, String, Waker)>,
    /// For worker threads.
    pub results: &'static Results,
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

    /// Sets everything up, finds the containers of an earlier run, and serves until SIGTERM. Containers go on
    /// running.
    pub fn run(options: &'static Options) -> Result<()> {
        make_folders(options)?;
        let engine = Box::leak(Box::new(Self::new(options)?));
        engine.recover();
        engine.serve()
    }

    fn new(options: &'static Options) -> Result<Self> {
        Ok(Self {
            options,
            server: Box::leak(Box::new(Server::new(api::body_mode, api::limits())?)),
            images: open_images(&options.data)?,
            results: Box::leak(Box::new(Results { list: Mutex::default(), waker: Waker::new()? })),
            poller: Poller::new()?,
            timer: Timer::new()?,
            networks: Networks::open(
                &options.data.join("network/networks.json"),
                options.bridge,
                &options.range,
            )?,
            volumes: Volumes::open(options.data.join("volumes"))?,
            group: files::container_group(options.group.as_deref(), &options.run),
            containers: Vec::new(),
            subscribers: Vec::new(),
            execs: Vec::new(),
            uploads: Vec::new(),
            pulls: Vec::new(),
            followers: Vec::new(),
            serial: 0,
        })
    }

    fn serve(&mut self) -> Result<()> {
        let signals = Signals::new(&[SIGTERM, SIGINT, SIGCHLD, SIGPIPE])?;
        crate::preload::load(self.images, &self.options.preload);
        self.listen()?;
        self.start_at_boot();
        self.poller.add(&self.server, SERVER, Interest::Read)?;
        self.poller.add(&self.timer, TIMER, Interest::Read)?;
        self.poller.add(&signals, SIGNALS, Interest::Read)?;
        self.poller.add(&self.results.waker, WORKERS, Interest::Read)?;
        minke_applet::notify::ready();
        // Twice in the time that the service manager allows.
        let watchdog: Option<u64> =
            std::env::var("WATCHDOG_USEC").ok().and_then(|text| minke_wire::text::in_base(&text, 10));
        let watchdog = watchdog.map(|time| Duration::from_micros(time / 2));
        let mut alive = watchdog.map(crate::time::ahead);
        let mut ready = Vec::new();
        loop {
            let now = minke_sys::clock::boottime();
            self.act_on_time(now);
            if alive.is_some_and(|time| time <= now) {
                minke_applet::notify::watchdog();
                alive = watchdog.map(crate::time::ahead);
            }
            let mut next = alive;
            for container in &self.containers {
                next = earlier(earlier(next, container.restart_at), container.kill_at);
            }
            self.timer.set(next.map(|time| time.saturating_sub(now)))?;
            self.poller.wait(&mut ready, None)?;
            for event in &ready {
                match event.token {
                    SERVER => self.take_requests(),
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
        let gid = files::group_id(crate::options::GROUP);
        for path in &self.options.sockets {
            if let Some(folder) = path.parent() {
                minke_sys::file::make_folder(folder, 0o755)?;
            }
            self.server.listen_unix(path, 0o660, gid)?;
        }
        for address in &self.options.addresses {
            match self.server.listen_tcp(*address) {
                // A port that somebody else has must not take the containers' engine down.
                Err(error) if !self.options.sockets.is_empty() => {
                    minke_applet::log::warn(format_args!("not reachable at tcp://{address}: {error}"));
                }
                done => done.map(|_| ())?,
            }
        }
        Ok(())
    }

    fn take_requests(&mut self) {
        for event in &self.server.events() {
            match event {
                Event::Request { conn, request } => api::handle(self, *conn, request),
                Event::Body { conn, data } => images::upload_piece(self, *conn, data),
                Event::BodyEnd { conn } => images::upload_end(self, *conn),
                Event::Drained { .. } => {}
                Event::Closed { conn } => self.forget(*conn),
            }
        }
    }

    /// A client went away: nobody works for it any more.
    fn forget(&mut self, conn: Conn) {
        self.subscribers.retain(|subscriber| subscriber.conn != conn);
        self.uploads.retain(|upload| upload.conn != conn);
        pull::forget(self, conn);
        for container in &mut self.containers {
            container.waiters.retain(|(waiter, _)| *waiter != conn);
        }
    }

    fn take_results(&mut self) {
        for done in &self.results.take() {
            match done {
                Done::Load(conn, lines) => images::answer_load(self, *conn, lines),
                Done::Answer(conn, Ok(document)) => self.respond(*conn, 200, document),
                Done::Answer(conn, Err(error)) => self.fail(*conn, error),
                Done::Pull(number, news) => pull::take_news(self, *number, news),
                Done::LogEnded(number) => self.followers.retain(|(other, ..)| other != number),
            }
        }
    }

    /// Answers a request with a JSON document.
    pub fn respond(&mut self, conn: Conn, status: u16, document: &Value) {
        self.server.respond(conn, Response::json(status, document.to_string().into_bytes()));
    }

    /// Answers that it is done, without a body.
    pub fn answer_done(&mut self, conn: Conn) {
        self.server.respond(conn, Response::empty(204));
    }

    /// Answers with an error.
    pub fn fail(&mut self, conn: Conn, error: &ApiError) {
        match error.status {
            304 => self.server.respond(conn, Response::empty(304)),
            status => self.respond(conn, status, &json!({ "message": error.message })),
        }
    }

    /// The place of a container by id, name, or the unique beginning of an id.
    pub fn find(&self, query: &str) -> Result<usize> {
        let name = query.strip_prefix('/').unwrap_or(query);
        let mut found = None;
        for (index, container) in self.containers.iter().enumerate() {
            if container.id == query || container.name == name {
                return Ok(index);
            }
            if !query.is_empty() && container.id.starts_with(query) {
                // A second one makes the beginning ambiguous.
                found = Some(if found.is_none() { Some(index) } else { None });
            }
        }
        match found {
            Some(Some(index)) => Ok(index),
            Some(None) => {
                Err(ApiError::bad(format_args!("multiple IDs found with provided prefix: {query}")))
            }
            None => Err(no_such_container(query)),
        }
    }

    /// The ids of the containers that `which` says.
    pub fn ids(&self, which: &dyn Fn(&Container) -> bool) -> Vec<String> {
        let mut ids = Vec::new();
        for container in &self.containers {
            if which(container) {
                ids.push(container.id.clone());
            }
        }
        ids
    }

    /// A container by id.
    pub fn get(&self, id: &str) -> Result<&Container> {
        let found = self.containers.iter().find(|container| container.id == id);
        found.map(Box::as_ref).ok_or_else(|| no_such_container(id))
    }

    /// A container by id, which may have gone.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Container> {
        let found = self.containers.iter_mut().find(|container| container.id == id);
        found.map(Box::as_mut)
    }

    /// A container by id, name, or the unique beginning of an id.
    pub fn container_mut(&mut self, query: &str) -> Result<&mut Container> {
        let index = self.find(query)?;
        self.containers.get_mut(index).map(Box::as_mut).ok_or_else(|| no_such_container(query))
    }

    /// As [`Engine::container_mut`], to look at.
    pub fn container(&self, query: &str) -> Result<&Container> {
        let index = self.find(query)?;
        self.containers.get(index).map(Box::as_ref).ok_or_else(|| no_such_container(query))
    }

    /// The folder of a container below the data root.
    pub fn folder(&self, id: &str) -> PathBuf {
        self.options.data.join("containers").join(id)
    }

    /// The folder of a container's run state.
    pub fn run_folder(&self, id: &str) -> PathBuf {
        self.options.run.join(id)
    }

    /// Tells everybody who waits for a container.
    pub fn tell_waiters(&mut self, id: &str, removed: bool) {
        let Some(container) = self.get_mut(id) else { return };
        let code = container.exit_code;
        let mut told = Vec::new();
        container.waiters.retain(|(conn, condition)| {
            let over = removed || *condition != WaitFor::Removed;
            if over {
                told.push(*conn);
            }
            !over
        });
        let line = format!("{{\"StatusCode\":{code}}}\n");
        for conn in &told {
            // The head went out when the wait began.
            let _ = self.server.send(*conn, line.as_bytes());
            self.server.finish(*conn);
        }
    }

    /// Tells the readers of `/events`.
    pub fn publish(&mut self, kind: &str, action: &str, id: &str, attributes: &Value) {
        let event = crate::events::event(kind, action, id, attributes);
        let line = format!("{event}\n");
        let Self { subscribers, server, .. } = self;
        subscribers.retain(|subscriber| {
            !subscriber.wants(&event) || server.send(subscriber.conn, line.as_bytes()).is_ok()
        });
    }

    /// As [`Engine::publish`] for a container, with its attributes.
    pub fn publish_container(&mut self, id: &str, action: &str) {
        let Some(container) = self.get_mut(id) else { return };
        let mut attributes = container.config.at("Labels").clone();
        attributes.set("image", container.config.at("Image"));
        attributes.set("name", &container.name.as_str());
        if action == "die" {
            attributes.set("exitCode", &container.exit_code.to_string());
        }
        self.publish("container", action, id, &attributes);
    }
}

/// Makes the folders below the data root, and empties what is left of earlier work.
fn make_folders(options: &Options) -> Result<()> {
    for folder in &["containers", "tmp", "volumes", "network"] {
        minke_sys::file::make_folder(&options.data.join(folder), 0o710)?;
    }
    minke_sys::file::make_folder(&options.run, 0o700)?;
    for path in &minke_sys::file::list(&options.data.join("tmp"))? {
        let _ = minke_sys::file::remove_all(path);
    }
    Ok(())
}

fn open_images(data: &Path) -> Result<&'static ImageStore> {
    let (images, problems) = ImageStore::open(&data.join("image/minke"))?;
    for problem in &problems {
        minke_applet::log::error(format_args!("{}: {}", problem.path.display(), problem.text));
    }
    Ok(Box::leak(Box::new(images)))
}

fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        _ => one.or(other),
    }
}

fn no_such_container(query: &str) -> ApiError {
    ApiError::missing(format_args!("No such container: {query}"))
}

/// Whether a file is there.
pub(crate) fn exists(path: &Path) -> bool {
    minke_sys::status::exists(path)
}
