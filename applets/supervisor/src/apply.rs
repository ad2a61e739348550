//! Doing what was planned.

use crate::compose::Wanted;
use crate::plan::{Create, Id, Step};
use crate::values::text;
use minke_applet::log;
use minke_engine_api::{Engine, Error, Removed, Started, Stopped};
use minke_wire::json::Value;

/// The texts of the system log (spec supervisor, appendix A) go to the journal: owners know them.
fn told(text: &str, object: &str) {
    log::info(format_args!("{text} '{object}'"));
}

fn failed(text: &str, object: &str, error: &Error) {
    log::error(format_args!("{text} '{object}' due to '{error}'"));
}

/// Executes one step. `device_name` is what a new container learns of the device's name.
pub fn execute(engine: &Engine, step: &Step<'_>, device_name: &str) -> Result<(), Error> {
    let (before, after, object) = match step {
        Step::RemoveDead(id) => ("Removing dead container", "Error removing dead container", id.service),
        Step::CreateNetwork(body) => ("Creating network", "Error creating network", text(body, "Name")),
        Step::RemoveNetwork(_, name) => ("Removing network", "Error removing network", *name),
        Step::CreateVolume(body) => ("Creating volume", "Error creating volume", text(body, "Name")),
        Step::RemoveVolume(name) => ("Removing volume", "Error removing volume", *name),
        Step::Kill(id) => return kill(engine, id),
        Step::Start(id) => return start(engine, id.container, id.service),
        Step::Create(create) => return create_container(engine, create, device_name),
        Step::Rename(id, name) => return engine.rename_container(id.container, name),
        Step::Stop(id) => {
            told("Killing service", id.service);
            return engine.stop_container(id.container, id.grace).map(|_| ());
        }
    };
    told(before, object);
    let done = match step {
        Step::RemoveDead(id) => engine.remove_container(id.container, true).map(|_| ()),
        Step::CreateNetwork(body) => engine.create_network(body),
        Step::RemoveNetwork(id, _) => engine.remove_network(id).map(|_| ()),
        Step::CreateVolume(body) => engine.create_volume(body),
        Step::RemoveVolume(name) => engine.remove_volume(name).map(|_| ()),
        // Done above.
        _ => Ok(()),
    };
    done.inspect_err(|error| failed(after, object, error))
}

/// Stops a container and removes it. Its restart policy goes first, so that one that crashes all the time
/// does not come back between the two (§4.8.3).
fn kill(engine: &Engine, id: &Id<'_>) -> Result<(), Error> {
    told("Killing service", id.service);
    let done = engine.clear_restart_policy(id.container).or_else(ignore_missing).and_then(|()| {
        let stopped = engine.stop_container(id.container, id.grace)?;
        if stopped == Stopped::Already {
            told("Service is already stopped, removing container", id.service);
        }
        // With force: what came to life in between is removed all the same.
        engine.remove_container(id.container, true)
    });
    match done {
        Ok(Removed::Now) => told("Killed service", id.service),
        Ok(Removed::Gone) => told("Service is already stopped and the container removed", id.service),
        Err(error) => {
            failed("Failed to kill service", id.service, &error);
            return Err(error);
        }
    }
    Ok(())
}

/// An engine that cannot change the policy, or has no such container, is no reason not to stop it.
fn ignore_missing(error: Error) -> Result<(), Error> {
    if error.status().is_some() { Ok(()) } else { Err(error) }
}

fn create_container(engine: &Engine, create: &Create<'_>, device_name: &str) -> Result<(), Error> {
    let object = format!("{} {}", create.service, create.image);
    for warning in &create.wanted.warnings {
        log::warn(format_args!("service {}: {warning}", create.service));
    }
    told("Installing service", &object);
    let body = create.wanted.create_body(device_name, create.network_of);
    let made = install(engine, create.wanted, &body);
    let id = made.inspect_err(|error| failed("Failed to install service", &object, error))?;
    told("Installed service", &object);
    if create.start { start(engine, &id, &object) } else { Ok(()) }
}

/// Creates a container in all its networks, and returns its id.
fn install(engine: &Engine, wanted: &Wanted, body: &Value) -> Result<String, Error> {
    let id = engine.create_container(&wanted.name, body)?;
    for (network, endpoint) in &wanted.joins {
        engine.connect_network(network, &id, endpoint)?;
    }
    Ok(id)
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
