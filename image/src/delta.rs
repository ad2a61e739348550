//! The delta between two host applications: an OCI image whose one layer has `delta.json`, which says how each file of
//! the target comes from files of the base, and the pieces that it takes.
//!
//! `delta.json` is `{"base", "target", "files", "folders", "links"}`. A file has `path`, `size`, `mode`, `sha256`, `kind`
//! and `from`: the paths whose contents, one after the other, are the old data, in the base or, as `new/PATH`, among
//! the files before it in the list. Kinds: `same` (the old data is the file), `delta` (`member` is a delta in the
//! form of [`minke_wire::delta`]) and `whole` (`member` is the file).

use crate::arch::Arch;
use crate::cache::hex;
use crate::error::{Error, Result};
use crate::hostapp::{LABELS, Signing, is_slot_content, tag};
use crate::oci::{Archive, Compression, Image, gzip};
use crate::tar::{Member, Tar};
use minke_boot::ROOT_IMAGE;
use minke_oci::hostapp::{
    LABEL_BASE, LABEL_BOOT_FILES, LABEL_OS_RELEASE, LABEL_SIZE, LABEL_TARGET, LABEL_VERSION,
};
use minke_wire::delta::{Decoder, Event};
use minke_wire::tar::Kind;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What stands before paths of files that were written before, in `from`.
const NEW: &str = "new/";

/// A delta that was made, applied and compared.
#[derive(Debug)]
pub struct Delta {
    /// The image.
    pub image: Image,
    /// Its name for people.
    pub tag: String,
    /// One row for each file of the target.
    pub rows: Vec<Row>,
    /// Who signs sees this.
    comment: String,
}

/// How one file travels.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Path in the slot.
    pub path: String,
    /// `same`, `delta` or `whole`.
    pub kind: &'static str,
    /// Bytes of the file.
    pub size: usize,
    /// Bytes of its piece, compressed on its own.
    pub piece: usize,
}

/// Makes the delta from one host application to another.
pub fn make(base: &Archive, target: &Archive) -> Result<Delta> {
    let slug = format!("{LABEL_OS_RELEASE}SLUG");
    if base.labels.get(&slug) != target.labels.get(&slug) {
        return Err(Error::Invalid("the two host applications are for different device types".into()));
    }
    if base.id == target.id {
        return Err(Error::Invalid("the two host applications are the same".into()));
    }
    let arch = Arch::ALL.into_iter().find(|arch| {
        let (name, variant) = arch.oci_platform();
        (name, variant) == (target.platform.0.as_str(), target.platform.1.as_deref())
    });
    let arch = arch.ok_or_else(|| Error::Invalid(format!("unknown architecture {}", target.platform.0)))?;
    let version = |archive: &Archive| archive.labels.get(LABEL_VERSION).cloned().unwrap_or_default();
    let stamp = target.members.values().map(|member| member.time).max().unwrap_or_default();
    let mut tar = Tar::new(u64::try_from(stamp).unwrap_or_default());
    let (plan, pieces, rows) = plan(base, target)?;
    tar.file("delta.json", 0o644, format!("{plan:#}\n").as_bytes())?;
    tar.file("config.json", 0o644, &target.config)?;
    for (name, piece) in pieces {
        tar.file(&name, 0o644, &piece)?;
    }
    let mut labels = Map::new();
    for (name, value) in [(LABEL_BASE, &base.id), (LABEL_TARGET, &target.id)] {
        labels.insert(name.into(), value.as_str().into());
    }
    let of_target = |name: &str| {
        let known = [LABEL_VERSION, LABEL_SIZE, LABEL_BOOT_FILES].contains(&name)
            || LABELS.iter().any(|(label, _)| *label == name);
        known || name.starts_with(LABEL_OS_RELEASE)
    };
    for (name, value) in target.labels.iter().filter(|(name, _)| of_target(name)) {
        labels.insert(name.clone(), value.as_str().into());
    }
    let config = json!({ "Labels": labels });
    let image = Image::new(tar.finish(), arch, &config, u64::try_from(stamp).unwrap_or_default());
    let (old, new) = (version(base), version(target));
    let comment = format!("{} {old} to {new}", arch.device_type());
    Ok(Delta {
        image,
        tag: tag(&format!("{}-delta", arch.device_type()), &format!("{old}-{new}")),
        rows,
        comment,
    })
}

impl Delta {
    /// The archive in which it travels.
    pub fn archive(&self, signing: &Signing) -> Result<Vec<u8>> {
        let annotations = signing.annotations(&self.image, &self.comment)?;
        self.image.archive(&self.tag, Compression::Gzip, &annotations)
    }
}

/// The members of the layer besides `delta.json`, by name and in their order.
type Pieces = Vec<(String, Vec<u8>)>;

