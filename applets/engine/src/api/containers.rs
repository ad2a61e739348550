//! `/containers` and `/exec`.

use super::{Call, inspect, list, logs, no_such_page};
use crate::container::create;
use crate::container::{AfterStop, Container, WaitFor, mount, name, signal};
use crate::engine::Engine;
use crate::error::{ApiError, Result};
use crate::fields::json;
use crate::fields::{Fields, object};
use minke_http::{Headers, Response};
use minke_store::Record;
use minke_wire::json::{Map, Value};
use std::os::fd::AsFd;

/// Most containers.
const CONTAINER_LIMIT: usize = 512;

/// Routes what follows `/containers/`.
pub fn route(engine: &mut Engine, call: &Call<'_>, method: &str, parts: &[&str]) -> Result<()> {
    let conn = call.conn;
    match (method, parts) {
        ("GET", ["json"]) => {
            let result = list::containers(engine, call);
            engine.answer(conn, result);
        }
        ("POST", ["create"]) => create(engine, call)?,
        ("POST", ["prune"]) => prune(engine, call)?,
        ("GET", [id, "json"]) => {
            let index = engine.find(id)?;
            let document =
                engine.containers.get(index).map(|container| inspect::container(engine, container));
            engine.answer(conn, document.ok_or_else(no_such_page));
        }
        ("POST", [id, "start"]) => engine.start_for(conn, id)?,
        ("POST", [id, "stop"]) => engine.stop(id, seconds(call)?, AfterStop::Answer(conn))?,
        ("POST", [id, "restart"]) => engine.stop(id, seconds(call)?, AfterStop::Start(conn))?,
        ("POST", [id, "kill"]) => {
            let text = if call.query("signal").is_empty() { "KILL" } else { call.query("signal") };
            let signal =
                signal::by_name(text).ok_or_else(|| ApiError::bad(format!("Invalid signal: {text}")))?;
            let result = engine.kill(id, signal);
            engine.answer_status(conn, 204, &result);
        }
        ("POST", [id, "wait"]) => wait(engine, call, id)?,
        ("POST", [id, "rename"]) => {
            let result = rename(engine, id, call.query("name"));
            engine.answer_status(conn, 204, &result);
        }
        ("POST", [id, "update"]) => {
            let result = update(engine, id, &call.body()?);
            engine.answer(conn, result);
        }
        ("POST", [id, "resize"]) => {
            let size = |name: &str| call.query(name).parse().unwrap_or(0);
            let result = engine.resize(id, "", size("h"), size("w"));
            engine.answer_status(conn, 200, &result);
        }
        ("POST", [id, "attach"]) => attach(engine, call, id)?,
        ("GET", [id, "logs"]) => logs::answer(engine, call, id)?,
        ("GET", [id, "top"]) => {
            let result = list::processes(engine, id);
            engine.answer(conn, result);
        }
        ("POST", [id, "exec"]) => {
            let result = engine.create_exec(id, call.body()?)?;
            engine.server.respond(conn, Response::json(201, result.to_string().into_bytes()));
        }
        ("DELETE", [id]) => engine.remove(conn, id, call.flag("force"), call.flag("v"))?,
        (_, [_, action @ ("archive" | "export" | "stats" | "pause" | "unpause" | "changes")]) => {
            return Err(ApiError::new(501, format!("{action} is not supported by this engine yet")));
        }
        _ => return Err(no_such_page()),
    }
    Ok(())
}

/// Routes what follows `/exec/`.
pub fn route_exec(engine: &mut Engine, call: &Call<'_>, method: &str, parts: &[&str]) -> Result<()> {
    match (method, parts) {
        ("POST", [id, "start"]) => engine.start_exec(call.conn, id, &call.body()?, call.upgrades())?,
        ("POST", [id, "resize"]) => {
            let size = |name: &str| call.query(name).parse().unwrap_or(0);
            let container = engine.inspect_exec(id)?.text("ContainerID").to_owned();
            let result = engine.resize(&container, id, size("h"), size("w"));
            engine.answer_status(call.conn, 200, &result);
        }
        ("GET", [id, "json"]) => {
            let result = engine.inspect_exec(id);
            engine.answer(call.conn, result);
        }
        _ => return Err(no_such_page()),
    }
    Ok(())
}

