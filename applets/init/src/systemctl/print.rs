//! What `systemctl` shows.

use super::{EXIT_INACTIVE, EXIT_NO_UNIT, Failure, ask, file_of, properties, some, text};
use crate::unit::load::Folders;
use minke_applet::{Args, print};
use minke_sys::process::{self, Spawn};
use minke_wire::json::{Value, json};
use std::ffi::CString;
use std::fmt::Write;
use std::io::Read;
use std::os::unix::net::UnixStream;

/// Bytes of a unit file.
const FILE_LIMIT: usize = 256 << 10;
/// Log lines that `status` shows without `--lines`.
const LINES: &str = "10";

pub fn status(args: &Args, units: &[&str]) -> Result<u8, Failure> {
    if units.is_empty() {
        return system_status();
    }
    let mut status = 0;
    for unit in properties(units)? {
        if args.has("json") {
            println!("{unit}");
        } else {
            print_status(args, &unit);
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
    let mut page = String::new();
    let (id, load) = (text(unit, "Id"), text(unit, "LoadState"));
    if load != "loaded" {
        println!("{id}: {}", text(unit, "LoadError"));
        return;
    }
    let number = |name: &str| unit.get(name).and_then(Value::as_u64).unwrap_or(0);
    let (active, sub) = (text(unit, "ActiveState"), text(unit, "SubState"));
    let _ = writeln!(page, "{id} - {}", text(unit, "Description"));
    let _ = writeln!(
        page,
        "     Loaded: {load} ({}; {})",
        text(unit, "FragmentPath"),
        text(unit, "UnitFileState")
    );
    if !text(unit, "DropInPaths").is_empty() {
        let _ = writeln!(page, "    Drop-In: {}", text(unit, "DropInPaths"));
    }
    let result = text(unit, "Result");
    let result = if result == "success" { String::new() } else { format!("; result: {result}") };
    let _ = writeln!(page, "     Active: {active} ({sub}{result})");
    if text(unit, "ConditionResult") == "no" {
        page.push_str("  Condition: start condition not met\n");
    }
    if number("MainPID") > 0 {
        let _ = writeln!(page, "   Main PID: {}", number("MainPID"));
    } else if !text(unit, "ExecMainCode").is_empty() {
        let status = unit.get("ExecMainStatus").and_then(Value::as_i64).unwrap_or(0);
        let _ = writeln!(page, "    Process: {}, status={status}", text(unit, "ExecMainCode"));
    }
    if number("NRestarts") > 0 {
        let _ = writeln!(page, "   Restarts: {}", number("NRestarts"));
    }
    if !text(unit, "StatusText").is_empty() {
        let _ = writeln!(page, "     Status: {}", text(unit, "StatusText"));
    }
    if let Ok(bytes) = text(unit, "MemoryCurrent").parse::<u64>() {
        let _ = writeln!(page, "     Memory: {} KiB", bytes / 1024);
    }
    print(&page);
    print_log(args, id);
}

/// The unit's last log lines, from the journal's own program.
fn print_log(args: &Args, id: &str) {
    let lines = args.value("lines").unwrap_or(LINES);
    if lines == "0" {
        return;
    }
    if let Some(log) = output_of(&["journalctl", "-u", id, "-n", lines, "--no-pager"])
        && !log.is_empty()
    {
        print(&format!("\n{log}"));
    }
}

/// What another program of this binary prints, if it succeeds.
fn output_of(words: &[&str]) -> Option<String> {
    let (mut reader, writer) = UnixStream::pair().ok()?;
    let mut command = Spawn::new(c"/proc/self/exe");
    command.arguments = words.iter().filter_map(|word| CString::new(*word).ok()).collect();
    command.stdio[1] = Some(writer.into());
    let pid = command.start().ok()?;
    // Ours must be closed, or the reader would wait for itself.
    drop(command);
    let mut output = Vec::new();
    reader.read_to_end(&mut output).ok()?;
    let success = process::wait(pid).ok()?.success();
    success.then(|| String::from_utf8_lossy(&output).into_owned())
}

fn system_status() -> Result<u8, Failure> {
    let (units, jobs) = (list("list-units", "units")?, list("list-jobs", "jobs")?);
    let failed = units.iter().filter(|unit| text(unit, "active") == "failed").count();
    let state = match (jobs.len(), failed) {
        (0, 0) => "running",
        (0, _) => "degraded",
        _ => "starting",
    };
    println!(
        "    State: {state}\n     Jobs: {} queued\n   Failed: {failed} units\n    Units: {} loaded",
        jobs.len(),
        units.len()
    );
    Ok(0)
}

fn list(command: &str, member: &str) -> Result<Vec<Value>, Failure> {
    let mut answer = ask(&json!({ "command": command }))?;
    match answer.get_mut(member).map(Value::take) {
        Some(Value::Array(list)) => Ok(list),
        _ => Ok(Vec::new()),
    }
}

pub fn show(args: &Args, units: &[&str]) -> Result<u8, Failure> {
    let wanted: Vec<&str> = args.values("property").flat_map(|value| value.split(',')).collect();
    for unit in properties(some(units)?)? {
        let Value::Object(members) = &unit else { continue };
        if args.has("json") {
            println!("{unit}");
            continue;
        }
        for (name, value) in
            members.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(&name.as_str()))
        {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if args.has("value") { println!("{value}") } else { println!("{name}={value}") }
        }
        println!();
    }
    Ok(0)
}

pub fn list_units(args: &Args) -> Result<u8, Failure> {
    let mut units = list("list-units", "units")?;
    if args.has("failed") {
        units.retain(|unit| text(unit, "active") == "failed");
    } else if !args.has("all") {
        units.retain(|unit| text(unit, "active") != "inactive");
    }
    if args.has("json") {
        println!("{}", Value::Array(units));
        return Ok(0);
    }
    table(&units, &["unit", "load", "active", "sub", "description"], args.has("no-legend"));
    Ok(0)
}

pub fn list_jobs(args: &Args) -> Result<u8, Failure> {
    let jobs = list("list-jobs", "jobs")?;
    if args.has("json") {
        println!("{}", Value::Array(jobs));
    } else if jobs.is_empty() {
        println!("No jobs.");
    } else {
        table(&jobs, &["job", "unit", "type", "state"], args.has("no-legend"));
    }
    Ok(0)
}

/// Rows with aligned columns under upper-case headings.
fn table(rows: &[Value], columns: &[&str], bare: bool) {
    let cell = |row: &Value, name: &str| match row.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    };
    let width =
        |name: &str| rows.iter().map(|row| cell(row, name).len()).chain([name.len()]).max().unwrap_or(0);
    let mut page = String::new();
    let mut line = |cells: Vec<String>| {
        let mut text = String::new();
        for (cell, name) in cells.iter().zip(columns) {
            let width = width(name);
            let _ = write!(text, "{cell:width$}  ");
        }
        let _ = writeln!(page, "{}", text.trim_end());
    };
    if !bare {
        line(columns.iter().map(|name| name.to_ascii_uppercase()).collect());
    }
    for row in rows {
        line(columns.iter().map(|name| cell(row, name)).collect());
    }
    print(&page);
}

pub fn list_unit_files() -> Result<u8, Failure> {
    for name in Folders::default().names() {
        println!("{name}");
    }
    Ok(0)
}

pub fn is_enabled(units: &[&str]) -> Result<u8, Failure> {
    let mut status = 0;
    for unit in properties(some(units)?)? {
        let state = match text(&unit, "LoadState") {
            "loaded" => text(&unit, "UnitFileState"),
            other => other,
        };
        println!("{state}");
        if !matches!(state, "enabled" | "static") {
            status = 1;
        }
    }
    Ok(status)
}

pub fn cat(units: &[&str]) -> Result<u8, Failure> {
    let folders = Folders::default();
    for name in some(units)? {
        for path in file_of(&folders, name)? {
            let content = minke_sys::file::read_bounded(&path, FILE_LIMIT).map_err(Failure::File)?;
            print(&format!("# {}\n{}\n", path.display(), String::from_utf8_lossy(&content)));
        }
    }
    Ok(0)
}
