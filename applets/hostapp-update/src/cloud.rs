//! What the cloud is told of this device: PATCH of its record (spec os §16.2, §15.11).

use minke_cloud::Request;
use minke_config::{Config, Store};
use minke_wire::json::Value;
use std::path::Path;
use std::time::Duration;

/// How long the cloud may take altogether.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
const ANSWER: usize = 64 << 10;

/// The cloud, for a device that it knows.
#[derive(Debug, Clone)]
pub struct Cloud {
    cloud: minke_cloud::Cloud,
    path: String,
    key: String,
}

impl Cloud {
    /// The cloud of the system below `root`; `None`: the device is not registered.
    pub fn of(root: &Path) -> Option<Self> {
        let loaded = Store::new(minke_config::Paths::below(root)).load();
        Self::new(&loaded.config, root)
    }

    fn new(config: &Config, root: &Path) -> Option<Self> {
        let cloud = minke_cloud::Cloud::of(config, root)?;
        let (uuid, key) = (config.string("uuid")?, config.string("deviceApiKey")?);
        if config.get("registered_at").is_none() && config.get("deviceId").is_none() {
            return None;
        }
        let path = format!("v6/device(uuid='{}')", minke_http::escape(uuid));
        Some(Self { cloud, path, key: key.to_owned() })
    }

    /// Changes the device's record; waits for the answer, 10 s at most. The error says why it was not changed.
    pub fn patch(&self, record: &Value) -> Result<(), String> {
        let request = Request {
            method: "PATCH",
            path: &self.path,
            key: &self.key,
            agent: "",
            document: Some(record),
            silence: LIMIT,
            deadline: LIMIT,
            limit: ANSWER,
        };
        self.cloud.ask(&request).map(|_| ()).map_err(|error| error.to_string())
    }
}
