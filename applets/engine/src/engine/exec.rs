//! Further processes in a container that runs: `exec`.

use super::Engine;
use crate::error::{ApiError, Result};
use crate::fields::json;
use crate::fields::{Fields, object};
use minke_http::{Conn, Headers, Response, Server};
use minke_wire::json::Value;
use std::os::fd::AsFd;

/// Execs that are remembered; the oldest that ended makes room.
const EXEC_LIMIT: usize = 256;

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
        let container = self.container(query)?;
        if !container.is_running() {
            return Err(ApiError::conflict(format!("container {} is not running", container.id)));
        }
        if config.texts("Cmd").is_empty() {
            return Err(ApiError::bad("No exec command specified"));
        }
        let (id, container) = (crate::container::name::new_id()?, container.id.clone());
        if self.execs.len() >= EXEC_LIMIT {
            let oldest = self
                .execs
                .iter()
                .position(|exec| !exec.running)
                .ok_or_else(|| ApiError::conflict("too many execs"))?;
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

    fn exec(&mut self, id: &str) -> Result<&mut Exec> {
        let found = self.execs.iter_mut().find(|exec| exec.id == id);
        found.ok_or_else(|| ApiError::missing(format!("No such exec instance: {id}")))
    }

    /// `POST /exec/{id}/start`: takes the connection over, unless the body asks to detach.
    pub fn start_exec(&mut self, conn: Conn, id: &str, body: &Value, upgrade: bool) -> Result<()> {
        let exec = self.exec(id)?;
        if exec.running || exec.exit_code.is_some() {
            return Err(ApiError::conflict(format!("exec {id} was started already")));
        }
        let (container, config) = (exec.container.clone(), exec.config.clone());
        let detach = body.flag("Detach");
        let orders = self.exec_orders(&container, &config)?;
        let streams = json!({
            "stdin": config.flag("AttachStdin"), "stdout": config.flag("AttachStdout"), "stderr": config.flag("AttachStderr"),
            "raw": config.flag("Tty")
        });
        let order = json!({ "op": "exec", "id": id, "spec": orders, "streams": streams });
        if detach {
            self.order(&container, &order, None)?;
            let exec = self.exec(id)?;
            exec.running = true;
            exec.waiter = Some(conn);
            return Ok(());
        }
        if !self.container(&container)?.is_running() {
            return Err(ApiError::conflict(format!("container {container} is not running")));
        }
        let fd = take_connection(&mut self.server, conn, upgrade, config.flag("Tty"))?;
        self.exec(id)?.running = true;
        self.order(&container, &order, Some(fd.as_fd()))
    }

    fn exec_orders(&mut self, container: &str, config: &Value) -> Result<Value> {
        let container = self.container(container)?;
        let mut orders = json!({
            "args": config.texts("Cmd"), "tty": config.flag("Tty"), "stdin": config.flag("AttachStdin"),
            "user": match config.text("User") { "" => container.config.text("User"), user => user },
            "cwd": match config.text("WorkingDir") { "" => container.config.text("WorkingDir"), folder => folder },
            "groups": container.host.texts("GroupAdd")
        });
        let mut environment = container.config.texts("Env");
        for entry in config.texts("Env") {
            let name = entry.split_once('=').map_or("", |(name, _)| name).to_owned();
            environment.retain(|old| old.split_once('=').is_none_or(|(old, _)| old != name));
            environment.push(entry);
        }
        let mut merged = json!({ "Env": environment, "Tty": config.flag("Tty") });
        object(&mut merged).insert("Hostname".to_owned(), container.config.at("Hostname").clone());
        let privileged = config.flag("Privileged") || container.host.flag("Privileged");
        let capabilities = if privileged {
            minke_sys::capability::Capabilities::ALL
        } else {
            crate::container::create::capabilities(&container.host)?
        };
        let map = object(&mut orders);
        map.insert(
            "env".to_owned(),
            crate::container::launch::environment(&merged, merged.text("Hostname")).into(),
        );
        map.insert("capabilities".to_owned(), capabilities.0.into());
        Ok(orders)
    }

    /// A shim tells of an exec.
    pub fn on_exec_event(&mut self, event: &Value) {
        let (id, kind) = (event.text("id").to_owned(), event.text("event").to_owned());
        let code = i32::try_from(event.number("code")).unwrap_or(255);
        let Ok(exec) = self.exec(&id) else { return };
        let waiter = exec.waiter.take();
        match kind.as_str() {
            "exec-started" => exec.pid = event.number("pid"),
            _ => {
                exec.running = false;
                exec.exit_code = Some(code);
            }
        }
        let Some(conn) = waiter else { return };
        if kind == "exec-failed" {
            let text = event.text("text").to_owned();
            self.fail(conn, &ApiError::bad(format!("OCI runtime exec failed: {text}: unknown")));
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
        let id = self.container(container)?.id.clone();
        self.order(&id, &json!({ "op": "resize", "id": exec, "rows": rows, "columns": columns }), None)
    }
}

/// Takes a connection out of the server for a raw stream, with the head that the client expects.
pub fn take_connection(
    server: &mut Server,
    conn: Conn,
    upgrade: bool,
    raw: bool,
) -> Result<std::os::fd::OwnedFd> {
    let kind =
        if raw { "application/vnd.docker.raw-stream" } else { "application/vnd.docker.multiplexed-stream" };
    let mut headers = Headers::default();
    headers.push("Content-Type", kind);
    if upgrade {
        headers.push("Connection", "Upgrade");
        headers.push("Upgrade", "tcp");
    }
    let head = Server::upgrade_head(if upgrade { 101 } else { 200 }, &headers);
    let (fd, _early) = server.upgrade(conn).map_err(|error| ApiError::because(&error))?;
    minke_sys::channel::set_nonblocking(&fd, false)?;
    let mut stream = std::fs::File::from(fd);
    std::io::Write::write_all(&mut stream, &head).map_err(|error| ApiError::because(&error))?;
    Ok(stream.into())
}
