//! A container's addresses: chosen at its start, given back at its end.

use super::Engine;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use crate::network::ipam::{parse_address, show};
use crate::network::{self, Addresses};
use minke_wire::json::Value;

impl Engine {
    /// Makes the bridges of a container's networks, chooses its addresses, and returns the links to make.
    pub fn prepare_links(&mut self, id: &str) -> Result<Vec<Value>> {
        let container = self.get(id)?;
        let main = container.host.text("NetworkMode");
        if matches!(main, "host" | "none") || main.starts_with("container:") {
            return Ok(Vec::new());
        }
        let main = self.networks.get(main)?.text("Name");
        let mut names = Vec::new();
        for name in container.networks.keys() {
            // The main network's link is eth0.
            let place = if name == main { 0 } else { names.len() };
            names.insert(place, name.clone());
        }
        let mut links = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if let Some(link) = self.prepare_link(id, name, index)? {
                links.push(link);
            }
        }
        Ok(links)
    }

    fn prepare_link(&mut self, id: &str, name: &str, index: usize) -> Result<Option<Value>> {
        let network = self.networks.get(name)?;
        let Some(addresses) = network::addresses(network) else { return Ok(None) };
        network::ensure_bridge(network)?;
        let container = self.get(id)?;
        let endpoint = container.networks.get(name).unwrap_or(&Value::Null);
        let used = self.used_addresses(network.text("Name"), id);
        let address = choose(&addresses, &used, endpoint.at("IPAMConfig").text("IPv4Address"))?;
        let wished = [container.config.text("MacAddress"), endpoint.text("MacAddress")];
        let mac = match wished.into_iter().find(|mac| !mac.is_empty()) {
            Some(mac) if index == 0 => mac,
            _ => &mac_of(address),
        };
        let network_id = network.text("Id");
        let mut endpoint_id = Vec::new();
        for (a, b) in network_id.bytes().zip(id.bytes()).take(32) {
            endpoint_id.push(a ^ b);
        }
        let host_link = format!("ve{}{index}", id.get(..9).unwrap_or(id));
        let shown = json!({
            "NetworkID": network_id, "EndpointID": crate::container::name::hex(&endpoint_id), "Gateway": show(addresses.gateway),
            "IPAddress": show(address), "MacAddress": mac, "HostLink": host_link,
            "IPPrefixLen": addresses.subnet.prefix
        });
        let link = json!({
            "bridge": network::bridge_name(network), "host_link": host_link, "interface": format!("eth{index}"),
            "address": shown.at("IPAddress"), "prefix": addresses.subnet.prefix,
            "gateway": shown.text("Gateway"), "mac": mac,
            // Whoever is cut off from the world has names all the same, as with docker: the way to the forwarder is open.
            "only": if network.flag("Internal") { Some(&self.options.dns) } else { None }
        });
        if let (Some(container), Value::Object(shown)) = (self.get_mut(id), shown) {
            container.networks.entry(name).or_insert(Value::Null).make_object().extend(shown);
        }
        Ok(Some(link))
    }

    /// Addresses that other containers have on a network.
    fn used_addresses(&self, name: &str, except: &str) -> Vec<u32> {
        let mut used = Vec::new();
        for container in self.containers.iter().filter(|container| container.id != except) {
            let Some(endpoint) = container.networks.get(name) else { continue };
            // A fixed address is kept even while its container does not run.
            let wished = endpoint.at("IPAMConfig").text("IPv4Address");
            let own = if container.is_active() { endpoint.text("IPAddress") } else { "" };
            used.extend(parse_address(wished));
            used.extend(parse_address(own));
        }
        used
    }

    /// Joins a container to one more network; at once when it runs.
    pub fn connect(&mut self, network: &str, body: &Value) -> Result<()> {
        let network = self.networks.get(network)?.clone();
        let name = network.text("Name");
        if network.flag("ConfigOnly") {
            return Err(ApiError::new(403, format_args!("cannot join config-only network: {name}")));
        }
        let container = self.container_mut(body.text("Container"))?;
        let mode = container.host.text("NetworkMode");
        if mode == "host" || mode.starts_with("container:") {
            return Err(ApiError::new(
                403,
                format_args!(
                    "container sharing network namespace with another container or host cannot be connected to any other network: {mode}"
                ),
            ));
        }
        if container.networks.contains_key(name) {
            return Err(ApiError::new(
                403,
                format_args!("endpoint with name {} already exists in network {name}", container.name),
            ));
        }
        container.networks.insert(name, body.object("EndpointConfig"));
        let (running, index) = (container.is_running(), container.networks.len().saturating_sub(1));
        let id = container.id.clone();
        if running {
            match self.prepare_link(&id, name, index) {
                Ok(Some(link)) => self.order(&id, &json!({ "op": "connect", "endpoint": link }), None)?,
                Ok(None) => {}
                Err(error) => {
                    if let Some(container) = self.get_mut(&id) {
                        container.networks.remove(name);
                    }
                    return Err(error);
                }
            }
        }
        self.network_changed("connect", &network, &id);
        Ok(())
    }

    /// Takes a container off a network.
    pub fn disconnect(&mut self, network: &str, body: &Value) -> Result<()> {
        let network = self.networks.get(network)?.clone();
        let name = network.text("Name");
        let container = self.container_mut(body.text("Container"))?;
        let id = container.id.clone();
        let Some(endpoint) = container.networks.remove(name) else {
            return Err(ApiError::missing(format_args!("container {id} is not connected to network {name}")));
        };
        let link = endpoint.text("HostLink");
        if container.is_running() && !link.is_empty() {
            self.order(&id, &json!({ "op": "disconnect", "link": link }), None)?;
        }
        self.network_changed("disconnect", &network, &id);
        Ok(())
    }

    fn network_changed(&mut self, action: &str, network: &Value, container: &str) {
        self.save(container);
        self.refresh_hosts();
        let attributes = json!({ "container": container, "name": network.text("Name"), "type": "bridge" });
        self.publish("network", action, network.text("Id"), &attributes);
    }
}

