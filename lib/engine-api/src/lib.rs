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

use minke_http::client::{Body, Stream};
use minke_http::{Client, Response};
use minke_wire::json::Value;
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
    response: Box<Response>,
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
        self.call("GET", "/_ping", None)?.expect(&[200]).map(|_| ())
    }

    fn call(&self, method: &str, target: &str, body: Option<&Value>) -> Result<Answer> {
        self.call_within(method, target, body, TIMEOUT)
    }

    fn call_within(
        &self,
        method: &str,
        target: &str,
        body: Option<&Value>,
        timeout: Duration,
    ) -> Result<Answer> {
        let call = describe(method, target);
        let client = self.client.clone().with_timeout(Some(timeout));
        let text = body.map(Value::to_string);
        let json = [("Content-Type", "application/json")];
        let sent = match &text {
            Some(text) => client.request(method, target, &json, Body::Bytes(text.as_bytes())),
            None => client.request(method, target, &[], Body::None),
        };
        match sent {
            Ok(response) => Ok(Answer { call, response: Box::new(response) }),
            Err(reason) => Err(Error::Http { call, reason: Box::new(reason) }),
        }
    }

    fn open(&self, target: &str) -> Result<Stream> {
        let call = describe("GET", target);
        self.client
            .stream("GET", target, &[], Body::None)
            .map_err(|reason| Error::Http { call, reason: Box::new(reason) })
    }
}

/// The call as messages name it: a query may be long and says little.
fn describe(method: &str, target: &str) -> String {
    let path = target.split('?').next().unwrap_or(target);
    format!("{method} {path}")
}

impl Answer {
    fn status(&self) -> u16 {
        self.response.status
    }

    /// The answer when its status is one of `statuses`, else the engine's error.
    fn expect(self, statuses: &[u16]) -> Result<Self> {
        if statuses.contains(&self.status()) {
            return Ok(self);
        }
        let parsed: Option<Value> = minke_wire::json::parse(&self.response.body).ok();
        let message = parsed.as_ref().and_then(|value| value.get("message")).and_then(Value::as_str);
        let message = match message {
            Some(message) => message.to_owned(),
            None => String::from_utf8_lossy(&self.response.body).trim().to_owned(),
        };
        Err(Error::Api { status: self.status(), call: self.call, message })
    }

    /// As [`Answer::expect`], with `None` for 404.
    fn optional(self, statuses: &[u16]) -> Result<Option<Self>> {
        if self.status() == 404 {
            return Ok(None);
        }
        self.expect(statuses).map(Some)
    }

    fn json(self) -> Result<Value> {
        minke_wire::json::parse(&self.response.body).map_err(|_| Error::Answer { call: self.call })
    }
}

/// A filter as the API wants it in the query: a map of lists, as JSON.
fn filters(name: &str, values: &[&str]) -> String {
    let list = Value::from(values.to_vec());
    let mut map = minke_wire::json::Map::new();
    map.insert(name.to_owned(), list);
    minke_http::escape(&Value::Object(map).to_string())
}
