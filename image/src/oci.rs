//! Container image archives in the form of `docker save`: a tar of layers, a configuration and `manifest.json`.
//! Written in a fixed order with fixed times, so that the same content is the same image.

use crate::arch::Arch;
use crate::cache::{Key, hex};
use crate::error::{Context, Error, Result};
use crate::tree::walk;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Bytes of a tar record (POSIX.1-1988 ustar).
const RECORD: usize = 512;

/// A container image of one layer.
#[derive(Debug)]
pub struct Image {
    /// The archive's bytes.
    pub archive: Vec<u8>,
    /// SHA-256 of the configuration, which is the image's id.
    pub id: String,
}

/// Packs `folder` as the only layer of an image; `config` is the configuration's `config` object.
pub fn image(folder: &Path, tag: &str, arch: Arch, config: &Value, stamp: u64) -> Result<Image> {
    let layer = tar_of(folder, stamp)?;
    let layer_digest = hex(&Sha256::digest(&layer));
    let (architecture, variant) = arch.oci_platform();
    let mut configuration = json!({
        "architecture": architecture,
        "os": "linux",
        "created": rfc3339(stamp),
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created": rfc3339(stamp), "created_by": "minke-image" }],
    });
    if let (Some(variant), Some(map)) = (variant, configuration.as_object_mut()) {
        map.insert("variant".into(), variant.into());
    }
    let configuration = configuration.to_string();
    let id = hex(&Sha256::digest(&configuration));
    let manifest = json!([{
        "Config": format!("{id}.json"),
        "RepoTags": [tag],
        "Layers": [format!("{layer_digest}/layer.tar")],
    }]);
    let mut tar = Tar { bytes: Vec::new(), stamp };
    tar.file(&format!("{id}.json"), 0o644, configuration.as_bytes())?;
    tar.folder(&format!("{layer_digest}/"))?;
    tar.file(&format!("{layer_digest}/layer.tar"), 0o644, &layer)?;
    tar.file("manifest.json", 0o644, manifest.to_string().as_bytes())?;
    Ok(Image { archive: tar.finish(), id })
}

/// A 32-digit identifier made from words, for applications and releases.
pub fn identifier(words: &[&str]) -> String {
    let key = words.iter().fold(Key::new(), |key, word| key.with(word)).finish();
    key.get(..32).unwrap_or(&key).to_owned()
}

fn rfc3339(stamp: u64) -> String {
    let digits = crate::rootfs::stamp_digits(stamp);
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-{}T{}:{}:{}Z", part(0, 4), part(4, 6), part(6, 8), part(8, 10), part(10, 12), part(12, 14))
}

/// A tar archive of everything below `folder`, everything owned by root.
fn tar_of(folder: &Path, stamp: u64) -> Result<Vec<u8>> {
    let mut tar = Tar { bytes: Vec::new(), stamp };
    for (name, path) in walk(folder)? {
        let data = fs::symlink_metadata(&path).on("looking at", &path)?;
        if data.is_dir() {
            tar.folder(&format!("{name}/"))?;
        } else if data.is_symlink() {
            let target = fs::read_link(&path).on("reading the link", &path)?;
            tar.link(&name, &target.to_string_lossy())?;
        } else {
            let mode = if data.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
            tar.file(&name, mode, &fs::read(&path).on("reading", &path)?)?;
        }
    }
    Ok(tar.finish())
}

struct Tar {
    bytes: Vec<u8>,
    stamp: u64,
}

impl Tar {
    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.header(name, mode, content.len(), b'0', "")?;
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(RECORD), 0);
        Ok(())
    }

    fn folder(&mut self, name: &str) -> Result<()> {
        self.header(name, 0o755, 0, b'5', "")
    }

    fn link(&mut self, name: &str, target: &str) -> Result<()> {
        self.header(name, 0o777, 0, b'2', target)
    }

    fn header(&mut self, name: &str, mode: u32, size: usize, kind: u8, target: &str) -> Result<()> {
        // Our own names are short; the prefix field and extensions are not needed.
        if name.len() > 100 || target.len() > 100 {
            return Err(Error::Invalid(format!("{name}: too long a name for this archive")));
        }
        let mut header = Vec::with_capacity(RECORD);
        let mut field = |content: &[u8], length: usize| {
            let end = header.len() + length;
            header.extend_from_slice(content);
            header.resize(end, 0);
        };
        field(name.as_bytes(), 100);
        field(format!("{mode:07o}").as_bytes(), 8);
        field(b"0000000", 8);
        field(b"0000000", 8);
        field(format!("{size:011o}").as_bytes(), 12);
        field(format!("{:011o}", self.stamp).as_bytes(), 12);
        field(b"        ", 8);
        field(&[kind], 1);
        field(target.as_bytes(), 100);
        field(b"ustar\x0000", 8);
        field(b"root", 32);
        field(b"root", 32);
        field(b"", RECORD - 329);
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        for (to, from) in header.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()) {
            *to = from;
        }
        self.bytes.extend_from_slice(&header);
        Ok(())
    }

    /// Two empty records end an archive.
    fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * RECORD, 0);
        self.bytes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::tool::Tool;
    use crate::tree::{Root, Scratch};

    #[test]
    fn tar_unpacks_the_archive_and_its_layer() {
        let scratch = Scratch::new("oci").unwrap();
        let root = Root::new(&scratch.join("root")).unwrap();
        root.file("bin/program", vec![1; 700]).unwrap();
        root.mode("bin/program", 0o755).unwrap();
        root.link("program", "bin/link").unwrap();
        let made = image(root.top(), "a/b:1", Arch::Armv6, &json!({"Cmd": ["/bin/program"]}), 1_700_000_000)
            .unwrap();
        let again = image(root.top(), "a/b:1", Arch::Armv6, &json!({"Cmd": ["/bin/program"]}), 1_700_000_000)
            .unwrap();
        assert_eq!(made.archive, again.archive);
        let out = Root::new(&scratch.join("out")).unwrap();
        Tool::new("tar").arg("-xf").arg("-").folder(out.top()).input(made.archive).run().unwrap();
        let manifest: Value = serde_json::from_slice(&fs::read(out.at("manifest.json")).unwrap()).unwrap();
        let entry = manifest.get(0).unwrap();
        assert_eq!(entry.get("Config").unwrap().as_str().unwrap(), format!("{}.json", made.id));
        let configuration: Value =
            serde_json::from_slice(&fs::read(out.at(&format!("{}.json", made.id))).unwrap()).unwrap();
        assert_eq!(configuration.get("variant").unwrap(), "v6");
        assert_eq!(configuration.get("created").unwrap(), "2023-11-14T22:13:20Z");
        let layer = entry.get("Layers").unwrap().get(0).unwrap().as_str().unwrap();
        let listed = Tool::new("tar").arg("-tvf").arg(out.at(layer)).text().unwrap();
        assert!(listed.contains("-rwxr-xr-x root/root"), "{listed}");
        assert!(listed.contains("bin/link -> program"), "{listed}");
    }
}
