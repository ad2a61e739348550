//! The table of fields (spec supervisor §3.2): compose on the left, the engine's create body on the right.

use super::environment::environment;
use super::features::{Features, features, has_feature, labels};
use super::fields::{Fields, scalar};
use super::network::{ServiceNetworks, service_networks};
use super::ports::{Port, ports};
use super::volume::{ServiceVolumes, service_volumes};
use super::{Device, SUPERVISED, Wanted, command, hash};
use crate::target::{App, Pairs, Release, Service};
use crate::values;
use minke_engine_api::Image;
use minke_wire::json::{Map, Value};
use std::time::Duration;

/// Grace between the stop signal and the kill.
const GRACE: u64 = 10;
/// The engine's size of `/dev/shm`.
const SHM: i64 = 64 << 20;

/// What a container of `service` should be. `image` is what the engine knows of its image, `key` the
/// service's key for the supervisor's API. An error names what in the composition cannot be run.
pub fn container(
    app: &App,
    release: &Release,
    service: &Service,
    image: Option<&Image>,
    device: &Device,
    key: &str,
) -> Result<Wanted, String> {
    let none = Image::default();
    let from_image = image.unwrap_or(&none);
    let fields = Fields::new(&service.composition);
    let labels = all_labels(app, service, &fields, from_image);
    let host_network = fields.text("network_mode").as_deref() == Some("host");
    let features = features(&labels, device, host_network, key);
    let networks = service_networks(&app.uuid, &service.name, &fields, features.supervisor_api);
    let mut volumes = service_volumes(app.id, fields.get("volumes"));
    volumes.binds.splice(0..0, lock_binds(app, service, device));
    let published = ports(fields.get("ports").and_then(Value::as_array).map_or(&[], Vec::as_slice))?;
    let grace = stop_grace(&fields);

    let mut body = Object::default();
    body.put("Image", image.map_or(service.image.as_str(), |image| &image.id));
    body.put("Cmd", words(&fields, "command", &from_image.cmd)?);
    body.put("Entrypoint", words(&fields, "entrypoint", &from_image.entrypoint)?);
    let composed = fields.pairs("environment");
    body.put("Env", environment(app, service, composed, &features, device, &from_image.env));
    body.put("Labels", labels.into_iter().map(|(name, value)| (name, value.into())).collect::<Map>());
    body.put("WorkingDir", working_dir(&fields, from_image));
    body.put("User", fields.text("user").unwrap_or_else(|| from_image.user.clone()));
    body.put("Hostname", hostname(&fields, &networks, device));
    body.put("Domainname", fields.text("domainname").unwrap_or_default());
    body.put("MacAddress", fields.text("mac_address").unwrap_or_default());
    body.put("Tty", fields.get("tty").and_then(Value::as_bool).unwrap_or(true));
    body.put("StopSignal", stop_signal(&fields, from_image));
    body.put("StopTimeout", grace);
    body.put("Healthcheck", healthcheck(fields.get("healthcheck"), &from_image.healthcheck));
    body.put("Volumes", anonymous(&volumes, from_image));
    body.put("ExposedPorts", exposed(&published));
    body.put("HostConfig", host_config(&fields, &features, &networks, &volumes, &published));
    body.put("NetworkingConfig", networking(&networks));

    let body = Value::Object(body.0);
    let joins: Vec<_> = networks.endpoints.iter().skip(1).cloned().collect();
    let hash = hash::hash(&body, &joins);
    let names =
        |names: &[String]| names.iter().map(|name| super::volume::name(app.id, name)).collect::<Vec<_>>();
    let mut depends_on = dependencies(&fields);
    depends_on.extend(networks.of_service.clone());
    let warnings = [fields.warnings, networks.warnings, volumes.warnings].concat();
    Ok(Wanted {
        name: format!("{}_{}_{}_{}", service.name, service.image_id, release.id, release.commit),
        body,
        hash,
        joins,
        network_of: networks.of_service,
        depends_on,
        networks: networks.endpoints.into_iter().map(|(name, _)| name).collect(),
        volumes: names(&volumes.named),
        grace: Duration::from_secs(grace),
        supervisor_api: features.supervisor_api,
        warnings,
    })
}

/// A JSON object that is built field by field.
#[derive(Default)]
struct Object(Map);

impl Object {
    fn put(&mut self, key: &str, value: impl Into<Value>) {
        values::put(&mut self.0, key, value.into());
    }
}

fn all_labels(app: &App, service: &Service, fields: &Fields, image: &Image) -> Pairs {
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let system = [
        own(SUPERVISED, "true"),
        own("io.balena.app-id", &app.id.to_string()),
        own("io.balena.app-uuid", &app.uuid),
        own("io.balena.service-id", &service.id.to_string()),
        own("io.balena.service-name", &service.name),
    ];
    labels(&[&system, &service.labels, &fields.pairs("labels"), &image.labels])
}

