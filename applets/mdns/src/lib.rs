//! Multicast DNS and DNS-based service discovery: names and services of this device on the link, those of others for
//! `dns` and for people (RFC 6762, RFC 6763; spec os §6).

#![forbid(unsafe_code)]

mod core;
mod services;

use minke_applet::{Applet, Args, EXIT_USAGE, Parsing, Program, errln};

/// The applet.
pub static APPLET: Applet = Applet {
    name: "mdns",
    programs: &[Program {
        name: "mdns",
        about: "Names and services on the local link",
        usage: "[OPTIONS] COMMAND",
        commands: &[],
        flags: &[],
        examples: &[],
        parsing: Parsing::Gnu,
        run,
    }],
};

fn run(_args: &Args) -> u8 {
    errln!("mdns: expected a command; see 'mdns --help'");
    EXIT_USAGE
}
