//! Where a host app comes from.

use crate::archive::{Archive, Section};
use crate::documents::{Image, Layer, candidates, resolve};
use crate::manifest::{blob_path, images, layout_index};
use crate::pipe::{self, Pipe};
use crate::registry::{Access, BlobReader, Registry};
use crate::{Digest, Error, Platform, Reference, Result};
use minke_sys::{Context, file, status};
use minke_wire::json::Value;
use std::path::Path;

/// Standard input as a path.
const STANDARD_INPUT: &str = "/proc/self/fd/0";

/// Where to take an image from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A registry.
    Registry(&'a Reference, &'a Access),
    /// An archive: an OCI layout or a `docker save` in a tar. `-` is standard input, and that or a pipe is read once
    /// from the front, as an OCI layout with the documents first.
    Archive(&'a Path),
}

/// What gives the layer.
pub(super) enum Content<'a> {
    File(Archive, String, u64, u64),
    Pipe(Box<Pipe>, pipe::Content),
    Registry(Box<Registry<'a>>, Option<Box<BlobReader>>),
}

/// Reads an image's documents.
pub(super) fn open<'a>(source: Source<'a>, platform: &Platform) -> Result<(Image, Content<'a>)> {
    match source {
        Source::Registry(reference, access) => {
            let mut registry = Box::new(Registry::new(reference, access));
            let image = registry.image(reference, platform)?;
            Ok((image, Content::Registry(registry, None)))
        }
        Source::Archive(path) => {
            let path = if path.as_os_str() == "-" { Path::new(STANDARD_INPUT) } else { path };
            let opened = file::open_to_read(path)?;
            if status::of_open(&opened)?.is_file() {
                return from_file(path, platform);
            }
            let mut pipe = Box::new(Pipe::new(path, opened));
            let image = from_index(&layout_index(&mut *pipe)?, &mut *pipe, platform)?;
            Ok((image, Content::Pipe(pipe, pipe::Content::Coming(0))))
        }
    }
}

fn from_index(
    index: &Value,
    source: &mut dyn crate::documents::Documents,
    platform: &Platform,
) -> Result<Image> {
    resolve(source, &candidates(index)?, platform)
}

fn from_file(path: &Path, platform: &Platform) -> Result<(Image, Content<'static>)> {
    let archive = Archive::open(path)?;
    if archive.has("index.json") {
        let image = from_index(&layout_index(&mut &archive)?, &mut &archive, platform)?;
        return Ok((image, Content::File(archive, String::new(), 0, 0)));
    }
    // What older engines save has neither a manifest nor annotations.
    let saved = images(&archive, platform)?.into_iter().next();
    let saved = saved.ok_or_else(|| archive.malformed(&"holds no image"))?;
    let mut image =
        Image { digests: Vec::new(), annotations: Value::Null, config: saved.config, layers: Vec::new() };
    let mut member = String::new();
    let diff_ids = crate::ImageConfig::parse(&image.config)?.diff_ids()?;
    for (layer, diff_id) in saved.layers.into_iter().zip(diff_ids) {
        member = layer.member;
        // Only a name for it: the archive tells no digest of the layer as it stands there.
        image.layers.push(Layer { digest: diff_id, size: None, compression: layer.compression });
    }
    Ok((image, Content::File(archive, member, 0, 0)))
}

impl Content<'_> {
    /// Begins to read a layer at a place, and tells its size if that is known.
    pub(super) fn begin(&mut self, digest: &Digest, place: u64, told: Option<u64>) -> Result<Option<u64>> {
        match self {
            Self::File(archive, member, at, size) => {
                if member.is_empty() {
                    *member = blob_path(digest);
                }
                (*at, *size) = (place, archive.content(member)?.size());
                Ok(Some(*size))
            }
            Self::Pipe(pipe, content) => {
                *content = pipe.go_to(digest)?;
                let mut buffer = vec![0; 64 << 10];
                let mut left = place;
                while left > 0 {
                    let count = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
                    let read = pipe.read(content, buffer.get_mut(..count).unwrap_or_default())?;
                    if read == 0 {
                        return Err(Error::bad("layer", &"shorter than what came of it before"));
                    }
                    left = left.saturating_sub(u64::try_from(read).unwrap_or(0));
                }
                Ok(told)
            }
            Self::Registry(registry, reader) => {
                *reader = Some(Box::new(registry.blob(digest, told, place)));
                Ok(told)
            }
        }
    }

    /// Reads on.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        match self {
            Self::File(archive, member, at, _) => {
                let mut section: Section<'_> = archive.content(member)?.after(*at);
                let count = section.read(buffer).on("read", archive.path())?;
                *at = at.saturating_add(u64::try_from(count).unwrap_or(0));
                Ok(count)
            }
            Self::Pipe(pipe, content) => pipe.read(content, buffer),
            Self::Registry(registry, Some(reader)) => reader.read(registry, buffer),
            Self::Registry(_, None) => Ok(0),
        }
    }
}
