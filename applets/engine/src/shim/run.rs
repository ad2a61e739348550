//! The shim's loop while its container runs.

use super::attach::{self, Session};
use super::failure::Failure;
use super::forward::Forwarder;
use super::log::Log;
use super::start::Ends;
use super::{Message, network, start, status};
use crate::fields::Fields;
use crate::fields::json;
use minke_sys::channel::{Channel, Listener, Received};
use minke_sys::event::{Interest, Poller, Ready, Timer};
use minke_sys::signal::{SIGCHLD, SIGHUP, SIGINT, SIGKILL, SIGPIPE, SIGTERM, Signals};
use minke_wire::json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

const SIGNALS: u64 = 1;
const LISTENER: u64 = 2;
const TIMER: u64 = 3;
const FORWARDER: u64 = 4;
const JOURNAL: u64 = 5;
const CONTROLS: u64 = 16;
/// Connections of engines: the one that started this, and those after it.
const CONTROL_LIMIT: usize = 8;
/// Processes of `exec` that run at once in one container.
const EXEC_LIMIT: usize = 64;
/// How long the last lines and the attached clients may take after the container ended.
const LAST_LINES: Duration = Duration::from_secs(2);

/// A container that runs, and everything that belongs to it.
struct Runtime {
    folder: PathBuf,
    spec: Value,
    poller: Poller,
    timer: Timer,
    signals: Signals,
    listener: Listener,
    controls: Vec<Option<Channel>>,
    forwarder: Forwarder,
    sessions: Vec<Session>,
    log: Log,
    pid: i32,
    ports: Vec<Value>,
    ended: Option<(i32, Duration)>,
    serial: u64,
}

/// Starts the container and stays until it has ended.
pub fn run(folder: PathBuf, spec: Value, control: Channel, early: Vec<Message>) -> minke_sys::Result<()> {
    // It lives as long as the process: the kernel takes back what it holds.
    let runtime = Box::leak(Box::new(Runtime {
        poller: Poller::new()?,
        timer: Timer::new()?,
        signals: Signals::new(&[SIGCHLD, SIGTERM, SIGHUP, SIGINT, SIGPIPE])?,
        listener: Listener::bind(&folder.join("shim.sock"))?,
        controls: Vec::new(),
        forwarder: Forwarder::new()?,
        sessions: Vec::new(),
        log: Log::new(spec.text("journal").into(), spec.text("id"), spec.text("name")),
        pid: 0,
        ports: Vec::new(),
        ended: None,
        serial: 0,
        folder,
        spec,
    }));
    match start::start(&runtime.spec, &mut runtime.forwarder) {
        Ok(started) => runtime.begin(started)?,
        Err(failure) => {
            let written = super::write_exit(&runtime.folder, failure.code, &failure.text, false);
            send(&control, &json!({ "event": "failed", "code": failure.code, "text": failure.text }));
            return written;
        }
    }
    for message in early {
        runtime.obey(message);
    }
    runtime.add_control(control);
    runtime.serve()
}

fn send(control: &Channel, event: &Value) {
    let _ = control.send(event.to_string().as_bytes(), &[]);
}

/// Tells the client of an exec, whose connection is a stream already, why there is none.
fn refuse(fd: std::os::fd::OwnedFd, order: &Value, failure: &Failure) {
    let text =
        format!("OCI runtime exec failed: unable to start container process: {}: unknown\r\n", failure.text);
    let mut bytes = Vec::new();
    if !order.at("streams").flag("raw") {
        bytes.extend_from_slice(&crate::api::frame_header(true, text.len()));
    }
    bytes.extend_from_slice(text.as_bytes());
    let _ = minke_sys::channel::set_nonblocking(&fd, true);
    let _ = std::io::Write::write_all(&mut std::fs::File::from(fd), &bytes);
}

impl Runtime {
    fn begin(&mut self, started: start::Started) -> minke_sys::Result<()> {
        self.pid = started.pid;
        self.ports = started.ports;
        self.sessions.push(Session::new(0, self.pid, "", started.ends, self.spec.flag("stdin_once")));
        self.poller.add(&self.signals, SIGNALS, Interest::Read)?;
        self.poller.add(&self.listener, LISTENER, Interest::Read)?;
        self.poller.add(&self.timer, TIMER, Interest::Read)?;
        self.poller.add(&self.forwarder, FORWARDER, Interest::Read)?;
        super::write_whole(&self.folder.join("state.json"), &self.started_event())
    }

