//! What is needed to take up an interrupted installation: a record beside the folder, written whenever some more of the
//! files is on the disk.

use super::files::{Output, Written};
use crate::documents::{list, text};
use crate::gunzip::{Place, WINDOW};
use crate::hash::{Hash, take};
use crate::layer::Point;
use crate::{Digest, Result};
use minke_sys::{Errno, file};
use minke_wire::json::json;
use std::io::Seek;
use std::path::{Path, PathBuf};

/// The record's first line; another version's is not understood and the work begins anew.
const HEAD: &[u8] = b"minke resume 1\n";
/// Most bytes of a record.
const MAX_RECORD: usize = 1 << 20;

/// Where an installation can be taken up.
pub(super) struct Saved {
    /// The hashes of the layer's blob, whose length is the place in it, of its tar, and of the open file.
    pub(super) blob: Hash,
    tar: Hash,
    file: Hash,
    place: Place<'static>,
    /// The files that are whole.
    pub(super) files: Vec<Written>,
    /// The file that is being written.
    path: String,
    size: u64,
    mode: u32,
}

impl Saved {
    /// For the one who reads the layer.
    pub(super) fn point(&self) -> Point<'_> {
        Point { blob: &self.blob, tar: &self.tar, place: &self.place }
    }

    /// The file that is being written, at its place.
    pub(super) fn output(&self, target: &Path) -> Result<Output> {
        use minke_sys::Context;
        let path = target.join(&self.path);
        let mut file = file::open(&path, file::Flags::WRONLY | file::Flags::NOFOLLOW)?;
        let place = self.file.length();
        file.set_len(place).on("cut", &path)?;
        file.seek(std::io::SeekFrom::Start(place)).on("seek in", &path)?;
        let (hash, path) = (self.file.clone(), self.path.clone());
        Ok(Output { path, file, hash, size: self.size, mode: self.mode })
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
    point: &Point<'_>,
    files: &[Written],
    open: &Output,
) -> Result<()> {
    let mut list = Vec::new();
    for file in files {
        list.push(json!({ "path": file.path, "size": file.size, "sha256": file.sha256.hex() }));
    }
    let document = json!({
        "layer": layer.as_str(), "files": list, "path": open.path, "size": open.size, "mode": open.mode
    });
    let mut record = HEAD.to_vec();
    record.extend_from_slice(document.to_text().as_bytes());
    record.push(b'\n');
    for hash in [point.blob, point.tar, &open.hash] {
        hash.put_away(&mut record);
    }
    record.extend_from_slice(&[point.place.bits, point.place.count]);
    record.extend_from_slice(&u32::try_from(point.place.next).unwrap_or(u32::MAX).to_le_bytes());
    record.extend_from_slice(&point.place.window);
    Ok(file::write_durable(path, &record, 0o600)?)
}

/// The record, if it is for this layer and the files are as it says.
pub(super) fn read(path: &Path, layer: &Digest, target: &Path) -> Option<Saved> {
    let record = file::read_optional(path, MAX_RECORD).ok()??;
    let saved = parse(&record, layer)?;
    let has = |path: &str, size: u64| {
        minke_sys::status::of_link(target.join(path))
            .is_ok_and(|found| found.is_file() && found.length >= size)
    };
    let whole = saved.files.iter().all(|file| has(&file.path, file.size));
    (whole && has(&saved.path, saved.file.length())).then_some(saved)
}

fn parse(record: &[u8], layer: &Digest) -> Option<Saved> {
    let rest = record.strip_prefix(HEAD)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (document, rest) = rest.split_at_checked(end)?;
    let mut rest = rest.get(1..)?;
    let document = minke_wire::json::parse(document).ok()?;
    if text(&document, "layer") != layer.as_str() {
        return None;
    }
    let mut files = Vec::new();
    for file in list(document.get("files")) {
        let sha256 = Digest::of_hex(text(file, "sha256"))?;
        files.push(Written {
            path: text(file, "path").to_owned(),
            size: file.get("size")?.as_u64()?,
            sha256,
        });
    }
    let blob = Hash::take_up(&mut rest)?;
    let tar = Hash::take_up(&mut rest)?;
    let file = Hash::take_up(&mut rest)?;
    let [bits, count] = take(&mut rest)?;
    let next = usize::try_from(u32::from_le_bytes(take(&mut rest)?)).ok()?;
    let window = (rest.len() == WINDOW).then(|| rest.to_vec().into())?;
    let size = document.get("size")?.as_u64()?;
    let mode = document.get("mode")?.as_u64().and_then(|mode| u32::try_from(mode).ok())?;
    let place = Place { bits, count, window, next };
    (file.length() < size).then_some(())?;
    Some(Saved { blob, tar, file, place, files, path: text(&document, "path").to_owned(), size, mode })
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
        let mut blob = Hash::new();
        blob.update(&[1; 100]);
        let mut open = Output::create(&Tree::open(&target).unwrap(), "boot/a", 1000, 0o644).unwrap();
        open.write(&[7; 300]).unwrap();
        std::fs::write(target.join("b"), "content").unwrap();
        let files = [Written { path: "b".into(), size: 7, sha256: crate::layer::sha256(b"content") }];
        let place = Place { bits: 3, count: 2, window: vec![9; WINDOW].into(), next: 77 };
        let layer = crate::layer::sha256(b"layer");
        write(&record, &layer, &Point { blob: &blob, tar: &blob, place: &place }, &files, &open).unwrap();
        let saved = read(&record, &layer, &target).unwrap();
        assert_eq!((saved.blob.length(), saved.place.next, saved.files.as_slice()), (100, 77, &files[..]));
        let output = saved.output(&target).unwrap();
        assert_eq!((output.hash.length(), output.size), (300, 1000));
        // Another layer's; a file that is shorter than it says.
        assert!(read(&record, &crate::layer::sha256(b"other"), &target).is_none());
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
