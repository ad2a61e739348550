//! Start, stop, end, removal.

use super::files::write_file;
use super::recover::JOINABLE;
use super::{Engine, shims};
use crate::container::{AfterStop, Container, Status, launch};
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use crate::time::ahead;
use minke_http::Conn;
use minke_sys::signal::SIGKILL;
use minke_wire::json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

impl Engine {
    /// Starts a container for somebody, who is answered when it runs or failed to.
    pub fn start_for(&mut self, conn: Conn, query: &str) -> Result<()> {
        let container = self.container_mut(query)?;
        let id = container.id.clone();
        match container.status {
            Status::Running => return Err(ApiError::not_modified()),
            Status::Starting => container.start_waiters.push(conn),
            Status::Created | Status::Restarting | Status::Exited => {
                container.backoff.reset();
                container.stopped_by_hand = false;
                container.start_waiters.push(conn);
                self.start(&id);
            }
        }
        Ok(())
    }

    /// Starts a container. Failures are told like those of the shim.
    pub fn start(&mut self, id: &str) {
        if let Some(container) = self.get_mut(id) {
            container.restart_at = None;
        }
        if let Err(error) = self.try_start(id) {
            self.on_failed(id, 128, &error.message);
        }
    }

    fn try_start(&mut self, id: &str) -> Result<()> {
        let orders = self.prepare(id)?;
        let run = self.run_folder(id);
        if let Some(container) = self.get_mut(id) {
            container.status = Status::Starting;
            container.error.clear();
        }
        let _ = minke_sys::file::remove_all(&run);
        minke_sys::file::make_folder(&run, 0o700)?;
        write_file(&run.join("spec.json"), &orders.to_string())?;
        let channel = shims::spawn(&run, &self.group)?;
        self.watch_shim(id, channel)?;
        self.begin(id)
    }

    /// Makes everything ready that the container's shim needs, and its orders.
    fn prepare(&mut self, id: &str) -> Result<Value> {
        let folder = self.folder(id);
        for (name, mode) in &[("upper", 0o755), ("work", 0o700), ("root", 0o755)] {
            minke_sys::file::make_folder(&folder.join(name), *mode)?;
        }
        let image = self.images.get(&self.get(id)?.image)?;
        let layers = self.images.layers(&image.id)?;
        let joined = self.joined(id)?;
        let endpoints = self.prepare_links(id)?;
        self.write_files(id)?;
        self.make_sources(id)?;
        let group = if self.group.as_os_str().is_empty() { PathBuf::new() } else { self.group.join(id) };
        let surroundings = launch::Surroundings {
            folder: &folder,
            layers: &layers,
            endpoints: &endpoints,
            joined,
            group: &group,
            journal: &self.options.journal,
        };
        launch::orders(self.get(id)?, &surroundings)
    }

    /// Folders of the host that are bound and are not there yet (spec supervisor §9.3).
    fn make_sources(&self, id: &str) -> Result<()> {
        for mount in &self.get(id)?.mounts {
            let path = Path::new(mount.text("Source"));
            if !path.as_os_str().is_empty() && minke_sys::status::of_link(path).is_err() {
                minke_sys::file::make_folder(path, 0o755)?;
            }
        }
        Ok(())
    }

    /// First processes of the containers whose network, PID and IPC namespaces this one joins.
    fn joined(&self, id: &str) -> Result<[i32; 3]> {
        let container = self.get(id)?;
        let mut pids = [0; 3];
        for (pid, key) in pids.iter_mut().zip(&JOINABLE) {
            if let Some(other) = container.host.text(key).strip_prefix("container:") {
                let other = self.container(other)?;
                if !other.is_running() {
                    return Err(ApiError::conflict(format_args!(
                        "cannot join network of a non running container: {}",
                        other.id
                    )));
                }
                *pid = other.pid;
            }
        }
        Ok(pids)
    }

    /// The shim says that the container runs; also the first word of a shim to an engine that found it.
    pub fn on_started(&mut self, id: &str, event: &Value) {
        let Some(container) = self.get_mut(id) else { return };
        container.pid = event.int("pid", 0);
        container.ports = event.items("ports").to_vec();
        if container.status == Status::Running {
            return;
        }
        let automatic = container.backoff.count > 0;
        container.status = Status::Running;
        container.started_once = true;
        container.oom = false;
        container.started_at = Some(minke_sys::clock::realtime());
        container.started_boottime = minke_sys::clock::boottime();
        // A container that restarts by itself again and again must not wear out the flash: its record says
        // "running" already.
        if !automatic {
            self.save(id);
        }
        self.publish_container(id, "start");
        self.refresh_hosts();
        let Some(container) = self.get_mut(id) else { return };
        let stop = !container.after_stop.is_empty();
        for conn in &std::mem::take(&mut container.start_waiters) {
            self.answer_done(*conn);
        }
        if stop {
            // A stop came while it started.
            let signal = self.get_mut(id).map_or(SIGKILL, |container| container.stop_signal());
            let _ = self.signal(id, signal);
        }
    }

