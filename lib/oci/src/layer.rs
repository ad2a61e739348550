//! One layer blob, from any source, to who takes its tar: decompressed and verified in one pass.

use crate::gunzip::{Pipe, Place, gunzip};
use crate::hash::Hash;
use crate::unpack::{Unpacked, Unpacker};
use crate::{Compression, Digest, Error, Result};
use std::ops::ControlFlow;
use std::path::Path;

/// How much is read and decompressed at a time.
const CHUNK: usize = 64 << 10;

/// A layer's content as it comes from an archive or a registry.
pub struct Blob<'a> {
    /// Reads the next bytes into a buffer; 0 bytes at the end.
    pub source: &'a mut dyn FnMut(&mut [u8]) -> Result<usize>,
    /// How they are compressed (from the media type, or [`Compression::Unknown`]).
    pub compression: Compression,
    /// The digest of these (compressed) bytes, if known; it is verified.
    pub digest: Option<&'a Digest>,
    /// Their number, if known; it is verified.
    pub size: Option<u64>,
}

/// Told how many bytes of a blob were read; it may stop the work.
pub type OnBytes<'a> = dyn FnMut(u64) -> ControlFlow<()> + 'a;

/// What takes the tar of a layer.
pub(crate) trait Sink {
    /// The next bytes of the tar.
    fn content(&mut self, tar: &[u8]) -> Result<()>;

    /// From here the work may be taken up another time: so many bytes of the blob are done.
    fn between(&mut self, _done: u64, _place: &Place<'_>) -> Result<()> {
        Ok(())
    }
}

/// Where the work is taken up.
pub(crate) struct Point<'a> {
    /// Bytes of the blob that are done.
    pub(crate) done: u64,
    /// The hash of the tar so far.
    pub(crate) tar: Hash,
    pub(crate) place: &'a Place<'a>,
}

/// Unpacks a layer into the empty folder `target` and verifies that its tar has the digest `diff_id`.
///
/// Nothing is brought to the disk; on an error the content of `target` must be thrown away.
pub fn unpack(
    blob: Blob<'_>,
    diff_id: &Digest,
    target: &Path,
    progress: &mut OnBytes<'_>,
) -> Result<Unpacked> {
    let mut unpacker = Unpacker::new(target)?;
    pass(blob, diff_id, &mut unpacker, progress, None)?;
    unpacker.finish()
}

impl Sink for Unpacker {
    fn content(&mut self, tar: &[u8]) -> Result<()> {
        self.push(tar)
    }
}

/// Gives the tar of a layer to `sink` and verifies the digests. With a point, `blob` gives what follows it, and has no digest.
pub(crate) fn pass(
    blob: Blob<'_>,
    diff_id: &Digest,
    sink: &mut dyn Sink,
    progress: &mut OnBytes<'_>,
    from: Option<Point<'_>>,
) -> Result<()> {
    let (digest, compression) = (blob.digest, blob.compression);
    let (done, tar_hash, place) = match from {
        Some(Point { done, tar, place }) => (done, tar, Some(place)),
        None => (0, Hash::new(), None),
    };
    let mut work = Work {
        blob,
        progress,
        sink,
        piece: vec![0; CHUNK],
        length: 0,
        place: 0,
        done,
        total: done,
        blob_hash: None,
        tar_hash,
    };
    work.read()?;
    // A media type that contradicts the content is common (Docker's save); the content is right.
    let found = if place.is_some() { Compression::Gzip } else { Compression::sniff(work.rest()) };
    match (found, compression) {
        (Compression::Gzip, _) => {
            work.blob_hash = digest.map(|_| Hash::new());
            gunzip(&mut work, place)?;
        }
        (Compression::Zstd, _) | (_, Compression::Zstd) => {
            return Err(Error::unsupported(&"layers compressed with zstd; make the image with gzip layers"));
        }
        _ => work.copy()?,
    }
    let Work { blob_hash, tar_hash, .. } = work;
    let tar = tar_hash.finish();
    if let Some(expected) = digest {
        verify("layer blob", expected, blob_hash.map_or_else(|| tar.clone(), Hash::finish))?;
    }
    verify("layer", diff_id, tar)
}

/// The sha256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = Hash::new();
    hash.update(bytes);
    hash.finish()
}

/// A layer on its way from the blob to who takes it.
struct Work<'a, 'b> {
    blob: Blob<'a>,
    progress: &'b mut OnBytes<'b>,
    sink: &'b mut dyn Sink,
    /// What was read last, how much of it is valid, and how much is done.
    piece: Vec<u8>,
    length: usize,
    place: usize,
    /// Bytes of the blob that are done, and that were read.
    done: u64,
    total: u64,
    /// The hash of what is done of the blob, when it is compressed and has a digest; without compression it is the tar's.
    blob_hash: Option<Hash>,
    tar_hash: Hash,
}

impl Work<'_, '_> {
    fn rest(&self) -> &[u8] {
        self.piece.get(self.place..self.length).unwrap_or_default()
    }

    /// Reads the next piece; it is empty at the end.
    #[inline(never)]
    fn read(&mut self) -> Result<()> {
        if self.total > 0 && (self.progress)(self.total).is_break() {
            return Err(Error::Cancelled);
        }
        self.place = 0;
        self.length = (self.blob.source)(&mut self.piece)?;
        self.total = self.total.saturating_add(u64::try_from(self.length).unwrap_or(0));
        let wrong = match self.blob.size {
            Some(size) if self.total > size => "longer than its descriptor says",
            Some(size) if self.length == 0 && self.total < size => "shorter than its descriptor says",
            _ => return Ok(()),
        };
        Err(Error::bad("layer", &wrong))
    }

    /// Unpacks a blob that is not compressed.
    fn copy(&mut self) -> Result<()> {
        while self.length > 0 {
            let piece = std::mem::take(&mut self.piece);
            self.content(piece.get(..self.length).unwrap_or_default())?;
            self.piece = piece;
            self.read()?;
        }
        Ok(())
    }
}

impl Pipe for Work<'_, '_> {
    fn data(&mut self) -> Result<&[u8]> {
        if self.place >= self.length {
            self.read()?;
        }
        Ok(self.rest())
    }

    fn advance(&mut self, count: usize) {
        let start = self.place;
        self.place = start.saturating_add(count);
        self.done = self.done.saturating_add(u64::try_from(count).unwrap_or(0));
        if let Some(hash) = &mut self.blob_hash {
            hash.update(self.piece.get(start..self.place).unwrap_or_default());
        }
    }

    fn content(&mut self, content: &[u8]) -> Result<()> {
        self.tar_hash.update(content);
        self.sink.content(content)
    }

    fn between(&mut self, place: &Place<'_>) -> Result<()> {
        self.sink.between(self.done, place)
    }
}

/// Compares two digests.
pub(crate) fn verify(what: &'static str, expected: &Digest, found: Digest) -> Result<()> {
    if *expected == found {
        return Ok(());
    }
    if expected.algorithm() != "sha256" {
        return Err(Error::unsupported(&format_args!("digests with {}", expected.algorithm())));
    }
    Err(Error::Digest { what, expected: Box::new(expected.clone()), found: Box::new(found) })
}
