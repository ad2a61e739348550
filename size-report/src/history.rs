//! The tables: target, item, bytes, separated by tabs; and the history, one line a measurement.

use crate::{Error, Item};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

/// Reads a table; one that is not there is empty. Lines that begin with `#` are comments.
pub(crate) fn read_table(path: &Path) -> Result<Vec<Item>, Error> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::File(path.to_owned(), error)),
    };
    let mut items = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split('\t').collect();
        let [target, name, bytes] = fields.as_slice() else {
            return Err(Error::Format(path.to_owned(), format!("line {}: not three fields", number + 1)));
        };
        let bytes = bytes
            .parse()
            .map_err(|_| Error::Format(path.to_owned(), format!("line {}: not a number", number + 1)))?;
        items.push(Item::new(target, *name, bytes));
    }
    Ok(items)
}

/// Writes a table.
pub(crate) fn write_table(path: &Path, items: &[Item]) -> Result<(), Error> {
    let mut text = String::new();
    for item in items {
        let _ = writeln!(text, "{}\t{}\t{}", item.target, item.name, item.bytes);
    }
    std::fs::write(path, text).map_err(|error| Error::File(path.to_owned(), error))
}

/// Appends the totals to `history.csv` and keeps the whole measurement in `recorded.tsv`. Targets and items
/// that were not measured this time keep their last record.
pub(crate) fn record(folder: &Path, items: &[Item]) -> Result<(), Error> {
    let path = folder.join("history.csv");
    let mut text =
        std::fs::read_to_string(&path).unwrap_or_else(|_| "date,commit,target,item,bytes\n".to_owned());
    let (date, commit) = head()?;
    for item in items.iter().filter(|item| !item.name.starts_with("crate:")) {
        let _ = writeln!(text, "{date},{commit},{},{},{}", item.target, item.name, item.bytes);
    }
    std::fs::write(&path, text).map_err(|error| Error::File(path, error))?;
    let path = folder.join("recorded.tsv");
    let measured = |old: &Item| {
        let kind = |name: &str| name.split(':').next().unwrap_or_default().to_owned();
        items.iter().any(|new| new.target == old.target && kind(&new.name) == kind(&old.name))
    };
    let mut all: Vec<Item> = read_table(&path)?.into_iter().filter(|old| !measured(old)).collect();
    all.extend_from_slice(items);
    all.sort_by(|a, b| (&a.target, &a.name).cmp(&(&b.target, &b.name)));
    write_table(&path, &all)
}

/// Date and short id of the commit that is measured.
fn head() -> Result<(String, String), Error> {
    let output = Command::new("git")
        .args(["log", "-1", "--format=%cs %h"])
        .output()
        .map_err(|error| Error::Command(format!("git log: {error}")))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    text.split_once(' ')
        .map(|(date, commit)| (date.to_owned(), commit.to_owned()))
        .ok_or_else(|| Error::Command("git log: no commit here".to_owned()))
}
