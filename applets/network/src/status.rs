//! What the service tells about itself, for programs and for people.

use crate::port::Port;
use minke_sys::clock;
use minke_wire::json::{Value, json};
use std::fmt::Write;
use std::net::Ipv4Addr;

/// The state of a port.
pub fn link(port: &Port) -> Value {
    let mut mac = String::new();
    for byte in port.link.mac.unwrap_or_default() {
        let separator = if mac.is_empty() { "" } else { ":" };
        let _ = write!(mac, "{separator}{byte:02x}");
    }
    let mut value = json!({
        "name": port.link.name,
        "index": port.link.index,
        "mac": mac,
        "carrier": port.link.has_carrier(),
        "dhcp": port.client.state(),
        "metric": port.metric,
        "profile": port.choice.profile().map(|profile| profile.name.as_str()),
    });
    let (mut dns, mut search) = (Vec::new(), Vec::new());
    let mut all = Vec::new();
    port.names(&mut all);
    for names in all {
        dns.extend(names.servers);
        search.extend(names.search);
    }
    if let Some(lease) = port.client.lease() {
        let gateway = lease.routes.iter().find(|(_, prefix, _)| *prefix == 0);
        let left = lease.expiry.map(|expiry| expiry.saturating_sub(clock::boottime()).as_secs());
        let more = json!({
            "address": format!("{}/{}", lease.address, lease.prefix),
            "gateway": gateway.map(|(_, _, router)| router.to_string()),
            "dns": dns,
            "ntp": texts(&lease.ntp_servers),
            "search": search,
            "server": Some(lease.server).filter(|_| !lease.is_fixed()).map(|server| server.to_string()),
            "expires": left,
        });
        if let Value::Object(more) = more {
            value.make_object().extend(more);
        }
    }
    value
}

fn texts(addresses: &[Ipv4Addr]) -> Vec<String> {
    addresses.iter().map(Ipv4Addr::to_string).collect()
}

/// The same of all for people: a line for the whole, then one a link.
pub fn text(status: &Value) -> String {
    let word = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let mut text = format!("state: {}\n", word(status, "state"));
    for link in list(status, "links") {
        let carrier = link.get("carrier").and_then(Value::as_bool).unwrap_or(false);
        let mut dns = String::new();
        for server in list(link, "dns") {
            dns.push(' ');
            dns.push_str(server.as_str().unwrap_or_default());
        }
        let _ = writeln!(
            text,
            "{:15} {:10} {:10} {:18} via {:15} dns{}",
            word(link, "name"),
            if carrier { "carrier" } else { "no carrier" },
            word(link, "dhcp"),
            word(link, "address"),
            word(link, "gateway"),
            if dns.is_empty() { " -" } else { &dns },
        );
    }
    text
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}
