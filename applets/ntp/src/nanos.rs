//! Sums of nanoseconds, and what is made of fractions. They stand in a hundred places, and each would be thirty bytes of
//! code on ARMv6.

/// Moments and spans in nanoseconds; what does not fit ends at the bounds.
pub(crate) trait Nanos: Sized {
    /// So much later, or longer.
    fn after(self, by: Self) -> Self;
    /// From a moment to this one.
    fn since(self, before: Self) -> Self;
}

impl Nanos for i64 {
    #[inline(never)]
    fn after(self, by: Self) -> Self {
        self.saturating_add(by)
    }

    #[inline(never)]
    fn since(self, before: Self) -> Self {
        self.saturating_sub(before)
    }
}

/// From seconds to nanoseconds, or from a share to billionths.
#[inline(never)]
pub(crate) fn nanos(seconds: f64) -> i64 {
    whole(seconds * 1e9)
}

/// Without its fraction, and at the bounds what is beyond them: seventy bytes at each use on ARMv6.
#[inline(never)]
pub(crate) fn whole(value: f64) -> i64 {
    value as i64
}
