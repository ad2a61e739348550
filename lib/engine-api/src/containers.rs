//! Containers.

use crate::error::Reason;
use crate::json::{keys, list, pairs, text, texts};
use crate::{Engine, Error, Result, filters};
use minke_http::escape;
use minke_wire::json::{Value, json};
use std::time::Duration;

/// Time beyond a container's stop time-out that a stop may take.
const STOP_MARGIN: Duration = Duration::from_secs(60);

/// A container in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The id.
    pub id: String,
    /// The names, each with a leading slash.
    pub names: Vec<String>,
    /// `created`, `running`, `exited`, …
    pub state: String,
}

/// A container as inspect shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// The id.
    pub id: String,
    /// The name, without the leading slash.
    pub name: String,
    /// When it was created, in the engine's words (RFC 3339).
    pub created: String,
    /// The id of its image.
    pub image: String,
    /// The labels, sorted.
    pub labels: Vec<(String, String)>,
    /// One of `created running paused restarting removing exited dead`.
    pub status: String,
    /// The engine's error of the last start, or empty.
    pub error: String,
    /// The exit status of the last run.
    pub exit_code: i64,
    /// When it last started; the year 1 if never.
    pub started_at: String,
    /// The restart policy's name; empty is `no`.
    pub restart_policy: String,
    /// `HostConfig.NetworkMode`.
    pub network_mode: String,
    /// The names of the networks it is in.
    pub networks: Vec<String>,
    /// The named volumes that it mounts.
    pub volumes: Vec<String>,
}

impl Container {
    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }

    /// Whether it was started at least once.
    pub fn has_run(&self) -> bool {
        !self.started_at.is_empty() && !self.started_at.starts_with("0001-")
    }

    /// Whether its process exists, or will again by itself.
    pub fn is_up(&self) -> bool {
        matches!(self.status.as_str(), "running" | "paused" | "restarting")
    }
}

/// How a start ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It runs now.
    Now,
    /// It ran already (304).
    Already,
}

/// How a stop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// It is stopped now.
    Now,
    /// It was stopped already (304).
    Already,
    /// There is no such container.
    Gone,
}

/// How a removal ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It is removed now.
    Now,
    /// There was no such thing.
    Gone,
}

impl Engine {
    /// All containers, stopped ones too, that carry every one of `labels` (`name` or `name=value`).
    pub fn containers(&self, labels: &[&str]) -> Result<Vec<Summary>> {
        let mut target = "/containers/json?all=1".to_owned();
        if !labels.is_empty() {
            target.push_str("&filters=");
            target.push_str(&filters("label", labels));
        }
        let mut containers = Vec::new();
        for value in list(&self.list(&target)?, "") {
            containers.push(Summary {
                id: text(value, "/Id"),
                names: texts(value, "/Names"),
                state: text(value, "/State"),
            });
        }
        Ok(containers)
    }

    /// A container by id, prefix of one, or name. `None`: there is none.
    pub fn inspect_container(&self, id: &str) -> Result<Option<Container>> {
        Ok(self.get(&format!("/containers/{}/json", escape(id)))?.as_ref().map(container))
    }

    /// Creates a container from a body of the API's `ContainerCreate`, and returns its id.
    pub fn create_container(&self, name: &str, body: &Value) -> Result<String> {
        let target = format!("/containers/create?name={}", escape(name));
        let answer = self.call_within("POST", &target, Some(body), &[201], crate::TIMEOUT)?;
        let id = text(&crate::json("POST", &target, &answer)?, "/Id");
        if id.is_empty() { Err(Error::of("POST", &target, Reason::Answer)) } else { Ok(id) }
    }

    /// Starts a container.
    pub fn start_container(&self, id: &str) -> Result<Started> {
        match self.act("POST", id, "/start", None, &[204, 304])? {
            304 => Ok(Started::Already),
            _ => Ok(Started::Now),
        }
    }