fn words(fields: &Fields, name: &str, default: &[String]) -> Result<Vec<String>, String> {
    match fields.get(name) {
        Some(Value::String(text)) => command::split(text).map_err(|error| format!("{name}: {error}")),
        Some(Value::Array(items)) => Ok(items.iter().filter_map(scalar).collect()),
        Some(_) => Err(format!("{name}: must be a text or a list")),
        None => Ok(default.to_vec()),
    }
}

fn working_dir(fields: &Fields, image: &Image) -> String {
    let path = fields.text("working_dir").unwrap_or_else(|| image.working_dir.clone());
    match path.trim_end_matches('/') {
        "" => path,
        trimmed => trimmed.to_owned(),
    }
}

fn hostname(fields: &Fields, networks: &ServiceNetworks, device: &Device) -> String {
    match networks.mode.as_str() {
        "host" => device.host_name.clone(),
        // The engine refuses a name for a container that shares another's.
        _ if networks.of_service.is_some() => String::new(),
        _ => fields.text("hostname").unwrap_or_default(),
    }
}

fn stop_signal(fields: &Fields, image: &Image) -> String {
    let asked = fields.text("stop_signal").unwrap_or_else(|| image.stop_signal.clone());
    if asked.is_empty() { "SIGTERM".to_owned() } else { asked }
}

fn stop_grace(fields: &Fields) -> u64 {
    let nanoseconds = fields.get("stop_grace_period").and_then(values::duration);
    let seconds = nanoseconds
        .and_then(|time| u64::try_from(time).ok())
        .map(|time| Duration::from_nanos(time).as_secs());
    seconds.unwrap_or(GRACE)
}

/// The image's health check overlaid by the composition's (§3.2.2).
fn healthcheck(asked: Option<&Value>, image: &Value) -> Value {
    let disabled = asked.and_then(|check| check.get("disable")).and_then(Value::as_bool) == Some(true);
    let mut out = if disabled { Map::new() } else { image.as_object().cloned().unwrap_or_default() };
    let asked = if disabled { None } else { asked };
    let given = |key: &str| asked.and_then(|check| check.get(key)).filter(|value| !value.is_null());
    match given("test") {
        Some(Value::String(text)) => values::put(&mut out, "Test", vec!["CMD-SHELL", text].into()),
        Some(list @ Value::Array(_)) => values::put(&mut out, "Test", list.clone()),
        _ => {}
    }
    for (key, field) in [("interval", "Interval"), ("timeout", "Timeout"), ("start_period", "StartPeriod")] {
        if let Some(time) = given(key).and_then(values::duration) {
            values::put(&mut out, field, time.into());
        }
    }
    if let Some(retries) = given("retries").and_then(values::int) {
        values::put(&mut out, "Retries", retries.into());
    }
    if !out.contains_key("Test") {
        return values::object(vec![("Test", vec!["NONE"].into())]);
    }
    Value::Object(out)
}

fn anonymous(volumes: &ServiceVolumes, image: &Image) -> Map {
    let paths = image.volumes.iter().chain(&volumes.anonymous);
    paths.map(|path| (path.clone(), values::empty())).collect()
}

fn exposed(ports: &[Port]) -> Map {
    ports.iter().map(|port| (port.internal.clone(), values::empty())).collect()
}

fn bindings(ports: &[Port]) -> Map {
    let mut out = Map::new();
    for port in ports {
        let binding = values::object(vec![
            ("HostIp", port.host.as_str().into()),
            ("HostPort", port.external.to_string().into()),
        ]);
        let entry = out.entry(port.internal.clone()).or_insert_with(|| Value::Array(Vec::new()));
        if let Some(list) = entry.as_array_mut() {
            list.push(binding);
        }
    }
    out
}

fn networking(networks: &ServiceNetworks) -> Value {
    let main = networks.endpoints.first().cloned();
    values::object(vec![("EndpointsConfig", Value::Object(main.into_iter().collect()))])
}

/// The folder of a service's update locks, where the service finds it (§3.6.3).
fn lock_binds(app: &App, service: &Service, device: &Device) -> [String; 2] {
    let folder = format!("{}/{}/{}", device.lock_root, app.id, service.name);
    ["/tmp/resin", "/tmp/balena"].map(|inside| format!("{folder}:{inside}"))
}