    /// It could not be started.
    pub fn on_failed(&mut self, id: &str, code: i32, text: &str) {
        let Some(container) = self.get_mut(id) else { return };
        let text = if text.starts_with("Error starting userland proxy") {
            format!(
                "driver failed programming external connectivity on endpoint {} ({id}): {text}",
                container.name
            )
        } else if text.starts_with("exec") || text.starts_with("unable to") {
            format!("failed to create task for container: unable to start container process: {text}: unknown")
        } else {
            text.to_owned()
        };
        minke_applet::log::error(format_args!("container {} ({id}) did not start: {text}", container.name));
        // A person hears of the failure and decides; an automatic start goes on trying.
        let automatic = container.start_waiters.is_empty();
        container.exit_code = code;
        container.error.clone_from(&text);
        container.finished_at = Some(minke_sys::clock::realtime());
        self.settle(id, automatic, Duration::ZERO);
        let Some(container) = self.get_mut(id) else { return };
        let error = ApiError::internal(format_args!("{text}"));
        for conn in &std::mem::take(&mut container.start_waiters) {
            self.fail(*conn, &error);
        }
        self.finish_stop(id);
        self.remove_if_wanted(id);
    }

    /// Created with AutoRemove: gone with its end.
    fn remove_if_wanted(&mut self, id: &str) {
        if self.get_mut(id).is_some_and(|container| container.auto_remove && !container.is_active()) {
            self.remove_now(id, true);
        }
    }

    /// It ended.
    pub fn on_end(&mut self, id: &str, code: i32, oom: bool) {
        let record = self.exit_record(id);
        let Some(container) = self.get_mut(id) else { return };
        if !container.is_active() {
            return;
        }
        let finished = record.map(|record| {
            let part = |key: &str| u64::try_from(record.number(key)).unwrap_or(0);
            Duration::new(part("seconds"), u32::try_from(part("nanoseconds")).unwrap_or(0).min(999_999_999))
        });
        container.exit_code = code;
        container.oom = oom;
        container.finished_at = Some(finished.unwrap_or_else(minke_sys::clock::realtime));
        let lived = minke_sys::clock::boottime().saturating_sub(container.started_boottime);
        let automatic = !container.stopped_by_hand && container.after_stop.is_empty();
        self.settle(id, automatic, lived);
        self.publish_container(id, "die");
        for (_, _, waker) in self.followers.iter().filter(|(_, container, _)| container == id) {
            waker.wake();
        }
        self.tell_waiters(id, false);
        self.finish_stop(id);
        self.remove_if_wanted(id);
    }

    /// Nothing of the container runs any more: releases what it had, and decides whether it starts again.
    fn settle(&mut self, id: &str, automatic: bool, lived: Duration) {
        let run = self.run_folder(id);
        let Some(container) = self.get_mut(id) else { return };
        container.status = if container.started_once { Status::Exited } else { Status::Created };
        container.pid = 0;
        container.ports.clear();
        container.kill_at = None;
        container.shim = None;
        container.serial = 0;
        for (_, endpoint) in &mut container.networks {
            let map = endpoint.make_object();
            map.remove("IPAddress");
            map.remove("HostLink");
        }
        let (policy, code) = (container.policy(), container.exit_code);
        let delay = if automatic { container.backoff.on_end(policy, lived, code) } else { None };
        if let Some(delay) = delay {
            container.status = Status::Restarting;
            container.restart_at = Some(ahead(delay));
        }
        let _ = minke_sys::file::remove_all(&run);
        self.remove_group(id);
        if delay.is_none() {
            self.save(id);
        }
        self.end_execs(id);
        self.refresh_hosts();
    }

    /// A shim removes its container's control group; one that was killed could not.
    pub fn remove_group(&self, id: &str) {
        if !self.group.as_os_str().is_empty() {
            let group = self.group.join(id);
            let _ = minke_sys::cgroup::kill(&group);
            let _ = minke_sys::cgroup::remove(&group);
        }
    }

    /// Removes groups that belong to no container that runs: processes that were being killed kept them.
    pub fn sweep_groups(&self) {
        if self.group.as_os_str().is_empty() {
            return;
        }
        for group in &minke_sys::cgroup::children(&self.group) {
            let name = group.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let used = self.containers.iter().any(|container| container.id == name && container.is_active());
            if !used && name.len() == 64 {
                let _ = minke_sys::cgroup::kill(group);
                let _ = minke_sys::cgroup::remove(group);
            }
        }
    }

    /// Does what was to follow a stop.
    fn finish_stop(&mut self, id: &str) {
        let Some(container) = self.get_mut(id) else { return };
        for after in &std::mem::take(&mut container.after_stop) {
            match *after {
                AfterStop::Answer(conn) => self.answer_done(conn),
                AfterStop::Start(conn) => {
                    if let Err(error) = self.start_for(conn, id) {
                        self.fail(conn, &error);
                    }
                }
                AfterStop::Remove(conn, volumes) => {
                    self.remove_now(id, volumes);
                    self.answer_done(conn);
                }
            }
        }
    }

