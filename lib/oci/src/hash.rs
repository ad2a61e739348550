//! SHA-256 (FIPS 180-4) of what comes in pieces. ring has it in the instructions that each processor has for it, and is
//! linked for TLS anyhow.

use crate::Digest;
use ring::digest::{Context, SHA256};

/// A hash being made. (ring's state has 240 bytes, half of what a frame may have on ARMv6 before its code grows: it is
/// passed around in a box.)
pub(crate) struct Hash {
    context: Box<Context>,
    length: u64,
}

impl Hash {
    /// Of nothing yet.
    #[inline(never)]
    pub(crate) fn new() -> Self {
        Self { context: Box::new(Context::new(&SHA256)), length: 0 }
    }

    /// Bytes so far.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Takes more bytes.
    #[inline(never)]
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(0));
        self.context.update(bytes);
    }

    /// The digest of all that was taken.
    #[inline(never)]
    pub(crate) fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().zip(self.context.finish().as_ref()) {
            *place = *byte;
        }
        Digest::sha256(&bytes)
    }
}
