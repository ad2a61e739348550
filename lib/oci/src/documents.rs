//! From an index or a manifest to the image for a platform, wherever the documents come from: an archive, a
//! pipe or a registry (OCI image-spec 1.1, `image-index.md`, `manifest.md`).

use crate::archive::MAX_DOCUMENT;
use crate::layer::{sha256, verify};
use crate::{Compression, Digest, Error, MAX_LAYERS, MediaType, Platform, Result};
use minke_wire::json::Value;
use std::borrow::Cow;

/// Most images of one index.
const MAX_IMAGES: usize = 1024;
/// Deepest nesting of indexes.
const MAX_DEPTH: usize = 4;

/// Where documents come from.
pub(crate) trait Documents {
    /// The document of this name; registries have none.
    fn named(&mut self, name: &str) -> Result<Value>;
    /// The bytes with this digest, at most [`MAX_DOCUMENT`], not verified yet: an index or a manifest, or
    /// else a configuration.
    fn blob(&mut self, digest: &Digest, is_manifest: bool) -> Result<Vec<u8>>;
    /// What errors call it.
    fn name(&self) -> Cow<'_, str>;
}

/// One image, its layers not yet read.
#[derive(Debug)]
pub(crate) struct Image {
    /// The digests of the indexes and of the manifest that led to it, in this order.
    pub(crate) digests: Vec<Digest>,
    /// The manifest's annotations, or null.
    pub(crate) annotations: Value,
    /// The configuration's bytes, verified.
    pub(crate) config: Vec<u8>,
    /// The layers, lowest first.
    pub(crate) layers: Vec<Layer>,
}

/// One layer of it.
#[derive(Debug)]
pub(crate) struct Layer {
    /// The blob's digest.
    pub(crate) digest: Digest,
    /// The blob's length, if it is told.
    pub(crate) size: Option<u64>,
    /// How it is compressed, as its media type says.
    pub(crate) compression: Compression,
}

/// The image that descriptors mean on this platform.
pub(crate) fn resolve(
    source: &mut dyn Documents,
    descriptors: &[&Value],
    platform: &Platform,
) -> Result<Image> {
    let mut digests = Vec::new();
    let document = follow(source, choose(descriptors, platform)?, &mut digests)?;
    image_of(source, document, digests, platform)
}

/// The image that an index or a manifest means, whose digest is the last of `digests`.
pub(crate) fn image_of(
    source: &mut dyn Documents,
    mut document: Value,
    mut digests: Vec<Digest>,
    platform: &Platform,
) -> Result<Image> {
    for _ in 0..MAX_DEPTH {
        if document.get("manifests").is_none() {
            break;
        }
        document = follow(source, choose(&candidates(&document)?, platform)?, &mut digests)?;
    }
    let Some(config) = document.get("config") else {
        return Err(malformed(source, &"an image manifest is expected"));
    };
    let (_, config) = read(source, config, false)?;
    let descriptors = list(document.get("layers"));
    if descriptors.len() > MAX_LAYERS {
        return Err(malformed(source, &"more than 127 layers"));
    }
    let mut layers = Vec::new();
    for descriptor in descriptors {
        layers.push(layer_of(source, descriptor)?);
    }
    let annotations = document.get("annotations").cloned().unwrap_or_default();
    Ok(Image { digests, annotations, config, layers })
}

/// Reads the index or manifest that a descriptor means, and notes its digest.
fn follow(source: &mut dyn Documents, descriptor: &Value, digests: &mut Vec<Digest>) -> Result<Value> {
    let (digest, content) = read(source, descriptor, true)?;
    let document = minke_wire::json::parse(&content);
    let document = document.map_err(|error| malformed(source, &format_args!("{digest}: {error}")))?;
    digests.push(digest);
    Ok(document)
}

