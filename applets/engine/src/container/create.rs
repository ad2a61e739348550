//! The body of `POST /containers/create`: checked, merged with the image's defaults, and otherwise kept as it
//! came, so that inspect returns what was sent (spec supervisor §9.2).

use super::mount;
use super::restart::Policy;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use minke_sys::capability::Capabilities;
use minke_wire::json::{Map, Value};

/// The longest body.
pub const BODY_LIMIT: usize = 2 << 20;
/// Most entries of any list in it.
const LIST_LIMIT: usize = 1024;
/// Least memory that a container may be limited to, as the reference has it.
const LEAST_MEMORY: i64 = 6 << 20;
/// Kernel settings that belong to a container's own namespaces.
const SYSCTLS: &str = "net. fs.mqueue. kernel.msg kernel.sem kernel.shm kernel.domainname";
/// Beginnings of security options that are understood or harmless.
const SECURITY_OPTIONS: &str = "no-new-privileges seccomp apparmor label systempaths writable-cgroups";

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
    pub mounts: Vec<Value>,
}

/// The image that the body asks for.
pub fn image_name(body: &Value) -> Result<&str> {
    match body.text("Image") {
        "" => Err(ApiError::bad(format_args!("invalid reference format: no image was given"))),
        name => Ok(name),
    }
}

/// Parses the bytes of a body.
pub fn parse(bytes: &[u8]) -> Result<Value> {
    let body: Value = minke_wire::json::parse(bytes)
        .map_err(|error| ApiError::bad(format_args!("invalid JSON: {error}")))?;
    if body.is_object() {
        Ok(body)
    } else {
        Err(ApiError::bad(format_args!("invalid JSON: the body is no object")))
    }
}

/// Checks `body` and merges the `image`'s run-time configuration (`config` of its document) into it. `id` gives
/// the default host name.
pub fn create(mut body: Value, image: &Map, id: &str) -> Result<Created> {
    let mut host = take(&mut body, "HostConfig");
    let networking = take(&mut body, "NetworkingConfig");
    check_types(&body, &host)?;
    merge_image(&mut body, image);
    let network_mode = match host.text("NetworkMode") {
        "" | "default" => "bridge".to_owned(),
        mode => mode.to_owned(),
    };
    if body.text("Hostname").is_empty() && network_mode != "host" {
        body.set("Hostname", &id.get(..12).unwrap_or(id));
    }
    if body.texts("Entrypoint").is_empty() && body.texts("Cmd").is_empty() {
        return Err(ApiError::bad(format_args!("no command specified")));
    }
    restart_policy(&host)?;
    check_limits(&host)?;
    check_network(&body, &host, &network_mode)?;
    let mounts = mount::collect(&body, &host)?;
    set_defaults(&mut host, &network_mode);
    fill(&mut body, CONFIG_DEFAULTS);
    let endpoints = wanted_endpoints(&networking)?;
    Ok(Created { config: body, host, endpoints, mounts })
}

fn wanted_endpoints(networking: &Value) -> Result<Map> {
    let mut endpoints = Map::new();
    for (key, endpoint) in networking.entries("EndpointsConfig") {
        // The command line calls the default network "default"; its name is "bridge".
        let name = if key == "default" { "bridge" } else { key };
        if !matches!(name, "host" | "none") {
            endpoints.insert(name, endpoint.or_empty());
        }
    }
    if endpoints.len() > 64 {
        return Err(ApiError::bad(format_args!("too many networks")));
    }
    Ok(endpoints)
}

fn take(body: &mut Value, key: &str) -> Value {
    body.make_object().remove(key).unwrap_or(Value::Null)
}

/// Names of members, what they must be, and whether a value is that.
type Expected = (&'static str, &'static str, fn(&Value) -> bool);

