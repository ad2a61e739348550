//! The network time client: asks several servers, finds the true ones among them, and disciplines the kernel's clock
//! (RFC 5905, RFC 8915; spec os §5.6).

#![forbid(unsafe_code)]

mod chronyc;
mod figures;
mod nts;
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
                ("status", "How the clock follows the servers, and why not"),
                ("sources", "The servers alone"),
                ("online", "The network is there: ask all servers now"),
                ("offline", "The network is away: ask none"),
                ("burst", "Ask each server four times at once"),
                ("step", "Set the clock at once by what is left to be corrected"),
                ("reload", "Read the lists of servers again"),
            ],
            flags: &[
                Flag { short: None, long: "json", value: None, help: "status, sources: print JSON" },
                status::SOCKET_FLAG,
            ],
            examples: &[("ntp status", "Is the time right, and whose is it")],
            parsing: Parsing::Gnu,
            run,
        },
        chronyc::PROGRAM,
    ],
};

fn run(args: &Args) -> u8 {
    match (args.operand(0), args.operands().len()) {
        (Some("status"), 1) => status::run(args),
        (Some("sources"), 1) => status::sources(args),
        (Some(word), 1) => status::control(args, word).unwrap_or_else(usage),
        _ => usage(),
    }
}

fn usage() -> u8 {
    errln!("ntp: expected a command; see 'ntp --help'");
    EXIT_USAGE
}
