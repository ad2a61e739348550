//! `ssh-keys authorized NAME`: the SSH server asks which keys the cloud has for a user (spec os §8.3).
//!
//! The answer must come soon, for a person waits before the prompt; and a device whose uplink is down is the one that
//! somebody wants to log in to. So the last good answer is kept for a while. That the cloud says no ends it at once.

use minke_applet::{log, print};
use minke_cloud::{Cloud, Request};
use minke_config::{Config, Origin, Store};
use minke_sys::{clock, file, status};
use minke_wire::{authorized_keys, text};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the cloud may take altogether.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const ANSWER: usize = 1 << 20;
/// How old an answer may be when the cloud cannot be reached: as long as somebody who lost his rights keeps them on a
/// device that is cut off.
const AGE: Duration = Duration::from_secs(24 * 3600);
/// Users whose answers are kept.
const KEPT: usize = 64;
/// The longest name of a user.
const NAME: usize = 64;

/// Where answers are kept; volatile, as what they say is.
const CACHE: &str = "var/volatile/cache/ssh-keys";
/// Who asks, by sshd's `AuthorizedKeysCommandUser`; the folder is his.
const USER: &str = "sshd-authcommands";

/// What is asked with, in that folder: the user may not read the last good copy of `config.json`, which serves everybody
/// else when the file is broken. No user has this name.
const ACCESS: &str = ".access";
/// The keys in it.
const ACCESS_KEYS: [&str; 3] = ["apiEndpoint", "deviceApiKey", "balenaRootCA"];

/// Makes the folder of the answers, for the user by whom the SSH server will have them asked.
pub fn prepare(config: &Config, root: &Path) -> minke_sys::Result<()> {
    let folder = root.join(CACHE);
    // What leads to it is everybody's way.
    if let Some(above) = folder.parent() {
        file::make_folder(above, 0o755)?;
    }
    file::make_folder(&folder, 0o700)?;
    file::set_mode(&folder, 0o700)?;
    let (access, text) = (folder.join(ACCESS), access_of(config));
    if file::read_bounded(&access, ANSWER).ok().as_deref() != Some(text.as_bytes()) {
        file::write_durable(&access, text.as_bytes(), 0o600)?;
    }
    for line in file::text(root.join("etc/passwd")).lines() {
        let mut fields = line.split(':');
        if fields.next() == Some(USER)
            && let (_, Some(uid), Some(gid)) = (fields.next(), fields.next(), fields.next())
            && let (Some(uid), Some(gid)) = (text::number(uid), text::number(gid))
        {
            file::chown(&access, uid, gid)?;
            return file::chown(&folder, uid, gid);
        }
    }
    Ok(())
}

/// What is needed to ask the cloud, as text.
fn access_of(config: &Config) -> String {
    let mut access = Config::default();
    for key in ACCESS_KEYS {
        if let Some(value) = config.get(key) {
            access.set(key, value.clone());
        }
    }
    access.to_text()
}

/// The configuration, or when it cannot be had, what was needed of it the last time.
fn access(store: &Store, root: &Path) -> Config {
    let loaded = store.load();
    let path = root.join(CACHE).join(ACCESS);
    let kept = file::read_bounded(&path, ANSWER).ok();
    match (&loaded.origin, loaded.message()) {
        (Origin::Default, Some(message)) => {
            let kept = kept.and_then(|kept| Config::parse(&kept).ok());
            let what = if kept.is_some() { "; asking with what it last had" } else { "" };
            log::warn(format_args!("{message}{what}"));
            kept.unwrap_or_default()
        }
        _ => {
            let text = access_of(&loaded.config);
            if kept.as_deref() != Some(text.as_bytes()) {
                let _ = file::write_durable(&path, text.as_bytes(), 0o600);
            }
            loaded.config
        }
    }
}

/// Prints the keys of a user.
pub fn authorized(store: &Store, root: &Path, name: &str) -> u8 {
    // His keys are the device's own, and nobody else's.
    if name == "root" {
        return 0;
    }
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'@' | b'+');
    if !(1..=NAME).contains(&name.len()) || name.starts_with('.') || !name.bytes().all(sane) {
        log::error(format_args!("no keys for '{}': this is no user's name", text::shown(name)));
        return 1;
    }
    let config = &access(store, root);
    let kept = root.join(CACHE).join(name);
    match ask(config, root, name) {
        Ok(Some(keys)) => {
            keep(&kept, &keys);
            print(&keys)
        }
        Ok(None) => {
            let _ = file::remove_all(&kept);
            log::info(format_args!("the cloud has no keys for {name}"));
            1
        }
        Err(problem) => match remembered(&kept) {
            Some(keys) => {
                log::warn(format_args!("{problem}; using the keys that {name} had lately"));
                print(&keys)
            }
            None => {
                log::error(format_args!("no keys for {name}: {problem}"));
                1
            }
        },
    }
}

/// The cloud's answer. `None`: it has spoken, and there is nobody of this name for it.
fn ask(config: &Config, root: &Path, name: &str) -> Result<Option<String>, String> {
    let (Some(cloud), Some(key)) = (Cloud::of(config, root), config.string("deviceApiKey")) else {
        return Err("the device belongs to no cloud (apiEndpoint, deviceApiKey)".to_owned());
    };
    let path = format!("auth/v1/public-keys/{}", minke_http::escape(name));
    let request = Request {
        method: "GET",
        path: &path,
        key,
        agent: "",
        document: None,
        silence: LIMIT,
        deadline: LIMIT,
        limit: ANSWER,
    };
    match cloud.ask(&request) {
        Ok(body) => Ok(Some(good_lines(&String::from_utf8_lossy(&body))).filter(|keys| !keys.is_empty())),
        Err(error) if matches!(error.status(), Some(401 | 403 | 404)) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// The lines that are keys.
fn good_lines(text: &str) -> String {
    let mut keys = String::new();
    for line in text.lines().map(str::trim) {
        if authorized_keys::parse(line).is_ok() {
            keys.push_str(line);
            keys.push('\n');
        }
    }
    keys
}

/// Keeps an answer. Where it cannot be kept, it was given all the same.
fn keep(path: &PathBuf, keys: &str) {
    let Some(folder) = path.parent() else { return };
    let full = file::list(folder).is_ok_and(|names| names.len() >= KEPT && !names.contains(path));
    if !full {
        let _ = file::write_durable(path, keys.as_bytes(), 0o600);
    }
}

/// The last answer, unless it is too old, or from a time that has not come yet.
fn remembered(path: &Path) -> Option<String> {
    let age = clock::realtime().checked_sub(status::stamp(path)?.modified)?;
    let keys = file::read_bounded(path, ANSWER).ok().filter(|_| age <= AGE)?;
    Some(good_lines(&String::from_utf8_lossy(&keys))).filter(|keys| !keys.is_empty())
}
