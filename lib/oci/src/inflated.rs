//! Decompression of bytes in memory.

use crate::Result;
use crate::gunzip::{Pipe, Place, gunzip};

struct Bytes<'a> {
    rest: &'a [u8],
    take: &'a mut dyn FnMut(&[u8]) -> minke_sys::Result<()>,
}

impl Pipe for Bytes<'_> {
    fn data(&mut self) -> Result<&[u8]> {
        Ok(self.rest)
    }

    fn advance(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn content(&mut self, content: &[u8]) -> Result<()> {
        Ok((self.take)(content)?)
    }

    fn between(&mut self, _: &Place<'_>) -> Result<()> {
        Ok(())
    }
}

/// Hands the content of gzip data to `take`, in pieces of 32 KiB at most.
pub fn gunzip_bytes(data: &[u8], take: &mut dyn FnMut(&[u8]) -> minke_sys::Result<()>) -> Result<()> {
    gunzip(&mut Bytes { rest: data, take }, None)
}
