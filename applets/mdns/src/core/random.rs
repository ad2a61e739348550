//! Delays that differ between devices (RFC 6762 asks for them in a dozen places). No secret depends on them.

use super::Time;

/// SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below `bound`, which is small; 0 for a bound of 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 32).wrapping_mul(bound) >> 32
    }

    /// `least` and up to `spread` more.
    pub(crate) fn delay(&mut self, least: Time, spread: Time) -> Time {
        least.saturating_add(self.below(spread.saturating_add(1)))
    }
}

/// At most so many things per second: a bucket of tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Thousandths of a token.
    left: u64,
    at: Time,
    per_second: u64,
}

impl Budget {
    /// A full one; it holds what comes in two seconds.
    pub(crate) fn new(now: Time, per_second: u64) -> Self {
        Self { left: per_second.saturating_mul(2000), at: now, per_second }
    }

    /// Takes one; `false`: none was left.
    pub(crate) fn take(&mut self, now: Time) -> bool {
        let came = now.saturating_sub(self.at).saturating_mul(self.per_second);
        self.left = self.left.saturating_add(came).min(self.per_second.saturating_mul(2000));
        self.at = now;
        let more = self.left.checked_sub(1000);
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
        assert_eq!((0..100).filter(|_| budget.take(5)).count(), 20);
        assert_eq!((0..1000).filter(|at| budget.take(5 + at * 10)).count(), 99);
    }

    #[test]
    fn delays_fill_their_range() {
        let mut random = Random::new(1);
        let delays: Vec<_> = (0..2000).map(|_| random.delay(20, 100)).collect();
        assert_eq!((delays.iter().min(), delays.iter().max()), (Some(&20), Some(&120)));
        assert_eq!(random.below(0), 0);
    }
}
