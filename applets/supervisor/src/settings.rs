//! What the supervisor knows at start: its command line, `config.json`, the board and the OS.

use crate::compose::Device;
use minke_applet::Args;
use minke_config::{DeviceType, Paths, Store, os_release};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The API's port (spec supervisor §1.1.1).
pub const PORT: u16 = 48484;

/// The usual poll interval of a target, which also bounds the pauses after failures (`appUpdatePollInterval`).
const POLL_INTERVAL: u64 = 900_000;

/// The idle time of API connections (`apiTimeout`).
const API_TIMEOUT: u64 = 900_000;

/// Update locks lie in a file system that a reboot clears.
const LOCKS: &str = "/tmp/balena-supervisor/services";

/// The settings of one run.
#[derive(Debug)]
pub struct Settings {
    /// The engine's socket.
    pub engine: PathBuf,
    /// Where to listen; `None`: all addresses of both families at the port.
    pub listen: Option<SocketAddr>,
    /// The port of the API.
    pub port: u16,
    /// The folder of the durable state.
    pub data: PathBuf,
    /// The preload file.
    pub apps: PathBuf,
    /// Whether the device is registered with its cloud (§2.2.2).
    pub provisioned: bool,
    /// The poll interval.
    pub poll_interval: Duration,
    /// The idle time of connections.
    pub api_timeout: Duration,
    /// What containers learn of the device.
    pub device: Device,
    /// The device's name, as far as `config.json` tells.
    pub device_name: String,
    /// `config.json`, for who changes it.
    pub store: Store,
    /// Whether the device belongs to a cloud that does not know it yet.
    pub unregistered: bool,
    /// What is wrong with `config.json`, for the log.
    pub problem: Option<String>,
}

/// A command line that cannot be used.
#[derive(Debug)]
pub struct BadOption(pub String);

impl std::fmt::Display for BadOption {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl Settings {
    /// Reads everything. For a broken `config.json` its last good copy or the defaults stand in.
    pub fn read(args: &Args) -> Result<Box<Self>, BadOption> {
        let listen = args.value("listen").map(address).transpose()?;
        let engine = args.value("engine").map_or(Ok(ENGINE), socket_path)?;
        let mut paths = Paths::default();
        if let Some(path) = args.value("config") {
            paths = beside(Path::new(path));
        }
        let store = Store::new(paths);
        let loaded = store.load();
        let problem = loaded.message();
        let config = &loaded.config;
        let configured = config.number("listenPort").and_then(|port| u16::try_from(port).ok());
        let port = listen.map_or(configured.unwrap_or(PORT), |address| address.port());
        let path = |option: &str, usual: &str| PathBuf::from(args.value(option).unwrap_or(usual));
        let milliseconds = |key: &str, usual| Duration::from_millis(config.number(key).unwrap_or(usual));
        let device = device(config, store.paths(), port, engine);
        let has = |key: &&str| config.text(key).is_some();
        Ok(Box::new(Self {
            listen,
            port,
            data: path("data", "/mnt/data/resin-data/balena-supervisor"),
            apps: path("apps", "/mnt/data/apps.json"),
            provisioned: ["uuid", "apiEndpoint", "registered_at", "deviceId"].iter().all(has),
            poll_interval: milliseconds("appUpdatePollInterval", POLL_INTERVAL),
            api_timeout: milliseconds("apiTimeout", API_TIMEOUT),
            device_name: config.text("initialDeviceName").unwrap_or_else(|| device.host_name.clone()),
            engine: engine.into(),
            device,
            unregistered: crate::cloud::is_unregistered(config),
            problem,
            store,
        }))
    }

    /// The cloud's address; empty: the device is unmanaged.
    pub fn api_endpoint(&self) -> &str {
        &self.device.api_endpoint
    }

    /// Whether no cloud is configured (§7.7).
    pub fn is_unmanaged(&self) -> bool {
        self.api_endpoint().is_empty()
    }
}

/// The engine's socket on the device.
const ENGINE: &str = "/run/balena-engine.sock";

/// A `config.json` elsewhere brings its companions along.
fn beside(config: &Path) -> Paths {
    let side = |suffix: &str| {
        let mut name = config.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        config.with_file_name(name)
    };
    Paths { config: config.to_owned(), good: side(".good"), provisional: side(".provisional") }
}

fn device(config: &minke_config::Config, paths: &Paths, port: u16, engine: &str) -> Device {
    let text = |key: &str| config.text(key).unwrap_or_default();
    let board = paths.config.parent().and_then(DeviceType::read);
    let os = os_release(Path::new("/etc/os-release"));
    let variable = |name: &str| os.get(name).unwrap_or_default().to_owned();
    let slug = config.text("deviceType").or_else(|| board.as_ref().map(|board| board.slug.clone()));
    let board_rev = os.get("BALENA_BOARD_REV").or_else(|| os.get("RESIN_BOARD_REV"));
    Device {
        uuid: text("uuid"),
        device_type: slug.unwrap_or_else(|| variable("SLUG")),
        arch: board.map(|board| board.arch).filter(|arch| !arch.is_empty()).unwrap_or_else(architecture),
        os_version: variable("PRETTY_NAME"),
        host_name: minke_config::host_name(config).name,
        listen_port: port,
        api_endpoint: text("apiEndpoint"),
        device_api_key: text("deviceApiKey"),
        board_rev: board_rev.unwrap_or_default().to_owned(),
        engine_socket: engine.to_owned(),
        lock_root: LOCKS.to_owned(),
        has_modules: minke_sys::status::exists("/lib/modules"),
        has_firmware: minke_sys::status::exists("/lib/firmware"),
    }
}

/// The cloud's name of the architecture that this program was built for.
fn architecture() -> String {
    let name = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "arm" => "armv7hf",
        other => other,
    };
    name.to_owned()
}

fn address(text: &str) -> Result<SocketAddr, BadOption> {
    text.parse().map_err(|_| {
        BadOption(format!("--listen {text}: must be ADDRESS:PORT, for instance 127.0.0.1:48484"))
    })
}

fn socket_path(text: &str) -> Result<&str, BadOption> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.starts_with('/') {
        Ok(path)
    } else {
        Err(BadOption(format!("--engine {text}: must be unix:///PATH")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_checked() {
        assert_eq!(socket_path("unix:///run/x.sock").unwrap(), "/run/x.sock");
        assert_eq!(socket_path("/run/x.sock").unwrap(), "/run/x.sock");
        assert!(socket_path("tcp://1.2.3.4").is_err());
        assert!(address("localhost:1").is_err());
        assert_eq!(address("[::]:1").unwrap().port(), 1);
    }
}
