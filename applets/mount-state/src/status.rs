//! What is mounted and what is not.

use crate::bind::wanted;
use crate::mount::{is_read_only, is_volatile, table};
use crate::plan::{BINDS, PARTITIONS};
use minke_applet::log;
use minke_wire::mountinfo::{self, Mount};
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
    match entries(root) {
        Ok(entries) => minke_applet::print(&if json { as_json(&entries) } else { as_text(&entries) }),
        Err(error) => {
            log::error(format_args!("{error}"));
            1
        }
    }
}

/// As [`print`], and fails unless everything is as it should be.
pub fn check(root: &Path, json: bool) -> u8 {
    print(root, json);
    let good = entries(root).is_ok_and(|entries| entries.iter().all(|entry| entry.state == "mounted"));
    u8::from(!good)
}

fn entries(root: &Path) -> minke_sys::Result<Vec<Entry>> {
    let table = table()?;
    let entry = |target: &str| {
        let path = root.join(target);
        let found = mountinfo::find(&table, &path.to_string_lossy());
        Entry {
            target: format!("/{target}"),
            state: found.map_or("missing", state),
            source: found.map_or_else(String::new, source),
            kind: found.map_or_else(String::new, |mount| mount.kind.clone()),
        }
    };
    let partitions = PARTITIONS.iter().map(|partition| partition.target);
    let binds = BINDS.iter().filter(|bind| wanted(root, bind)).map(|bind| bind.target);
    Ok(partitions.chain(binds).map(entry).collect())
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
    let list = entries.iter().map(|entry| {
        minke_config::Value::Object(minke_config::Map::from_iter([
            ("target".to_owned(), entry.target.clone().into()),
            ("state".to_owned(), entry.state.into()),
            ("type".to_owned(), entry.kind.clone().into()),
            ("source".to_owned(), entry.source.clone().into()),
        ]))
    });
    let mut text = minke_config::Value::Array(list.collect()).to_string();
    text.push('\n');
    text
}
