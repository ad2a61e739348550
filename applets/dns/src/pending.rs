//! What to do with a query that waits for its answer: pure decisions.

use std::time::Duration;

/// How long one server may take before the next is asked.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// How often a query is sent before the client gets SERVFAIL.
pub(crate) const TRIES: usize = 3;

/// The state of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// How often it was sent.
    pub(crate) tries: usize,
    /// Which server it was sent to, by its place in the list.
    pub(crate) upstream: usize,
    /// When to stop waiting, on the clock of boot.
    pub(crate) deadline: Duration,
}

impl Attempt {
    /// The first attempt, at the server that answered last.
    pub(crate) fn first(now: Duration, preferred: usize) -> Self {
        Self { tries: 1, upstream: preferred, deadline: now.saturating_add(PATIENCE) }
    }

    /// The attempt after this one failed, at the next of `servers`; `None` when it was the last.
    pub(crate) fn next(self, now: Duration, servers: usize) -> Option<Self> {
        if self.tries >= TRIES {
            return None;
        }
        let upstream = self.upstream.wrapping_add(1).checked_rem(servers)?;
        Some(Self { tries: self.tries.saturating_add(1), upstream, deadline: now.saturating_add(PATIENCE) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_server_gives_way_to_the_next_and_the_tries_end() {
        let first = Attempt::first(Duration::ZERO, 1);
        assert_eq!((first.upstream, first.deadline), (1, PATIENCE));
        let second = first.next(PATIENCE, 2).unwrap();
        assert_eq!((second.upstream, second.deadline), (0, PATIENCE * 2));
        let third = second.next(PATIENCE * 2, 2).unwrap();
        assert_eq!(third.upstream, 1);
        assert_eq!(third.next(PATIENCE * 3, 2), None);
    }
}
