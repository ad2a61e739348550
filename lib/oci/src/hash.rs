//! SHA-256 (FIPS 180-4) that can be put away in the middle; sha2 has the compression function.

use crate::Digest;
use sha2::compress256;
use sha2::digest::generic_array::GenericArray;

const BLOCK: usize = 64;

/// A hash being made.
#[derive(Debug, Clone)]
pub(crate) struct Hash {
    state: [u32; 8],
    /// The beginning of the next block.
    block: [u8; BLOCK],
    /// Bytes so far.
    length: u64,
}

impl Hash {
    /// Of nothing yet.
    pub(crate) fn new() -> Self {
        let state = [
            0x6a09_e667,
            0xbb67_ae85,
            0x3c6e_f372,
            0xa54f_f53a,
            0x510e_527f,
            0x9b05_688c,
            0x1f83_d9ab,
            0x5be0_cd19,
        ];
        Self { state, block: [0; BLOCK], length: 0 }
    }

    /// Bytes so far.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Takes more bytes.
    #[inline(never)]
    pub(crate) fn update(&mut self, mut bytes: &[u8]) {
        let begun = usize::try_from(self.length % 64).unwrap_or(0);
        self.length = self.length.wrapping_add(u64::try_from(bytes.len()).unwrap_or(0));
        if begun > 0 {
            let room = self.block.get_mut(begun..).unwrap_or_default();
            let count = room.len().min(bytes.len());
            let (now, rest) = bytes.split_at_checked(count).unwrap_or_default();
            for (place, byte) in room.iter_mut().zip(now) {
                *place = *byte;
            }
            bytes = rest;
            if begun.saturating_add(count) < BLOCK {
                return;
            }
            let block = self.block;
            self.compress(&block);
        }
        let mut blocks = bytes.chunks_exact(BLOCK);
        for block in &mut blocks {
            self.compress(block);
        }
        for (place, byte) in self.block.iter_mut().zip(blocks.remainder()) {
            *place = *byte;
        }
    }

    fn compress(&mut self, block: &[u8]) {
        compress256(&mut self.state, std::slice::from_ref(GenericArray::from_slice(block)));
    }

    /// The digest of all that was taken.
    pub(crate) fn finish(mut self) -> Digest {
        let bits = self.length.wrapping_mul(8).to_be_bytes();
        let begun = usize::try_from(self.length % 64).unwrap_or(0);
        // A one bit, zeros, and the length at the end of a block.
        let zeros = if begun < 56 { 55 - begun } else { 119 - begun };
        let mut padding = [0u8; 72];
        padding[0] = 0x80;
        self.update(padding.get(..zeros.saturating_add(1)).unwrap_or_default());
        self.update(&bits);
        let mut bytes = [0; 32];
        for (place, byte) in bytes.iter_mut().zip(self.state.iter().flat_map(|word| word.to_be_bytes())) {
            *place = byte;
        }
        Digest::sha256(&bytes)
    }

    /// The bytes to put away: state, length, beginning of the next block.
    pub(crate) fn put_away(&self, out: &mut Vec<u8>) {
        for word in self.state {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&self.length.to_le_bytes());
        out.extend_from_slice(&self.block);
    }

    /// What was put away, from the front of `bytes`.
    pub(crate) fn take_up(bytes: &mut &[u8]) -> Option<Self> {
        let mut hash = Self::new();
        for word in &mut hash.state {
            *word = u32::from_le_bytes(take(bytes)?);
        }
        hash.length = u64::from_le_bytes(take(bytes)?);
        hash.block = take(bytes)?;
        Some(hash)
    }
}

/// So many bytes from the front.
pub(crate) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (now, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest as _, Sha256};

    #[test]
    fn as_sha2_in_pieces_of_any_size_and_after_being_put_away() {
        let data: Vec<u8> = (0..1000u32).map(|number| (number * 7 % 251) as u8).collect();
        for length in (0..200).chain([511, 512, 513, 999]) {
            let expected = crate::Digest::sha256(&Sha256::digest(&data[..length]).into());
            for cut in [0, 1, 55, 56, 63, 64, 65, 130] {
                let cut = cut.min(length);
                let mut hash = Hash::new();
                hash.update(&data[..cut]);
                let mut away = Vec::new();
                hash.put_away(&mut away);
                let mut rest = away.as_slice();
                let mut hash = Hash::take_up(&mut rest).unwrap();
                assert!(rest.is_empty() && hash.length() == cut as u64);
                hash.update(&data[cut..length]);
                assert_eq!(hash.finish(), expected, "{cut} of {length}");
            }
        }
        assert!(Hash::take_up(&mut &[0u8; 50][..]).is_none());
    }
}
