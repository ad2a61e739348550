//! The durable store of images and layers.
//!
//! On disk, below the root:
//! - `l/N/`: an unpacked layer. The name is short because overlayfs takes all lower folders in one page of
//!   options;
//! - `layer/HEX.json`: the record of the layer with this diff id: its folder `N` and what it holds;
//! - `image/HEX.json`: the record of the image with this id: its configuration and its names;
//! - `tmp/`: layers being unpacked or removed;
//! - `lock`: held while the store is open.
//!
//! A layer is there when its record is; an image when its record is and all its layers are. Whatever no
//! record speaks of is removed when the store is opened. So each operation has one step that decides, the
//! durable write or removal of one record; the steps before it leave nothing that counts, and those after it
//! only tidy up.

mod index;
mod load;
mod open;
mod pull;
mod query;
mod session;

pub use load::LoadedImage;
pub use pull::{OnPull, PullStep, Pulled};
pub use query::Removal;
pub use session::{NewImage, Session};

use crate::{Digest, Error, ImageConfig, Reference, Result};
use index::Index;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One image in the store.
#[derive(Debug, Clone)]
pub struct Image {
    /// The id: the sha256 of its configuration.
    pub id: Digest,
    /// Names with a tag, familiar form (`busybox:latest`, `reg.io/app:v1`), in the order they were given.
    /// `RepoTags` of the Engine API.
    pub tags: Vec<String>,
    /// Names with a manifest digest (`reg.io/app@sha256:…`). `RepoDigests` of the Engine API.
    pub digests: Vec<String>,
    /// The diff ids of its layers, lowest first.
    pub layers: Vec<Digest>,
    /// The bytes of the files in its layers, unpacked (`Size` of the Engine API).
    pub size: u64,
    /// `created` of the configuration (RFC 3339), as written; may be empty.
    pub created: String,
    /// `architecture` of the configuration.
    pub architecture: String,
    /// `os` of the configuration.
    pub os: String,
}

/// How far a load is.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// A layer is being unpacked: bytes of the blob read so far, and all of them (0: not known).
    Layer {
        /// The layer's diff id.
        id: &'a Digest,
        /// Bytes done.
        current: u64,
        /// Bytes in all, or 0.
        total: u64,
    },
    /// A layer was in the store already (`Already exists`).
    LayerExists(&'a Digest),
    /// A layer is durably in the store (`Pull complete`).
    LayerDone(&'a Digest),
    /// An image is durably in the store.
    Image(&'a Digest),
}

/// A callback for [`Progress`]; `Break` cancels the operation.
pub type OnProgress<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// The store. All methods take `&self` and may be called from several threads; unpacking does not block
/// look-ups, durable writes of records do.
#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
    index: Mutex<Index>,
    /// Keeps a second process out as long as this is open.
    _lock: File,
}

impl ImageStore {
    /// All images, in the order of their ids.
    pub fn list(&self) -> Vec<Image> {
        let index = self.index();
        index.images.iter().filter_map(|image| index.image(&image.id)).collect()
    }

    /// An image's configuration, read from the disk. [`Error::NotFound`] when there is no such image.
    pub fn config(&self, id: &Digest) -> Result<ImageConfig> {
        let path = self.image_path(id);
        if self.index().stored(id).is_none() {
            return Err(Error::not_found(id));
        }
        let (_, document, _) = minke_store::Record::open(&path, index::RECORD_MODE)?;
        let text = document.as_ref().and_then(|document| document.get("config")?.as_str());
        let text = text.ok_or_else(|| Error::malformed(&path, &"the image's record is damaged"))?;
        ImageConfig::parse(text.as_bytes())
    }

    /// The folders of an image's layers, lowest first, each once: overlayfs refuses a folder given twice, and
    /// only its uppermost place matters. Layers that another one hides wholly are left out.
    pub fn layers(&self, id: &Digest) -> Result<Vec<PathBuf>> {
        let index = self.index();
        let image = index.stored(id).ok_or_else(|| Error::not_found(id))?;
        let mut folders = Vec::new();
        for diff_id in image.layers.iter().rev() {
            let Some(layer) = index.layer(diff_id) else {
                return Err(Error::malformed(&self.root, &format_args!("layer {diff_id} is missing")));
            };
            let folder = self.layer_folder(layer.folder);
            if !folders.contains(&folder) {
                folders.push(folder);
            }
            if layer.opaque {
                break;
            }
        }
        folders.reverse();
        Ok(folders)
    }

    /// Gives the image that `query` means one more name; the name moves when another image has it.
    ///
    /// The new owner's record is written first and with a higher number, and the highest number counts: a
    /// power cut in between leaves the name at its new owner.
    pub fn tag(&self, query: &str, name: &Reference) -> Result<()> {
        let mut index = self.index();
        let id = index.find(query)?;
        index.add_names(&id, &[name.familiar()])
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // A thread that panicked in the middle has left the disk as a power cut would, and memory behind it.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layer_folder(&self, number: u64) -> PathBuf {
        self.root.join("l").join(number.to_string())
    }

    fn temporary(&self, number: u64) -> PathBuf {
        self.root.join("tmp").join(number.to_string())
    }

    fn image_path(&self, id: &Digest) -> PathBuf {
        record_path(&self.root, "image", id)
    }

    fn layer_path(&self, id: &Digest) -> PathBuf {
        record_path(&self.root, "layer", id)
    }
}

fn record_path(root: &Path, kind: &str, id: &Digest) -> PathBuf {
    let mut name = id.hex().to_owned();
    name.push_str(".json");
    root.join(kind).join(name)
}

/// Removes a folder in `tmp` with all below it.
fn remove_tree(path: &Path) -> minke_sys::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    minke_sys::tree::Folder::open(parent)?.remove(name.as_encoded_bytes())
}
