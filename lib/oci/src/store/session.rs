//! Adding layers and images.

use super::index::{Index, RECORD_MODE, StoredImage, StoredLayer};
use super::{Image, ImageStore, OnProgress, Progress, remove_tree};
use crate::layer::{self, sha256};
use crate::unpack::Unpacked;
use crate::{Blob, Digest, Error, ImageConfig, Reference, Result};
use minke_store::Record;
use minke_sys::{Context, file};
use std::path::Path;

/// Largest configuration that is taken, in bytes. Real ones have a few thousand.
const MAX_CONFIG: usize = 1 << 20;
/// Most names that one image may have.
const MAX_NAMES: usize = 1000;

/// An image to be added by [`Session::add_image`].
#[derive(Debug, Clone, Copy)]
pub struct NewImage<'a> {
    /// The configuration's bytes; their sha256 becomes the image's id.
    pub config: &'a [u8],
    /// References that shall mean this image from now on, with tags or digests. They move here from the
    /// image that had them.
    pub names: &'a [Reference],
}

/// Work that adds layers and an image: what it has added is not collected before it is dropped. Layers that
/// are complete stay in the store even when the session fails, so that the next try goes on from there.
#[derive(Debug)]
pub struct Session<'a> {
    store: &'a ImageStore,
    pinned: Vec<Digest>,
}

impl ImageStore {
    /// Begins to add layers and an image (a pull, an import).
    pub fn session(&self) -> Session<'_> {
        Session { store: self, pinned: Vec::new() }
    }
}

impl Session<'_> {
    /// Whether a layer is in the store already; if so, it stays there for this session.
    pub fn has_layer(&mut self, diff_id: &Digest) -> bool {
        let mut index = self.store.index();
        pin(&mut index, &mut self.pinned, diff_id)
    }

    /// Unpacks a layer and keeps it durably. The blob's digest and the diff id are verified.
    ///
    /// Power cut at each step:
    /// 1. while it is unpacked in `tmp`: the folder is removed when the store is opened again;
    /// 2. after syncfs and the rename to `l`: no record speaks of it, so it is removed as well;
    /// 3. after its record: the layer is there, and an image's next load finds it.
    pub fn add_layer(
        &mut self,
        diff_id: &Digest,
        blob: Blob<'_>,
        progress: &mut OnProgress<'_>,
    ) -> Result<()> {
        if self.has_layer(diff_id) {
            return report(progress, Progress::LayerExists(diff_id));
        }
        let number = {
            let mut index = self.store.index();
            let number = index.next_folder;
            index.next_folder = number.saturating_add(1);
            number
        };
        let folder = self.store.temporary(number);
        let done = self.unpack(diff_id, blob, &folder, progress);
        let done = done.and_then(|unpacked| self.keep(diff_id, number, &unpacked));
        // Unless it was renamed it is of no use: after an error, or when another thread was faster.
        if minke_sys::status::exists(&folder) {
            let removed = remove_tree(&folder);
            if done.is_ok() {
                removed?;
            }
        }
        done?;
        report(progress, Progress::LayerDone(diff_id))
    }

    /// Adds an image whose layers are all in the store, and gives it names. The write of its record is what
    /// makes it exist. An image that is there already only gets the names.
    pub fn add_image(&mut self, image: NewImage<'_>) -> Result<Image> {
        let fail = |reason: &str| Error::bad("image config", &reason);
        if image.config.len() > MAX_CONFIG {
            return Err(fail("too large"));
        }
        if image.names.len() > MAX_NAMES {
            return Err(fail("too many names"));
        }
        let text = std::str::from_utf8(image.config).map_err(|_| fail("not UTF-8"))?;
        let config = ImageConfig::parse(image.config)?;
        let id = sha256(image.config);
        for diff_id in config.diff_ids()? {
            if !self.has_layer(&diff_id) {
                return Err(Error::not_found(&format_args!("layer {diff_id}")));
            }
        }
        let names: Vec<String> = image.names.iter().map(Reference::familiar).collect();
        let mut index = self.store.index();
        if index.stored(&id).is_none() {
            let path = self.store.image_path(&id);
            let (mut record, _, _) = Record::open(&path, RECORD_MODE)?;
            let mut named: Vec<(String, u64)> = Vec::new();
            for name in &names {
                if !named.iter().any(|(known, _)| known == name) {
                    named.push((name.clone(), index.next_naming));
                    index.next_naming = index.next_naming.saturating_add(1);
                }
            }
            record.write(&StoredImage::document(text, &named))?;
            index.insert(StoredImage::new(&id, &config, named, record)?);
            index.drop_claims(&id, &names)?;
        }
        index.add_names(&id, &names)?;
        index.image(&id).ok_or_else(|| Error::not_found(&id))
    }

    fn unpack(
        &self,
        diff_id: &Digest,
        blob: Blob<'_>,
        folder: &Path,
        progress: &mut OnProgress<'_>,
    ) -> Result<Unpacked> {
        // An image is not worth the blocks by which the device stays usable on a full disk.
        let _limit = minke_sys::capability::out_of_reserve();
        file::make_folder(folder, 0o700)?;
        let total = blob.size.unwrap_or(0);
        let unpacked = layer::unpack(blob, diff_id, folder, &mut |current| {
            progress(Progress::Layer { id: diff_id, current, total })
        })?;
        file::sync_file_system(&self.store.root)?;
        Ok(unpacked)
    }

    /// Moves an unpacked layer into place and writes its record.
    fn keep(&mut self, diff_id: &Digest, number: u64, unpacked: &Unpacked) -> Result<()> {
        let mut index = self.store.index();
        // Another thread may have been faster.
        if !pin(&mut index, &mut self.pinned, diff_id) {
            let (from, to) = (self.store.temporary(number), self.store.layer_folder(number));
            std::fs::rename(&from, &to).on("rename", &from)?;
            file::sync_parent(&to)?;
            let (mut record, _, _) = Record::open(&self.store.layer_path(diff_id), RECORD_MODE)?;
            record.write(&StoredLayer::document(diff_id, number, unpacked))?;
            let (bytes, opaque) = (unpacked.bytes, unpacked.opaque);
            let id = diff_id.clone();
            index.layers.push(StoredLayer { diff_id: id, record, folder: number, bytes, opaque });
            pin(&mut index, &mut self.pinned, diff_id);
        }
        Ok(())
    }
}

/// Keeps a layer that is there for a session; tells whether it is there.
fn pin(index: &mut Index, pinned: &mut Vec<Digest>, diff_id: &Digest) -> bool {
    let there = index.layer(diff_id).is_some();
    if there && !pinned.contains(diff_id) {
        index.pins.push(diff_id.clone());
        pinned.push(diff_id.clone());
    }
    there
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        let mut index = self.store.index();
        for diff_id in &self.pinned {
            if let Some(place) = index.pins.iter().position(|pin| pin == diff_id) {
                index.pins.swap_remove(place);
            }
        }
    }
}

/// Tells the progress, or cancels.
pub(super) fn report(progress: &mut OnProgress<'_>, what: Progress<'_>) -> Result<()> {
    if progress(what).is_break() { Err(Error::Cancelled) } else { Ok(()) }
}
