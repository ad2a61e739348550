//! One layer blob, from any source, into a folder: decompressed, verified and unpacked in one pass.

use crate::gunzip::{Pipe, gunzip};
use crate::unpack::{Unpacked, Unpacker};
use crate::{Compression, Digest, Error, Result};
use minke_sys::Context;
use sha2::{Digest as _, Sha256};
use std::ops::ControlFlow;
use std::path::Path;

/// How much is read and decompressed at a time.
const CHUNK: usize = 64 << 10;

/// A layer's content as it comes from an archive or a registry.
pub struct Blob<'a> {
    /// Reads the next bytes into a buffer; 0 bytes at the end.
    pub source: &'a mut dyn FnMut(&mut [u8]) -> std::io::Result<usize>,
    /// How they are compressed (from the media type, or [`Compression::Unknown`]).
    pub compression: Compression,
    /// The digest of these (compressed) bytes, if known; it is verified.
    pub digest: Option<&'a Digest>,
    /// Their number, if known; it is verified.
    pub size: Option<u64>,
}

/// Unpacks a layer into the empty folder `target` and verifies that its tar has the digest `diff_id`.
/// `progress` is told how many bytes of the blob were read, and may stop the work.
///
/// Nothing is brought to the disk; on an error the content of `target` must be thrown away.
pub fn unpack(
    blob: Blob<'_>,
    diff_id: &Digest,
    target: &Path,
    progress: &mut dyn FnMut(u64) -> ControlFlow<()>,
) -> Result<Unpacked> {
    let (digest, compression) = (blob.digest, blob.compression);
    let mut work = Work {
        blob,
        progress,
        piece: vec![0; CHUNK],
        length: 0,
        place: 0,
        total: 0,
        blob_hash: None,
        tar_hash: Sha256::new(),
        unpacker: Unpacker::new(target)?,
    };
    work.read()?;
    // A media type that contradicts the content is common (Docker's save); the content is right.
    match (Compression::sniff(work.rest()), compression) {
        (Compression::Gzip, _) => {
            if digest.is_some() {
                work.blob_hash = Some(Sha256::new_with_prefix(work.rest()));
            }
            gunzip(&mut work)?;
        }
        (Compression::Zstd, _) | (_, Compression::Zstd) => {
            return Err(Error::unsupported(&"layers compressed with zstd; make the image with gzip layers"));
        }
        _ => work.copy()?,
    }
    let Work { blob_hash, tar_hash, unpacker, .. } = work;
    let tar = digest_of(tar_hash);
    if let Some(expected) = digest {
        verify("layer blob", expected, blob_hash.map_or_else(|| tar.clone(), digest_of))?;
    }
    verify("layer", diff_id, tar)?;
    unpacker.finish()
}

/// The sha256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    digest_of(Sha256::new_with_prefix(bytes))
}

#[inline(never)]
fn digest_of(hash: Sha256) -> Digest {
    Digest::sha256(&hash.finalize().into())
}

/// A layer on its way from the blob to the folder.
struct Work<'a, 'b> {
    blob: Blob<'a>,
    progress: &'b mut dyn FnMut(u64) -> ControlFlow<()>,
    /// What was read last, how much of it is valid, and how much is done.
    piece: Vec<u8>,
    length: usize,
    place: usize,
    /// Bytes of the blob that were read.
    total: u64,
    /// The hash of the blob, when it is compressed; else it is that of the tar.
    blob_hash: Option<Sha256>,
    tar_hash: Sha256,
    unpacker: Unpacker,
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
        self.length = loop {
            match (self.blob.source)(&mut self.piece) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other.context("read", "layer")?,
            }
        };
        self.total = self.total.saturating_add(u64::try_from(self.length).unwrap_or(0));
        let wrong = match self.blob.size {
            Some(size) if self.total > size => "longer than its descriptor says",
            Some(size) if self.length == 0 && self.total < size => "shorter than its descriptor says",
            _ => {
                if let Some(hash) = &mut self.blob_hash {
                    hash.update(self.piece.get(..self.length).unwrap_or_default());
                }
                return Ok(());
            }
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
        self.place = self.place.saturating_add(count);
    }

    fn content(&mut self, content: &[u8]) -> Result<()> {
        self.tar_hash.update(content);
        self.unpacker.push(content)
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
