//! Doing what was planned.

use crate::plan::{Create, Id, Step};
use minke_applet::log;
use minke_engine_api::{Engine, Error, Removed, Started, Stopped};

/// The texts of the system log (spec supervisor, appendix A) go to the journal: owners know them.
fn told(text: &str, object: &str) {
    log::info(format_args!("{text} '{object}'"));
}

fn failed(text: &str, object: &str, error: &Error) {
    log::error(format_args!("{text} '{object}' due to '{error}'"));
}

/// Executes one step. `device_name` is what a new container learns of the device's name.
pub fn execute(engine: &Engine, step: &Step, device_name: &str) -> Result<(), Error> {
    match step {
        Step::RemoveDead(id) => {
            named("Removing dead container", "Error removing dead container", &id.service, &|| {
                engine.remove_container(&id.container, true).map(|_| ())
            })
        }
        Step::Kill(id) => kill(engine, id),
        Step::Stop(id) => {
            told("Killing service", &id.service);
            engine.stop_container(&id.container, id.grace).map(|_| ())
        }
        Step::Start(id) => start(engine, &id.container, &id.service),
        Step::Create(create) => create_container(engine, create, device_name),
        Step::Rename(id, name) => engine.rename_container(&id.container, name),
        Step::CreateNetwork(body) => {
            let name = text(body, "Name");
            named("Creating network", "Error creating network", name, &|| engine.create_network(body))
        }
        Step::RemoveNetwork(id, name) => named("Removing network", "Error removing network", name, &|| {
            engine.remove_network(id).map(|_| ())
        }),
        Step::CreateVolume(body) => {
            let name = text(body, "Name");
            named("Creating volume", "Error creating volume", name, &|| engine.create_volume(body))
        }
        Step::RemoveVolume(name) => named("Removing volume", "Error removing volume", name, &|| {
            engine.remove_volume(name).map(|_| ())
        }),
    }
}

fn text<'a>(body: &'a minke_wire::json::Value, key: &str) -> &'a str {
    body.get(key).and_then(minke_wire::json::Value::as_str).unwrap_or_default()
}

fn named(before: &str, after: &str, object: &str, act: &dyn Fn() -> Result<(), Error>) -> Result<(), Error> {
    told(before, object);
    act().inspect_err(|error| failed(after, object, error))
}

/// Stops a container and removes it. Its restart policy goes first, so that one that crashes all the time
/// does not come back between the two (§4.8.3).
fn kill(engine: &Engine, id: &Id) -> Result<(), Error> {
    told("Killing service", &id.service);
    let done = engine.clear_restart_policy(&id.container).or_else(ignore_missing).and_then(|()| {
        let stopped = engine.stop_container(&id.container, id.grace)?;
        if stopped == Stopped::Already {
            told("Service is already stopped, removing container", &id.service);
        }
        // With force: what came to life in between is removed all the same.
        engine.remove_container(&id.container, true)
    });
    match done {
        Ok(Removed::Now) => told("Killed service", &id.service),
        Ok(Removed::Gone) => told("Service is already stopped and the container removed", &id.service),
        Err(error) => {
            failed("Failed to kill service", &id.service, &error);
            return Err(error);
        }
    }
    Ok(())
}

/// An engine that cannot change the policy, or has no such container, is no reason not to stop it.
fn ignore_missing(error: Error) -> Result<(), Error> {
    if error.status().is_some() { Ok(()) } else { Err(error) }
}

fn create_container(engine: &Engine, create: &Create, device_name: &str) -> Result<(), Error> {
    let object = format!("{} {}", create.service, create.image);
    for warning in &create.wanted.warnings {
        log::warn(format_args!("service {}: {warning}", create.service));
    }
    told("Installing service", &object);
    let body = create.wanted.create_body(device_name, create.network_of.as_deref());
    let made = engine.create_container(&create.wanted.name, &body).and_then(|id| {
        for (network, endpoint) in &create.wanted.joins {
            engine.connect_network(network, &id, endpoint)?;
        }
        Ok(id)
    });
    let id = made.inspect_err(|error| failed("Failed to install service", &object, error))?;
    told("Installed service", &object);
    if create.start { start(engine, &id, &object) } else { Ok(()) }
}

fn start(engine: &Engine, id: &str, object: &str) -> Result<(), Error> {
    told("Starting service", object);
    match engine.start_container(id) {
        Ok(Started::Now) => told("Started service", object),
        Ok(Started::Already) => {}
        Err(error) => {
            failed("Failed to start service", object, &error);
            return Err(error);
        }
    }
    Ok(())
}
