//! Which images an archive holds: the documents of `docker save` (`manifest.json`) and of the OCI layout
//! (image-spec 1.1, `image-layout.md`).

use crate::archive::Archive;
use crate::documents::{Documents, Image, bounded, candidates, list, resolve, text};
use crate::layer::{sha256, verify};
use crate::{Compression, Digest, Error, Platform, Reference, Result};
use minke_wire::json::Value;

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
    for entry in bounded(entries)? {
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
    if let Some(expected) = Digest::of_hex(stem.strip_suffix(".json").unwrap_or(stem)) {
        verify("image config", &expected, sha256(&config))?;
    }
    let mut image = ArchiveImage { config, layers: Vec::new(), names: Vec::new(), ignored: Vec::new() };
    for layer in list(entry.get("Layers")) {
        let member = layer.as_str().ok_or_else(|| archive.malformed(&"manifest.json: bad Layers"))?;
        let digest = member.strip_prefix("blobs/sha256/").and_then(Digest::of_hex);
        let compression = Compression::Unknown;
        image.layers.push(ArchiveLayer { member: member.to_owned(), compression, digest });
    }
    for tag in list(entry.get("RepoTags")) {
        image.name(tag.as_str().unwrap_or_default(), &[]);
    }
    Ok(image)
}

fn layout_images(archive: &Archive, platform: &Platform) -> Result<Vec<ArchiveImage>> {
    let index = layout_index(&mut &*archive)?;
    let mut descriptors = candidates(&index)?;
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

/// The index of an OCI layout, whose version is looked at first.
pub(crate) fn layout_index(layout: &mut dyn Documents) -> Result<Value> {
    let version = layout.named("oci-layout")?;
    let version = text(&version, "imageLayoutVersion");
    if !version.starts_with("1.") {
        return Err(Error::unsupported(&format_args!("OCI image layout version '{version}'")));
    }
    layout.named("index.json")
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

/// The image that a name's descriptors mean on this platform.
fn layout_image(
    archive: &Archive,
    name: &str,
    descriptors: &[&Value],
    platform: &Platform,
) -> Result<ArchiveImage> {
    let Image { config, layers, digests, .. } = resolve(&mut &*archive, descriptors, platform)?;
    let mut image = ArchiveImage { config, layers: Vec::new(), names: Vec::new(), ignored: Vec::new() };
    for layer in layers {
        let member = blob_path(&layer.digest);
        if !archive.has(&member) {
            return Err(archive.missing(&format!("layer {}", layer.digest)));
        }
        let (compression, digest) = (layer.compression, Some(layer.digest));
        image.layers.push(ArchiveLayer { member, compression, digest });
    }
    if !name.is_empty() {
        image.name(name, &digests);
    }
    Ok(image)
}

impl Documents for &Archive {
    fn named(&mut self, name: &str) -> Result<Value> {
        json(self, name, &self.document(name)?)
    }

    fn blob(&mut self, digest: &Digest, _: bool) -> Result<Vec<u8>> {
        self.document(&blob_path(digest))
    }

    fn name(&self) -> std::borrow::Cow<'_, str> {
        self.path().to_string_lossy()
    }
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

/// The name of a descriptor: containerd's full one, else the specification's, which may be a tag only.
fn name_of(descriptor: &Value) -> &str {
    let annotation = |key: &str| descriptor.get("annotations")?.get(key)?.as_str();
    annotation("io.containerd.image.name")
        .or_else(|| annotation("org.opencontainers.image.ref.name"))
        .unwrap_or_default()
}

/// Where a blob stands in an OCI layout.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn json(archive: &Archive, name: &str, content: &[u8]) -> Result<Value> {
    minke_wire::json::parse(content).map_err(|error| archive.malformed(&format_args!("{name}: {error}")))
}