    /// Stops a container with its own signal and time-out, of which `grace` is the longest.
    pub fn stop_container(&self, id: &str, grace: Duration) -> Result<Stopped> {
        let target = format!("/containers/{}/stop", escape(id));
        let limit = grace.saturating_add(STOP_MARGIN);
        match self.call_within("POST", &target, None, &[204, 304, 404], limit)?.status {
            404 => Ok(Stopped::Gone),
            304 => Ok(Stopped::Already),
            _ => Ok(Stopped::Now),
        }
    }

    /// Removes a container with its anonymous volumes; `force` kills it first.
    pub fn remove_container(&self, id: &str, force: bool) -> Result<Removed> {
        let query = if force { "?v=1&force=1" } else { "?v=1" };
        self.act("DELETE", id, query, None, &[204, 404]).map(Removed::of)
    }

    /// Renames a container.
    pub fn rename_container(&self, id: &str, name: &str) -> Result<()> {
        let query = format!("/rename?name={}", escape(name));
        self.act("POST", id, &query, None, &[204]).map(|_| ())
    }

    /// Takes away a container's restart policy, so that a stop is final even if it crashes all the time.
    pub fn clear_restart_policy(&self, id: &str) -> Result<()> {
        let body = json!({ "RestartPolicy": { "Name": "no", "MaximumRetryCount": 0 } });
        self.act("POST", id, "/update", Some(&body), &[200]).map(|_| ())
    }

    /// A call on a container.
    #[inline(never)]
    fn act(&self, method: &str, id: &str, rest: &str, body: Option<&Value>, statuses: &[u16]) -> Result<u16> {
        self.call(method, &format!("/containers/{}{rest}", escape(id)), body, statuses)
    }
}

impl Removed {
    /// By the status of the answer.
    pub(crate) fn of(status: u16) -> Self {
        if status == 404 { Self::Gone } else { Self::Now }
    }
}

fn container(value: &Value) -> Container {
    let mut volumes = Vec::new();
    for mount in list(value, "/Mounts") {
        if mount["Type"] == "volume" {
            volumes.push(text(mount, "/Name"));
        }
    }
    Container {
        id: text(value, "/Id"),
        name: text(value, "/Name").trim_start_matches('/').to_owned(),
        created: text(value, "/Created"),
        image: text(value, "/Image"),
        labels: pairs(value, "/Config/Labels"),
        status: text(value, "/State/Status"),
        error: text(value, "/State/Error"),
        exit_code: value.pointer("/State/ExitCode").and_then(Value::as_i64).unwrap_or(0),
        started_at: text(value, "/State/StartedAt"),
        restart_policy: text(value, "/HostConfig/RestartPolicy/Name"),
        network_mode: text(value, "/HostConfig/NetworkMode"),
        networks: keys(value, "/NetworkSettings/Networks"),
        volumes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inspect_is_read_and_gaps_are_empty() {
        let value = json!({
            "Id": "abc", "Name": "/web_1_2_c", "Created": "2026-01-01T00:00:00Z", "Image": "sha256:1",
            "Config": { "Labels": { "b": "2", "a": "1" } },
            "State": { "Status": "running", "ExitCode": 3, "StartedAt": "0001-01-01T00:00:00Z" },
            "HostConfig": { "NetworkMode": "n", "RestartPolicy": { "Name": "always" } },
            "NetworkSettings": { "Networks": { "n": {} } },
            "Mounts": [{ "Type": "volume", "Name": "1_data" }, { "Type": "bind" }]
        });
        let found = container(&value);
        assert_eq!((&*found.name, found.label("b"), found.exit_code), ("web_1_2_c", Some("2"), 3));
        assert_eq!((&found.volumes, &found.networks), (&vec!["1_data".to_owned()], &vec!["n".to_owned()]));
        assert_eq!(container(&json!(null)), Container::default());
        assert!(found.is_up() && !found.has_run());
    }
}
