//! One app towards its target (spec supervisor §4.3.1 to §4.3.3, with the default strategy of §4.5: download,
//! then kill).

use super::{App, Container, Create, Current, Plan, Service, Step, id, is_used};
use crate::compose::{Wanted, network, volume};
use std::borrow::Cow;

/// What is known while one app is planned.
struct Round<'a> {
    current: &'a Current,
    app: &'a App,
    crashed: &'a [String],
    /// The app's containers, without those that are superfluous.
    present: Vec<&'a Container>,
    /// Networks and volumes that must go before they come anew: their users are killed.
    disturbed: Vec<&'a str>,
    /// Networks and volumes that do not exist as they should.
    missing: Vec<&'a str>,
    /// Ids of containers that this round kills.
    killed: Vec<&'a str>,
}

pub(super) fn update<'a>(current: &'a Current, app: &'a App, crashed: &'a [String], plan: &mut Plan<'a>) {
    let mut round = Round {
        current,
        app,
        crashed,
        present: Vec::new(),
        disturbed: Vec::new(),
        missing: Vec::new(),
        killed: Vec::new(),
    };
    round.look();
    let mut ready = true;
    for service in &app.services {
        if service.image_ready.is_none() {
            ready = false;
            plan.waiting.push(format!("service {} waits for image {}", service.name, service.image));
        }
    }
    round.containers(ready, plan);
    round.networks_and_volumes(plan);
    if ready {
        round.install(plan);
    }
}

impl<'a> Round<'a> {
    /// Looks at networks and volumes.
    fn look(&mut self) {
        let (current, app) = (self.current, self.app);
        for (name, body) in &app.networks {
            let found = current.networks.iter().find(|network| network.name == *name);
            self.note(name, found.map(|found| network::is_same(body, found)));
        }
        let id = app.id.to_string();
        for network in &current.networks {
            let is_wanted = app.networks.iter().any(|(wanted, _)| *wanted == network.name);
            if !is_wanted && super::app_of(network) == Some(&id) {
                self.disturbed.push(&network.name);
            }
        }
        for (name, body) in &app.volumes {
            let found = current.volumes.iter().find(|volume| volume.name == *name);
            self.note(name, found.map(|found| volume::is_same(body, found)));
        }
    }

    /// Notes a network or volume: whether the one that exists is as it should be.
    fn note(&mut self, name: &'a str, found: Option<bool>) {
        if found == Some(false) {
            self.disturbed.push(name);
        }
        if found != Some(true) {
            self.missing.push(name);
        }
    }

    /// Steps for containers that exist. `ready`: all images are there, so that something may be killed for
    /// what comes after it.
    fn containers(&mut self, ready: bool, plan: &mut Plan<'a>) {
        let app = self.app;
        // The newest of several containers of one service counts (§4.3.1 c). Engines write times in UTC, so
        // that the texts compare.
        let mut ours: Vec<&'a Container> = Vec::new();
        for container in &self.current.containers {
            if container.app == app.id {
                let place = ours.partition_point(|other| other.created >= container.created);
                ours.insert(place, container);
            }
        }
        for container in ours {
            let service = app.services.iter().find(|service| service.name == container.service);
            let extra = self.present.iter().any(|other| other.service == container.service);
            match (container.status.as_str(), service) {
                ("dead", _) => plan.steps.push(Step::RemoveDead(id(container, None))),
                ("removing", _) => {}
                (_, Some(service)) if !extra => {
                    self.present.push(container);
                    self.pair(container, service, ready, plan);
                }
                _ => self.kill(container, None, plan),
            }
        }
    }

