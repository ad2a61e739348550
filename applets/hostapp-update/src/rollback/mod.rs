//! The way back (spec os §15.10).

use minke_applet::Args;
use minke_wire::json::{Value, json};

/// What `hostapp-update status` shows of a trial and of the last rollback.
pub fn status() -> Value {
    json!({ "state": "idle" })
}

/// Runs `rollback-health`.
pub fn run_health(_: &Args) -> u8 {
    1
}

/// Runs `rollback-altboot`.
pub fn run_altboot(_: &Args) -> u8 {
    1
}
