//! Images.

use crate::json::{keys, pairs, text, texts};
use crate::{Engine, Result};
use minke_http::escape;
use minke_wire::json::Value;

/// An image in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSummary {
    /// The id.
    pub id: String,
    /// `name:tag` of each tag.
    pub tags: Vec<String>,
    /// `name@digest` of each repository it was pulled from.
    pub digests: Vec<String>,
}

/// An image as inspect shows it: what its config says of containers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    /// The id.
    pub id: String,
    /// `Cmd`.
    pub cmd: Vec<String>,
    /// `Entrypoint`.
    pub entrypoint: Vec<String>,
    /// `Env`, each `NAME=value`.
    pub env: Vec<String>,
    /// The labels, sorted.
    pub labels: Vec<(String, String)>,
    /// Paths that are volumes.
    pub volumes: Vec<String>,
    /// `WorkingDir`.
    pub working_dir: String,
    /// `User`.
    pub user: String,
    /// `StopSignal`.
    pub stop_signal: String,
    /// `Healthcheck`, or null.
    pub healthcheck: Value,
}

impl Engine {
    /// All images.
    pub fn images(&self) -> Result<Vec<ImageSummary>> {
        let list = self.list("/images/json?digests=1")?;
        let known =
            |names: Vec<String>| names.into_iter().filter(|name| !name.starts_with("<none>")).collect();
        let summary = |value: &Value| ImageSummary {
            id: text(value, "/Id"),
            tags: known(texts(value, "/RepoTags")),
            digests: known(texts(value, "/RepoDigests")),
        };
        Ok(list.as_array().into_iter().flatten().map(summary).collect())
    }

    /// An image by name (`name:tag`, `name@digest`) or id. `None`: there is none.
    pub fn inspect_image(&self, name: &str) -> Result<Option<Image>> {
        Ok(self.get(&format!("/images/{}/json", escape_name(name)))?.as_ref().map(image))
    }
}

/// Engines route on the slashes of a name.
fn escape_name(name: &str) -> String {
    let mut path = escape(name);
    for (escaped, plain) in [("%2F", "/"), ("%3A", ":"), ("%40", "@")] {
        path = minke_wire::text::replace(&path, escaped, plain);
    }
    path
}

fn image(value: &Value) -> Image {
    Image {
        id: text(value, "/Id"),
        cmd: texts(value, "/Config/Cmd"),
        entrypoint: texts(value, "/Config/Entrypoint"),
        env: texts(value, "/Config/Env"),
        labels: pairs(value, "/Config/Labels"),
        volumes: keys(value, "/Config/Volumes"),
        working_dir: text(value, "/Config/WorkingDir"),
        user: text(value, "/Config/User"),
        stop_signal: text(value, "/Config/StopSignal"),
        healthcheck: value.pointer("/Config/Healthcheck").cloned().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_what_engines_route_on() {
        assert_eq!(escape_name("reg:5000/a/b@sha256:1"), "reg:5000/a/b@sha256:1");
        assert_eq!(escape_name("a b?c/../x"), "a%20b%3Fc/../x");
    }

    #[test]
    fn lists_may_be_null() {
        let value =
            minke_wire::json::json!({ "Id": "i", "Config": { "Cmd": null, "Volumes": { "/data": {} } } });
        let found = image(&value);
        assert_eq!((&*found.id, found.cmd.len(), &*found.volumes), ("i", 0, &["/data".to_owned()][..]));
    }
}
