//! What to do next: a pure function from what is and what should be to steps (spec supervisor §4.3). It has
//! no memory: whatever was interrupted, planning again goes on from there.

mod app;
#[cfg(test)]
mod tests;

use crate::compose::Wanted;
use crate::compose::network::SUPERVISOR_NETWORK;
use minke_engine_api::{Network, Volume};
use minke_wire::json::Value;
use std::time::Duration;

/// What the engine has.
#[derive(Debug, Clone, Default)]
pub struct Current {
    /// Containers of ours.
    pub containers: Vec<Container>,
    /// Networks of ours, and `supervisor0`.
    pub networks: Vec<Network>,
    /// All volumes.
    pub volumes: Vec<Volume>,
}

/// A container of ours.
#[derive(Debug, Clone, Default)]
pub struct Container {
    /// The engine's id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The app's id.
    pub app: i64,
    /// The service's name.
    pub service: String,
    /// The service's id.
    pub service_id: i64,
    /// The engine's state: `created`, `running`, `exited`, …
    pub status: String,
    /// The hash of the config that it was created from; empty when another supervisor created it.
    pub hash: String,
    /// Whether its restart policy asks for another start after it ended as it did.
    pub restarts: bool,
    /// The engine's error of the last start.
    pub error: String,
    /// When it was created, in the engine's words.
    pub created: String,
    /// Whether it was ever started.
    pub has_run: bool,
    /// The networks it is in.
    pub networks: Vec<String>,
    /// The named volumes it mounts.
    pub volumes: Vec<String>,
}

impl Container {
    fn is_up(&self) -> bool {
        matches!(self.status.as_str(), "running" | "paused" | "restarting")
    }
}

/// What should be.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// The apps that can run.
    pub apps: Vec<App>,
    /// Apps that cannot, with the reason: what runs of them stays as it is (§2.8.3).
    pub rejected: Vec<(i64, String)>,
}

/// An app that should run.
#[derive(Debug, Clone)]
pub struct App {
    /// The app's id.
    pub id: i64,
    /// The release.
    pub commit: String,
    /// The services.
    pub services: Vec<Service>,
    /// Its networks by engine name, with the body that creates them.
    pub networks: Vec<(String, Value)>,
    /// Its volumes by engine name, with the body that creates them.
    pub volumes: Vec<(String, Value)>,
}

/// A service that should run.
#[derive(Debug, Clone)]
pub struct Service {
    /// The service's name.
    pub name: String,
    /// The image's reference.
    pub image: String,
    /// The image's id in the engine, if it is there.
    pub image_ready: Option<String>,
    /// Whether it should run, or only be installed.
    pub running: bool,
    /// The container.
    pub wanted: Wanted,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Remove a container that the engine gave up.
    RemoveDead(Id),
    /// Stop a container and remove it.
    Kill(Id),
    /// Stop a container and keep it.
    Stop(Id),
    /// Start a container that exists.
    Start(Id),
    /// Create the container of a service, and start it if it should run.
    Create(Box<Create>),
    /// Give a container whose config is right the name of the new release.
    Rename(Id, String),
    /// Create a network by this body.
    CreateNetwork(Value),
    /// Remove the network with this id and name.
    RemoveNetwork(String, String),
    /// Create a volume by this body.
    CreateVolume(Value),
    /// Remove a volume with its content.
    RemoveVolume(String),
}

/// A container with what a step needs of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// The engine's id.
    pub container: String,
    /// The service's name, for messages.
    pub service: String,
    /// How long it may take to stop.
    pub grace: Duration,
}

/// A container to create.
#[derive(Debug, Clone, PartialEq)]
pub struct Create {
    /// The service's name.
    pub service: String,
    /// The image's reference, for messages.
    pub image: String,
    /// The container.
    pub wanted: Wanted,
    /// The container whose network it shares.
    pub network_of: Option<String>,
    /// Whether to start it.
    pub start: bool,
}

/// The steps of one round, and what is waited for besides.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// What can be done now, in this order.
    pub steps: Vec<Step>,
    /// What keeps the target from being reached, for people.
    pub waiting: Vec<String>,
}

/// Plans one round. `crashed` are ids of containers whose process died and was not stopped by anybody, and
/// whose pause before the next start is over.
pub fn plan(current: &Current, target: &Target, crashed: &[String]) -> Plan {
    let mut plan = Plan::default();
    if !supervisor_network(current, target, &mut plan) {
        return plan;
    }
    for app in &target.apps {
        app::update(current, app, crashed, &mut plan);
    }
    remove_apps(current, target, &mut plan);
    plan
}

/// Brings the supervisor's own network in order. Returns whether planning may go on (§4.3, point 1).
fn supervisor_network(current: &Current, target: &Target, plan: &mut Plan) -> bool {
    let services = || target.apps.iter().flat_map(|app| &app.services);
    if !services().any(|service| service.wanted.supervisor_api) {
        return true;
    }
    let body = crate::compose::network::supervisor_body();
    let found = current.networks.iter().find(|network| network.name == SUPERVISOR_NETWORK);
    if found.is_some_and(|network| crate::compose::network::is_same(&body, network)) {
        return true;
    }
    let Some(network) = found else {
        plan.steps.push(Step::CreateNetwork(body));
        return false;
    };
    let users = current.containers.iter().filter(|container| container.networks.contains(&network.name));
    plan.steps.extend(users.map(|container| Step::Kill(id(container, None))));
    if plan.steps.is_empty() {
        plan.steps.push(Step::RemoveNetwork(network.id.clone(), network.name.clone()));
    }
    false
}

/// Apps that the device has and should not have: first their containers go, then their networks. Their
/// volumes stay: what a person stored is not thrown away because a list changed.
fn remove_apps(current: &Current, target: &Target, plan: &mut Plan) {
    let is_target = |id: i64| {
        target.apps.iter().any(|app| app.id == id)
            || target.rejected.iter().any(|(rejected, _)| *rejected == id)
    };
    let leaving = current.containers.iter().filter(|container| !is_target(container.app));
    plan.steps.extend(leaving.map(|container| Step::Kill(id(container, None))));
    for network in current.networks.iter().filter(|network| network.name != SUPERVISOR_NETWORK) {
        let label = network.labels.iter().find(|(name, _)| name == "io.balena.app-id");
        let app: Option<i64> = label.and_then(|(_, app)| app.parse().ok());
        if app.is_some_and(|app| !is_target(app)) && !is_used(current, network) {
            plan.steps.push(Step::RemoveNetwork(network.id.clone(), network.name.clone()));
        }
    }
}

fn is_used(current: &Current, network: &Network) -> bool {
    current.containers.iter().any(|container| container.networks.contains(&network.name))
}

fn id(container: &Container, wanted: Option<&Wanted>) -> Id {
    Id {
        container: container.id.clone(),
        service: container.service.clone(),
        // A container's own time-out is the engine's to know; this bounds the wait for its answer.
        grace: wanted.map_or(Duration::from_secs(10), |wanted| wanted.grace),
    }
}
