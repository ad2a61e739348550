//! Networks (spec supervisor §3.7).

use super::SUPERVISED;
use super::fields::Fields;
use super::volume::{object, sorted};
use crate::target::{App, Release};
use crate::values::{self, put};
use minke_engine_api::Network;
use minke_wire::json::{Map, Value};

/// The network by which services reach the supervisor's API (§3.7.6).
pub const SUPERVISOR_NETWORK: &str = "supervisor0";
/// The supervisor's address in it.
pub const SUPERVISOR_GATEWAY: &str = "10.114.104.1";

const SUPERVISOR_SUBNET: &str = "10.114.104.0/25";

/// Says that a network was created with address pools of the user's.
const IPAM_LABEL: &str = "io.balena.private.ipam.config";

/// How a service is connected.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ServiceNetworks {
    /// `HostConfig.NetworkMode`; empty when [`ServiceNetworks::of_service`] decides at create.
    pub mode: String,
    /// The service in whose network namespace this one lives.
    pub of_service: Option<String>,
    /// The networks with their endpoint settings, the main one first; none for `host` and `none`.
    pub endpoints: Vec<(String, Value)>,
    /// What was left out.
    pub warnings: Vec<String>,
}

/// The engine's name of a network.
pub fn name(app_uuid: &str, network: &str) -> String {
    format!("{app_uuid}_{network}")
}

/// Reads `networks` and `network_mode` of a service (§3.7.4).
pub fn service_networks(
    app_uuid: &str,
    service: &str,
    fields: &Fields,
    supervisor_api: bool,
) -> ServiceNetworks {
    let mut out = ServiceNetworks::default();
    let mut wanted = declared(fields.get("networks"));
    wanted.retain(|(network, _)| network != SUPERVISOR_NETWORK);
    let mut mode = fields.text("network_mode").unwrap_or_default();
    if mode.starts_with("container:") {
        out.warnings.push(format!("Ignoring network_mode {mode}"));
        mode.clear();
    }
    if let Some(other) = mode.strip_prefix("service:") {
        out.of_service = Some(other.trim().to_owned());
        return out;
    }
    if matches!(mode.as_str(), "host" | "none" | "bridge") {
        out.mode = mode;
        return out;
    }
    if mode.is_empty() {
        mode = wanted.first().map_or_else(|| "default".to_owned(), |(network, _)| network.clone());
    }
    if !wanted.iter().any(|(network, _)| *network == mode) {
        wanted.insert(0, (mode.clone(), Value::Null));
    }
    // The engine wants the main network first.
    wanted.sort_by_key(|(network, _)| *network != mode);
    let endpoints =
        wanted.iter().map(|(network, config)| (name(app_uuid, network), endpoint(service, config)));
    out.endpoints.extend(endpoints);
    if supervisor_api {
        out.endpoints
            .push((SUPERVISOR_NETWORK.to_owned(), values::object(vec![("Aliases", vec![service].into())])));
    }
    out.mode = name(app_uuid, &mode);
    out
}

/// Whether a service of this composition lives outside all of its app's networks.
fn needs_no_network(composition: &Map) -> bool {
    let mode = composition.get("network_mode").or_else(|| composition.get("networkMode"));
    matches!(mode.and_then(Value::as_str), Some("host" | "none"))
}

fn declared(value: Option<&Value>) -> Vec<(String, Value)> {
    match value {
        Some(Value::Array(names)) => {
            names.iter().filter_map(|name| Some((name.as_str()?.to_owned(), Value::Null))).collect()
        }
        Some(Value::Object(map)) => map.iter().map(|(name, config)| (name.clone(), config.clone())).collect(),
        _ => Vec::new(),
    }
}

