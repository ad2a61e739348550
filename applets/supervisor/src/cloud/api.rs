//! The requests of a registration (spec supervisor §2.1, §2.2.4, §2.2.5).

use super::facts::{System, VERSION, addresses};
use super::int;
use minke_cloud::{Cloud, Request};
use minke_config::Config;
use minke_wire::json::{Value, json};
use std::fmt;
use std::path::Path;
use std::time::Duration;

/// How long the cloud may stay silent.
const SILENCE: Duration = Duration::from_secs(59);
/// How long a request may take altogether.
const DEADLINE: Duration = Duration::from_secs(180);
/// Most bytes of an answer.
const LIMIT: usize = 64 << 10;

/// Why a device is not registered.
#[derive(Debug)]
pub enum Error {
    /// The cloud did not do it.
    Cloud(minke_cloud::Error),
    /// `config.json` does not have this key, or not of a form that could be used.
    Missing(&'static str),
    /// There is neither a device of that uuid nor a key to make one.
    NoKey,
    /// The answer of this path is not what it should be.
    Answer(&'static str),
    /// The cloud does not know the device that `config.json` says it is.
    Unknown,
    /// The cloud did not know the device; it is another one now.
    Renewed,
    /// `config.json` says something else now.
    Changed,
    /// `config.json` cannot be written.
    Config(minke_config::Error),
    /// There are no random numbers.
    System(minke_sys::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cloud(error) => error.fmt(f),
            Self::Missing(key) => write!(f, "{key} is missing or wrong in config.json"),
            Self::NoKey => {
                f.write_str("Cannot provision without a provisioning api key; see apiKey of config.json")
            }
            Self::Answer(path) => write!(f, "the cloud's answer to {path} has no number of a device"),
            Self::Unknown => {
                f.write_str("the cloud has no device of this uuid; see uuid and deviceId of config.json")
            }
            Self::Renewed => {
                f.write_str("the cloud has no device of this uuid; trying with a new uuid and key")
            }
            Self::Changed => {
                f.write_str("config.json has become another device's or another cloud's meanwhile")
            }
            Self::Config(error) => error.fmt(f),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl From<minke_cloud::Error> for Error {
    fn from(error: minke_cloud::Error) -> Self {
        Self::Cloud(error)
    }
}

/// The cloud's API for one device.
pub struct Api<'a> {
    cloud: Cloud,
    config: &'a Config,
    system: System,
    uuid: &'a str,
    key: &'a str,
}

impl<'a> Api<'a> {
    /// The API that the configuration names, for the device that it names.
    pub fn new(config: &'a Config) -> Result<Self, Error> {
        Ok(Self {
            cloud: Cloud::of(config, Path::new("/")).ok_or(Error::Missing("apiEndpoint"))?,
            config,
            system: System::here(config),
            uuid: config.string("uuid").ok_or(Error::Missing("uuid"))?,
            key: config.string("deviceApiKey").ok_or(Error::Missing("deviceApiKey"))?,
        })
    }

    /// Makes the device in the cloud, with its key. Where there is one of its uuid, its key is what is to be brought there.
    pub fn register(&self, device_type: &str) -> Result<i64, Error> {
        let provisioning = self.config.string("apiKey").ok_or(Error::NoKey)?;
        let application = self.config.number("applicationId").ok_or(Error::Missing("applicationId"))?;
        let mut document = json!({
            "application": application,
            "uuid": self.uuid,
            "device_type": device_type,
            "api_key": self.key,
            "supervisor_version": VERSION,
            "os_version": self.system.version,
            "os_variant": self.system.variant,
            "mac_address": addresses(Path::new("/sys/class/net")),
        });
        if let Some(user) = self.config.number("userId") {
            crate::values::set(&mut document, "user", user.into());
        }
        match self.ask("POST", "device/register", provisioning, Some(&document)) {
            Ok(answer) => answer.get("id").and_then(int).ok_or(Error::Answer("device/register")),
            Err(error) if error.status() == Some(409) => self.exchange()?.ok_or(Error::Unknown),
            Err(error) => Err(error.into()),
        }
    }

    /// Brings the device's key to the cloud, in place of the fleet's. `None`: the cloud says that it has no such device.
    pub fn exchange(&self) -> Result<Option<i64>, Error> {
        match self.find(self.key) {
            Ok(Some(id)) => return Ok(Some(id)),
            // A key that it does not know yet.
            Err(Error::Cloud(error)) if matches!(error.status(), Some(401 | 403)) => {}
            Err(error) => return Err(error),
            Ok(None) => {}
        }
        let provisioning = self.config.string("apiKey").ok_or(Error::NoKey)?;
        let Some(id) = self.find(provisioning)? else { return Ok(None) };
        let path = format!("api-key/device/{id}/device-key");
        self.ask("POST", &path, provisioning, Some(&json!({ "apiKey": self.key })))?;
        Ok(Some(id))
    }

    /// The number of this device, by the rights of a key.
    fn find(&self, key: &str) -> Result<Option<i64>, Error> {
        let uuid = minke_http::escape(self.uuid);
        let path = format!("v7/device?$select=id&$filter=uuid%20eq%20'{uuid}'");
        let answer = self.ask("GET", &path, key, None)?;
        let wrong = Error::Answer("v7/device");
        match answer.get("d").and_then(Value::as_array).map(Vec::as_slice) {
            Some([]) => Ok(None),
            Some([device, ..]) => device.get("id").and_then(int).map(Some).ok_or(wrong),
            None => Err(wrong),
        }
    }

    /// The answer to a request. What is no JSON has no members.
    fn ask(
        &self,
        method: &str,
        path: &str,
        key: &str,
        document: Option<&Value>,
    ) -> Result<Value, minke_cloud::Error> {
        let answer = self.cloud.ask(&Request {
            method,
            path,
            key,
            agent: &self.system.agent(),
            document,
            silence: SILENCE,
            deadline: DEADLINE,
            limit: LIMIT,
        })?;
        Ok(minke_wire::json::parse(&answer).unwrap_or(Value::Null))
    }
}
