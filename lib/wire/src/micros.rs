//! Times as one number. The arithmetic and the comparisons of std's `Duration`, with its two parts, take 50 to 90 bytes of
//! code at each use on ARMv6; these take ten.

use std::ops::{Add, Mul, Sub};
use std::time::Duration;

/// Microseconds: a span, or a moment since boot. Sums and differences end at the largest and at zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(u64);

impl Micros {
    /// No time.
    pub const ZERO: Self = Self(0);
    /// Half a million years.
    pub const MAX: Self = Self(u64::MAX);

    /// So many microseconds.
    pub const fn from_micros(count: u64) -> Self {
        Self(count)
    }

    /// So many milliseconds.
    pub const fn from_millis(count: u64) -> Self {
        Self(count.saturating_mul(1000))
    }

    /// So many seconds.
    pub const fn from_secs(count: u64) -> Self {
        Self(count.saturating_mul(1_000_000))
    }

    /// How many there are.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How many whole milliseconds there are.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1000
    }

    /// How many whole seconds there are.
    #[inline(never)]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Whether it is no time.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Later, or longer.
    #[inline(never)]
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Earlier, or shorter.
    #[inline(never)]
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// So many times as long.
    #[must_use]
    pub const fn saturating_mul(self, count: u32) -> Self {
        Self(self.0.saturating_mul(count as u64))
    }
}

/// As `saturating_add`.
impl Add for Micros {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

/// As `saturating_sub`.
impl Sub for Micros {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
}

/// As `saturating_mul`.
impl Mul<u32> for Micros {
    type Output = Self;

    fn mul(self, count: u32) -> Self {
        self.saturating_mul(count)
    }
}

impl From<Duration> for Micros {
    #[inline(never)]
    fn from(span: Duration) -> Self {
        let whole = Self::from_secs(span.as_secs());
        whole.saturating_add(Self(span.subsec_micros().into()))
    }
}

impl From<Micros> for Duration {
    #[inline(never)]
    fn from(span: Micros) -> Self {
        Self::from_micros(span.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_durations_do_it() {
        let spans = [0, 1, 999_999, 1_000_000, 1_000_001, 86_400_000_000, 1 << 53];
        for one in spans {
            let (span, micros) = (Duration::from_micros(one), Micros::from_micros(one));
            assert_eq!((Micros::from(span), Duration::from(micros)), (micros, span));
            assert_eq!((micros.as_secs(), micros.is_zero()), (span.as_secs(), span.is_zero()));
            for other in spans {
                let (span, more) = (span, Duration::from_micros(other));
                let other = Micros::from(more);
                assert_eq!(micros.saturating_add(other), Micros::from(span.saturating_add(more)));
                assert_eq!(micros.saturating_sub(other), Micros::from(span.saturating_sub(more)));
                assert_eq!(micros.cmp(&other), span.cmp(&more));
            }
        }
        assert_eq!(Micros::from(Duration::MAX), Micros::MAX);
        assert_eq!(Micros::MAX.saturating_add(Micros::from_secs(1)), Micros::MAX);
    }
}
