//! Whether the service manager's watchdog is fed (spec os §5.6.6), pure.

/// The farthest from true time that counts as synchronised, in nanoseconds.
pub(crate) const MOST_LEFT: i64 = 100_000_000;
/// How long a forced poll may take at most, in nanoseconds.
const PATIENCE: i64 = 60_000_000_000;

/// The watchdog's side of the client.
#[derive(Debug)]
pub(crate) struct Health {
    /// Between two checks: half the watchdog's time. `None`: there is no watchdog, and nothing is checked.
    period: Option<i64>,
    next: i64,
    /// A forced poll is on its way.
    forced: bool,
}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finding {
    /// It is not yet time.
    Nothing,
    /// Feed the watchdog.
    Well,
    /// No server is selected: ask all; the next check decides.
    NoSource,
    /// That did not help: the watchdog is not fed.
    Lost,
}

impl Health {
    /// Begins at `now`, in nanoseconds since boot, with the watchdog's whole time.
    pub(crate) fn new(now: i64, watchdog: Option<i64>) -> Self {
        let period = watchdog.map(|time| time / 2);
        Self { period, next: now.saturating_add(period.unwrap_or(0)), forced: false }
    }

    /// When the next check is due, in nanoseconds since boot.
    pub(crate) fn deadline(&self) -> Option<i64> {
        self.period.map(|_| self.next)
    }

    /// Checks, if it is time. `selected`: a server is; `synchronized`: the clock is right; `routed`: there is a network.
    /// Without one a restart helps nobody, and the watchdog is fed.
    pub(crate) fn check(
        &mut self,
        now: i64,
        selected: bool,
        synchronized: bool,
        routed: &dyn Fn() -> bool,
    ) -> Finding {
        let Some(period) = self.period.filter(|_| now >= self.next) else { return Finding::Nothing };
        let forced = std::mem::take(&mut self.forced);
        self.next = now.saturating_add(period);
        if selected || forced && synchronized {
            return Finding::Well;
        }
        if forced {
            return Finding::Lost;
        }
        if !routed() {
            return Finding::Well;
        }
        self.forced = true;
        // The watchdog was fed a period ago: what is well after all must be told before its second one ends.
        self.next = now.saturating_add(PATIENCE.min(period / 2));
        Finding::NoSource
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn it_is_fed_at_half_the_time_while_a_server_is_selected() {
        let mut health = Health::new(0, Some(240 * SECOND));
        assert_eq!(health.deadline(), Some(120 * SECOND));
        assert_eq!(health.check(119 * SECOND, true, true, &|| true), Finding::Nothing);
        assert_eq!(health.check(120 * SECOND, true, true, &|| true), Finding::Well);
        assert_eq!(health.deadline(), Some(240 * SECOND));
        assert_eq!(Health::new(0, None).deadline(), None);
    }

    #[test]
    fn without_a_server_a_poll_is_forced_and_then_it_starves() {
        let mut health = Health::new(0, Some(240 * SECOND));
        assert_eq!(health.check(120 * SECOND, false, false, &|| true), Finding::NoSource);
        assert_eq!(health.deadline(), Some(180 * SECOND));
        assert_eq!(health.check(180 * SECOND, false, false, &|| true), Finding::Lost);
        assert_eq!(health.check(300 * SECOND, false, true, &|| true), Finding::NoSource);
        // The clock is still right, though nobody answers.
        assert_eq!(health.check(360 * SECOND, false, true, &|| true), Finding::Well);
        assert_eq!(health.check(480 * SECOND, false, false, &|| true), Finding::NoSource);
        assert_eq!(health.check(540 * SECOND, true, false, &|| true), Finding::Well);
    }

    #[test]
    fn a_forced_poll_ends_before_a_short_watchdog_bites() {
        let mut health = Health::new(0, Some(16 * SECOND));
        assert_eq!(health.check(8 * SECOND, true, true, &|| true), Finding::Well);
        assert_eq!(health.check(16 * SECOND, false, true, &|| true), Finding::NoSource);
        assert_eq!(health.deadline(), Some(20 * SECOND));
        assert_eq!(health.check(20 * SECOND, false, true, &|| true), Finding::Well);
    }

    #[test]
    fn without_a_network_a_restart_would_not_help() {
        let mut health = Health::new(0, Some(240 * SECOND));
        assert_eq!(health.check(120 * SECOND, false, false, &|| false), Finding::Well);
    }
}
