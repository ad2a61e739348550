//! An OCI layout in a tar that is read once, from the front: from a pipe, or standard input.

use crate::archive::normal;
use crate::documents::Documents;
use crate::manifest::blob_path;
use crate::{Compression, Digest, Error, Result};
use minke_sys::Context;
use minke_wire::json::Value;
use minke_wire::tar::{Decoder, Event, Kind};
use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;
/// Most bytes of documents that are kept.
const MAX_KEPT: usize = 2 << 20;
/// Most documents that are kept.
const MAX_DOCUMENTS: usize = 256;

/// The archive.
pub(crate) struct Pipe {
    path: PathBuf,
    file: File,
    decoder: Decoder,
    /// What was read last, and how much of it is left at its end.
    piece: Vec<u8>,
    start: usize,
    /// The documents that came.
    kept: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Pipe {
    pub(crate) fn new(path: &Path, file: File) -> Self {
        let (path, decoder) = (path.to_owned(), Decoder::new());
        Self { path, file, decoder, piece: Vec::new(), start: 0, kept: Vec::new() }
    }

    /// The content of a document; what comes before it is kept.
    fn document(&mut self, name: &str) -> Result<Vec<u8>> {
        loop {
            if let Some((_, content)) = self.kept.iter().find(|(known, _)| known == name.as_bytes()) {
                return Ok(content.clone());
            }
            let (found, size) = self.member(name)?;
            let kept: usize = self.kept.iter().map(|(_, content)| content.len()).sum();
            let size = usize::try_from(size).unwrap_or(usize::MAX);
            if kept.saturating_add(size) > MAX_KEPT || self.kept.len() >= MAX_DOCUMENTS {
                return Err(self.malformed(&format_args!(
                    "{name} does not come before the layers, as what is read from a pipe needs; give the \
                     archive as a file"
                )));
            }
            let mut content = Vec::new();
            while content.len() < size {
                if !self.some(&mut |data| content.extend_from_slice(data))? {
                    return Err(self.malformed(&"the archive is cut short"));
                }
            }
            self.kept.push((found, content));
        }
    }

    /// Goes to the content of a layer.
    pub(crate) fn go_to(&mut self, digest: &Digest) -> Result<Content> {
        let name = blob_path(digest);
        if let Some(place) = self.kept.iter().position(|(known, _)| *known == name.as_bytes()) {
            return Ok(Content::Kept(self.kept.swap_remove(place).1, 0));
        }
        loop {
            let (found, size) = self.member(&name)?;
            if found == name.as_bytes() {
                return Ok(Content::Coming(size));
            }
        }
    }

    /// Reads on in the layer that [`Pipe::go_to`] found.
    pub(crate) fn read(&mut self, content: &mut Content, buffer: &mut [u8]) -> Result<usize> {
        match content {
            Content::Kept(content, place) => {
                let count = put(content.get(*place..).unwrap_or_default(), buffer);
                *place = place.saturating_add(count);
                Ok(count)
            }
            Content::Coming(0) => Ok(0),
            Content::Coming(left) => {
                // No more than fits is taken from what was read.
                let mut count = 0;
                if !self.limited(buffer.len(), &mut |data| count = put(data, buffer))? {
                    return Err(self.malformed(&"the archive is cut short"));
                }
                *left = left.saturating_sub(u64::try_from(count).unwrap_or(0));
                Ok(count)
            }
        }
    }

    /// The next file: its name and size.
    fn member(&mut self, wanted: &str) -> Result<(Vec<u8>, u64)> {
        loop {
            let mut rest = self.piece.get(self.start..).unwrap_or_default();
            let event = self.decoder.next(&mut rest);
            let event = event.map_err(|error| Error::malformed(&self.path, &error))?;
            let found = match event {
                Event::Entry(entry) if entry.kind == Kind::File => {
                    normal(b"", &entry.path).map(|name| (name, entry.size))
                }
                Event::End => return Err(self.missing(wanted)),
                Event::More => {
                    if !self.fill()? {
                        return Err(self.missing(wanted));
                    }
                    continue;
                }
                Event::Entry(_) | Event::Data(_) => None,
            };
            self.start = self.piece.len().saturating_sub(rest.len());
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// The next bytes of the member's content. `false`: the archive has ended.
    fn some(&mut self, take: &mut dyn FnMut(&[u8])) -> Result<bool> {
        self.limited(usize::MAX, take)
    }

    fn limited(&mut self, limit: usize, take: &mut dyn FnMut(&[u8])) -> Result<bool> {
        loop {
            let end = self.start.saturating_add(limit).min(self.piece.len());
            let before = self.piece.get(self.start..end).unwrap_or_default();
            let mut rest = before;
            let event = self.decoder.next(&mut rest);
            let event = event.map_err(|error| Error::malformed(&self.path, &error))?;
            let used = before.len().saturating_sub(rest.len());
            match event {
                Event::Data(data) => {
                    take(data);
                    self.start = self.start.saturating_add(used);
                    return Ok(true);
                }
                Event::More => {
                    self.start = self.start.saturating_add(used);
                    if !self.fill()? {
                        return Ok(false);
                    }
                }
                Event::Entry(_) | Event::End => return Ok(false),
            }
        }
    }

    /// Reads the next piece, when the last is used up. `false`: there is none.
    fn fill(&mut self) -> Result<bool> {
        let first = self.piece.is_empty();
        self.piece.resize(PIECE, 0);
        self.start = 0;
        let count = loop {
            match self.file.read(&mut self.piece) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.on("read", &self.path)?,
            }
        };
        self.piece.truncate(count);
        if first && Compression::sniff(&self.piece) != Compression::None {
            return Err(self.malformed(&"the archive itself is compressed; decompress it first"));
        }
        Ok(count > 0)
    }

    fn malformed(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::malformed(&self.path, reason)
    }

    fn missing(&self, what: &str) -> Error {
        self.malformed(&format_args!("{what} is missing in it, or it is cut short"))
    }
}

/// A layer that is being read.
pub(crate) enum Content {
    /// It came before it was asked for; and how much of it was read.
    Kept(Vec<u8>, usize),
    /// So many bytes of it are to come.
    Coming(u64),
}

impl Documents for Pipe {
    fn named(&mut self, name: &str) -> Result<Value> {
        let content = self.document(name)?;
        minke_wire::json::parse(&content).map_err(|error| self.malformed(&format_args!("{name}: {error}")))
    }

    fn blob(&mut self, digest: &Digest, _: bool) -> Result<Vec<u8>> {
        self.document(&blob_path(digest))
    }

    fn name(&self) -> Cow<'_, str> {
        self.path.to_string_lossy()
    }
}

/// Copies what fits.
pub(crate) fn put(from: &[u8], to: &mut [u8]) -> usize {
    let count = from.len().min(to.len());
    if let (Some(from), Some(to)) = (from.get(..count), to.get_mut(..count)) {
        to.copy_from_slice(from);
    }
    count
}
