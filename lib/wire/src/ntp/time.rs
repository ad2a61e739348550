//! Times on the wire (RFC 5905 §6).

/// 1900 to 1970 in seconds.
const ERA_TO_UNIX: i64 = 2_208_988_800;
const SECOND: i64 = 1_000_000_000;

/// The timestamp format: seconds since 1900 modulo 2^32 and the fraction of a second in units of 2^-32 s. Zero says
/// that no time is known. It repeats each 136 years, an era; the present one ends in February 2036.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// No time known.
    pub const ZERO: Self = Self(0);

    /// The time that many nanoseconds after 1970 UTC (before it, if negative).
    pub fn from_nanos(nanos: i64) -> Self {
        let seconds = nanos.div_euclid(SECOND).wrapping_add(ERA_TO_UNIX);
        let fraction = nanos.rem_euclid(SECOND).wrapping_shl(32).wrapping_div(SECOND);
        // The cut of the seconds to 32 bits is what an era is.
        Self((seconds.cast_unsigned() << 32) | fraction.cast_unsigned())
    }

    /// Nanoseconds since 1970 UTC, in the era in which the time is nearest to `pivot`, which is such a number too: no
    /// more than 68 years before or after it. What kernels can set (until 2232) fits; beyond 2262 it is cut.
    pub fn to_nanos(self, pivot: i64) -> i64 {
        let pivot = pivot.div_euclid(SECOND).wrapping_add(ERA_TO_UNIX);
        let distance = ((self.0 >> 32) as u32).wrapping_sub(pivot as u32).cast_signed();
        let seconds = pivot.wrapping_add(distance.into()).wrapping_sub(ERA_TO_UNIX);
        seconds.saturating_mul(SECOND).saturating_add(nanos_of(self.0 as u32).into())
    }

    /// From the other time to this one in nanoseconds, when they are less than 68 years apart.
    pub fn since(self, other: Self) -> i64 {
        let units = self.0.wrapping_sub(other.0).cast_signed();
        (units >> 32).wrapping_mul(SECOND).wrapping_add(nanos_of(units as u32).into())
    }
}

/// Units of 2^-32 s in nanoseconds, rounded, so that nanoseconds come back as they went.
fn nanos_of(fraction: u32) -> u32 {
    ((u64::from(fraction) * 1_000_000_000).wrapping_add(1 << 31) >> 32) as u32
}

/// The short format: seconds in units of 2^-16 s, for root delay and root dispersion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Short(pub u32);

impl Short {
    /// From nanoseconds, rounded up, at most 18 hours.
    pub fn from_nanos(nanos: u64) -> Self {
        let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        let fraction = (rest << 16).div_ceil(1_000_000_000);
        let units = seconds.checked_mul(1 << 16).and_then(|units| units.checked_add(fraction));
        Self(units.and_then(|units| units.try_into().ok()).unwrap_or(u32::MAX))
    }

    /// In nanoseconds.
    pub fn to_nanos(self) -> u64 {
        (u64::from(self.0) * 1_000_000_000) >> 16
    }
}
