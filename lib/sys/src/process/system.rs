//! What ends or names the whole machine.

use crate::{Context, Result};
use rustix::system::RebootCommand;

/// How the machine ends: reboot(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Start again.
    Restart,
    /// Switch the power off.
    PowerOff,
    /// Stop and leave the power on.
    Halt,
    /// Start the kernel that was loaded by kexec.
    Kexec,
}

/// Ends the machine at once: nothing is stopped, synchronised or unmounted.
pub fn end_system(ending: Ending) -> Result<()> {
    let command = match ending {
        Ending::Restart => RebootCommand::Restart,
        Ending::PowerOff => RebootCommand::PowerOff,
        Ending::Halt => RebootCommand::Halt,
        Ending::Kexec => RebootCommand::Kexec,
    };
    rustix::system::reboot(command).context("end", "the system")
}

/// From now on Ctrl-Alt-Del sends SIGINT to PID 1 and does not reset the machine.
pub fn ignore_ctrl_alt_del() -> Result<()> {
    rustix::system::reboot(RebootCommand::CadOff).context("redirect", "Ctrl-Alt-Del")
}

/// Sets the kernel's host name.
pub fn set_host_name(name: &str) -> Result<()> {
    rustix::system::sethostname(name.as_bytes()).context("set host name", name)
}
