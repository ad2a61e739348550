//! Containers: their durable record and their state.

pub mod create;
pub mod launch;
pub mod mount;
pub mod name;
pub mod restart;
pub mod signal;

use crate::fields::Fields;
use crate::fields::json;
use crate::time::{NEVER, rfc3339};
use minke_http::Conn;
use minke_store::Record;
use minke_sys::channel::Channel;
use minke_wire::json::{Map, Value};
use restart::{Backoff, Policy};
use std::os::fd::OwnedFd;
use std::time::Duration;

/// `State.Status` of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Never started.
    Created,
    /// Its shim is being started; shown as created or restarting.
    Starting,
    /// It runs.
    Running,
    /// It ended and waits for its next start.
    Restarting,
    /// It ended.
    Exited,
}

/// What follows once a container has ended.
#[derive(Debug)]
pub enum AfterStop {
    /// Answer 204.
    Answer(Conn),
    /// Start it again and answer then.
    Start(Conn),
    /// Remove it, with its anonymous volumes when told, and answer.
    Remove(Conn, bool),
}

/// When a `wait` call is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitFor {
    /// When it does not run.
    NotRunning,
    /// When it ends the next time.
    NextExit,
    /// When it is removed.
    Removed,
}

/// A container.
#[derive(Debug)]
pub struct Container {
    /// 64 hex digits.
    pub id: String,
    /// Without the slash.
    pub name: String,
    /// When it was created, since 1970.
    pub created: Duration,
    /// The image's id, `sha256:…`.
    pub image: String,
    /// `Config`.
    pub config: Value,
    /// `HostConfig`.
    pub host: Value,
    /// Endpoints by network name: what the user asked for (`IPAMConfig`, `Aliases`, `MacAddress`), and while it
    /// runs `IPAddress` and `NetworkID`.
    pub networks: Map,
    /// Volumes, binds and tmpfs; see [`mount`].
    pub mounts: Vec<Value>,
    /// It was started at least once.
    pub started_once: bool,
    /// Somebody stopped it since.
    pub stopped_by_hand: bool,
    /// Created with AutoRemove.
    pub auto_remove: bool,
    /// The state.
    pub status: Status,
    /// The first process.
    pub pid: i32,
    /// The exit code of the last run.
    pub exit_code: i32,
    /// Why the last start failed.
    pub error: String,
    /// The kernel killed it for want of memory.
    pub oom: bool,
    /// When the last run began, since 1970.
    pub started_at: Option<Duration>,
    /// When the last run ended.
    pub finished_at: Option<Duration>,
    /// When the last run began, since boot.
    pub started_boottime: Duration,
    /// Published ports of this run: `{port, ip, host_port}`.
    pub ports: Vec<Value>,
    /// Restart delays.
    pub backoff: Backoff,
    /// When to start again, since boot.
    pub restart_at: Option<Duration>,
    /// When to kill it, since boot.
    pub kill_at: Option<Duration>,
    /// The channel to its shim.
    pub shim: Option<Channel>,
    /// The number of its shim's token in the engine's poller.
    pub serial: u64,
    /// Clients that attached before the start.
    pub attaching: Vec<(OwnedFd, Value)>,
    /// Who waits for the start.
    pub start_waiters: Vec<Conn>,
    /// What happens after the end.
    pub after_stop: Vec<AfterStop>,
    /// Who waits by the `wait` call.
    pub waiters: Vec<(Conn, WaitFor)>,
    /// The durable record.
    pub record: Option<Record>,
}

impl Container {
    /// A container that was just created.
    pub fn new(id: String, name: String, image: String, made: create::Created) -> Box<Self> {
        let auto_remove = made.host.flag("AutoRemove");
        Box::new(Self {
            id,
            name,
            image,
            created: minke_sys::clock::realtime(),
            config: made.config,
            host: made.host,
            networks: made.endpoints,
            mounts: made.mounts,
            started_once: false,
            stopped_by_hand: false,
            auto_remove,
            status: Status::Created,
            pid: 0,
            exit_code: 0,
            error: String::new(),
            oom: false,
            started_at: None,
            finished_at: None,
            started_boottime: Duration::ZERO,
            ports: Vec::new(),
            backoff: Backoff::default(),
            restart_at: None,
            kill_at: None,
            shim: None,
            serial: 0,
            attaching: Vec::new(),
            start_waiters: Vec::new(),
            after_stop: Vec::new(),
            waiters: Vec::new(),
            record: None,
        })
    }