const BODY_TYPES: &[Expected] = &[
    ("Hostname Domainname User WorkingDir StopSignal Image", "a string", Value::is_string),
    ("Tty OpenStdin StdinOnce", "a boolean", Value::is_boolean),
    ("Cmd Entrypoint Env", "a list of strings", |value| value.is_string() || strings(value)),
    ("Labels Volumes ExposedPorts", "an object", Value::is_object),
];

const HOST_TYPES: &[Expected] = &[
    (
        "Binds CapAdd CapDrop Dns DnsOptions DnsSearch ExtraHosts GroupAdd SecurityOpt",
        "a list of strings",
        strings,
    ),
    ("PortBindings Sysctls Tmpfs RestartPolicy", "an object", Value::is_object),
    ("Mounts Devices Ulimits", "a list", list),
    (
        "Memory MemoryReservation MemorySwap NanoCpus CpuShares CpuQuota CpuPeriod PidsLimit ShmSize OomScoreAdj",
        "a whole number",
        Value::is_i64,
    ),
];

fn list(value: &Value) -> bool {
    value.as_array().is_some_and(|list| list.len() <= LIST_LIMIT)
}

fn strings(value: &Value) -> bool {
    list(value) && value.elements().iter().all(Value::is_string)
}

/// Members that are read later must have their types; a wrong one is the client's mistake, told at once.
fn check_types(body: &Value, host: &Value) -> Result<()> {
    if !(host.is_null() || host.is_object()) {
        return Err(ApiError::bad(format_args!("HostConfig must be an object")));
    }
    for (object, types) in [(body, BODY_TYPES), (host, HOST_TYPES)] {
        for (keys, kind, good) in types {
            for key in keys.split(' ') {
                let value = object.at(key);
                if !value.is_null() && !good(value) {
                    return Err(ApiError::bad(format_args!("{key} must be {kind}")));
                }
            }
        }
    }
    let long = |text: &str| text.len() > 253 || text.contains(['\0', '\n', '/']);
    if long(body.text("Hostname")) || long(body.text("Domainname")) {
        return Err(ApiError::bad(format_args!("invalid hostname")));
    }
    if body.texts("Env").iter().any(|entry| entry.starts_with('=') || entry.contains('\0')) {
        return Err(ApiError::bad(format_args!("invalid environment variable")));
    }
    Ok(())
}

/// What the body leaves out, the image gives: the rules of the reference's `merge`.
fn merge_image(config: &mut Value, image: &Map) {
    let image = &Value::Object(image.clone());
    if is_blank(config, "Entrypoint") {
        if is_blank(config, "Cmd") {
            adopt(config, image, "Cmd");
        }
        // An empty list is a wish for none.
        if config.at("Entrypoint").is_null() {
            adopt(config, image, "Entrypoint");
        }
    }
    for key in &["User", "WorkingDir", "StopSignal"] {
        if is_blank(config, key) {
            adopt(config, image, key);
        }
    }
    for key in &["Healthcheck", "Shell"] {
        if config.at(key).is_null() {
            adopt(config, image, key);
        }
    }
    for key in &["Labels", "Volumes", "ExposedPorts"] {
        if let Value::Object(theirs) = image.at(key) {
            let ours = config.member(key).make_object();
            for (name, value) in theirs {
                ours.entry(name.as_str()).or_insert(value.clone());
            }
        }
    }
    let mut environment = config.texts("Env");
    for entry in &image.texts("Env") {
        let name = variable(entry);
        if !environment.iter().any(|own| variable(own) == name) {
            environment.push(entry.clone());
        }
    }
    config.set("Env", &environment);
}

