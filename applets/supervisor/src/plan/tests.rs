use super::*;
use minke_wire::json::json;

/// An app of services with their dependencies; all images are there.
fn target(services: &[(&str, &[&str])]) -> Target {
    let composition = |needs: &[&str]| json!({ "depends_on": needs, "volumes": ["data:/data"] });
    let all: minke_wire::json::Map = services
        .iter()
        .map(|(name, needs)| {
            let service = json!({ "id": 1, "image_id": 2, "image": *name, "environment": {}, "labels": {},
                "composition": composition(needs) });
            ((*name).to_owned(), service)
        })
        .collect();
    let value = json!({ "id": 7, "name": "a", "releases": { "c1": { "id": 3, "services": all,
        "volumes": { "data": {} } } } });
    let app = crate::target::app("u", &value).unwrap();
    let release = app.release.as_ref().unwrap();
    let device = crate::compose::Device::sample();
    let service = |service: &crate::target::Service| Service {
        name: service.name.clone(),
        image: service.image.clone(),
        image_ready: Some("id".into()),
        running: true,
        wanted: crate::compose::container(&app, release, service, None, &device, "").unwrap(),
    };
    let volumes = release.volumes.iter().map(|(name, config)| {
        (crate::compose::volume::name(app.id, name), crate::compose::volume::body(&app, name, config))
    });
    Target {
        apps: vec![App {
            id: 7,
            commit: "c1".into(),
            services: release.services.iter().map(service).collect(),
            networks: crate::compose::network::bodies(&app, release),
            volumes: volumes.collect(),
        }],
        rejected: vec![],
    }
}

/// An engine that does every step as told; so that a test can see where planning ends.
#[derive(Default)]
struct World {
    current: Current,
    clock: u32,
}

impl World {
    fn execute(&mut self, step: &Step<'_>) {
        let gone = |list: &mut Vec<Container>, id: &str| list.retain(|container| container.id != id);
        let find = |current: &mut Current, id: &str| {
            let place = current.containers.iter().position(|container| container.id == id).unwrap();
            std::mem::take(&mut current.containers[place])
        };
        match step {
            Step::RemoveDead(id) | Step::Kill(id) => gone(&mut self.current.containers, id.container),
            Step::Stop(id) | Step::Start(id) => {
                let start = matches!(step, Step::Start(_));
                let mut container = find(&mut self.current, id.container);
                gone(&mut self.current.containers, "");
                container.status = if start { "running" } else { "exited" }.into();
                container.has_run |= start;
                self.current.containers.push(container);
            }
            Step::Rename(id, name) => {
                let mut container = find(&mut self.current, id.container);
                gone(&mut self.current.containers, "");
                (*name).clone_into(&mut container.name);
                self.current.containers.push(container);
            }
            Step::Create(create) => {
                for volume in &create.wanted.volumes {
                    assert!(
                        self.current.volumes.iter().any(|found| found.name == *volume),
                        "no volume {volume}"
                    );
                }
                self.clock += 1;
                self.current.containers.push(Container {
                    id: format!("id{}", self.clock),
                    name: create.wanted.name.clone(),
                    app: 7,
                    service: create.service.into(),
                    status: if create.start { "running" } else { "created" }.into(),
                    has_run: create.start,
                    hash: create.wanted.hash.clone(),
                    policy: create.wanted.policy().into(),
                    created: format!("2026-01-01T00:00:{:02}Z", self.clock),
                    networks: create.wanted.networks.clone(),
                    volumes: create.wanted.volumes.clone(),
                    ..Container::default()
                });
            }
            Step::CreateNetwork(body) => {
                let body: &Value = body;
                let labels = crate::compose::volume::sorted(body.get("Labels"));
                let options = crate::compose::volume::sorted(body.get("Options"));
                let pools =
                    body.pointer("/IPAM/Config").and_then(Value::as_array).cloned().unwrap_or_default();
                let text = |pool: &Value, key: &str| pool[key].as_str().unwrap_or_default().to_owned();
                self.current.networks.push(Network {
                    id: body["Name"].to_string(),
                    name: body["Name"].as_str().unwrap().into(),
                    driver: "bridge".into(),
                    labels,
                    options,
                    pools: pools
                        .iter()
                        .map(|p| [text(p, "Subnet"), text(p, "Gateway"), text(p, "IPRange")])
                        .collect(),
                    ..Network::default()
                });
            }
            Step::RemoveNetwork(id, _) => {
                assert!(
                    !self
                        .current
                        .containers
                        .iter()
                        .any(|found| found.networks.iter().any(|name| id.contains(name)))
                );
                self.current.networks.retain(|network| network.id != *id);
            }
            Step::CreateVolume(body) => self.current.volumes.push(Volume {
                name: body["Name"].as_str().unwrap().into(),
                driver: "local".into(),
                labels: crate::compose::volume::sorted(body.get("Labels")),
                options: vec![],
            }),
            Step::RemoveVolume(name) => self.current.volumes.retain(|volume| volume.name != *name),
        }
    }

