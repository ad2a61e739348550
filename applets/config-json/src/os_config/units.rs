//! The services that use what the cloud decides, through PID 1.

use minke_applet::outln;
use minke_control::init;
use minke_wire::json::{Value, json};
use std::time::Duration;

/// The supervisor: it must not see half a change.
pub(crate) const SUPERVISOR: &str = "balena-supervisor.service";
/// How long a unit may take to end (spec os §4.6.4).
const PATIENCE: Duration = Duration::from_secs(90);

/// The service manager.
pub(crate) struct Units {
    /// Whether it is ours that runs here; in an installer or on a workstation there may be none.
    present: bool,
}

impl Units {
    pub(crate) fn here() -> Self {
        Self { present: minke_sys::status::exists(init::SOCKET) }
    }

    /// Whether there is such a unit to deal with.
    fn has(&self, unit: &str) -> bool {
        let known = self.present
            && init::show(unit).is_ok_and(|properties| {
                properties.get("LoadState").and_then(Value::as_str).is_some_and(|state| state != "not-found")
            });
        if !known {
            outln!("{unit} does not exist here, skipped");
        }
        known
    }

    /// Stops a unit and waits until it is down.
    pub(crate) fn stop(&self, unit: &str) -> Result<(), String> {
        if !self.has(unit) {
            return Ok(());
        }
        outln!("Stopping {unit}...");
        outln!("Awaiting {unit} to exit...");
        let request = json!({ "command": "stop", "units": [unit], "block": true });
        init::request(&request, Some(PATIENCE))
            .map(drop)
            .map_err(|error| format!("{unit} does not end: {error}"))
    }

    /// Starts a unit; it comes up in its own time.
    pub(crate) fn start(&self, unit: &str) -> Result<(), String> {
        self.job("start", "Starting", unit)
    }

    /// Has a unit read its files again.
    pub(crate) fn reload(&self, unit: &str) -> Result<(), String> {
        self.job("reload-or-restart", "Reloading or restarting", unit)
    }

    fn job(&self, verb: &str, doing: &str, unit: &str) -> Result<(), String> {
        if !self.has(unit) {
            return Ok(());
        }
        outln!("{doing} {unit}...");
        init::job(verb, &[unit], false).map_err(|error| format!("{verb} {unit}: {error}"))
    }
}
