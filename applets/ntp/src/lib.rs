//! The network time client: asks several servers, finds the true ones among them, and disciplines the kernel's clock
//! (RFC 5905, RFC 8915; spec os §5.6).

#![forbid(unsafe_code)]

mod nts;

use minke_applet::{Applet, Args, EXIT_USAGE, Parsing, Program, errln};

/// The applet.
pub static APPLET: Applet = Applet {
    name: "ntp",
    programs: &[Program {
        name: "ntp",
        about: "Network time: client, query, status",
        usage: "[OPTIONS] COMMAND",
        commands: &[],
        flags: &[],
        examples: &[],
        parsing: Parsing::Gnu,
        run,
    }],
};

fn run(_: &Args) -> u8 {
    errln!("ntp: expected a command; see 'ntp --help'");
    EXIT_USAGE
}
