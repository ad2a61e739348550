//! The inspect documents (spec supervisor §9.2).

use crate::container::Container;
use crate::container::mount::Mount;
use crate::engine::Engine;
use crate::error::Result;
use crate::fields::json;
use crate::fields::{Fields, object};
use crate::time::rfc3339;
use minke_wire::json::{Map, Value};

/// `GET /containers/{id}/json`.
pub fn container(engine: &Engine, container: &Container) -> Value {
    let mut arguments = container.config.texts("Entrypoint");
    arguments.extend(container.config.texts("Cmd"));
    let folder = engine.folder(&container.id);
    let file = |name: &str| folder.join(name).display().to_string();
    let networks = endpoints(engine, container);
    let main = networks.get("bridge").cloned().unwrap_or_default();
    let mounts: Vec<Value> = container.mounts.iter().map(Mount::to_value).collect();
    json!({
        "Id": container.id, "Created": rfc3339(container.created), "Path": arguments.first(), "Args": arguments.get(1..),
        "State": container.state(), "Image": container.image, "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"), "HostsPath": file("hosts"), "LogPath": "", "Name": format!("/{}", container.name),
        "RestartCount": container.backoff.count, "Driver": "overlay2", "Platform": "linux", "MountLabel": "",
        "ProcessLabel": "", "AppArmorProfile": "", "ExecIDs": null, "HostConfig": container.host,
        "GraphDriver": { "Name": "overlay2", "Data": { "UpperDir": file("upper"), "WorkDir": file("work"), "MergedDir": file("root") } },
        "Mounts": mounts, "Config": container.config,
        "NetworkSettings": {
            "Bridge": "", "SandboxID": "", "SandboxKey": "", "HairpinMode": false, "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": null, "SecondaryIPv6Addresses": null,
            "Ports": ports(container), "EndpointID": main.text("EndpointID"), "Gateway": main.text("Gateway"),
            "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPAddress": main.text("IPAddress"),
            "IPPrefixLen": main.number("IPPrefixLen"), "IPv6Gateway": "", "MacAddress": main.text("MacAddress"),
            "Networks": networks
        }
    })
}

/// `NetworkSettings.Networks`.
pub fn endpoints(engine: &Engine, container: &Container) -> Map {
    let mut shown = Map::new();
    let mode = container.host.text("NetworkMode");
    let mut add = |name: &str, endpoint: &Value| {
        let id = engine.networks.get(name).map(|network| network.text("Id").to_owned()).unwrap_or_default();
        let running = !endpoint.text("IPAddress").is_empty();
        let when = |key: &str| if running { endpoint.text(key) } else { "" };
        let aliases = endpoint.texts("Aliases");
        let value = json!({
            "IPAMConfig": endpoint.at("IPAMConfig"), "Links": null,
            "Aliases": if aliases.is_empty() { Value::Null } else { aliases.into() }, "NetworkID": id,
            "EndpointID": when("EndpointID"), "Gateway": when("Gateway"), "IPAddress": endpoint.text("IPAddress"),
            "IPPrefixLen": if running { endpoint.number("IPPrefixLen") } else { 0 }, "IPv6Gateway": "", "GlobalIPv6Address": "",
            "GlobalIPv6PrefixLen": 0, "MacAddress": when("MacAddress"), "DriverOpts": null
        });
        shown.insert(name.to_owned(), value);
    };
    if matches!(mode, "host" | "none") {
        add(mode, &Value::Null);
    }
    for (name, endpoint) in &container.networks {
        add(name, endpoint);
    }
    shown
}

/// `NetworkSettings.Ports`: what is published while it runs, and what is exposed.
fn ports(container: &Container) -> Value {
    if !container.is_running() {
        return json!({});
    }
    let mut shown = Map::new();
    for (port, _) in container.config.entries("ExposedPorts") {
        shown.insert(port.to_owned(), Value::Null);
    }
    for port in &container.ports {
        let entry = shown.entry(port.text("port")).or_insert(Value::Null);
        let binding = json!({ "HostIp": port.text("ip"), "HostPort": port.number("host_port").to_string() });
        match entry {
            Value::Array(list) => list.push(binding),
            other => *other = json!([binding]),
        }
    }
    Value::Object(shown)
}

/// `GET /images/{name}/json`.
pub fn image(engine: &Engine, query: &str) -> Result<Value> {
    let image = engine.images.get(query)?;
    let config = engine.images.config(&image.id)?;
    let layers: Vec<String> = image.layers.iter().map(ToString::to_string).collect();
    let document = config.document();
    let mut run_time = Value::Object(config.config().cloned().unwrap_or_default());
    // Clients read these without asking whether they are there.
    for key in ["Cmd", "Entrypoint", "Env", "Labels", "Volumes"] {
        object(&mut run_time).entry(key).or_insert(Value::Null);
    }
    for key in ["WorkingDir", "User"] {
        object(&mut run_time).entry(key).or_insert_with(|| "".into());
    }
    Ok(json!({
        "Id": image.id.to_string(), "RepoTags": image.tags, "RepoDigests": image.digests, "Parent": "",
        "Comment": document.text("comment"), "Created": image.created, "DockerVersion": "", "Author": document.text("author"),
        "Config": run_time, "Architecture": image.architecture, "Variant": config.variant(), "Os": image.os,
        "Size": image.size, "VirtualSize": image.size, "GraphDriver": { "Name": "overlay2", "Data": null },
        "RootFS": { "Type": "layers", "Layers": layers }, "Metadata": { "LastTagTime": crate::time::NEVER }
    }))
}

/// `GET /networks/{id}`.
pub fn network(engine: &Engine, network: &Value) -> Value {
    let mut shown = network.clone();
    let mut containers = Map::new();
    for container in engine.containers.iter().filter(|container| container.is_running()) {
        let Some(endpoint) = container.networks.get(network.text("Name")) else { continue };
        let value = json!({
            "Name": container.name, "EndpointID": endpoint.text("EndpointID"), "MacAddress": endpoint.text("MacAddress"),
            "IPv4Address": format!("{}/{}", endpoint.text("IPAddress"), endpoint.number("IPPrefixLen")), "IPv6Address": ""
        });
        containers.insert(container.id.clone(), value);
    }
    object(&mut shown).insert("Containers".to_owned(), Value::Object(containers));
    shown
}
