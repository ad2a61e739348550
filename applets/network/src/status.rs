//! What the service tells about itself, for programs and for people.

use crate::port::Port;
use minke_sys::clock;
use minke_wire::json::{Value, json};
use std::fmt::Write;
use std::net::Ipv4Addr;

/// The state of all ports as JSON: `state` (`connected`, `connecting` or `disconnected`) and `links`.
pub fn status<'a>(ports: impl Iterator<Item = &'a Port> + Clone) -> Value {
    let state = if ports.clone().any(|port| port.client.lease().is_some()) {
        "connected"
    } else if ports.clone().any(|port| port.link.has_carrier()) {
        "connecting"
    } else {
        "disconnected"
    };
    json!({ "state": state, "links": ports.map(link).collect::<Vec<_>>() })
}

fn link(port: &Port) -> Value {
    let mac = port.link.mac.unwrap_or_default().map(|byte| format!("{byte:02x}")).join(":");
    let mut value = json!({
        "name": port.link.name,
        "index": port.link.index,
        "mac": mac,
        "carrier": port.link.has_carrier(),
        "dhcp": port.client.state(),
        "metric": port.metric,
    });
    if let (Some(lease), Some(object)) = (port.client.lease(), value.as_object_mut()) {
        let gateway = lease.routes.iter().find(|(_, prefix, _)| *prefix == 0).map(|(_, _, router)| *router);
        let left = lease.expiry.map(|expiry| expiry.saturating_sub(clock::boottime()).as_secs());
        let mut put = |key: &str, value: Value| _ = object.insert(key.to_owned(), value);
        put("address", format!("{}/{}", lease.address, lease.prefix).into());
        put("gateway", gateway.map_or(Value::Null, |gateway| gateway.to_string().into()));
        put("dns", list(&lease.dns_servers));
        put("ntp", list(&lease.ntp_servers));
        put("search", lease.search.clone().into());
        put("server", lease.server.to_string().into());
        put("expires", left.map_or(Value::Null, Value::from));
    }
    value
}

fn list(addresses: &[Ipv4Addr]) -> Value {
    addresses.iter().map(|address| Value::from(address.to_string())).collect()
}

/// The same for people: a line for the whole, then one a link.
pub fn text(status: &Value) -> String {
    let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let mut text = format!("state: {}\n", word(status, "state"));
    let links = status.get("links").and_then(Value::as_array);
    for link in links.into_iter().flatten() {
        let carrier = link.get("carrier").and_then(Value::as_bool).unwrap_or(false);
        let dns: Vec<&str> = link
            .get("dns")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let _ = writeln!(
            text,
            "{:15} {:10} {:10} {:18} via {:15} dns {}",
            word(link, "name"),
            if carrier { "carrier" } else { "no carrier" },
            word(link, "dhcp"),
            word(link, "address"),
            word(link, "gateway"),
            if dns.is_empty() { "-".to_owned() } else { dns.join(" ") },
        );
    }
    text
}
