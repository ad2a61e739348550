//! When an ended container starts again. A pure state machine: time comes in as an argument.

use std::time::Duration;

/// The first delay; it doubles with each quick failure.
pub const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The longest delay.
pub const LAST_DELAY: Duration = Duration::from_secs(60);
/// A container that ran so long counts as healthy: the next delay is the first one again.
pub const HEALTHY_AFTER: Duration = Duration::from_secs(10);

/// `HostConfig.RestartPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Never.
    #[default]
    No,
    /// Whatever the exit code, until somebody stops it, and after a boot.
    Always,
    /// As always; but after a boot only when nobody had stopped it.
    UnlessStopped,
    /// After a failure, at most so many times in a row (0: no limit).
    OnFailure(u32),
}

impl Policy {
    /// The policy of this name; the empty name is `no`.
    pub fn by_name(name: &str, maximum: u32) -> Option<Self> {
        Some(match name {
            "" | "no" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => Self::OnFailure(maximum),
            _ => return None,
        })
    }

    /// Whether a container that is not running starts when the engine does.
    pub fn starts_at_boot(self, stopped_by_hand: bool, code: i32) -> bool {
        match self {
            Self::No => false,
            Self::Always => true,
            Self::UnlessStopped => !stopped_by_hand,
            Self::OnFailure(_) => !stopped_by_hand && code != 0,
        }
    }
}

/// The back-off of one container.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backoff {
    delay: Option<Duration>,
    /// Automatic restarts since a person last started the container.
    pub count: u32,
}

impl Backoff {
    /// The container ended by itself with `code` after it ran for `lived`. Returns after which time to start
    /// it again, or `None`.
    pub fn on_end(&mut self, policy: Policy, lived: Duration, code: i32) -> Option<Duration> {
        let again = match policy {
            Policy::No => false,
            Policy::Always | Policy::UnlessStopped => true,
            Policy::OnFailure(maximum) => code != 0 && (maximum == 0 || self.count < maximum),
        };
        if !again {
            return None;
        }
        let next = match self.delay {
            Some(delay) if lived < HEALTHY_AFTER => delay.saturating_mul(2).min(LAST_DELAY),
            _ => FIRST_DELAY,
        };
        self.delay = Some(next);
        self.count = self.count.saturating_add(1);
        Some(next)
    }

    /// A person started it: everything begins anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(5);

    #[test]
    fn delays_double_up_to_a_minute_and_health_resets_them() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> =
            (0..12).map(|_| backoff.on_end(Policy::Always, QUICK, 1).unwrap().as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000]);
        assert_eq!(backoff.on_end(Policy::Always, HEALTHY_AFTER, 0), Some(FIRST_DELAY));
        assert_eq!(backoff.count, 13);
        backoff.reset();
        assert_eq!((backoff.on_end(Policy::UnlessStopped, QUICK, 0), backoff.count), (Some(FIRST_DELAY), 1));
    }

    #[test]
    fn on_failure_counts_and_success_ends_it() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.on_end(Policy::OnFailure(0), QUICK, 0), None);
        for _ in 0..2 {
            assert!(backoff.on_end(Policy::OnFailure(2), QUICK, 3).is_some());
        }
        assert_eq!(backoff.on_end(Policy::OnFailure(2), QUICK, 3), None);
        assert_eq!(backoff.on_end(Policy::No, QUICK, 3), None);
    }

    #[test]
    fn after_a_boot() {
        assert!(Policy::Always.starts_at_boot(true, 0));
        assert!(
            Policy::UnlessStopped.starts_at_boot(false, 0) && !Policy::UnlessStopped.starts_at_boot(true, 0)
        );
        assert!(
            Policy::OnFailure(1).starts_at_boot(false, 255) && !Policy::OnFailure(1).starts_at_boot(false, 0)
        );
        assert!(!Policy::No.starts_at_boot(false, 1));
        assert_eq!(Policy::by_name("sometimes", 0), None);
        assert_eq!(Policy::by_name("", 0), Some(Policy::No));
    }
}
