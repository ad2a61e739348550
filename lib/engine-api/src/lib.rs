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
use minke_http::client::{Body, Stream};
use minke_http::{Client, Response};
use minke_wire::json::{Value, json};
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
        self.call("GET", "/_ping", None, &[200]).map(|_| ())
    }

    /// The document at `target`. `None`: there is none (404).
    #[inline(never)]
    fn get(&self, target: &str) -> Result<Option<Value>> {
        let answer = self.call_within("GET", target, None, &[200, 404], TIMEOUT)?;
        if answer.status == 404 { Ok(None) } else { json("GET", target, &answer).map(Some) }
    }

    /// The list at `target`.
    #[inline(never)]
    fn list(&self, target: &str) -> Result<Value> {
        let answer = self.call_within("GET", target, None, &[200], TIMEOUT)?;
        json("GET", target, &answer)
    }

    /// A call whose answer is its status, which must be one of `statuses`.
    #[inline(never)]
    fn call(&self, method: &str, target: &str, body: Option<&Value>, statuses: &[u16]) -> Result<u16> {
        Ok(self.call_within(method, target, body, statuses, TIMEOUT)?.status)
    }

    /// A call that may take `timeout`. A status that is none of `statuses` is the engine's error.
    #[inline(never)]
    fn call_within(
        &self,
        method: &str,
        target: &str,
        body: Option<&Value>,
        statuses: &[u16],
        timeout: Duration,
    ) -> Result<Box<Response>> {
        let client = self.client.clone().with_timeout(Some(timeout));
        let text = body.map(Value::to_text);
        let json = [("Content-Type", "application/json")];
        let sent = match &text {
            Some(text) => client.request(method, target, &json, Body::Bytes(text.as_bytes())),
            None => client.request(method, target, &[], Body::None),
        };
        let answer = Box::new(sent.map_err(|error| Error::of(method, target, Reason::Http(error)))?);
        if statuses.contains(&answer.status) {
            return Ok(answer);
        }
        let parsed = minke_wire::json::parse(&answer.body).unwrap_or_default();
        let message = match parsed.get("message").and_then(Value::as_str) {
            Some(message) => message.to_owned(),
            None => String::from_utf8_lossy(&answer.body).trim().to_owned(),
        };
        Err(Error::of(method, target, Reason::Api(answer.status, message)))
    }

    fn open(&self, target: &str) -> Result<Box<Stream>> {
        let stream = self.client.stream("GET", target, &[], Body::None);
        stream.map_err(|error| Error::of("GET", target, Reason::Http(error)))
    }
}

fn json(method: &str, target: &str, answer: &Response) -> Result<Value> {
    minke_wire::json::parse(&answer.body).map_err(|_| Error::of(method, target, Reason::Answer))
}

/// A filter as the API wants it in the query: a map of lists, as JSON.
fn filters(name: &str, values: &[&str]) -> String {
    minke_http::escape(&json!({ name: values }).to_text())
}
