//! The network time client: asks several servers, finds the true ones among them, and disciplines the kernel's clock
//! (RFC 5905, RFC 8915; spec os §5.6).

#![forbid(unsafe_code)]

mod chronyc;
mod client;
mod daemon;
mod figures;
#[cfg(test)]
#[path = "../tests/lab/mod.rs"]
mod lab;
mod nanos;
mod nts;
mod query;
mod serve;
mod sources;
mod status;

use minke_applet::{Applet, Args, EXIT_USAGE, Flag, Parsing, Program, errln};

/// The applet.
pub static APPLET: Applet = Applet {
    name: "ntp",
    programs: &[
        Program {
            name: "ntp",
            about: "Network time: client, query, status",
            usage: "[OPTIONS] COMMAND",
            commands: &[
                ("run", "Follow the servers, until told to end"),
                ("status", "How the clock follows the servers, and why not"),
                ("sources", "The servers alone"),
                ("query HOST[:PORT]", "Ask a server for its time, without touching the clock"),
                ("online", "The network is there: ask all servers now"),
                ("offline", "The network is away: ask none"),
                ("burst", "Ask each server four times at once"),
                ("step", "Set the clock at once by what is left to be corrected"),
                ("reload", "Read the lists of servers again"),
            ],
            flags: &[
                Flag { short: None, long: "json", value: None, help: "status, sources, query: print JSON" },
                status::SOCKET_FLAG,
                daemon::CONFIG_FLAG,
                daemon::SOURCES_FLAG,
                daemon::STATE_FLAG,
                daemon::NO_CLOCK_FLAG,
                query::NTS_FLAG,
                query::IPV4_FLAG,
                query::IPV6_FLAG,
                query::TIMEOUT_FLAG,
                query::COUNT_FLAG,
                query::TRUST_FLAG,
                serve::ALLOW_FLAG,
            ],
            examples: &[
                ("ntp status", "Is the time right, and whose is it"),
                (
                    "ntp run --allow 192.168.1.0/24",
                    "Serve the local network too; or a line 'allow SUBNET' in /var/lib/chrony/chrony.conf",
                ),
                ("ntp query pool.ntp.org", "How far this clock is from a server's"),
                (
                    "ntp query --nts --count 4 time.cloudflare.com",
                    "The same, authenticated; with --nts, PORT is that of the key exchange (4460)",
                ),
            ],
            parsing: Parsing::Gnu,
            run,
        },
        chronyc::PROGRAM,
    ],
};

fn run(args: &Args) -> u8 {
    match (args.operand(0), args.operands().len()) {
        (Some("run"), 1) => daemon::run(args),
        (Some("status"), 1) => status::run(args),
        (Some("sources"), 1) => status::sources(args),
        (Some("query"), 2) => query::run(args),
        (Some(word), 1) => status::control(args, word).unwrap_or_else(usage),
        _ => usage(),
    }
}

fn usage() -> u8 {
    errln!("ntp: expected a command; see 'ntp --help'");
    EXIT_USAGE
}
