//! Randomness from the kernel: getrandom(2).

use crate::{Context, Result};
use rustix::rand::{GetRandomFlags, getrandom};
use std::io::Read as _;
use std::os::fd::AsFd;

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

/// Where the machine has a generator of random numbers whose driver is loaded.
const HARDWARE: &str = "/dev/hwrng";

/// Seeds the kernel's generator from the machine's own one, if it waits for a seed and there is one: kernels before 6.2
/// leave that to user space, and take seconds for a seed of their own. The answer tells whether it was seeded here.
pub fn seed_from_hardware() -> bool {
    /// `struct rand_pool_info` of linux/random.h with 256 bits.
    #[repr(C)]
    struct Seed {
        entropy_count: libc::c_int,
        buf_size: libc::c_int,
        buf: [u8; 32],
    }
    /// `RNDADDENTROPY`: `_IOW('R', 0x03, int [2])`, the same number on all our machines.
    const ADD_ENTROPY: u32 = 0x4008_5203;
    let mut byte = [0];
    if getrandom(&mut byte, GetRandomFlags::NONBLOCK).is_ok() {
        return false;
    }
    let mut seed = Seed { entropy_count: 256, buf_size: 32, buf: [0; 32] };
    let filled =
        crate::file::open_to_read(HARDWARE).is_ok_and(|mut source| source.read_exact(&mut seed.buf).is_ok());
    let Ok(pool) = crate::file::open("/dev/urandom", crate::file::Flags::WRONLY) else { return false };
    let address = (&raw const seed).addr();
    // SAFETY: the request reads this structure, which lives until the end of the call.
    filled && unsafe { crate::file::ioctl(pool.as_fd(), ADD_ENTROPY, address) }.is_ok()
}

/// A number for delays and the like, at once: soon after boot it may be one that others can guess.
pub fn quick() -> u64 {
    let mut bytes = [0; 8];
    // Older kernels than 5.6 lack the flag; there it is 0.
    let _ = getrandom(&mut bytes, GetRandomFlags::INSECURE);
    u64::from_ne_bytes(bytes)
}
