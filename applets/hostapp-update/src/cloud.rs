//! What the cloud is told of this device: PATCH of its record (spec os §16.2, §15.11).

use minke_config::{Config, Store};
use minke_http::client::Body;
use minke_http::{Client, Trust, Url};
use minke_wire::base64;
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
    address: String,
    key: String,
    trust: Trust,
}

impl Cloud {
    /// The cloud of the system below `root`; `None`: the device is not registered.
    pub fn of(root: &Path) -> Option<Self> {
        let loaded = Store::new(minke_config::Paths::below(root)).load();
        Self::new(&loaded.config, root)
    }

    fn new(config: &Config, root: &Path) -> Option<Self> {
        let endpoint = config.string("apiEndpoint")?.trim_end_matches('/');
        let (uuid, key) = (config.string("uuid")?, config.string("deviceApiKey")?);
        if config.get("registered_at").is_none() && config.get("deviceId").is_none() {
            return None;
        }
        let own = config.string("balenaRootCA").and_then(|text| base64::decode(text.as_bytes()));
        Some(Self {
            address: format!("{endpoint}/v6/device(uuid='{}')", minke_http::escape(uuid)),
            key: format!("Bearer {key}"),
            trust: Trust {
                bundle: root.join(minke_http::BUNDLE.trim_start_matches('/')),
                extra: own.unwrap_or_default(),
            },
        })
    }

    /// Changes the device's record; waits for the answer, 10 s at most. The error says why it was not changed.
    pub fn patch(&self, record: &Value) -> Result<(), String> {
        let url = Url::parse(&self.address).map_err(|error| error.to_string())?;
        let headers = [("Authorization", self.key.as_str()), ("Content-Type", "application/json")];
        let answer = Client::web(&url)
            .with_trust(self.trust.clone())
            .with_timeout(Some(LIMIT))
            .with_deadline(LIMIT)
            .with_limit(ANSWER)
            .request("PATCH", url.target, &headers, Body::Bytes(record.to_text().as_bytes()))
            .map_err(|error| error.to_string())?;
        match answer.status {
            200..=299 => Ok(()),
            status => Err(format!("{} answered with status {status}", self.address)),
        }
    }
}
