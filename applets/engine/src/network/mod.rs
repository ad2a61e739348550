//! Networks: the three that are always there (`bridge`, `host`, `none`) and those that users make, each a
//! bridge with its own subnet.

pub mod ipam;

use crate::container::create::fill;
use crate::container::name;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use ipam::Subnet;
use minke_store::Record;
use minke_sys::netlink::Route;
use minke_wire::json::Value;
use std::net::Ipv4Addr;
use std::path::Path;

/// Most networks.
const NETWORK_LIMIT: usize = 128;
/// The name of the default network's bridge.
pub const DEFAULT_BRIDGE: &str = "balena0";

/// All networks.
#[derive(Debug)]
pub struct Networks {
    record: Record,
    list: Vec<Value>,
}

impl Networks {
    /// Reads the record at `path`; the built-in ones are made anew each time. `default` is the default bridge's
    /// address and `range` the part of its network that containers get.
    pub fn open(path: &Path, default: (Ipv4Addr, u8), range: &str) -> Result<Self> {
        let (record, document) = *crate::record::open(path, format_args!("networks"))?;
        let gateway = u32::from(default.0);
        let subnet = Subnet::new(gateway, default.1)
            .ok_or_else(|| ApiError::bad(format_args!("invalid address of the default bridge")))?;
        let mut bridge = built_in("bridge", "bridge");
        *bridge.member("IPAM").member("Config") = json!([
            { "Subnet": subnet.to_string(), "IPRange": range, "Gateway": ipam::show(gateway) }
        ]);
        *bridge.member("Options") = json!({
            "com.docker.network.bridge.default_bridge": "true", "com.docker.network.bridge.name": DEFAULT_BRIDGE
        });
        let mut list = vec![bridge, built_in("host", "host"), built_in("none", "null")];
        for network in document.items("Networks") {
            if name::is_valid(network.text("Name")) {
                list.push(network.clone());
            }
        }
        Ok(Self { record, list })
    }

    fn save(&mut self) -> Result<()> {
        let own: Vec<&Value> = self.list.iter().skip(3).collect();
        Ok(self.record.write(&json!({ "Networks": own }))?)
    }

    /// All.
    pub fn list(&self) -> &[Value] {
        &self.list
    }

    /// One by name, id, or the beginning of an id.
    pub fn get(&self, query: &str) -> Result<&Value> {
        let exact = |network: &&Value| network.text("Name") == query || network.text("Id") == query;
        if let Some(network) = self.list.iter().find(exact) {
            return Ok(network);
        }
        let mut found =
            self.list.iter().filter(|network| query.len() >= 2 && network.text("Id").starts_with(query));
        match (found.next(), found.next()) {
            (Some(network), None) => Ok(network),
            _ => Err(ApiError::missing(format_args!("network {query} not found"))),
        }
    }

