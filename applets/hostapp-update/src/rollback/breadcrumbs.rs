//! The files on the state partition.

use minke_boot::{ALTBOOT_BREADCRUMB, Chain};
use minke_sys::{Result, file, status};
use std::path::{Path, PathBuf};

/// Where they are.
pub const STATE: &str = "mnt/state";

/// A file by whose being there something is told.
#[derive(Debug, Clone, Copy)]
pub struct Mark(&'static str);

/// The system that starts next is judged.
pub const HEALTH: Mark = Mark("rollback-health-breadcrumb");
/// A start of the other slot is noticed.
pub const ALTBOOT: Mark = Mark(ALTBOOT_BREADCRUMB);
/// A system was found unwell, and the old one selected.
pub const HEALTH_TRIGGERED: Mark = Mark("rollback-health-triggered");
/// A system did not start, and the old one was selected.
pub const ALTBOOT_TRIGGERED: Mark = Mark("rollback-altboot-triggered");
/// A system was found unwell, and the old one's hooks failed.
pub const HEALTH_FAILED: Mark = Mark("rollback-health-failed");
/// How the device did before the update.
pub const VARIABLES: Mark = Mark("rollback-health-variables");
/// A rollback was not reported yet.
pub const UNREPORTED: Mark = Mark("rollback-unreported");

impl Mark {
    /// Its path.
    pub fn path(self, root: &Path) -> PathBuf {
        root.join(STATE).join(self.0)
    }

    /// Whether it is there.
    pub fn is_there(self, root: &Path) -> bool {
        status::exists(self.path(root))
    }

    /// Makes it, durably.
    pub fn make(self, root: &Path) -> Result<()> {
        if self.is_there(root) {
            return Ok(());
        }
        file::write_durable(&self.path(root), b"", 0o644)
    }

    /// Removes it, durably.
    pub fn remove(self, root: &Path) -> Result<()> {
        file::remove_durable(&self.path(root))
    }
}

/// Before a trial (hook 80-rollback): what tells of an earlier one goes, then the breadcrumbs come. While the selection
/// is the old one they mean nothing.
pub fn make(root: &Path) -> Result<()> {
    for mark in [HEALTH_TRIGGERED, ALTBOOT_TRIGGERED, HEALTH_FAILED] {
        mark.remove(root)?;
    }
    HEALTH.make(root)?;
    // What is tried, for the record of a system that cannot say it itself any more.
    let version = minke_config::os_release(&root.join("etc/os-release"));
    let version = version.version().unwrap_or_default();
    file::write_durable(&ALTBOOT.path(root), version.as_bytes(), 0o644)
        // A full state partition, without room for a word, is no reason to keep an old system (issue 1657).
        .or_else(|_| ALTBOOT.make(root))
}

/// The version that is on trial, as [`make`] wrote it down.
pub fn tried(root: &Path) -> String {
    let text = file::text(ALTBOOT.path(root));
    minke_wire::text::shown(text.trim())
}

/// There is no trial (any more): the breadcrumbs, what tells of an earlier one, and how things were before.
pub fn remove(root: &Path) -> Result<()> {
    for mark in [VARIABLES, HEALTH, ALTBOOT, HEALTH_TRIGGERED, ALTBOOT_TRIGGERED, HEALTH_FAILED] {
        mark.remove(root)?;
    }
    Ok(())
}

/// The end of a trial (spec os §15.10.6): what is selected stays. The reference removes the breadcrumbs first; a cut then
/// leaves a trial that counts its starts and that nobody judges. Here a cut leaves breadcrumbs of a trial that is over,
/// which the next boot takes away.
pub fn stop(root: &Path) -> Result<()> {
    let boot = root.join(crate::BOOT);
    Chain::find(&boot)?.commit(&boot)?;
    for mark in [VARIABLES, HEALTH, ALTBOOT, HEALTH_FAILED] {
        mark.remove(root)?;
    }
    Ok(())
}
