//! `rollback.json`: what was gone back from, and why; and its report to the cloud.

use super::breadcrumbs::{STATE, UNREPORTED};
use crate::cloud::Cloud;
use minke_applet::log;
use minke_sys::{Result, clock, file};
use minke_wire::json::{self, Value, json};
use std::path::{Path, PathBuf};

/// The longest record that is read, in bytes.
const LIMIT: usize = 64 << 10;
/// The most of a reason that is kept, in bytes: checks' words come from anybody.
const REASON: usize = 2000;

/// A rollback.
#[derive(Debug)]
pub struct Rollback<'a> {
    /// `health` or `altboot`.
    pub by: &'static str,
    /// The version that is given up.
    pub from: &'a str,
    /// The version that runs from now on.
    pub to: &'a str,
    /// In words.
    pub reason: &'a str,
    /// Attempts, or starts.
    pub attempts: u32,
}

fn path(root: &Path) -> PathBuf {
    root.join(STATE).join("rollback.json")
}

/// The record; `null` when there is none, or none that can be read.
pub fn read(root: &Path) -> Value {
    let content = file::read_bounded(&path(root), LIMIT).unwrap_or_default();
    json::parse(&content).unwrap_or_default()
}

/// Writes it, to be reported. A full state partition does not stop the way back.
pub fn write(root: &Path, rollback: &Rollback<'_>) {
    let mut reason = rollback.reason.to_owned();
    while reason.len() > REASON {
        reason.pop();
    }
    let record = json!({
        "by": rollback.by,
        "from": rollback.from,
        "to": rollback.to,
        "reason": reason,
        "attempts": rollback.attempts,
        "time": clock::realtime().as_secs(),
        "reported": false,
    });
    let text = format!("{}\n", record.to_pretty());
    let written =
        file::write_durable(&path(root), text.as_bytes(), 0o644).and_then(|()| UNREPORTED.make(root));
    if let Err(error) = written {
        log::warn(format_args!("the rollback is not recorded: {error}"));
    }
}

/// Sends the record to the cloud, once. A device that no cloud knows has nothing to send.
pub fn send(root: &Path) -> u8 {
    if !UNREPORTED.is_there(root) {
        return 0;
    }
    let mut record = read(root);
    let done = match record.get("reported") {
        Some(Value::Bool(false)) => match tell(root, &record) {
            Ok(true) => {
                if let Value::Object(members) = &mut record {
                    members.insert("reported", true.into());
                }
                finish(root, &record)
            }
            Ok(false) => UNREPORTED.remove(root),
            Err(why) => {
                log::warn(format_args!("the rollback is not reported yet: {why}"));
                return 1;
            }
        },
        // A cut came between the two writes of `finish`.
        Some(_) => UNREPORTED.remove(root),
        None => {
            log::error(format_args!(
                "{} cannot be understood, and is reported to nobody",
                path(root).display()
            ));
            UNREPORTED.remove(root)
        }
    };
    minke_applet::report(done.map(|()| 0))
}

/// Whether there is a cloud, which has heard of it now.
fn tell(root: &Path, record: &Value) -> std::result::Result<bool, String> {
    let Some(cloud) = Cloud::of(root) else {
        log::info(format_args!("this device is not registered: the rollback is reported to nobody"));
        return Ok(false);
    };
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or("?");
    let state = format!("Rolled back from {} to {}: {}", text("from"), text("to"), text("reason"));
    cloud.patch(&json!({ "provisioning_state": state, "provisioning_progress": 100 }))?;
    log::info(format_args!("reported: {state}"));
    Ok(true)
}

fn finish(root: &Path, record: &Value) -> Result<()> {
    file::write_durable(&path(root), format!("{}\n", record.to_pretty()).as_bytes(), 0o644)?;
    UNREPORTED.remove(root)
}
