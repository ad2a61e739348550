//! The way back (spec os §15.10): a system on trial is judged, and one that fell back to the old slot stays there.
//!
//! Files on the state partition, by their names of spec os §3.2, say what is under way; `rollback.json` says what
//! came of it and why (the reference tells nobody, its issue 1918).

mod altboot;
pub mod breadcrumbs;
mod checks;
mod health;
mod other;
mod record;
mod rule;

pub use checks::remember;
pub use other::Other;

use crate::hooks::{self, Phase};
use crate::update::why::Why;
use minke_applet::{Args, EXIT_USAGE, errln, log, outln, report};
use minke_boot::{Chain, Slot};
use minke_sys::file;
use minke_wire::json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Between the last word in the log and a reboot, so that the journal keeps it.
const LAST_WORD: Duration = Duration::from_secs(10);

/// What `hostapp-update status` shows of a trial and of the last rollback: `null` when there was none.
pub fn status(root: &Path) -> Value {
    let mut shown = record::read(root);
    if breadcrumbs::HEALTH.is_there(root) {
        let trial = "the running system is on trial, or the next boot starts one";
        if let Value::Object(members) = &mut shown {
            members.insert("trial", trial.into());
        } else {
            shown = json!({ "trial": trial });
        }
    }
    shown
}

fn root(args: &Args) -> &Path {
    Path::new(args.value("root").unwrap_or("/"))
}

/// Runs `rollback-health`.
pub fn run_health(args: &Args) -> u8 {
    let root = root(args);
    match (args.operand(0), args.operands().len()) {
        (None, 0) => report(health::run(root)),
        (Some("check"), 1) => check(root),
        (Some("stop"), 1) => report(stop(root).map(|()| 0)),
        (Some("pause"), 1) => report(pause(root).map(|()| 0)),
        (Some("report"), 1) => record::send(root),
        _ => {
            errln!("expected no command, or check, stop, pause or report; see --help");
            EXIT_USAGE
        }
    }
}

/// Runs `rollback-altboot`.
pub fn run_altboot(args: &Args) -> u8 {
    if !args.operands().is_empty() {
        errln!("no operand is expected; see --help");
        return EXIT_USAGE;
    }
    report(altboot::run(root(args)))
}

/// Tells of a failure that does not stop the way back.
#[inline(never)]
fn told(done: Result<(), Why>) -> bool {
    done.map_err(|why| log::error(format_args!("{why}"))).is_ok()
}

/// Selects `slot` for good, by the hooks of the system below `image` and, whatever came of them, in the end. The answer
/// tells whether they did well.
fn select(root: &Path, chain: Chain, image: &Path, slot: Slot, during_update: bool) -> Result<bool, Why> {
    let hooked = told(hooks::run(image, Phase::Forward, during_update));
    let boot = root.join(crate::BOOT);
    if chain.read(&boot)?.root != slot {
        chain.select(&boot, slot, false)?;
    }
    Ok(hooked)
}

fn check(root: &Path) -> u8 {
    let checks = checks::run(root, &rule::Settings::read(root));
    for check in &checks {
        outln!("{check}");
    }
    u8::from(checks.iter().any(checks::Check::failed))
}

/// The running system stays, also when the other slot is selected: for a trial that has not begun, or that failed.
fn stop(root: &Path) -> minke_sys::Result<()> {
    let boot = root.join(crate::BOOT);
    let running = crate::devices::slot(root, "active")?;
    Chain::find(&boot)?.select(&boot, running, false)?;
    breadcrumbs::stop(root)
}

/// A shutdown that somebody asked for does not count as a failed start (spec os §15.10.7).
fn pause(root: &Path) -> minke_sys::Result<()> {
    if !breadcrumbs::ALTBOOT.is_there(root) {
        return Ok(());
    }
    let boot = root.join(crate::BOOT);
    Chain::find(&boot)?.clear_count(&boot)
}

/// Ends the system after a last word. It returns only when that could not be asked for.
fn reboot(root: &Path, why: &str) -> Result<u8, Why> {
    log::warn(format_args!("{why}: rebooting in {} s", LAST_WORD.as_secs()));
    file::sync_all();
    if root != Path::new("/") {
        // A test's folder is no system.
        return Ok(0);
    }
    minke_sys::clock::sleep(LAST_WORD);
    crate::reboot::now()?;
    Ok(0)
}
