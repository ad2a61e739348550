//! Loading an archive.

use super::session::report;
use super::{ImageStore, NewImage, OnProgress, Progress};
use crate::archive::Archive;
use crate::manifest::{self, ArchiveImage};
use crate::{Blob, Digest, Error, ImageConfig, Platform, Result};
use minke_sys::Context;
use std::path::Path;

/// An image that an archive brought.
#[derive(Debug, Clone)]
pub struct LoadedImage {
    /// The id.
    pub id: Digest,
    /// The names that now mean it, with tags and digests.
    pub names: Vec<String>,
    /// Names in the archive that were not taken, each with the reason.
    pub ignored: Vec<String>,
}

impl ImageStore {
    /// Loads all images of an archive made by `docker save` or of an OCI layout in a tar. Several images
    /// for different platforms under one name: the one that fits `platform` best.
    ///
    /// Images are added one after the other; after an error or a power cut those before it are there, and
    /// the layers that were complete, so that loading again goes on from there.
    pub fn load_archive(
        &self,
        path: &Path,
        platform: &Platform,
        progress: &mut OnProgress<'_>,
    ) -> Result<Vec<LoadedImage>> {
        let archive = Archive::open(path)?;
        let mut session = self.session();
        let mut loaded = Vec::new();
        for image in manifest::images(&archive, platform)? {
            let diff_ids = diff_ids(&archive, &image)?;
            for (layer, diff_id) in image.layers.iter().zip(&diff_ids) {
                let mut content = archive.content(&layer.member)?;
                let size = Some(content.size());
                let blob = Blob {
                    source: &mut |buffer| Ok(content.read(buffer).on("read", path)?),
                    compression: layer.compression,
                    digest: layer.digest.as_ref(),
                    size,
                };
                session.add_layer(diff_id, blob, progress)?;
            }
            let names = &image.names;
            let added = session.add_image(NewImage { config: &image.config, names })?;
            report(progress, Progress::Image(&added.id))?;
            let names = names.iter().map(crate::Reference::familiar).collect();
            loaded.push(LoadedImage { id: added.id, names, ignored: image.ignored });
        }
        Ok(loaded)
    }
}

/// The diff ids of an archive's image, one for each layer.
fn diff_ids(archive: &Archive, image: &ArchiveImage) -> Result<Vec<Digest>> {
    let diff_ids = ImageConfig::parse(&image.config)?.diff_ids()?;
    if diff_ids.len() != image.layers.len() {
        return Err(Error::malformed(archive.path(), &"the config and the list of layers do not match"));
    }
    Ok(diff_ids)
}
