//! One JSON document as a durable file.
//!
//! The file is itself JSON, so that people can read it: `{"crc32":"…","record":DOCUMENT}`. The checksum is
//! over the bytes of the document as they stand there.

use minke_sys::file;
use minke_wire::crc32;
use minke_wire::json::Value;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Largest record that is read or written, in bytes: far more than any state of ours, far less than memory.
pub const MAX_RECORD: usize = 4 << 20;

/// What precedes the checksum's eight hex digits.
const HEAD: &[u8] = b"{\"crc32\":\"";
/// What stands between checksum and document.
const MIDDLE: &[u8] = b"\",\"record\":\n";
/// What follows the document.
const TAIL: &[u8] = b"\n}\n";

/// A failed operation on a record.
#[derive(Debug)]
pub enum Error {
    /// A system call failed; the record is as before, or (after a failed fsync of the folder) as written.
    System(minke_sys::Error),
    /// The document is larger than [`MAX_RECORD`]; nothing was written.
    TooLarge(PathBuf),
}

/// The result of an operation on a record.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => error.fmt(f),
            Self::TooLarge(path) => write!(f, "write {}: more than {MAX_RECORD} bytes", path.display()),
        }
    }
}

impl std::error::Error for Error {}

impl From<minke_sys::Error> for Error {
    fn from(error: minke_sys::Error) -> Self {
        Self::System(error)
    }
}

/// In which condition a record was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// There was none.
    Missing,
    /// The newest copy is good.
    Good,
    /// The newest copy is missing or damaged, as the text says; the one before it was taken.
    FellBack(String),
    /// There were copies and none is good, as the text says.
    Lost(String),
}

impl Condition {
    /// The text to log, when something was wrong.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Missing | Self::Good => None,
            Self::FellBack(text) | Self::Lost(text) => Some(text),
        }
    }
}

/// A durable JSON document with the good copy before it (`.NAME.previous`).
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    mode: u32,
    /// Whether the newest copy is good, so that it may become the previous one.
    current_is_good: bool,
}

/// One step of a write. They stand in a list so that a test can cut the power after each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Write the new copy beside the record and bring it to the disk.
    WriteNew,
    /// Let the newest copy become the previous one.
    KeepPrevious,
    /// Let the new copy become the newest one.
    Replace,
    /// Bring the names to the disk.
    SyncFolder,
}

/// The steps of a write, and what a power cut after each leaves, on a journalled file system:
/// 1. `WriteNew`: the record as it was, and a leftover that the next write replaces;
/// 2. `KeepPrevious`: no newest copy, but the previous one, which is what the record was;
/// 3. `Replace`: whatever the two renames' order on the disk allows: as after 1, as after 2, or the new
///    content with what was before it as the previous copy;
/// 4. `SyncFolder`: the new content. Only now the write is acknowledged.
///
/// When the newest copy is damaged, `KeepPrevious` is left out: it would replace the last good copy.
fn steps(current_is_good: bool) -> &'static [Step] {
    const ALL: [Step; 4] = [Step::WriteNew, Step::KeepPrevious, Step::Replace, Step::SyncFolder];
    const REPAIR: [Step; 3] = [Step::WriteNew, Step::Replace, Step::SyncFolder];
    if current_is_good { &ALL } else { &REPAIR }
}

impl Record {
    /// Opens the record at `path` and returns its newest good document, `None` if there is none. `mode` is
    /// for files that are written. A damaged file is no error; see the [`Condition`]. An error is one of the
    /// disk: nothing is known then, and nothing should be written.
    pub fn open(path: &Path, mode: u32) -> Result<(Self, Option<Value>, Condition)> {
        let mut record = Self { path: path.to_owned(), mode, current_is_good: false };
        let newest = read(path)?;
        if let Found::Good(value) = newest {
            record.current_is_good = true;
            return Ok((record, Some(value), Condition::Good));
        }
        let condition =
            |text: String, good| if good { Condition::FellBack(text) } else { Condition::Lost(text) };
        Ok(match (newest, read(&record.side("previous"))?) {
            (Found::Damaged(reason), Found::Good(value)) => {
                let text = format!("{}: {reason}; took the copy before it", path.display());
                (record, Some(value), condition(text, true))
            }
            (_, Found::Good(value)) => {
                let text = format!("{}: missing; took the copy before it", path.display());
                (record, Some(value), condition(text, true))
            }
            (Found::Damaged(reason), _) | (_, Found::Damaged(reason)) => {
                let text = format!("{}: {reason}; there is no good copy", path.display());
                (record, None, condition(text, false))
            }
            _ => (record, None, Condition::Missing),
        })
    }

