//! The body of `POST /containers/create`: checked, merged with the image's defaults, and otherwise kept as it
//! came, so that inspect returns what was sent (spec supervisor §9.2).

use super::mount::{self, Mount};
use super::restart::Policy;
use crate::error::{ApiError, Result};
use crate::fields::json;
use crate::fields::{Fields, object};
use minke_sys::capability::Capabilities;
use minke_wire::json::{Map, Value};

/// The longest body.
pub const BODY_LIMIT: usize = 2 << 20;
/// Most entries of any list in it.
const LIST_LIMIT: usize = 1024;
/// Least memory that a container may be limited to, as the reference has it.
const LEAST_MEMORY: i64 = 6 << 20;
/// Kernel settings that belong to a container's own namespaces.
const SYSCTLS: [&str; 6] =
    ["net.", "fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm", "kernel.domainname"];

/// What a container is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Created {
    /// `Config`, with the image's defaults merged in.
    pub config: Value,
    /// `HostConfig`.
    pub host: Value,
    /// `NetworkingConfig.EndpointsConfig`.
    pub endpoints: Map,
    /// Volumes, binds and tmpfs, without names for anonymous volumes.
    pub mounts: Vec<Mount>,
}

/// The image that the body asks for.
pub fn image_name(body: &Value) -> Result<&str> {
    match body.text("Image") {
        "" => Err(ApiError::bad("invalid reference format: no image was given")),
        name => Ok(name),
    }
}

/// Parses the bytes of a body.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    let body: Value =
        minke_wire::json::parse(bytes).map_err(|error| ApiError::bad(format!("invalid JSON: {error}")))?;
    if body.is_object() { Ok(body) } else { Err(ApiError::bad("invalid JSON: the body is no object")) }
}

/// Checks `body` and merges the `image`'s run-time configuration (`config` of its document) into it. `id` gives
/// the default host name.
pub fn create(mut body: Value, image: &Map, id: &str) -> Result<Created> {
    let mut host = take(&mut body, "HostConfig");
    let networking = take(&mut body, "NetworkingConfig");
    check_types(&body, &host)?;
    object(&mut host);
    merge_image(object(&mut body), image);
    let network_mode = match host.text("NetworkMode") {
        "" | "default" => "bridge".to_owned(),
        mode => mode.to_owned(),
    };
    if body.text("Hostname").is_empty() && network_mode != "host" {
        let short = id.get(..12).unwrap_or(id);
        object(&mut body).insert("Hostname".to_owned(), short.into());
    }
    if body.texts("Entrypoint").is_empty() && body.texts("Cmd").is_empty() {
        return Err(ApiError::bad("no command specified"));
    }
    check_restart(&host)?;
    check_limits(&host)?;
    check_network(&body, &host, &network_mode)?;
    let mounts = mount::collect(&body, &host)?;
    set_defaults(object(&mut host), &network_mode);
    fill(object(&mut body), &config_defaults());
    // The command line calls the default network "default"; its name is "bridge".
    let named = |(name, endpoint): (&str, &Value)| {
        let name = if name == "default" { "bridge" } else { name };
        (name.to_owned(), if endpoint.is_object() { endpoint.clone() } else { json!({}) })
    };
    let mut endpoints: Map = networking.entries("EndpointsConfig").map(named).collect();
    endpoints.retain(|name, _| !matches!(name.as_str(), "host" | "none"));
    if endpoints.len() > 64 {
        return Err(ApiError::bad("too many networks"));
    }
    Ok(Created { config: body, host, endpoints, mounts })
}

fn take(body: &mut Value, key: &str) -> Value {
    object(body).remove(key).unwrap_or(Value::Null)
}

/// Members that are read later must have their types; a wrong one is the client's mistake, told at once.
fn check_types(body: &Value, host: &Value) -> Result<()> {
    let expected = |object: &Value, key: &str, kind: &str, good: fn(&Value) -> bool| {
        let value = object.at(key);
        if value.is_null() || good(value) {
            Ok(())
        } else {
            Err(ApiError::bad(format!("{key} must be {kind}")))
        }
    };
    if !(host.is_null() || host.is_object()) {
        return Err(ApiError::bad("HostConfig must be an object"));
    }
    for key in ["Hostname", "Domainname", "User", "WorkingDir", "StopSignal", "Image"] {
        expected(body, key, "a string", Value::is_string)?;
    }
    for key in ["Tty", "OpenStdin", "StdinOnce"] {
        expected(body, key, "a boolean", Value::is_boolean)?;
    }
    for key in ["Cmd", "Entrypoint", "Env"] {
        expected(body, key, "a list of strings", |value| value.is_string() || strings(value))?;
    }
    for key in ["Labels", "Volumes", "ExposedPorts"] {
        expected(body, key, "an object", Value::is_object)?;
    }
    let lists = [
        "Binds",
        "CapAdd",
        "CapDrop",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "ExtraHosts",
        "GroupAdd",
        "SecurityOpt",
    ];
    for key in lists {
        expected(host, key, "a list of strings", strings)?;
    }
    for key in ["PortBindings", "Sysctls", "Tmpfs", "RestartPolicy"] {
        expected(host, key, "an object", Value::is_object)?;
    }
    for key in ["Mounts", "Devices", "Ulimits"] {
        expected(host, key, "a list", |value| value.as_array().is_some_and(|list| list.len() <= LIST_LIMIT))?;
    }
    for key in [
        "Memory",
        "MemoryReservation",
        "MemorySwap",
        "NanoCpus",
        "CpuShares",
        "CpuQuota",
        "CpuPeriod",
        "PidsLimit",
        "ShmSize",
        "OomScoreAdj",
    ] {
        expected(host, key, "a whole number", |value| value.as_i64().is_some())?;
    }
    let long = |text: &str| text.len() > 253 || text.contains(['\0', '\n', '/']);
    if long(body.text("Hostname")) || long(body.text("Domainname")) {
        return Err(ApiError::bad("invalid hostname"));
    }
    if body.texts("Env").iter().any(|entry| entry.starts_with('=') || entry.contains('\0')) {
        return Err(ApiError::bad("invalid environment variable"));
    }
    Ok(())
}

