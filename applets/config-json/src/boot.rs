//! What the boot makes of `config.json`.

use minke_applet::{log, print};
use minke_config::{Config, Error, Identity, Store, fatrw, generate_key, host_name, mistyped};
use minke_sys::{Result, file};
use std::path::Path;

/// `balena-device-uuid.service`: the device's identity. The one place that logs what is wrong with the file.
pub fn uuid(store: &Store) -> u8 {
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
            return 1;
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
    print(&format!("{}\n", identity.uuid()))
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

/// `os-config-devicekey.service`: the key by which a managed device proves who it is (spec os §4.6.2).
///
/// It is durable before this returns, so before anybody sends it anywhere.
pub fn generate_api_key(store: &Store) -> std::result::Result<u8, Error> {
    let loaded = store.load();
    let Some(host) = loaded.config.string("apiEndpoint").map(endpoint_host) else {
        log::info(format_args!("Unconfigured device"));
        return Ok(0);
    };
    if loaded.config.string("deviceApiKey").is_some() {
        return Ok(0);
    }
    let fresh = generate_key()?;
    store.update(&mut |config: &mut Config| {
        // Another writer may have set it since.
        if config.string("deviceApiKey").is_some() {
            return;
        }
        let mut keys = match config.get("deviceApiKeys") {
            Some(minke_config::Value::Object(keys)) => keys.clone(),
            _ => minke_config::Map::new(),
        };
        // A host has dots, so its key is no dotted path.
        let remembered = keys.get(&host).and_then(|key| key.as_str()).filter(|key| !key.is_empty());
        let key = remembered.unwrap_or(&fresh).to_owned();
        keys.insert(host.clone(), key.as_str().into());
        config.set("deviceApiKey", key.into());
        config.set("deviceApiKeys", keys.into());
    })?;
    Ok(0)
}

/// An endpoint without its scheme, as `deviceApiKeys` is indexed.
fn endpoint_host(endpoint: &str) -> String {
    minke_wire::text::split_once(endpoint, "://")
        .map_or(endpoint, |(_, rest)| rest)
        .trim_end_matches('/')
        .to_owned()
}

/// `balena-hostname.service`: the kernel's host name and `/etc/hostname` (spec os §6.1).
pub fn hostname(store: &Store, root: &Path) -> u8 {
    let host = host_name(&store.load().config);
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
pub fn development_features(store: &Store, root: &Path) -> Result<u8> {
    let config = &store.load().config;
    if minke_config::write_development_flag(config, root)? {
        let now = if config.flag("developmentMode") { "on" } else { "off" };
        log::info(format_args!("development mode is {now}"));
    }
    Ok(0)
}
