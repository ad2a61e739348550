//! The DNS forwarder, first cut: passes queries over UDP and TCP to upstream servers, each with a random id
//! and source port, and tries the next server when one is silent. No cache yet.

#![forbid(unsafe_code)]

#[expect(dead_code, reason = "the parts that read it come next")]
mod config;
#[allow(dead_code, reason = "the service loop is being moved onto it")]
mod core;
mod forward;
mod pending;
mod tcp;

use minke_applet::{Applet, Args, EXIT_USAGE, Flag, Parsing, Program, report};
use std::fmt;
use std::net::SocketAddr;

/// The applet.
pub static APPLET: Applet = Applet {
    name: "dns",
    programs: &[Program {
        name: "dns",
        about: "DNS forwarder",
        usage: "serve --listen ADDR:PORT... --upstream ADDR:PORT...",
        commands: &[("serve", "Forward queries until the process is ended")],
        flags: &[
            Flag {
                short: None,
                long: "listen",
                value: Some("ADDR:PORT"),
                help: "Address to serve; may be repeated",
            },
            Flag {
                short: None,
                long: "upstream",
                value: Some("ADDR:PORT"),
                help: "Server to ask; may be repeated",
            },
        ],
        examples: &[(
            "dns serve --listen 127.0.0.2:53 --upstream 9.9.9.9:53 --upstream 1.1.1.1:53",
            "Serve this host, ask the second server when the first is silent",
        )],
        parsing: Parsing::Gnu,
        run,
    }],
};

/// Why the forwarder could not start or go on.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line is wrong.
    Usage(String),
    /// A system call failed.
    System(minke_sys::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => write!(f, "{text}; see 'dns --help'"),
            Self::System(error) => write!(f, "{error}"),
        }
    }
}

impl From<minke_sys::Error> for Error {
    fn from(error: minke_sys::Error) -> Self {
        Self::System(error)
    }
}

fn run(args: &Args) -> u8 {
    match serve(args) {
        Err(error @ Error::Usage(_)) => {
            minke_applet::log::error(format_args!("{error}"));
            EXIT_USAGE
        }
        result => report(result.map(|()| 0)),
    }
}

fn serve(args: &Args) -> Result<(), Error> {
    if args.operands().len() != 1 || args.operand(0) != Some("serve") {
        return Err(Error::Usage("the command is 'serve'".to_owned()));
    }
    forward::serve(&addresses(args, "listen")?, addresses(args, "upstream")?)
}

fn addresses(args: &Args, option: &str) -> Result<Vec<SocketAddr>, Error> {
    let wrong =
        |text: &str| Error::Usage(format!("--{option} '{text}' is not ADDR:PORT, as in 127.0.0.2:53"));
    let parsed: Result<Vec<SocketAddr>, Error> =
        args.values(option).map(|text| text.parse().map_err(|_| wrong(text))).collect();
    match parsed? {
        list if list.is_empty() => Err(Error::Usage(format!("--{option} ADDR:PORT is missing"))),
        list => Ok(list),
    }
}
