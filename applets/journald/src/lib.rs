//! The log of the host: `journald` collects in memory, `journalctl` reads, `logger` writes (spec os §10).

#![forbid(unsafe_code)]

mod console;
mod daemon;
mod journal;
mod journalctl;
mod json;
mod limiter;
mod lines;
mod logger;
mod output;
mod process;
mod reader;
mod ring;
mod scan;
mod sockets;
mod stream;
mod time;

use minke_applet::{Applet, Args, EXIT_USAGE, Flag, Parsing, Program, log, report};

/// The applet.
pub static APPLET: Applet = Applet { name: "journald", programs: &[JOURNALD, JOURNALCTL, LOGGER] };

const fn switch(short: Option<char>, long: &'static str, help: &'static str) -> Flag {
    Flag { short, long, value: None, help }
}

const fn option(short: Option<char>, long: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { short, long, value: Some(value), help }
}

const JOURNALD: Program = Program {
    name: "journald",
    about: "Collect the log of services, containers and the kernel in memory",
    usage: "[OPTIONS]",
    commands: &[],
    flags: &[
        option(None, "limit", "BYTES", "Memory for the log (default: 5 % of RAM, at most 128 MiB)"),
        option(None, "user", "NAME", "Become this user when everything is open"),
        option(None, "console", "PATH", "Copy each line to this terminal, or 'none'"),
        option(None, "kmsg", "PATH", "The kernel log, or 'none' (default: /dev/kmsg)"),
        option(None, "dev-log", "PATH", "Where the link for syslog is made, or 'none' (default: /dev/log)"),
        option(None, "runtime-dir", "DIR", "Where the sockets are made (default: /run)"),
    ],
    examples: &[(
        "journald --runtime-dir /tmp/j --kmsg none --dev-log none",
        "A private journal; read it with journalctl --socket /tmp/j/minke/journald.sock",
    )],
    parsing: Parsing::Gnu,
    run: run_journald,
};

const JOURNALCTL: Program = Program {
    name: "journalctl",
    about: "Show the log",
    usage: "[OPTIONS] [FIELD=VALUE]...",
    commands: &[],
    flags: &[
        option(Some('u'), "unit", "UNIT", "Only this unit; may be repeated"),
        option(Some('t'), "identifier", "NAME", "Only this syslog identifier; may be repeated"),
        option(Some('p'), "priority", "LEVEL", "Only this priority and more urgent ones, or a range A..B"),
        option(
            Some('S'),
            "since",
            "TIME",
            "Not older than this, for instance -5min or '2022-11-20 23:59:15'",
        ),
        option(Some('U'), "until", "TIME", "Not newer than this"),
        option(Some('n'), "lines", "N", "Only the last N entries, or 'all' (with -f: 10)"),
        option(
            Some('o'),
            "output",
            "FORMAT",
            "short, short-iso, short-precise, short-full, short-monotonic, short-unix, cat, json, export",
        ),
        option(None, "after-cursor", "CURSOR", "Only entries after this one"),
        option(None, "socket", "PATH", "The journal's query socket"),
        switch(Some('f'), "follow", "Go on with new entries"),
        switch(Some('r'), "reverse", "Newest first"),
        switch(Some('b'), "boot", "Only the current boot (the journal in memory has no other)"),
        switch(Some('k'), "dmesg", "Only kernel messages"),
        switch(Some('a'), "all", "Show all bytes of a message, also unprintable ones"),
        switch(Some('q'), "quiet", "No remarks besides the entries"),
        switch(None, "show-cursor", "Print the cursor of the last entry"),
        switch(None, "list-boots", "Show the boots that the journal has"),
        switch(Some('e'), "pager-end", "The last 1000 entries"),
        switch(Some('x'), "catalog", "Accepted: there are no explanations"),
        switch(None, "no-pager", "Accepted: there is no pager"),
        switch(None, "utc", "Accepted: times are always UTC"),
    ],
    examples: &[
        ("journalctl -u balena -n 20", "The last 20 lines of the container engine"),
        ("journalctl -f -p warning", "Warnings and errors as they come"),
        ("journalctl CONTAINER_NAME=main -o cat", "What a container printed"),
    ],
    parsing: Parsing::Gnu,
    run: run_journalctl,
};

const LOGGER: Program = Program {
    name: "logger",
    about: "Write to the system log",
    usage: "[OPTIONS] [MESSAGE]...",
    commands: &[],
    flags: &[
        option(Some('t'), "tag", "TAG", "The program's name (default: the user's name)"),
        option(Some('p'), "priority", "PRIO", "FACILITY.LEVEL or LEVEL (default: user.notice)"),
        switch(Some('i'), "id", "Add the process id"),
        switch(Some('s'), "stderr", "Also print to standard error"),
        option(Some('u'), "socket", "PATH", "The syslog socket (default: /dev/log)"),
    ],
    examples: &[
        ("logger -t backup -p daemon.err 'disk full'", "One message"),
        ("backup 2>&1 | logger -t backup", "Each line of a program's output"),
    ],
    parsing: Parsing::Gnu,
    run: logger::run,
};

fn run_journald(args: &Args) -> u8 {
    match daemon::Options::new(args) {
        Ok(options) => report(daemon::run(&options)),
        Err(why) => {
            log::error(format_args!("{why}"));
            EXIT_USAGE
        }
    }
}

fn run_journalctl(args: &Args) -> u8 {
    report(journalctl::run(args))
}
