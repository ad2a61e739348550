//! Container image archives: one tar that is an OCI layout (image-spec 1.1, `image-layout.md`) and the form of
//! `docker save` as well, so that any registry tool and any `docker load` takes it.
//!
//! Small documents come first and the layer last, so that a reader decides before it takes the first byte of content.
//! Everything stands in a fixed order with fixed times: the same content is the same image.

use crate::arch::Arch;
use crate::cache::{Key, hex};
use crate::error::{Context, Error, Result};
use crate::release::stamp_digits;
use crate::tar::{self, Member, Tar};
use crate::tool::Tool;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar";

/// How the layer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As it is.
    None,
    /// gzip (RFC 1952), without name and time.
    Gzip,
}

/// A container image of one layer.
#[derive(Debug, Clone)]
pub struct Image {
    /// SHA-256 of the configuration, which is the image's id.
    pub id: String,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    layer: Vec<u8>,
    arch: Arch,
    stamp: u64,
}

impl Image {
    /// The image whose only layer is this tar archive; `config` is the configuration's `config` object.
    pub fn new(layer: Vec<u8>, arch: Arch, config: &Value, stamp: u64) -> Image {
        let (architecture, variant) = arch.oci_platform();
        let mut configuration = json!({
            "architecture": architecture,
            "os": "linux",
            "created": rfc3339(stamp),
            "config": config,
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
            "history": [{ "created": rfc3339(stamp), "created_by": "minke-image" }],
        });
        if let (Some(variant), Some(map)) = (variant, configuration.as_object_mut()) {
            map.insert("variant".into(), variant.into());
        }
        let config = configuration.to_string().into_bytes();
        Image { id: hex(&Sha256::digest(&config)), config, layer, arch, stamp }
    }

    /// The archive; `tag` is the image's name, `annotations` go into its manifest.
    pub fn archive(
        &self,
        tag: &str,
        compression: Compression,
        annotations: &[(&str, String)],
    ) -> Result<Vec<u8>> {
        let (layer, media_type) = match compression {
            Compression::None => (self.layer.clone(), LAYER_TYPE.to_owned()),
            Compression::Gzip => (gzip(&self.layer)?, format!("{LAYER_TYPE}+gzip")),
        };
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": descriptor(CONFIG_TYPE, &self.config),
            "layers": [descriptor(&media_type, &layer)],
        });
        if let Some(map) = manifest.as_object_mut().filter(|_| !annotations.is_empty()) {
            let annotations =
                annotations.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into()));
            map.insert("annotations".into(), Value::Object(annotations.collect()));
        }
        let manifest = manifest.to_string().into_bytes();
        let mut entry = descriptor(MANIFEST_TYPE, &manifest);
        let (architecture, variant) = self.arch.oci_platform();
        let mut platform = Map::from_iter([
            ("architecture".to_owned(), architecture.into()),
            ("os".to_owned(), Value::from("linux")),
        ]);
        if let Some(variant) = variant {
            platform.insert("variant".into(), variant.into());
        }
        if let Some(map) = entry.as_object_mut() {
            map.insert("platform".into(), Value::Object(platform));
            map.insert("annotations".into(), json!({ "org.opencontainers.image.ref.name": tag }));
        }
        let index = json!({ "schemaVersion": 2, "manifests": [entry] });
        let docker = json!([{
            "Config": blob(&self.config),
            "RepoTags": [tag],
            "Layers": [blob(&layer)],
        }]);
        let mut tar = Tar::new(self.stamp);
        tar.file("oci-layout", 0o644, b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
        tar.file("index.json", 0o644, index.to_string().as_bytes())?;
        tar.file("manifest.json", 0o644, docker.to_string().as_bytes())?;
        tar.folder("blobs")?;
        tar.folder("blobs/sha256")?;
        for content in [&manifest, &self.config, &layer] {
            tar.file(&blob(content), 0o644, content)?;
        }
        Ok(tar.finish())
    }
}

/// An image read from an archive of ours.
#[derive(Debug)]
pub struct Archive {
    /// SHA-256 of the configuration.
    pub id: String,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// What stands in the configuration's `config.Labels`.
    pub labels: BTreeMap<String, String>,
    /// Architecture as in the configuration, with its variant.
    pub platform: (String, Option<String>),
    /// The layer's members by name.
    pub members: BTreeMap<String, Member>,
    /// Bytes of the archive, and of the layer as it travels.
    pub bytes: (usize, usize),
}

