//! The DNS forwarder: answers this host and its containers from what it knows and remembers, and asks servers for the rest.

#![forbid(unsafe_code)]

mod config;
mod confine;
mod core;
mod daemon;
mod query;
mod resolvconf;
mod status;
mod upstream;

use minke_applet::{Applet, Args, EXIT_USAGE, Parsing, Program, errln};

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

fn run(args: &Args) -> u8 {
    match (args.operand(0), args.operands().len()) {
        (Some("serve"), 1) => daemon::run(args),
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
