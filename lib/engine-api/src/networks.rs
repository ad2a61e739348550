//! Networks.

use crate::json::{flag, list, pairs, text};
use crate::{Engine, Removed, Result, filters};
use minke_http::escape;
use minke_wire::json::{Value, json};

/// A network as inspect shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// The id.
    pub id: String,
    /// The name.
    pub name: String,
    /// The driver.
    pub driver: String,
    /// Whether IPv6 is on.
    pub ipv6: bool,
    /// Whether it has no way out.
    pub internal: bool,
    /// Whether it only holds configuration.
    pub config_only: bool,
    /// The driver's options, sorted.
    pub options: Vec<(String, String)>,
    /// The labels, sorted.
    pub labels: Vec<(String, String)>,
    /// Address pools: subnet, gateway, range; each empty when not given.
    pub pools: Vec<[String; 3]>,
}

impl Engine {
    /// The names and ids of all networks that carry every one of `labels`.
    pub fn networks(&self, labels: &[&str]) -> Result<Vec<(String, String)>> {
        let mut target = "/networks".to_owned();
        if !labels.is_empty() {
            target.push_str("?filters=");
            target.push_str(&filters("label", labels));
        }
        let mut networks = Vec::new();
        for value in list(&self.list(&target)?, "") {
            networks.push((text(value, "/Name"), text(value, "/Id")));
        }
        Ok(networks)
    }

    /// A network by id or name. `None`: there is none.
    pub fn inspect_network(&self, name: &str) -> Result<Option<Network>> {
        Ok(self.get(&format!("/networks/{}", escape(name)))?.as_ref().map(network))
    }

    /// Creates a network from a body of the API's `NetworkCreate`.
    pub fn create_network(&self, body: &Value) -> Result<()> {
        self.call("POST", "/networks/create", Some(body), &[201]).map(|_| ())
    }

    /// Joins a container to a network.
    pub fn connect_network(&self, network: &str, container: &str, endpoint: &Value) -> Result<()> {
        let body = json!({ "Container": container, "EndpointConfig": endpoint });
        let target = format!("/networks/{}/connect", escape(network));
        self.call("POST", &target, Some(&body), &[200]).map(|_| ())
    }

    /// Removes a network.
    pub fn remove_network(&self, id: &str) -> Result<Removed> {
        let target = format!("/networks/{}", escape(id));
        self.call("DELETE", &target, None, &[200, 204, 404]).map(Removed::of)
    }
}

fn network(value: &Value) -> Network {
    let pool = |pool: &Value| [text(pool, "/Subnet"), text(pool, "/Gateway"), text(pool, "/IPRange")];
    Network {
        id: text(value, "/Id"),
        name: text(value, "/Name"),
        driver: text(value, "/Driver"),
        ipv6: flag(value, "/EnableIPv6"),
        internal: flag(value, "/Internal"),
        config_only: flag(value, "/ConfigOnly"),
        options: pairs(value, "/Options"),
        labels: pairs(value, "/Labels"),
        pools: list(value, "/IPAM/Config").iter().map(pool).collect(),
    }
}