fn layer_of(source: &dyn Documents, descriptor: &Value) -> Result<Layer> {
    let digest = digest_of(source, descriptor)?;
    let media_type = text(descriptor, "mediaType");
    let compression = match MediaType::of(media_type) {
        MediaType::Layer(compression) => compression,
        MediaType::Other if media_type.is_empty() => Compression::Unknown,
        _ => return Err(Error::unsupported(&format_args!("layers of type {media_type}"))),
    };
    let size = descriptor.get("size").and_then(Value::as_u64);
    Ok(Layer { digest, size, compression })
}

/// Reads a small blob and verifies its digest and size.
fn read(source: &mut dyn Documents, descriptor: &Value, is_manifest: bool) -> Result<(Digest, Vec<u8>)> {
    let digest = digest_of(source, descriptor)?;
    let size = descriptor.get("size").and_then(Value::as_u64);
    let content = match size {
        Some(size) if size > MAX_DOCUMENT => Vec::new(),
        _ => source.blob(&digest, is_manifest)?,
    };
    if size.is_some_and(|size| u64::try_from(content.len()) != Ok(size)) {
        return Err(malformed(source, &format_args!("{digest} does not have the size that is told")));
    }
    verify("document", &digest, sha256(&content))?;
    Ok((digest, content))
}

fn digest_of(source: &dyn Documents, descriptor: &Value) -> Result<Digest> {
    let digest = Digest::parse(text(descriptor, "digest"));
    let digest = digest.ok_or_else(|| malformed(source, &"a descriptor without digest"))?;
    if digest.algorithm() != "sha256" {
        return Err(Error::unsupported(&format_args!("digests with {}", digest.algorithm())));
    }
    Ok(digest)
}

/// The descriptors of an index that can be images.
pub(crate) fn candidates(index: &Value) -> Result<Vec<&Value>> {
    let mut all: Vec<&Value> = Vec::new();
    for descriptor in bounded(list(index.get("manifests")))? {
        if is_image(descriptor) {
            all.push(descriptor);
        }
    }
    Ok(all)
}

/// The descriptor that fits the platform best. A single one without a platform is taken as it is.
fn choose<'a>(descriptors: &[&'a Value], platform: &Platform) -> Result<&'a Value> {
    let mut best = None;
    let mut available = Vec::new();
    for descriptor in descriptors {
        let fitness = match descriptor.get("platform") {
            Some(wanted) => {
                let wanted = platform_of(wanted);
                available.push(wanted.to_string());
                wanted.fitness(platform)
            }
            None => Some(0),
        };
        // The first of equals, as the specification says.
        if fitness > best.map(|(fitness, _)| fitness) {
            best = fitness.map(|fitness| (fitness, *descriptor));
        }
    }
    if let Some((_, descriptor)) = best {
        return Ok(descriptor);
    }
    let available = if available.is_empty() { "none".to_owned() } else { available.join(", ") };
    Err(Error::Platform { wanted: platform.to_string().into(), available: available.into() })
}

fn platform_of(value: &Value) -> Platform {
    let text = |key| text(value, key).to_owned();
    Platform { os: text("os"), architecture: text("architecture"), variant: text("variant") }
}

/// The text of a member; empty when it is missing or no text.
#[inline(never)]
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a descriptor of an index can be an image: not an attestation, a signature or another artifact.
fn is_image(descriptor: &Value) -> bool {
    let media_type = text(descriptor, "mediaType");
    let annotation = |key| descriptor.get("annotations").and_then(|all| all.get(key));
    let known = matches!(MediaType::of(media_type), MediaType::Index | MediaType::Manifest);
    known
        && annotation("vnd.docker.reference.type").is_none()
        && descriptor.get("artifactType").is_none_or(Value::is_null)
}

#[cold]
fn malformed(source: &dyn Documents, reason: &dyn std::fmt::Display) -> Error {
    Error::Malformed { what: source.name().into(), reason: reason.to_string().into() }
}

#[inline(never)]
pub(crate) fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

pub(crate) fn bounded(entries: &[Value]) -> Result<&[Value]> {
    if entries.len() > MAX_IMAGES {
        return Err(Error::bad("index", &"too many images"));
    }
    Ok(entries)
}