fn endpoint(service: &str, config: &Value) -> Value {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let aliases =
        config.get("aliases").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let mut aliases: Vec<&str> = aliases.collect();
    if !aliases.contains(&service) {
        aliases.push(service);
    }
    let mut ipam = Map::new();
    for (key, field) in [("ipv4_address", "IPv4Address"), ("ipv6_address", "IPv6Address")] {
        if let Some(address) = text(key) {
            put(&mut ipam, field, address.into());
        }
    }
    if let Some(local) = config.get("link_local_ips").filter(|local| local.is_array()) {
        put(&mut ipam, "LinkLocalIPs", local.clone());
    }
    let mut out = Map::new();
    put(&mut out, "Aliases", aliases.into());
    if !ipam.is_empty() {
        put(&mut out, "IPAMConfig", Value::Object(ipam));
    }
    Value::Object(out)
}

/// The bodies that create the networks of a release, by engine name. `default` is always among them; it is
/// config-only when no service would use it, so that it takes no bridge and no subnet (§3.7.2).
pub fn bodies(app: &App, release: &Release) -> Vec<(String, Value)> {
    let mut out: Vec<_> =
        release.networks.iter().map(|(network, config)| body(app, network, config)).collect();
    if !release.networks.contains_key("default") {
        let unused = !release.services.is_empty()
            && release.services.iter().all(|service| needs_no_network(&service.composition));
        out.push(body(app, "default", &values::object(vec![("config_only", unused.into())])));
    }
    out
}

fn body(app: &App, network: &str, config: &Value) -> (String, Value) {
    let ipam = config.get("ipam");
    let pools = ipam.and_then(|ipam| ipam.get("config")).and_then(Value::as_array).into_iter().flatten();
    let pools: Vec<Value> = pools.map(pool).collect();
    let flag = |key: &str| Value::Bool(config.get(key).and_then(Value::as_bool).unwrap_or(false));
    let mut labels = object(config.get("labels"));
    put(&mut labels, SUPERVISED, "true".into());
    put(&mut labels, "io.balena.app-id", app.id.to_string().into());
    if !pools.is_empty() {
        put(&mut labels, IPAM_LABEL, "true".into());
    }
    let text =
        |value: Option<&Value>, default: &str| Value::from(value.and_then(Value::as_str).unwrap_or(default));
    let name = name(&app.uuid, network);
    let ipam = values::object(vec![
        ("Driver", text(ipam.and_then(|ipam| ipam.get("driver")), "default")),
        ("Config", Value::Array(pools)),
        ("Options", Value::Object(object(ipam.and_then(|ipam| ipam.get("options"))))),
    ]);
    let body = values::object(vec![
        ("Name", name.as_str().into()),
        ("Driver", text(config.get("driver"), "bridge")),
        ("CheckDuplicate", true.into()),
        ("Options", Value::Object(object(config.get("driver_opts")))),
        ("IPAM", ipam),
        ("EnableIPv6", flag("enable_ipv6")),
        ("Internal", flag("internal")),
        ("ConfigOnly", flag("config_only")),
        ("Labels", Value::Object(labels)),
    ]);
    (name, body)
}

fn pool(config: &Value) -> Value {
    let mut out = Map::new();
    for (key, field) in [("subnet", "Subnet"), ("gateway", "Gateway"), ("ip_range", "IPRange")] {
        if let Some(text) = config.get(key).and_then(Value::as_str) {
            put(&mut out, field, text.into());
        }
    }
    Value::Object(out)
}

/// The body that creates the supervisor's own network.
pub fn supervisor_body() -> Value {
    let pool = vec![("Subnet", SUPERVISOR_SUBNET.into()), ("Gateway", SUPERVISOR_GATEWAY.into())];
    let pools = Value::Array(vec![values::object(pool)]);
    values::object(vec![
        ("Name", SUPERVISOR_NETWORK.into()),
        ("Driver", "bridge".into()),
        ("CheckDuplicate", true.into()),
        ("Options", values::object(vec![("com.docker.network.bridge.name", SUPERVISOR_NETWORK.into())])),
        ("IPAM", values::object(vec![("Driver", "default".into()), ("Config", pools)])),
    ])
}

