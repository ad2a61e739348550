//! Clocks, in 64-bit time on every architecture.

use crate::{Context, Result};
use std::time::Duration;

/// Time since boot, suspend included; never steps.
pub fn boottime() -> Duration {
    read(libc::CLOCK_BOOTTIME)
}

/// Time since boot without suspend; never steps.
pub fn monotonic() -> Duration {
    read(libc::CLOCK_MONOTONIC)
}

/// Time since 1970 UTC, as far as the machine knows it; zero when the clock stands before that.
pub fn realtime() -> Duration {
    read(libc::CLOCK_REALTIME)
}

/// Time since boot by the bare oscillator, without suspend: nobody steers or sets it.
pub fn raw() -> Duration {
    read(libc::CLOCK_MONOTONIC_RAW)
}

/// The moment that lies so far after another one, or the last one that there is. The sum's code is 80 bytes on ARMv6.
#[inline(never)]
pub fn after(moment: Duration, span: Duration) -> Duration {
    moment.saturating_add(span)
}

/// The time since boot when such a span from now on will have passed.
#[inline(never)]
pub fn ahead(span: Duration) -> Duration {
    after(boottime(), span)
}

// libc's, which std uses anyhow: rustix finds the vDSO in its own way, with 2 kB of code.
#[inline(never)]
fn read(clock: libc::clockid_t) -> Duration {
    // SAFETY: all-zero bytes are a valid `timespec`, which has hidden padding on some architectures.
    let mut time: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: `time` lives through the call, which fills it in. These clocks cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds.min(999_999_999))
}

/// Sets the time since 1970 UTC for the whole machine (CAP_SYS_TIME).
pub fn set_realtime(time: Duration) -> Result<()> {
    let time = rustix::time::Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    };
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, time).context("set", "the clock")
}

/// Waits; a signal that is handled may end it early.
pub fn sleep(span: Duration) {
    let span = rustix::time::Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: span.subsec_nanos().into(),
    };
    let _ = rustix::thread::nanosleep(&span);
}

/// A span in whole microseconds; as [`milliseconds`].
#[inline(never)]
pub fn microseconds(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(span.subsec_micros()))
}

/// A span in whole milliseconds. `Duration::as_millis` is 128 bits wide, which costs 1.5 kB where it is shown.
pub fn milliseconds(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1000).saturating_add(u64::from(span.subsec_millis()))
}
