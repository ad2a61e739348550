//! The table of fields (spec supervisor §3.2): compose on the left, the engine's create body on the right.

use super::environment::environment;
use super::features::{Features, features, has_feature, labels};
use super::fields::Fields;
use super::network::{ServiceNetworks, service_networks};
use super::ports::{Port, ports};
use super::volume::{ServiceVolumes, service_volumes};
use super::{Device, SUPERVISED, Wanted, command, hash};
use crate::target::{App, Pairs, Release, Service};
use crate::values;
use minke_engine_api::Image;
use minke_wire::json::{Map, Value, json};
use std::time::Duration;

/// Grace between the stop signal and the kill.
const GRACE: i64 = 10;
/// The engine's size of `/dev/shm`.
const SHM: i64 = 64 << 20;

/// What stands in for an image that is not there.
static NO_IMAGE: Image = Image {
    id: String::new(),
    cmd: Vec::new(),
    entrypoint: Vec::new(),
    env: Vec::new(),
    labels: Vec::new(),
    volumes: Vec::new(),
    working_dir: String::new(),
    user: String::new(),
    stop_signal: String::new(),
    healthcheck: Value::Null,
};

/// What a container's fields are made of.
struct Parts<'a> {
    app: &'a App,
    service: &'a Service,
    device: &'a Device,
    image: &'a Image,
    fields: Fields,
    labels: Pairs,
    features: Features,
    networks: ServiceNetworks,
    volumes: ServiceVolumes,
    ports: Vec<Port>,
    command: Vec<String>,
    entrypoint: Vec<String>,
}

/// What a container of `service` should be. `image` is what the engine knows of its image, `key` the
/// service's key for the supervisor's API. An error names what in the composition cannot be run.
pub fn container(
    app: &App,
    release: &Release,
    service: &Service,
    image: Option<&Image>,
    device: &Device,
    key: &str,
) -> Result<Box<Wanted>, String> {
    let image = image.unwrap_or(&NO_IMAGE);
    let fields = Fields::new(&service.composition);
    let ports = ports(values::list(fields.get("ports")))?;
    let command = words(&fields, "command", &image.cmd)?;
    let entrypoint = words(&fields, "entrypoint", &image.entrypoint)?;
    let labels = all_labels(app, service, &fields, image);
    let features = features(&labels, device, fields.is_on_host_network(), key);
    let networks = service_networks(&app.uuid, &service.name, &fields, features.supervisor_api);
    let volumes = service_volumes(app.id, fields.get("volumes"));
    let mut parts = Parts {
        app,
        service,
        device,
        image,
        fields,
        labels,
        features,
        networks,
        volumes,
        ports,
        command,
        entrypoint,
    };
    let body = parts.object(&BODY);
    let Parts { fields, features, networks, volumes, .. } = &mut parts;
    let joins = networks.endpoints.get(1..).unwrap_or_default().to_vec();
    let mut depends_on = dependencies(fields);
    depends_on.extend(networks.of_service.clone());
    fields.warnings.append(&mut networks.warnings);
    fields.warnings.append(&mut volumes.warnings);
    Ok(Box::new(Wanted {
        name: format!("{}_{}_{}_{}", service.name, service.image_id, release.id, release.commit),
        hash: hash::hash(&body, &joins),
        body,
        joins,
        network_of: networks.of_service.take(),
        depends_on,
        networks: networks.endpoints.iter().map(|(name, _)| name.clone()).collect(),
        volumes: volumes.named.iter().map(|name| super::volume::name(app.id, name)).collect(),
        grace: Duration::from_secs(grace(fields).unsigned_abs()),
        supervisor_api: features.supervisor_api,
        warnings: std::mem::take(&mut fields.warnings),
    }))
}

