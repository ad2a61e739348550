//! Stage 1 in the initramfs, PID 1 of the system, and the programs that talk to it.

#![forbid(unsafe_code)]

mod cmdline;
mod log;
mod manager;
mod modules;
mod mounts;
mod pid1;
mod stage1;
mod systemctl;
mod unit;
mod watchdog;
mod why;

use minke_applet::{Applet, Args, Flag, Parsing, Program};
use minke_sys::file::read_bounded;
use std::path::Path;

/// The applet.
pub static APPLET: Applet =
    Applet { name: "init", programs: &[INIT, SYSTEMCTL, REBOOT, POWEROFF, HALT, SHUTDOWN, MODPROBE] };

const INIT: Program = Program {
    name: "init",
    about: "First process: initramfs, then service manager",
    usage: "[-sysroot SLOT]",
    commands: &[],
    flags: &[],
    examples: &[],
    parsing: Parsing::Raw,
    run: init,
};

const MODPROBE: Program = Program {
    name: "modprobe",
    about: "Load a kernel module by name or alias",
    usage: "[-q] MODULE [PARAMETER=VALUE]... | modprobe -a [-q] MODULE...",
    commands: &[],
    flags: &[
        Flag {
            short: Some('q'),
            long: "quiet",
            value: None,
            help: "Say nothing of a module that is not there",
        },
        Flag { short: Some('a'), long: "all", value: None, help: "Every operand is a module" },
        Flag {
            short: None,
            long: "modules-load",
            value: None,
            help: "Load what the lists in /etc, /run and /usr/lib/modules-load.d name",
        },
        Flag {
            short: Some('b'),
            long: "use-blacklist",
            value: None,
            help: "Accepted for udev; there is no blacklist",
        },
    ],
    examples: &[
        ("modprobe softdog soft_margin=30", "Load a module with a parameter"),
        ("modprobe -aq tun wireguard", "Load what is there of several"),
    ],
    parsing: Parsing::Gnu,
    run: modules::modprobe,
};

const SYSTEMCTL: Program = Program {
    name: "systemctl",
    about: "Ask the service manager: start, stop, look at units",
    usage: "[OPTIONS] [COMMAND [UNIT]...]",
    commands: &[
        ("start UNIT...", "Start units and wait until they are up"),
        ("stop UNIT...", "Stop units and wait until they are down"),
        ("restart UNIT...", "Stop and start units"),
        ("try-restart UNIT...", "Restart those that are up"),
        ("reload UNIT...", "Let units read their configuration again"),
        ("reload-or-restart UNIT...", "Reload those that can, else restart"),
        ("isolate TARGET", "Start a target and stop everything that it does not need"),
        ("kill UNIT...", "Send a signal to the units' processes"),
        ("status [UNIT...]", "Show state and last log lines"),
        ("show UNIT...", "Show properties as NAME=VALUE"),
        ("is-active, is-failed UNIT...", "Exit 0 when one of them is"),
        ("is-enabled UNIT...", "Tell whether the image starts them"),
        ("is-system-running", "Exit 0 when no job is left and no unit has failed"),
        ("list-units", "List loaded units (the default)"),
        ("list-jobs", "List jobs"),
        ("list-timers", "List timers that are up, the next first (--all: with those that have elapsed)"),
        ("list-paths", "List what path units watch"),
        ("list-dependencies [UNIT]", "Show what a unit pulls in (--reverse: what pulls it in)"),
        ("list-unit-files", "List installed unit files"),
        ("cat UNIT...", "Print unit files with their drop-ins"),
        ("verify [FILE|UNIT]...", "Report faults in unit files as FILE:LINE: TEXT"),
        ("daemon-reload", "Read all unit files again"),
        ("reset-failed [UNIT...]", "Forget failures"),
        ("reboot, poweroff, halt", "End the system in order"),
    ],
    flags: &[
        Flag { short: None, long: "no-block", value: None, help: "Do not wait for the jobs" },
        Flag { short: None, long: "json", value: None, help: "Print JSON" },
        Flag { short: Some('a'), long: "all", value: None, help: "List inactive units too" },
        Flag { short: None, long: "reverse", value: None, help: "Dependencies the other way round" },
        Flag {
            short: Some('t'),
            long: "type",
            value: Some("KIND"),
            help: "List units of these kinds only: service,timer,...",
        },
        Flag { short: None, long: "state", value: Some("STATE"), help: "List units in these states only" },
        Flag { short: None, long: "failed", value: None, help: "List failed units only" },
        Flag { short: Some('p'), long: "property", value: Some("NAME"), help: "Show this property only" },
        Flag { short: None, long: "value", value: None, help: "Show values without names" },
        Flag { short: Some('n'), long: "lines", value: Some("N"), help: "Log lines that status shows" },
        Flag { short: Some('s'), long: "signal", value: Some("SIGNAL"), help: "The signal of kill" },
        Flag { short: None, long: "kill-whom", value: Some("WHOM"), help: "main or all" },
        Flag { short: Some('q'), long: "quiet", value: None, help: "Print no state" },
        Flag { short: Some('f'), long: "force", value: None, help: "End the system without stopping units" },
        Flag { short: None, long: "no-legend", value: None, help: "Lists without headings" },
        Flag { short: None, long: "no-pager", value: None, help: "Accepted: there is no pager" },
        Flag { short: Some('l'), long: "full", value: None, help: "Accepted: nothing is cut" },
    ],
    examples: &[
        ("systemctl status balena", "How the container engine does"),
        ("systemctl restart --no-block balena-supervisor", "Restart the supervisor and do not wait"),
        ("systemctl verify ./my.service", "Check a unit file"),
    ],
    parsing: Parsing::Gnu,
    run: systemctl::systemctl,
};

