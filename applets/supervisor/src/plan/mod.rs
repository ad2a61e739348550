//! What to do next: a pure function from what is and what should be to steps (spec supervisor §4.3). It has
//! no memory: whatever was interrupted, planning again goes on from there.

mod app;
#[cfg(test)]
mod tests;

use crate::compose::Wanted;
use crate::compose::network::{self, SUPERVISOR_NETWORK};
use minke_engine_api::{Network, Volume};
use minke_wire::json::Value;
use std::borrow::Cow;
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
    /// The name of its restart policy.
    pub policy: String,
    /// Whether that asks for another start after it ended as it did.
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
    pub wanted: Box<Wanted>,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Step<'a> {
    /// Remove a container that the engine gave up.
    RemoveDead(Id<'a>),
    /// Stop a container and remove it.
    Kill(Id<'a>),
    /// Stop a container and keep it.
    Stop(Id<'a>),
    /// Start a container that exists.
    Start(Id<'a>),
    /// Create the container of a service, and start it if it should run.
    Create(Create<'a>),
    /// Give a container whose config is right the name of the new release.
    Rename(Id<'a>, &'a str),
    /// Create a network by this body.
    CreateNetwork(Cow<'a, Value>),
    /// Remove the network with this id and name.
    RemoveNetwork(&'a str, &'a str),
    /// Create a volume by this body.
    CreateVolume(&'a Value),
    /// Remove a volume with its content.
    RemoveVolume(&'a str),
}

/// A container with what a step needs of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id<'a> {
    /// The engine's id.
    pub container: &'a str,
    /// The service's name, for messages.
    pub service: &'a str,
    /// How long it may take to stop.
    pub grace: Duration,
}

/// A container to create.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Create<'a> {
    /// The service's name.
    pub service: &'a str,
    /// The image's reference, for messages.
    pub image: &'a str,
    /// The container.
    pub wanted: &'a Wanted,
    /// The container whose network it shares.
    pub network_of: Option<&'a str>,
    /// Whether to start it.
    pub start: bool,
}

/// The steps of one round, and what is waited for besides.
#[derive(Debug, Default, PartialEq)]
pub struct Plan<'a> {
    /// What can be done now, in this order.
    pub steps: Vec<Step<'a>>,
    /// What keeps the target from being reached, for people.
    pub waiting: Vec<String>,
}

impl<'a> Plan<'a> {
    fn kill(&mut self, container: &'a Container) {
        self.steps.push(Step::Kill(id(container, None)));
    }

    fn remove_network(&mut self, network: &'a Network) {
        self.steps.push(Step::RemoveNetwork(&network.id, &network.name));
    }
}

/// Plans one round. `crashed` are ids of containers whose process died and was not stopped by anybody, and
/// whose pause before the next start is over.
pub fn plan<'a>(current: &'a Current, target: &'a Target, crashed: &'a [String]) -> Plan<'a> {
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
fn supervisor_network<'a>(current: &'a Current, target: &Target, plan: &mut Plan<'a>) -> bool {
    let needs = |app: &App| app.services.iter().any(|service| service.wanted.supervisor_api);
    if !target.apps.iter().any(needs) {
        return true;
    }
    let body = network::supervisor_body();
    let Some(found) = current.networks.iter().find(|found| found.name == SUPERVISOR_NETWORK) else {
        plan.steps.push(Step::CreateNetwork(Cow::Owned(body)));
        return false;
    };
    if network::is_same(&body, found) {
        return true;
    }
    for container in &current.containers {
        if container.networks.contains(&found.name) {
            plan.kill(container);
        }
    }
    if plan.steps.is_empty() {
        plan.remove_network(found);
    }
    false
}

/// Apps that the device has and should not have: first their containers go, then their networks. Their
/// volumes stay: what a person stored is not thrown away because a list changed.
fn remove_apps<'a>(current: &'a Current, target: &Target, plan: &mut Plan<'a>) {
    let is_target = |id: i64| {
        target.apps.iter().any(|app| app.id == id)
            || target.rejected.iter().any(|(rejected, _)| *rejected == id)
    };
    for container in &current.containers {
        if !is_target(container.app) {
            plan.kill(container);
        }
    }
    for network in &current.networks {
        let app = app_of(network).and_then(minke_wire::text::number);
        let leaves = app.is_some_and(|app| !is_target(app));
        if leaves && network.name != SUPERVISOR_NETWORK && !is_used(current, network) {
            plan.remove_network(network);
        }
    }
}

/// The id of the app that a network belongs to.
fn app_of(network: &Network) -> Option<&str> {
    let label = network.labels.iter().find(|(name, _)| name == "io.balena.app-id");
    label.map(|(_, app)| app.as_str())
}

fn is_used(current: &Current, network: &Network) -> bool {
    current.containers.iter().any(|container| container.networks.contains(&network.name))
}

fn id<'a>(container: &'a Container, wanted: Option<&Wanted>) -> Id<'a> {
    Id {
        container: &container.id,
        service: &container.service,
        // A container's own time-out is the engine's to know; this bounds the wait for its answer.
        grace: wanted.map_or(Duration::from_secs(10), |wanted| wanted.grace),
    }
}