    fn started_event(&self) -> Value {
        json!({ "event": "started", "pid": self.pid, "ports": self.ports })
    }

    fn serve(&mut self) -> minke_sys::Result<()> {
        let mut ready = Vec::new();
        loop {
            let now = minke_sys::clock::boottime();
            let mut next = self.log.flush(now);
            let log_is_full = self.log.is_full();
            for session in &mut self.sessions {
                session.watch(&self.poller, log_is_full && session.serial == 0);
            }
            if let Some((code, deadline)) = self.ended {
                let delivered = self.log.is_empty() && self.sessions.iter().all(Session::is_delivered);
                if delivered || now >= deadline {
                    return self.finish(code);
                }
                next = Some(next.map_or(deadline, |next| next.min(deadline)));
            }
            self.timer.set(next.map(|time| time.saturating_sub(now)))?;
            // Only while there is something to wait for: this descriptor changes with each connection.
            let journal = self.log.blocked();
            let journal = journal.filter(|fd| self.poller.add(fd, JOURNAL, Interest::Write).is_ok());
            let waited = self.poller.wait(&mut ready, None);
            if let Some(fd) = journal {
                let _ = self.poller.remove(fd);
            }
            waited?;
            for event in &ready {
                self.handle(*event);
            }
        }
    }

    fn handle(&mut self, event: Ready) {
        let serial = event.token & 0xffff_ffff;
        match event.token & !0xffff_ffff {
            attach::INPUT => {
                if let Some(session) = self.session(serial) {
                    session.write_input();
                }
            }
            attach::CLIENT => {
                if let Some(session) = self.sessions.iter_mut().find(|session| session.has_client(serial)) {
                    session.serve_client(serial, event.readable, event.hangup);
                }
            }
            attach::OUTPUT => self.take_output(serial),
            _ => self.handle_own(serial),
        }
    }

    fn handle_own(&mut self, token: u64) {
        match token {
            SIGNALS => self.take_signals(),
            TIMER => self.timer.take(),
            // The next turn writes.
            JOURNAL => {}
            FORWARDER => self.forwarder.work(),
            LISTENER => {
                while let Some(channel) = self.listener.accept() {
                    self.add_control(channel);
                }
            }
            token => self.take_orders(token.saturating_sub(CONTROLS)),
        }
    }

    fn session(&mut self, serial: u64) -> Option<&mut Session> {
        self.sessions.iter_mut().find(|session| session.serial == serial)
    }

    fn take_output(&mut self, token: u64) {
        let (serial, index) = (token >> 1, usize::from(token & 1 == 1));
        let log = if serial == 0 { Some(&mut self.log) } else { None };
        if let Some(session) = self.sessions.iter_mut().find(|session| session.serial == serial) {
            session.read_output(index, log, false);
        }
    }

    fn take_signals(&mut self) {
        while let Some(signal) = self.signals.take() {
            if signal == SIGTERM {
                // The machine goes down: the container gets its own stop signal, and the time that is left.
                let stop = self.spec.int("stop_signal", SIGTERM);
                let _ = minke_sys::process::kill(self.pid, stop);
            }
        }
        while let Some((pid, exit)) = minke_sys::process::reap() {
            self.take_end(pid, status(exit));
        }
    }

    fn take_end(&mut self, pid: i32, code: i32) {
        if pid == self.pid {
            if let Some(session) = self.sessions.first_mut() {
                session.drain(Some(&mut self.log));
            }
            self.log.end();
            self.ended = Some((code, crate::time::ahead(LAST_LINES)));
            return;
        }
        let Some(index) = self.sessions.iter().position(|session| session.pid == pid) else { return };
        let mut session = self.sessions.remove(index);
        session.drain(None);
        // What the client has not taken by now it gets as far as its socket holds it.
        session.watch(&self.poller, false);
        self.tell(&json!({ "event": "exec-exit", "id": session.exec_id, "code": code }));
    }

    fn add_control(&mut self, channel: Channel) {
        if self.controls.len() >= CONTROL_LIMIT && self.controls.iter().all(Option::is_some) {
            return;
        }
        if channel.set_nonblocking(true).is_err() {
            return;
        }
        let index = self.controls.iter().position(Option::is_none).unwrap_or_else(|| {
            self.controls.push(None);
            self.controls.len().saturating_sub(1)
        });
        let token = CONTROLS.saturating_add(u64::try_from(index).unwrap_or(0));
        if self.poller.add(&channel, token, Interest::Read).is_err() {
            return;
        }
        send(&channel, &self.started_event());
        if let Some(slot) = self.controls.get_mut(index) {
            *slot = Some(channel);
        }
    }