const FORCE: &[Flag] = &[Flag {
    short: Some('f'),
    long: "force",
    value: None,
    help: "At once: write out the disks' caches, stop and unmount nothing",
}];

const REBOOT: Program = ending("reboot", "Restart the system in order", systemctl::reboot);
const POWEROFF: Program = ending("poweroff", "Stop the system and switch the power off", systemctl::poweroff);
const HALT: Program = ending("halt", "Stop the system", systemctl::halt);

const fn ending(name: &'static str, about: &'static str, run: fn(&Args) -> u8) -> Program {
    Program {
        name,
        about,
        usage: "[-f]",
        commands: &[],
        flags: FORCE,
        examples: &[],
        parsing: Parsing::Gnu,
        run,
    }
}

const SHUTDOWN: Program = Program {
    name: "shutdown",
    about: "Stop the system now",
    usage: "[-r|-h|-P|-H] [now]",
    commands: &[],
    flags: &[
        Flag { short: Some('r'), long: "reboot", value: None, help: "Restart" },
        Flag { short: Some('h'), long: "shutdown", value: None, help: "Switch the power off (the default)" },
        Flag { short: Some('P'), long: "poweroff", value: None, help: "Switch the power off" },
        Flag { short: Some('H'), long: "halt", value: None, help: "Leave the power on" },
    ],
    examples: &[("shutdown -r now", "Restart")],
    parsing: Parsing::Gnu,
    run: systemctl::shutdown,
};

fn init(args: &Args) -> u8 {
    if std::process::id() == 1 {
        return match () {
            () if stage1::in_initramfs() => stage1::run(),
            () if stage1::overlay::is_here() => stage1::overlay::run(),
            () => pid1::run(args.operands()),
        };
    }
    if args.operand(0).is_some_and(|word| matches!(word, "-sysroot" | "--sysroot"))
        && let Some(slot) = args.operands().get(1)
    {
        return sysroot(Path::new(slot));
    }
    minke_applet::errln!("init: this is the first process of the system; to talk to it use 'systemctl'");
    1
}

/// Prints the path without a line's end, as the programs that ask for it expect.
fn sysroot(slot: &Path) -> u8 {
    match stage1::overlay::sysroot(slot) {
        Ok(place) => u8::from(minke_sys::stdio::output(place.as_os_str().as_encoded_bytes()).is_err()),
        Err(why) => {
            minke_applet::log::error(format_args!("{why}"));
            1
        }
    }
}

/// The text of a small file, at most `limit` bytes; nothing when it cannot be read.
fn read_text(path: &Path, limit: usize) -> String {
    String::from_utf8_lossy(&read_bounded(path, limit).unwrap_or_default()).into_owned()
}

/// A moment, in seconds since 1970, as systemctl(1) shows it.
fn date(seconds: i64) -> String {
    let civil = minke_wire::civil::Civil::from_unix(seconds);
    format!("{} {civil} UTC", civil.weekday_name())
}
