//! Asking PID 1: units, reboot. The socket is `/run/minke/init.sock`.

use crate::{Error, call};
use minke_wire::json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// PID 1's control socket.
pub const SOCKET: &str = "/run/minke/init.sock";

/// How long PID 1 may take for what needs no job.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What ends the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Start again from the firmware.
    Reboot,
    /// Switch the power off.
    PowerOff,
    /// Stop the processor and leave the power on.
    Halt,
}

impl Ending {
    /// The verb, as systemctl(1) has it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::PowerOff => "poweroff",
            Self::Halt => "halt",
        }
    }
}

/// Sends one request and returns the answer. Requests are objects with the member `command`; the other
/// members depend on it.
pub fn request(request: &Value, limit: Option<Duration>) -> Result<Value, Error> {
    call(Path::new(SOCKET), request, limit)
}

/// Runs a job (`start`, `stop`, `restart`, `try-restart`, `reload`, `reload-or-restart`) for units. With
/// `block` it returns when the jobs have ended and fails when one of them failed; without, when they are
/// accepted.
pub fn job(verb: &str, units: &[&str], block: bool) -> Result<(), Error> {
    let limit = if block { None } else { Some(ANSWER_LIMIT) };
    request(&json!({ "command": verb, "units": units, "block": block }), limit).map(|_| ())
}

/// Starts units and waits until they are up.
pub fn start(units: &[&str]) -> Result<(), Error> {
    job("start", units, true)
}

/// Stops units and waits until they are down.
pub fn stop(units: &[&str]) -> Result<(), Error> {
    job("stop", units, true)
}

/// Restarts units and waits until they are up.
pub fn restart(units: &[&str]) -> Result<(), Error> {
    job("restart", units, true)
}

/// The properties of a unit, named as in systemctl(1) `show`: `Id`, `Description`, `LoadState`,
/// `ActiveState`, `SubState`, `MainPID`, `Result`, `ExecMainStatus`, `NRestarts`, `FragmentPath`, ….
pub fn show(unit: &str) -> Result<Value, Error> {
    request(&json!({ "command": "show", "units": [unit] }), Some(ANSWER_LIMIT))
        .map(|mut answer| answer.pointer_mut("/units/0").map(Value::take).unwrap_or_default())
}

/// The active state of a unit: `active`, `inactive`, `failed`, `activating`, `deactivating`, `reloading`.
pub fn active_state(unit: &str) -> Result<String, Error> {
    let properties = show(unit)?;
    Ok(properties.get("ActiveState").and_then(Value::as_str).unwrap_or("inactive").to_owned())
}

/// Ends the system in order: units are stopped, file systems unmounted. Returns when PID 1 has accepted.
pub fn end(ending: Ending) -> Result<(), Error> {
    request(&json!({ "command": ending.verb() }), Some(ANSWER_LIMIT)).map(|_| ())
}
