//! An image archive: a tar file on disk, read by name without a copy of it.

use crate::{Error, Result};
use minke_sys::Context;
use minke_wire::tar::{Decoder, Event, Kind};
use std::fs::File;
use std::io::Read;
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
        let file = File::open(path).on("open", path)?;
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
        let mut content = Vec::new();
        let size = section.left;
        section.take(size).read_to_end(&mut content).on("read", &self.path)?;
        if u64::try_from(content.len()) != Ok(size) {
            return Err(self.malformed(&"the archive is cut short"));
        }
        Ok(content)
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

    fn scan(&mut self) -> Result<()> {
        let size = self.file.metadata().on("stat", &self.path)?.len();
        let mut decoder = Decoder::new();
        let mut buffer = [0u8; 4096];
        let mut position = 0u64;
        loop {
            let count = self.file.read_at(&mut buffer, position).on("read", &self.path)?;
            if count == 0 {
                return decoder.finish().map_err(|error| self.malformed(&error));
            }
            let start = buffer.get(..count).unwrap_or_default();
            if position == 0 {
                self.check_start(start)?;
            }
            let mut rest = start;
            loop {
                match decoder.next(&mut rest).map_err(|error| self.malformed(&error))? {
                    Event::End => {
                        self.complete = true;
                        return Ok(());
                    }
                    Event::More => {
                        position = position.saturating_add(length(start));
                        break;
                    }
                    // All content is skipped below.
                    Event::Data(_) => {}
                    Event::Entry(entry) => {
                        let used = length(start).saturating_sub(length(rest));
                        let offset = position.saturating_add(used);
                        let end = offset.saturating_add(entry.size);
                        if end > size {
                            return Err(self.malformed(&"the archive is cut short"));
                        }
                        self.add(&entry.path, entry.kind, &entry.link, offset, entry.size)?;
                        position = offset.saturating_add(decoder.skip_content());
                        break;
                    }
                }
            }
        }
    }

    /// Says what is wrong with a file that is no tar, where that can be seen.
    fn check_start(&self, start: &[u8]) -> Result<()> {
        match crate::Compression::sniff(start) {
            crate::Compression::None | crate::Compression::Unknown => Ok(()),
            _ => Err(self.malformed(&"the archive itself is compressed; decompress it first")),
        }
    }

    fn add(&mut self, path: &[u8], kind: Kind, link: &[u8], offset: u64, size: u64) -> Result<()> {
        if self.members.len() >= MAX_MEMBERS {
            return Err(self.malformed(&"too many members for an image archive"));
        }
        // A name that leads out of the archive cannot be asked for, so it is nothing to us.
        let Some(name) = normal(&[], path) else { return Ok(()) };
        let folder = name.rsplit(|byte| *byte == b'/').next().map_or(0, <[u8]>::len);
        let folder = name.get(..name.len().saturating_sub(folder)).unwrap_or_default();
        let member = match kind {
            Kind::File => Member::File(offset, size),
            Kind::Symlink => match normal(folder, link) {
                Some(target) => Member::Link(target),
                None => return Ok(()),
            },
            Kind::HardLink => match normal(&[], link) {
                Some(target) => Member::Link(target),
                None => return Ok(()),
            },
            _ => return Ok(()),
        };
        self.members.push((name, member));
        Ok(())
    }
}

impl Section<'_> {
    /// The number of bytes.
    pub fn size(&self) -> u64 {
        self.left
    }
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
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
fn normal(folder: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let start = if path.starts_with(b"/") { &[] } else { folder };
    for part in start.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join(&b'/'))
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
