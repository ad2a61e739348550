//! What the engine has of ours, and what the stored target means for it.

use crate::compose::network::SUPERVISOR_NETWORK;
use crate::compose::{self, Device, HASH_LABEL, SUPERVISED};
use crate::failure::Failure;
use crate::plan::{self, Container, Current, Target};
use crate::state::State;
use crate::target::{App, Release};
use minke_engine_api::{Engine, Error};

/// The label that the engine's containers had years ago.
const OLD_SUPERVISED: &str = "io.resin.supervised";

/// The app of the supervisor itself, per architecture (spec supervisor §3.9.2): it is part of this system,
/// so nothing of it is run in a container.
const SUPERVISOR_APPS: [&str; 5] = [
    "52e35121417640b1b28a680504e4039b",
    "900de4f3cbac4b9bbd232885a35e407b",
    "2e66a95795c149959c69472a8c2f92b8",
    "531b357e155c480cbec0fdd33041a1f5",
    "6822565f766e413e96d9bebe2227cdcc",
];

/// Reads what the engine has.
pub fn current(engine: &Engine) -> Result<Current, Error> {
    let mut current = Current::default();
    for label in [SUPERVISED, OLD_SUPERVISED] {
        for summary in engine.containers(&[label])? {
            if current.containers.iter().any(|known| known.id == summary.id) {
                continue;
            }
            // One that is gone since the list was made is no error.
            if let Some(found) = engine.inspect_container(&summary.id)? {
                current.containers.extend(container(found));
            }
        }
    }
    for (labels, only) in [(&[SUPERVISED][..], ""), (&[], SUPERVISOR_NETWORK)] {
        for (name, id) in engine.networks(labels)? {
            if only.is_empty() || name == only {
                current.networks.extend(engine.inspect_network(&id)?);
            }
        }
    }
    current.volumes = engine.volumes()?;
    Ok(current)
}

/// A label of the supervisor's under its new or its old name.
fn label<'a>(found: &'a minke_engine_api::Container, name: &str) -> Option<&'a str> {
    let of = |prefix: &str| found.label(&format!("{prefix}{name}"));
    of("io.balena.").or_else(|| of("io.resin."))
}

/// One without the labels that say whose it is was not made by a supervisor: it is left alone (§3.8.1).
fn container(found: minke_engine_api::Container) -> Option<Container> {
    Some(Container {
        app: minke_wire::text::number(label(&found, "app-id")?)?,
        service: label(&found, "service-name")?.to_owned(),
        service_id: label(&found, "service-id").and_then(minke_wire::text::number).unwrap_or(0),
        hash: found.label(HASH_LABEL).unwrap_or_default().to_owned(),
        has_run: found.has_run(),
        restarts: match found.restart_policy.as_str() {
            "always" | "unless-stopped" => true,
            "on-failure" => found.exit_code != 0,
            _ => false,
        },
        policy: found.restart_policy,
        id: found.id,
        name: found.name,
        status: found.status,
        error: found.error,
        created: found.created,
        networks: found.networks,
        volumes: found.volumes,
    })
}

/// Works out what should be from the stored target, with what the engine knows of the images. An app that
/// cannot be run is rejected with its reason, and the others are not held up by it.
pub fn target(state: &mut State, source: &str, engine: &Engine, device: &Device) -> Result<Target, Failure> {
    let mut target = Target::default();
    for (raw, checked) in state.apps(source) {
        match checked {
            Err(problems) => {
                let id = raw.get("id").and_then(crate::values::int).unwrap_or(-1);
                target.rejected.push((id, problems.join("; ")));
            }
            Ok(app) if app.is_host || SUPERVISOR_APPS.contains(&app.uuid.as_str()) => {}
            Ok(app) => {
                if let Some(release) = &app.release {
                    resolve(state, &app, release, engine, device, &mut target)?;
                }
            }
        }
    }
    Ok(target)
}

/// Adds an app to the target, or to what is rejected.
fn resolve(
    state: &mut State,
    app: &App,
    release: &Release,
    engine: &Engine,
    device: &Device,
    target: &mut Target,
) -> Result<(), Failure> {
    let mut services = Vec::new();
    let mut problem = None;
    for service in &release.services {
        let image = engine.inspect_image(&service.image)?;
        let mut key = String::new();
        if compose::wants_key(service) {
            key = state.key(app.id, Some(&service.name))?;
        }
        match compose::container(app, release, service, image.as_ref(), device, &key) {
            Ok(wanted) => services.push(plan::Service {
                name: service.name.clone(),
                image: service.image.clone(),
                image_ready: image.map(|image| image.id),
                running: service.running,
                wanted,
            }),
            Err(reason) => {
                problem = Some(format!("service {}: {reason}", service.name));
                break;
            }
        }
    }
    if let Some(reason) = problem.or_else(|| dependency_problem(&services)) {
        target.rejected.push((app.id, reason));
        return Ok(());
    }
    let mut volumes = Vec::new();
    for (name, config) in &release.volumes {
        volumes.push((compose::volume::name(app.id, name), compose::volume::body(app, name, config)));
    }
    target.apps.push(plan::App {
        id: app.id,
        commit: release.commit.clone(),
        networks: compose::network::bodies(app, release),
        volumes,
        services,
    });
    Ok(())
}

/// Dependencies that can never be met: a service that does not exist, or a cycle (§4.3.6).
fn dependency_problem(services: &[plan::Service]) -> Option<String> {
    let mut started: Vec<&str> = Vec::new();
    loop {
        let before = started.len();
        for service in services {
            if service.wanted.depends_on.iter().all(|name| started.contains(&name.as_str()))
                && !started.contains(&service.name.as_str())
            {
                started.push(&service.name);
            }
        }
        if started.len() == before {
            break;
        }
    }
    let stuck = services.iter().find(|service| !started.contains(&service.name.as_str()))?;
    let missing =
        stuck.wanted.depends_on.iter().find(|name| !services.iter().any(|other| other.name == **name));
    Some(match missing {
        Some(name) => {
            format!("service {}: depends on {name}, which is no service of the release", stuck.name)
        }
        None => format!("service {}: depends on itself through others", stuck.name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    fn services(list: &[(&str, &[&str])]) -> Vec<plan::Service> {
        let entry = |(name, needs): &(&str, &[&str])| {
            let service = json!({ "id": 1, "image_id": 2, "image": "i", "environment": {}, "labels": {},
                "composition": { "depends_on": needs } });
            ((*name).to_owned(), service)
        };
        let all: minke_wire::json::Map = list.iter().map(entry).collect();
        let value = json!({ "id": 7, "name": "a", "releases": { "c": { "id": 3, "services": all } } });
        let app = crate::target::app("u", &value).unwrap();
        let release = app.release.as_ref().unwrap();
        let make = |service: &crate::target::Service| plan::Service {
            name: service.name.clone(),
            image: String::new(),
            image_ready: None,
            running: true,
            wanted: compose::container(&app, release, service, None, &Device::sample(), "").unwrap(),
        };
        release.services.iter().map(make).collect()
    }

    #[test]
    fn dependencies_that_can_be_met_and_those_that_cannot() {
        assert_eq!(dependency_problem(&services(&[("a", &["b"]), ("b", &["c"]), ("c", &[])])), None);
        let cycle = dependency_problem(&services(&[("a", &["b"]), ("b", &["a"]), ("c", &[])])).unwrap();
        assert!(cycle.contains("itself"), "{cycle}");
        let missing = dependency_problem(&services(&[("a", &["x"])])).unwrap();
        assert!(missing.contains('x'), "{missing}");
    }
}
