//! What is needed to take up an interrupted installation: a record beside the folder, written whenever some more of the
//! files is on the disk.
//!
//! A delta has none. It is a few hundred kilobytes that come once more; what takes its time, the files, stays there when
//! they are right.

use super::files::{Output, Written, read as read_file};
use super::whole::Frames;
use crate::gunzip::{Place, WINDOW};
use crate::hash::Hash;
use crate::layer::Point;
use crate::{Digest, Result};
use minke_sys::{Context, Errno, file};
use minke_wire::text::split_once;
use std::fmt::Write as _;
use std::io::Seek;
use std::mem;
use std::path::{Path, PathBuf};

/// The record's first line; another version's is not understood and the work begins anew.
const HEAD: &[u8] = b"minke resume 2\n";
/// Most bytes of a record.
const MAX_RECORD: usize = 1 << 20;

/// Where an installation can be taken up.
pub(super) struct Saved {
    /// Bytes of the layer's blob that are done.
    pub(super) done: u64,
    place: Place<'static>,
    /// The files that are whole, and the tar's bytes between them.
    pub(super) files: Vec<Written>,
    pub(super) frames: Frames,
    /// The file that is being written.
    path: String,
    size: u64,
    mode: u32,
    /// So many bytes of it are on the disk.
    written: u64,
    /// The hashes of the tar and of that file so far, made of what is on the disk.
    tar: Hash,
    file: Hash,
}

impl Saved {
    /// For the one who reads the layer; once.
    pub(super) fn point(&mut self) -> Point<'_> {
        Point { done: self.done, tar: mem::replace(&mut self.tar, Hash::new()), place: &self.place }
    }

    /// The file that is being written, at its place; once.
    pub(super) fn output(&mut self, target: &Path) -> Result<Output> {
        let path = target.join(&self.path);
        let mut file = file::open(&path, file::Flags::WRONLY | file::Flags::NOFOLLOW)?;
        file.set_len(self.written).on("cut", &path)?;
        file.seek(std::io::SeekFrom::Start(self.written)).on("seek in", &path)?;
        let (hash, path) = (mem::replace(&mut self.file, Hash::new()), mem::take(&mut self.path));
        Ok(Output { path, file, hash, size: self.size, mode: self.mode })
    }

    /// Makes the hashes. `None`: a file is not what it was.
    fn rebuild(&mut self, target: &Path) -> Option<()> {
        let mut from = 0;
        for (number, start) in self.frames.starts.iter().enumerate() {
            self.tar.update(self.frames.bytes.get(from..*start)?);
            from = *start;
            let whole = self.files.get(number);
            let (path, size) = whole.map_or((&self.path, self.written), |file| (&file.path, file.size));
            let path = target.join(path);
            if !minke_sys::status::of_link(&path).ok()?.is_file() {
                return None;
            }
            let (mut hash, tar) = (Hash::new(), &mut self.tar);
            let mut take = |piece: &[u8]| {
                hash.update(piece);
                tar.update(piece);
                Ok(())
            };
            read_file(&path, false, size, &mut take).ok()?;
            if hash.length() != size {
                return None;
            }
            match whole {
                Some(whole) => (hash.finish() == whole.sha256).then_some(())?,
                None => self.file = hash,
            }
        }
        Some(())
    }
}

/// Where the record of a folder stands.
pub(super) fn path(target: &Path) -> Result<PathBuf> {
    let Some(name) = target.file_name() else {
        return Err(minke_sys::Error::new("install into", target.display(), Errno::INVAL).into());
    };
    let mut name = name.to_owned();
    name.push(".resume");
    Ok(target.with_file_name(name))
}

