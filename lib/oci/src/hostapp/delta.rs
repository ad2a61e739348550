//! A delta: `delta.json`, then pieces that make the new files from those of the running host app.
//!
//! The result is the very files of the full image: each has the size and the digest of `delta.json`, which the layer's
//! digest covers. Files that are right already, from an interrupted installation, stay.

use super::files::{Output, Written, is_kept, is_right, make_folders};
use super::{Release, Writer};
use crate::archive::MAX_DOCUMENT;
use crate::documents::{list, text};
use crate::layer::{Sink, verify};
use crate::unpack::{normal, split};
use crate::{Digest, Error, Result};
use minke_boot::ROOT_IMAGE;
use minke_sys::tree::{Folder, Tree};
use minke_sys::{Context, file};
use minke_wire::delta;
use minke_wire::json::Value;
use minke_wire::tar::{Decoder, Entry, Event, Kind};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The member with the plan.
const PLAN: &[u8] = b"delta.json";
/// The configuration of the full image, whose digest is the host app's id: for people and their tools.
const TARGET: &[u8] = b"config.json";
/// Before the path of old data that is a file of the new host app.
const NEW: &str = "new/";
/// Old data that is read at once.
const PIECE: usize = 16 << 10;

/// Makes the files.
pub(super) struct Delta {
    tree: Tree,
    target: PathBuf,
    base: PathBuf,
    decoder: Decoder,
    /// The base and the target that the plan must name.
    ids: [String; 2],
    /// `delta.json` while it comes.
    document: Vec<u8>,
    /// What is to be made, last one first; `None` before the plan is there.
    plan: Option<Vec<Planned>>,
    open: Option<Open>,
    files: Vec<Written>,
}

/// A file of the plan.
struct Planned {
    path: String,
    size: u64,
    mode: u32,
    sha256: Digest,
    from: Vec<String>,
    kind: Making,
    member: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Making {
    /// A delta of old data.
    Delta,
    /// The content itself.
    Whole,
    /// The old data.
    Same,
}

/// The file that the present member makes.
struct Open {
    output: Output,
    sha256: Digest,
    /// How it is made of the member; `None`: it is the member.
    delta: Option<(delta::Decoder, Old)>,
}

impl Delta {
    pub(super) fn new(target: &Path, base: &Path, release: &Release) -> Result<Self> {
        Ok(Self {
            tree: Tree::open(target)?,
            target: target.to_owned(),
            base: base.to_owned(),
            decoder: Decoder::new(),
            ids: [release.base.clone().unwrap_or_default(), release.id.clone()],
            document: Vec::new(),
            plan: None,
            open: None,
            files: Vec::new(),
        })
    }

    /// A member begins, or an empty one is over.
    fn member(&mut self, entry: &Entry) -> Result<()> {
        let name = normal(&entry.path)?;
        if entry.kind != Kind::File {
            return Ok(());
        }
        match (&self.plan, &*name) {
            (Some(_), TARGET) => Ok(()),
            (Some(_), _) => self.begin(&name),
            (None, PLAN) if entry.size <= MAX_DOCUMENT && self.document.is_empty() => Ok(()),
            (None, _) => Err(bad(&"its first member is no delta.json of a proper size")),
        }
    }

    /// The content of the present member.
    fn data(&mut self, data: &[u8]) -> Result<()> {
        if self.plan.is_none() {
            self.document.extend_from_slice(data);
            return Ok(());
        }
        // The member of a file that is right already.
        let Some(open) = &mut self.open else { return Ok(()) };
        match &mut open.delta {
            None => open.output.write(data),
            Some((decoder, old)) => apply(decoder, old, &mut open.output, data),
        }
    }

    /// Understands the plan and makes what needs no member.
    fn understand(&mut self) -> Result<()> {
        let document = minke_wire::json::parse(&self.document).map_err(|error| bad(&error))?;
        self.document = Vec::new();
        for (key, expected) in ["base", "target"].iter().zip(&self.ids) {
            if text(&document, key) != expected {
                return Err(bad(&format_args!("delta.json names another {key} than the image's labels")));
            }
        }
        let mut plan = Vec::new();
        for file in list(document.get("files")) {
            plan.push(
                Planned::parse(file).ok_or_else(|| bad(&"delta.json has a file that is not understood"))?,
            );
        }
        plan.reverse();
        let mut known: Vec<String> = plan.iter().map(|file: &Planned| file.path.clone()).collect();
        for (key, what) in [("folders", "folder"), ("links", "link")] {
            for entry in list(document.get(key)) {
                let path = kept(entry.as_str().unwrap_or_else(|| text(entry, "path")));
                let bad = || bad(&format_args!("delta.json has a {what} that is not understood"));
                known.push(path.ok_or_else(bad)?);
            }
        }
        let links = list(document.get("links"));
        remove_others(&self.tree.folder(b"")?, "", &known)?;
        let (paths, of_links) = known.split_at(known.len().saturating_sub(links.len()));
        for path in paths.get(plan.len()..).unwrap_or_default() {
            make_folders(&self.tree, path.as_bytes())?;
        }
        for (path, link) in of_links.iter().zip(links) {
            let (folder, name) = split(path.as_bytes());
            let folder = make_folders(&self.tree, folder)?;
            folder.remove(name)?;
            folder.make_link(name, text(link, "target").as_bytes())?;
        }
        self.plan = Some(plan);
        Ok(())
    }

