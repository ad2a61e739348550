//! The hooks of an update (spec os §15.4, §15.5).

use minke_applet::Args;
use minke_sys::Result;
use std::path::Path;

/// When hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// In the old system, before the others.
    Before,
    /// In the new system, or in the one that is gone back to.
    Forward,
    /// In the old system, after the others.
    After,
    /// In the new system, once it was found well.
    Commit,
}

/// Runs the hooks of the system whose root is mounted at `root`: `Before` and `After` in this system's environment,
/// `Forward` and `Commit` in a chroot of it, or here when `root` is `/`. `during_update`: the slot to select is the
/// inactive one.
pub fn run(root: &Path, phase: Phase, during_update: bool) -> Result<()> {
    let _ = (root, phase, during_update);
    Ok(())
}

/// Runs `hostapp-update-hooks`.
pub fn run_program(_: &Args) -> u8 {
    1
}
