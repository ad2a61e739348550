//! What is mounted and what is not.

use crate::mount::{find, is_read_only, is_volatile, last_check, table};
use crate::plan::{BINDS, PARTITIONS, Partition};
use minke_applet::log;
use minke_sys::block;
use minke_sys::space::Space;
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
    /// Of partitions.
    details: Option<Details>,
}

/// What is known of a partition.
struct Details {
    uuid: String,
    /// `clean`, `repaired`, `broken`, `unchecked`; empty when stage 1 did not look.
    check: String,
    space: Space,
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
        let mut entry = entry(root, &table, partition.target);
        entry.details = details(root, partition, &entry.source);
        entries.push(entry);
    }
    for bind in &BINDS {
        entries.push(entry(root, &table, bind.target));
    }
    minke_applet::print(&if json { as_json(&entries) } else { as_text(&entries) });
    let well = |entry: &Entry| {
        let check = entry.details.as_ref().map_or("", |details| &details.check);
        let broken = matches!(check, "broken" | "unchecked");
        entry.state == "mounted" && !broken
    };
    Some(entries.iter().all(well))
}

fn entry(root: &Path, table: &[Mount], target: &str) -> Entry {
    let mut entry = Entry {
        target: format!("/{target}"),
        state: "missing",
        source: String::new(),
        kind: String::new(),
        details: None,
    };
    if let Some(mount) = find(table, &root.join(target)) {
        entry.state = state(mount);
        entry.source = source(mount);
        entry.kind.clone_from(&mount.kind);
    }
    entry
}

fn details(root: &Path, partition: &Partition, source: &str) -> Option<Details> {
    let space = minke_sys::space::of(&root.join(partition.target)).ok().filter(|_| !source.is_empty())?;
    let found = block::probe(Path::new(source)).ok().flatten();
    Some(Details {
        uuid: found.and_then(|found| found.uuid).unwrap_or_default(),
        check: last_check(root, partition.label),
        space,
    })
}

/// Whether the device gave this UUID to itself (spec os §1.4.1).
fn is_unique(uuid: &str) -> bool {
    uuid.starts_with("ba1eadef") || uuid.starts_with("BDEF-")
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
        let _ = write!(text, "{:width$}  {:9}  {} {}", entry.target, entry.state, entry.kind, entry.source);
        if let Some(Details { uuid, check, space }) = &entry.details {
            let (total, free) = (space.total >> 20, space.available >> 20);
            let unique = if is_unique(uuid) { "" } else { " (not unique)" };
            let check = if check.is_empty() { "not checked" } else { check };
            let _ = write!(text, "  UUID={uuid}{unique}  {free} of {total} MiB free  {check}");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn as_json(entries: &[Entry]) -> String {
    let mut list = Vec::new();
    for Entry { target, state, source, kind, details } in entries {
        let mut value = json!({ "target": target, "state": state, "type": kind, "source": source });
        if let (Some(Details { uuid, check, space }), Value::Object(map)) = (details, &mut value) {
            map.insert("uuid", json!(uuid));
            map.insert("unique", json!(is_unique(uuid)));
            map.insert("check", json!(check));
            map.insert("size", json!(space.total));
            map.insert("free", json!(space.free));
            map.insert("available", json!(space.available));
        }
        list.push(value);
    }
    let mut text = Value::Array(list).to_text();
    text.push('\n');
    text
}