    /// Begins the file whose member this is; those before it in the plan need none.
    fn begin(&mut self, member: &[u8]) -> Result<()> {
        loop {
            let next = self.plan.as_mut().and_then(Vec::pop);
            let next = next.ok_or_else(|| bad(&"a member that delta.json does not name"))?;
            if next.kind == Making::Same {
                self.same(next)?;
                continue;
            }
            if next.member.as_bytes() != member {
                return Err(bad(&format_args!("the member of {} is missing", next.path)));
            }
            if is_right(&self.target.join(&next.path), next.size, &next.sha256) {
                self.files.push(next.written());
                return Ok(());
            }
            let delta = match next.kind {
                Making::Delta => Some((delta::Decoder::default(), self.old(&next)?)),
                _ => None,
            };
            let output = Output::create(&self.tree, &next.path, next.size, next.mode)?;
            self.open = Some(Open { output, sha256: next.sha256, delta });
            return Ok(());
        }
    }

    /// The end of a member.
    fn end(&mut self) -> Result<()> {
        if self.plan.is_none() {
            return if self.document.is_empty() { Ok(()) } else { self.understand() };
        }
        let Some(Open { output, sha256, delta }) = self.open.take() else { return Ok(()) };
        if let Some((decoder, _)) = delta {
            decoder.finish().map_err(|error| bad(&error))?;
        }
        output.finish(&mut self.files)?;
        self.check(&sha256)
    }

    /// Copies a file that stays as it is.
    fn same(&mut self, planned: Planned) -> Result<()> {
        if is_right(&self.target.join(&planned.path), planned.size, &planned.sha256) {
            self.files.push(planned.written());
            return Ok(());
        }
        let old = self.old(&planned)?;
        let mut output = Output::create(&self.tree, &planned.path, planned.size, planned.mode)?;
        let mut buffer = vec![0; PIECE];
        let mut place = 0u64;
        while place < old.length {
            let count = usize::try_from(old.length - place).map_or(PIECE, |left| left.min(PIECE));
            let piece = buffer.get_mut(..count).unwrap_or_default();
            old.read(place, piece)?;
            output.write(piece)?;
            place = place.saturating_add(u64::try_from(count).unwrap_or(0));
        }
        output.finish(&mut self.files)?;
        self.check(&planned.sha256)
    }

    /// Whether the file that was finished last is what the plan says.
    fn check(&self, expected: &Digest) -> Result<()> {
        let Some(last) = self.files.last() else { return Ok(()) };
        verify("file", expected, last.sha256.clone()).map_err(|_| {
            bad(&format_args!(
                "what it makes of the running host app's files is not the new {}: those are damaged; use the full image",
                last.path
            ))
        })
    }

    fn old(&self, planned: &Planned) -> Result<Old> {
        let mut old = Old { parts: Vec::new(), length: 0, place: 0 };
        for from in &planned.from {
            let path = match from.strip_prefix(NEW) {
                Some(fresh) => self.target.join(fresh),
                None => self.base.join(from),
            };
            let file = file::open(&path, file::Flags::RDONLY | file::Flags::NOFOLLOW)?;
            let length = minke_sys::status::of_open(&file)?.length;
            old.length = old.length.saturating_add(length);
            old.parts.push((path, file, length));
        }
        Ok(old)
    }
}

impl Sink for Delta {
    fn content(&mut self, mut tar: &[u8]) -> Result<()> {
        loop {
            match self.decoder.next(&mut tar).map_err(|error| Error::bad("layer", &error))? {
                Event::More => return Ok(()),
                Event::End => return self.end(),
                Event::Entry(entry) => {
                    self.end()?;
                    self.member(&entry)?;
                }
                Event::Data(data) => self.data(data)?,
            }
        }
    }
}

impl Writer for Delta {
    fn sink(&mut self) -> &mut dyn Sink {
        self
    }