fn strings(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.len() <= LIST_LIMIT && list.iter().all(Value::is_string))
}

/// What the body leaves out, the image gives: the rules of the reference's `merge`.
fn merge_image(config: &mut Map, image: &Map) {
    let blank = |config: &Map, key: &str| match config.get(key) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(list)) => list.is_empty(),
        Some(_) => false,
    };
    let absent = |config: &Map, key: &str| config.get(key).is_none_or(Value::is_null);
    if blank(config, "Entrypoint") {
        if blank(config, "Cmd") {
            adopt(config, image, "Cmd");
        }
        // An empty list is a wish for none.
        if absent(config, "Entrypoint") {
            adopt(config, image, "Entrypoint");
        }
    }
    for key in ["User", "WorkingDir", "StopSignal"] {
        if blank(config, key) {
            adopt(config, image, key);
        }
    }
    for key in ["Healthcheck", "Shell"] {
        if absent(config, key) {
            adopt(config, image, key);
        }
    }
    for key in ["Labels", "Volumes", "ExposedPorts"] {
        if let Some(Value::Object(theirs)) = image.get(key) {
            let ours = object(config.entry(key).or_insert(Value::Null));
            for (name, value) in theirs {
                ours.entry(name.as_str()).or_insert_with(|| value.clone());
            }
        }
    }
    let mut environment = Value::Object(config.clone()).texts("Env");
    for entry in Value::Object(image.clone()).texts("Env") {
        let name = variable(&entry);
        if !environment.iter().any(|own| variable(own) == name) {
            environment.push(entry);
        }
    }
    config.insert("Env".to_owned(), environment.into());
}

fn variable(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

fn adopt(config: &mut Map, image: &Map, key: &str) {
    if let Some(value) = image.get(key).filter(|value| !value.is_null()) {
        config.insert(key.to_owned(), value.clone());
    }
}

fn check_restart(host: &Value) -> Result<()> {
    restart_policy(host).map(|_| ())
}

/// The restart policy of a host config.
pub fn restart_policy(host: &Value) -> Result<Policy> {
    let policy = host.at("RestartPolicy");
    let maximum = u32::try_from(policy.number("MaximumRetryCount"))
        .map_err(|_| ApiError::bad("invalid restart policy: maximum retry count cannot be negative"))?;
    Policy::by_name(policy.text("Name"), maximum).ok_or_else(|| {
        ApiError::bad(format!("invalid restart policy: unknown policy '{}'", policy.text("Name")))
    })
}

/// The capabilities of a host config.
pub fn capabilities(host: &Value) -> Result<Capabilities> {
    if host.flag("Privileged") {
        return Ok(Capabilities::ALL);
    }
    let named = |name: &String| {
        Capabilities::by_name(name).ok_or_else(|| ApiError::bad(format!("invalid capability: {name}")))
    };
    let mut set = Capabilities::NONE;
    for name in DEFAULT_CAPABILITIES {
        set = set.with(Capabilities::by_name(name).unwrap_or_default());
    }
    let (add, drop) = (host.texts("CapAdd"), host.texts("CapDrop"));
    // "ALL" comes first on either side, so that the other side's names are exceptions to it.
    for name in drop.iter().filter(|name| name.eq_ignore_ascii_case("all")) {
        set = set.without(named(name)?);
    }
    for name in &add {
        set = set.with(named(name)?);
    }
    for name in drop.iter().filter(|name| !name.eq_ignore_ascii_case("all")) {
        set = set.without(named(name)?);
    }
    Ok(set)
}

/// What a container may do unless told otherwise: the reference's list.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn check_limits(host: &Value) -> Result<()> {
    capabilities(host)?;
    let memory = host.number("Memory");
    if memory < 0 || (memory > 0 && memory < LEAST_MEMORY) {
        return Err(ApiError::bad("Minimum memory limit allowed is 6MB"));
    }
    if host.number("NanoCpus") < 0 || host.number("ShmSize") < 0 {
        return Err(ApiError::bad("limits cannot be negative"));
    }
    if !(-1000..=1000).contains(&host.number("OomScoreAdj")) {
        return Err(ApiError::bad("invalid value for oom score adj, it must be in the range [-1000, 1000]"));
    }
    for limit in host.items("Ulimits") {
        let (soft, hard) = (limit.number("Soft"), limit.number("Hard"));
        if !minke_sys::limit::is_name(limit.text("Name")) || (hard >= 0 && (soft < 0 || soft > hard)) {
            return Err(ApiError::bad(format!("invalid ulimit '{}'", limit.text("Name"))));
        }
    }
    for (key, value) in host.entries("Sysctls") {
        let known =
            SYSCTLS.iter().any(|prefix| key.starts_with(prefix)) && !key.contains("..") && !key.contains('/');
        if !known || !value.is_string() {
            return Err(ApiError::bad(format!("sysctl '{key}' is not allowed")));
        }
    }
    for device in host.items("Devices") {
        if !device.text("PathOnHost").starts_with("/dev") {
            return Err(ApiError::bad(format!("invalid device '{}'", device.text("PathOnHost"))));
        }
    }
    for option in host.texts("SecurityOpt") {
        let known = ["no-new-privileges", "seccomp", "apparmor", "label", "systempaths", "writable-cgroups"];
        if !known.iter().any(|name| option.starts_with(name)) {
            return Err(ApiError::bad(format!("invalid --security-opt: '{option}'")));
        }
    }
    Ok(())
}

