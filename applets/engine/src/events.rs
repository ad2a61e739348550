//! `/events`: what happens, one JSON object a line.

use crate::fields::Fields;
use crate::fields::json;
use minke_http::Conn;
use minke_wire::json::Value;

/// A client that reads events.
#[derive(Debug)]
pub struct Subscriber {
    /// Its connection.
    pub conn: Conn,
    /// Its filters: for each key one of the values must fit.
    pub filters: Value,
}

impl Subscriber {
    /// Whether an event passes the filters.
    pub fn wants(&self, event: &Value) -> bool {
        let fits = |key: &str, value: &str| match key {
            "type" => event.text("Type") == value,
            "event" => event.text("Action") == value,
            "container" | "image" | "network" | "volume" => {
                let id = event.at("Actor").text("ID");
                event.text("Type") == key
                    && (id.starts_with(value) || event.at("Actor").at("Attributes").text("name") == value)
            }
            "label" => crate::api::label_fits(event.at("Actor").at("Attributes"), value),
            _ => true,
        };
        crate::api::filters_fit(&self.filters, &fits)
    }
}

/// An event, with the old top-level fields `status`, `id` and `from` for containers and images.
pub fn event(kind: &str, action: &str, id: &str, attributes: &Value) -> Value {
    let now = minke_sys::clock::realtime();
    let nanoseconds = now.as_secs().saturating_mul(1_000_000_000).saturating_add(now.subsec_nanos().into());
    let mut event = json!({
        "Type": kind, "Action": action, "Actor": { "ID": id, "Attributes": attributes }, "scope": "local",
        "time": now.as_secs(), "timeNano": nanoseconds
    });
    if kind == "container" || kind == "image" {
        event.set("status", &action);
        event.set("id", &id);
        event.set("from", attributes.at("image"));
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    #[test]
    fn the_supervisors_filter_and_the_old_fields() {
        let event = event("container", "die", "abc", &json!({ "name": "web", "image": "x", "a": "b" }));
        assert_eq!((event.text("status"), event.text("id"), event.text("from")), ("die", "abc", "x"));
        let fits = |filters: Value| {
            crate::api::filters_fit(&filters, &|key: &str, value: &str| {
                key == "type" && event.text("Type") == value
            })
        };
        assert!(
            fits(json!({ "type": ["container", "image"] })) && fits(json!({ "type": { "container": true } }))
        );
        assert!(!fits(json!({ "type": ["image"] })) && fits(json!({})));
    }
}
