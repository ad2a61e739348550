//! The network: switches links on, gives them the owner's profiles (spec os §11.2), gets addresses by DHCPv4, tells resolvers and the clock about servers
//! (spec os §5.6.4, §7, §11.1). IPv6 is the kernel's own autoconfiguration.

#![forbid(unsafe_code)]

mod client;
mod daemon;
mod files;
mod lease;
mod port;
mod prepare;
mod profile;
mod profiles;
mod setup;
mod status;

use daemon::Settings;
use files::Places;
use minke_applet::{Applet, Args, EXIT_USAGE, Flag, Parsing, Program, log, print};
use minke_wire::json::{Value, json};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How long `network status` and `network reload` wait for the service.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The longest `--timeout`, in seconds.
const TIMEOUT_LIMIT: u64 = 86_400;

/// The applet.
pub static APPLET: Applet = Applet {
    name: "network",
    programs: &[Program {
        name: "network",
        about: "Links, DHCP, resolver files",
        usage: "[OPTIONS] COMMAND",
        commands: &[
            ("status", "Print the state of each link"),
            ("wait-online", "Return when a link has an address"),
            ("reload", "Read the profiles of system-connections again"),
            ("serve", "Run the service"),
        ],
        flags: &[
            Flag { short: None, long: "json", value: None, help: "status: print JSON" },
            Flag {
                short: Some('t'),
                long: "timeout",
                value: Some("SECONDS"),
                help: "wait-online: give up after this time, with status 1",
            },
            Flag {
                short: Some('i'),
                long: "interface",
                value: Some("NAME"),
                help: "serve: look after this link only, whatever it is; may be repeated",
            },
            Flag {
                short: None,
                long: "user",
                value: Some("NAME"),
                help: "serve: the user to become when started as root (network)",
            },
            Flag { short: None, long: "run", value: Some("DIR"), help: "Instead of /run" },
            Flag {
                short: None,
                long: "state",
                value: Some("DIR"),
                help: "Instead of /var/lib/NetworkManager",
            },
            Flag {
                short: None,
                long: "profiles",
                value: Some("DIR"),
                help: "Instead of /etc/NetworkManager/system-connections",
            },
        ],
        examples: &[
            ("network status", "Which link has which address, from whom, and which DNS servers"),
            ("network wait-online --timeout 60", "Wait at most a minute for the first address"),
        ],
        parsing: Parsing::Gnu,
        run,
    }],
};

/// Why a command failed.
#[derive(Debug)]
enum Error {
    /// The command line is wrong.
    Usage(String),
    /// A system call failed.
    System(minke_sys::Error),
    /// The service does not answer as it should.
    Service(minke_control::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) => write!(f, "{text}; see 'network --help'"),
            Self::System(error) => write!(f, "{error}"),
            Self::Service(error) => write!(f, "{error}; is NetworkManager.service running?"),
        }
    }
}

impl From<minke_sys::Error> for Error {
    fn from(error: minke_sys::Error) -> Self {
        Self::System(error)
    }
}

impl From<minke_control::Error> for Error {
    fn from(error: minke_control::Error) -> Self {
        Self::Service(error)
    }
}

fn run(args: &Args) -> u8 {
    let result = match (args.operand(0), args.operands().len()) {
        (Some("status"), 1) => show_status(args),
        (Some("wait-online"), 1) => wait_online(args),
        (Some("reload"), 1) => reload(args),
        (Some("serve"), 1) => serve(args),
        _ => Err(Error::Usage("expected one command: status, wait-online, reload or serve".to_owned())),
    };
    match result {
        Ok(status) => status,
        Err(error) => {
            log::error(format_args!("{error}"));
            if matches!(error, Error::Usage(_)) { EXIT_USAGE } else { 1 }
        }
    }
}

fn show_status(args: &Args) -> Result<u8, Error> {
    let answer = ask(args, &json!({ "command": "status" }), Some(ANSWER_LIMIT))?;
    Ok(print(&if args.has("json") { format!("{answer:#}\n") } else { status::text(&answer) }))
}

fn wait_online(args: &Args) -> Result<u8, Error> {
    let limit = match args.value("timeout") {
        None => None,
        Some(text) => match text.parse() {
            Ok(seconds @ 1..=TIMEOUT_LIMIT) => Some(Duration::from_secs(seconds)),
            _ => return Err(Error::Usage(format!("--timeout '{text}' is no number of seconds"))),
        },
    };
    ask(args, &json!({ "command": "wait-online" }), limit).map(|_| 0)
}

/// The service itself may not read them.
fn reload(args: &Args) -> Result<u8, Error> {
    let profiles = profiles::read(&places(args).profiles);
    ask(args, &json!({ "command": "profiles", "profiles": profiles }), Some(ANSWER_LIMIT)).map(|_| 0)
}

fn ask(args: &Args, request: &Value, limit: Option<Duration>) -> Result<Value, Error> {
    let socket = places(args).run.join("minke/network.sock");
    Ok(minke_control::call(&socket, request, limit)?)
}

fn serve(args: &Args) -> Result<u8, Error> {
    let places = places(args);
    // While it is still root.
    let profiles = profiles::read(&places.profiles);
    if !prepare::prepare(&places, args.value("user").unwrap_or("network"))? {
        log::warn(format_args!("no user to become; going on as the one that started this"));
    }
    let only = args.values("interface").map(str::to_owned).collect();
    daemon::serve(Settings { places, only }, &profiles)?;
    Ok(0)
}

fn places(args: &Args) -> Places {
    let path = |flag, default: &str| PathBuf::from(args.value(flag).unwrap_or(default));
    Places {
        run: path("run", "/run"),
        state: path("state", "/var/lib/NetworkManager"),
        profiles: path("profiles", "/etc/NetworkManager/system-connections"),
    }
}