    fn tell(&mut self, event: &Value) {
        for channel in self.controls.iter().flatten() {
            send(channel, event);
        }
    }

    fn take_orders(&mut self, index: u64) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let Some(slot) = self.controls.get_mut(index) else { return };
        let Some(channel) = slot else { return };
        match channel.receive() {
            Ok(Received::Message(bytes, fds)) => self.obey(Message::new(&bytes, fds)),
            Ok(Received::Nothing) => {}
            // An engine that went away: the container goes on.
            Ok(Received::Closed) | Err(_) => *slot = None,
        }
    }

    fn obey(&mut self, message: Message) {
        let order = &message.body;
        match order.text("op") {
            "signal" => {
                let signal = order.int("signal", SIGKILL);
                let _ = minke_sys::process::kill(self.pid, signal);
                if signal == SIGKILL {
                    let group = self.spec.at("cgroup").text("path");
                    if !group.is_empty() {
                        let _ = minke_sys::cgroup::kill(Path::new(group));
                    }
                }
            }
            "attach" => {
                self.serial = self.serial.saturating_add(1);
                let serial = self.serial;
                if let (Some(fd), Some(session)) = (message.fd, self.session(0)) {
                    session.attach(fd, order, serial);
                }
            }
            "resize" => self.resize(order),
            "exec" => self.exec(message),
            "connect" => {
                let result = network::connect(self.pid, order.at("endpoint"));
                self.tell_result("connect", &result);
            }
            "disconnect" => {
                let result = network::disconnect(order.text("link"));
                self.tell_result("disconnect", &result);
            }
            _ => {}
        }
    }

    fn tell_result(&mut self, order: &str, result: &Result<(), Failure>) {
        let error = result.as_ref().err().map_or("", |failure| &failure.text);
        self.tell(&json!({ "event": "done", "op": order, "error": error }));
    }

    fn resize(&self, order: &Value) {
        let id = order.text("id");
        let size = |key: &str| u16::try_from(order.number(key)).unwrap_or(0);
        let session = self.sessions.iter().find(|session| session.exec_id == id);
        if let Some(terminal) = session.and_then(|session| session.terminal.as_ref()) {
            let _ = minke_sys::terminal::set_size(terminal, size("rows"), size("columns"));
        }
    }

    fn exec(&mut self, message: Message) {
        let id = message.body.text("id");
        match self.start_more(message.body.at("spec")) {
            Ok((pid, ends)) => {
                self.serial = self.serial.saturating_add(2);
                let mut session = Session::new(self.serial, pid, id, ends, true);
                if let Some(fd) = message.fd {
                    session.attach(fd, message.body.at("streams"), self.serial.saturating_sub(1));
                }
                self.sessions.push(session);
                self.tell(&json!({ "event": "exec-started", "id": id, "pid": pid }));
            }
            Err(failure) => {
                if let Some(fd) = message.fd {
                    refuse(fd, &message.body, &failure);
                }
                self.tell(
                    &json!({ "event": "exec-failed", "id": id, "code": failure.code, "text": failure.text }),
                );
            }
        }
    }

    fn start_more(&self, spec: &Value) -> Result<(i32, Ends), Failure> {
        if self.sessions.len() > EXEC_LIMIT || self.ended.is_some() {
            return Err(Failure::new(format_args!("the container runs as many further processes as it may")));
        }
        let mut spec = spec.clone();
        spec.set("cgroup", self.spec.at("cgroup"));
        start::start_more(&spec, self.pid)
    }

    fn finish(&mut self, code: i32) -> minke_sys::Result<()> {
        let group = PathBuf::from(self.spec.at("cgroup").text("path"));
        let mut oom = false;
        if !group.as_os_str().is_empty() {
            let events = minke_sys::cgroup::get(&group, "memory.events").unwrap_or_default();
            oom = events.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"));
            let _ = minke_sys::cgroup::kill(&group);
            let _ = minke_sys::cgroup::remove(&group);
        }
        let written = super::write_exit(&self.folder, code, "", oom);
        self.tell(&json!({ "event": "exit", "code": code, "oom": oom }));
        written
    }
}