/// Whether a network is what `body` would create (§3.7.3). Pools count only where the body has some; that
/// some came or went shows in the label.
pub fn is_same(body: &Value, network: &Network) -> bool {
    let flag = |key: &str| body.get(key).and_then(Value::as_bool).unwrap_or(false);
    let pools = body.pointer("/IPAM/Config").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let text = |pool: &Value, key: &str| pool.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let wanted: Vec<_> = pools
        .iter()
        .map(|pool| [text(pool, "Subnet"), text(pool, "Gateway"), text(pool, "IPRange")])
        .collect();
    let driver = body.get("Driver").and_then(Value::as_str);
    flag("ConfigOnly") == network.config_only
        && (network.config_only || driver == Some(&network.driver))
        && flag("Internal") == network.internal
        && flag("EnableIPv6") == network.ipv6
        && sorted(body.get("Options")) == network.options
        && sorted(body.get("Labels")) == network.labels
        && (wanted.is_empty() || wanted == network.pools)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    fn connect(composition: &Value, supervisor_api: bool) -> ServiceNetworks {
        service_networks("u", "web", &Fields::new(composition.as_object().unwrap()), supervisor_api)
    }

    fn names(networks: &ServiceNetworks) -> Vec<&str> {
        networks.endpoints.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn the_main_network_is_the_first_or_default() {
        let none = connect(&json!({}), false);
        assert_eq!((&*none.mode, names(&none)), ("u_default", vec!["u_default"]));
        assert_eq!(none.endpoints[0].1, json!({ "Aliases": ["web"] }));
        let two = connect(
            &json!({ "networks": { "b": { "aliases": ["x"], "ipv4_address": "1.2.3.4" }, "a": null } }),
            true,
        );
        assert_eq!((&*two.mode, names(&two)), ("u_b", vec!["u_b", "u_a", "supervisor0"]));
        assert_eq!(
            two.endpoints[0].1,
            json!({ "Aliases": ["x", "web"], "IPAMConfig": { "IPv4Address": "1.2.3.4" } })
        );
        let list = connect(&json!({ "networks": ["a", "b", "supervisor0"], "network_mode": "b" }), false);
        assert_eq!((&*list.mode, names(&list)), ("u_b", vec!["u_b", "u_a"]));
    }

    #[test]
    fn modes_that_are_no_network() {
        let host = connect(&json!({ "network_mode": "host", "networks": ["a"] }), true);
        assert_eq!((&*host.mode, host.endpoints.len()), ("host", 0));
        let other = connect(&json!({ "network_mode": "service: db" }), false);
        assert_eq!((other.of_service.as_deref(), other.endpoints.len()), (Some("db"), 0));
        let refused = connect(&json!({ "network_mode": "container:abc" }), false);
        assert_eq!((&*refused.mode, refused.warnings.len()), ("u_default", 1));
    }

    fn app() -> (App, Release) {
        let release = Release {
            commit: "c".into(),
            id: 1,
            services: vec![],
            volumes: Map::new(),
            networks: Map::new(),
        };
        (App { uuid: "u".into(), id: 7, name: "a".into(), is_host: false, release: None }, release)
    }

    fn found(body: &Value) -> Network {
        Network {
            name: "u_default".into(),
            driver: "bridge".into(),
            labels: sorted(body.get("Labels")),
            pools: vec![["172.18.0.0/16".into(), "172.18.0.1".into(), String::new()]],
            ..Network::default()
        }
    }

    #[test]
    fn default_is_always_there_and_an_engines_choice_of_subnet_is_no_change() {
        let (app, release) = app();
        let bodies = bodies(&app, &release);
        assert_eq!((bodies.len(), &*bodies[0].0), (1, "u_default"));
        let network = found(&bodies[0].1);
        assert!(is_same(&bodies[0].1, &network));
        assert!(!is_same(&bodies[0].1, &Network { internal: true, ..network.clone() }));
        assert!(!is_same(&bodies[0].1, &Network { labels: vec![], ..network }));
    }

    #[test]
    fn pools_of_the_user_are_compared() {
        let (app, mut release) = app();
        let pool = json!({ "ipam": { "config": [{ "subnet": "172.18.0.0/16", "gateway": "172.18.0.1" }] } });
        release.networks.insert("default", pool);
        let body = &bodies(&app, &release)[0].1;
        assert!(is_same(body, &found(body)));
        assert!(!is_same(body, &Network { pools: vec![], ..found(body) }));
    }
}
