//! One layer blob, from any source, into a folder: decompressed, verified and unpacked in one pass.

use crate::gunzip::Gunzip;
use crate::unpack::{Unpacked, Unpacker};
use crate::{Compression, Digest, Error, Result};
use minke_sys::Context;
use sha2::{Digest as _, Sha256};
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;

/// How much is read and decompressed at a time.
const CHUNK: usize = 64 << 10;

/// A layer's content as it comes from an archive or a registry.
pub struct Blob<'a> {
    /// The bytes.
    pub source: &'a mut dyn Read,
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
    let Blob { source, compression, digest, size } = blob;
    let mut input = vec![0; CHUNK];
    let mut filled = read(source, &mut input)?;
    let mut sink = Sink::new(compression, digest, input.get(..filled).unwrap_or_default(), target)?;
    let mut total = 0u64;
    while filled > 0 {
        let piece = input.get(..filled).unwrap_or_default();
        total = total.saturating_add(u64::try_from(filled).unwrap_or(0));
        if size.is_some_and(|size| total > size) {
            return Err(Error::bad("layer", &"longer than its descriptor says"));
        }
        sink.push(piece)?;
        if progress(total).is_break() {
            return Err(Error::Cancelled);
        }
        filled = read(source, &mut input)?;
    }
    if size.is_some_and(|size| total != size) {
        return Err(Error::bad("layer", &"shorter than its descriptor says"));
    }
    sink.finish(digest, diff_id)
}

/// The sha256 of some bytes.
pub fn sha256(bytes: &[u8]) -> Digest {
    Digest::sha256(&Sha256::digest(bytes).into())
}

/// Everything behind the reading: hashes, decompression, unpacking.
struct Sink {
    /// The hash of the blob, when it is compressed; else it is that of the tar.
    blob: Option<Sha256>,
    tar: Sha256,
    gunzip: Option<(Gunzip, Vec<u8>)>,
    unpacker: Unpacker,
}

impl Sink {
    /// `start` is the blob's beginning: it tells the compression when the blob does not.
    fn new(compression: Compression, digest: Option<&Digest>, start: &[u8], target: &Path) -> Result<Self> {
        // A media type that contradicts the content is common (Docker's save); the content is right.
        let gzip = match (Compression::sniff(start), compression) {
            (Compression::Gzip, _) => true,
            (Compression::Zstd, _) | (_, Compression::Zstd) => {
                return Err(Error::unsupported(
                    &"layers compressed with zstd; make the image with gzip layers",
                ));
            }
            _ => false,
        };
        Ok(Self {
            blob: (gzip && digest.is_some()).then(Sha256::new),
            tar: Sha256::new(),
            gunzip: gzip.then(|| (Gunzip::new(), vec![0; CHUNK])),
            unpacker: Unpacker::new(target)?,
        })
    }

    fn push(&mut self, mut piece: &[u8]) -> Result<()> {
        if let Some(hash) = &mut self.blob {
            hash.update(piece);
        }
        let Some((gunzip, buffer)) = &mut self.gunzip else {
            self.tar.update(piece);
            return self.unpacker.push(piece);
        };
        loop {
            let count =
                gunzip.next(&mut piece, buffer).map_err(|error| Error::bad("layer", &error.text()))?;
            let content = buffer.get(..count).unwrap_or_default();
            if content.is_empty() && piece.is_empty() {
                return Ok(());
            }
            self.tar.update(content);
            self.unpacker.push(content)?;
        }
    }

    fn finish(self, digest: Option<&Digest>, diff_id: &Digest) -> Result<Unpacked> {
        if let Some((gunzip, _)) = &self.gunzip {
            gunzip.finish().map_err(|error| Error::bad("layer", &error.text()))?;
        }
        let tar = Digest::sha256(&self.tar.finalize().into());
        if let Some(expected) = digest {
            let found = match self.blob {
                Some(hash) => Digest::sha256(&hash.finalize().into()),
                None => tar.clone(),
            };
            verify("layer blob", expected, found)?;
        }
        verify("layer", diff_id, tar)?;
        self.unpacker.finish()
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

/// Reads as much as there is, up to the buffer's length; 0 at the end.
fn read(source: &mut dyn Read, buffer: &mut [u8]) -> Result<usize> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            other => return Ok(other.context("read", "layer")?),
        }
    }
}
