//! `rollback-health` (spec os §15.10.4): judges the running system while it is on trial.

use super::breadcrumbs::{self, HEALTH, HEALTH_FAILED, HEALTH_TRIGGERED};
use super::checks::{self, Check};
use super::other::Other;
use super::record::{self, Rollback};
use super::rule::{Action, Settings, Situation, Trial, situation};
use crate::devices;
use crate::hooks::{self, Phase};
use crate::update::why::{Result, Why};
use minke_applet::log;
use minke_boot::{Chain, Slot};
use minke_config::os_release;
use minke_sys::clock;
use std::path::Path;

/// Judges, until there is a judgement.
pub fn run(root: &Path) -> Result<u8> {
    if !HEALTH.is_there(root) {
        log::info(format_args!("there is no trial"));
        return Ok(0);
    }
    let boot = root.join(crate::BOOT);
    let (chain, running) = (Chain::find(&boot)?, devices::slot(root, "active")?);
    match situation(&chain.read(&boot)?, running) {
        Situation::Over => {
            log::info(format_args!("the trial is over"));
            breadcrumbs::stop(root)?;
            Ok(0)
        }
        Situation::Pending => {
            log::info(format_args!("the trial begins with the next boot"));
            Ok(0)
        }
        Situation::Elsewhere => stay(root, chain, running),
        Situation::Trial => judge(root, chain, running),
    }
}

/// The other slot is selected, and `rollback-altboot` has not changed that. The reference waits for a quarter of an hour
/// and reboots into the slot that did not start, for good; here what runs is selected, and goes on.
fn stay(root: &Path, chain: Chain, running: Slot) -> Result<u8> {
    log::error(format_args!("slot {} runs and is not selected: it is now", running.letter()));
    chain.select(&root.join(crate::BOOT), running, false)?;
    breadcrumbs::stop(root)?;
    Ok(0)
}

fn judge(root: &Path, chain: Chain, running: Slot) -> Result<u8> {
    // Whoever cannot go back need not ask.
    let way_back = match Other::mount(root) {
        Ok(other) if other.is_new_enough() => Ok(()),
        Ok(other) => Err(format!("version {} knows no trial", other.version)),
        Err(error) => Err(error.to_string()),
    };
    if let Err(why) = way_back {
        log::error(format_args!("there is no way back: {why}; this system stays"));
        breadcrumbs::stop(root)?;
        return Ok(0);
    }
    let settings = Settings::read(root);
    log::info(format_args!(
        "slot {} is on trial: {} attempts, {} s apart",
        running.letter(),
        settings.count,
        settings.timeout.as_secs()
    ));
    let mut trial = Trial::new(settings, clock::boottime());
    let (mut attempt, mut reason) = (None, String::new());
    loop {
        match trial.step(clock::boottime(), attempt.take()) {
            Action::Wait(time) => clock::sleep(time),
            Action::Attempt => {
                let checks = checks::run(root, &settings);
                reason = faults(&checks);
                attempt = Some(reason.is_empty());
                if !reason.is_empty() {
                    let number = trial.attempts.saturating_add(1);
                    log::warn(format_args!("attempt {number} of {}: {reason}", settings.count));
                }
            }
            Action::Keep => return keep(root, running),
            Action::GoBack => return go_back(root, chain, running, trial.attempts, &reason),
        }
    }
}

fn faults(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks.iter().filter(|check| check.failed()) {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&check.to_string());
    }
    text
}

fn keep(root: &Path, running: Slot) -> Result<u8> {
    match minke_boot::kernel::commit(&root.join(crate::BOOT), running) {
        Ok(true) => {}
        Ok(false) => log::warn(format_args!("the kernel that bootenv names does not run: it is not kept")),
        Err(error) => log::warn(format_args!("{error}")),
    }
    breadcrumbs::stop(root)?;
    log::info(format_args!("this system is well, and stays"));
    super::told(hooks::run(root, Phase::Commit, false));
    Ok(0)
}

/// Gives the running system up. Power cut: until the old system's last hook has selected its slot the trial goes on; then
/// that slot is on trial itself, with breadcrumbs, until [`breadcrumbs::stop`] has ended that.
fn go_back(root: &Path, chain: Chain, running: Slot, attempts: u32, reason: &str) -> Result<u8> {
    let boot = root.join(crate::BOOT);
    let own = os_release(&root.join("etc/os-release"));
    let own = own.version().unwrap_or("unknown");
    let other = Other::mount(root)?;
    let old = running.other();
    log::error(format_args!(
        "this system is given up for {} in slot {}: {reason}",
        other.version,
        old.letter()
    ));
    record::write(root, &Rollback { by: "health", from: own, to: &other.version, reason, attempts });
    let audit = root.join("mnt/state/override-health-triggered");
    super::told(minke_boot::kernel::restore(&boot, old, &audit).map_err(Why::from));
    // Whatever came of the hooks: what is unwell does not start again.
    let hooked = super::select(root, chain, &other.place, old, true)?;
    breadcrumbs::stop(root)?;
    let mark = if hooked { HEALTH_TRIGGERED } else { HEALTH_FAILED };
    super::told(mark.make(root).map_err(Why::from));
    super::reboot(root, "the old system is selected")
}
