//! What is mounted and what is not.

use crate::mount::{find, is_read_only, is_volatile, table};
use crate::plan::{BINDS, PARTITIONS};
use minke_applet::log;
use minke_wire::json::{Value, json};
use minke_wire::mountinfo::Mount;
use std::fmt::Write as _;
use std::path::Path;

/// One line of the status.
struct Entry {
    target: String,
    state: &'static str,
    source: String,
    kind: String,
}

/// Prints the status.
pub fn print(root: &Path, json: bool) -> u8 {
    u8::from(show(root, json).is_none())
}

/// As [`print`], and fails unless everything is as it should be.
pub fn check(root: &Path, json: bool) -> u8 {
    u8::from(show(root, json) != Some(true))
}

/// Prints the status and tells whether all is well; `None`: there is none.
fn show(root: &Path, json: bool) -> Option<bool> {
    let table = table().map_err(|error| log::error(format_args!("{error}"))).ok()?;
    let mut entries = Vec::new();
    for partition in &PARTITIONS {
        entries.push(entry(root, &table, partition.target));
    }
    for bind in &BINDS {
        entries.push(entry(root, &table, bind.target));
    }
    minke_applet::print(&if json { as_json(&entries) } else { as_text(&entries) });
    Some(entries.iter().all(|entry| entry.state == "mounted"))
}

fn entry(root: &Path, table: &[Mount], target: &str) -> Entry {
    let mut entry =
        Entry { target: format!("/{target}"), state: "missing", source: String::new(), kind: String::new() };
    if let Some(mount) = find(table, &root.join(target)) {
        entry.state = state(mount);
        entry.source = source(mount);
        entry.kind.clone_from(&mount.kind);
    }
    entry
}

fn state(mount: &Mount) -> &'static str {
    if is_volatile(mount) {
        "volatile"
    } else if is_read_only(mount) {
        "read-only"
    } else {
        "mounted"
    }
}

fn source(mount: &Mount) -> String {
    if mount.root == "/" { mount.source.clone() } else { format!("{}[{}]", mount.source, mount.root) }
}

fn as_text(entries: &[Entry]) -> String {
    let width = entries.iter().map(|entry| entry.target.len()).max().unwrap_or(0);
    let mut text = String::new();
    for entry in entries {
        let line = format!("{:width$}  {:9}  {} {}", entry.target, entry.state, entry.kind, entry.source);
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn as_json(entries: &[Entry]) -> String {
    let mut list = Vec::new();
    for Entry { target, state, source, kind } in entries {
        list.push(json!({ "target": target, "state": state, "type": kind, "source": source }));
    }
    let mut text = Value::Array(list).to_text();
    text.push('\n');
    text
}
