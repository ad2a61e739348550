//! Times and delays. The sums stand in dozens of places, and each would be twenty bytes of code on ARMv6.

/// Milliseconds since boot, suspend included.
pub(crate) type Time = u64;

/// Not before something happens.
pub(crate) const NEVER: Time = Time::MAX;

/// So many milliseconds later.
#[inline(never)]
pub(crate) fn after(at: Time, by: u32) -> Time {
    at.saturating_add(by.into())
}

/// Puts a time that is sooner in its place.
#[inline(never)]
pub(crate) fn sooner(first: &mut Time, other: Time) {
    if other < *first {
        *first = other;
    }
}

/// Counts.
#[inline(never)]
pub(crate) fn count(counter: &mut u64, by: usize) {
    *counter = counter.saturating_add(by as u64);
}
