//! Networks.

use crate::json::{flag, list, pairs, text};
use crate::{Engine, Removed, Result, with_labels};
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
        let list = self.document(&with_labels("/networks", '?', labels))?;
        let mut networks = Vec::new();
        for value in list.as_array().into_iter().flatten() {
            networks.push((text(value, "/Name"), text(value, "/Id")));
        }
        Ok(networks)
    }

    /// A network by id or name. `None`: there is none.
    pub fn inspect_network(&self, name: &str) -> Result<Option<Network>> {
        let found = self.inspect(&format!("/networks/{}", escape(name)))?;
        Ok(found.as_ref().map(network))
    }

    /// Creates a network from a body of the API's `NetworkCreate`.
    pub fn create_network(&self, body: &Value) -> Result<()> {
        self.act("POST", "/networks/create", Some(body), &[201])
    }

    /// Joins a container to a network.
    pub fn connect_network(&self, network: &str, container: &str, endpoint: &Value) -> Result<()> {
        let body = json!({ "Container": container, "EndpointConfig": endpoint });
        self.act("POST", &format!("/networks/{}/connect", escape(network)), Some(&body), &[200])
    }

    /// Removes a network.
    pub fn remove_network(&self, id: &str) -> Result<Removed> {
        self.remove(&format!("/networks/{}", escape(id)), &[200, 204])
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
