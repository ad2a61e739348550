//! The command itself.

use minke_applet::{Args, EXIT_USAGE, errln};

/// Runs `hostapp-update`.
pub fn run(_: &Args) -> u8 {
    errln!("hostapp-update: not there yet");
    EXIT_USAGE
}
