//! The inspect documents (spec supervisor §9.2).

use super::Call;
use crate::container::Container;
use crate::container::create::fill;
use crate::engine::Engine;
use crate::error::Result;
use crate::fields::Fields;
use crate::fields::json;
use crate::time::rfc3339;
use minke_wire::json::{Map, Value};

/// `GET /containers/{id}/json`.
pub fn container(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let container = engine.container(call.name)?;
    let arguments = container.command();
    let folder = engine.folder(&container.id).display().to_string();
    let file = |name: &str| format!("{folder}/{name}");
    let networks = endpoints(engine, container);
    let main = networks.at("bridge");
    Ok(json!({
        "Id": container.id, "Created": rfc3339(container.created), "Path": arguments.first(), "Args": arguments.get(1..),
        "State": container.state(), "Image": container.image, "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"), "HostsPath": file("hosts"), "LogPath": "", "Name": format!("/{}", container.name),
        "RestartCount": container.backoff.count, "Driver": "overlay2", "Platform": "linux", "MountLabel": "",
        "ProcessLabel": "", "AppArmorProfile": "", "ExecIDs": null, "HostConfig": container.host,
        "GraphDriver": { "Name": "overlay2", "Data": { "UpperDir": file("upper"), "WorkDir": file("work"), "MergedDir": file("root") } },
        "Mounts": container.mounts, "Config": container.config,
        "NetworkSettings": {
            "Bridge": "", "SandboxID": "", "SandboxKey": "", "HairpinMode": false, "LinkLocalIPv6Address": "",
            "LinkLocalIPv6PrefixLen": 0, "SecondaryIPAddresses": null, "SecondaryIPv6Addresses": null,
            "Ports": ports(container), "EndpointID": main.text("EndpointID"), "Gateway": main.text("Gateway"),
            "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPAddress": main.text("IPAddress"),
            "IPPrefixLen": main.number("IPPrefixLen"), "IPv6Gateway": "", "MacAddress": main.text("MacAddress"),
            "Networks": networks
        }
    }))
}

/// `NetworkSettings.Networks`.
pub fn endpoints(engine: &Engine, container: &Container) -> Value {
    let mut shown = Map::new();
    let mode = container.host.text("NetworkMode");
    if matches!(mode, "host" | "none") {
        shown.insert(mode, endpoint(engine, mode, &Value::Null));
    }
    for (name, own) in &container.networks {
        shown.insert(name.as_str(), endpoint(engine, name, own));
    }
    Value::Object(shown)
}

fn endpoint(engine: &Engine, network: &str, endpoint: &Value) -> Value {
    let mut shown = json!({
        "IPAMConfig": endpoint.at("IPAMConfig"), "Links": null, "Aliases": null,
        "NetworkID": engine.networks.get(network).map_or("", |network| network.text("Id")),
        "EndpointID": "", "Gateway": "", "IPAddress": endpoint.text("IPAddress"),
        "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0, "MacAddress": "", "DriverOpts": null
    });
    // What a stopped container had is kept in its record and not shown.
    if !endpoint.text("IPAddress").is_empty() {
        for key in &["EndpointID", "Gateway", "IPPrefixLen", "MacAddress"] {
            shown.set(key, endpoint.at(key));
        }
    }
    let aliases = endpoint.texts("Aliases");
    if !aliases.is_empty() {
        shown.set("Aliases", &aliases);
    }
    shown
}

/// `NetworkSettings.Ports`: what is published while it runs, and what is exposed.
fn ports(container: &Container) -> Value {
    if !container.is_running() {
        return json!({});
    }
    let mut shown = json!({});
    for (port, _) in container.config.entries("ExposedPorts") {
        shown.member(port);
    }
    for port in &container.ports {
        let binding = json!({ "HostIp": port.text("ip"), "HostPort": port.number("host_port").to_string() });
        match shown.member(port.text("port")) {
            Value::Array(list) => list.push(binding),
            other => *other = json!([binding]),
        }
    }
    shown
}

/// `GET /images/{name}/json`.
pub fn image(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let image = engine.images.get(call.name)?;
    let config = engine.images.config(&image.id)?;
    let mut layers = Vec::new();
    for layer in &image.layers {
        layers.push(layer.to_string());
    }
    let document = config.document();
    let mut run_time = Value::Object(config.config().cloned().unwrap_or_default());
    // Clients read these without asking whether they are there.
    fill(&mut run_time, IMAGE_DEFAULTS);
    Ok(json!({
        "Id": image.id.to_string(), "RepoTags": image.tags, "RepoDigests": image.digests, "Parent": "",
        "Comment": document.text("comment"), "Created": image.created, "DockerVersion": "", "Author": document.text("author"),
        "Config": run_time, "Architecture": image.architecture, "Variant": config.variant(), "Os": image.os,
        "Size": image.size, "VirtualSize": image.size, "GraphDriver": { "Name": "overlay2", "Data": null },
        "RootFS": { "Type": "layers", "Layers": layers }, "Metadata": { "LastTagTime": crate::time::NEVER }
    }))
}

const IMAGE_DEFAULTS: &str = r#"{
    "Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "Volumes": null, "WorkingDir": "", "User": ""
}"#;

/// `GET /networks/{id}`.
pub fn network(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    engine.networks.get(call.name).map(|network| network_document(engine, network))
}

/// A network with the containers that run in it.
pub fn network_document(engine: &Engine, network: &Value) -> Value {
    let mut shown = network.clone();
    let mut containers = Map::new();
    for container in engine.containers.iter().filter(|container| container.is_running()) {
        let Some(endpoint) = container.networks.get(network.text("Name")) else { continue };
        let value = json!({
            "Name": container.name, "EndpointID": endpoint.text("EndpointID"), "MacAddress": endpoint.text("MacAddress"),
            "IPv4Address": format!("{}/{}", endpoint.text("IPAddress"), endpoint.number("IPPrefixLen")), "IPv6Address": ""
        });
        containers.insert(container.id.as_str(), value);
    }
    *shown.member("Containers") = Value::Object(containers);
    shown
}