    /// Makes a network from a create body. `routed` are the networks that the host reaches already.
    pub fn create(&mut self, body: &Value, routed: &[Subnet]) -> Result<Value> {
        let name = body.text("Name");
        if !name::is_valid(name) {
            return Err(ApiError::bad(format_args!("invalid network name: '{name}'")));
        }
        if self.list.iter().any(|network| network.text("Name") == name) {
            return Err(ApiError::conflict(format_args!("network with name {name} already exists")));
        }
        if self.list.len() >= NETWORK_LIMIT {
            return Err(ApiError::new(403, format_args!("too many networks")));
        }
        if !matches!(body.text("Driver"), "" | "bridge" | "default") {
            return Err(ApiError::missing(format_args!("plugin \"{}\" not found", body.text("Driver"))));
        }
        let (id, config_only) = (name::new_id()?, body.flag("ConfigOnly"));
        let mut ipam = body.object("IPAM");
        if !config_only {
            let config = self.choose_subnet(&ipam, routed)?;
            *ipam.member("Config") = json!([config]);
        }
        fill(&mut ipam, r#"{"Driver": "default", "Options": {}}"#);
        let driver = if config_only { "null" } else { "bridge" };
        let network = json!({
            "Name": name, "Id": id, "Created": crate::time::rfc3339(minke_sys::clock::realtime()),
            "Scope": "local", "Driver": driver, "EnableIPv6": body.flag("EnableIPv6"), "IPAM": ipam,
            "Internal": body.flag("Internal"), "Attachable": body.flag("Attachable"), "Ingress": false,
            "ConfigFrom": { "Network": "" }, "ConfigOnly": config_only, "Options": body.object("Options"), "Labels": body.object("Labels")
        });
        if bridge_name(&network).len() > 15 {
            return Err(ApiError::bad(format_args!("a bridge name has at most 15 characters")));
        }
        self.list.push(network.clone());
        if let Err(error) = self.save() {
            self.list.pop();
            return Err(error);
        }
        Ok(network)
    }

    /// The first IPv4 entry of the wish, completed; without one a free subnet.
    fn choose_subnet(&self, ipam: &Value, routed: &[Subnet]) -> Result<Value> {
        let mut taken = Vec::new();
        for network in &self.list {
            taken.extend(addresses(network).map(|addresses| addresses.subnet));
        }
        let wish =
            ipam.items("Config").iter().find(|entry| !minke_wire::text::contains(entry.text("Subnet"), "::"));
        let wish = wish.unwrap_or(&Value::Null);
        let text = wish.text("Subnet");
        if text.is_empty() {
            taken.extend_from_slice(routed);
            return match ipam::free_subnet(&taken) {
                Some(subnet) => {
                    Ok(json!({ "Subnet": subnet.to_string(), "Gateway": ipam::show(subnet.first_host()) }))
                }
                None => Err(ApiError::new(
                    403,
                    format_args!("all predefined address pools have been fully subnetted"),
                )),
            };
        }
        let Some(subnet) = Subnet::parse(text) else {
            return Err(ApiError::bad(format_args!("invalid subnet {text}")));
        };
        if taken.iter().any(|other| other.overlaps(subnet)) {
            return Err(ApiError::new(
                403,
                format_args!("Pool overlaps with other one on this address space"),
            ));
        }
        let mut config = wish.clone();
        let gateway = wish.text("Gateway");
        if gateway.is_empty() {
            config.set("Gateway", &ipam::show(subnet.first_host()));
        } else if !ipam::parse_address(gateway).is_some_and(|address| subnet.contains(address)) {
            return Err(ApiError::bad(format_args!("invalid gateway address {gateway}")));
        }
        Ok(config)
    }

    /// Removes a network that nobody uses, and its bridge.
    pub fn remove(&mut self, query: &str, in_use: bool) -> Result<String> {
        let network = self.get(query)?;
        let (name, id) = (network.text("Name"), network.text("Id").to_owned());
        if self.list.iter().take(3).any(|built_in| built_in.text("Name") == name) {
            return Err(ApiError::new(
                403,
                format_args!("{name} is a pre-defined network and cannot be removed"),
            ));
        }
        if in_use {
            return Err(ApiError::new(
                403,
                format_args!("error while removing network: network {name} has active endpoints"),
            ));
        }
        let bridge = bridge_name(network);
        self.list.retain(|other| other.text("Id") != id);
        self.save()?;
        let mut route = Route::new()?;
        if let Ok(index) = route.index_of(&bridge) {
            let _ = route.delete_link(index);
        }
        Ok(id)
    }
}

fn built_in(name: &str, driver: &str) -> Value {
    // Built-in networks have the same id at every start, so that what remembers it stays true.
    let id: Vec<u8> = name.bytes().cycle().take(32).collect();
    json!({
        "Name": name, "Id": name::hex(&id), "Created": crate::time::NEVER, "Scope": "local", "Driver": driver, "EnableIPv6": false,
        "IPAM": { "Driver": "default", "Options": null, "Config": [] }, "Internal": false, "Attachable": false,
        "Ingress": false, "ConfigFrom": { "Network": "" }, "ConfigOnly": false, "Options": {}, "Labels": {}
    })
}

/// The addresses of a network.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The whole network.
    pub subnet: Subnet,
    /// What containers get.
    pub range: Subnet,
    /// The bridge's own address.
    pub gateway: u32,
}

