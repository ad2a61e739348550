//! Multicast DNS and DNS-based service discovery: names and services of this device on the link, those of others for
//! `dns` and for people (RFC 6762, RFC 6763; spec os §6).

#![forbid(unsafe_code)]

mod browse;
mod core;
mod daemon;
mod publish;
mod resolve;
mod services;
mod show;
mod status;

use minke_applet::{Applet, Args, EXIT_USAGE, Flag, Parsing, Program, errln};

/// The applet.
pub static APPLET: Applet = Applet {
    name: "mdns",
    programs: &[Program {
        name: "mdns",
        about: "Names and services on the local link (mDNS, DNS-SD)",
        usage: "[OPTIONS] COMMAND",
        commands: &[
            ("run", "Answer for this host, and ask for others, until told to end"),
            ("browse [TYPE]", "Services of a type, or the types that there are, as they come and go"),
            (
                "resolve NAME [TYPE]",
                "The addresses of a host, the place of a service, or the name of an address",
            ),
            ("reconfirm NAME [TYPE]", "What was told of it does not work: is it still so?"),
            ("publish NAME TYPE PORT [TXT]...", "Publish a service until this command ends"),
            ("status", "The name in use, the interfaces, what is published"),
        ],
        flags: &[
            Flag {
                short: Some('r'),
                long: "resolve",
                value: None,
                help: "browse: where each service is, too",
            },
            Flag { short: Some('a'), long: "all", value: None, help: "browse: the services of all types" },
            browse::TIMEOUT_FLAG,
            Flag { short: None, long: "json", value: None, help: "browse, resolve, status: print JSON" },
            publish::SUBTYPE_FLAG,
            show::SOCKET_FLAG,
            daemon::INTERFACE_FLAG,
            daemon::SERVICES_FLAG,
            daemon::HOST_FLAG,
        ],
        examples: &[
            ("mdns browse _resin-device._sub._ssh._tcp --resolve --timeout 3", "The devices on this network"),
            ("mdns browse --all --resolve", "Everything that is offered here, and what comes and goes"),
            ("mdns resolve board.local", "The addresses of a host"),
            ("mdns resolve 'Board in the hall._http._tcp'", "Where a service is: host, port, texts"),
            ("mdns publish 'Board in the hall' _http._tcp 80 path=/", "Publish a service"),
        ],
        parsing: Parsing::Gnu,
        run,
    }],
};

fn run(args: &Args) -> u8 {
    match (args.operand(0), args.operands().len()) {
        (Some("run"), 1) => daemon::run(args),
        (Some("browse"), 1..=2) => browse::run(args),
        (Some("resolve"), 2..=3) => resolve::run(args),
        (Some("reconfirm"), 2..=3) => resolve::reconfirm(args),
        (Some("publish"), 4..) => publish::run(args),
        (Some("status"), 1) => status::run(args),
        _ => {
            errln!("mdns: expected a command; see 'mdns --help'");
            EXIT_USAGE
        }
    }
}
