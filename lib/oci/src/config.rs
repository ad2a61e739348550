//! An image's configuration (OCI image-spec 1.1, `config.md`; Docker's image JSON has the same fields).

use crate::{Error, Result};
use minke_wire::json::{Map, Value};
use minke_wire::oci::Digest;

/// Most layers an image may have: Docker's own limit is 127.
pub const MAX_LAYERS: usize = 127;

/// The configuration document of an image, as the image's author wrote it.
#[derive(Debug, Clone)]
pub struct ImageConfig {
    document: Value,
}

impl ImageConfig {
    /// Parses the bytes whose sha256 is the image's id.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let document: Value =
            minke_wire::json::parse(bytes).map_err(|error| Error::bad("image config", &error))?;
        if !document.is_object() {
            return Err(Error::bad("image config", &"not a JSON object"));
        }
        Ok(Self { document })
    }

    /// The whole document: `architecture`, `os`, `created`, `author`, `history`, `rootfs`, `config`.
    pub fn document(&self) -> &Value {
        &self.document
    }

    /// The run-time part, key `config` (`Cmd`, `Env`, …), to be shown unchanged in `inspect`.
    pub fn config(&self) -> Option<&Map> {
        self.document.get("config")?.as_object()
    }

    /// One key of the run-time part; JSON `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.config()?.get(key).filter(|value| !value.is_null())
    }

    /// Default arguments to the entry point.
    pub fn cmd(&self) -> Option<Vec<String>> {
        self.strings("Cmd")
    }

    /// The program and its first arguments.
    pub fn entrypoint(&self) -> Option<Vec<String>> {
        self.strings("Entrypoint")
    }

    /// Environment, `NAME=value` each.
    pub fn env(&self) -> Vec<String> {
        self.strings("Env").unwrap_or_default()
    }

    /// Labels in the document's order.
    pub fn labels(&self) -> Vec<(String, String)> {
        let Some(Value::Object(labels)) = self.get("Labels") else { return Vec::new() };
        labels.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
    }

    /// Folders that want to be volumes.
    pub fn volumes(&self) -> Vec<String> {
        self.keys("Volumes")
    }

    /// Ports, `80/tcp` each.
    pub fn exposed_ports(&self) -> Vec<String> {
        self.keys("ExposedPorts")
    }

    /// The working folder; empty when the image sets none.
    pub fn working_dir(&self) -> &str {
        self.text("WorkingDir")
    }

    /// `user`, `uid`, `user:group` or `uid:gid`; empty is root.
    pub fn user(&self) -> &str {
        self.text("User")
    }

    /// Name or number of the signal that ends the container; empty is SIGTERM.
    pub fn stop_signal(&self) -> &str {
        self.text("StopSignal")
    }

    /// Docker's health check (`Test`, `Interval`, … in nanoseconds).
    pub fn healthcheck(&self) -> Option<&Value> {
        self.get("Healthcheck")
    }

    /// The processor architecture in Go's names: `amd64`, `arm`, `arm64`.
    pub fn architecture(&self) -> &str {
        self.top("architecture")
    }

    /// The architecture's variant: `v6`, `v7`; often empty.
    pub fn variant(&self) -> &str {
        self.top("variant")
    }

    /// The operating system: `linux`.
    pub fn os(&self) -> &str {
        self.top("os")
    }

    /// When the image was made (RFC 3339), as written; may be empty.
    pub fn created(&self) -> &str {
        self.top("created")
    }

    /// The digests of the uncompressed layers, lowest first.
    pub fn diff_ids(&self) -> Result<Vec<Digest>> {
        let fail = |reason: &str| Error::bad("image config", &reason);
        let rootfs = self.document.get("rootfs").ok_or_else(|| fail("no rootfs"))?;
        let ids = match rootfs.get("diff_ids") {
            Some(Value::Array(ids)) => ids.as_slice(),
            Some(Value::Null) | None => &[],
            Some(_) => return Err(fail("rootfs.diff_ids is no list")),
        };
        if ids.len() > MAX_LAYERS {
            return Err(fail("more than 127 layers"));
        }
        let mut digests = Vec::new();
        for id in ids {
            let id = id.as_str().and_then(Digest::parse).filter(|id| id.algorithm() == "sha256");
            digests.push(id.ok_or_else(|| fail("rootfs.diff_ids holds something that is no sha256 digest"))?);
        }
        Ok(digests)
    }

    fn text(&self, key: &str) -> &str {
        self.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn top(&self, key: &str) -> &str {
        self.document.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    fn keys(&self, key: &str) -> Vec<String> {
        let Some(Value::Object(map)) = self.get(key) else { return Vec::new() };
        map.keys().cloned().collect()
    }

    /// A list of strings; Docker also accepted a single string in old images.
    fn strings(&self, key: &str) -> Option<Vec<String>> {
        match self.get(key)? {
            Value::String(one) => Some(vec![one.clone()]),
            Value::Array(list) => {
                Some(list.iter().filter_map(|value| value.as_str().map(str::to_owned)).collect())
            }
            _ => None,
        }
    }
}