fn seconds(call: &Call<'_>) -> Result<Option<i64>> {
    match call.query("t") {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| ApiError::bad(format!("invalid time '{text}'"))),
    }
}

/// Makes a container. It is durable when it is answered; a power cut before leaves a folder without record,
/// and perhaps an anonymous volume.
fn create(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let body = create::parse(&call.request.body)?;
    let image_name = create::image_name(&body)?.to_owned();
    let name = choose_name(engine, call.query("name"))?;
    if engine.containers.len() >= CONTAINER_LIMIT {
        return Err(ApiError::internal("too many containers"));
    }
    let image = engine.images.get(&image_name).map_err(|error| match ApiError::from(error) {
        error if error.status == 404 => ApiError::missing(format!("No such image: {image_name}")),
        other => other,
    })?;
    let config = engine.images.config(&image.id)?;
    let id = name::new_id()?;
    let mut made = create::create(body, config.config().unwrap_or(&Map::new()), &id)?;
    resolve_networks(engine, &mut made)?;
    let mut container = Container::new(id.clone(), name, image.id.to_string(), made);
    for mount in container.mounts.iter_mut().filter(|mount| mount.kind == mount::Kind::Volume) {
        let label = if mount.anonymous { json!({ "com.docker.volume.anonymous": "" }) } else { json!({}) };
        let volume = engine.volumes.create(&json!({ "Name": mount.name, "Labels": label }))?;
        volume.text("Name").clone_into(&mut mount.name);
        volume.text("Mountpoint").clone_into(&mut mount.source);
    }
    let folder = engine.folder(&id);
    minke_sys::file::make_folder(&folder, 0o710)?;
    let opened = Record::open(&folder.join("container.json"), 0o600);
    container.record = Some(opened.map_err(|error| ApiError::because(&error))?.0);
    container.save()?;
    minke_sys::file::sync_parent(&folder)?;
    engine.containers.push(container);
    engine.publish_container(&id, "create");
    let answer = json!({ "Id": id, "Warnings": [] });
    engine.server.respond(call.conn, Response::json(201, answer.to_string().into_bytes()));
    Ok(())
}

fn choose_name(engine: &Engine, wanted: &str) -> Result<String> {
    let wanted = wanted.strip_prefix('/').unwrap_or(wanted);
    if !wanted.is_empty() {
        check_name(engine, wanted)?;
        return Ok(wanted.to_owned());
    }
    loop {
        let mut bytes = [0u8; 4];
        minke_sys::random::fill(&mut bytes)?;
        let name = name::random(bytes);
        if check_name(engine, &name).is_ok() {
            return Ok(name);
        }
    }
}

