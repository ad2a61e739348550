//! Asking the forwarder (`dns serve`): its state, and what a person or another program may tell it.
//!
//! The socket is [`SOCKET`]. Requests are objects with the member `command`. `reload` is answered by `{}` when it is done,
//! `flush` by `{"flushed"}`, how many answers were forgotten, and `status` by what the forwarder knows:
//!
//! | member | meaning |
//! |---|---|
//! | `listen` | where it is asked, each `ADDRESS:PORT` |
//! | `servers` | the default ones first, see below |
//! | `cache` | `entries`: answers in the cache; `bytes`: what they take; `limit`: what they may take, in bytes |
//! | `pending` | questions that wait for a server |
//! | `counters` | events since the start by name, for instance `queries`, `hits`, `misses` |
//!
//! Each server has `domain`, which names it is asked for (`default`, `fallback`, or domains with spaces between them);
//! `address`, `ADDRESS#PORT`, before it `tls://` for DNS over TLS, as the log has it; `state`, `good`, `untried`, or `down`
//! while it is left alone for its silence; `rtt_us`, the smoothed time of an answer in microseconds, null before the first;
//! `sent`, questions; `failed`, those without an answer, or with a useless one.

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
}
