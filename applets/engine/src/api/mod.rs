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
use minke_http::{BodyMode, Conn, Head, Headers, Limits, Request, Response};
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
    /// What stands for the `*` of the route.
    pub name: &'a str,
}

/// Method and path without version, and what answers. A `*` is a name; `**` is one that may hold slashes.
type Route = (&'static str, Handler);

/// How a route answers; errors are answered for all of them.
enum Handler {
    /// With this status and a document.
    Json(u16, fn(&mut Engine, &Call<'_>) -> Result<Value>),
    /// With this status and no body.
    Empty(u16, fn(&mut Engine, &Call<'_>) -> Result<()>),
    /// By itself, now or later.
    Own(fn(&mut Engine, &Call<'_>) -> Result<()>),
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
            .map_err(|error| ApiError::bad(format_args!("invalid JSON: {error}")))
    }

    /// The query field `filters`.
    pub fn filters(&self) -> Result<Value> {
        match self.query("filters") {
            "" => Ok(Value::Null),
            text => minke_wire::json::parse_str(text)
                .map_err(|error| ApiError::bad(format_args!("invalid filter: {error}"))),
        }
    }

    /// The `Connection` header that answers a client who wants the connection for itself.
    pub fn connection(&self) -> &'static str {
        if self.request.headers.has_token("Connection", "upgrade") { crate::engine::UPGRADE } else { "" }
    }
}

/// Answers one request, now or later.
pub fn handle(engine: &mut Engine, conn: Conn, request: &Request) {
    // The server leaves the body of a HEAD answer out.
    let method = if request.method == "HEAD" { "GET" } else { &request.method };
    let mut line = format!("{method} ");
    for part in without_version(&request.path).split('/').filter(|part| !part.is_empty()) {
        if !line.ends_with(' ') {
            line.push('/');
        }
        line.push_str(part);
    }
    if let Err(error) = route(engine, conn, request, &line) {
        engine.fail(conn, &error);
    }
}

fn route(engine: &mut Engine, conn: Conn, request: &Request, line: &str) -> Result<()> {
    for routes in &[containers::ROUTES, resources::ROUTES, system::ROUTES] {
        for (pattern, handler) in *routes {
            let Some(name) = name_in(line, pattern) else { continue };
            let call = Call { conn, request, name };
            match handler {
                Handler::Json(status, answer) => {
                    let document = answer(engine, &call)?;
                    engine.respond(conn, *status, &document);
                }
                Handler::Empty(status, act) => {
                    act(engine, &call)?;
                    engine.server.respond(conn, Response::empty(*status));
                }
                Handler::Own(act) => act(engine, &call)?,
            }
            return Ok(());
        }
    }
    Err(match line.rsplit('/').next().filter(|_| minke_wire::text::contains(line, " containers/")) {
        Some(action @ ("archive" | "export" | "stats" | "pause" | "unpause" | "changes")) => {
            ApiError::new(501, format_args!("{action} is not supported by this engine yet"))
        }
        _ => ApiError::missing(format_args!("page not found")),
    })
}

/// What stands for the `*` of a pattern in a line that fits it; the empty text when it has none.
fn name_in<'a>(line: &'a str, pattern: &str) -> Option<&'a str> {
    let Some((head, tail)) = pattern.split_once('*') else { return (line == pattern).then_some("") };
    let (tail, deep) = tail.strip_prefix('*').map_or((tail, false), |tail| (tail, true));
    let name = line.strip_prefix(head)?.strip_suffix(tail)?;
    (!name.is_empty() && (deep || !name.contains('/'))).then_some(name)
}

/// Begins an answer of JSON lines, which goes on until it is finished.
pub fn start_json_stream(engine: &mut Engine, conn: Conn) {
    let mut headers = Headers::default();
    headers.push("Content-Type", "application/json");
    engine.server.start_stream(conn, 200, &headers);
}

/// The content type of a container's output.
pub fn stream_type(raw: bool) -> &'static str {
    if raw { "application/vnd.docker.raw-stream" } else { "application/vnd.docker.multiplexed-stream" }
}

/// Whether an object passes filters: for each key, one of its values must fit; for `label` all of them. Filters
/// come as `{"key": ["value"]}` or, from older clients, as `{"key": {"value": true}}`.
pub fn filters_fit(filters: &Value, fits: &dyn Fn(&str, &str) -> bool) -> bool {
    for (key, values) in filters.members() {
        let (mut all, mut fitting) = (0usize, 0usize);
        let mut check = |value: &str| {
            all = all.saturating_add(1);
            fitting = fitting.saturating_add(usize::from(fits(key, value)));
        };
        match values {
            Value::Array(list) => {
                for value in list {
                    if let Some(value) = value.as_str() {
                        check(value);
                    }
                }
            }
            Value::Object(map) => {
                for (value, on) in map {
                    if on.as_bool() == Some(true) {
                        check(value);
                    }
                }
            }
            Value::String(text) => check(text),
            _ => {}
        }
        let passes = if key == "label" { fitting == all } else { all == 0 || fitting > 0 };
        if !passes {
            return false;
        }
    }
    true
}

/// How a filter's value says yes.
pub fn is_true(value: &str) -> bool {
    matches!(value, "true" | "1")
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
    fn names_of_images_hold_slashes_and_others_do_not() {
        assert_eq!(name_in("GET containers/a/json", "GET containers/*/json"), Some("a"));
        assert_eq!(name_in("GET containers/a/b/json", "GET containers/*/json"), None);
        assert_eq!(name_in("GET images/a/b:1/json", "GET images/**/json"), Some("a/b:1"));
        assert_eq!((name_in("GET info", "GET info"), name_in("POST info", "GET info")), (Some(""), None));
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
