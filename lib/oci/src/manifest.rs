//! Which images an archive holds: the documents of `docker save` (`manifest.json`) and of the OCI layout
//! (image-spec 1.1, `image-layout.md`, `image-index.md`, `manifest.md`).

use crate::archive::{Archive, MAX_DOCUMENT};
use crate::layer::{sha256, verify};
use crate::{Compression, Digest, Error, MAX_LAYERS, MediaType, Platform, Reference, Result};
use minke_wire::json::Value;

/// Most images of one archive.
const MAX_IMAGES: usize = 1024;
/// Deepest nesting of indexes.
const MAX_DEPTH: usize = 4;

/// One image of an archive, its blobs not yet read.
#[derive(Debug)]
pub struct ArchiveImage {
    /// The configuration's bytes, verified.
    pub config: Vec<u8>,
    /// The layers, lowest first.
    pub layers: Vec<ArchiveLayer>,
    /// References that the archive gives it.
    pub names: Vec<Reference>,
    /// Names that are not taken, with the reason.
    pub ignored: Vec<String>,
}

/// One layer of such an image.
#[derive(Debug)]
pub struct ArchiveLayer {
    /// The member of the archive.
    pub member: String,
    /// How it is compressed, as its media type says.
    pub compression: Compression,
    /// The blob's digest, if it is told.
    pub digest: Option<Digest>,
}

/// Lists the images of an archive.
pub fn images(archive: &Archive, platform: &Platform) -> Result<Vec<ArchiveImage>> {
    let images = if archive.has("manifest.json") {
        // `docker save` since version 25 writes both; this one is complete by itself.
        docker_images(archive)?
    } else if archive.has("index.json") {
        layout_images(archive, platform)?
    } else {
        return Err(archive.missing("manifest.json or index.json"));
    };
    if images.is_empty() {
        return Err(archive.malformed(&"holds no image"));
    }
    Ok(images)
}

fn docker_images(archive: &Archive) -> Result<Vec<ArchiveImage>> {
    let document = json(archive, "manifest.json", &archive.document("manifest.json")?)?;
    let entries = document.as_array().ok_or_else(|| archive.malformed(&"manifest.json is no list"))?;
    let mut images = Vec::new();
    for entry in bounded(archive, entries)? {
        images.push(docker_image(archive, entry)?);
    }
    Ok(images)
}

fn docker_image(archive: &Archive, entry: &Value) -> Result<ArchiveImage> {
    let config_name = entry.get("Config").and_then(Value::as_str);
    let config_name = config_name.ok_or_else(|| archive.malformed(&"manifest.json: no Config"))?;
    let config = archive.document(config_name)?;
    // Both `HEX.json` and `blobs/sha256/HEX` name the digest.
    let stem = config_name.rsplit('/').next().unwrap_or_default();
    if let Some(expected) = hex_digest(stem.strip_suffix(".json").unwrap_or(stem)) {
        verify("image config", &expected, sha256(&config))?;
    }
    let mut image = ArchiveImage { config, layers: Vec::new(), names: Vec::new(), ignored: Vec::new() };
    for layer in list(entry.get("Layers")) {
        let member = layer.as_str().ok_or_else(|| archive.malformed(&"manifest.json: bad Layers"))?;
        let digest = member.strip_prefix("blobs/sha256/").and_then(hex_digest);
        let compression = Compression::Unknown;
        image.layers.push(ArchiveLayer { member: member.to_owned(), compression, digest });
    }
    for tag in list(entry.get("RepoTags")) {
        image.name(tag.as_str().unwrap_or_default(), &[]);
    }
    Ok(image)
}

fn hex_digest(hex: &str) -> Option<Digest> {
    Digest::parse(&format!("sha256:{hex}"))
}

fn layout_images(archive: &Archive, platform: &Platform) -> Result<Vec<ArchiveImage>> {
    let layout = json(archive, "oci-layout", &archive.document("oci-layout")?)?;
    let version = text(&layout, "imageLayoutVersion");
    if !version.starts_with("1.") {
        return Err(Error::unsupported(&format_args!("OCI image layout version '{version}'")));
    }
    let index = json(archive, "index.json", &archive.document("index.json")?)?;
    let mut descriptors = candidates(archive, &index)?;
    let mut images = Vec::new();
    let mut add =
        |name, group: &[&Value]| layout_image(archive, name, group, platform).map(|image| images.push(image));
    // Manifests for several platforms may stand here under one name: one image each name.
    while let Some(name) =
        descriptors.iter().map(|descriptor| name_of(descriptor)).find(|name| !name.is_empty())
    {
        add(name, &take(&mut descriptors, &|descriptor| name_of(descriptor) == name))?;
    }
    // Without names, manifests that say for which platform they are, are variants of one image.
    let variants = take(&mut descriptors, &|descriptor| descriptor.get("platform").is_some());
    if !variants.is_empty() {
        add("", &variants)?;
    }
    for single in descriptors {
        add("", &[single])?;
    }
    Ok(images)
}

/// Takes those out that `is_meant` says.
fn take<'a>(descriptors: &mut Vec<&'a Value>, is_meant: &dyn Fn(&Value) -> bool) -> Vec<&'a Value> {
    let mut taken = Vec::new();
    descriptors.retain(|descriptor| {
        let is_meant = is_meant(descriptor);
        if is_meant {
            taken.push(*descriptor);
        }
        !is_meant
    });
    taken
}

