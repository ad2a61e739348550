//! Opening the store: reading the records, and removing what a power cut left behind.

use super::index::{Index, RECORD_MODE, StoredImage, StoredLayer};
use super::{ImageStore, remove_tree};
use crate::{Digest, Error, Problem, Result};
use minke_store::{Condition, Record};
use minke_sys::{Context, file};
use minke_wire::json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

impl ImageStore {
    /// Opens the store in `root` (`<data root>/image/minke`), makes it when it is not there, and removes what
    /// a power cut left behind. A damaged record costs its own image only and is in the list of problems.
    /// Layers without an image stay, so that an interrupted load or pull goes on from there; see
    /// [`ImageStore::collect`]. [`Error::Conflict`] when another process has it open.
    pub fn open(root: &Path) -> Result<(Self, Vec<Problem>)> {
        for folder in ["l", "layer", "image", "tmp"] {
            file::make_folder(&root.join(folder), 0o700)?;
        }
        let lock = lock(&root.join("lock"))?;
        let mut problems = Vec::new();
        let mut index = Index::default();
        read_records(&root.join("layer"), &mut problems, &mut |diff_id, record, document| {
            let reason = match StoredLayer::decode(diff_id, document, record) {
                Some(layer) if minke_sys::status::is_dir(root.join("l").join(layer.folder.to_string())) => {
                    index.layers.push(layer);
                    return Ok(());
                }
                Some(_) => "its folder is missing",
                None => "not the record of a layer",
            };
            Err(format!("{reason}; the layer is dropped"))
        })?;
        read_records(&root.join("image"), &mut problems, &mut |id, record, document| {
            let reason = match StoredImage::decode(id, document, record) {
                Ok(image) => match image.layers.iter().find(|layer| index.layer(layer).is_none()) {
                    None => {
                        index.insert(image);
                        return Ok(());
                    }
                    Some(layer) => format!("layer {} is missing", layer.short()),
                },
                Err(error) => error.to_string(),
            };
            Err(format!("{reason}; image {} is dropped and must be fetched again", id.short()))
        })?;
        remove_leftovers(root, &mut index, &mut problems)?;
        for (_, number) in index.images.iter().flat_map(|image| &image.names) {
            index.next_naming = index.next_naming.max(number.saturating_add(1));
        }
        Ok((Self { root: root.to_owned(), index: Mutex::new(index), _lock: lock }, problems))
    }
}

fn lock(path: &Path) -> Result<File> {
    let file = minke_sys::file::open(path, minke_sys::file::Flags::WRONLY | minke_sys::file::Flags::CREATE)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Error::conflict(&format_args!("{}: another process has the store open", path.display())))
        }
        Err(std::fs::TryLockError::Error(error)) => Ok(Err(error).on("lock", path)?),
    }
}

/// Takes what a record says, or says why that is of no use.
type Take<'a> = dyn FnMut(&Digest, Record, &Value) -> std::result::Result<(), String> + 'a;

/// Gives the records of a folder to `take`. What it refuses is reported and removed.
fn read_records(folder: &Path, problems: &mut Vec<Problem>, take: &mut Take<'_>) -> Result<()> {
    for (digest, path) in records(folder)? {
        let Some((record, document)) = read_record(&path, problems)? else { continue };
        if let Err(text) = take(&digest, record, &document) {
            // `take` has the record; a second handle on the file removes it.
            Record::open(&path, RECORD_MODE)?.0.remove()?;
            problems.push(Problem { path, text });
        }
    }
    Ok(())
}

/// Opens one record. What has no good copy is reported and removed, so that it is reported once.
fn read_record(path: &Path, problems: &mut Vec<Problem>) -> Result<Option<(Record, Value)>> {
    let (mut record, document, condition) = Record::open(path, RECORD_MODE)?;
    if let Some(text) = condition.problem() {
        let text = match condition {
            Condition::Lost(_) => format!("{text}; it is dropped and must be fetched again"),
            _ => text.to_owned(),
        };
        problems.push(Problem { path: path.to_owned(), text });
    }
    let Some(document) = document else {
        record.remove()?;
        return Ok(None);
    };
    if matches!(condition, Condition::FellBack(_)) {
        // Two good copies again.
        record.write(&document)?;
    }
    Ok(Some((record, document)))
}

/// The records of a folder: digests and paths. A name counts if any copy of it is there.
fn records(folder: &Path) -> Result<Vec<(Digest, PathBuf)>> {
    let mut found: Vec<(Digest, PathBuf)> = Vec::new();
    for name in names(folder)? {
        let plain = name.strip_prefix('.').unwrap_or(&name);
        let plain = plain.strip_suffix(".previous").or_else(|| plain.strip_suffix(".new")).unwrap_or(plain);
        let hex = plain.strip_suffix(".json").unwrap_or_default();
        if let Some(digest) = Digest::of_hex(hex)
            && !found.iter().any(|(known, _)| *known == digest)
        {
            found.push((digest, folder.join(plain)));
        }
    }
    Ok(found)
}

/// Empties `tmp`, and `l` of folders that no record speaks of: layers that were renamed into place before
/// their record was written, or whose record is gone already.
fn remove_leftovers(root: &Path, index: &mut Index, problems: &mut Vec<Problem>) -> Result<()> {
    for layer in &index.layers {
        index.next_folder = index.next_folder.max(layer.folder.saturating_add(1));
    }
    for folder in ["l", "tmp"] {
        for name in names(&root.join(folder))? {
            if folder == "l" && index.layers.iter().any(|layer| layer.folder.to_string() == name) {
                continue;
            }
            let path = root.join(folder).join(&name);
            if let Err(error) = remove_tree(&path) {
                // It costs space, not correctness; but its number must not be given again.
                let number = minke_wire::text::number(&name).unwrap_or(0u64);
                index.next_folder = index.next_folder.max(number.saturating_add(1));
                problems.push(Problem { path, text: format!("leftover cannot be removed: {error}") });
            }
        }
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in minke_sys::tree::Folder::open(folder)?.names()? {
        names.extend(String::from_utf8(name).ok());
    }
    Ok(names)
}
