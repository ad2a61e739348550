//! A composition as a set of fields with their usual shapes.

use crate::target::Pairs;
use crate::values;
use minke_wire::json::{Map, Value};

/// The fields that [`super::container`] reads; others are dropped with a warning (spec supervisor §3.1.1).
const KNOWN: &str = "cap_add cap_drop cgroup_parent command cpu_quota cpu_shares cpus cpuset depends_on devices dns \
    dns_opt dns_search domainname entrypoint environment extra_hosts group_add healthcheck hostname image init ipc \
    labels mac_address mem_limit mem_reservation network_mode networks oom_kill_disable oom_score_adj pid \
    pids_limit ports privileged read_only restart running security_opt shm_size stop_grace_period stop_signal \
    storage_opt sysctls tmpfs tty ulimits user userns_mode volumes working_dir contract service_name image_id";

/// A composition by field.
pub struct Fields {
    fields: Map,
    /// What was left out or read in an unexpected way, for the log.
    pub warnings: Vec<String>,
}

impl Fields {
    /// The fields of a composition. Names may be in camel case, as the reference stores them.
    pub fn new(composition: &Map) -> Self {
        let mut fields = Map::new();
        let mut unknown = Vec::new();
        for (name, value) in composition {
            let name = snake(name);
            if !KNOWN.split(' ').any(|known| known == name) {
                unknown.push(name);
            } else if !value.is_null() && !fields.contains_key(&name) {
                fields.insert(name, value.clone());
            }
        }
        let mut warnings = Vec::new();
        if !unknown.is_empty() {
            warnings.push(format!("Ignoring unsupported or unknown compose fields: {}", unknown.join(", ")));
        }
        Self { fields, warnings }
    }

    /// The value of a field that is there and not null.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// A text; a number counts as its digits.
    pub fn text(&self, name: &str) -> Option<String> {
        scalar(self.get(name)?)
    }

    /// Whether the service uses the host's network.
    pub fn is_on_host_network(&self) -> bool {
        self.get("network_mode").and_then(Value::as_str) == Some("host")
    }

    /// A switch; off when absent.
    pub fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A whole number; 0 when absent or something else.
    pub fn int(&self, name: &str) -> i64 {
        self.get(name).and_then(values::int).unwrap_or(0)
    }

    /// A memory size in bytes, or `default`.
    pub fn memory(&self, name: &str, default: i64) -> i64 {
        self.get(name).and_then(values::memory).unwrap_or(default)
    }

    /// A list of texts; a single text is a list of one.
    pub fn list(&self, name: &str) -> Vec<String> {
        let items = match self.get(name) {
            Some(Value::Array(items)) => items,
            Some(single) => std::slice::from_ref(single),
            None => &[],
        };
        let mut out = Vec::new();
        for item in items {
            out.extend(scalar(item));
        }
        out
    }

    /// A map of texts, or a list of `name=value`. A value of null is empty.
    pub fn pairs(&self, name: &str) -> Pairs {
        let mut out = Pairs::new();
        let value = self.get(name);
        for (name, value) in values::members(value) {
            out.push((name.clone(), scalar(value).unwrap_or_default()));
        }
        for text in values::list(value).iter().filter_map(Value::as_str) {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            out.push((name.to_owned(), value.to_owned()));
        }
        out
    }
}

/// A text, or the text form of a number or a switch.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(character.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    fn fields(value: Value) -> Fields {
        let Value::Object(map) = value else { panic!("an object") };
        Fields::new(&map)
    }

    #[test]
    fn shapes_are_forgiven_and_unknown_fields_named() {
        let found = fields(json!({
            "capAdd": ["A"], "dns": "1.1.1.1", "environment": ["A=b=c", "D"], "labels": { "n": 1, "z": null },
            "mem_limit": "1k", "user": 1000, "build": ".", "expose": [], "tty": null
        }));
        assert_eq!(
            (found.list("cap_add"), found.list("dns")),
            (vec!["A".to_owned()], vec!["1.1.1.1".to_owned()])
        );
        assert_eq!(found.pairs("environment"), [("A".into(), "b=c".into()), ("D".into(), String::new())]);
        assert_eq!(found.pairs("labels"), [("n".into(), "1".into()), ("z".into(), String::new())]);
        assert_eq!((found.memory("mem_limit", 0), found.memory("shm_size", 7)), (1024, 7));
        assert_eq!((found.text("user"), found.get("tty")), (Some("1000".into()), None));
        assert_eq!(found.warnings, ["Ignoring unsupported or unknown compose fields: build, expose"]);
    }
}
