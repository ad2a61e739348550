//! What the boot makes of `config.json`.

use crate::dispatch::{self, Purpose};
use crate::{consumers, os_config, root_ca};
use minke_applet::{log, print, report};
use minke_config::{Config, Identity, Store, fatrw, host_name, mistyped};
use minke_control::init;
use minke_sys::{Result, file};
use std::path::Path;

/// The units whose work [`all`] does, in order: who the device is, then what others start with.
const UNITS: [&str; 12] = [
    "os-config-devicekey",
    "balena-device-uuid",
    // Its seed for the dispatcher: from here on, what differs is a change.
    "config-json",
    "balena-hostname",
    "development-features",
    "extract-balena-ca",
    "balena-net-config",
    "balena-ntp-config",
    "os-networkmanager",
    "balena-persistent-logs",
    "os-fan-profile",
    "os-extra-firmware",
];

/// `config-json-boot.service`: what all units make of the configuration at boot, by one process. To PID 1 it is their
/// first start (`X-DoneBy=`); each does its part again by itself whenever it is restarted. One whose part fails here is
/// to be started on its own, and then has failed itself.
pub fn all(store: &Store, root: &Path) -> u8 {
    let mut worst = 0;
    for unit in UNITS {
        let status = match unit {
            "os-config-devicekey" => report(os_config::generate_api_key(store).map(|()| 0)),
            "balena-device-uuid" => u8::from(identity(store).is_none()),
            "config-json" => report(dispatch::run(store, root, Purpose::Seed)),
            "extract-balena-ca" => report(root_ca::apply(store, root)),
            _ => part(&store.load().config, root, unit),
        };
        let again = || init::job("restart", &[&format!("{unit}.service")], false);
        if status != 0 && (root != Path::new("/") || again().is_err()) {
            worst = status;
        }
    }
    worst
}

fn part(config: &Config, root: &Path, unit: &str) -> u8 {
    match unit {
        "balena-hostname" => hostname(config, root),
        "development-features" => report(development_features(config, root)),
        _ => consumers::apply(config, root, unit),
    }
}

/// `balena-device-uuid.service`: makes sure of the device's uuid and prints it.
pub fn uuid(store: &Store) -> u8 {
    identity(store).map_or(1, |uuid| print(&format!("{uuid}\n")))
}

/// The device's identity. The one place that logs what is wrong with the file.
fn identity(store: &Store) -> Option<String> {
    let loaded = store.load();
    if let Some(message) = loaded.message() {
        log::error(format_args!("{message}"));
    }
    let wrong = mistyped(&loaded.config);
    if !wrong.is_empty() {
        log::warn(format_args!("{}: ignored: {}", store.paths().config.display(), wrong.join("; ")));
    }
    let identity = match store.ensure_uuid() {
        Ok(identity) => identity,
        Err(error) => {
            log::error(format_args!("the device has no uuid: {error}"));
            return None;
        }
    };
    match &identity {
        Identity::Known(_) => {}
        Identity::Generated(uuid) => log::info(format_args!("generated uuid {uuid}")),
        Identity::Adopted(uuid) => log::info(format_args!("uuid {uuid} is in config.json again")),
        // A broken file has had its line above; a write that failed has not.
        Identity::Provisional(uuid, reason) if loaded.problem.is_none() => {
            log::warn(format_args!("uuid {uuid} is kept on the state partition: {reason}"));
        }
        Identity::Provisional(uuid, _) => {
            log::info(format_args!("uuid {uuid} is kept on the state partition"));
        }
    }
    keep_good_copy(store);
    Some(identity.uuid().to_owned())
}

/// Keeps the file as the last good copy, if it is good.
fn keep_good_copy(store: &Store) {
    let loaded = store.load();
    if loaded.problem.is_none()
        && let Err(error) = store.remember(&loaded.config)
    {
        log::warn(format_args!("the last good copy of config.json is not current: {error}"));
    }
}

/// `balena-hostname.service`: the kernel's host name and `/etc/hostname` (spec os §6.1).
pub fn hostname(config: &Config, root: &Path) -> u8 {
    let host = host_name(config);
    if let Some(problem) = &host.problem {
        log::warn(format_args!("{problem}"));
    }
    let mut status = 0;
    if root == Path::new("/")
        && let Err(error) = minke_sys::process::set_host_name(&host.name)
    {
        log::error(format_args!("{error}"));
        status = 1;
    }
    match keep_host_name(&root.join("etc/hostname"), &host.name) {
        Ok(true) => log::info(format_args!("host name is {}", host.name)),
        Ok(false) => {}
        // The name is in force; it is derived again at each boot.
        Err(error) => log::warn(format_args!("host name is {}, and not in the file: {error}", host.name)),
    }
    status
}

/// Writes the file in place if it differs. It is a bind mount of a file on the state partition, so a rename
/// over it is refused, and a rename over the source would leave the mount on the old file.
///
/// Power cut: the name is shorter than a disk sector, so the sector holds the old or the new name; only the
/// file's length may be the other one's. The next boot compares and writes again before anybody reads it.
fn keep_host_name(path: &Path, name: &str) -> Result<bool> {
    let line = format!("{name}\n");
    match file::read_optional(path, 4096) {
        Ok(Some(present)) if present == line.as_bytes() => return Ok(false),
        _ => {}
    }
    fatrw::overwrite(path, line.as_bytes())?;
    Ok(true)
}

/// `development-features.service`: the flag file of the development mode (spec os §8.5).
pub fn development_features(config: &Config, root: &Path) -> Result<u8> {
    if minke_config::write_development_flag(config, root)? {
        let now = if config.flag("developmentMode") { "on" } else { "off" };
        log::info(format_args!("development mode is {now}"));
    }
    Ok(0)
}
