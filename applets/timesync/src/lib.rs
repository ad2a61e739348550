//! A sane clock before the network's time: build time, saved time, the real-time clock, then the date of an HTTPS
//! server (spec os §5.1 to §5.5); and what scripts ask about the clock.

#![forbid(unsafe_code)]

mod boot;
mod https;
mod places;
mod rule;
mod status;
mod timedatectl;

use minke_applet::{Applet, Args, EXIT_USAGE, Flag, Parsing, Program, errln, report};
use minke_sys::adjtime;
use places::Places;
use std::time::Duration;

/// How long `timesync wait` waits unless told.
const WAIT: u64 = 86_400;

/// The option of all programs that work on files.
const ROOT: Flag = Flag { short: None, long: "root", value: Some("DIR"), help: "Use the files below DIR" };

/// The option of all that would set a clock.
const NO_CLOCK: Flag =
    Flag { short: None, long: "no-clock", value: None, help: "Set no clock; say what would be done" };

/// The applet.
pub static APPLET: Applet = Applet {
    name: "timesync",
    programs: &[
        Program {
            name: "timesync",
            about: "A sane clock at boot, and whether it can be trusted",
            usage: "[OPTIONS] COMMAND",
            commands: &[
                ("status", "Print what the clock is by; exit 1 while it cannot be trusted"),
                ("wait", "Return when the clock can be trusted: confirmed from outside, or by the RTC"),
                ("init", "Set the clock by build time, saved clock and RTC, each only forward"),
                ("save [force]", "Save the clock for the next boot, also before the build time"),
                ("load [force]", "Set the clock by the saved one, also back"),
                ("https", "Set the clock by the connectivity check's date; ends when the clock is right"),
            ],
            flags: &[
                Flag { short: None, long: "json", value: None, help: "status: print JSON" },
                Flag {
                    short: Some('t'),
                    long: "timeout",
                    value: Some("SECONDS"),
                    help: "wait: give up after this time, with status 1",
                },
                Flag {
                    short: None,
                    long: "once",
                    value: None,
                    help: "https: one attempt; exit 1 if it fails",
                },
                ROOT,
                NO_CLOCK,
            ],
            examples: &[
                ("timesync status", "Is the clock right, and who says so?"),
                ("timesync wait --timeout 60 && backup", "Run backup when its time stamps will be right"),
            ],
            parsing: Parsing::Gnu,
            run,
        },
        Program {
            name: "fake-hwclock",
            about: "Save and load the clock, for machines without a real-time clock",
            usage: "[OPTIONS] COMMAND [force]",
            commands: &[
                ("save [force]", "Save the clock; force: also when it is before the build time"),
                ("load [force]", "Set the clock by the saved one; force: also back"),
            ],
            flags: &[ROOT, NO_CLOCK],
            examples: &[("fake-hwclock load force", "Go back to the time of the last save")],
            parsing: Parsing::Gnu,
            run: saved_clock,
        },
        Program {
            name: "timedatectl",
            about: "The clock, as scripts ask systemd for it",
            usage: "[OPTIONS] [COMMAND]",
            commands: &[
                ("status", "Print the clock and whether it is synchronized"),
                ("show", "Print properties"),
            ],
            flags: &[
                Flag {
                    short: Some('p'),
                    long: "property",
                    value: Some("NAME"),
                    help: "show: this one; may be repeated",
                },
                Flag { short: None, long: "value", value: None, help: "show: print values without names" },
            ],
            examples: &[("timedatectl show -p NTPSynchronized --value", "Does the clock follow NTP?")],
            parsing: Parsing::Gnu,
            run: timedatectl::run,
        },
    ],
};

fn places(args: &Args) -> Places {
    Places { root: args.value("root").unwrap_or("/").into(), no_clock: args.has("no-clock") }
}

fn run(args: &Args) -> u8 {
    let places = places(args);
    let limit = args.value("timeout").map_or(Some(WAIT), minke_wire::text::number::<u64>);
    match (args.operand(0), args.operands().len(), limit) {
        (Some("init"), 1, _) => boot::run(&places),
        (Some("https"), 1, _) => https::run(&places, args.has("once")),
        (Some("status"), 1, _) => status::run(&places, args),
        (Some("wait"), 1, Some(limit)) => status::wait(Duration::from_secs(limit)),
        _ => saved_clock(args),
    }
}

fn saved_clock(args: &Args) -> u8 {
    let places = places(args);
    let force = args.operand(1) == Some("force");
    match (args.operand(0), args.operands().len()) {
        (Some("save"), count) if count == 1 || force && count == 2 => report(boot::save(&places, force)),
        (Some("load"), count) if count == 1 || force && count == 2 => report(boot::load(&places, force)),
        _ => {
            errln!("expected a command, and no other than those of --help");
            EXIT_USAGE
        }
    }
}

/// Whether a time client disciplines the clock, by the kernel's word.
fn is_disciplined() -> bool {
    adjtime::read().is_ok_and(|state| state.status & adjtime::STA_UNSYNC == 0)
}
