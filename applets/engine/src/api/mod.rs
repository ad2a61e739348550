//! The engine's HTTP API: routing, filters, frames.

mod containers;
mod inspect;
mod list;
pub mod logs;
mod resources;
mod system;

use crate::container::create;
use crate::engine::Engine;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use minke_http::{BodyMode, Conn, Head, Limits, Request};
use minke_wire::json::Value;
use std::time::Duration;

/// The newest version of the API that this engine speaks.
pub const API_VERSION: &str = "1.43";
/// The oldest one.
pub const OLDEST_API_VERSION: &str = "1.24";
/// Connections at a time: the supervisor, the command line, containers with the socket.
const CONNECTIONS: usize = 256;

/// How a request's body is read: archives as they come, everything else in memory.
pub fn body_mode(head: &Head) -> BodyMode {
    if without_version(&head.path) == "/images/load" {
        BodyMode::Stream
    } else {
        BodyMode::Memory(create::BODY_LIMIT)
    }
}

/// The server's limits. An answer may take long: a `wait` has no end.
pub fn limits() -> Limits {
    Limits { connections: CONNECTIONS, stall: Duration::from_secs(300), queued: 4 << 20, ..Limits::default() }
}

/// The path without `/v1.NN`.
fn without_version(path: &str) -> &str {
    let Some(rest) = path.strip_prefix("/v1.") else { return path };
    match rest.find('/') {
        Some(end) if rest.bytes().take(end).all(|byte| byte.is_ascii_digit()) => {
            rest.get(end..).unwrap_or(path)
        }
        _ => path,
    }
}

/// One request on its way through the routes.
pub struct Call<'a> {
    /// Who is to be answered.
    pub conn: Conn,
    /// The request.
    pub request: &'a Request,
}

impl Call<'_> {
    /// A query field, empty when missing.
    pub fn query(&self, name: &str) -> &str {
        self.request.query(name).unwrap_or("")
    }

    /// A boolean query field: `1`, `true`, and others as the reference reads them.
    pub fn flag(&self, name: &str) -> bool {
        !matches!(self.query(name), "" | "0" | "no" | "false" | "False" | "none")
    }

    /// The body as JSON; an empty one is `null`.
    pub fn body(&self) -> Result<Value> {
        if self.request.body.is_empty() {
            return Ok(Value::Null);
        }
        minke_wire::json::parse(&self.request.body)
            .map_err(|error| ApiError::bad(format!("invalid JSON: {error}")))
    }

    /// The query field `filters`.
    pub fn filters(&self) -> Result<Value> {
        match self.query("filters") {
            "" => Ok(Value::Null),
            text => minke_wire::json::parse_str(text)
                .map_err(|error| ApiError::bad(format!("invalid filter: {error}"))),
        }
    }

    /// Whether the client wants the connection for itself.
    pub fn upgrades(&self) -> bool {
        self.request.headers.has_token("Connection", "upgrade")
    }
}

/// Answers one request, now or later.
pub fn handle(engine: &mut Engine, conn: Conn, request: &Request) {
    let path = without_version(&request.path).to_owned();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let call = Call { conn, request };
    let outcome = route(engine, &call, &parts);
    if let Err(error) = outcome {
        engine.fail(conn, &error);
    }
}

fn route(engine: &mut Engine, call: &Call<'_>, parts: &[&str]) -> Result<()> {
    let method = match call.request.method.as_str() {
        // The server leaves the body of a HEAD answer out.
        "HEAD" => "GET",
        method => method,
    };
    match (method, parts) {
        (_, ["containers", rest @ ..]) => containers::route(engine, call, method, rest),
        (_, ["exec", rest @ ..]) => containers::route_exec(engine, call, method, rest),
        (_, ["images", rest @ ..]) => resources::images(engine, call, method, rest),
        (_, ["networks", rest @ ..]) => resources::networks(engine, call, method, rest),
        (_, ["volumes", rest @ ..]) => resources::volumes(engine, call, method, rest),
        _ => system::route(engine, call, method, parts),
    }
}

/// The answer to a path that is not there.
pub fn no_such_page() -> ApiError {
    ApiError::missing("page not found")
}

/// Whether an object passes filters: for each key, one of its values must fit; for `label` all of them. Filters
/// come as `{"key": ["value"]}` or, from older clients, as `{"key": {"value": true}}`.
pub fn filters_fit(filters: &Value, fits: &dyn Fn(&str, &str) -> bool) -> bool {
    filters.as_object().into_iter().flatten().all(|(key, values)| {
        let values: Vec<&str> = match values {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            Value::Object(map) => {
                map.iter().filter(|(_, on)| on.as_bool() == Some(true)).map(|(key, _)| key.as_str()).collect()
            }
            Value::String(text) => vec![text.as_str()],
            _ => Vec::new(),
        };
        if key == "label" {
            values.iter().all(|value| fits(key, value))
        } else {
            values.is_empty() || values.iter().any(|value| fits(key, value))
        }
    })
}

/// Whether labels have `NAME` or `NAME=VALUE`.
pub fn label_fits(labels: &Value, filter: &str) -> bool {
    match filter.split_once('=') {
        Some((name, value)) => labels.get(name).and_then(Value::as_str) == Some(value),
        None => !labels.at(filter).is_null(),
    }
}

/// The header of one frame of a multiplexed stream: stream type, three zero bytes, length in network order
/// (Engine API, "Stream format").
pub fn frame_header(is_error: bool, length: usize) -> [u8; 8] {
    let length = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    let [a, b, c, d] = length;
    [if is_error { 2 } else { 1 }, 0, 0, 0, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    #[test]
    fn the_version_prefix_is_optional() {
        for (path, rest) in [
            ("/v1.43/_ping", "/_ping"),
            ("/_ping", "/_ping"),
            ("/v1.x/a", "/v1.x/a"),
            ("/v1.24", "/v1.24"),
            ("/version", "/version"),
        ] {
            assert_eq!(without_version(path), rest);
        }
    }

    #[test]
    fn labels_are_anded_and_other_values_are_alternatives() {
        let labels = json!({ "a": "1", "b": "" });
        let fits = |filters: Value| {
            filters_fit(&filters, &|key: &str, value: &str| match key {
                "label" => label_fits(&labels, value),
                _ => value == "x",
            })
        };
        assert!(
            fits(Value::Null)
                && fits(json!({ "label": ["a=1", "b"] }))
                && fits(json!({ "name": ["y", "x"] }))
        );
        assert!(
            !fits(json!({ "label": ["a=1", "c"] }))
                && !fits(json!({ "label": ["a=2"] }))
                && !fits(json!({ "name": ["y"] }))
        );
        assert!(fits(json!({ "label": { "a": true, "zzz": false } })));
    }
}