fn check_name(engine: &Engine, name: &str) -> Result<()> {
    if !name::is_valid(name) {
        return Err(ApiError::bad(format!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    match engine.containers.iter().find(|container| container.name == name) {
        Some(other) => Err(ApiError::conflict(format!(
            "Conflict. The container name \"/{name}\" is already in use by container \"{}\". You have to remove (or rename) that container to be able to reuse that name.",
            other.id
        ))),
        None => Ok(()),
    }
}

/// Finds the networks by whatever they are called, and adds the main one, which a body need not name twice.
fn resolve_networks(engine: &Engine, made: &mut create::Created) -> Result<()> {
    let mode = made.host.text("NetworkMode");
    if let Some(other) = mode.strip_prefix("container:") {
        made.endpoints.clear();
        return engine.find(other).map(|_| ());
    }
    let main = engine.networks.get(mode)?.text("Name").to_owned();
    let mut endpoints = Map::new();
    for (name, endpoint) in std::mem::take(&mut made.endpoints) {
        endpoints.insert(engine.networks.get(&name)?.text("Name").to_owned(), endpoint);
    }
    if !matches!(main.as_str(), "host" | "none") {
        endpoints.entry(main).or_insert_with(|| json!({}));
    }
    made.endpoints = endpoints;
    Ok(())
}

fn rename(engine: &mut Engine, query: &str, new: &str) -> Result<()> {
    let new = new.strip_prefix('/').unwrap_or(new);
    let index = engine.find(query)?;
    check_name(engine, new)?;
    let Some(container) = engine.containers.get_mut(index) else { return Err(no_such_page()) };
    let old = std::mem::replace(&mut container.name, new.to_owned());
    if let Err(error) = container.save() {
        container.name = old;
        return Err(error);
    }
    let id = container.id.clone();
    engine.publish_container(&id, "rename");
    engine.refresh_hosts();
    Ok(())
}

/// `{"RestartPolicy": {…}, "Memory": …}`: what may change while a container exists.
fn update(engine: &mut Engine, query: &str, body: &Value) -> Result<Value> {
    let container = engine.container(query)?;
    let mut host = container.host.clone();
    for key in [
        "RestartPolicy",
        "Memory",
        "MemoryReservation",
        "MemorySwap",
        "NanoCpus",
        "CpuShares",
        "CpuQuota",
        "CpuPeriod",
        "PidsLimit",
    ] {
        if let Some(value) = body.get(key).filter(|value| !value.is_null()) {
            object(&mut host).insert(key.to_owned(), value.clone());
        }
    }
    let policy = object(object(&mut host).entry("RestartPolicy").or_insert(Value::Null));
    if policy.get("Name").and_then(Value::as_str).is_none_or(str::is_empty) {
        policy.insert("Name".to_owned(), "no".into());
    }
    policy.entry("MaximumRetryCount").or_insert_with(|| 0.into());
    create::restart_policy(&host)?;
    container.host = host;
    container.save()?;
    if container.policy() == crate::container::restart::Policy::No
        && container.status == crate::container::Status::Restarting
    {
        container.restart_at = None;
        container.status = crate::container::Status::Exited;
    }
    Ok(json!({ "Warnings": [] }))
}

fn wait(engine: &mut Engine, call: &Call<'_>, query: &str) -> Result<()> {
    let condition = match call.query("condition") {
        "" | "not-running" => WaitFor::NotRunning,
        "next-exit" => WaitFor::NextExit,
        "removed" => WaitFor::Removed,
        other => return Err(ApiError::bad(format!("invalid condition: \"{other}\""))),
    };
    let container = engine.container(query)?;
    let at_once = condition == WaitFor::NotRunning && !container.is_active();
    container.waiters.push((call.conn, condition));
    let id = container.id.clone();
    // The head goes out now: clients start the container once they have it.
    let mut headers = Headers::default();
    headers.push("Content-Type", "application/json");
    engine.server.start_stream(call.conn, 200, &headers);
    if at_once {
        engine.tell_waiters(&id, false);
    }
    Ok(())
}

fn attach(engine: &mut Engine, call: &Call<'_>, query: &str) -> Result<()> {
    let container = engine.container(query)?;
    let (id, raw, running) = (container.id.clone(), container.config.flag("Tty"), container.is_running());
    let stdin = call.flag("stdin") && container.config.flag("OpenStdin");
    let order = json!({ "op": "attach", "stdin": stdin, "stdout": call.flag("stdout"), "stderr": call.flag("stderr"), "raw": raw });
    if !call.flag("stream") {
        return Err(ApiError::new(501, "attach without stream is not supported by this engine"));
    }
    let fd = crate::engine::take_connection(&mut engine.server, call.conn, call.upgrades(), raw)?;
    if running {
        return engine.order(&id, &order, Some(fd.as_fd()));
    }
    if let Some(container) = engine.get(&id) {
        /// Clients that wait for a start.
        const ATTACH_LIMIT: usize = 8;
        if container.attaching.len() < ATTACH_LIMIT {
            container.attaching.push((fd, order));
        }
    }
    Ok(())
}

fn prune(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let filters = call.filters()?;
    let fits = |container: &Container| {
        super::filters_fit(&filters, &|key: &str, value: &str| {
            key != "label" || super::label_fits(container.config.at("Labels"), value)
        })
    };
    let doomed: Vec<String> = engine
        .containers
        .iter()
        .filter(|container| !container.is_active() && fits(container))
        .map(|container| container.id.clone())
        .collect();
    for id in &doomed {
        engine.remove_now(id, false);
    }
    engine.answer(call.conn, Ok(json!({ "ContainersDeleted": doomed, "SpaceReclaimed": 0 })));
    Ok(())
}
