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
        read_layers(root, &mut index, &mut problems)?;
        read_images(root, &mut index, &mut problems)?;
        remove_leftovers(root, &mut index, &mut problems)?;
        index.next_naming =
            next(index.images.iter().flat_map(|image| &image.names).map(|(_, number)| *number));
        Ok((Self { root: root.to_owned(), index: Mutex::new(index), _lock: lock }, problems))
    }
}

fn lock(path: &Path) -> Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(path).on("open", path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Error::conflict(&format_args!("{}: another process has the store open", path.display())))
        }
        Err(std::fs::TryLockError::Error(error)) => Ok(Err(error).on("lock", path)?),
    }
}

fn read_layers(root: &Path, index: &mut Index, problems: &mut Vec<Problem>) -> Result<()> {
    for (diff_id, path) in records(&root.join("layer"))? {
        let Some((record, document)) = read_record(&path, problems)? else { continue };
        let damaged = |problems: &mut Vec<Problem>, text: &str| {
            problems.push(Problem { path: path.clone(), text: format!("{text}; the layer is dropped") });
        };
        // Decoding takes the record; a second handle on the file removes it if need be.
        match StoredLayer::decode(&diff_id, &document, record) {
            Some(layer) if root.join("l").join(layer.folder.to_string()).is_dir() => {
                index.layers.push(layer);
            }
            Some(layer) => {
                damaged(problems, "its folder is missing");
                layer.record.remove()?;
            }
            None => {
                damaged(problems, "not the record of a layer");
                Record::open(&path, RECORD_MODE)?.0.remove()?;
            }
        }
    }
    Ok(())
}

fn read_images(root: &Path, index: &mut Index, problems: &mut Vec<Problem>) -> Result<()> {
    for (id, path) in records(&root.join("image"))? {
        let Some((record, document)) = read_record(&path, problems)? else { continue };
        let reason = match StoredImage::decode(&id, &document, record) {
            Ok(image) => match image.layers.iter().find(|layer| index.layer(layer).is_none()) {
                None => {
                    index.insert(image);
                    continue;
                }
                Some(layer) => format!("layer {} is missing", layer.short()),
            },
            Err(error) => error.to_string(),
        };
        let text = format!("{reason}; image {} is dropped and must be fetched again", id.short());
        problems.push(Problem { path: path.clone(), text });
        Record::open(&path, RECORD_MODE)?.0.remove()?;
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
        if let Some(digest) = Digest::parse(&format!("sha256:{hex}"))
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
    let mut numbers: Vec<u64> = index.layers.iter().map(|layer| layer.folder).collect();
    let mut doomed: Vec<PathBuf> = Vec::new();
    for name in names(&root.join("l"))? {
        if !numbers.iter().any(|number| number.to_string() == name) {
            doomed.push(root.join("l").join(name));
        }
    }
    for name in names(&root.join("tmp"))? {
        doomed.push(root.join("tmp").join(name));
    }
    for path in doomed {
        if let Err(error) = remove_tree(&path) {
            // It costs space, not correctness; but its number must not be given again.
            numbers.extend(path.file_name().and_then(|name| name.to_str()?.parse::<u64>().ok()));
            problems.push(Problem { path, text: format!("leftover cannot be removed: {error}") });
        }
    }
    index.next_folder = next(numbers.into_iter());
    Ok(())
}

fn next(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.max().map_or(0, |number| number.saturating_add(1))
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let names = minke_sys::tree::Folder::open(folder)?.names()?;
    Ok(names.into_iter().filter_map(|name| String::from_utf8(name).ok()).collect())
}
