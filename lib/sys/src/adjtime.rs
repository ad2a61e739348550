//! The kernel's clock discipline: adjtimex(2), by the call clock_adjtime that has 64-bit times on every architecture.

use crate::{Context, Result};
use rustix::io::Errno;

/// The clock follows an external time by the phase-locked loop: `STA_PLL` of `linux/timex.h`.
pub const STA_PLL: i32 = 0x0001;
/// A second is inserted at the end of the UTC day: `STA_INS`.
pub const STA_INS: i32 = 0x0010;
/// The last second of the UTC day is left out: `STA_DEL`.
pub const STA_DEL: i32 = 0x0020;
/// The clock is not synchronised: `STA_UNSYNC`.
pub const STA_UNSYNC: i32 = 0x0040;
/// The loop leaves the frequency alone: `STA_FREQHOLD`.
pub const STA_FREQHOLD: i32 = 0x0080;
/// Offsets are in nanoseconds: `STA_NANO`, which the kernel sets by itself when [`ADJ_NANO`] is given.
pub const STA_NANO: i32 = 0x2000;
/// The flags that the kernel alone sets: `STA_RONLY`.
const STA_RONLY: i32 = 0xff00;

const ADJ_OFFSET: u32 = 0x0001;
const ADJ_FREQUENCY: u32 = 0x0002;
const ADJ_MAXERROR: u32 = 0x0004;
const ADJ_ESTERROR: u32 = 0x0008;
const ADJ_STATUS: u32 = 0x0010;
const ADJ_TIMECONST: u32 = 0x0020;
const ADJ_SETOFFSET: u32 = 0x0100;
const ADJ_NANO: u32 = 0x2000;
const ADJ_TICK: u32 = 0x4000;

/// What [`State::freq`] counts: 2^16 parts in a million million, or parts per million times 65536.
pub const FREQ_PER_PPM: i64 = 1 << 16;
/// Microseconds of a tick, of which a second has 100 (`USER_HZ`).
pub const TICK: i64 = 10_000;

/// `clock_adjtime64`, which 32-bit ARM has beside the call with 32-bit times; the other architectures have one.
#[cfg(target_pointer_width = "32")]
const SYS_CLOCK_ADJTIME: libc::c_long = 405;
#[cfg(target_pointer_width = "64")]
const SYS_CLOCK_ADJTIME: libc::c_long = libc::SYS_clock_adjtime;

/// `struct __kernel_timex` of `linux/timex.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Timex {
    modes: u32,
    pad0: u32,
    offset: i64,
    freq: i64,
    maxerror: i64,
    esterror: i64,
    status: i32,
    pad1: u32,
    constant: i64,
    precision: i64,
    tolerance: i64,
    time_sec: i64,
    time_usec: i64,
    tick: i64,
    ppsfreq: i64,
    jitter: i64,
    shift: i32,
    pad2: u32,
    stabil: i64,
    jitcnt: i64,
    calcnt: i64,
    errcnt: i64,
    stbcnt: i64,
    tai: i32,
    pad3: [u32; 11],
}

/// What the kernel does to its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// What is left of the last offset, in nanoseconds (microseconds without [`STA_NANO`]).
    pub offset: i64,
    /// The correction of the frequency, see [`FREQ_PER_PPM`].
    pub freq: i64,
    /// Microseconds per tick, see [`TICK`].
    pub tick: i64,
    /// The bound of the error in microseconds, which the kernel itself lets grow.
    pub maxerror: i64,
    /// `STA_` flags.
    pub status: i32,
}

/// How the clock shall be steered from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steer {
    /// Nanoseconds to make up for, at most half a second; this replaces what is left of the last ones.
    pub offset: i64,
    /// Each second takes away this share of what is left: one part in 2^(2 + constant).
    pub constant: i64,
    /// The correction of the frequency, see [`FREQ_PER_PPM`]; at most 500 ppm either way.
    pub freq: i64,
    /// Microseconds per tick; see [`TICK`].
    pub tick: i64,
    /// The bound of the error in microseconds.
    pub maxerror: i64,
    /// The expected error in microseconds.
    pub esterror: i64,
    /// [`STA_INS`], [`STA_DEL`] or 0; and [`STA_UNSYNC`] when the clock is not synchronised.
    pub status: i32,
}

/// Reads the state; everybody may.
pub fn read() -> Result<State> {
    call(Timex::default()).context("read", "adjtimex").map(|timex| State {
        offset: timex.offset,
        freq: timex.freq,
        tick: timex.tick,
        maxerror: timex.maxerror,
        status: timex.status,
    })
}

/// Steers the clock. Needs CAP_SYS_TIME.
pub fn steer(steer: &Steer) -> Result<()> {
    let modes = ADJ_OFFSET | ADJ_TIMECONST | ADJ_FREQUENCY | ADJ_TICK | ADJ_NANO;
    let timex = Timex {
        modes: modes | ADJ_MAXERROR | ADJ_ESTERROR | ADJ_STATUS,
        offset: steer.offset,
        constant: steer.constant,
        freq: steer.freq,
        tick: steer.tick,
        maxerror: steer.maxerror,
        esterror: steer.esterror,
        status: STA_PLL | STA_FREQHOLD | steer.status,
        ..Timex::default()
    };
    call(timex).context("steer", "the clock").map(|_| ())
}

/// Tells the error bounds in microseconds and the flags ([`STA_INS`], [`STA_DEL`], [`STA_UNSYNC`] or 0) anew; nothing
/// else changes. Needs CAP_SYS_TIME.
pub fn tell(maxerror: i64, esterror: i64, status: i32) -> Result<()> {
    let timex = Timex {
        modes: ADJ_MAXERROR | ADJ_ESTERROR | ADJ_STATUS,
        maxerror,
        esterror,
        status: STA_PLL | STA_FREQHOLD | status,
        ..Timex::default()
    };
    call(timex).context("steer", "the clock").map(|_| ())
}

/// Sets the clock forward (or back) by nanoseconds, at once. Needs CAP_SYS_TIME.
///
/// The kernel then forgets when a leap second comes of which it was told, but not that it was told, and would not hear of it
/// again: by flags without `STA_PLL` it forgets both.
pub fn step(nanoseconds: i64) -> Result<()> {
    let timex = Timex {
        modes: ADJ_SETOFFSET | ADJ_NANO | ADJ_STATUS,
        status: STA_UNSYNC,
        time_sec: nanoseconds.div_euclid(1_000_000_000),
        time_usec: nanoseconds.rem_euclid(1_000_000_000),
        ..Timex::default()
    };
    call(timex).context("set", "the clock").map(|_| ())
}

fn call(mut timex: Timex) -> std::result::Result<Timex, Errno> {
    // The kernel refuses nothing here, but a caller may hand back what it read.
    timex.status &= !STA_RONLY;
    // SAFETY: `timex` has the layout that the kernel reads and writes, and outlives the call.
    let done = unsafe { libc::syscall(SYS_CLOCK_ADJTIME, libc::CLOCK_REALTIME, &raw mut timex) };
    if done < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(timex)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_has_the_kernels_layout() {
        assert_eq!(size_of::<Timex>(), 208);
        assert_eq!(std::mem::offset_of!(Timex, time_sec), 72);
        assert_eq!(std::mem::offset_of!(Timex, tai), 160);
    }

    #[test]
    fn the_state_is_read_and_nothing_changes() {
        let state = read().unwrap();
        assert!((9_000..=11_000).contains(&state.tick), "{state:?}");
        assert!(state.freq.abs() <= 500 * FREQ_PER_PPM, "{state:?}");
    }
}
