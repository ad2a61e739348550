//! The hash of a wanted config. Order counts where it has a meaning, and nowhere else: the cloud may list the
//! same things in another order.

use crate::values::hex;
use minke_wire::json::Value;
use sha2::{Digest, Sha256};

/// Fields whose lists are sets (spec supervisor §3.8.3).
const SETS: [&str; 10] = [
    "Env",
    "Binds",
    "Mounts",
    "Devices",
    "CapAdd",
    "CapDrop",
    "DnsOptions",
    "ExtraHosts",
    "GroupAdd",
    "SecurityOpt",
];

/// 32 hex digits over `body` and the networks that are joined later.
pub fn hash(body: &Value, joins: &[(String, Value)]) -> String {
    let mut text = String::new();
    canonical("", body, &mut text);
    let mut joins: Vec<_> = joins.iter().collect();
    joins.sort_by_key(|(name, _)| name);
    for (name, endpoint) in joins {
        text.push_str(name);
        canonical("", endpoint, &mut text);
    }
    let digest = Sha256::digest(text.as_bytes());
    hex(digest.get(..16).unwrap_or_default())
}

fn canonical(field: &str, value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            out.push('{');
            for (key, value) in entries {
                out.push_str(key);
                out.push('=');
                canonical(key, value, out);
                out.push(';');
            }
            out.push('}');
        }
        Value::Array(items) => {
            let text = |item: &Value| {
                let mut text = String::new();
                canonical("", item, &mut text);
                text
            };
            let mut items: Vec<String> = items.iter().map(text).collect();
            if SETS.contains(&field) {
                items.sort_unstable();
            }
            out.push('[');
            out.push_str(&items.join(","));
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    #[test]
    fn order_counts_only_where_it_means_something() {
        let one = json!({ "Cmd": ["a", "b"], "Env": ["A=1", "B=2"], "HostConfig": { "CapAdd": ["X", "Y"], "Z": 1 } });
        let same = json!({ "HostConfig": { "Z": 1, "CapAdd": ["Y", "X"] }, "Env": ["B=2", "A=1"], "Cmd": ["a", "b"] });
        let other = json!({ "Cmd": ["b", "a"], "Env": ["A=1", "B=2"], "HostConfig": { "CapAdd": ["X", "Y"], "Z": 1 } });
        assert_eq!(hash(&one, &[]), hash(&same, &[]));
        assert_ne!(hash(&one, &[]), hash(&other, &[]));
        assert_ne!(hash(&one, &[]), hash(&one, &[("n".into(), json!({}))]));
        assert_eq!(hash(&one, &[]).len(), 32);
    }
}
