//! The programs that talk to PID 1: `systemctl`, `reboot`, `poweroff`, `halt`, `shutdown`.

mod power;
mod print;
mod verify;

pub use power::{halt, poweroff, reboot, shutdown};

use crate::unit::load::Folders;
use minke_applet::{Args, EXIT_USAGE, log, report};
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

/// The program `systemctl`.
pub fn systemctl(args: &Args) -> u8 {
    let words: Vec<&str> = args.operands().iter().filter_map(|word| word.to_str()).collect();
    let (command, units) = match words.split_first() {
        Some((command, units)) => (*command, units),
        None => ("list-units", [].as_slice()),
    };
    let result = match command {
        "start" | "stop" | "restart" | "try-restart" | "reload" | "reload-or-restart" | "isolate" => {
            job(args, command, units)
        }
        "status" => print::status(args, units),
        "show" => print::show(args, units),
        "is-active" => is_state(args, units, |state| state == "active" || state == "reloading"),
        "is-failed" => is_state(args, units, |state| state == "failed"),
        "is-enabled" => print::is_enabled(units),
        "list-units" => print::list_units(args),
        "list-jobs" => print::list_jobs(args),
        "list-unit-files" => print::list_unit_files(),
        "cat" => print::cat(units),
        "kill" => kill(args, units),
        "daemon-reload" | "daemon-reexec" => simple(&json!({ "command": "daemon-reload" })),
        "reset-failed" => simple(&json!({ "command": "reset-failed", "units": units })),
        "enable" | "disable" | "mask" | "unmask" | "preset" => Err(Failure::ReadOnly),
        "reboot" => power::end(init::Ending::Reboot, args.has("force")),
        "poweroff" => power::end(init::Ending::PowerOff, args.has("force")),
        "halt" => power::end(init::Ending::Halt, args.has("force")),
        "verify" => Ok(verify::verify(units)),
        word => Err(Failure::Command(word.to_owned())),
    };
    if let Err(Failure::Command(_) | Failure::NoUnit) = &result {
        report(result);
        return EXIT_USAGE;
    }
    report(result)
}

fn some<'a>(units: &'a [&'a str]) -> Result<&'a [&'a str], Failure> {
    if units.is_empty() { Err(Failure::NoUnit) } else { Ok(units) }
}

fn ask(request: &Value) -> Result<Value, Error> {
    init::request(request, Some(ANSWER_LIMIT))
}

fn simple(request: &Value) -> Result<u8, Failure> {
    ask(request)?;
    Ok(0)
}

fn job(args: &Args, verb: &str, units: &[&str]) -> Result<u8, Failure> {
    init::job(verb, some(units)?, !args.has("no-block"))?;
    Ok(0)
}

fn kill(args: &Args, units: &[&str]) -> Result<u8, Failure> {
    let signal = args.value("signal").unwrap_or("TERM");
    let whom = args.value("kill-whom").unwrap_or("all");
    simple(&json!({ "command": "kill", "units": some(units)?, "signal": signal, "whom": whom }))
}

/// The properties of units, in their order.
fn properties(units: &[&str]) -> Result<Vec<Value>, Error> {
    let mut answer = ask(&json!({ "command": "show", "units": units }))?;
    match answer.get_mut("units").map(Value::take) {
        Some(Value::Array(units)) => Ok(units),
        _ => Ok(Vec::new()),
    }
}

fn text<'a>(unit: &'a Value, name: &str) -> &'a str {
    unit.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn is_state(args: &Args, units: &[&str], wanted: fn(&str) -> bool) -> Result<u8, Failure> {
    let mut any = false;
    for unit in properties(some(units)?)? {
        let state = text(&unit, "ActiveState");
        any |= wanted(state);
        if !args.has("quiet") {
            println!("{state}");
        }
    }
    Ok(if any { 0 } else { EXIT_INACTIVE })
}

/// The file of a unit, for commands that work without PID 1.
fn file_of(folders: &Folders, name: &str) -> Result<Vec<PathBuf>, Failure> {
    let no_file = || Failure::NoFile(name.to_owned());
    let name = Name::complete(name).map_err(|_| no_file())?;
    match folders.load(name.full(), &mut Vec::new()) {
        crate::unit::load::Loaded::Unit(unit) => {
            let files: Vec<PathBuf> = unit.path.into_iter().chain(unit.drop_ins).collect();
            if files.is_empty() { Err(no_file()) } else { Ok(files) }
        }
        _ => Err(no_file()),
    }
}

/// One line on standard error for what is not an error of the command.
fn remark(message: fmt::Arguments<'_>) {
    log::warn(message);
}
