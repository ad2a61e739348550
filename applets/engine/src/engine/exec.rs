//! Further processes in a container that runs: `exec`.

use super::Engine;
use crate::container::{Container, create, launch};
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use minke_http::{Conn, Headers, Response, Server};
use minke_sys::capability::Capabilities;
use minke_wire::json::Value;
use std::os::fd::{AsFd, OwnedFd};

/// Execs that are remembered; the oldest that ended makes room.
const EXEC_LIMIT: usize = 256;

/// The `Connection` header of a client that wants the connection for itself.
pub const UPGRADE: &str = "Upgrade";

/// One exec.
#[derive(Debug)]
pub struct Exec {
    /// Its id.
    pub id: String,
    /// The container's id.
    pub container: String,
    /// The create body.
    pub config: Value,
    /// It runs.
    pub running: bool,
    /// How it ended.
    pub exit_code: Option<i32>,
    /// Its process.
    pub pid: i64,
    waiter: Option<Conn>,
}

impl Engine {
    /// `POST /containers/{id}/exec`.
    pub fn create_exec(&mut self, query: &str, config: Value) -> Result<Value> {
        let container = self.container_mut(query)?;
        if !container.is_running() {
            return Err(ApiError::conflict(format_args!("container {} is not running", container.id)));
        }
        if config.texts("Cmd").is_empty() {
            return Err(ApiError::bad(format_args!("No exec command specified")));
        }
        let (id, container) = (crate::container::name::new_id()?, container.id.clone());
        if self.execs.len() >= EXEC_LIMIT {
            let oldest = self
                .execs
                .iter()
                .position(|exec| !exec.running)
                .ok_or_else(|| ApiError::conflict(format_args!("too many execs")))?;
            self.execs.remove(oldest);
        }
        self.execs.push(Exec {
            id: id.clone(),
            container,
            config,
            running: false,
            exit_code: None,
            pid: 0,
            waiter: None,
        });
        Ok(json!({ "Id": id }))
    }

    /// An exec by its id.
    pub fn exec(&mut self, id: &str) -> Result<&mut Exec> {
        let found = self.execs.iter_mut().find(|exec| exec.id == id);
        found.ok_or_else(|| ApiError::missing(format_args!("No such exec instance: {id}")))
    }

    /// `POST /exec/{id}/start`: takes the connection over, unless the body asks to detach.
    pub fn start_exec(&mut self, conn: Conn, id: &str, body: &Value, connection: &str) -> Result<()> {
        let exec = self.exec(id)?;
        if exec.running || exec.exit_code.is_some() {
            return Err(ApiError::conflict(format_args!("exec {id} was started already")));
        }
        let (container, config) = (exec.container.clone(), exec.config.clone());
        let orders = exec_orders(self.container(&container)?, &config)?;
        let raw = config.at("Tty");
        let order = json!({
            "op": "exec", "id": id, "spec": orders,
            "streams": {
                "stdin": config.at("AttachStdin"), "stdout": config.at("AttachStdout"), "stderr": config.at("AttachStderr"),
                "raw": raw
            }
        });
        if body.flag("Detach") {
            self.order(&container, &order, None)?;
            let exec = self.exec(id)?;
            exec.running = true;
            exec.waiter = Some(conn);
            return Ok(());
        }
        if !self.container(&container)?.is_running() {
            return Err(ApiError::conflict(format_args!("container {container} is not running")));
        }
        let fd = take_connection(self.server, conn, connection, config.flag("Tty"))?;
        self.exec(id)?.running = true;
        self.order(&container, &order, Some(fd.as_fd()))
    }

    /// A shim tells of an exec.
    pub fn on_exec_event(&mut self, event: &Value) {
        let kind = event.text("event");
        let Ok(exec) = self.exec(event.text("id")) else { return };
        let waiter = exec.waiter.take();
        if kind == "exec-started" {
            exec.pid = event.number("pid");
        } else {
            exec.running = false;
            exec.exit_code = Some(event.int("code", 255));
        }
        let Some(conn) = waiter else { return };
        if kind == "exec-failed" {
            let text = event.text("text");
            self.fail(conn, &ApiError::bad(format_args!("OCI runtime exec failed: {text}: unknown")));
        } else {
            self.server.respond(conn, Response::empty(200));
        }
    }

    /// A container ended, and its execs with it.
    pub fn end_execs(&mut self, container: &str) {
        for exec in self.execs.iter_mut().filter(|exec| exec.container == container && exec.running) {
            exec.running = false;
            exec.exit_code = Some(137);
        }
    }

    /// `GET /exec/{id}/json`.
    pub fn inspect_exec(&mut self, id: &str) -> Result<Value> {
        let exec = self.exec(id)?;
        let command = exec.config.texts("Cmd");
        Ok(json!({
            "ID": exec.id, "Running": exec.running, "ExitCode": exec.exit_code, "ContainerID": exec.container, "Pid": exec.pid,
            "OpenStdin": exec.config.flag("AttachStdin"), "OpenStdout": exec.config.flag("AttachStdout"),
            "OpenStderr": exec.config.flag("AttachStderr"),
            "ProcessConfig": {
                "tty": exec.config.flag("Tty"), "entrypoint": command.first(), "arguments": command.get(1..),
                "user": exec.config.text("User"), "privileged": exec.config.flag("Privileged")
            }
        }))
    }

    /// Sets the size of a terminal.
    pub fn resize(&mut self, container: &str, exec: &str, rows: i64, columns: i64) -> Result<()> {
        let id = self.container_mut(container)?.id.clone();
        self.order(&id, &json!({ "op": "resize", "id": exec, "rows": rows, "columns": columns }), None)
    }
}

/// The shim's orders for an exec; what its body leaves out is as in the container.
fn exec_orders(container: &Container, config: &Value) -> Result<Value> {
    let or_own =
        |key: &str| if config.text(key).is_empty() { container.config.at(key) } else { config.at(key) };
    let mut environment = container.config.texts("Env");
    for entry in &config.texts("Env") {
        if entry.contains('=') {
            environment.retain(|old| create::variable(old) != create::variable(entry));
            environment.push(entry.clone());
        }
    }
    let merged = json!({ "Env": environment, "Tty": config.at("Tty") });
    let capabilities =
        if config.flag("Privileged") { Capabilities::ALL } else { create::capabilities(&container.host)? };
    Ok(json!({
        "args": config.at("Cmd"), "tty": config.at("Tty"), "stdin": config.at("AttachStdin"),
        "user": or_own("User"), "cwd": or_own("WorkingDir"), "groups": container.host.at("GroupAdd"),
        "env": launch::environment(&merged, container.config.text("Hostname")), "capabilities": capabilities.0
    }))
}

/// Takes a connection out of the server for a raw stream, with the head that the client expects. `connection` is the
/// header of this name; with `Upgrade` the head says that the protocol changes.
pub fn take_connection(server: &mut Server, conn: Conn, connection: &str, raw: bool) -> Result<OwnedFd> {
    let mut headers = Headers::default();
    headers.push("Content-Type", crate::api::stream_type(raw));
    if !connection.is_empty() {
        headers.push("Connection", connection);
    }
    let upgrade = connection == UPGRADE;
    if upgrade {
        headers.push(UPGRADE, "tcp");
    }
    let head = Server::upgrade_head(if upgrade { 101 } else { 200 }, &headers);
    let (fd, _early) = server.upgrade(conn)?;
    minke_sys::channel::set_nonblocking(&fd, false)?;
    let mut stream = std::fs::File::from(fd);
    std::io::Write::write_all(&mut stream, &head)?;
    Ok(stream.into())
}
