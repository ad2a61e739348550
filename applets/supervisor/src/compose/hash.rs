//! The hash of a wanted config. Order counts where it has a meaning, and nowhere else: the cloud may list the
//! same things in another order.

use minke_wire::json::Value;
use minke_wire::oci::Digest;
use ring::digest::{SHA256, digest};

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
    for (name, endpoint) in sorted(&mut joins.iter().map(|(name, endpoint)| (name, endpoint))) {
        text.push_str(name);
        canonical("", endpoint, &mut text);
    }
    let digest = Digest::sha256(&digest(&SHA256, text.as_bytes()).as_ref().try_into().unwrap_or_default());
    digest.hex().get(..32).unwrap_or_default().to_owned()
}

type Member<'a> = (&'a String, &'a Value);

fn sorted<'a>(members: &mut dyn Iterator<Item = Member<'a>>) -> Vec<Member<'a>> {
    let mut out: Vec<Member<'a>> = Vec::new();
    for member in members {
        let place = out.partition_point(|(name, _)| *name <= member.0);
        out.insert(place, member);
    }
    out
}

fn canonical(field: &str, value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            out.push('{');
            for (key, value) in sorted(&mut map.iter()) {
                out.push_str(key);
                out.push('=');
                canonical(key, value, out);
                out.push(';');
            }
            out.push('}');
        }
        Value::Array(items) => {
            let mut texts: Vec<String> = Vec::new();
            for item in items {
                let mut text = String::new();
                canonical("", item, &mut text);
                texts.push(text);
            }
            if SETS.contains(&field) {
                texts.sort_unstable();
            }
            out.push('[');
            out.push_str(&texts.join(","));
            out.push(']');
        }
        other => out.push_str(&other.to_text()),
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
