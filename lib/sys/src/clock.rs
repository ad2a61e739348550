//! Clocks, in 64-bit time on every architecture.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::Duration;

/// Time since boot, suspend included; never steps.
pub fn boottime() -> Duration {
    duration(clock_gettime(ClockId::Boottime))
}

/// Time since boot without suspend; never steps.
pub fn monotonic() -> Duration {
    duration(clock_gettime(ClockId::Monotonic))
}

/// Time since 1970 UTC, as far as the machine knows it; zero when the clock stands before that.
pub fn realtime() -> Duration {
    duration(clock_gettime(ClockId::Realtime))
}

fn duration(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds.min(999_999_999))
}

/// A span in whole milliseconds. `Duration::as_millis` is 128 bits wide, which costs 1.5 kB where it is shown.
pub fn milliseconds(span: Duration) -> u64 {
    span.as_secs().saturating_mul(1000).saturating_add(u64::from(span.subsec_millis()))
}
