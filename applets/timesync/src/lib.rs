//! A sane clock before the network's time: build time, saved time, the real-time clock, then the date of an HTTPS
//! server (spec os §5.1 to §5.5).

#![forbid(unsafe_code)]

use minke_applet::{Applet, Args, EXIT_USAGE, Parsing, Program, errln};

/// The applet.
pub static APPLET: Applet = Applet {
    name: "timesync",
    programs: &[Program {
        name: "timesync",
        about: "A sane clock at boot",
        usage: "[OPTIONS] COMMAND",
        commands: &[],
        flags: &[],
        examples: &[],
        parsing: Parsing::Gnu,
        run,
    }],
};

fn run(_: &Args) -> u8 {
    errln!("timesync: expected a command; see 'timesync --help'");
    EXIT_USAGE
}
