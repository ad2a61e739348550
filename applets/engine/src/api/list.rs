//! Lists of containers, images and processes.

use super::{Call, filters_fit, inspect, is_true, label_fits};
use crate::container::Container;
use crate::engine::Engine;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use minke_wire::json::Value;
use std::path::Path;
use std::time::Duration;

/// The longest command line that `top` shows, in bytes.
const LINE_LIMIT: usize = 1 << 20;

/// `GET /containers/json`, newest first.
pub fn containers(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let filters = call.filters()?;
    let limit: usize =
        minke_wire::text::number(call.query("limit")).filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    let all = call.flag("all") || limit != usize::MAX || !filters.at("status").is_null();
    let mut shown = Vec::new();
    for container in engine.containers.iter().rev() {
        if shown.len() < limit && (all || container.is_running()) && fits(engine, container, &filters) {
            shown.push(summary(engine, container));
        }
    }
    Ok(Value::Array(shown))
}

fn fits(engine: &Engine, container: &Container, filters: &Value) -> bool {
    filters_fit(filters, &|key: &str, value: &str| match key {
        "id" => container.id.starts_with(value),
        "name" => {
            let part = value.trim_start_matches(['^', '/']).trim_end_matches('$');
            minke_wire::text::contains(&container.name, part)
        }
        "status" => container.status_word() == value,
        "label" => label_fits(container.config.at("Labels"), value),
        "network" => container.networks.contains_key(value),
        "volume" => container
            .mounts
            .iter()
            .any(|mount| mount.text("Name") == value || mount.text("Destination") == value),
        "ancestor" => {
            container.config.text("Image") == value
                || engine.images.get(value).is_ok_and(|image| image.id.to_string() == container.image)
        }
        _ => true,
    })
}

fn summary(engine: &Engine, container: &Container) -> Value {
    let mut ports = Vec::new();
    for port in &container.ports {
        let (number, protocol) = port.text("port").split_once('/').unwrap_or(("0", "tcp"));
        let private: u16 = minke_wire::text::number(number).unwrap_or(0);
        ports.push(json!({ "IP": port.text("ip"), "PrivatePort": private, "PublicPort": port.number("host_port"), "Type": protocol }));
    }
    json!({
        "Id": container.id, "Names": [format!("/{}", container.name)], "Image": container.config.text("Image"),
        "ImageID": container.image, "Command": container.command().join(" "), "Created": container.created.as_secs(), "Ports": ports,
        "Labels": container.config.at("Labels"), "State": container.status_word(), "Status": status_line(container),
        "HostConfig": { "NetworkMode": container.host.text("NetworkMode") },
        "NetworkSettings": { "Networks": inspect::endpoints(engine, container) }, "Mounts": container.mounts
    })
}

/// `Up 3 minutes`, `Exited (0) 2 hours ago`.
fn status_line(container: &Container) -> String {
    use crate::container::Status;
    let since = |time: Option<Duration>| {
        crate::time::age(minke_sys::clock::realtime().saturating_sub(time.unwrap_or_default()).as_secs())
    };
    match container.status {
        Status::Created => "Created".to_owned(),
        Status::Running => format!("Up {}", since(container.started_at)),
        Status::Starting if container.backoff.count == 0 => "Created".to_owned(),
        Status::Restarting | Status::Starting => {
            format!("Restarting ({}) {} ago", container.exit_code, since(container.finished_at))
        }
        Status::Exited => format!("Exited ({}) {} ago", container.exit_code, since(container.finished_at)),
    }
}

/// `GET /images/json`, newest first.
pub fn images(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let filters = call.filters()?;
    let mut list: Vec<Value> = Vec::new();
    for image in &engine.images.list() {
        let labels = image_labels(engine, &image.id);
        let fits = |key: &str, value: &str| match key {
            "reference" => image.tags.iter().chain(&image.digests).any(|name| reference_fits(name, value)),
            "dangling" => image.tags.is_empty() == is_true(value),
            "label" => label_fits(&labels, value),
            _ => true,
        };
        if !filters_fit(&filters, &fits) {
            continue;
        }
        let (id, created) = (image.id.to_string(), crate::time::parse_rfc3339(&image.created));
        let users = engine.containers.iter().filter(|container| container.image == id).count();
        let place = list.partition_point(|other| other.at("Created").as_u64() >= Some(created));
        list.insert(place, json!({
            "Id": id, "ParentId": "", "RepoTags": image.tags, "RepoDigests": image.digests, "Created": created,
            "Size": image.size, "VirtualSize": image.size, "SharedSize": -1, "Labels": labels, "Containers": users
        }));
    }
    Ok(Value::Array(list))
}

fn image_labels(engine: &Engine, id: &minke_oci::Digest) -> Value {
    engine.images.config(id).ok().and_then(|config| config.get("Labels").cloned()).unwrap_or_default()
}

/// `repo`, `repo:tag`, `repo@digest`, with `*` for any text.
fn reference_fits(name: &str, pattern: &str) -> bool {
    let repository = name.split_once('@').map_or(name, |(repository, _)| repository);
    let repository = match repository.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => repository,
    };
    glob(name, pattern) || glob(repository, pattern)
}

fn glob(text: &str, pattern: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return text == pattern };
    let Some(rest) = text.strip_prefix(head) else { return false };
    (0..=rest.len()).any(|start| rest.get(start..).is_some_and(|rest| glob(rest, tail)))
}

/// `GET /containers/{id}/top`: the processes in its control group.
pub fn processes(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let container = engine.container(call.name)?;
    if !container.is_running() {
        return Err(ApiError::conflict(format_args!("container {} is not running", call.name)));
    }
    let mut pids = vec![container.pid];
    if !engine.group.as_os_str().is_empty() {
        pids.extend(minke_sys::cgroup::processes(&engine.group.join(&container.id), true));
    }
    pids.sort_unstable();
    pids.dedup();
    let mut rows = Vec::new();
    for pid in &pids {
        if let Ok(line) =
            minke_sys::file::read_bounded(Path::new(&format!("/proc/{pid}/cmdline")), LINE_LIMIT)
        {
            let command = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
            rows.push(json!([pid.to_string(), command]));
        }
    }
    Ok(json!({ "Titles": ["PID", "CMD"], "Processes": rows }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_with_and_without_tag() {
        let fits = |pattern: &str| reference_fits("reg.io:5000/app/web:v1", pattern);
        assert!(
            fits("reg.io:5000/app/web:v1")
                && fits("reg.io:5000/app/web")
                && fits("*/web")
                && fits("reg*web:*")
        );
        assert!(!fits("reg.io:5000/app/web:v2") && !fits("web") && !fits("reg.io"));
        assert!(reference_fits("a/b@sha256:00", "a/b"));
    }
}