    fn pair(&mut self, container: &'a Container, service: &'a Service, ready: bool, plan: &mut Plan<'a>) {
        let wanted = &service.wanted;
        let disturbed = &self.disturbed;
        // A kill takes the policy away first: a power cut right after it leaves a container that nobody starts again.
        if container.hash != wanted.hash
            || policy(&container.policy) != policy(wanted.policy())
            || any(disturbed, &container.networks)
            || any(disturbed, &container.volumes)
        {
            if ready {
                self.kill(container, Some(wanted), plan);
            }
            return;
        }
        let id = id(container, Some(wanted));
        if container.name != wanted.name {
            plan.steps.push(Step::Rename(id, &wanted.name));
        }
        if !service.running {
            if container.is_up() {
                plan.steps.push(Step::Stop(id));
            }
        } else if self.should_start(container) && self.dependencies_started(service) {
            plan.steps.push(Step::Start(id));
        }
    }

    /// A container that ran and ended is started again by the engine's policy, and stays stopped when a person
    /// stopped it (§4.3.1 d). What is left: one that never ran, one that the engine could not start, and one
    /// that died by itself and that the engine has not brought back.
    fn should_start(&self, container: &Container) -> bool {
        match container.status.as_str() {
            "created" => true,
            "exited" => {
                !container.error.is_empty() || (container.restarts && self.crashed.contains(&container.id))
            }
            _ => false,
        }
    }

    fn kill(&mut self, container: &'a Container, wanted: Option<&Wanted>, plan: &mut Plan<'a>) {
        self.killed.push(&container.id);
        plan.steps.push(Step::Kill(id(container, wanted)));
    }

    /// Removes what is disturbed once nothing uses it any more, and creates what is missing.
    fn networks_and_volumes(&self, plan: &mut Plan<'a>) {
        let current = self.current;
        for network in &current.networks {
            if self.disturbed.contains(&network.name.as_str()) && !is_used(current, network) {
                plan.remove_network(network);
            }
        }
        for volume in &current.volumes {
            let is_user = |container: &Container| container.volumes.contains(&volume.name);
            if self.disturbed.contains(&volume.name.as_str()) && !current.containers.iter().any(is_user) {
                plan.steps.push(Step::RemoveVolume(&volume.name));
            }
        }
        let is_absent = |name: &str| self.missing.contains(&name) && !self.disturbed.contains(&name);
        for (name, body) in &self.app.networks {
            if is_absent(name) {
                plan.steps.push(Step::CreateNetwork(Cow::Borrowed(body)));
            }
        }
        for (name, body) in &self.app.volumes {
            if is_absent(name) {
                plan.steps.push(Step::CreateVolume(body));
            }
        }
    }

    /// Creates the containers of services that have none (§4.3.3).
    fn install(&self, plan: &mut Plan<'a>) {
        for service in &self.app.services {
            let wanted: &Wanted = &service.wanted;
            let is_its =
                |container: &Container| container.app == self.app.id && container.service == service.name;
            if !self.current.containers.iter().any(is_its)
                && !any(&self.missing, &wanted.networks)
                && !any(&self.missing, &wanted.volumes)
                && self.dependencies_started(service)
            {
                let network_of = wanted.network_of.as_ref().and_then(|name| self.present(name));
                plan.steps.push(Step::Create(Create {
                    service: &service.name,
                    image: &service.image,
                    wanted,
                    network_of: network_of.map(|container| container.id.as_str()),
                    start: service.running,
                }));
            }
        }
    }

    /// A dependency has started when it runs or has run: one that did its work once and ended counts.
    fn dependencies_started(&self, service: &Service) -> bool {
        service.wanted.depends_on.iter().all(|name| {
            self.present(name).is_some_and(|container| {
                !self.killed.contains(&container.id.as_str()) && (container.is_up() || container.has_run)
            })
        })
    }

    /// The container of a service.
    fn present(&self, service: &str) -> Option<&'a Container> {
        self.present.iter().find(|container| container.service == service).copied()
    }
}

/// Whether one of the names is in the list.
fn any(list: &[&str], names: &[String]) -> bool {
    names.iter().any(|name| list.contains(&name.as_str()))
}

/// A restart policy's name; no name is that of none.
fn policy(name: &str) -> &str {
    if name.is_empty() { "no" } else { name }
}