/// The descriptors of an index that can be images.
fn candidates<'a>(archive: &Archive, index: &'a Value) -> Result<Vec<&'a Value>> {
    let mut all: Vec<&Value> = Vec::new();
    for descriptor in bounded(archive, list(index.get("manifests")))? {
        if is_image(descriptor) {
            all.push(descriptor);
        }
    }
    Ok(all)
}

/// The image that a name's descriptors mean on this platform.
fn layout_image(
    archive: &Archive,
    name: &str,
    descriptors: &[&Value],
    platform: &Platform,
) -> Result<ArchiveImage> {
    let mut digests = Vec::new();
    let mut document = follow(archive, choose(descriptors, platform)?, &mut digests)?;
    for _ in 0..MAX_DEPTH {
        if document.get("manifests").is_none() {
            break;
        }
        document = follow(archive, choose(&candidates(archive, &document)?, platform)?, &mut digests)?;
    }
    let config = document.get("config").ok_or_else(|| archive.malformed(&"an image manifest is expected"))?;
    let (_, config) = blob_document(archive, config)?;
    let layers = list(document.get("layers"));
    if layers.len() > MAX_LAYERS {
        return Err(archive.malformed(&"more than 127 layers"));
    }
    let mut image = ArchiveImage { config, layers: Vec::new(), names: Vec::new(), ignored: Vec::new() };
    for layer in layers {
        image.layers.push(layer_of(archive, layer)?);
    }
    if !name.is_empty() {
        image.name(name, &digests);
    }
    Ok(image)
}

/// Reads the index or manifest that a descriptor means, and notes its digest.
fn follow(archive: &Archive, descriptor: &Value, digests: &mut Vec<Digest>) -> Result<Value> {
    let (digest, content) = blob_document(archive, descriptor)?;
    let document = json(archive, digest.as_str(), &content)?;
    digests.push(digest);
    Ok(document)
}

fn layer_of(archive: &Archive, descriptor: &Value) -> Result<ArchiveLayer> {
    let digest = digest_of(archive, descriptor)?;
    let member = blob_path(&digest);
    let media_type = text(descriptor, "mediaType");
    let compression = match MediaType::of(media_type) {
        MediaType::Layer(compression) => compression,
        MediaType::Other if media_type.is_empty() => Compression::Unknown,
        _ => return Err(Error::unsupported(&format_args!("layers of type {media_type}"))),
    };
    if !archive.has(&member) {
        return Err(archive.missing(&format!("layer {digest}")));
    }
    Ok(ArchiveLayer { member, compression, digest: Some(digest) })
}

impl ArchiveImage {
    /// Takes a name from the archive. `digests` are those of the manifest and of the indexes above it: a
    /// name with one of these is true, and a plain name gets one with each, as a pull would give it.
    fn name(&mut self, text: &str, digests: &[Digest]) {
        let reference = match Reference::parse(text) {
            Ok(reference) => reference,
            Err(error) => return self.ignored.push(error.to_string()),
        };
        if let Some(digest) = &reference.digest {
            if !digests.contains(digest) {
                return self.ignored.push(format!("{text}: the archive's manifest has another digest"));
            }
        } else {
            self.names.push(reference.clone());
        }
        for digest in digests {
            let tag = None;
            self.names.push(Reference { tag, digest: Some(digest.clone()), ..reference.clone() });
        }
    }
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
fn text<'a>(value: &'a Value, key: &str) -> &'a str {
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

/// The name of a descriptor: containerd's full one, else the specification's, which may be a tag only.
fn name_of(descriptor: &Value) -> &str {
    let annotation = |key: &str| descriptor.get("annotations")?.get(key)?.as_str();
    annotation("io.containerd.image.name")
        .or_else(|| annotation("org.opencontainers.image.ref.name"))
        .unwrap_or_default()
}

/// Reads a small blob and verifies its digest and size.
fn blob_document(archive: &Archive, descriptor: &Value) -> Result<(Digest, Vec<u8>)> {
    let digest = digest_of(archive, descriptor)?;
    let content = archive.document(&blob_path(&digest))?;
    let size = descriptor.get("size").and_then(Value::as_u64);
    if size.is_some_and(|size| size > MAX_DOCUMENT || u64::try_from(content.len()) != Ok(size)) {
        return Err(archive.malformed(&format_args!("{digest} does not have the size that is told")));
    }
    verify("document", &digest, sha256(&content))?;
    Ok((digest, content))
}

fn digest_of(archive: &Archive, descriptor: &Value) -> Result<Digest> {
    let digest = Digest::parse(text(descriptor, "digest"));
    let digest = digest.ok_or_else(|| archive.malformed(&"a descriptor without digest"))?;
    if digest.algorithm() != "sha256" {
        return Err(Error::unsupported(&format_args!("digests with {}", digest.algorithm())));
    }
    Ok(digest)
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn json(archive: &Archive, name: &str, content: &[u8]) -> Result<Value> {
    minke_wire::json::parse(content).map_err(|error| archive.malformed(&format_args!("{name}: {error}")))
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn bounded<'a>(archive: &Archive, entries: &'a [Value]) -> Result<&'a [Value]> {
    if entries.len() > MAX_IMAGES {
        return Err(archive.malformed(&"too many images"));
    }
    Ok(entries)
}