fn host_config(
    fields: &Fields,
    features: &Features,
    networks: &ServiceNetworks,
    volumes: &ServiceVolumes,
    published: &[Port],
) -> Map {
    let mut host = Object::default();
    host.put("Binds", [&volumes.binds[..], &features.binds].concat());
    host.put("Mounts", [&volumes.mounts[..], &features.mounts].concat());
    host.put("NetworkMode", networks.mode.as_str());
    host.put("PortBindings", bindings(published));
    host.put("RestartPolicy", restart_policy(fields.get("restart")));
    host.put("Devices", devices(&fields.list("devices")));
    host.put("DeviceRequests", features.devices.clone());
    host.put("ExtraHosts", extra_hosts(fields));
    host.put("SecurityOpt", security(fields));
    host.put("Tmpfs", tmpfs(fields));
    host.put("Sysctls", fields.pairs("sysctls").into_iter().map(|(k, v)| (k, v.into())).collect::<Map>());
    host.put("Ulimits", ulimits(fields.get("ulimits")));
    host.put("IpcMode", fields.text("ipc").unwrap_or_else(|| "shareable".to_owned()));
    host.put("NanoCpus", fields.get("cpus").and_then(values::nano).unwrap_or(0));
    host.put("Memory", fields.memory("mem_limit", 0));
    host.put("MemoryReservation", fields.memory("mem_reservation", 0));
    host.put("ShmSize", fields.memory("shm_size", SHM));
    if let Some(init) = fields.get("init").and_then(Value::as_bool) {
        host.put("Init", init);
    }
    for (field, key) in LISTS {
        host.put(field, fields.list(key));
    }
    for (field, key) in FLAGS {
        host.put(field, fields.flag(key));
    }
    for (field, key) in NUMBERS {
        host.put(field, fields.int(key));
    }
    for (field, key) in TEXTS {
        host.put(field, fields.text(key).unwrap_or_default());
    }
    host.0
}

const LISTS: [(&str, &str); 6] = [
    ("CapAdd", "cap_add"),
    ("CapDrop", "cap_drop"),
    ("Dns", "dns"),
    ("DnsOptions", "dns_opt"),
    ("DnsSearch", "dns_search"),
    ("GroupAdd", "group_add"),
];

const FLAGS: [(&str, &str); 3] =
    [("Privileged", "privileged"), ("ReadonlyRootfs", "read_only"), ("OomKillDisable", "oom_kill_disable")];

const NUMBERS: [(&str, &str); 4] = [
    ("PidsLimit", "pids_limit"),
    ("CpuShares", "cpu_shares"),
    ("CpuQuota", "cpu_quota"),
    ("OomScoreAdj", "oom_score_adj"),
];

const TEXTS: [(&str, &str); 4] = [
    ("PidMode", "pid"),
    ("UsernsMode", "userns_mode"),
    ("CgroupParent", "cgroup_parent"),
    ("CpusetCpus", "cpuset"),
];

fn restart_policy(value: Option<&Value>) -> Value {
    values::object(vec![("Name", restart(value).into()), ("MaximumRetryCount", 0.into())])
}

/// YAML's `no` arrives as `false` or as an empty text (§3.2.3).
fn restart(value: Option<&Value>) -> &'static str {
    match value {
        Some(Value::Bool(false)) => "no",
        Some(Value::String(text)) => match text.trim().to_ascii_lowercase().as_str() {
            "no" | "" | "false" => "no",
            "on-failure" => "on-failure",
            "unless-stopped" => "unless-stopped",
            _ => "always",
        },
        _ => "always",
    }
}

fn devices(entries: &[String]) -> Vec<Value> {
    let device = |entry: &String| {
        let mut parts = entry.split(':');
        let host = parts.next().unwrap_or_default();
        let inside = parts.next().filter(|path| !path.is_empty()).unwrap_or(host);
        let permissions = parts.next().filter(|text| !text.is_empty()).unwrap_or("rwm");
        values::object(vec![
            ("PathOnHost", host.into()),
            ("PathInContainer", inside.into()),
            ("CgroupPermissions", permissions.into()),
        ])
    };
    entries.iter().map(device).collect()
}

fn extra_hosts(fields: &Fields) -> Vec<String> {
    match fields.get("extra_hosts") {
        Some(Value::Object(_)) => fields
            .pairs("extra_hosts")
            .into_iter()
            .map(|(host, address)| format!("{host}:{address}"))
            .collect(),
        _ => fields.list("extra_hosts").into_iter().map(|entry| entry.replacen('=', ":", 1)).collect(),
    }
}

fn security(fields: &Fields) -> Vec<String> {
    let mut options = fields.list("security_opt");
    options.retain(|option| !option.contains("label="));
    options
}

fn tmpfs(fields: &Fields) -> Map {
    let entry = |text: String| {
        let (path, options) = text.split_once(':').unwrap_or((&text, ""));
        (path.to_owned(), options.into())
    };
    fields.list("tmpfs").into_iter().map(entry).collect()
}

fn ulimits(value: Option<&Value>) -> Vec<Value> {
    let limit = |(name, value): (&String, &Value)| {
        let (soft, hard) = match value {
            Value::Object(pair) => (values::int(pair.get("soft")?)?, values::int(pair.get("hard")?)?),
            number => (values::int(number)?, values::int(number)?),
        };
        Some(values::object(vec![
            ("Name", name.as_str().into()),
            ("Soft", soft.into()),
            ("Hard", hard.into()),
        ]))
    };
    value.and_then(Value::as_object).into_iter().flatten().filter_map(limit).collect()
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
