//! Talking to shims.

use super::{Engine, SHIMS};
use crate::container::Status;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use minke_sys::channel::{Channel, Received};
use minke_sys::event::Interest;
use minke_sys::process::{self, Spawn};
use minke_wire::json::Value;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The longest exit record that is read.
const EXIT_LIMIT: usize = 64 * 1024;

/// Starts a shim for the orders in `folder`, and returns the channel to it.
pub fn spawn(folder: &Path, group: &Path) -> Result<Channel> {
    let (ours, theirs) = Channel::pair()?;
    // By its own path, so that tools show the program's name; by the kernel's link when an update replaced it.
    let program = std::env::current_exe()
        .ok()
        .filter(|path| super::exists(path))
        .unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
    let mut command = Spawn::new(&text(&program));
    command.arguments = vec![c"engine-shim".into(), text(folder)];
    command.environment = process::environment();
    let ours_alone = [&b"NOTIFY_SOCKET="[..], b"WATCHDOG_", b"LISTEN_"];
    command.environment.retain(|line| !ours_alone.iter().any(|name| line.to_bytes().starts_with(name)));
    command.folder = Some(c"/".into());
    let null = minke_sys::file::open("/dev/null", minke_sys::file::Flags::RDWR).ok().map(OwnedFd::from);
    command.stdio = [Some(theirs.into_fd()), null, None];
    let pid = command.start()?;
    if !group.as_os_str().is_empty() {
        let shims = group.join("shims");
        // A shim that stays in the engine's own group works as well; it would be counted there.
        let _ = minke_sys::cgroup::create(&shims).and_then(|()| minke_sys::cgroup::attach(&shims, pid));
    }
    ours.set_nonblocking(true)?;
    Ok(ours)
}

impl Engine {
    /// Watches a container's channel from now on.
    pub fn watch_shim(&mut self, id: &str, channel: Channel) -> Result<()> {
        let serial = self.next_serial();
        self.poller.add(&channel, SHIMS.saturating_add(serial), Interest::Read)?;
        if let Some(container) = self.get_mut(id) {
            container.shim = Some(channel);
            container.serial = serial;
        }
        Ok(())
    }

    /// Sends an order to a container's shim.
    pub fn order(&mut self, id: &str, order: &Value, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        let channel = self.get_mut(id).and_then(|container| container.shim.as_ref());
        let channel =
            channel.ok_or_else(|| ApiError::conflict(format_args!("container {id} is not running")))?;
        let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
        channel.send(order.to_string().as_bytes(), &fds).map_err(ApiError::from)
    }

    /// Hands over clients that attached before the start, then lets the shim begin.
    pub fn begin(&mut self, id: &str) -> Result<()> {
        let waiting =
            self.get_mut(id).map(|container| std::mem::take(&mut container.attaching)).unwrap_or_default();
        for (fd, order) in waiting {
            self.order(id, &order, Some(fd.as_fd()))?;
        }
        self.order(id, &json!({ "op": "start" }), None)
    }

    /// A shim said something, or is gone.
    pub fn take_shim_message(&mut self, serial: u64) {
        loop {
            let Some(container) = self.containers.iter().find(|container| container.serial == serial) else {
                return;
            };
            let id = container.id.clone();
            match container.shim.as_ref().map(Channel::receive) {
                Some(Ok(Received::Message(bytes, _))) => {
                    let event: Value = minke_wire::json::parse(&bytes).unwrap_or(Value::Null);
                    self.take_event(&id, &event);
                }
                Some(Ok(Received::Nothing)) | None => return,
                Some(Ok(Received::Closed) | Err(_)) => {
                    self.take_loss(&id);
                    return;
                }
            }
        }
    }

    fn take_event(&mut self, id: &str, event: &Value) {
        let code = event.int("code", 255);
        match event.text("event") {
            "started" => self.on_started(id, event),
            "failed" => self.on_failed(id, code, event.text("text")),
            "exit" => self.on_end(id, code, event.flag("oom")),
            "exec-started" | "exec-failed" | "exec-exit" => self.on_exec_event(event),
            "done" if !event.text("error").is_empty() => {
                minke_applet::log::error(format_args!(
                    "container {id}: {}: {}",
                    event.text("op"),
                    event.text("error")
                ));
            }
            _ => {}
        }
    }

    /// The shim is gone without a word: it was killed, and the kernel killed its container with it; or the engine
    /// missed its last message, then the exit record tells.
    fn take_loss(&mut self, id: &str) {
        match self.exit_record(id) {
            Some(record) => {
                let code = record.int("code", 255);
                if record.text("error").is_empty() {
                    self.on_end(id, code, record.flag("oom"));
                } else {
                    self.on_failed(id, code, record.text("error"));
                }
            }
            None => match self.get_mut(id).map(|container| container.status) {
                Some(Status::Starting) => self.on_failed(id, 128, "the container's shim ended"),
                Some(Status::Running) => {
                    minke_applet::log::error(format_args!("container {id}: its shim ended unexpectedly"));
                    self.on_end(id, 255, false);
                }
                _ => {}
            },
        }
    }

    /// How a container ended, if its shim wrote it down.
    pub fn exit_record(&self, id: &str) -> Option<Value> {
        let path = self.run_folder(id).join("exit.json");
        let bytes = minke_sys::file::read_optional(&path, EXIT_LIMIT).ok().flatten()?;
        minke_wire::json::parse(&bytes).ok()
    }
}
