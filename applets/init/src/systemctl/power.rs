//! Ending the system: systemctl(1), reboot(8), shutdown(8).

use super::{Failure, ask};
use crate::pid1::kernel_ending;
use minke_applet::{Args, report};
use minke_control::init::Ending;
use minke_sys::process;
use minke_wire::json::json;

/// Asks PID 1 to end the system; with `force` twice as in `reboot -ff`, without asking.
pub fn end(ending: Ending, force: bool) -> Result<u8, Failure> {
    ask(&json!({ "command": ending.verb(), "force": force }))?;
    Ok(0)
}

fn program(args: &Args, ending: Ending) -> u8 {
    if !args.has("force") {
        return report(end(ending, false));
    }
    // The way out when PID 1 does not answer: nothing is stopped or unmounted.
    minke_sys::file::sync_all();
    report(process::end_system(kernel_ending(ending)).map(|()| 0))
}

/// The program `reboot`.
pub fn reboot(args: &Args) -> u8 {
    program(args, Ending::Reboot)
}

/// The program `poweroff`.
pub fn poweroff(args: &Args) -> u8 {
    program(args, Ending::PowerOff)
}

/// The program `halt`.
pub fn halt(args: &Args) -> u8 {
    program(args, Ending::Halt)
}

/// The program `shutdown`. The time must be now: a device has nobody to warn.
pub fn shutdown(args: &Args) -> u8 {
    if let Some(time) = args.operand(0).filter(|time| !matches!(*time, "now" | "+0")) {
        minke_applet::log::error(format_args!("'{time}' is not supported: only 'now'"));
        return minke_applet::EXIT_USAGE;
    }
    let ending = if args.has("reboot") {
        Ending::Reboot
    } else if args.has("halt") {
        Ending::Halt
    } else {
        Ending::PowerOff
    };
    report(end(ending, false))
}
