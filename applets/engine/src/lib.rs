//! The container engine: images, containers, networks and volumes behind the Engine API.
//!
//! The daemon is one loop ([`engine`]) around an HTTP server ([`api`]). A container is a durable record
//! ([`container`]) and, while it runs, a [`shim`]: a process that outlives the daemon.

#![forbid(unsafe_code)]

mod api;
mod cli;
mod container;
mod engine;
mod error;
mod events;
mod fields;
mod images;
mod network;
mod options;
mod preload;
mod pull;
mod record;
mod shim;
mod time;
mod volume;

use minke_applet::{Applet, Args, Flag, Parsing, Program};

/// The programs of this applet.
pub static APPLET: Applet = Applet {
    name: "engine",
    programs: &[
        daemon("engine"),
        daemon("balena-engine-daemon"),
        daemon("balenad"),
        client("balena"),
        client("balena-engine"),
        SHIM,
        INIT,
    ],
};

const fn flag(long: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { short: None, long, value: Some(value), help }
}

const DAEMON_FLAGS: &[Flag] = &[
    Flag {
        short: Some('H'),
        long: "host",
        value: Some("ADDRESS"),
        help: "Listen on unix://PATH or tcp://IP:PORT; may be repeated",
    },
    flag("data-root", "DIR", "Images, containers and volumes (default /var/lib/docker)"),
    flag("exec-root", "DIR", "Run state, on a tmpfs (default /run/minke/engine)"),
    flag("preload", "DIR", "Load the archives in DIR before the first request (default /mnt/data/preload)"),
    flag("bip", "ADDRESS/PREFIX", "Address of the default bridge (default 10.114.101.1/24)"),
    flag("fixed-cidr", "SUBNET", "What containers on the default bridge get of it (default 10.114.101.0/25)"),
    flag("dns", "ADDRESS", "A name server for containers; may be repeated (default: the host's)"),
    flag(
        "insecure-registry",
        "HOST[:PORT]",
        "A registry that may be spoken to without TLS; may be repeated (this machine's may without being named)",
    ),
    flag("cgroup-parent", "NAME", "The control group of all containers (default: below the delegated one)"),
    flag("journal", "SOCKET", "The journal's native socket (default /run/systemd/journal/socket)"),
    flag("journal-query", "SOCKET", "The journal's query socket (default /run/minke/journald.sock)"),
];

const fn daemon(name: &'static str) -> Program {
    Program {
        name,
        about: "The container engine's daemon: the Engine API on Unix sockets",
        usage: "[OPTIONS]",
        commands: &[],
        flags: DAEMON_FLAGS,
        examples: &[
            (
                "balenad -H unix:///run/balena-engine.sock",
                "Serve on one socket, with the data below /var/lib/docker",
            ),
            (
                "balenad --data-root /tmp/data --exec-root /tmp/run -H unix:///tmp/engine.sock",
                "A second engine, for a test",
            ),
        ],
        parsing: Parsing::Gnu,
        run: run_daemon,
    }
}

const fn client(name: &'static str) -> Program {
    Program {
        name,
        about: "Look after containers and images by the engine's API",
        usage: "[-H unix://PATH] COMMAND [ARGUMENT]...",
        commands: cli::COMMANDS,
        flags: &[Flag {
            short: Some('H'),
            long: "host",
            value: Some("ADDRESS"),
            help: "The engine's socket (default $DOCKER_HOST or unix:///run/balena-engine.sock)",
        }],
        examples: &[
            ("balena ps -a", "List all containers"),
            ("balena logs -f main", "Follow what a container prints"),
            ("balena pull docker.io/library/alpine:3", "Fetch an image"),
        ],
        parsing: Parsing::StopAtOperand,
        run: cli::run,
    }
}

const SHIM: Program = Program {
    name: "engine-shim",
    about: "The process beside each container (started by the engine only)",
    usage: "RUN-FOLDER",
    commands: &[],
    flags: &[],
    examples: &[],
    parsing: Parsing::Gnu,
    run: shim::run,
};

const INIT: Program = Program {
    name: "engine-init",
    about: "The small PID 1 of containers with --init (started by the engine only)",
    usage: "PROGRAM ARGV0 [ARGUMENT]...",
    commands: &[],
    flags: &[],
    examples: &[],
    parsing: Parsing::Raw,
    run: shim::init::run,
};

fn run_daemon(args: &Args) -> u8 {
    let options = match options::Options::from_args(args) {
        Ok(options) => options,
        Err(error) => {
            minke_applet::log::error(format_args!("{error}"));
            return minke_applet::EXIT_USAGE;
        }
    };
    minke_applet::report(engine::Engine::run(Box::leak(options)).map(|()| 0))
}
