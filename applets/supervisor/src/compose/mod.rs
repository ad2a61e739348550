//! From a target service to what the engine is asked to create (spec supervisor §3): pure, a table of fields.

mod body;
mod command;
mod environment;
pub mod features;
mod fields;
mod hash;
pub mod network;
mod ports;
pub mod volume;

pub use body::{container, wants_key};

use crate::values::set;
use minke_wire::json::Value;
use std::time::Duration;

/// Marks everything that the supervisor creates.
pub const SUPERVISED: &str = "io.balena.supervised";

/// The label that holds the hash of the wanted config (§3.8.6): comparing this is stable whatever an engine
/// makes of the fields.
pub const HASH_LABEL: &str = "io.balena.private.config.hash";

/// What containers learn of the device. All texts may be empty.
#[derive(Debug, Clone, Default)]
pub struct Device {
    /// The device's uuid.
    pub uuid: String,
    /// The device type's slug.
    pub device_type: String,
    /// The architecture as the cloud calls it, for instance `amd64`, `rpi`.
    pub arch: String,
    /// The OS version as people see it.
    pub os_version: String,
    /// The host name.
    pub host_name: String,
    /// The port of the supervisor's API.
    pub listen_port: u16,
    /// The cloud's address.
    pub api_endpoint: String,
    /// The device's key for the cloud.
    pub device_api_key: String,
    /// The board's revision.
    pub board_rev: String,
    /// The engine's socket on the host.
    pub engine_socket: String,
    /// The folder of the update locks on the host.
    pub lock_root: String,
    /// `/lib/modules` exists.
    pub has_modules: bool,
    /// `/lib/firmware` exists.
    pub has_firmware: bool,
}

/// A container as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The container's name (§3.8.1).
    pub name: String,
    /// The body for the engine, without what [`Wanted::create_body`] adds.
    pub body: Value,
    /// The hash of the body.
    pub hash: String,
    /// The networks that it joins after it was created.
    pub joins: Vec<(String, Value)>,
    /// The service whose network it shares.
    pub network_of: Option<String>,
    /// The services that must have started before it.
    pub depends_on: Vec<String>,
    /// Engine names of the networks it uses.
    pub networks: Vec<String>,
    /// Engine names of the volumes it uses.
    pub volumes: Vec<String>,
    /// How long it may take to stop.
    pub grace: Duration,
    /// Whether it uses the supervisor's API.
    pub supervisor_api: bool,
    /// What was left out of the composition, for the log.
    pub warnings: Vec<String>,
}

impl Wanted {
    /// The name of its restart policy.
    pub fn policy(&self) -> &str {
        self.body.pointer("/HostConfig/RestartPolicy/Name").and_then(Value::as_str).unwrap_or_default()
    }

    /// The body for the engine: with the hash, with the device's name (§3.4.2: known at create alone, so that
    /// renaming a device restarts nothing), and with the id of the container whose network it shares.
    pub fn create_body(&self, device_name: &str, network_of: Option<&str>) -> Value {
        let mut body = self.body.clone();
        if let Some(labels) = body.get_mut("Labels") {
            set(labels, HASH_LABEL, self.hash.as_str().into());
        }
        if let Some(Value::Array(variables)) = body.get_mut("Env") {
            for prefix in ["BALENA", "RESIN"] {
                variables.push(format!("{prefix}_DEVICE_NAME_AT_INIT={device_name}").into());
            }
        }
        if let (Some(id), Some(host)) = (network_of, body.get_mut("HostConfig")) {
            set(host, "NetworkMode", format!("container:{id}").into());
        }
        body
    }
}

#[cfg(test)]
impl Device {
    /// A device for tests.
    pub fn sample() -> Self {
        Self {
            uuid: "d".repeat(32),
            device_type: "generic-amd64".into(),
            arch: "amd64".into(),
            os_version: "minke 1".into(),
            host_name: "shed".into(),
            listen_port: 48484,
            api_endpoint: "https://api.example.com".into(),
            device_api_key: "key".into(),
            board_rev: "7".into(),
            engine_socket: "/run/balena-engine.sock".into(),
            lock_root: "/tmp/balena-supervisor/services".into(),
            has_modules: true,
            has_firmware: true,
        }
    }
}
