//! One app towards its target (spec supervisor §4.3.1 to §4.3.3, with the default strategy of §4.5: download,
//! then kill).

use super::{App, Container, Create, Current, Plan, Service, Step, id, is_used};
use crate::compose::{network, volume};

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

pub(super) fn update(current: &Current, app: &App, crashed: &[String], plan: &mut Plan) {
    let mut round = Round {
        current,
        app,
        crashed,
        present: Vec::new(),
        disturbed: Vec::new(),
        missing: Vec::new(),
        killed: Vec::new(),
    };
    round.look_at_networks();
    round.look_at_volumes();
    let unready: Vec<&Service> =
        app.services.iter().filter(|service| service.image_ready.is_none()).collect();
    for service in &unready {
        plan.waiting.push(format!("service {} waits for image {}", service.name, service.image));
    }
    round.containers(unready.is_empty(), plan);
    round.networks_and_volumes(plan);
    if unready.is_empty() {
        round.install(plan);
    }
}

impl<'a> Round<'a> {
    fn look_at_networks(&mut self) {
        for (name, body) in &self.app.networks {
            match self.current.networks.iter().find(|network| network.name == *name) {
                Some(found) if network::is_same(body, found) => {}
                Some(_) => {
                    self.disturbed.push(name);
                    self.missing.push(name);
                }
                None => {
                    self.missing.push(name);
                }
            }
        }
        for network in self.unwanted_networks() {
            self.disturbed.push(&network.name);
        }
    }

    fn unwanted_networks(&self) -> impl Iterator<Item = &'a minke_engine_api::Network> + use<'a> {
        let app = self.app;
        let id = app.id.to_string();
        let is_ours = move |network: &&minke_engine_api::Network| {
            network.labels.iter().any(|(name, value)| name == "io.balena.app-id" && *value == id)
        };
        let is_wanted = |name: &str| app.networks.iter().any(|(wanted, _)| wanted == name);
        self.current.networks.iter().filter(is_ours).filter(move |network| !is_wanted(&network.name))
    }

    fn look_at_volumes(&mut self) {
        for (name, body) in &self.app.volumes {
            match self.current.volumes.iter().find(|volume| volume.name == *name) {
                Some(found) if volume::is_same(body, found) => {}
                Some(_) => {
                    self.disturbed.push(name);
                    self.missing.push(name);
                }
                None => {
                    self.missing.push(name);
                }
            }
        }
    }

    /// Steps for containers that exist. `ready`: all images are there, so that something may be killed for
    /// what comes after it.
    fn containers(&mut self, ready: bool, plan: &mut Plan) {
        let app = self.app;
        let mut ours: Vec<&Container> =
            self.current.containers.iter().filter(|container| container.app == app.id).collect();
        // The newest of several containers of one service counts (§4.3.1 c). Engines write times in UTC, so
        // that the texts compare.
        ours.sort_by(|one, other| other.created.cmp(&one.created));
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

    fn pair(&mut self, container: &'a Container, service: &Service, ready: bool, plan: &mut Plan) {
        let wanted = &service.wanted;
        let uses_disturbed = container
            .networks
            .iter()
            .chain(&container.volumes)
            .any(|name| self.disturbed.contains(&name.as_str()));
        if container.hash != wanted.hash || uses_disturbed {
            if ready {
                self.kill(container, Some(service), plan);
            }
            return;
        }
        let own = || id(container, Some(wanted));
        if container.name != wanted.name {
            plan.steps.push(Step::Rename(own(), wanted.name.clone()));
        }
        if !service.running {
            if container.is_up() {
                plan.steps.push(Step::Stop(own()));
            }
        } else if self.should_start(container) && self.dependencies_started(service) {
            plan.steps.push(Step::Start(own()));
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

    fn kill(&mut self, container: &'a Container, service: Option<&Service>, plan: &mut Plan) {
        self.killed.push(&container.id);
        plan.steps.push(Step::Kill(id(container, service.map(|service| &service.wanted))));
    }

    /// Removes what is disturbed once nothing uses it any more, and creates what is missing.
    fn networks_and_volumes(&self, plan: &mut Plan) {
        let current = self.current;
        for network in &current.networks {
            if self.disturbed.contains(&network.name.as_str()) && !is_used(current, network) {
                plan.steps.push(Step::RemoveNetwork(network.id.clone(), network.name.clone()));
            }
        }
        for volume in &current.volumes {
            let used = || current.containers.iter().any(|container| container.volumes.contains(&volume.name));
            if self.disturbed.contains(&volume.name.as_str()) && !used() {
                plan.steps.push(Step::RemoveVolume(volume.name.clone()));
            }
        }
        let is_absent = |name: &str| self.missing.contains(&name) && !self.disturbed.contains(&name);
        for (name, body) in &self.app.networks {
            if is_absent(name) {
                plan.steps.push(Step::CreateNetwork(body.clone()));
            }
        }
        for (name, body) in &self.app.volumes {
            if is_absent(name) {
                plan.steps.push(Step::CreateVolume(body.clone()));
            }
        }
    }

    /// Creates the containers of services that have none (§4.3.3).
    fn install(&self, plan: &mut Plan) {
        for service in &self.app.services {
            let wanted = &service.wanted;
            let is_present = self
                .current
                .containers
                .iter()
                .any(|container| container.app == self.app.id && container.service == service.name);
            let waits = wanted
                .networks
                .iter()
                .chain(&wanted.volumes)
                .any(|name| self.missing.contains(&name.as_str()));
            if is_present || waits || !self.dependencies_started(service) {
                continue;
            }
            plan.steps.push(Step::Create(Box::new(Create {
                service: service.name.clone(),
                image: service.image.clone(),
                wanted: wanted.clone(),
                network_of: wanted.network_of.as_ref().and_then(|name| self.container_of(name)),
                start: service.running,
            })));
        }
    }

    /// A dependency has started when it runs or has run: one that did its work once and ended counts.
    fn dependencies_started(&self, service: &Service) -> bool {
        service.wanted.depends_on.iter().all(|name| {
            self.present.iter().any(|container| {
                container.service == *name
                    && !self.killed.contains(&container.id.as_str())
                    && (container.is_up() || container.has_run)
            })
        })
    }

    fn container_of(&self, service: &str) -> Option<String> {
        self.present
            .iter()
            .find(|container| container.service == service)
            .map(|container| container.id.clone())
    }
}
