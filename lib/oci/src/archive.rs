//! An image archive: a tar file on disk, read by name without a copy of it.

use crate::{Compression, Error, Result};
use minke_sys::Context;
use minke_wire::tar::{Decoder, Entry, Event, Kind};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Most members of an image archive: a member or three per layer.
const MAX_MEMBERS: usize = 65_536;
/// Most links that are followed from one name.
const MAX_LINKS: usize = 8;
/// Largest JSON document in an archive (OCI image-spec: registries need not take more than 4 MiB).
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// An opened archive with the places of its members.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    file: File,
    /// In the archive's order: of several with one name the last counts.
    members: Vec<(Vec<u8>, Member)>,
    /// Whether the end mark was found. Some writers leave it out; but when something is missing in an
    /// archive without it, the archive was cut short.
    complete: bool,
}

#[derive(Debug, Clone)]
enum Member {
    /// Content at this offset, of this size.
    File(u64, u64),
    /// Another name, as old `docker save` files have for layers that occur twice.
    Link(Vec<u8>),
}

/// The content of one member.
#[derive(Debug)]
pub struct Section<'a> {
    file: &'a File,
    offset: u64,
    left: u64,
}

impl Archive {
    /// Opens an archive and reads its members' headers; their content is skipped.
    pub fn open(path: &Path) -> Result<Self> {
        let file = minke_sys::file::open_to_read(path)?;
        let mut archive = Self { path: path.to_owned(), file, members: Vec::new(), complete: false };
        archive.scan()?;
        Ok(archive)
    }

    /// The path that it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The content of the file `name`, and its size.
    pub fn content(&self, name: &str) -> Result<Section<'_>> {
        let (offset, left) = self.find(name).ok_or_else(|| self.missing(name))?;
        Ok(Section { file: &self.file, offset, left })
    }

    /// The whole content of the file `name`, which must not be longer than a document.
    pub fn document(&self, name: &str) -> Result<Vec<u8>> {
        let section = self.content(name)?;
        if section.left > MAX_DOCUMENT {
            return Err(self.malformed(&format_args!("{name} is larger than {MAX_DOCUMENT} bytes")));
        }
        let mut content = vec![0; usize::try_from(section.left).unwrap_or(0)];
        match section.file.read_exact_at(&mut content, section.offset) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(self.cut_short()),
            result => Ok(result.on("read", &self.path).map(|()| content)?),
        }
    }

    /// An error about this archive.
    pub(crate) fn malformed(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::malformed(&self.path, reason)
    }

    /// The error that something is not in this archive.
    pub(crate) fn missing(&self, what: &str) -> Error {
        let reason = if self.complete { "" } else { ": it is cut short" };
        self.malformed(&format_args!("{what} is missing in it{reason}"))
    }

    fn find(&self, name: &str) -> Option<(u64, u64)> {
        let mut name = normal(&[], name.as_bytes())?;
        for _ in 0..MAX_LINKS {
            let (_, member) = self.members.iter().rev().find(|(known, _)| *known == name)?;
            match member {
                Member::File(offset, size) => return Some((*offset, *size)),
                Member::Link(target) => name.clone_from(target),
            }
        }
        None
    }

    fn cut_short(&self) -> Error {
        self.malformed(&"the archive is cut short")
    }

    fn scan(&mut self) -> Result<()> {
        let size = minke_sys::status::of_open(&self.file)?.length;
        let mut decoder = Decoder::new();
        let mut buffer = vec![0u8; 4096];
        let mut position = 0u64;
        loop {
            let count = self.file.read_at(&mut buffer, position).on("read", &self.path)?;
            if count == 0 {
                return decoder.finish().map_err(|error| self.malformed(&error));
            }
            let mut rest = buffer.get(..count).unwrap_or_default();
            // What is wrong with a file that is no tar, where that can be seen.
            if position == 0 && Compression::sniff(rest) != Compression::None {
                return Err(self.malformed(&"the archive itself is compressed; decompress it first"));
            }
            position = position.saturating_add(length(rest));
            loop {
                match decoder.next(&mut rest).map_err(|error| self.malformed(&error))? {
                    Event::End => {
                        self.complete = true;
                        return Ok(());
                    }
                    Event::More => break,
                    // All content is skipped below.
                    Event::Data(_) => {}
                    Event::Entry(entry) => {
                        let offset = position.saturating_sub(length(rest));
                        if offset.saturating_add(entry.size) > size {
                            return Err(self.cut_short());
                        }
                        self.add(&entry, offset)?;
                        position = offset.saturating_add(decoder.skip_content());
                        break;
                    }
                }
            }
        }
    }

    fn add(&mut self, entry: &Entry, offset: u64) -> Result<()> {
        if self.members.len() >= MAX_MEMBERS {
            return Err(self.malformed(&"too many members for an image archive"));
        }
        // A name that leads out of the archive cannot be asked for, so it is nothing to us.
        let Some(name) = normal(b"", &entry.path) else { return Ok(()) };
        let member = match entry.kind {
            Kind::File => Some(Member::File(offset, entry.size)),
            Kind::Symlink => {
                let folder = name.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                normal(name.get(..folder).unwrap_or_default(), &entry.link).map(Member::Link)
            }
            Kind::HardLink => normal(b"", &entry.link).map(Member::Link),
            _ => None,
        };
        self.members.extend(member.map(|member| (name, member)));
        Ok(())
    }
}

impl Section<'_> {
    /// What follows so many bytes.
    #[must_use]
    pub(crate) fn after(mut self, bytes: u64) -> Self {
        self.offset = self.offset.saturating_add(bytes);
        self.left = self.left.saturating_sub(bytes);
        self
    }

    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.left
    }

    /// Reads as much as fits into the buffer, or less; 0 bytes at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let target = buffer.get_mut(..wanted).unwrap_or_default();
        let count = self.file.read_at(target, self.offset)?;
        self.offset = self.offset.saturating_add(u64::try_from(count).unwrap_or(0));
        self.left = self.left.saturating_sub(u64::try_from(count).unwrap_or(0));
        Ok(count)
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A path relative to `folder` in its shortest form; `None` when it leads out or is empty.
pub(crate) fn normal(folder: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let start = if path.starts_with(b"/") { b"" } else { folder };
    for path in [start, path] {
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    if out.is_empty() {
                        return None;
                    }
                    out.truncate(out.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
                }
                part => {
                    if !out.is_empty() {
                        out.push(b'/');
                    }
                    out.extend_from_slice(part);
                }
            }
        }
    }
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_shortened_and_kept_inside() {
        for (folder, path, expected) in [
            ("", "./a//b/", Some("a/b")),
            ("abc/", "../def/layer.tar", Some("def/layer.tar")),
            ("abc/", "/x", Some("x")),
            ("", "..", None),
            ("a/", "../../b", None),
            ("", ".", None),
        ] {
            let found = normal(folder.as_bytes(), path.as_bytes());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{folder}{path}");
        }
    }
}
