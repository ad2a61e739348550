//! Asking the forwarder (`dns serve`): its state, and what a person or another program may tell it.
//!
//! The socket is [`SOCKET`]. Requests are objects with the member `command`: `status` is answered by a [`Status`], each other
//! [`Command`] by `{}` when it is done.

use crate::{Error, call};
use minke_wire::json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Where the forwarder answers.
pub const SOCKET: &str = "/run/minke/dns/control.sock";

/// How long it may take for an answer: it only looks at what it knows.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What the forwarder can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Tell the state.
    Status,
    /// Forget answers: those of a name, or all.
    Flush(Option<Box<str>>),
    /// Read the settings again.
    Reload,
}

impl Command {
    /// The request line.
    pub fn to_value(&self) -> Value {
        match self {
            Self::Status => json!({ "command": "status" }),
            Self::Reload => json!({ "command": "reload" }),
            Self::Flush(None) => json!({ "command": "flush" }),
            Self::Flush(Some(name)) => json!({ "command": "flush", "name": &**name }),
        }
    }

    /// Reads a request; `None` for what is no command.
    pub fn from_value(request: &Value) -> Option<Self> {
        Some(match request.get("command")?.as_str()? {
            "status" => Self::Status,
            "reload" => Self::Reload,
            "flush" => Self::Flush(request.get("name").and_then(Value::as_str).map(Into::into)),
            _ => return None,
        })
    }
}

/// What the forwarder knows. Who asks reads the JSON itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// Where it is asked, `ADDRESS:PORT`.
    pub listen: Vec<String>,
    /// The servers, the default ones first.
    pub servers: Vec<Server>,
    /// Answers in the cache.
    pub entries: u64,
    /// What they take, in bytes.
    pub bytes: u64,
    /// What they may take, in bytes.
    pub limit: u64,
    /// Questions that wait for a server.
    pub pending: u64,
    /// Events since the start by name, for instance `queries`, `hits`, `forwarded`.
    pub counters: Vec<(&'static str, u64)>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Server {
    /// Which names it is asked for: `default`, `fallback`, or domains with spaces between them.
    pub domain: String,
    /// `ADDRESS#PORT`, before it `tls://` for DNS over TLS, as the log has it.
    pub address: String,
    /// What is thought of it: `good`, `untried`, or `down` while it is left alone for its silence.
    pub state: &'static str,
    /// The smoothed time of an answer, in microseconds; `None` before the first.
    pub rtt_us: Option<u64>,
    /// Questions sent.
    pub sent: u64,
    /// Questions without an answer, or with a useless one.
    pub failed: u64,
}

impl Status {
    /// The answer line.
    pub fn to_value(&self) -> Value {
        let mut counters = json!({});
        for (name, count) in &self.counters {
            counters.make_object().insert(*name, Value::from(*count));
        }
        let servers: Value = self.servers.iter().map(Server::to_value).collect();
        json!({
            "listen": self.listen,
            "servers": servers,
            "cache": { "entries": self.entries, "bytes": self.bytes, "limit": self.limit },
            "pending": self.pending,
            "counters": counters,
        })
    }
}

impl Server {
    fn to_value(&self) -> Value {
        json!({
            "domain": self.domain,
            "address": self.address,
            "state": self.state,
            "rtt_us": self.rtt_us,
            "sent": self.sent,
            "failed": self.failed,
        })
    }
}

/// Asks or tells the forwarder behind `socket`.
pub fn ask(socket: &Path, command: &Command) -> Result<Value, Error> {
    call(socket, &command.to_value(), Some(ANSWER_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_there_and_back() {
        for command in
            [Command::Status, Command::Reload, Command::Flush(None), Command::Flush(Some("a.example".into()))]
        {
            assert_eq!(Command::from_value(&command.to_value()), Some(command));
        }
        assert_eq!(Command::from_value(&json!({ "command": "nonsense" })), None);
        assert_eq!(Command::from_value(&json!([])), None);
    }

    #[test]
    fn the_status_as_json() {
        let server = Server {
            domain: "default".into(),
            address: "9.9.9.9#53".into(),
            state: "good",
            ..Server::default()
        };
        let status = Status {
            listen: vec!["127.0.0.2:53".into()],
            servers: vec![server],
            entries: 2,
            counters: vec![("queries", 7)],
            ..Status::default()
        };
        let value = status.to_value();
        let text = value.to_text();
        assert!(
            text.contains(
                r#""servers":[{"domain":"default","address":"9.9.9.9#53","state":"good","rtt_us":null,"#
            ),
            "{text}"
        );
        assert_eq!(value.get("counters").and_then(|all| all.get("queries")).and_then(Value::as_u64), Some(7));
        assert_eq!(
            value.get("cache").and_then(|cache| cache.get("entries")).and_then(Value::as_u64),
            Some(2)
        );
    }
}