/// The addresses by a network's IPAM entry; `None` for networks without.
pub fn addresses(network: &Value) -> Option<Addresses> {
    let config = network.at("IPAM").items("Config").first()?;
    let subnet = Subnet::parse(config.text("Subnet"))?;
    let range = Subnet::parse(config.text("IPRange"))
        .filter(|range| subnet.contains_start_of(*range))
        .unwrap_or(subnet);
    Some(Addresses {
        subnet,
        range,
        gateway: ipam::parse_address(config.text("Gateway")).unwrap_or(subnet.first_host()),
    })
}

/// The name of a network's bridge device.
pub fn bridge_name(network: &Value) -> String {
    match network.at("Options").text("com.docker.network.bridge.name") {
        "" => format!("br-{}", network.text("Id").get(..12).unwrap_or("")),
        name => name.to_owned(),
    }
}

/// Makes the bridge of a network, with its address, and switches it on. That it is there already is success.
pub fn ensure_bridge(network: &Value) -> Result<()> {
    let Some(addresses) = addresses(network) else { return Ok(()) };
    let gateway = Ipv4Addr::from(addresses.gateway).into();
    Route::new()?.ensure_bridge(&bridge_name(network), gateway, addresses.subnet.prefix)?;
    Ok(())
}

/// The networks that the host has addresses in, so that a new subnet hides none of them.
pub fn routed() -> Vec<Subnet> {
    let mut subnets = Vec::new();
    for address in &Route::new().and_then(|mut route| route.addresses()).unwrap_or_default() {
        if let std::net::IpAddr::V4(own) = address.address {
            subnets.extend(Subnet::new(own.into(), address.prefix.min(30)));
        }
    }
    subnets
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    fn open(name: &str) -> (Networks, std::path::PathBuf) {
        let path = std::env::temp_dir().join(format!("minke-networks-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        (Networks::open(&path, (Ipv4Addr::new(10, 114, 101, 1), 24), "10.114.101.0/25").unwrap(), path)
    }

    #[test]
    fn create_list_and_refuse() {
        let (mut networks, path) = open("create");
        let made = networks.create(&json!({ "Name": "u_default", "Labels": { "a": "b" } }), &[]).unwrap();
        assert_eq!(addresses(&made).unwrap().subnet.to_string(), "172.17.0.0/16");
        let supervisor = json!({
            "Name": "supervisor0", "Options": { "com.docker.network.bridge.name": "supervisor0" },
            "IPAM": { "Driver": "default", "Config": [{ "Subnet": "10.114.104.0/25", "Gateway": "10.114.104.1" }] }
        });
        let made = networks.create(&supervisor, &[]).unwrap();
        assert_eq!(
            (bridge_name(&made).as_str(), addresses(&made).unwrap().gateway.to_be_bytes()[3]),
            ("supervisor0", 1)
        );
        let status = |networks: &mut Networks, body: Value| networks.create(&body, &[]).unwrap_err().status;
        assert_eq!(status(&mut networks, json!({ "Name": "u_default" })), 409);
        assert_eq!(status(&mut networks, json!({ "Name": "bridge" })), 409);
        assert_eq!(status(&mut networks, json!({ "Name": "a/b" })), 400);
        assert_eq!(
            status(
                &mut networks,
                json!({ "Name": "x", "IPAM": { "Config": [{ "Subnet": "10.114.0.0/16" }] } })
            ),
            403
        );
        let only = networks.create(&json!({ "Name": "quiet", "ConfigOnly": true }), &[]).unwrap();
        assert!(addresses(&only).is_none());
        let again = Networks::open(&path, (Ipv4Addr::new(10, 114, 101, 1), 24), "10.114.101.0/25").unwrap();
        assert_eq!(again.list(), networks.list());
        assert_eq!(again.get("bridge").unwrap().text("Driver"), "bridge");
        assert_eq!(networks.remove("host", false).unwrap_err().status, 403);
        assert_eq!(networks.remove("quiet", true).unwrap_err().status, 403);
        assert_eq!(networks.remove("nope", false).unwrap_err().status, 404);
        std::fs::remove_file(path).unwrap();
    }
}
