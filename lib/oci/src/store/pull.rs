//! Pulling an image from a registry into the store.

use super::{ImageStore, NewImage, Progress};
use crate::registry::{Access, Registry};
use crate::{Blob, Digest, Error, ImageConfig, Platform, Reference, Result};
use std::ops::ControlFlow;

/// An image that was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// The image's id.
    pub id: Digest,
    /// The digest that it has in the registry: its manifest's, or that of the index above it.
    pub digest: Digest,
    /// Whether the reference meant something else before, or nothing.
    pub is_new: bool,
}

/// How far a pull is. Layers are told by their blobs' digests.
#[derive(Debug, Clone, Copy)]
pub enum PullStep<'a> {
    /// The layer belongs to the image.
    Layer(&'a Digest),
    /// It is in the store already.
    Exists(&'a Digest),
    /// Bytes of it that came, of how many (0: not known).
    Fetch(&'a Digest, u64, u64),
    /// It is durably in the store.
    Done(&'a Digest),
}

/// Told of each [`PullStep`]; `Break` ends the pull.
pub type OnPull<'a> = dyn FnMut(PullStep<'_>) -> ControlFlow<()> + 'a;

impl ImageStore {
    /// Pulls an image, one layer after the other, each unpacked as it comes. After an error or a power cut the layers that
    /// were complete are there, and the next pull goes on from there; the image exists once all of it does.
    pub fn pull(
        &self,
        reference: &Reference,
        platform: &Platform,
        access: &Access,
        progress: &mut OnPull<'_>,
    ) -> Result<Pulled> {
        let mut registry = Registry::new(reference, access);
        let image = registry.image(reference, platform)?;
        let diff_ids = ImageConfig::parse(&image.config)?.diff_ids()?;
        if diff_ids.len() != image.layers.len() {
            return Err(Error::bad("image config", &"it and the list of layers do not match"));
        }
        let mut tell = |step: PullStep<'_>| {
            if progress(step).is_break() { Err(Error::Cancelled) } else { Ok(()) }
        };
        for layer in &image.layers {
            tell(PullStep::Layer(&layer.digest))?;
        }
        let mut session = self.session();
        for (layer, diff_id) in image.layers.iter().zip(&diff_ids) {
            if session.has_layer(diff_id) {
                tell(PullStep::Exists(&layer.digest))?;
                continue;
            }
            let mut reader = registry.blob(&layer.digest, layer.size, 0);
            let blob = Blob {
                source: &mut |buffer| reader.read(&mut registry, buffer),
                compression: layer.compression,
                digest: Some(&layer.digest),
                size: layer.size,
            };
            session.add_layer(diff_id, blob, &mut |step| match step {
                Progress::Layer { current, total, .. } => {
                    let done = tell(PullStep::Fetch(&layer.digest, current, total));
                    if done.is_err() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                }
                _ => ControlFlow::Continue(()),
            })?;
            tell(PullStep::Done(&layer.digest))?;
        }
        let digest = image.digests.into_iter().next().ok_or_else(|| Error::not_found(reference))?;
        let before = self.get(&reference.familiar()).map(|image| image.id).ok();
        let mut names = vec![Reference { tag: None, digest: Some(digest.clone()), ..reference.clone() }];
        if reference.digest.is_none() {
            names.insert(0, reference.clone());
        }
        let id = session.add_image(NewImage { config: &image.config, names: &names })?.id;
        let is_new = before.as_ref() != Some(&id);
        Ok(Pulled { id, digest, is_new })
    }
}
