//! `ssh-keys apply`: `os-sshkeys.service`.

use crate::{LIMIT, keep};
use minke_applet::log;
use minke_config::{Config, Origin, Store, Value, write_development_flag};
use minke_sys::{Result, file};
use minke_wire::authorized_keys;
use std::path::Path;

/// Where root's keys lie.
pub const FOLDER: &str = "home/root/.ssh";

/// The bad keys that are named in the log.
const NAMED: usize = 20;

/// Puts the configured keys in place.
pub fn run(store: &Store, root: &Path) -> u8 {
    let loaded = store.load();
    if let (Origin::Default, Some(message)) = (&loaded.origin, loaded.message()) {
        // Nothing is known of what the owner wants; whoever could log in still can.
        log::error(format_args!("the SSH keys stay as they are: {message}"));
        return 1;
    }
    let folder = root.join(FOLDER);
    let mut status = 0;
    let mut note = |done: Result<bool>, what: &str| match done {
        Ok(true) => log::info(format_args!("{what}")),
        Ok(false) => {}
        Err(error) => {
            log::error(format_args!("{error}"));
            status = 1;
        }
    };
    note(keep::folder(&folder), "~/.ssh belongs to root alone again");
    match local(&loaded.config) {
        Some((text, count)) => {
            let content = (count > 0).then_some(text.as_bytes());
            let done = keep::file(&folder.join("authorized_keys_local"), content, LIMIT);
            note(done, &format!("os.sshKeys: {count} keys may log in"));
        }
        None => {
            log::error(format_args!(
                "os.sshKeys should be an array of strings; the SSH keys stay as they are"
            ));
            return 1;
        }
    }
    note(crate::cloud::prepare(&loaded.config, root).map(|()| false), "");
    note(merge(&folder), "authorized_keys is made anew");
    // With keys, the development mode's open door is shut, and the other way round.
    note(write_development_flag(&loaded.config, root), "the development mode's SSH rule is made anew");
    status
}

/// The good keys of the configuration, a line each, and their number; the bad ones are told. `None`: the value is no
/// list.
fn local(config: &Config) -> Option<(String, usize)> {
    let (mut text, mut good, mut bad) = (String::new(), 0, 0);
    let none = Vec::new();
    let items = match config.get("os.sshKeys") {
        None => &none,
        Some(Value::Array(items)) => items,
        Some(_) => return None,
    };
    for (index, item) in items.iter().enumerate() {
        // A line feed at the end comes along when a key is copied from its file.
        let line = item.as_str().map(str::trim_ascii);
        match line.map_or(Err("is no text"), authorized_keys::parse) {
            Ok(_) => {
                text.push_str(line.unwrap_or_default());
                text.push('\n');
                good += 1;
            }
            Err(problem) => {
                bad += 1;
                if bad <= NAMED {
                    log::warn(format_args!("os.sshKeys.{index} is skipped: the key {problem}"));
                }
            }
        }
    }
    if bad > NAMED {
        log::warn(format_args!("os.sshKeys: {} more are skipped", bad - NAMED));
    }
    Some((text, good))
}

/// `authorized_keys` of what the cloud has left (remote) and what the owner has configured (local).
fn merge(folder: &Path) -> Result<bool> {
    let mut merged = Vec::new();
    for name in ["authorized_keys_remote", "authorized_keys_local"] {
        let path = folder.join(name);
        match file::read_optional(&path, LIMIT) {
            Ok(Some(content)) => {
                merged.extend_from_slice(format!("# From {}\n", shown(&path)).as_bytes());
                merged.extend_from_slice(&content);
                if !content.ends_with(b"\n") {
                    merged.push(b'\n');
                }
            }
            Ok(None) => {}
            // One file's damage must not take the other's keys away.
            Err(error) => log::warn(format_args!("{error}; its keys cannot log in")),
        }
    }
    let content = (!merged.is_empty()).then_some(merged.as_slice());
    keep::file(&folder.join("authorized_keys"), content, LIMIT.saturating_mul(2))
}

/// The path as it is on the device.
fn shown(path: &Path) -> String {
    format!("/{FOLDER}/{}", path.file_name().unwrap_or_default().display())
}
