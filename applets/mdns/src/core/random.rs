//! Delays that differ between devices (RFC 6762 asks for them in a dozen places). No secret depends on them.

use super::Time;

/// A linear congruential generator; its upper half is what is used.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed);
        random.below(1);
        random
    }

    /// From 0 to below `bound`; 0 for a bound of 0.
    #[inline(never)]
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let upper = (self.0 >> 32) as u32;
        (u64::from(upper).wrapping_mul(bound.into()) >> 32) as u32
    }

    /// `least` and up to `spread` more.
    pub(crate) fn delay(&mut self, least: u32, spread: u32) -> u32 {
        least.saturating_add(self.below(spread.saturating_add(1)))
    }
}

/// At most so many things per second: a bucket of tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Thousandths of a token.
    left: u32,
    at: Time,
    per_second: u32,
}

impl Budget {
    /// A full one; it holds what comes in two seconds.
    pub(crate) fn new(now: Time, per_second: u32) -> Self {
        Self { left: per_second.saturating_mul(2000), at: now, per_second }
    }

    /// Takes some; `false`: not so many were left, and none is taken.
    #[inline(never)]
    pub(crate) fn take(&mut self, now: Time, count: u32) -> bool {
        let passed = now.saturating_sub(self.at).min(2000) as u32;
        let full = self.per_second.saturating_mul(2000);
        self.left = self.left.saturating_add(passed.saturating_mul(self.per_second)).min(full);
        self.at = now;
        let more = self.left.checked_sub(count.saturating_mul(1000));
        self.left = more.unwrap_or(self.left);
        more.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_bounds_bursts_and_rates() {
        let mut budget = Budget::new(5, 10);
        assert_eq!((0..100).filter(|_| budget.take(5, 1)).count(), 20);
        assert_eq!((0..1000).filter(|at| budget.take(5 + at * 10, 1)).count(), 99);
    }

    #[test]
    fn delays_fill_their_range() {
        let mut random = Random::new(1);
        let delays: Vec<_> = (0..2000).map(|_| random.delay(20, 100)).collect();
        assert_eq!((delays.iter().min(), delays.iter().max()), (Some(&20), Some(&120)));
        assert_eq!(random.below(0), 0);
    }
}