fn check_network(body: &Value, host: &Value, mode: &str) -> Result<()> {
    for (port, _) in body.entries("ExposedPorts").chain(host.entries("PortBindings")) {
        parse_port(port)?;
    }
    for (port, bindings) in host.entries("PortBindings") {
        for binding in bindings.as_array().map_or(&[][..], Vec::as_slice) {
            let text = binding.text("HostPort");
            if !text.is_empty() && host_ports(text).is_none() {
                return Err(ApiError::bad(format!("invalid port specification: '{text}' for {port}")));
            }
            let ip = binding.text("HostIp");
            if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
                return Err(ApiError::bad(format!("invalid IP address '{ip}'")));
            }
        }
    }
    if mode.starts_with("container:") && host.entries("PortBindings").next().is_some() {
        return Err(ApiError::bad(
            "conflicting options: port publishing and the container type network mode",
        ));
    }
    Ok(())
}

/// `80/tcp`, `53/udp`, `80`.
pub fn parse_port(text: &str) -> Result<(u16, &str)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match (number.parse::<u16>(), protocol) {
        (Ok(number), "tcp" | "udp" | "sctp") if number > 0 => Ok((number, protocol)),
        _ => Err(ApiError::bad(format!("invalid port specification: '{text}'"))),
    }
}

/// `8080` or a range `8000-8010`, of which the first free one is taken.
pub fn host_ports(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = first.parse().ok()?..=last.parse().ok()?;
    (!range.is_empty()).then_some(range)
}

/// 64 MiB, as everywhere.
const SHM_SIZE: i64 = 64 << 20;

fn set_defaults(host: &mut Map, network_mode: &str) {
    host.insert("NetworkMode".to_owned(), network_mode.into());
    let restart = object(host.entry("RestartPolicy").or_insert(Value::Null));
    if restart.get("Name").and_then(Value::as_str).is_none_or(str::is_empty) {
        restart.insert("Name".to_owned(), "no".into());
    }
    restart.entry("MaximumRetryCount").or_insert_with(|| 0.into());
    if host.get("ShmSize").and_then(Value::as_i64).unwrap_or(0) == 0 {
        host.insert("ShmSize".to_owned(), SHM_SIZE.into());
    }
    if host.get("IpcMode").and_then(Value::as_str).is_none_or(str::is_empty) {
        host.insert("IpcMode".to_owned(), "private".into());
    }
    fill(
        host,
        &json!({
            "Binds": null, "PortBindings": {}, "VolumesFrom": null, "CapAdd": null, "CapDrop": null,
            "CgroupnsMode": "private", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null,
            "GroupAdd": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false, "PublishAllPorts": false,
            "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "", "Runtime": "runc",
            "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "", "CpuPeriod": 0, "CpuQuota": 0,
            "CpusetCpus": "", "CpusetMems": "", "Devices": [], "DeviceRequests": null, "MemoryReservation": 0,
            "MemorySwap": 0, "OomKillDisable": false, "PidsLimit": null, "Ulimits": null, "Init": null,
            "LogConfig": {"Type": "journald", "Config": {}}
        }),
    );
}

fn config_defaults() -> Value {
    json!({
        "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
        "Tty": false, "OpenStdin": false, "StdinOnce": false, "Cmd": null, "Volumes": null, "WorkingDir": "",
        "Entrypoint": null, "OnBuild": null, "Labels": {}
    })
}

fn fill(map: &mut Map, defaults: &Value) {
    for (key, value) in defaults.as_object().into_iter().flatten() {
        map.entry(key.as_str()).or_insert_with(|| value.clone());
    }
    if map.get("LogConfig").is_some_and(|log| log.text("Type").is_empty()) {
        map.insert("LogConfig".to_owned(), json!({ "Type": "journald", "Config": {} }));
    }
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