/// Where a field of the engine's comes from: a field of the composition with a usual shape, or a function.
enum Source {
    Text(&'static str),
    Flag(&'static str),
    Number(&'static str),
    Memory(&'static str),
    List(&'static str),
    /// `null` leaves the field out.
    Made(fn(&Parts<'_>) -> Value),
}

use Source::{Flag, List, Made, Memory, Number, Text};

const BODY: [(&str, Source); 18] = [
    ("Image", Made(image)),
    ("Cmd", Made(|parts| json!(parts.command))),
    ("Entrypoint", Made(|parts| json!(parts.entrypoint))),
    ("Env", Made(variables)),
    ("Labels", Made(|parts| texts(&parts.labels))),
    ("WorkingDir", Made(working_dir)),
    ("User", Made(|parts| parts.text_or("user", &parts.image.user).into())),
    ("Hostname", Made(hostname)),
    ("Domainname", Text("domainname")),
    ("MacAddress", Text("mac_address")),
    ("Tty", Made(|parts| parts.fields.get("tty").and_then(Value::as_bool).unwrap_or(true).into())),
    ("StopSignal", Made(stop_signal)),
    ("StopTimeout", Made(|parts| grace(&parts.fields).into())),
    ("Healthcheck", Made(healthcheck)),
    ("Volumes", Made(anonymous)),
    ("ExposedPorts", Made(exposed)),
    ("HostConfig", Made(|parts| parts.object(&HOST))),
    ("NetworkingConfig", Made(networking)),
];

const HOST: [(&str, Source); 35] = [
    ("Binds", Made(binds)),
    ("Mounts", Made(mounts)),
    ("NetworkMode", Made(|parts| parts.networks.mode.as_str().into())),
    ("PortBindings", Made(bindings)),
    ("RestartPolicy", Made(restart_policy)),
    ("Devices", Made(devices)),
    ("DeviceRequests", Made(|parts| Value::Array(parts.features.devices.clone()))),
    ("ExtraHosts", Made(extra_hosts)),
    ("SecurityOpt", Made(security)),
    ("Tmpfs", Made(tmpfs)),
    ("Sysctls", Made(|parts| texts(&parts.fields.pairs("sysctls")))),
    ("Ulimits", Made(ulimits)),
    ("IpcMode", Made(|parts| parts.text_or("ipc", "shareable").into())),
    ("NanoCpus", Made(|parts| parts.fields.get("cpus").and_then(values::nano).unwrap_or(0).into())),
    ("Memory", Memory("mem_limit")),
    ("MemoryReservation", Memory("mem_reservation")),
    ("ShmSize", Made(|parts| parts.fields.memory("shm_size", SHM).into())),
    ("Init", Made(|parts| parts.fields.get("init").and_then(Value::as_bool).into())),
    ("CapAdd", List("cap_add")),
    ("CapDrop", List("cap_drop")),
    ("Dns", List("dns")),
    ("DnsOptions", List("dns_opt")),
    ("DnsSearch", List("dns_search")),
    ("GroupAdd", List("group_add")),
    ("Privileged", Flag("privileged")),
    ("ReadonlyRootfs", Flag("read_only")),
    ("OomKillDisable", Flag("oom_kill_disable")),
    ("PidsLimit", Number("pids_limit")),
    ("CpuShares", Number("cpu_shares")),
    ("CpuQuota", Number("cpu_quota")),
    ("OomScoreAdj", Number("oom_score_adj")),
    ("PidMode", Text("pid")),
    ("UsernsMode", Text("userns_mode")),
    ("CgroupParent", Text("cgroup_parent")),
    ("CpusetCpus", Text("cpuset")),
];

impl Parts<'_> {
    fn object(&self, table: &[(&str, Source)]) -> Value {
        let fields = &self.fields;
        let mut out = Map::new();
        for (name, source) in table {
            let value = match source {
                Text(key) => self.text_or(key, "").into(),
                Flag(key) => fields.flag(key).into(),
                Number(key) => fields.int(key).into(),
                Memory(key) => fields.memory(key, 0).into(),
                List(key) => json!(fields.list(key)),
                Made(make) => make(self),
            };
            if !value.is_null() {
                values::put(&mut out, name, value);
            }
        }
        Value::Object(out)
    }

    fn text_or(&self, key: &str, default: &str) -> String {
        self.fields.text(key).unwrap_or_else(|| default.to_owned())
    }
}

fn all_labels(app: &App, service: &Service, fields: &Fields, image: &Image) -> Pairs {
    let (app_id, service_id) = (app.id.to_string(), service.id.to_string());
    let system = [
        (SUPERVISED, "true"),
        ("io.balena.app-id", &app_id),
        ("io.balena.app-uuid", &app.uuid),
        ("io.balena.service-id", &service_id),
        ("io.balena.service-name", &service.name),
    ];
    let system = system.map(|(name, value)| (name.to_owned(), value.to_owned()));
    labels(&[&system, &service.labels, &fields.pairs("labels"), &image.labels])
}

fn words(fields: &Fields, name: &str, default: &[String]) -> Result<Vec<String>, String> {
    match fields.get(name) {
        Some(Value::String(text)) => command::split(text).map_err(|error| format!("{name}: {error}")),
        Some(Value::Array(_)) => Ok(fields.list(name)),
        Some(_) => Err(format!("{name}: must be a text or a list")),
        None => Ok(default.to_vec()),
    }
}

fn image(parts: &Parts<'_>) -> Value {
    let (id, name) = (&parts.image.id, &parts.service.image);
    if id.is_empty() { name.into() } else { id.into() }
}

fn variables(parts: &Parts<'_>) -> Value {
    let composed = parts.fields.pairs("environment");
    environment(parts.app, parts.service, &composed, &parts.features, parts.device, &parts.image.env)
}

/// An object of texts.
fn texts(pairs: &[(String, String)]) -> Value {
    let mut out = Map::new();
    for (name, value) in pairs {
        values::put(&mut out, name, value.into());
    }
    Value::Object(out)
}

fn working_dir(parts: &Parts<'_>) -> Value {
    let path = parts.text_or("working_dir", &parts.image.working_dir);
    match path.trim_end_matches('/') {
        "" => path.into(),
        trimmed => trimmed.into(),
    }
}

fn hostname(parts: &Parts<'_>) -> Value {
    match parts.networks.mode.as_str() {
        "host" => parts.device.host_name.as_str().into(),
        // The engine refuses a name for a container that shares another's.
        _ if parts.networks.of_service.is_some() => "".into(),
        _ => parts.text_or("hostname", "").into(),
    }
}

fn stop_signal(parts: &Parts<'_>) -> Value {
    let asked = parts.text_or("stop_signal", &parts.image.stop_signal);
    if asked.is_empty() { "SIGTERM".into() } else { asked.into() }
}

/// Seconds between the stop signal and the kill.
fn grace(fields: &Fields) -> i64 {
    fields.get("stop_grace_period").and_then(values::duration).map_or(GRACE, |time| time / 1_000_000_000)
}

/// The image's health check overlaid by the composition's (§3.2.2).
fn healthcheck(parts: &Parts<'_>) -> Value {
    let none = || json!({ "Test": ["NONE"] });
    let mut out = values::members(Some(&parts.image.healthcheck)).clone();
    if let Some(asked) = parts.fields.get("healthcheck") {
        if values::flag(asked, "disable") {
            return none();
        }
        match asked.get("test") {
            Some(Value::String(text)) => values::put(&mut out, "Test", json!(["CMD-SHELL", text])),
            Some(list @ Value::Array(_)) => values::put(&mut out, "Test", list.clone()),
            _ => {}
        }
        for (key, field) in [
            ("interval", "Interval"),
            ("timeout", "Timeout"),
            ("start_period", "StartPeriod"),
            ("retries", "Retries"),
        ] {
            let read = if key == "retries" { values::int } else { values::duration };
            if let Some(number) = asked.get(key).and_then(read) {
                values::put(&mut out, field, number.into());
            }
        }
    }
    if out.contains_key("Test") { Value::Object(out) } else { none() }
}

/// An object with these members, all empty.
fn keys<'a>(names: impl Iterator<Item = &'a String>) -> Value {
    let mut out = Map::new();
    for name in names {
        values::put(&mut out, name, json!({}));
    }
    Value::Object(out)
}

fn anonymous(parts: &Parts<'_>) -> Value {
    keys(parts.image.volumes.iter().chain(&parts.volumes.anonymous))
}

fn exposed(parts: &Parts<'_>) -> Value {
    keys(parts.ports.iter().map(|port| &port.internal))
}

fn bindings(parts: &Parts<'_>) -> Value {
    let mut out = Map::new();
    for port in &parts.ports {
        let binding = json!({ "HostIp": port.host, "HostPort": port.external.to_string() });
        match out.get_mut(&port.internal) {
            Some(Value::Array(list)) => list.push(binding),
            _ => values::put(&mut out, &port.internal, Value::Array(vec![binding])),
        }
    }
    Value::Object(out)
}

fn networking(parts: &Parts<'_>) -> Value {
    let mut main = Map::new();
    if let Some((name, endpoint)) = parts.networks.endpoints.first() {
        values::put(&mut main, name, endpoint.clone());
    }
    json!({ "EndpointsConfig": main })
}

/// The folder of the service's update locks, where the service finds it (§3.6.3), its volumes, and what
/// features bind.
fn binds(parts: &Parts<'_>) -> Value {
    let folder = format!("{}/{}/{}", parts.device.lock_root, parts.app.id, parts.service.name);
    let mut binds = ["/tmp/resin", "/tmp/balena"].map(|inside| format!("{folder}:{inside}")).to_vec();
    binds.extend_from_slice(&parts.volumes.binds);
    binds.extend_from_slice(&parts.features.binds);
    json!(binds)
}

fn mounts(parts: &Parts<'_>) -> Value {
    let mut mounts = parts.volumes.mounts.clone();
    mounts.extend_from_slice(&parts.features.mounts);
    Value::Array(mounts)
}

fn restart_policy(parts: &Parts<'_>) -> Value {
    json!({ "Name": restart(parts.fields.get("restart")), "MaximumRetryCount": 0 })
}

/// YAML's `no` arrives as `false` or as an empty text (§3.2.3).
fn restart(value: Option<&Value>) -> &'static str {
    let text = match value {
        Some(Value::Bool(false)) => return "no",
        Some(Value::String(text)) => text.trim(),
        _ => return "always",
    };
    let given = |name: &&&str| text.eq_ignore_ascii_case(name);
    match ["", "false", "no", "on-failure", "unless-stopped"].iter().find(given) {
        Some(&("" | "false")) => "no",
        Some(name) => name,
        None => "always",
    }
}

fn devices(parts: &Parts<'_>) -> Value {
    let mut out = Vec::new();
    for entry in parts.fields.list("devices") {
        let mut words = entry.split(':');
        let mut next = |default| words.next().filter(|word| !word.is_empty()).unwrap_or(default);
        let host = next("");
        let (inside, permissions) = (next(host), next("rwm"));
        out.push(json!({ "PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": permissions }));
    }
    Value::Array(out)
}

fn extra_hosts(parts: &Parts<'_>) -> Value {
    let fields = &parts.fields;
    let mut out = Vec::new();
    if let Some(Value::Object(_)) = fields.get("extra_hosts") {
        for (host, address) in fields.pairs("extra_hosts") {
            out.push(format!("{host}:{address}"));
        }
    } else {
        for entry in fields.list("extra_hosts") {
            out.push(entry.replacen('=', ":", 1));
        }
    }
    json!(out)
}

fn security(parts: &Parts<'_>) -> Value {
    let mut options = parts.fields.list("security_opt");
    options.retain(|option| !minke_wire::text::contains(option, "label="));
    json!(options)
}

fn tmpfs(parts: &Parts<'_>) -> Value {
    let mut out = Map::new();
    for text in parts.fields.list("tmpfs") {
        let (path, options) = text.split_once(':').unwrap_or((&text, ""));
        values::put(&mut out, path, options.into());
    }
    Value::Object(out)
}

fn ulimits(parts: &Parts<'_>) -> Value {
    let mut out = Vec::new();
    for (name, value) in values::members(parts.fields.get("ulimits")) {
        let (soft, hard) = match value {
            Value::Object(pair) => (&pair["soft"], &pair["hard"]),
            number => (number, number),
        };
        if let (Some(soft), Some(hard)) = (values::int(soft), values::int(hard)) {
            out.push(json!({ "Name": name, "Soft": soft, "Hard": hard }));
        }
    }
    Value::Array(out)
}

fn dependencies(fields: &Fields) -> Vec<String> {
    match fields.get("depends_on") {
        Some(Value::Object(map)) => map.keys().cloned().collect(),
        _ => fields.list("depends_on"),
    }
}

/// Whether the service reaches the supervisor's API, from its own labels alone: then it needs a key.
pub fn wants_key(service: &Service) -> bool {
    let fields = Fields::new(&service.composition);
    let all = labels(&[&service.labels, &fields.pairs("labels")]);
    has_feature(&all, "supervisor-api")
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
