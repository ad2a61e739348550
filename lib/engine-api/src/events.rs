//! The stream of what happens to containers.

use crate::error::Reason;
use crate::json::text;
use crate::{Engine, Error, Result, filters};
use minke_http::client::Stream;
use minke_wire::json::Value;

/// The longest event that is read, in bytes; an event carries all labels of its container.
const MAX_EVENT: usize = 256 * 1024;

/// Something happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What: `create`, `start`, `die`, `kill`, `stop`, `destroy`, …
    pub action: String,
    /// The container's id.
    pub container: String,
    /// With `die`: the exit status, if the engine tells.
    pub exit_code: Option<i64>,
}

/// An open stream of events.
#[derive(Debug)]
pub struct Events {
    stream: Box<Stream>,
}

impl Engine {
    /// Asks for the events of containers from now on. What happens after this returns is in the stream.
    pub fn events(&self) -> Result<Events> {
        let target = format!("/events?filters={}", filters("type", &["container"]));
        let stream = self.open(&target)?;
        if stream.status != 200 {
            return Err(failed(Reason::Api(stream.status, "no events".to_owned())));
        }
        // Nothing happens for days: silence is no failure. The end of the engine ends the connection.
        stream.set_timeout(None).map_err(|error| failed(Reason::Http(error)))?;
        Ok(Events { stream })
    }
}

fn failed(reason: Reason) -> Error {
    Error::of("GET", "/events", reason)
}

impl Events {
    /// Waits for the next event. `None`: the engine ended the stream.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        loop {
            let line = self.stream.next_line(MAX_EVENT).map_err(|error| failed(Reason::Http(error)))?;
            let Some(line) = line else { return Ok(None) };
            if line.is_empty() {
                continue;
            }
            let value = minke_wire::json::parse(&line).map_err(|_| failed(Reason::Answer))?;
            if let Some(event) = event(&value) {
                return Ok(Some(event));
            }
        }
    }
}

/// Engines send the old top-level fields, the new nested ones, or both.
fn event(value: &Value) -> Option<Event> {
    let first = |old: &str, new: &str| {
        let found = text(value, old);
        if found.is_empty() { text(value, new) } else { found }
    };
    let event = Event {
        action: first("/status", "/Action"),
        container: first("/id", "/Actor/ID"),
        exit_code: minke_wire::text::number(&text(value, "/Actor/Attributes/exitCode")),
    };
    (!event.action.is_empty() && !event.container.is_empty()).then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    #[test]
    fn old_and_new_fields() {
        let wanted = Some(Event { action: "die".to_owned(), container: "c".to_owned(), exit_code: None });
        assert_eq!(event(&json!({ "status": "die", "id": "c" })), wanted);
        assert_eq!(event(&json!({ "Action": "die", "Actor": { "ID": "c" } })), wanted);
        assert_eq!(event(&json!({ "Action": "pull" })), None);
        let attributes = json!({ "ID": "c", "Attributes": { "exitCode": "137" } });
        assert_eq!(
            event(&json!({ "Action": "die", "Actor": attributes })).and_then(|event| event.exit_code),
            Some(137)
        );
    }
}
