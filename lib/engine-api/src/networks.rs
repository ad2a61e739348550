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
        let list = self.call("GET", &target, None)?.expect(&[200])?.json()?;
        let entry = |value: &Value| (text(value, "/Name"), text(value, "/Id"));
        Ok(list.as_array().into_iter().flatten().map(entry).collect())
    }

    /// A network by id or name. `None`: there is none.
    pub fn inspect_network(&self, name: &str) -> Result<Option<Network>> {
        let target = format!("/networks/{}", escape(name));
        let Some(answer) = self.call("GET", &target, None)?.optional(&[200])? else { return Ok(None) };
        Ok(Some(network(&answer.json()?)))
    }

    /// Creates a network from a body of the API's `NetworkCreate`.
    pub fn create_network(&self, body: &Value) -> Result<()> {
        self.call("POST", "/networks/create", Some(body))?.expect(&[201]).map(|_| ())
    }

    /// Joins a container to a network.
    pub fn connect_network(&self, network: &str, container: &str, endpoint: &Value) -> Result<()> {
        let body = json!({ "Container": container, "EndpointConfig": endpoint });
        let target = format!("/networks/{}/connect", escape(network));
        self.call("POST", &target, Some(&body))?.expect(&[200]).map(|_| ())
    }

    /// Removes a network.
    pub fn remove_network(&self, id: &str) -> Result<Removed> {
        let answer =
            self.call("DELETE", &format!("/networks/{}", escape(id)), None)?.optional(&[200, 204])?;
        Ok(answer.map_or(Removed::Gone, |_| Removed::Now))
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
