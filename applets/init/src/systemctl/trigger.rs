//! `list-timers`, `list-paths`, `list-dependencies`.

use super::print::{list, table};
use super::{Command, Failure, properties, text};
use minke_wire::json::{Value, json};
use std::fmt::Write;

/// How deep dependencies are followed, should they go in a circle.
const DEPTH: usize = 16;

pub fn list_timers(command: &Command<'_>) -> Result<u8, Failure> {
    let mut timers = list("list-timers", "timers")?;
    if !command.args.has("all") {
        timers.retain(|timer| micros(timer, "next").is_some());
    }
    sort(&mut timers);
    if command.args.has("json") {
        table(command.args, timers, &[]);
        return Ok(0);
    }
    let mut rows = Vec::new();
    for timer in &timers {
        rows.push(json!({
            "next": date(micros(timer, "next")), "left": span(micros(timer, "left")),
            "last": date(micros(timer, "last")), "passed": span(micros(timer, "passed")),
            "unit": text(timer, "unit"), "activates": text(timer, "activates"),
        }));
    }
    table(command.args, rows, &["next", "left", "last", "passed", "unit", "activates"]);
    Ok(0)
}

/// The next first; what never comes is last. There are few, and a sort of std's has 400 bytes.
fn sort(timers: &mut [Value]) {
    for place in 0..timers.len() {
        let rest = timers.get_mut(place..).unwrap_or_default();
        let next = |timer: &Value| micros(timer, "next").unwrap_or(i64::MAX);
        if let Some((first, _)) = rest.iter().enumerate().min_by_key(|(_, timer)| next(timer)) {
            rest.swap(0, first);
        }
    }
}

pub fn list_paths(command: &Command<'_>) -> Result<u8, Failure> {
    table(command.args, list("list-paths", "paths")?, &["path", "condition", "unit", "activates"]);
    Ok(0)
}

fn micros(timer: &Value, name: &str) -> Option<i64> {
    timer.get(name).and_then(Value::as_i64)
}

/// A moment, in microseconds since 1970.
fn date(moment: Option<i64>) -> String {
    moment.map_or_else(|| "-".to_owned(), |moment| crate::date(moment / 1_000_000))
}

/// A span in microseconds by its two largest units.
fn span(micros: Option<i64>) -> String {
    let Some(micros) = micros else { return "-".to_owned() };
    let mut rest = u32::try_from(micros / 1_000_000).unwrap_or(u32::MAX);
    let (mut text, mut words) = (String::new(), 0);
    for (unit, size) in [("d ", 86_400), ("h ", 3_600), ("min ", 60), ("s ", 1)] {
        let count = rest / size;
        rest %= size;
        if words < 2 && (count > 0 || size == 1 && words == 0) {
            words += 1;
            let _ = write!(text, "{count}{unit}");
        }
    }
    text.truncate(text.trim_end().len());
    text
}

pub fn list_dependencies(command: &Command<'_>) -> Result<u8, Failure> {
    let units = if command.units.is_empty() { &["default.target"] } else { command.units };
    let relations: &[&str] = if command.args.has("reverse") {
        &["RequiredBy", "WantedBy"]
    } else {
        &["Requires", "BindsTo", "Wants"]
    };
    for unit in units {
        minke_applet::outln!("{unit}");
        tree(unit, relations, &mut vec![(*unit).to_owned()], 1)?;
    }
    Ok(0)
}

/// The units that `unit` pulls in, and below each of them its own, unless it stood already.
fn tree(unit: &str, relations: &[&str], seen: &mut Vec<String>, depth: usize) -> Result<(), Failure> {
    let Some(properties) = properties(&[unit])?.pop() else { return Ok(()) };
    for relation in relations {
        for name in text(&properties, relation).split_whitespace() {
            let known = seen.iter().any(|other| other == name);
            minke_applet::outln!("{:width$}{name}", "", width = depth * 2);
            if !known && depth < DEPTH {
                seen.push(name.to_owned());
                tree(name, relations, seen, depth.saturating_add(1))?;
            }
        }
    }
    Ok(())
}