fn plan(base: &Archive, target: &Archive) -> Result<(Value, Pieces, Vec<Row>)> {
    let of_slot = |members: &BTreeMap<String, Member>| -> Vec<(String, Member)> {
        members
            .iter()
            .filter(|(name, _)| is_slot_content(name))
            .map(|(name, member)| (name.clone(), member.clone()))
            .collect()
    };
    let old =
        Files(of_slot(&base.members).into_iter().filter(|(_, member)| member.kind == Kind::File).collect());
    let mut new = Files(Vec::new());
    let (mut files, mut folders, mut links, mut pieces, mut rows) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut members = of_slot(&target.members);
    // The root image is made first: the initramfs has the same program.
    members.sort_by_key(|(name, _)| (name != ROOT_IMAGE, name.clone()));
    for (path, member) in members {
        match member.kind {
            Kind::Folder => folders.push(path),
            Kind::Symlink => links.push(json!({ "path": path, "target": member.link })),
            Kind::File => {
                let made = piece(&path, &member.content, &old, &new)?;
                let mut file = json!({
                    "path": path,
                    "size": member.content.len(),
                    "mode": member.mode,
                    "sha256": hex(&Sha256::digest(&member.content)),
                    "kind": made.kind,
                    "from": made.from,
                });
                let mut row =
                    Row { path: path.clone(), kind: made.kind, size: member.content.len(), piece: 0 };
                if made.kind != "same" {
                    let name = format!("pieces/{path}");
                    row.piece = made.packed;
                    if let Some(map) = file.as_object_mut() {
                        map.insert("member".into(), name.as_str().into());
                    }
                    pieces.push((name, made.bytes));
                }
                files.push(file);
                rows.push(row);
                new.0.push((path, member));
            }
            _ => return Err(Error::Invalid(format!("{path}: a host application has no such member"))),
        }
    }
    let plan =
        json!({ "base": base.id, "target": target.id, "files": files, "folders": folders, "links": links });
    Ok((plan, pieces, rows))
}

/// Files by path, in the order in which they are written.
struct Files(Vec<(String, Member)>);

impl Files {
    fn get(&self, path: &str) -> Option<&[u8]> {
        self.0.iter().find(|(name, _)| name == path).map(|(_, member)| member.content.as_slice())
    }
}

/// How one file is made.
struct Piece {
    kind: &'static str,
    from: Vec<String>,
    bytes: Vec<u8>,
    /// Bytes when compressed.
    packed: usize,
}

/// The smallest way to make `content`, which is the target's file `path`.
fn piece(path: &str, content: &[u8], old: &Files, new: &Files) -> Result<Piece> {
    for (prefix, files) in [("", old), (NEW, new)] {
        let same = files.0.iter().filter(|(_, member)| member.content == content).map(|(name, _)| name);
        if let Some(name) = same.clone().find(|name| *name == path).or_else(|| same.clone().next()) {
            return Ok(Piece {
                kind: "same",
                from: vec![format!("{prefix}{name}")],
                bytes: Vec::new(),
                packed: 0,
            });
        }
    }
    let packed = gzip(content)?.len();
    let mut best = Piece { kind: "whole", from: Vec::new(), bytes: content.to_vec(), packed };
    let mut choices = vec![vec![path.to_owned()]];
    if path == "boot/initramfs" {
        choices.push(vec![path.to_owned(), format!("{NEW}{ROOT_IMAGE}")]);
    }
    for from in choices {
        let mut data = Vec::new();
        for name in &from {
            let found = match name.strip_prefix(NEW) {
                Some(name) => new.get(name),
                None => old.get(name),
            };
            data.extend_from_slice(found.unwrap_or_default());
        }
        if data.is_empty() {
            continue;
        }
        let mut bytes = Vec::new();
        bidiff::simple_diff(&data, content, &mut bytes)
            .map_err(|error| Error::Invalid(format!("making the delta of {path}: {error}")))?;
        if apply(&bytes, &data).as_deref() != Some(content) {
            return Err(Error::Invalid(format!("the delta of {path} does not lead to the new file")));
        }
        let packed = gzip(&bytes)?.len();
        if packed < best.packed {
            best = Piece { kind: "delta", from, bytes, packed };
        }
    }
    Ok(best)
}

/// Applies a delta as a device does; `None` where one would refuse it.
pub fn apply(delta: &[u8], old: &[u8]) -> Option<Vec<u8>> {
    let (mut decoder, mut input, mut place, mut new) = (Decoder::default(), delta, 0i64, Vec::new());
    loop {
        match decoder.next(&mut input).ok()? {
            Event::More => break,
            Event::Add(bytes) => {
                let old = old.get(usize::try_from(place).ok()?..)?.get(..bytes.len())?;
                new.extend(old.iter().zip(bytes).map(|(old, more)| old.wrapping_add(*more)));
                place = place.checked_add_unsigned(bytes.len() as u64)?;
            }
            Event::Copy(bytes) => new.extend_from_slice(bytes),
            Event::Seek(by) => place = place.checked_add(by)?,
        }
    }
    decoder.finish().ok()?;
    Some(new)
}
