//! The encoder: headers and padding around content that the caller writes.

use super::decode::padding;
use super::header::{self, Field};
use super::{BLOCK, Entry, Error, Kind, MAX_EXTENSION, MAX_SIZE};

/// Makes the bytes of an archive, ustar where that is enough, pax where not.
#[derive(Debug, Default)]
pub struct Encoder;

/// Largest value of the octal fields of 8 and 12 bytes.
const MAX_8: u64 = 0o7_777_777;
const MAX_12: u64 = 0o77_777_777_777;

impl Encoder {
    /// Appends a member's header. The caller appends `entry.size` bytes of content and then
    /// [`Encoder::padding`].
    pub fn header(entry: &Entry, out: &mut Vec<u8>) -> Result<(), Error> {
        if entry.path.is_empty() || entry.path.contains(&0) || entry.link.contains(&0) {
            return Err(Error::Path);
        }
        if entry.size > MAX_SIZE || (entry.size > 0 && entry.kind != Kind::File) {
            return Err(Error::Number("size"));
        }
        let records = pax_records(entry);
        if records.len() > MAX_EXTENSION {
            return Err(Error::Extension);
        }
        if !records.is_empty() {
            let mut pax = Entry::new(b"PaxHeaders/member", Kind::File, 0o644);
            pax.size = u64::try_from(records.len()).unwrap_or(0);
            out.extend_from_slice(&block(&pax, b'x')?);
            out.extend_from_slice(&records);
            Self::padding(pax.size, out);
        }
        let kind = match entry.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::CharDevice => b'3',
            Kind::BlockDevice => b'4',
            Kind::Folder => b'5',
            Kind::Fifo => b'6',
        };
        out.extend_from_slice(&block(entry, kind)?);
        Ok(())
    }

    /// Appends what fills the last block of `size` bytes of content.
    pub fn padding(size: u64, out: &mut Vec<u8>) {
        let count = usize::try_from(padding(size)).unwrap_or(0);
        out.resize(out.len().saturating_add(count), 0);
    }

    /// Appends the end mark.
    pub fn end(out: &mut Vec<u8>) {
        out.resize(out.len().saturating_add(2 * BLOCK), 0);
    }
}

/// What ustar cannot say.
fn pax_records(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::new();
    if entry.path.len() > header::NAME.1 {
        record(b"path", &entry.path, &mut out);
    }
    if entry.link.len() > header::LINK.1 {
        record(b"linkpath", &entry.link, &mut out);
    }
    if entry.size > MAX_12 {
        record(b"size", entry.size.to_string().as_bytes(), &mut out);
    }
    if u64::from(entry.uid) > MAX_8 {
        record(b"uid", entry.uid.to_string().as_bytes(), &mut out);
    }
    if u64::from(entry.gid) > MAX_8 {
        record(b"gid", entry.gid.to_string().as_bytes(), &mut out);
    }
    let time = entry.mtime;
    if time.nanoseconds != 0 || !u64::try_from(time.seconds).is_ok_and(|seconds| seconds <= MAX_12) {
        // Before 1970, -1.25 is written for 0.75 after -2.
        let text = match (time.seconds < 0, time.nanoseconds) {
            (_, 0) => time.seconds.to_string(),
            (false, nanoseconds) => format!("{}.{nanoseconds:09}", time.seconds),
            (true, nanoseconds) => {
                let whole = time.seconds.saturating_add(1).unsigned_abs();
                format!("-{whole}.{:09}", 1_000_000_000u32.saturating_sub(nanoseconds))
            }
        };
        record(b"mtime", text.as_bytes(), &mut out);
    }
    for (name, value) in &entry.xattrs {
        let mut key = b"SCHILY.xattr.".to_vec();
        key.extend_from_slice(name);
        record(&key, value, &mut out);
    }
    out
}

/// Appends `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let body = key.len().saturating_add(value.len()).saturating_add(3);
    let mut length = body;
    loop {
        let digits = length.to_string().len();
        let whole = body.saturating_add(digits);
        if whole == length {
            break;
        }
        length = whole;
    }
    out.extend_from_slice(length.to_string().as_bytes());
    out.push(b' ');
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// One header block; what does not fit is left to the pax header before it.
fn block(entry: &Entry, kind: u8) -> Result<[u8; BLOCK], Error> {
    let mut block = [0u8; BLOCK];
    put(&mut block, header::NAME, &entry.path);
    put(&mut block, header::LINK, &entry.link);
    put(&mut block, header::MAGIC, b"ustar\0");
    put(&mut block, header::VERSION, b"00");
    put(&mut block, header::TYPE, &[kind]);
    let seconds = u64::try_from(entry.mtime.seconds).unwrap_or(0);
    for (field, value, name) in [
        (header::MODE, u64::from(entry.mode & 0o7777), "mode"),
        (header::UID, clamp(entry.uid.into(), MAX_8), "uid"),
        (header::GID, clamp(entry.gid.into(), MAX_8), "gid"),
        (header::SIZE, clamp(entry.size, MAX_12), "size"),
        (header::MTIME, clamp(seconds, MAX_12), "mtime"),
        (header::MAJOR, entry.device.0.into(), "devmajor"),
        (header::MINOR, entry.device.1.into(), "devminor"),
    ] {
        let width = field.1.saturating_sub(1);
        let text = format!("{value:0width$o}");
        if text.len() > width {
            return Err(Error::Number(name));
        }
        put(&mut block, field, text.as_bytes());
    }
    let (sum, _) = header::sums(&block);
    put(&mut block, header::CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}

/// The value, or 0 when it is said in the pax header.
fn clamp(value: u64, limit: u64) -> u64 {
    if value > limit { 0 } else { value }
}

fn put(block: &mut [u8; BLOCK], (start, length): Field, bytes: &[u8]) {
    let field = block.get_mut(start..).and_then(|rest| rest.get_mut(..length)).unwrap_or_default();
    for (target, byte) in field.iter_mut().zip(bytes) {
        *target = *byte;
    }
}