/// Writes the record, after the files. A power cut on the way leaves the record before it, whose files are on the disk as
/// well: what was written to them since then is cut off.
pub(super) fn write(
    path: &Path,
    layer: &Digest,
    (done, place): (u64, &Place<'_>),
    files: &[Written],
    frames: &Frames,
    open: &Output,
) -> Result<()> {
    let start = |number: usize| frames.starts.get(number).copied().unwrap_or_default();
    let (mut text, last) = (String::new(), start(files.len()));
    // Into memory, which does not fail.
    let _ = write!(text, "{layer}\n{done} {} {} {} ", place.next, place.bits, place.count);
    let _ = writeln!(text, "{} {} {} {last} {}", open.hash.length(), open.mode, open.size, open.path);
    for (number, file) in files.iter().enumerate() {
        let _ = writeln!(text, "{} {} {} {}", file.size, start(number), file.sha256.hex(), file.path);
    }
    let mut record = HEAD.to_vec();
    record.extend_from_slice(text.as_bytes());
    record.push(b'\n');
    record.extend_from_slice(&place.window);
    record.extend_from_slice(&frames.bytes);
    Ok(file::write_durable(path, &record, 0o600)?)
}

/// The record, if it is for this layer and the files are as it says.
pub(super) fn read(path: &Path, layer: &Digest, target: &Path) -> Option<Box<Saved>> {
    let record = file::read_optional(path, MAX_RECORD).ok()??;
    let mut saved = parse(&record, layer)?;
    saved.rebuild(target)?;
    Some(saved)
}

fn parse(record: &[u8], layer: &Digest) -> Option<Box<Saved>> {
    let rest = record.strip_prefix(HEAD)?;
    let end = rest.windows(2).position(|two| two == b"\n\n")?;
    let (window, frames) = rest.get(end.checked_add(2)?..)?.split_at_checked(WINDOW)?;
    let mut lines = std::str::from_utf8(rest.get(..end)?).ok()?.split('\n');
    if lines.next()? != layer.as_str() {
        return None;
    }
    let words = &mut lines.next()?;
    let done = number(words)?;
    let (next, bits, count) = (small(words)?, number(words)?, number(words)?);
    let (written, mode, size, last) = (number(words)?, number(words)?, number(words)?, small(words)?);
    let path = (*words).to_owned();
    let (mut files, mut starts) = (Vec::new(), Vec::new());
    for mut words in lines {
        let size = number(&mut words)?;
        starts.push(small(&mut words)?);
        let (sha256, path) = split_once(words, " ")?;
        files.push(Written { path: path.to_owned(), size, sha256: Digest::of_hex(sha256)? });
    }
    starts.push(last);
    // Nothing follows the open file's content so far.
    if written >= size || last != frames.len() {
        return None;
    }
    let (bits, count) = (u8::try_from(bits).ok()?, u8::try_from(count).ok()?);
    Some(Box::new(Saved {
        done,
        place: Place { bits, count, window: window.to_vec().into(), next },
        files,
        frames: Frames { bytes: frames.to_vec(), starts },
        path,
        size,
        mode: u32::try_from(mode).ok()?,
        written,
        tar: Hash::new(),
        file: Hash::new(),
    }))
}

/// The number in front, which is taken away.
#[inline(never)]
fn number(words: &mut &str) -> Option<u64> {
    let (word, rest) = split_once(words, " ")?;
    *words = rest;
    minke_wire::text::number(word)
}

fn small(words: &mut &str) -> Option<usize> {
    usize::try_from(number(words)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_sys::tree::Tree;

    #[test]
    fn a_record_comes_back_and_damage_of_it_is_no_panic() {
        let folder = std::env::temp_dir().join(format!("minke-resume-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(folder.join("new")).unwrap();
        let (target, record) = (folder.join("new"), path(&folder.join("new")).unwrap());
        assert_eq!(record, folder.join("new.resume"));
        let mut open = Output::create(&Tree::open(&target).unwrap(), "boot/a", 1000, 0o644).unwrap();
        open.write(&[7; 300]).unwrap();
        std::fs::write(target.join("b"), "content").unwrap();
        let files = [Written { path: "b".into(), size: 7, sha256: crate::layer::sha256(b"content") }];
        let place = Place { bits: 3, count: 2, window: vec![9; WINDOW].into(), next: 77 };
        let layer = crate::layer::sha256(b"layer");
        let frames = Frames { bytes: b"one, two".to_vec(), starts: vec![3, 8] };
        write(&record, &layer, (100, &place), &files, &frames, &open).unwrap();
        let mut saved = read(&record, &layer, &target).unwrap();
        assert_eq!((saved.done, saved.place.next, saved.files.as_slice()), (100, 77, &files[..]));
        let mut tar = b"onecontent, two".to_vec();
        tar.extend([7; 300]);
        assert_eq!(saved.point().tar.finish(), crate::layer::sha256(&tar));
        let output = saved.output(&target).unwrap();
        assert_eq!((output.hash.length(), output.size), (300, 1000));
        // Another layer's; a file with other content; one that is shorter than it says.
        assert!(read(&record, &crate::layer::sha256(b"other"), &target).is_none());
        std::fs::write(target.join("b"), "Content").unwrap();
        assert!(read(&record, &layer, &target).is_none());
        std::fs::write(target.join("b"), "content").unwrap();
        assert!(read(&record, &layer, &target).is_some());
        output.file.set_len(299).unwrap();
        assert!(read(&record, &layer, &target).is_none());

        let good = std::fs::read(&record).unwrap();
        let mut state = 0x9E37_79B9_7F4A_7C15u64;
        let mut random = |limit: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % limit
        };
        for _ in 0..3000 {
            let mut bytes = good.clone();
            for _ in 0..=random(3) {
                // Mostly in the front, where the document and the hashes are.
                let end = if random(4) == 0 { bytes.len() } else { bytes.len().min(900) };
                let at = random(end);
                match random(3) {
                    0 => bytes[at] = b"\n\"0{}:\xff"[random(7)],
                    1 => bytes.truncate(at.max(1)),
                    _ => bytes[at] ^= 1 << random(8),
                }
            }
            let _ = parse(&bytes, &layer);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
