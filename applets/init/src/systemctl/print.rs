//! What `systemctl` shows.

use super::{Command, EXIT_INACTIVE, EXIT_NO_UNIT, Failure, ask_list, files_of, properties, text};
use crate::unit::load::Folders;
use minke_applet::{Args, print};
use minke_sys::process::{self, Spawn};
use minke_wire::json::{Value, json};
use std::ffi::CString;
use std::fmt::Write;

/// Bytes of a unit file.
const FILE_LIMIT: usize = 256 << 10;
/// Log lines that `status` shows without `--lines`.
const LINES: &str = "10";

pub fn status(command: &Command<'_>) -> Result<u8, Failure> {
    if command.units.is_empty() {
        return system_status();
    }
    let mut status = 0;
    for unit in properties(command.units)? {
        if command.args.has("json") {
            minke_applet::outln!("{unit}");
        } else {
            print_status(command.args, &unit);
        }
        let down = matches!(text(&unit, "ActiveState"), "inactive" | "failed");
        status = match text(&unit, "LoadState") {
            "not-found" => EXIT_NO_UNIT,
            _ if down => EXIT_INACTIVE,
            _ => status,
        };
    }
    Ok(status)
}

fn print_status(args: &Args, unit: &Value) {
    let text = |name: &str| text(unit, name);
    let (id, load) = (text("Id"), text("LoadState"));
    if load != "loaded" {
        minke_applet::outln!("{id}: {}", text("LoadError"));
        return;
    }
    let mut page = Page { unit, text: format!("{id} - {}\n", text("Description")) };
    page.row("Loaded", &format!("{load} ({}; {})", text("FragmentPath"), text("UnitFileState")));
    page.property("Drop-In", "DropInPaths");
    let (active, sub, result) = (text("ActiveState"), text("SubState"), text("Result"));
    let (remark, result) = if result == "success" { ("", "") } else { ("; result: ", result) };
    page.row("Active", &format!("{active} ({sub}{remark}{result})"));
    if text("ConditionResult") == "no" {
        page.row("Condition", "start condition not met");
    }
    if !page.property("Main PID", "MainPID") && !text("ExecMainCode").is_empty() {
        let status = unit.get("ExecMainStatus").map(plain).unwrap_or_default();
        page.row("Process", &format!("{}, status={status}", text("ExecMainCode")));
    }
    page.property("Restarts", "NRestarts");
    page.property("Status", "StatusText");
    page.property("Trigger", "NextElapseUSecRealtime");
    page.property("Triggers", "Triggers");
    page.property("TriggeredBy", "TriggeredBy");
    if let Some(bytes) = minke_wire::text::number::<u64>(text("MemoryCurrent")) {
        page.row("Memory", &format!("{} KiB", bytes / 1024));
    }
    print(&page.text);
    print_log(args, id);
}

/// What `status` shows of a unit.
struct Page<'a> {
    unit: &'a Value,
    text: String,
}

impl Page<'_> {
    fn row(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.text, "{name:>11}: {value}");
    }

    /// Shows a property that has a value, and says whether it has.
    fn property(&mut self, name: &str, property: &str) -> bool {
        let value = self.unit.get(property).filter(|value| value.as_i64() != Some(0)).map(plain);
        let Some(value) = value.filter(|value| !value.is_empty()) else { return false };
        self.row(name, &value);
        true
    }
}

/// The unit's last log lines, which the journal's own program prints.
fn print_log(args: &Args, id: &str) {
    let lines = args.value("lines").unwrap_or(LINES);
    if lines == "0" {
        return;
    }
    let mut command = Spawn::new(c"/proc/self/exe");
    command.arguments.clear();
    for word in ["journalctl", "-u", id, "-n", lines] {
        command.arguments.extend(CString::new(word));
    }
    minke_applet::outln!();
    let _ = command.start().and_then(process::wait);
}

fn system_status() -> Result<u8, Failure> {
    let system = System::ask()?;
    minke_applet::outln!(
        "    State: {}\n     Jobs: {} queued\n   Failed: {} units\n    Units: {} loaded",
        system.state(),
        system.jobs,
        system.failed,
        system.units
    );
    Ok(0)
}

pub fn is_system_running(command: &Command<'_>) -> Result<u8, Failure> {
    let state = System::ask()?.state();
    if !command.args.has("quiet") {
        minke_applet::outln!("{state}");
    }
    Ok(u8::from(state != "running"))
}

/// How the system does, in numbers of units and jobs.
struct System {
    units: usize,
    failed: usize,
    jobs: usize,
}

