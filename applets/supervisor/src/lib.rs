//! The supervisor: keeps the device's services as the target says, and answers the local API.
//!
//! `target` reads and checks what should run, `compose` turns a service into what the engine is asked for,
//! `plan` decides the next steps, all three pure; `worker` reads the engine and does the steps; `cloud` registers the
//! device; `daemon` is the service loop with the API.

#![forbid(unsafe_code)]

mod api;
mod apply;
mod cloud;
mod commands;
mod compose;
mod crashes;
mod current;
mod daemon;
mod failure;
mod plan;
mod preload;
mod queue;
mod settings;
mod state;
mod target;
mod values;
mod view;
mod watch;
mod worker;

use minke_applet::{Applet, Args, EXIT_USAGE, Flag, Parsing, Program, log, report};
use settings::Settings;

/// The programs of this applet.
pub static APPLET: Applet = Applet { name: "supervisor", programs: &[SUPERVISOR] };

const SUPERVISOR: Program = Program {
    name: "supervisor",
    about: "Keep the device's services as the target says, and answer the local API",
    usage: "[OPTIONS] [status | key]",
    commands: &[
        ("status", "Show the services and what they do"),
        ("key", "Print the key for the local API (needed on a device that belongs to a cloud)"),
    ],
    flags: &[
        option("engine", "unix://PATH", "The engine's socket (unix:///run/balena-engine.sock)"),
        option(
            "listen",
            "ADDR:PORT",
            "Where to answer the API (all addresses, listenPort of config.json or 48484)",
        ),
        option("data", "DIR", "The folder of the durable state (/mnt/data/resin-data/balena-supervisor)"),
        option("apps", "FILE", "The preloaded apps, read once (/mnt/data/apps.json)"),
        option("config", "FILE", "The device's configuration (/mnt/boot/config.json)"),
        Flag { short: None, long: "json", value: None, help: "With 'status': print the API's answer" },
    ],
    examples: &[
        ("supervisor status", "What runs on this device"),
        ("curl \"http://127.0.0.1:48484/v2/state/status?apikey=$(supervisor key)\"", "The same by the API"),
        (
            "supervisor --engine unix:///var/run/docker.sock --listen 127.0.0.1:4848 --data /tmp/s --apps apps.json",
            "Try a preload file on a machine with Docker",
        ),
    ],
    parsing: Parsing::Gnu,
    run,
};

const fn option(long: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { short: None, long, value: Some(value), help }
}

fn run(args: &Args) -> u8 {
    let settings = match Settings::read(args) {
        Ok(settings) => settings,
        Err(error) => {
            log::error(format_args!("{error}"));
            return EXIT_USAGE;
        }
    };
    match (args.operands().len(), args.operand(0)) {
        (0, _) => report(daemon::run(settings)),
        (1, Some("status")) => report(commands::status(&settings, args.has("json"))),
        (1, Some("key")) => report(commands::key(&settings)),
        _ => {
            log::error(format_args!("unknown command; see 'supervisor --help'"));
            EXIT_USAGE
        }
    }
}
