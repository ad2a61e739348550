//! `/containers` and `/exec`.

use super::Handler::{Empty, Json, Own};
use super::{Call, Route, inspect, list, logs, start_json_stream};
use crate::container::restart::Policy;
use crate::container::{AfterStop, Container, Status, WaitFor, create, mount, name, signal};
use crate::engine::Engine;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use minke_wire::json::{Map, Value};
use std::os::fd::AsFd;

/// Most containers.
const CONTAINER_LIMIT: usize = 512;

/// `/containers` and `/exec`.
pub const ROUTES: &[Route] = &[
    ("GET containers/json", Json(200, list::containers)),
    ("POST containers/create", Json(201, create)),
    ("POST containers/prune", Json(200, prune)),
    ("GET containers/*/json", Json(200, inspect::container)),
    ("POST containers/*/start", Own(|engine, call| engine.start_for(call.conn, call.name))),
    ("POST containers/*/stop", Own(|engine, call| stop(engine, call, AfterStop::Answer(call.conn)))),
    ("POST containers/*/restart", Own(|engine, call| stop(engine, call, AfterStop::Start(call.conn)))),
    ("POST containers/*/kill", Empty(204, kill)),
    ("POST containers/*/wait", Own(wait)),
    ("POST containers/*/rename", Empty(204, rename)),
    ("POST containers/*/update", Json(200, update)),
    ("POST containers/*/resize", Empty(200, |engine, call| resize(engine, call, call.name, ""))),
    ("POST containers/*/attach", Own(attach)),
    ("GET containers/*/logs", Own(logs::answer)),
    ("GET containers/*/top", Json(200, list::processes)),
    ("POST containers/*/exec", Json(201, |engine, call| engine.create_exec(call.name, call.body()?))),
    ("DELETE containers/*", Own(remove)),
    ("POST exec/*/start", Own(start_exec)),
    ("POST exec/*/resize", Empty(200, resize_exec)),
    ("GET exec/*/json", Json(200, |engine, call| engine.inspect_exec(call.name))),
];

fn stop(engine: &mut Engine, call: &Call<'_>, after: AfterStop) -> Result<()> {
    let seconds = match call.query("t") {
        "" => None,
        text => match text.parse() {
            Ok(seconds) => Some(seconds),
            Err(_) => return Err(ApiError::bad(format_args!("invalid time '{text}'"))),
        },
    };
    engine.stop(call.name, seconds, after)
}

fn kill(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let text = match call.query("signal") {
        "" => "KILL",
        text => text,
    };
    match signal::by_name(text) {
        Some(signal) => engine.kill(call.name, signal),
        None => Err(ApiError::bad(format_args!("Invalid signal: {text}"))),
    }
}

fn remove(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    engine.remove(call.conn, call.name, call.flag("force"), call.flag("v"))
}

fn start_exec(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    engine.start_exec(call.conn, call.name, &call.body()?, call.connection())
}

fn resize_exec(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let container = engine.exec(call.name)?.container.clone();
    resize(engine, call, &container, call.name)
}

fn resize(engine: &mut Engine, call: &Call<'_>, container: &str, exec: &str) -> Result<()> {
    let size = |name: &str| minke_wire::text::number(call.query(name)).unwrap_or(0);
    engine.resize(container, exec, size("h"), size("w"))
}

/// Makes a container. It is durable when it is answered; a power cut before leaves a folder without record,
/// and perhaps an anonymous volume.
fn create(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let body = create::parse(&call.request.body)?;
    // A body without an image is told of first.
    create::image_name(&body)?;
    let name = choose_name(engine, call.query("name"))?;
    if engine.containers.len() >= CONTAINER_LIMIT {
        return Err(ApiError::internal(format_args!("too many containers")));
    }
    let id = name::new_id()?;
    let mut container = make(engine, body, &id, name)?;
    let folder = engine.folder(&id);
    minke_sys::file::make_folder(&folder, 0o710)?;
    let record = crate::record::open(&folder.join("container.json"), format_args!("container {id}"))?;
    container.record = Some(record.0);
    container.save()?;
    minke_sys::file::sync_parent(&folder)?;
    engine.containers.push(container);
    engine.publish_container(&id, "create");
    Ok(json!({ "Id": id, "Warnings": [] }))
}

