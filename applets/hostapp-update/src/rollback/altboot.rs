//! `rollback-altboot` (spec os §15.10.3): the boot loader gave the selected slot up and started this one.
//!
//! It also ends what stage 1 began when it could not mount a system that had been found well: such a trial has no judge.

use super::breadcrumbs::{self, ALTBOOT, ALTBOOT_TRIGGERED, HEALTH};
use super::other::Other;
use super::record::{self, Rollback};
use super::rule::{Situation, situation};
use crate::devices;
use crate::update::why::{Result, Why};
use minke_applet::log;
use minke_boot::Chain;
use minke_config::os_release;
use std::path::Path;

/// Makes the slot that runs the selected one.
pub fn run(root: &Path) -> Result<u8> {
    if !ALTBOOT.is_there(root) {
        return Ok(0);
    }
    let boot = root.join(crate::BOOT);
    let (chain, running) = (Chain::find(&boot)?, devices::slot(root, "active")?);
    let selection = chain.read(&boot)?;
    match situation(&selection, running) {
        Situation::Elsewhere => {}
        Situation::Trial | Situation::Over if !HEALTH.is_there(root) => {
            log::warn(format_args!("slot {} comes up after starts that failed", running.letter()));
            breadcrumbs::stop(root)?;
            return Ok(0);
        }
        _ => return Ok(0),
    }
    // It was so in an earlier boot of this trial: what was written then has not lasted, and another reboot helps nobody.
    let again = ALTBOOT_TRIGGERED.is_there(root);
    let own = os_release(&root.join("etc/os-release"));
    let mut given_up = breadcrumbs::tried(root);
    if given_up.is_empty() {
        given_up = Other::mount(root).map_or_else(|_| "unknown".to_owned(), |other| other.version);
    }
    let attempts = selection.bootcount.saturating_sub(1);
    let what = if attempts == 0 { "had nothing to start" } else { "was started and did not come up" };
    let reason = format!("slot {} {what}", running.other().letter());
    log::error(format_args!("{reason}: slot {} is selected again", running.letter()));
    let to = own.version().unwrap_or("unknown");
    record::write(root, &Rollback { by: "altboot", from: &given_up, to, reason: &reason, attempts });
    super::select(root, chain, root, running, false)?;
    super::told(ALTBOOT_TRIGGERED.make(root).map_err(Why::from));
    breadcrumbs::stop(root)?;
    if again {
        log::error(format_args!(
            "this is not the first time: the boot partition does not keep what is written"
        ));
        return Ok(1);
    }
    super::reboot(root, "boot files may have changed")
}
