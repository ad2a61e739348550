//! The DNS forwarder, first cut: passes queries over UDP and TCP to upstream servers, each with a random id
//! and source port, and tries the next server when one is silent. No cache yet.

#![forbid(unsafe_code)]

#[allow(dead_code, unused_imports)]
mod config;
#[allow(dead_code, reason = "the service loop is being moved onto it")]
mod confine;
#[allow(dead_code, reason = "the service loop is being moved onto it")]
mod core;
mod forward;
mod pending;
mod query;
mod resolvconf;
mod status;
mod tcp;
mod upstream;

use minke_applet::{Applet, Args, EXIT_USAGE, Parsing, Program, errln, report};
use std::fmt;
use std::net::SocketAddr;

/// The applet.
pub static APPLET: Applet = Applet {
    name: "dns",
    programs: &[
        Program {
            name: "dns",
            about: "DNS: caching forwarder, query, status",
            usage: "[OPTIONS] COMMAND",
            commands: &[
                ("serve", "Answer clients, until told to end"),
                ("status", "Servers, cache and counters of the forwarder"),
                ("query NAME [TYPE]", "Ask for records of a name, or for the names of an address"),
                ("flush [NAME]", "Forget answers, all or those of a name"),
                ("reload", "Read the settings again; the cache stays"),
            ],
            flags: &[
                status::JSON_FLAG,
                query::SERVER_FLAG,
                query::TCP_FLAG,
                config::LISTEN_FLAG,
                config::UPSTREAM_FLAG,
                config::CONF_FLAG,
                config::ROOT_FLAG,
                status::SOCKET_FLAG,
            ],
            examples: &[
                ("dns query example.com", "Its addresses, by the forwarder of this host"),
                (
                    "dns query --server tls://1.1.1.1#one.one.one.one example.com MX",
                    "Its mail servers, by DNS over TLS",
                ),
                (
                    "dns serve --listen 127.0.0.1:5300 --upstream 9.9.9.9 --upstream /lan/192.168.1.1",
                    "A forwarder by hand: names in 'lan' are asked at 192.168.1.1, all others at 9.9.9.9",
                ),
            ],
            parsing: Parsing::Gnu,
            run,
        },
        resolvconf::PROGRAM,
    ],
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
    match (args.operand(0), args.operands().len()) {
        (Some("serve"), 1) => match serve(args) {
            Err(error @ Error::Usage(_)) => {
                minke_applet::log::error(format_args!("{error}"));
                EXIT_USAGE
            }
            result => report(result.map(|()| 0)),
        },
        (Some("status"), 1) => status::run(args),
        (Some("query"), 2 | 3) => query::run(args),
        (Some("flush"), 1 | 2) => status::flush(args),
        (Some("reload"), 1) => status::reload(args),
        _ => {
            errln!("dns: expected a command; see 'dns --help'");
            EXIT_USAGE
        }
    }
}

fn serve(args: &Args) -> Result<(), Error> {
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
