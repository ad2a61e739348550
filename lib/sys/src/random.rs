//! Randomness from the kernel: getrandom(2).

use crate::{Context, Result};
use rustix::rand::{GetRandomFlags, getrandom};

/// Fills `buffer`. It waits until the kernel's generator is seeded, as keys and ids are made of this.
pub fn fill(mut buffer: &mut [u8]) -> Result<()> {
    while !buffer.is_empty() {
        match getrandom(&mut *buffer, GetRandomFlags::empty()) {
            Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context("read", "getrandom"),
        }
    }
    Ok(())
}

/// A number for delays and the like, at once: soon after boot it may be one that others can guess.
pub fn quick() -> u64 {
    let mut bytes = [0; 8];
    // Older kernels than 5.6 lack the flag; there it is 0.
    let _ = getrandom(&mut bytes, GetRandomFlags::INSECURE);
    u64::from_ne_bytes(bytes)
}
