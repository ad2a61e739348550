//! The flag file of the development mode (spec os §8.5): its presence is the mode, its lines are environment
//! for the SSH server and the engine.

use crate::Config;
use minke_sys::{Result, file};
use std::path::Path;

/// The file, below the root.
pub const DEVELOPMENT_FLAG: &str = "var/volatile/development-features";

/// Makes the flag file below `root` say what `config` asks for: present in development mode, absent otherwise. The
/// result tells whether it changed. It lies on a tmpfs: a boot makes it anew.
pub fn write_development_flag(config: &Config, root: &Path) -> Result<bool> {
    let path = root.join(DEVELOPMENT_FLAG);
    if !config.flag("developmentMode") {
        let present = minke_sys::status::exists(&path);
        return file::remove_all(&path).map(|()| present);
    }
    // Any entry counts, also one that is no key: who has asked for keys does not want a door without a lock.
    let keyed =
        config.get("os.sshKeys").is_some_and(|keys| keys.as_array().is_none_or(|keys| !keys.is_empty()));
    let keys = if keyed { " -o PasswordAuthentication=no" } else { "" };
    let text = format!(
        "SSHD_OPTS='-f /etc/ssh/sshd_config_development{keys}'\n\
         BALENA_DEVELOPMENT_ARGS=\"-H tcp://0.0.0.0:2375\"\n"
    );
    if file::read_optional(&path, 4096)?.as_deref() == Some(text.as_bytes()) {
        return Ok(false);
    }
    file::make_folder(&root.join("var/volatile"), 0o755)?;
    file::write_durable(&path, text.as_bytes(), 0o644).map(|()| true)
}