    /// The durable document.
    pub fn document(&self) -> Value {
        json!({
            "Id": self.id, "Name": self.name, "Image": self.image, "Created": time_value(Some(self.created)),
            "Config": self.config, "HostConfig": self.host, "Networks": self.networks, "Mounts": self.mounts,
            "StartedOnce": self.started_once, "StoppedByHand": self.stopped_by_hand,
            "Running": matches!(self.status, Status::Running | Status::Starting | Status::Restarting),
            "ExitCode": self.exit_code, "Error": self.error, "OOMKilled": self.oom,
            "StartedAt": time_value(self.started_at), "FinishedAt": time_value(self.finished_at)
        })
    }

    /// Reads [`Container::document`]; `None` when it is none.
    pub fn from_document(document: &Value) -> Option<(Box<Self>, bool)> {
        let made = create::Created {
            config: document.at("Config").clone(),
            host: document.at("HostConfig").clone(),
            endpoints: document.entries("Networks").clone(),
            mounts: document.items("Mounts").to_vec(),
        };
        let (id, name) = (document.text("Id"), document.text("Name"));
        if id.len() != 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) || !name::is_valid(name) {
            return None;
        }
        let mut container =
            Self::new(id.to_owned(), name.to_owned(), document.text("Image").to_owned(), made);
        container.created = time_of(document.at("Created")).unwrap_or_default();
        container.started_once = document.flag("StartedOnce");
        container.stopped_by_hand = document.flag("StoppedByHand");
        container.exit_code = document.int("ExitCode", 255);
        document.text("Error").clone_into(&mut container.error);
        container.oom = document.flag("OOMKilled");
        container.started_at = time_of(document.at("StartedAt"));
        container.finished_at = time_of(document.at("FinishedAt"));
        container.status = if container.started_once { Status::Exited } else { Status::Created };
        Some((container, document.flag("Running")))
    }

    /// Writes the record durably.
    pub fn save(&mut self) -> crate::error::Result<()> {
        let document = self.document();
        match &mut self.record {
            Some(record) => Ok(record.write(&document)?),
            None => Ok(()),
        }
    }

    /// Whether its first process may be there.
    pub fn is_running(&self) -> bool {
        self.status == Status::Running
    }

    /// Whether it runs or is about to.
    pub fn is_active(&self) -> bool {
        matches!(self.status, Status::Running | Status::Starting | Status::Restarting)
    }

    /// `State.Status`.
    pub fn status_word(&self) -> &'static str {
        match self.status {
            Status::Starting if self.backoff.count > 0 => "restarting",
            Status::Starting if self.started_once => "exited",
            Status::Created | Status::Starting => "created",
            Status::Running => "running",
            Status::Restarting => "restarting",
            Status::Exited => "exited",
        }
    }

    /// What it executes.
    pub fn command(&self) -> Vec<String> {
        let mut words = self.config.texts("Entrypoint");
        words.extend(self.config.texts("Cmd"));
        words
    }

    /// Its restart policy.
    pub fn policy(&self) -> Policy {
        create::restart_policy(&self.host).unwrap_or_default()
    }

    /// The signal that asks it to stop.
    pub fn stop_signal(&self) -> i32 {
        signal::by_name(self.config.text("StopSignal")).unwrap_or(minke_sys::signal::SIGTERM)
    }

    /// How long it may take to stop, in seconds; negative: as long as it likes. Ten seconds unless told.
    pub fn stop_timeout(&self) -> i64 {
        match self.config.at("StopTimeout") {
            Value::Number(number) => number.as_i64().unwrap_or(10),
            _ => 10,
        }
    }

    /// `State` of inspect.
    pub fn state(&self) -> Value {
        let time = |time: Option<Duration>| time.map_or_else(|| NEVER.to_owned(), rfc3339);
        json!({
            "Status": self.status_word(), "Running": self.is_running() || self.status == Status::Restarting,
            "Paused": false, "Restarting": self.status == Status::Restarting, "OOMKilled": self.oom, "Dead": false,
            "Pid": self.pid, "ExitCode": self.exit_code, "Error": self.error,
            "StartedAt": time(self.started_at), "FinishedAt": time(self.finished_at)
        })
    }
}

fn time_value(time: Option<Duration>) -> Value {
    time.map_or(Value::Null, |time| json!([time.as_secs(), time.subsec_nanos()]))
}

fn time_of(value: &Value) -> Option<Duration> {
    let part = |index: usize| value.get(index)?.as_u64();
    Some(Duration::new(
        part(0)?,
        u32::try_from(part(1)?).ok().filter(|nanoseconds| *nanoseconds < 1_000_000_000)?,
    ))
}