fn is_blank(config: &Value, key: &str) -> bool {
    match config.at(key) {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
}

/// The name in `NAME=VALUE`, or all of a text without value.
pub fn variable(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

fn adopt(config: &mut Value, image: &Value, key: &str) {
    let value = image.at(key);
    if !value.is_null() {
        config.set(key, value);
    }
}

/// The restart policy of a host config.
pub fn restart_policy(host: &Value) -> Result<Policy> {
    let policy = host.at("RestartPolicy");
    let maximum = u32::try_from(policy.number("MaximumRetryCount")).map_err(|_| {
        ApiError::bad(format_args!("invalid restart policy: maximum retry count cannot be negative"))
    })?;
    Policy::by_name(policy.text("Name"), maximum).ok_or_else(|| {
        ApiError::bad(format_args!("invalid restart policy: unknown policy '{}'", policy.text("Name")))
    })
}

/// The capabilities of a host config.
pub fn capabilities(host: &Value) -> Result<Capabilities> {
    if host.flag("Privileged") {
        return Ok(Capabilities::ALL);
    }
    let mut set = Capabilities::NONE;
    for name in DEFAULT_CAPABILITIES.split(' ') {
        set = set.with(Capabilities::by_name(name).unwrap_or_default());
    }
    let (add, drop) = (host.texts("CapAdd"), host.texts("CapDrop"));
    // "ALL" comes first on either side, so that the other side's names are exceptions to it.
    if drop.iter().any(|name| name.eq_ignore_ascii_case("all")) {
        set = Capabilities::NONE;
    }
    for name in &add {
        set = set.with(capability(name)?);
    }
    for name in &drop {
        if !name.eq_ignore_ascii_case("all") {
            set = set.without(capability(name)?);
        }
    }
    Ok(set)
}

fn capability(name: &str) -> Result<Capabilities> {
    Capabilities::by_name(name).ok_or_else(|| ApiError::bad(format_args!("invalid capability: {name}")))
}

/// What a container may do unless told otherwise: the reference's list.
const DEFAULT_CAPABILITIES: &str = "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE \
    NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_CHROOT";

fn check_limits(host: &Value) -> Result<()> {
    capabilities(host)?;
    let memory = host.number("Memory");
    if memory < 0 || (memory > 0 && memory < LEAST_MEMORY) {
        return Err(ApiError::bad(format_args!("Minimum memory limit allowed is 6MB")));
    }
    if host.number("NanoCpus") < 0 || host.number("ShmSize") < 0 {
        return Err(ApiError::bad(format_args!("limits cannot be negative")));
    }
    if !(-1000..=1000).contains(&host.number("OomScoreAdj")) {
        return Err(ApiError::bad(format_args!(
            "invalid value for oom score adj, it must be in the range [-1000, 1000]"
        )));
    }
    for limit in host.items("Ulimits") {
        let (soft, hard) = (limit.number("Soft"), limit.number("Hard"));
        if !minke_sys::limit::is_name(limit.text("Name")) || (hard >= 0 && (soft < 0 || soft > hard)) {
            return Err(ApiError::bad(format_args!("invalid ulimit '{}'", limit.text("Name"))));
        }
    }
    for (key, value) in host.entries("Sysctls") {
        let known =
            starts_with_any(key, SYSCTLS) && !minke_wire::text::contains(key, "..") && !key.contains('/');
        if !known || !value.is_string() {
            return Err(ApiError::bad(format_args!("sysctl '{key}' is not allowed")));
        }
    }
    for device in host.items("Devices") {
        if !device.text("PathOnHost").starts_with("/dev") {
            return Err(ApiError::bad(format_args!("invalid device '{}'", device.text("PathOnHost"))));
        }
    }
    for option in &host.texts("SecurityOpt") {
        if !starts_with_any(option, SECURITY_OPTIONS) {
            return Err(ApiError::bad(format_args!("invalid --security-opt: '{option}'")));
        }
    }
    Ok(())
}

/// Whether a text begins with one of `words`.
fn starts_with_any(text: &str, words: &str) -> bool {
    words.split(' ').any(|word| text.starts_with(word))
}

fn check_network(body: &Value, host: &Value, mode: &str) -> Result<()> {
    for (port, _) in body.entries("ExposedPorts") {
        parse_port(port)?;
    }
    for (port, bindings) in host.entries("PortBindings") {
        parse_port(port)?;
        for binding in bindings.elements() {
            let text = binding.text("HostPort");
            if !text.is_empty() && host_port(text).is_none() {
                return Err(ApiError::bad(format_args!("invalid port specification: '{text}' for {port}")));
            }
            let ip = binding.text("HostIp");
            if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
                return Err(ApiError::bad(format_args!("invalid IP address '{ip}'")));
            }
        }
    }
    if mode.starts_with("container:") && !host.entries("PortBindings").is_empty() {
        return Err(ApiError::bad(format_args!(
            "conflicting options: port publishing and the container type network mode"
        )));
    }
    Ok(())
}

/// `80/tcp`, `53/udp`, `80`.
pub fn parse_port(text: &str) -> Result<(u16, &str)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    match (minke_wire::text::number::<u16>(number), protocol) {
        (Some(number), "tcp" | "udp" | "sctp") if number > 0 => Ok((number, protocol)),
        _ => Err(ApiError::bad(format_args!("invalid port specification: '{text}'"))),
    }
}

