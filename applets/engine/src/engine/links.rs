//! A container's addresses: chosen at its start, given back at its end.

use super::Engine;
use crate::error::{ApiError, Result};
use crate::fields::json;
use crate::fields::{Fields, object};
use crate::network::{self, Addresses};
use minke_wire::json::Value;
use std::net::Ipv4Addr;

impl Engine {
    /// Makes the bridges of a container's networks, chooses its addresses, and returns the links to make.
    pub fn prepare_links(&mut self, id: &str) -> Result<Vec<Value>> {
        let Some(container) = self.get(id) else { return Ok(Vec::new()) };
        let main = container.host.text("NetworkMode").to_owned();
        if matches!(main.as_str(), "host" | "none") || main.starts_with("container:") {
            return Ok(Vec::new());
        }
        let mut names: Vec<String> = container.networks.keys().cloned().collect();
        let main = self.networks.get(&main)?.text("Name").to_owned();
        // The main network's link is eth0.
        names.sort_by_key(|name| *name != main);
        let mut links = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if let Some(link) = self.prepare_link(id, name, index)? {
                links.push(link);
            }
        }
        Ok(links)
    }

    fn prepare_link(&mut self, id: &str, name: &str, index: usize) -> Result<Option<Value>> {
        let network = self.networks.get(name)?.clone();
        let Some(addresses) = network::addresses(&network) else { return Ok(None) };
        network::ensure_bridge(&network)?;
        let used = self.used_addresses(network.text("Name"), id);
        let container = self.get(id).ok_or_else(|| ApiError::missing(format!("No such container: {id}")))?;
        let endpoint = container.networks.get(name).cloned().unwrap_or_default();
        let address = choose(&addresses, &used, endpoint.at("IPAMConfig").text("IPv4Address"))?;
        let mac = [container.config.text("MacAddress"), endpoint.text("MacAddress")]
            .into_iter()
            .find(|mac| !mac.is_empty() && index == 0);
        let mac = mac.map_or_else(|| mac_of(address), str::to_owned);
        let host_link = format!("ve{}{index}", id.get(..9).unwrap_or(id));
        let gateway = if network.flag("Internal") { String::new() } else { addresses.gateway.to_string() };
        let link = json!({
            "bridge": network::bridge_name(&network), "host_link": host_link, "interface": format!("eth{index}"),
            "address": address.to_string(), "prefix": addresses.subnet.prefix, "gateway": gateway, "mac": mac
        });
        let entry = object(container.networks.entry(name).or_insert(Value::Null));
        let shown = [
            ("NetworkID", network.text("Id").to_owned()),
            (
                "EndpointID",
                network
                    .text("Id")
                    .bytes()
                    .zip(id.bytes())
                    .map(|(a, b)| format!("{:02x}", a ^ b))
                    .take(32)
                    .collect(),
            ),
            ("Gateway", addresses.gateway.to_string()),
            ("IPAddress", address.to_string()),
            ("MacAddress", mac),
            ("HostLink", host_link),
        ];
        for (key, value) in shown {
            entry.insert(key.to_owned(), value.into());
        }
        entry.insert("IPPrefixLen".to_owned(), addresses.subnet.prefix.into());
        Ok(Some(link))
    }

    /// Addresses that other containers have on a network.
    fn used_addresses(&self, name: &str, except: &str) -> Vec<Ipv4Addr> {
        let others = self.containers.iter().filter(|container| container.id != except);
        let endpoints =
            others.flat_map(|container| container.networks.get(name).map(|endpoint| (container, endpoint)));
        let mut used = Vec::new();
        for (container, endpoint) in endpoints {
            // A fixed address is kept even while its container does not run.
            let wished = endpoint.at("IPAMConfig").text("IPv4Address");
            let own = if container.is_active() { endpoint.text("IPAddress") } else { "" };
            used.extend([wished, own].iter().filter_map(|text| text.parse::<Ipv4Addr>().ok()));
        }
        used
    }

    /// Joins a container to one more network; at once when it runs.
    pub fn connect(&mut self, network: &str, body: &Value) -> Result<()> {
        let network = self.networks.get(network)?.clone();
        let name = network.text("Name").to_owned();
        if network.flag("ConfigOnly") {
            return Err(ApiError::new(403, format!("cannot join config-only network: {name}")));
        }
        let container = self.container(body.text("Container"))?;
        let id = container.id.clone();
        let mode = container.host.text("NetworkMode").to_owned();
        if mode == "host" || mode.starts_with("container:") {
            return Err(ApiError::new(
                403,
                format!(
                    "container sharing network namespace with another container or host cannot be connected to any other network: {mode}"
                ),
            ));
        }
        if container.networks.contains_key(&name) {
            return Err(ApiError::new(
                403,
                format!("endpoint with name {} already exists in network {name}", container.name),
            ));
        }
        let endpoint =
            if body.at("EndpointConfig").is_object() { body.at("EndpointConfig").clone() } else { json!({}) };
        container.networks.insert(name.clone(), endpoint);
        let (running, index) = (container.is_running(), container.networks.len().saturating_sub(1));
        if running {
            match self.prepare_link(&id, &name, index) {
                Ok(Some(link)) => self.order(&id, &json!({ "op": "connect", "endpoint": link }), None)?,
                Ok(None) => {}
                Err(error) => {
                    if let Some(container) = self.get(&id) {
                        container.networks.remove(&name);
                    }
                    return Err(error);
                }
            }
        }
        self.save(&id);
        self.refresh_hosts();
        self.publish(
            "network",
            "connect",
            network.text("Id"),
            &json!({ "container": id, "name": name, "type": "bridge" }),
        );
        Ok(())
    }

    /// Takes a container off a network.
    pub fn disconnect(&mut self, network: &str, body: &Value) -> Result<()> {
        let network = self.networks.get(network)?.clone();
        let name = network.text("Name").to_owned();
        let container = self.container(body.text("Container"))?;
        let id = container.id.clone();
        let Some(endpoint) = container.networks.remove(&name) else {
            return Err(ApiError::missing(format!("container {id} is not connected to network {name}")));
        };
        if container.is_running() && !endpoint.text("HostLink").is_empty() {
            self.order(&id, &json!({ "op": "disconnect", "link": endpoint.text("HostLink") }), None)?;
        }
        self.save(&id);
        self.refresh_hosts();
        self.publish(
            "network",
            "disconnect",
            network.text("Id"),
            &json!({ "container": id, "name": name, "type": "bridge" }),
        );
        Ok(())
    }
}