    fn finish(&mut self) -> Result<Vec<Written>> {
        self.decoder.finish().map_err(|error| Error::bad("layer", &error))?;
        self.end()?;
        while let Some(planned) = self.plan.as_mut().and_then(Vec::pop) {
            if planned.kind != Making::Same {
                return Err(bad(&format_args!("the member of {} is missing", planned.path)));
            }
            self.same(planned)?;
        }
        let has = |path: &str| self.files.iter().any(|file| file.path.starts_with(path));
        if !has(ROOT_IMAGE) || !has("boot/") {
            return Err(bad(&"it makes no boot or no rootfs.squashfs"));
        }
        Ok(std::mem::take(&mut self.files))
    }
}

/// Removes what is neither in the plan nor on the way to it: an interrupted installation of something else has left it.
fn remove_others(folder: &Folder, above: &str, known: &[String]) -> Result<()> {
    for name in folder.names()? {
        let path = format!("{above}{}", String::from_utf8_lossy(&name));
        let within = format!("{path}/");
        let is_folder = folder.status(&name)?.is_some_and(|status| status.is_folder);
        if is_folder && known.iter().any(|known| known.starts_with(&within) || *known == path) {
            remove_others(&folder.folder(&name)?, &within, known)?;
        } else if is_folder || !known.contains(&path) {
            folder.remove(&name)?;
        }
    }
    Ok(())
}

/// Makes of a piece of a delta what it means.
fn apply(decoder: &mut delta::Decoder, old: &mut Old, output: &mut Output, mut data: &[u8]) -> Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        match decoder.next(&mut data).map_err(|error| bad(&error))? {
            delta::Event::More => return Ok(()),
            delta::Event::Copy(bytes) => output.write(bytes)?,
            delta::Event::Seek(by) => {
                old.place =
                    old.place.checked_add_signed(by).ok_or_else(|| bad(&"a place before the old data"))?;
            }
            delta::Event::Add(bytes) => {
                for bytes in bytes.chunks(buffer.len()) {
                    let piece = buffer.get_mut(..bytes.len()).unwrap_or_default();
                    old.read(old.place, piece)?;
                    for (old, more) in piece.iter_mut().zip(bytes) {
                        *old = old.wrapping_add(*more);
                    }
                    output.write(piece)?;
                    old.place = old.place.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
                }
            }
        }
    }
}

/// Old data: some files in a row.
struct Old {
    parts: Vec<(PathBuf, File, u64)>,
    length: u64,
    /// The present place of the delta.
    place: u64,
}

impl Old {
    /// Reads from `place` until the buffer is full.
    fn read(&self, mut place: u64, mut buffer: &mut [u8]) -> Result<()> {
        for (path, file, length) in &self.parts {
            if buffer.is_empty() {
                return Ok(());
            }
            if place >= *length {
                place = place.saturating_sub(*length);
                continue;
            }
            let here = usize::try_from(length.saturating_sub(place))
                .map_or(buffer.len(), |here| here.min(buffer.len()));
            let (now, rest) = buffer.split_at_mut_checked(here).unwrap_or_default();
            file.read_exact_at(now, place).on("read", path)?;
            (buffer, place) = (rest, 0);
        }
        if buffer.is_empty() { Ok(()) } else { Err(bad(&"a place behind the old data")) }
    }
}

impl Planned {
    fn parse(file: &Value) -> Option<Self> {
        let mut from = Vec::new();
        for path in list(file.get("from")) {
            let path = path.as_str()?;
            kept(path.strip_prefix(NEW).unwrap_or(path))?;
            from.push(path.to_owned());
        }
        Some(Self {
            path: kept(text(file, "path"))?,
            size: file.get("size")?.as_u64()?,
            mode: file.get("mode").and_then(Value::as_u64).and_then(|mode| u32::try_from(mode).ok())?,
            sha256: Digest::of_hex(text(file, "sha256"))?,
            from,
            kind: match text(file, "kind") {
                "delta" => Making::Delta,
                "whole" => Making::Whole,
                "same" => Making::Same,
                _ => return None,
            },
            member: text(file, "member").to_owned(),
        })
    }

    fn written(self) -> Written {
        Written { path: self.path, size: self.size, sha256: self.sha256 }
    }
}

/// A path that belongs into a slot, in its shortest form.
fn kept(path: &str) -> Option<String> {
    let path = normal(path.as_bytes()).ok().filter(|path| is_kept(path))?;
    String::from_utf8(path).ok()
}

fn bad(reason: &dyn std::fmt::Display) -> Error {
    Error::bad("delta", reason)
}
