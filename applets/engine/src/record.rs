//! Durable records, with what is wrong with them in the log.

use crate::error::Result;
use minke_store::Record;
use minke_wire::json::Value;
use std::fmt::Arguments;
use std::path::Path;

/// A record and its document; null for one that is not there or damaged.
type Opened = Box<(Record, Value)>;

/// Opens a record; `whose` it is stands before what is logged.
pub fn open(path: &Path, whose: Arguments<'_>) -> Result<Opened> {
    let (record, document, condition) = Record::open(path, 0o600)?;
    if let Some(problem) = condition.problem() {
        minke_applet::log::error(format_args!("{whose}: {problem}"));
    }
    Ok(Box::new((record, document.unwrap_or_default())))
}

/// As [`open`]; an error of the disk goes to the log as well.
pub fn read(path: &Path, whose: Arguments<'_>) -> Option<Opened> {
    let opened = open(path, whose);
    if let Err(error) = &opened {
        minke_applet::log::error(format_args!("{whose}: {error}"));
    }
    opened.ok()
}