    /// Stops a container; `after` follows. `timeout` in seconds, negative for no limit.
    pub fn stop(&mut self, query: &str, timeout: Option<i64>, after: AfterStop) -> Result<()> {
        let container = self.container_mut(query)?;
        let id = container.id.clone();
        if !container.is_active() {
            if matches!(after, AfterStop::Answer(_)) {
                return Err(ApiError::not_modified());
            }
            container.after_stop.push(after);
            self.finish_stop(&id);
            return Ok(());
        }
        let by_hand = !matches!(after, AfterStop::Start(_));
        container.after_stop.push(after);
        container.stopped_by_hand = by_hand;
        if container.status == Status::Restarting {
            container.restart_at = None;
            container.status = Status::Exited;
            self.save(&id);
            self.finish_stop(&id);
            return Ok(());
        }
        let (signal, limit) = (container.stop_signal(), timeout.unwrap_or_else(|| container.stop_timeout()));
        if let Ok(seconds) = u64::try_from(limit) {
            container.kill_at = Some(ahead(Duration::from_secs(seconds)));
        }
        let running = container.is_running();
        // Durable before it is done: a power cut after the answer must not bring it back.
        self.save(&id);
        if running {
            // A shim that ended just now takes no order any more; its end is told by its channel.
            let _ = self.signal(&id, signal);
        }
        Ok(())
    }

    /// Sends a signal to a container's first process.
    pub fn signal(&mut self, id: &str, signal: i32) -> Result<()> {
        self.order(id, &json!({ "op": "signal", "signal": signal }), None)
    }

    /// Kills a container at the client's wish.
    pub fn kill(&mut self, query: &str, signal: i32) -> Result<()> {
        let container = self.container_mut(query)?;
        let id = container.id.clone();
        if !container.is_running() {
            return Err(ApiError::conflict(format_args!(
                "cannot kill container: {query}: container {id} is not running"
            )));
        }
        if signal == SIGKILL || signal == container.stop_signal() {
            container.stopped_by_hand = true;
            self.save(&id);
        }
        self.signal(&id, signal)
    }

    /// Removes a container at the client's wish.
    pub fn remove(&mut self, conn: Conn, query: &str, force: bool, volumes: bool) -> Result<()> {
        let container = self.container_mut(query)?;
        let (id, name) = (container.id.clone(), container.name.clone());
        if container.is_active() && !force {
            let state = container.status_word();
            return Err(ApiError::conflict(format_args!(
                "cannot remove container \"/{name}\": container is {state}: stop the container before removing or force remove"
            )));
        }
        if container.is_active() {
            self.stop(&id, Some(0), AfterStop::Remove(conn, volumes))?;
            let _ = self.signal(&id, SIGKILL);
            return Ok(());
        }
        self.remove_now(&id, volumes);
        self.answer_done(conn);
        Ok(())
    }

    /// Removes a container that does not run. The record goes first, durably: what is left after a power cut is
    /// a folder without record, which the next start removes.
    pub fn remove_now(&mut self, id: &str, volumes: bool) {
        let Some(index) = self.containers.iter().position(|container| container.id == id) else { return };
        self.sweep_groups();
        self.tell_waiters(id, true);
        self.publish_container(id, "destroy");
        let mut container = self.containers.remove(index);
        if let Some(record) = container.record.take()
            && let Err(error) = record.remove()
        {
            minke_applet::log::error(format_args!("container {id}: {error}"));
        }
        super::files::remove_in_background(&self.folder(id), &self.options.data);
        if volumes {
            self.remove_anonymous(&container);
        }
    }

    fn remove_anonymous(&mut self, container: &Container) {
        for mount in container.mounts.iter().filter(|mount| mount.flag("Anonymous")) {
            let name = mount.text("Name");
            if self.volume_user(name).is_none()
                && let Err(error) = self.volumes.remove(name, None)
            {
                minke_applet::log::warn(format_args!("{error}"));
            }
        }
    }

    /// A container that has this volume.
    pub fn volume_user(&self, name: &str) -> Option<&str> {
        let mut containers = self.containers.iter();
        let user =
            containers.find(|container| container.mounts.iter().any(|mount| mount.text("Name") == name))?;
        Some(&user.id)
    }

    /// Writes a container's record; a full disk must not stop the engine.
    pub fn save(&mut self, id: &str) {
        if let Some(container) = self.get_mut(id)
            && let Err(error) = container.save()
        {
            minke_applet::log::error(format_args!("container {id}: its record was not written: {error}"));
        }
    }

    /// Does what is due.
    pub fn act_on_time(&mut self, now: Duration) {
        for id in &self.ids(&|container| container.kill_at.is_some_and(|time| time <= now)) {
            if let Some(container) = self.get_mut(id) {
                container.kill_at = None;
            }
            let _ = self.signal(id, SIGKILL);
        }
        for id in &self.ids(&|container| container.restart_at.is_some_and(|time| time <= now)) {
            self.start(id);
        }
    }
}