/// `8080`, or a range `8000-8010`, of which the first one is taken.
pub fn host_port(text: &str) -> Option<u16> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (minke_wire::text::number(first)?, minke_wire::text::number(last)?);
    (first <= last).then_some(first)
}

/// 64 MiB, as everywhere.
const SHM_SIZE: i64 = 64 << 20;

/// A host config has a restart policy with both members.
pub fn complete_restart_policy(host: &mut Value) {
    let policy = host.member("RestartPolicy");
    if policy.text("Name").is_empty() {
        policy.set("Name", &"no");
    }
    fill(policy, r#"{"MaximumRetryCount":0}"#);
}

fn set_defaults(host: &mut Value, network_mode: &str) {
    host.set("NetworkMode", &network_mode);
    complete_restart_policy(host);
    if host.at("ShmSize").as_i64().unwrap_or(0) == 0 {
        host.set("ShmSize", &SHM_SIZE);
    }
    if host.text("IpcMode").is_empty() {
        host.set("IpcMode", &"private");
    }
    fill(host, HOST_DEFAULTS);
    if host.at("LogConfig").text("Type").is_empty() {
        *host.member("LogConfig") = json!({ "Type": "journald", "Config": {} });
    }
}

const HOST_DEFAULTS: &str = r#"{
    "Binds": null, "PortBindings": {}, "VolumesFrom": null, "CapAdd": null, "CapDrop": null,
    "CgroupnsMode": "private", "Dns": [], "DnsOptions": [], "DnsSearch": [], "ExtraHosts": null,
    "GroupAdd": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false, "PublishAllPorts": false,
    "ReadonlyRootfs": false, "SecurityOpt": null, "UTSMode": "", "UsernsMode": "", "Runtime": "runc",
    "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "", "CpuPeriod": 0, "CpuQuota": 0,
    "CpusetCpus": "", "CpusetMems": "", "Devices": [], "DeviceRequests": null, "MemoryReservation": 0,
    "MemorySwap": 0, "OomKillDisable": false, "PidsLimit": null, "Ulimits": null, "Init": null,
    "LogConfig": {"Type": "journald", "Config": {}}
}"#;

const CONFIG_DEFAULTS: &str = r#"{
    "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false, "AttachStderr": false,
    "Tty": false, "OpenStdin": false, "StdinOnce": false, "Cmd": null, "Volumes": null, "WorkingDir": "",
    "Entrypoint": null, "OnBuild": null, "Labels": {}
}"#;

/// Adds the members of `defaults`, the text of an object, that a value lacks.
pub fn fill(value: &mut Value, defaults: &str) {
    let map = value.make_object();
    if let Ok(Value::Object(defaults)) = minke_wire::json::parse_str(defaults) {
        for (key, value) in defaults {
            map.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
#[path = "create_tests.rs"]
mod tests;