impl System {
    fn ask() -> Result<Self, Failure> {
        let (units, jobs) = (list("list-units", "units")?, list("list-jobs", "jobs")?);
        let failed = units.iter().filter(|unit| text(unit, "active") == "failed").count();
        Ok(Self { units: units.len(), failed, jobs: jobs.len() })
    }

    fn state(&self) -> &'static str {
        match (self.jobs, self.failed) {
            (0, 0) => "running",
            (0, _) => "degraded",
            _ => "starting",
        }
    }
}

pub fn list(command: &str, member: &str) -> Result<Vec<Value>, Failure> {
    ask_list(&json!({ "command": command }), member)
}

pub fn show(command: &Command<'_>) -> Result<u8, Failure> {
    let args = command.args;
    let mut wanted = Vec::new();
    for value in args.values("property") {
        wanted.extend(value.split(','));
    }
    for (index, unit) in properties(command.some()?)?.iter().enumerate() {
        if args.has("json") {
            minke_applet::outln!("{unit}");
            continue;
        }
        if index > 0 {
            minke_applet::outln!();
        }
        for (name, value) in unit.as_object().into_iter().flatten() {
            if !wanted.is_empty() && !wanted.contains(&name.as_str()) {
                continue;
            }
            let value = plain(value);
            if args.has("value") {
                minke_applet::outln!("{value}");
            } else {
                minke_applet::outln!("{name}={value}");
            }
        }
    }
    Ok(0)
}

/// A text as it is, anything else as JSON.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub fn list_units(command: &Command<'_>) -> Result<u8, Failure> {
    let mut units = list("list-units", "units")?;
    let (kind, state) = (command.args.value("type"), command.args.value("state"));
    let state = if command.args.has("failed") { Some("failed") } else { state };
    units.retain(|unit| {
        let (active, sub) = (text(unit, "active"), text(unit, "sub"));
        let in_state = match state {
            Some(states) => states.split(',').any(|state| state == active || state == sub),
            None => command.args.has("all") || active != "inactive",
        };
        let of_kind = |kinds: &str| {
            let own = text(unit, "unit").rsplit_once('.').map_or("", |(_, kind)| kind);
            kinds.split(',').any(|kind| kind == own)
        };
        in_state && kind.is_none_or(of_kind)
    });
    table(command.args, units, &["unit", "load", "active", "sub", "description"]);
    Ok(0)
}

pub fn list_jobs(command: &Command<'_>) -> Result<u8, Failure> {
    let jobs = list("list-jobs", "jobs")?;
    if jobs.is_empty() && !command.args.has("json") {
        minke_applet::outln!("No jobs.");
    } else {
        table(command.args, jobs, &["job", "unit", "type", "state"]);
    }
    Ok(0)
}

/// Rows with aligned columns under upper-case headings, or the same as JSON.
pub fn table(args: &Args, rows: Vec<Value>, columns: &[&str]) {
    if args.has("json") {
        minke_applet::outln!("{}", Value::Array(rows));
        return;
    }
    let cell = |row: &Value, name: &str| row.get(name).map(plain).unwrap_or_default();
    let mut widths = Vec::new();
    for name in columns {
        let width = rows.iter().map(|row| cell(row, name).len()).max().unwrap_or(0);
        widths.push(width.max(name.len()));
    }
    let mut page = String::new();
    let mut line = |cell: &dyn Fn(&str) -> String| {
        let mut text = String::new();
        for (name, width) in columns.iter().zip(&widths) {
            let _ = write!(text, "{:width$}  ", cell(name));
        }
        let _ = writeln!(page, "{}", text.trim_end());
    };
    if !args.has("no-legend") {
        line(&|name| name.to_ascii_uppercase());
    }
    for row in &rows {
        line(&|name| cell(row, name));
    }
    print(&page);
}

pub fn list_unit_files(_: &Command<'_>) -> Result<u8, Failure> {
    for name in Folders::default().names() {
        minke_applet::outln!("{name}");
    }
    Ok(0)
}

pub fn is_enabled(command: &Command<'_>) -> Result<u8, Failure> {
    let mut status = 0;
    for unit in properties(command.some()?)? {
        let state = match text(&unit, "LoadState") {
            "loaded" => text(&unit, "UnitFileState"),
            other => other,
        };
        minke_applet::outln!("{state}");
        if !matches!(state, "enabled" | "static") {
            status = 1;
        }
    }
    Ok(status)
}

pub fn cat(command: &Command<'_>) -> Result<u8, Failure> {
    for name in command.some()? {
        for path in files_of(name)? {
            let content = minke_sys::file::read_bounded(&path, FILE_LIMIT).map_err(Failure::File)?;
            print(&format!("# {}\n{}\n", path.display(), String::from_utf8_lossy(&content)));
        }
    }
    Ok(0)
}