impl Archive {
    /// Reads an image of one layer, and checks its digests.
    pub fn read(path: &Path) -> Result<Archive> {
        let bytes = fs::read(path).on("reading", path)?;
        let bad = |what: &str| Error::Invalid(format!("{}: {what}", path.display()));
        let files = tar::read(&bytes).map_err(|error| bad(&error.to_string()))?;
        let content = |name: &str| {
            let member = files.get(name).ok_or_else(|| bad(&format!("{name} is missing")))?;
            let wrong = name
                .strip_prefix("blobs/sha256/")
                .is_some_and(|hash| hash != hex(&Sha256::digest(&member.content)));
            if wrong { Err(bad(&format!("{name} is damaged"))) } else { Ok(member.content.as_slice()) }
        };
        let json = |name: &str| {
            serde_json::from_slice::<Value>(content(name)?).map_err(|error| bad(&format!("{name}: {error}")))
        };
        let place = |value: &Value, pointer: &str| {
            let digest =
                value.pointer(pointer).and_then(Value::as_str).and_then(|text| text.strip_prefix("sha256:"));
            digest.map(|hash| format!("blobs/sha256/{hash}")).ok_or_else(|| bad(&format!("no {pointer}")))
        };
        let manifest = json(&place(&json("index.json")?, "/manifests/0/digest")?)?;
        let config = content(&place(&manifest, "/config/digest")?)?.to_vec();
        let packed = content(&place(&manifest, "/layers/0/digest")?)?;
        let layer = Tool::new("gzip").arg("-dc").input(packed).bytes()?;
        let document: Value = serde_json::from_slice(&config).map_err(|error| bad(&error.to_string()))?;
        let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        if text("/rootfs/diff_ids/0") != Some(digest(&layer)) {
            return Err(bad("the layer is not the one of the configuration"));
        }
        let labels =
            document.pointer("/config/Labels").and_then(Value::as_object).cloned().unwrap_or_default();
        Ok(Archive {
            id: hex(&Sha256::digest(&config)),
            labels: labels
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())))
                .collect(),
            platform: (text("/architecture").unwrap_or_default(), text("/variant")),
            members: tar::read(&layer)?,
            bytes: (bytes.len(), packed.len()),
            config,
        })
    }
}

/// The best that gzip can do, without name and time.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    Tool::new("gzip").args(["-9", "-n", "-c"]).input(bytes).bytes()
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

fn blob(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", hex(&Sha256::digest(bytes)))
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": digest(bytes), "size": bytes.len() })
}

/// A 32-digit identifier made from words, for applications and releases.
pub fn identifier(words: &[&str]) -> String {
    let key = words.iter().fold(Key::new(), |key, word| key.with(word)).finish();
    key.get(..32).unwrap_or(&key).to_owned()
}

fn rfc3339(stamp: u64) -> String {
    let digits = stamp_digits(stamp);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-{}T{}:{}:{}Z", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tree::{Root, Scratch};

    #[test]
    fn tar_unpacks_the_archive_and_its_layer() {
        let scratch = Scratch::new("oci").unwrap();
        let root = Root::new(&scratch.join("root")).unwrap();
        root.file("bin/program", vec![1; 700]).unwrap();
        root.mode("bin/program", 0o755).unwrap();
        root.link("program", "bin/link").unwrap();
        let made = || {
            let mut layer = Tar::new(1_700_000_000);
            layer.tree(root.top()).unwrap();
            layer.hard_link("other", "bin/program").unwrap();
            let image =
                Image::new(layer.finish(), Arch::Armv6, &json!({"Cmd": ["/bin/program"]}), 1_700_000_000);
            let archive = image.archive("a/b:1", Compression::Gzip, &[("name", "value".into())]).unwrap();
            (image, archive)
        };
        let (image, archive) = made();
        assert_eq!(made().1, archive);
        let file = scratch.join("archive");
        fs::write(&file, &archive).unwrap();
        let listed = Tool::new("tar").arg("-tf").arg(&file).text().unwrap();
        let names: Vec<&str> = listed.lines().collect();
        assert!(
            matches!(names.as_slice(), ["oci-layout", "index.json", "manifest.json", _, _, _, _, _]),
            "{listed}"
        );
        let out = Root::new(&scratch.join("out")).unwrap();
        Tool::new("tar").arg("-xf").arg(&file).folder(out.top()).run().unwrap();
        let manifest: Value = serde_json::from_slice(&fs::read(out.at("manifest.json")).unwrap()).unwrap();
        let entry = manifest.get(0).unwrap();
        let config = entry.get("Config").unwrap().as_str().unwrap();
        assert_eq!(config, format!("blobs/sha256/{}", image.id));
        let configuration: Value = serde_json::from_slice(&fs::read(out.at(config)).unwrap()).unwrap();
        assert_eq!(configuration.get("variant").unwrap(), "v6");
        assert_eq!(configuration.get("created").unwrap(), "2023-11-14T22:13:20Z");
        let layer = entry.get("Layers").unwrap().get(0).unwrap().as_str().unwrap();
        let listed = Tool::new("tar").arg("-tzvf").arg(out.at(layer)).text().unwrap();
        assert!(listed.contains("-rwxr-xr-x 0/0"), "{listed}");
        assert!(listed.contains("bin/link -> program"), "{listed}");
        assert!(listed.contains("other link to bin/program"), "{listed}");

        let read = Archive::read(&file).unwrap();
        assert_eq!((read.id, read.config), (image.id, image.config));
        assert_eq!(read.members.get("bin/program").unwrap().content, [1; 700]);
        assert_eq!(read.platform, ("arm".into(), Some("v6".into())));
        // Damage shows.
        let mut broken = archive;
        let at = broken.len() - 1024 - 500;
        *broken.get_mut(at).unwrap() ^= 1;
        fs::write(&file, broken).unwrap();
        assert!(Archive::read(&file).is_err());
    }
}