    /// Rounds until nothing is left to do; the kinds of steps in order.
    fn settle(&mut self, target: &Target) -> Vec<String> {
        let mut log = Vec::new();
        for _ in 0..20 {
            let current = self.current.clone();
            let plan = plan(&current, target, &[]);
            if plan.steps.is_empty() {
                return log;
            }
            for step in &plan.steps {
                let text = format!("{step:?}");
                let kind = text.split(['(', ' ']).next().unwrap().to_owned();
                log.push(match step {
                    Step::Create(create) => format!("{kind} {}", create.service),
                    Step::Kill(id) | Step::Start(id) | Step::Stop(id) | Step::Rename(id, _) => {
                        format!("{kind} {}", id.service)
                    }
                    _ => kind,
                });
                self.execute(step);
            }
        }
        panic!("does not settle: {log:?}");
    }

    fn status(&mut self, service: &str, status: &str) {
        let found = self.current.containers.iter_mut().find(|container| container.service == service);
        found.unwrap().status = status.into();
    }
}

#[test]
fn an_empty_engine_gets_everything_in_order() {
    let (mut world, target) = (World::default(), target(&[("web", &["db"]), ("db", &[])]));
    let log = world.settle(&target);
    assert_eq!(log, ["CreateNetwork", "CreateVolume", "Create db", "Create web"]);
    assert!(world.settle(&target).is_empty());
}

#[test]
fn whatever_step_is_the_last_before_a_cut_planning_goes_on_from_there() {
    let target = target(&[("web", &["db"]), ("db", &[])]);
    for cut in 0..6 {
        let mut world = World::default();
        let mut done = 0;
        'rounds: loop {
            let current = world.current.clone();
            let plan = plan(&current, &target, &[]);
            if plan.steps.is_empty() {
                break;
            }
            for step in &plan.steps {
                if done == cut {
                    break 'rounds;
                }
                world.execute(step);
                done += 1;
            }
        }
        world.settle(&target);
        assert_eq!(world.current.containers.len(), 2, "cut after {cut}");
        assert!(world.current.containers.iter().all(|container| container.status == "running"));
    }
}

#[test]
fn a_changed_config_replaces_the_container_and_a_new_release_alone_renames_it() {
    let old = target(&[("web", &[]), ("db", &[])]);
    let mut world = World::default();
    world.settle(&old);
    let mut new = old.clone();
    new.apps[0].services[0].wanted.hash = "other".into();
    new.apps[0].services[1].wanted.name = "db_2_4_c2".into();
    assert_eq!(world.settle(&new), ["Rename db", "Kill web", "Create web"]);
}

#[test]
fn nothing_is_killed_before_all_images_are_there() {
    let old = target(&[("web", &[]), ("db", &[])]);
    let mut world = World::default();
    world.settle(&old);
    let mut new = old.clone();
    new.apps[0].services[0].wanted.hash = "other".into();
    new.apps[0].services[1].image_ready = None;
    let waiting = plan(&world.current, &new, &[]);
    assert_eq!((waiting.steps.len(), waiting.waiting.len()), (0, 1));
}

#[test]
fn stopped_containers_stay_stopped_and_those_that_died_or_could_not_start_do_not() {
    let target = target(&[("web", &[])]);
    let mut world = World::default();
    world.settle(&target);
    world.status("web", "exited");
    assert!(world.settle(&target).is_empty());
    let crashed = [world.current.containers[0].id.clone()];
    assert!(plan(&world.current, &target, &crashed).steps.is_empty(), "its policy is no");
    world.current.containers[0].restarts = true;
    assert!(matches!(plan(&world.current, &target, &crashed).steps[..], [Step::Start(_)]));
    world.current.containers[0].error = "userland proxy: cannot assign requested address".into();
    assert_eq!(world.settle(&target), ["Start web"]);
    world.status("web", "created");
    assert_eq!(world.settle(&target), ["Start web"]);
    world.status("web", "restarting");
    assert!(world.settle(&target).is_empty());
}