    /// Replaces the document durably. When this returns, the document survives a power cut; until then the
    /// old or the new one does.
    pub fn write(&mut self, document: &Value) -> Result<()> {
        let content = encode(document);
        if content.len() > MAX_RECORD {
            return Err(Error::TooLarge(self.path.clone()));
        }
        for step in steps(self.current_is_good) {
            self.execute(*step, &content)?;
        }
        self.current_is_good = true;
        Ok(())
    }

    /// Removes the record durably. The previous copy goes first: else a power cut in between would bring
    /// it back.
    pub fn remove(self) -> Result<()> {
        file::remove_durable(&self.side("previous"))?;
        file::remove_durable(&self.side("new"))?;
        Ok(file::remove_durable(&self.path)?)
    }

    /// Where the record is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn execute(&mut self, step: Step, content: &[u8]) -> Result<()> {
        use minke_sys::Context;
        let fresh = self.side("new");
        match step {
            Step::WriteNew => {
                let written = write_new(&fresh, content, self.mode);
                if written.is_err() {
                    // A full disk must not keep the half-written copy.
                    let _ = std::fs::remove_file(&fresh);
                }
                written?;
            }
            Step::KeepPrevious => {
                std::fs::rename(&self.path, self.side("previous")).on("rename", &self.path)?;
                // Until the next step has succeeded there is no newest copy that may be moved aside.
                self.current_is_good = false;
            }
            Step::Replace => std::fs::rename(&fresh, &self.path).on("rename", &fresh)?,
            Step::SyncFolder => file::sync_parent(&self.path)?,
        }
        Ok(())
    }

    fn side(&self, suffix: &str) -> PathBuf {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.path.file_name().unwrap_or_default());
        name.push(".");
        name.push(suffix);
        self.path.with_file_name(name)
    }
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> minke_sys::Result<()> {
    use minke_sys::Context;
    // What a cut-off write left may have another mode or be a link.
    let _ = std::fs::remove_file(path);
    let mut file = minke_sys::file::open_with_mode(path, minke_sys::file::CREATE_NEW, mode)?;
    file.write_all(content).on("write", path)?;
    file.sync_all().on("fsync", path)
}

enum Found {
    Missing,
    Good(Value),
    Damaged(&'static str),
}

fn read(path: &Path) -> Result<Found> {
    match file::read_optional(path, MAX_RECORD) {
        Ok(None) => Ok(Found::Missing),
        Ok(Some(content)) => Ok(decode(&content).map_or_else(Found::Damaged, Found::Good)),
        Err(error) if error.errno == minke_sys::Errno::FBIG => Ok(Found::Damaged("too large")),
        // A bad sector or a folder in the file's place is damage to this copy alone.
        Err(error) if [minke_sys::Errno::IO, minke_sys::Errno::ISDIR].contains(&error.errno) => {
            Ok(Found::Damaged("not readable"))
        }
        Err(error) => Err(error.into()),
    }
}

fn encode(document: &Value) -> Vec<u8> {
    let text = document.to_string();
    let mut content = Vec::with_capacity(text.len().saturating_add(40));
    content.extend_from_slice(HEAD);
    content.extend_from_slice(format!("{:08x}", crc32::update(0, text.as_bytes())).as_bytes());
    content.extend_from_slice(MIDDLE);
    content.extend_from_slice(text.as_bytes());
    content.extend_from_slice(TAIL);
    content
}

fn decode(content: &[u8]) -> std::result::Result<Value, &'static str> {
    let (checksum, rest) =
        content.strip_prefix(HEAD).and_then(|rest| rest.split_at_checked(8)).ok_or("not a record")?;
    let text = rest
        .strip_prefix(MIDDLE)
        .and_then(|rest| rest.strip_suffix(TAIL))
        .ok_or("cut short, or not a record")?;
    let checksum = std::str::from_utf8(checksum).ok().and_then(|hex| minke_wire::text::in_base(hex, 16));
    if checksum != Some(crc32::update(0, text)) {
        return Err("wrong checksum");
    }
    minke_wire::json::parse(text).map_err(|_| "not JSON")
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