fn choose(addresses: &Addresses, used: &[u32], wish: &str) -> Result<u32> {
    if !wish.is_empty() {
        return match parse_address(wish) {
            Some(address) if !addresses.subnet.contains(address) => {
                Err(ApiError::bad(format_args!("no configured subnet contains IP address {wish}")))
            }
            Some(address) if address == addresses.gateway || used.contains(&address) => {
                Err(ApiError::new(403, format_args!("Address already in use")))
            }
            Some(address) => Ok(address),
            None => Err(ApiError::bad(format_args!("invalid IPv4 address: {wish}"))),
        };
    }
    let mut taken = used.to_vec();
    taken.push(addresses.gateway);
    addresses.subnet.free_address(addresses.range, &taken).ok_or_else(|| {
        ApiError::internal(format_args!("no available IPv4 addresses on this network's address pools"))
    })
}

/// The Ethernet address that belongs to an IPv4 address: 02:42 and its four bytes, as everywhere.
fn mac_of(address: u32) -> String {
    let [a, b, c, d] = address.to_be_bytes();
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
        let ip = |text: &str| parse_address(text).unwrap();
        let used = [ip("172.17.0.2")];
        assert_eq!(choose(&addresses, &used, "").unwrap(), ip("172.17.0.3"));
        assert_eq!(choose(&addresses, &used, "172.17.9.9").unwrap(), ip("172.17.9.9"));
        for (wish, status) in [("172.17.0.2", 403), ("172.17.0.1", 403), ("10.0.0.1", 400), ("x", 400)] {
            assert_eq!(choose(&addresses, &used, wish).unwrap_err().status, status);
        }
        assert_eq!(mac_of(ip("172.17.0.3")), "02:42:ac:11:00:03");
    }
}