#[test]
fn a_power_cut_in_a_kill_leaves_no_container_without_its_policy() {
    let mut target = target(&[("web", &[])]);
    target.apps[0].services[0].wanted.body =
        minke_wire::json::json!({ "HostConfig": { "RestartPolicy": { "Name": "always" } } });
    let mut world = World::default();
    world.settle(&target);
    // The policy is gone and the container not; another version of the OS, whose config is the container's, comes up.
    world.current.containers[0].policy = "no".into();
    world.status("web", "exited");
    assert_eq!(world.settle(&target), ["Kill web", "Create web"]);
    assert!(world.settle(&target).is_empty());
}

#[test]
fn a_service_that_should_only_be_installed_is_stopped_and_not_started() {
    let mut target = target(&[("web", &[])]);
    let mut world = World::default();
    world.settle(&target);
    target.apps[0].services[0].running = false;
    assert_eq!(world.settle(&target), ["Stop web"]);
    world.current.containers.clear();
    assert_eq!(world.settle(&target), ["Create web"]);
    assert_eq!(world.current.containers[0].status, "created");
}

#[test]
fn duplicates_dead_containers_and_strangers_go() {
    let target = target(&[("web", &[])]);
    let mut world = World::default();
    world.settle(&target);
    let old = Container { id: "old".into(), created: "2025".into(), ..world.current.containers[0].clone() };
    let dead = Container { id: "dead".into(), status: "dead".into(), ..old.clone() };
    let stranger = Container { id: "other".into(), service: "gone".into(), ..old.clone() };
    world.current.containers.extend([old, dead, stranger]);
    let mut log = world.settle(&target);
    log.sort();
    assert_eq!(log, ["Kill gone", "Kill web", "RemoveDead"]);
    assert_eq!(world.current.containers.len(), 1);
}

#[test]
fn a_changed_network_takes_its_users_with_it_and_comes_back() {
    let mut target = target(&[("web", &[])]);
    let mut world = World::default();
    world.settle(&target);
    target.apps[0].networks[0].1["Internal"] = json!(true);
    let log: Vec<String> = {
        let first = plan(&world.current, &target, &[]);
        first.steps.iter().map(|step| format!("{step:?}")).collect()
    };
    assert!(log[0].starts_with("Kill") && log.len() == 1, "{log:?}");
    world.current.containers.clear();
    let current = world.current.clone();
    let second = plan(&current, &target, &[]);
    assert!(matches!(second.steps[..], [Step::RemoveNetwork(..)]));
    world.execute(&second.steps[0]);
    let third = plan(&world.current, &target, &[]);
    assert!(matches!(third.steps[..], [Step::CreateNetwork(_)]));
}

#[test]
fn an_app_that_left_goes_with_its_networks_but_keeps_its_volumes() {
    let mut world = World::default();
    world.settle(&target(&[("web", &[])]));
    assert_eq!(world.settle(&Target::default()), ["Kill web", "RemoveNetwork"]);
    assert_eq!(world.current.volumes.len(), 1);
}

#[test]
fn a_rejected_app_stays_as_it_is() {
    let mut world = World::default();
    world.settle(&target(&[("web", &[])]));
    let target = Target { apps: vec![], rejected: vec![(7, "bad port".into())] };
    assert!(world.settle(&target).is_empty());
    assert_eq!(world.current.containers.len(), 1);
}

#[test]
fn the_supervisors_network_comes_first() {
    let mut target = target(&[("web", &[])]);
    target.apps[0].services[0].wanted.supervisor_api = true;
    let mut world = World::default();
    let log = world.settle(&target);
    assert_eq!(log, ["CreateNetwork", "CreateNetwork", "CreateVolume", "Create web"]);
    assert_eq!(world.current.networks[0].name, SUPERVISOR_NETWORK);
    world.current.networks[0].options.clear();
    let log = world.settle(&target);
    assert_eq!(log, ["RemoveNetwork", "CreateNetwork"]);
}
