//! Networks (spec supervisor §3.7).

use super::SUPERVISED;
use super::fields::Fields;
use super::volume::{object, sorted};
use crate::target::{App, Release};
use crate::values::{flag, list, members, put, set, text};
use minke_engine_api::Network;
use minke_wire::json::{Map, Value, json};

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
    let mut wanted: Vec<(&str, &Value)> = Vec::new();
    let networks = fields.get("networks");
    wanted.extend(members(networks).iter().map(|(network, config)| (network.as_str(), config)));
    wanted.extend(list(networks).iter().filter_map(|network| Some((network.as_str()?, &Value::Null))));
    wanted.retain(|(network, _)| *network != SUPERVISOR_NETWORK);
    if mode.is_empty() {
        wanted.first().map_or("default", |(network, _)| network).clone_into(&mut mode);
    }
    if !wanted.iter().any(|(network, _)| *network == mode) {
        wanted.push((&mode, &Value::Null));
    }
    // The engine wants the main network first.
    for main in [true, false] {
        for (network, config) in &wanted {
            if (*network == mode) == main {
                out.endpoints.push((name(app_uuid, network), endpoint(service, config)));
            }
        }
    }
    if supervisor_api {
        out.endpoints.push((SUPERVISOR_NETWORK.to_owned(), json!({ "Aliases": [service] })));
    }
    out.mode = name(app_uuid, &mode);
    out
}

/// Whether a service of this composition lives outside all of its app's networks.
fn needs_no_network(composition: &Map) -> bool {
    let mode = composition.get("network_mode").or_else(|| composition.get("networkMode"));
    matches!(mode.and_then(Value::as_str), Some("host" | "none"))
}

fn endpoint(service: &str, config: &Value) -> Value {
    let mut aliases: Vec<&str> = list(config.get("aliases")).iter().filter_map(Value::as_str).collect();
    if !aliases.contains(&service) {
        aliases.push(service);
    }
    let mut ipam = texts(config, &[("ipv4_address", "IPv4Address"), ("ipv6_address", "IPv6Address")]);
    if let Some(local @ Value::Array(_)) = config.get("link_local_ips") {
        put(&mut ipam, "LinkLocalIPs", local.clone());
    }
    let mut out = json!({ "Aliases": aliases });
    if !ipam.is_empty() {
        set(&mut out, "IPAMConfig", ipam.into());
    }
    out
}

/// The members of `config` that are texts, under the engine's names.
fn texts(config: &Value, names: &[(&str, &str)]) -> Map {
    let mut out = Map::new();
    for (key, field) in names {
        if let Some(text) = config.get(*key).filter(|value| value.is_string()) {
            put(&mut out, field, text.clone());
        }
    }
    out
}

/// The bodies that create the networks of a release, by engine name. `default` is always among them; it is
/// config-only when no service would use it, so that it takes no bridge and no subnet (§3.7.2).
pub fn bodies(app: &App, release: &Release) -> Vec<(String, Value)> {
    let mut out = Vec::new();
    for (network, config) in &release.networks {
        out.push(body(app, network, config));
    }
    if !release.networks.contains_key("default") {
        let unused = !release.services.is_empty()
            && release.services.iter().all(|service| needs_no_network(&service.composition));
        out.push(body(app, "default", &json!({ "config_only": unused })));
    }
    out
}

fn body(app: &App, network: &str, config: &Value) -> (String, Value) {
    let ipam = &config["ipam"];
    let mut pools = Vec::new();
    for pool in list(ipam.get("config")) {
        let names = [("subnet", "Subnet"), ("gateway", "Gateway"), ("ip_range", "IPRange")];
        pools.push(Value::Object(texts(pool, &names)));
    }
    let mut labels = object(config.get("labels"));
    put(&mut labels, SUPERVISED, "true".into());
    put(&mut labels, "io.balena.app-id", app.id.to_string().into());
    if !pools.is_empty() {
        put(&mut labels, IPAM_LABEL, "true".into());
    }
    let driver = |of: &Value, default| of.get("driver").and_then(Value::as_str).unwrap_or(default).to_owned();
    let name = name(&app.uuid, network);
    let body = json!({
        "Name": name,
        "Driver": driver(config, "bridge"),
        "CheckDuplicate": true,
        "Options": object(config.get("driver_opts")),
        "IPAM": {
            "Driver": driver(ipam, "default"),
            "Config": pools,
            "Options": object(ipam.get("options")),
        },
        "EnableIPv6": flag(config, "enable_ipv6"),
        "Internal": flag(config, "internal"),
        "ConfigOnly": flag(config, "config_only"),
        "Labels": labels,
    });
    (name, body)
}

/// The body that creates the supervisor's own network.
pub fn supervisor_body() -> Value {
    json!({
        "Name": SUPERVISOR_NETWORK,
        "Driver": "bridge",
        "CheckDuplicate": true,
        "Options": { "com.docker.network.bridge.name": SUPERVISOR_NETWORK },
        "IPAM": {
            "Driver": "default",
            "Config": [{ "Subnet": SUPERVISOR_SUBNET, "Gateway": SUPERVISOR_GATEWAY }],
        },
    })
}

/// Whether a network is what `body` would create (§3.7.3). Pools count only where the body has some; that
/// some came or went shows in the label.
pub fn is_same(body: &Value, network: &Network) -> bool {
    let pools = list(body.pointer("/IPAM/Config"));
    let is_pool = |(wanted, found): (&Value, &[String; 3])| {
        ["Subnet", "Gateway", "IPRange"].iter().zip(found).all(|(key, found)| text(wanted, key) == found)
    };
    flag(body, "ConfigOnly") == network.config_only
        && (network.config_only || text(body, "Driver") == network.driver)
        && flag(body, "Internal") == network.internal
        && flag(body, "EnableIPv6") == network.ipv6
        && sorted(body.get("Options")) == network.options
        && sorted(body.get("Labels")) == network.labels
        && (pools.is_empty()
            || (pools.len() == network.pools.len() && pools.iter().zip(&network.pools).all(is_pool)))
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
