//! The rate limit: so many messages of one source in a span of time; the rest is counted and dropped (spec os
//! §10.2).

/// Messages of one source that pass in one [`INTERVAL`].
pub const BURST: u32 = 10_000;
/// Microseconds of one interval.
pub const INTERVAL: u64 = 30_000_000;
/// Sources that are counted at a time. When there are more, the one whose interval began first is forgotten.
const SOURCES: usize = 128;

/// Counts messages per source.
#[derive(Debug, Default)]
pub struct Limiter {
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    name: Box<[u8]>,
    began: u64,
    passed: u32,
    dropped: u64,
}

/// What is to be done with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Keep it.
    Pass,
    /// Keep it, and first say that so many before it were dropped.
    PassAfter(u64),
    /// Drop it.
    Drop,
}

impl Limiter {
    /// Judges a message of `source` at the time `now` (microseconds since boot).
    pub fn judge(&mut self, source: &[u8], now: u64) -> Verdict {
        let Some(entry) = self.sources.iter_mut().find(|entry| *entry.name == *source) else {
            self.remember(source, now);
            return Verdict::Pass;
        };
        if now.saturating_sub(entry.began) >= INTERVAL {
            let dropped = std::mem::take(&mut entry.dropped);
            (entry.began, entry.passed) = (now, 1);
            return if dropped > 0 { Verdict::PassAfter(dropped) } else { Verdict::Pass };
        }
        if entry.passed < BURST {
            entry.passed = entry.passed.saturating_add(1);
            return Verdict::Pass;
        }
        entry.dropped = entry.dropped.saturating_add(1);
        Verdict::Drop
    }

    fn remember(&mut self, source: &[u8], now: u64) {
        if self.sources.len() >= SOURCES {
            // One that is over its limit is kept as long as there are others: else many sources would free it.
            let key = |entry: &Source| (entry.passed >= BURST, entry.began);
            if let Some(index) = (0..self.sources.len()).min_by_key(|index| self.sources.get(*index).map(key))
            {
                self.sources.swap_remove(index);
            }
        }
        self.sources.push(Source { name: source.into(), began: now, passed: 1, dropped: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_the_rest_is_counted_and_the_next_interval_says_so() {
        let mut limiter = Limiter::default();
        for _ in 0..BURST {
            assert_eq!(limiter.judge(b"loud", 5), Verdict::Pass);
        }
        for _ in 0..7 {
            assert_eq!(limiter.judge(b"loud", 5 + INTERVAL - 1), Verdict::Drop);
        }
        assert_eq!(limiter.judge(b"quiet", 6), Verdict::Pass);
        assert_eq!(limiter.judge(b"loud", 5 + INTERVAL), Verdict::PassAfter(7));
        assert_eq!(limiter.judge(b"loud", 6 + INTERVAL), Verdict::Pass);
    }

    #[test]
    fn the_table_is_bounded_and_a_loud_source_cannot_be_pushed_out() {
        let mut limiter = Limiter::default();
        for _ in 0..=BURST {
            limiter.judge(b"loud", 0);
        }
        for number in 0..10_000u64 {
            limiter.judge(&number.to_le_bytes(), 1 + number);
        }
        assert_eq!(limiter.sources.len(), SOURCES);
        assert_eq!(limiter.judge(b"loud", 20_000), Verdict::Drop);
    }
}