/// A container by a create body, with its networks and volumes.
fn make(engine: &mut Engine, body: Value, id: &str, name: String) -> Result<Box<Container>> {
    let image_name = create::image_name(&body)?;
    let image = engine.images.get(image_name).map_err(|error| match ApiError::from(error) {
        error if error.status == 404 => ApiError::missing(format_args!("No such image: {image_name}")),
        other => other,
    })?;
    let config = engine.images.config(&image.id)?;
    let mut made = create::create(body, config.config().unwrap_or(&Map::new()), id)?;
    resolve_networks(engine, &mut made)?;
    for mount in &mut made.mounts {
        if mount.text("Type") == mount::VOLUME {
            let mut wish = json!({ "Name": mount.at("Name"), "Labels": {} });
            if mount.flag("Anonymous") {
                wish.member("Labels").set("com.docker.volume.anonymous", &"");
            }
            let volume = engine.volumes.create(&wish)?;
            mount.set("Name", volume.at("Name"));
            mount.set("Source", volume.at("Mountpoint"));
        }
    }
    Ok(Container::new(id.to_owned(), name, image.id.to_string(), made))
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
        return Err(ApiError::bad(format_args!(
            "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    match engine.containers.iter().find(|container| container.name == name) {
        Some(other) => Err(ApiError::conflict(format_args!(
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

fn rename(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let new = call.query("name");
    let new = new.strip_prefix('/').unwrap_or(new);
    engine.find(call.name)?;
    check_name(engine, new)?;
    let container = engine.container_mut(call.name)?;
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

/// Members of the host config that may change while a container exists.
const UPDATABLE: &str =
    "RestartPolicy Memory MemoryReservation MemorySwap NanoCpus CpuShares CpuQuota CpuPeriod PidsLimit";

/// `{"RestartPolicy": {…}, "Memory": …}`.
fn update(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let body = call.body()?;
    let container = engine.container_mut(call.name)?;
    let mut host = container.host.clone();
    for key in UPDATABLE.split(' ') {
        let value = body.at(key);
        if !value.is_null() {
            host.set(key, value);
        }
    }
    create::complete_restart_policy(&mut host);
    create::restart_policy(&host)?;
    container.host = host;
    container.save()?;
    if container.status == Status::Restarting && container.policy() == Policy::No {
        container.restart_at = None;
        container.status = Status::Exited;
    }
    Ok(json!({ "Warnings": [] }))
}

fn wait(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let condition = match call.query("condition") {
        "" | "not-running" => WaitFor::NotRunning,
        "next-exit" => WaitFor::NextExit,
        "removed" => WaitFor::Removed,
        other => return Err(ApiError::bad(format_args!("invalid condition: \"{other}\""))),
    };
    let container = engine.container_mut(call.name)?;
    let at_once = condition == WaitFor::NotRunning && !container.is_active();
    container.waiters.push((call.conn, condition));
    let id = container.id.clone();
    // The head goes out now: clients start the container once they have it.
    start_json_stream(engine, call.conn);
    if at_once {
        engine.tell_waiters(&id, false);
    }
    Ok(())
}

fn attach(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    /// Clients that wait for a start.
    const ATTACH_LIMIT: usize = 8;
    let container = engine.container_mut(call.name)?;
    let raw = container.config.flag("Tty");
    let order = json!({
        "op": "attach", "stdin": call.flag("stdin") && container.config.flag("OpenStdin"),
        "stdout": call.flag("stdout"), "stderr": call.flag("stderr"), "raw": raw
    });
    if !call.flag("stream") {
        return Err(ApiError::new(
            501,
            format_args!("attach without stream is not supported by this engine"),
        ));
    }
    let fd = crate::engine::take_connection(engine.server, call.conn, call.connection(), raw)?;
    let container = engine.container_mut(call.name)?;
    if container.is_running() {
        let id = container.id.clone();
        return engine.order(&id, &order, Some(fd.as_fd()));
    }
    if container.attaching.len() < ATTACH_LIMIT {
        container.attaching.push((fd, order));
    }
    Ok(())
}

fn prune(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let filters = call.filters()?;
    let mut doomed = Vec::new();
    for container in &engine.containers {
        let fits = |key: &str, value: &str| {
            key != "label" || super::label_fits(container.config.at("Labels"), value)
        };
        if !container.is_active() && super::filters_fit(&filters, &fits) {
            doomed.push(container.id.clone());
        }
    }
    for id in &doomed {
        engine.remove_now(id, false);
    }
    Ok(json!({ "ContainersDeleted": doomed, "SpaceReclaimed": 0 }))
}