fn choose(addresses: &Addresses, used: &[Ipv4Addr], wish: &str) -> Result<Ipv4Addr> {
    if !wish.is_empty() {
        let wanted: Option<Ipv4Addr> = wish.parse().ok();
        return match wanted {
            Some(address) if !addresses.subnet.contains(address) => {
                Err(ApiError::bad(format!("no configured subnet contains IP address {wish}")))
            }
            Some(address) if address == addresses.gateway || used.contains(&address) => {
                Err(ApiError::new(403, "Address already in use"))
            }
            Some(address) => Ok(address),
            None => Err(ApiError::bad(format!("invalid IPv4 address: {wish}"))),
        };
    }
    let mut taken = used.to_vec();
    taken.push(addresses.gateway);
    addresses
        .subnet
        .free_address(addresses.range, &taken)
        .ok_or_else(|| ApiError::internal("no available IPv4 addresses on this network's address pools"))
}

/// The Ethernet address that belongs to an IPv4 address: 02:42 and its four bytes, as everywhere.
fn mac_of(address: Ipv4Addr) -> String {
    let [a, b, c, d] = address.octets();
    format!("02:42:{a:02x}:{b:02x}:{c:02x}:{d:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::ipam::Subnet;

    #[test]
    fn wishes_are_checked_and_others_get_the_lowest() {
        let subnet = Subnet::parse("172.17.0.0/16").unwrap();
        let addresses = Addresses { subnet, range: subnet, gateway: subnet.first_host() };
        let used = [Ipv4Addr::new(172, 17, 0, 2)];
        assert_eq!(choose(&addresses, &used, "").unwrap(), Ipv4Addr::new(172, 17, 0, 3));
        assert_eq!(choose(&addresses, &used, "172.17.9.9").unwrap(), Ipv4Addr::new(172, 17, 9, 9));
        for (wish, status) in [("172.17.0.2", 403), ("172.17.0.1", 403), ("10.0.0.1", 400), ("x", 400)] {
            assert_eq!(choose(&addresses, &used, wish).unwrap_err().status, status);
        }
        assert_eq!(mac_of(Ipv4Addr::new(172, 17, 0, 3)), "02:42:ac:11:00:03");
    }
}
