//! Pax extended headers: `LENGTH KEY=VALUE\n` records that replace or add to the fields of the next header
//! (`x`) or of all following ones (`g`).

use super::{Error, MAX_SIZE, Time};

/// The prefix of extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// The values that extended headers set. `None`: not set, the ustar field holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Values {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Values {
    /// Applies the records of one extended header. An empty value deletes what was set before.
    pub(super) fn apply(&mut self, mut records: &[u8]) -> Result<(), Error> {
        while !records.is_empty() {
            let (key, value, rest) = record(records).ok_or(Error::Extension)?;
            self.set(key, value)?;
            records = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let given = !value.is_empty();
        match key {
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.link = given.then(|| value.to_vec()),
            b"size" => self.size = optional(value, size, "size")?,
            b"uid" => self.uid = optional(value, id, "uid")?,
            b"gid" => self.gid = optional(value, id, "gid")?,
            b"mtime" => self.mtime = optional(value, time, "mtime")?,
            _ if key.starts_with(b"GNU.sparse.") => return Err(Error::Sparse),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.xattrs.retain(|(known, _)| known != name);
                    // An attribute may well be empty: there the empty value is not a deletion.
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// Splits the first record off: key, value, rest.
fn record(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(records.get(..space)?)?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let body = record.get(space.checked_add(1)?..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    let (key, value) = body.split_at_checked(equals)?;
    (!key.is_empty()).then_some((key, value.get(1..)?, rest))
}

fn optional<T>(
    value: &[u8],
    parse: impl Fn(&[u8]) -> Option<T>,
    name: &'static str,
) -> Result<Option<T>, Error> {
    if value.is_empty() {
        return Ok(None);
    }
    parse(value).map(Some).ok_or(Error::Number(name))
}

fn decimal(text: &[u8]) -> Option<u64> {
    crate::number(text, 10)
}

fn size(text: &[u8]) -> Option<u64> {
    decimal(text).filter(|size| *size <= MAX_SIZE)
}

/// An owner or group; the largest value means "no change" to the kernel and so is none.
fn id(text: &[u8]) -> Option<u32> {
    decimal(text).and_then(|id| u32::try_from(id).ok()).filter(|id| *id != u32::MAX)
}

/// Decimal seconds with an optional sign and fraction. Digits beyond nanoseconds are dropped.
fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|byte| *byte == b'.').unwrap_or(text.len());
    let (seconds, fraction) = text.split_at_checked(point)?;
    let seconds = i64::try_from(decimal(seconds)?).ok()?;
    let mut nanoseconds = 0u32;
    let mut weight = 100_000_000u32;
    for digit in fraction.strip_prefix(b".").unwrap_or_default() {
        if !digit.is_ascii_digit() {
            return None;
        }
        nanoseconds = nanoseconds.checked_add(weight.checked_mul(u32::from(digit & 15))?)?;
        weight /= 10;
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Time { seconds, nanoseconds },
        (true, 0) => Time { seconds: seconds.checked_neg()?, nanoseconds },
        // -1.25 is 0.75 after -2.
        (true, _) => Time {
            seconds: seconds.checked_neg()?.checked_sub(1)?,
            nanoseconds: 1_000_000_000u32.checked_sub(nanoseconds)?,
        },
    })
}
