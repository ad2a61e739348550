//! The client of a container engine's HTTP API (Docker Engine API), with the calls that the supervisor needs
//! (spec supervisor §9.1). Paths are sent without a version, and only fields that every compatible engine has
//! are read; so it works on our engine, on balenaEngine, on dockerd and on podman.

#![forbid(unsafe_code)]

mod containers;
mod error;
mod events;
mod images;
mod json;
mod networks;
mod volumes;

pub use containers::{Container, Removed, Started, Stopped, Summary};
pub use error::Error;
pub use events::{Event, Events};
pub use images::{Image, ImageSummary};
pub use networks::Network;
pub use volumes::Volume;

use error::Reason;
use minke_http::Client;
use minke_http::client::{Body, Stream};
use minke_wire::json::{Map, ToJson, Value};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// How long the engine may stay silent on an ordinary call. Starting a container on a slow card takes long.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A container engine.
#[derive(Debug, Clone)]
pub struct Engine {
    client: Client,
}

/// An answer with its meaning still open.
struct Answer {
    call: String,
    status: u16,
    body: Vec<u8>,
}

impl Engine {
    /// The engine at a Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { client: Client::unix(path).with_timeout(Some(TIMEOUT)) }
    }

    /// The engine at a TCP address.
    pub fn tcp(address: SocketAddr) -> Self {
        Self { client: Client::tcp(address).with_timeout(Some(TIMEOUT)) }
    }

    /// Whether the engine answers: `GET /_ping`.
    pub fn ping(&self) -> Result<()> {
        self.act("GET", "/_ping", None, &[200])
    }

    /// A call whose answer says no more than that it is done.
    fn act(&self, method: &str, target: &str, body: Option<&Value>, statuses: &[u16]) -> Result<()> {
        self.call(method, target, body)?.expect(statuses).map(|_| ())
    }

    /// A document.
    fn document(&self, target: &str) -> Result<Value> {
        self.call("GET", target, None)?.expect(&[200])?.json()
    }

    /// A document about one object; `None`: there is no such object.
    fn inspect(&self, target: &str) -> Result<Option<Value>> {
        match self.call("GET", target, None)?.optional(&[200])? {
            Some(answer) => answer.json().map(Some),
            None => Ok(None),
        }
    }

    /// Removes an object.
    fn remove(&self, target: &str, statuses: &[u16]) -> Result<Removed> {
        let answer = self.call("DELETE", target, None)?.optional(statuses)?;
        Ok(if answer.is_some() { Removed::Now } else { Removed::Gone })
    }

    fn call(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Answer> {
        call(&self.client, method, target, body)
    }

    fn open(&self, target: &str) -> Result<Stream> {
        let stream = self.client.stream("GET", target, &[], Body::None);
        stream.map_err(|reason| Error::new(describe("GET", target), Reason::Http(reason)))
    }
}

fn call(client: &Client, method: &str, target: &str, body: Option<&Value>) -> Result<Answer> {
    let text = body.map(Value::to_string);
    let json = [("Content-Type", "application/json")];
    let (headers, body): (&[_], _) = match &text {
        Some(text) => (&json, Body::Bytes(text.as_bytes())),
        None => (&[], Body::None),
    };
    let call = describe(method, target);
    match client.request(method, target, headers, body) {
        Ok(response) => Ok(Answer { call, status: response.status, body: response.body }),
        Err(reason) => Err(Error::new(call, Reason::Http(reason))),
    }
}

/// The call as messages name it: a query may be long and says little.
fn describe(method: &str, target: &str) -> String {
    let path = target.split('?').next().unwrap_or(target);
    format!("{method} {path}")
}

impl Answer {
    /// The answer when its status is one of `statuses`, else the engine's error.
    fn expect(self, statuses: &[u16]) -> Result<Self> {
        if statuses.contains(&self.status) {
            return Ok(self);
        }
        let parsed = minke_wire::json::parse(&self.body).unwrap_or_default();
        let message = match parsed.get("message").and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None => String::from_utf8_lossy(&self.body).trim().to_owned(),
        };
        Err(Error::new(self.call, Reason::Api(self.status, message)))
    }

    /// As [`Answer::expect`], with `None` for 404.
    fn optional(self, statuses: &[u16]) -> Result<Option<Self>> {
        if self.status == 404 {
            return Ok(None);
        }
        self.expect(statuses).map(Some)
    }

    fn json(self) -> Result<Value> {
        minke_wire::json::parse(&self.body).map_err(|_| Error::new(self.call, Reason::Answer))
    }
}

/// `target` with a filter for objects that carry every one of `labels`.
fn with_labels(target: &str, mark: char, labels: &[&str]) -> String {
    if labels.is_empty() {
        return target.to_owned();
    }
    format!("{target}{mark}filters={}", filters("label", labels))
}

/// A filter as the API wants it in the query: a map of lists, as JSON.
fn filters(name: &str, values: &[&str]) -> String {
    let mut filters = Map::new();
    filters.insert(name, values.to_json());
    minke_http::escape(&Value::Object(filters).to_string())
}
