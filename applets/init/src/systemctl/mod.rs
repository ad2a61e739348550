//! The programs that talk to PID 1: `systemctl`, `reboot`, `poweroff`, `halt`, `shutdown`.

mod power;
mod print;
mod trigger;
mod verify;

pub use power::{halt, poweroff, reboot, shutdown};

use crate::unit::load::{Folders, Loaded};
use minke_applet::{Args, EXIT_USAGE, report};
use minke_control::{Error, init};
use minke_wire::json::{Value, json};
use minke_wire::unit::Name;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How long PID 1 may take for an answer that needs no job.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// Exit status of `is-active` for a unit that is not, and of `status` for one that is down: systemctl(1).
const EXIT_INACTIVE: u8 = 3;
/// Exit status for a unit that is not there.
const EXIT_NO_UNIT: u8 = 4;

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// PID 1 said no, or is not to be reached.
    Control(Error),
    /// The command line names no unit.
    NoUnit,
    /// No such command.
    Command(String),
    /// Unit files on the root image cannot be changed.
    ReadOnly,
    /// There is no such unit file.
    NoFile(String),
    /// It cannot be read.
    File(minke_sys::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Control(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(error) => error.fmt(f),
            Self::NoUnit => f.write_str("which unit? see 'systemctl --help'"),
            Self::Command(word) => write!(f, "no command '{word}'; see 'systemctl --help'"),
            Self::ReadOnly => f.write_str(
                "units cannot be enabled or disabled: they are part of the read-only root image. \
                 Which services run follows from config.json",
            ),
            Self::NoFile(name) => write!(f, "no unit file {name}"),
            Self::File(error) => error.fmt(f),
        }
    }
}

/// A command line.
struct Command<'a> {
    args: &'a Args,
    verb: &'a str,
    units: &'a [&'a str],
}

type Run = fn(&Command<'_>) -> Result<u8, Failure>;

const COMMANDS: [(&str, Run); 33] = [
    ("start", job),
    ("stop", job),
    ("restart", job),
    ("try-restart", job),
    ("reload", job),
    ("reload-or-restart", job),
    ("isolate", job),
    ("status", print::status),
    ("show", print::show),
    ("is-active", is_state),
    ("is-failed", is_state),
    ("is-enabled", print::is_enabled),
    ("is-system-running", print::is_system_running),
    ("list-units", print::list_units),
    ("list-jobs", print::list_jobs),
    ("list-timers", trigger::list_timers),
    ("list-paths", trigger::list_paths),
    ("list-dependencies", trigger::list_dependencies),
    ("list-unit-files", print::list_unit_files),
    ("cat", print::cat),
    ("kill", kill),
    ("daemon-reload", reload),
    ("daemon-reexec", reload),
    ("reset-failed", reset_failed),
    ("enable", read_only),
    ("disable", read_only),
    ("mask", read_only),
    ("unmask", read_only),
    ("preset", read_only),
    ("reboot", |command| power::end(init::Ending::Reboot, command.args.has("force"))),
    ("poweroff", |command| power::end(init::Ending::PowerOff, command.args.has("force"))),
    ("halt", |command| power::end(init::Ending::Halt, command.args.has("force"))),
    ("verify", |command| Ok(verify::verify(command.units))),
];

/// The program `systemctl`.
pub fn systemctl(args: &Args) -> u8 {
    let mut words = Vec::new();
    for word in args.operands() {
        words.extend(word.to_str());
    }
    let (verb, units) =
        words.split_first().map_or(("list-units", [].as_slice()), |(verb, units)| (*verb, units));
    let result = match COMMANDS.iter().find(|(name, _)| *name == verb) {
        Some((_, run)) => run(&Command { args, verb, units }),
        None => Err(Failure::Command(verb.to_owned())),
    };
    let usage = matches!(result, Err(Failure::Command(_) | Failure::NoUnit));
    let status = report(result);
    if usage { EXIT_USAGE } else { status }
}

impl<'a> Command<'a> {
    /// The units, of which there must be one at least.
    fn some(&self) -> Result<&'a [&'a str], Failure> {
        if self.units.is_empty() { Err(Failure::NoUnit) } else { Ok(self.units) }
    }
}

fn ask(request: &Value) -> Result<Value, Error> {
    init::request(request, Some(ANSWER_LIMIT))
}

fn simple(request: &Value) -> Result<u8, Failure> {
    ask(request)?;
    Ok(0)
}

/// Asks for a list, which is the member `name` of the answer.
fn ask_list(request: &Value, name: &str) -> Result<Vec<Value>, Failure> {
    match ask(request)?.get_mut(name).map(Value::take) {
        Some(Value::Array(list)) => Ok(list),
        _ => Ok(Vec::new()),
    }
}

fn job(command: &Command<'_>) -> Result<u8, Failure> {
    init::job(command.verb, command.some()?, !command.args.has("no-block"))?;
    Ok(0)
}

fn kill(command: &Command<'_>) -> Result<u8, Failure> {
    let signal = command.args.value("signal").unwrap_or("TERM");
    let whom = command.args.value("kill-whom").unwrap_or("all");
    simple(&json!({ "command": "kill", "units": command.some()?, "signal": signal, "whom": whom }))
}

fn reload(_: &Command<'_>) -> Result<u8, Failure> {
    simple(&json!({ "command": "daemon-reload" }))
}

fn reset_failed(command: &Command<'_>) -> Result<u8, Failure> {
    simple(&json!({ "command": "reset-failed", "units": command.units }))
}

fn read_only(_: &Command<'_>) -> Result<u8, Failure> {
    Err(Failure::ReadOnly)
}

/// The properties of units, in their order.
fn properties(units: &[&str]) -> Result<Vec<Value>, Failure> {
    ask_list(&json!({ "command": "show", "units": units }), "units")
}

fn text<'a>(unit: &'a Value, name: &str) -> &'a str {
    unit.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// `is-active` and `is-failed`.
fn is_state(command: &Command<'_>) -> Result<u8, Failure> {
    let mut status = EXIT_INACTIVE;
    for unit in properties(command.some()?)? {
        let state = text(&unit, "ActiveState");
        let wanted = match command.verb {
            "is-failed" => state == "failed",
            _ => state == "active" || state == "reloading",
        };
        if wanted {
            status = 0;
        }
        if !command.args.has("quiet") {
            minke_applet::outln!("{state}");
        }
    }
    Ok(status)
}

/// The files of a unit, for commands that work without PID 1.
fn files_of(name: &str) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    if let Ok(name) = Name::complete(name)
        && let Loaded::Unit(unit) = Folders::default().load(name.full(), &mut Vec::new())
    {
        files.extend(unit.path);
        files.extend(unit.drop_ins);
    }
    if files.is_empty() { Err(Failure::NoFile(name.to_owned())) } else { Ok(files) }
}
