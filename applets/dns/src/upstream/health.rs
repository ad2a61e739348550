//! What is known of each server, and which one is asked next. Pure: time comes in.
//!
//! The quickest by its smoothed round trip is asked first (RFC 6298's estimator), and after as long as its answers usually
//! take the next one as well, while the first may still answer. A server that was silent twice in a row while it was asked,
//! or whose host refuses, is held back, longer each time; everything that it answers takes that back. Others are compared
//! now and then by a real question that goes to two.

use minke_wire::micros::Micros;

/// What a server is thought to need before it has ever answered.
const UNKNOWN: Micros = Micros::from_millis(200);
/// Bounds of how long a server is waited for before the next is asked.
const LEAST_PATIENCE: Micros = Micros::from_millis(20);
const MOST_PATIENCE: Micros = Micros::from_secs(1);
/// A question that has no answer for so long counts as one that the server left unanswered.
pub(crate) const SILENCE: Micros = Micros::from_millis(1_500);
/// So many of them in a row say that it is down.
const MOST_SILENT: u8 = 2;
/// So many failures (SERVFAIL and the like) in a row say that it is of no use.
const MOST_FAILED: u8 = 4;
/// After so many late answers in a row it is asked after the others.
const MOST_LATE: u8 = 2;
/// How long a server is held back at first; it doubles [`DOUBLINGS`] times.
const HOLD: Micros = Micros::from_secs(1);
const DOUBLINGS: u8 = 5;
/// How long after its last question a server is compared with the others again.
const COMPARE: Micros = Micros::from_secs(10);

/// One server's figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Smoothed round trip and its variation, in microseconds; `None` before the first answer.
    pub(crate) rtt: Option<(u32, u32)>,
    /// Questions in a row that it left unanswered.
    silent: u8,
    /// Failures in a row.
    failed: u8,
    /// Questions in a row for which it took longer than it usually does.
    late: u8,
    /// How often it was held back since its last answer.
    holds: u8,
    /// The time since boot until which it is held back.
    held_until: Micros,
    /// The time since boot when it was asked last; `None`: never.
    asked: Option<Micros>,
    /// The time since boot of its last answer.
    answered: Micros,
    /// Questions sent to it, answers that could be used, questions without an answer, and failures of all kinds.
    pub(crate) queries: u64,
    pub(crate) answers: u64,
    pub(crate) timeouts: u64,
    pub(crate) failures: u64,
}

impl Health {
    /// A question was sent to it.
    pub(crate) fn was_asked(&mut self, now: Micros) {
        self.asked = Some(now);
        self.queries = self.queries.wrapping_add(1);
    }

    /// It has answered a question of `sent`. The round trip counts for what was sent at once, not for what waited for a
    /// connection.
    pub(crate) fn has_answered(&mut self, now: Micros, sent: Option<Micros>) {
        if let Some(sent) = sent {
            self.measure(now.saturating_sub(sent));
        }
        (self.silent, self.failed, self.late, self.holds, self.held_until) = (0, 0, 0, 0, Micros::ZERO);
        self.answered = now;
        self.answers = self.answers.wrapping_add(1);
    }

    /// It has said that its answer is too long for a datagram: whether it has one shows later.
    pub(crate) fn has_spoken(&mut self, now: Micros, sent: Option<Micros>) {
        if let Some(sent) = sent {
            self.measure(now.saturating_sub(sent));
        }
    }

    /// It has said something, whatever that means: what it was asked before has not met silence.
    pub(crate) fn lives(&mut self, now: Micros) {
        self.answered = now;
    }

    /// RFC 6298 §2, in integers.
    fn measure(&mut self, span: Micros) {
        let sample = u32::try_from(span.as_micros()).unwrap_or(u32::MAX).min(10_000_000);
        self.rtt = Some(match self.rtt {
            None => (sample, sample / 2),
            Some((smooth, varies)) => {
                let by = smooth.abs_diff(sample);
                let varies = varies.saturating_sub(varies / 4).saturating_add(by / 4);
                (smooth.saturating_sub(smooth / 8).saturating_add(sample / 8), varies)
            }
        });
    }

    /// It has answered, but with a failure: it lives, and is perhaps of no use.
    pub(crate) fn has_failed(&mut self, now: Micros, sent: Option<Micros>) {
        if let Some(sent) = sent {
            self.measure(now.saturating_sub(sent));
        }
        self.silent = 0;
        self.answered = now;
        self.failures = self.failures.wrapping_add(1);
        self.failed = self.failed.saturating_add(1);
        if self.failed >= MOST_FAILED {
            self.hold(now);
        }
    }

    /// The next server is asked, as this one takes longer than it usually does.
    pub(crate) fn was_late(&mut self) {
        self.late = self.late.saturating_add(1);
    }

    /// A question of `sent` has waited for [`SILENCE`]. It means nothing if another one was answered meanwhile.
    pub(crate) fn was_silent(&mut self, now: Micros, sent: Micros) {
        self.timeouts = self.timeouts.wrapping_add(1);
        if self.answered < sent {
            self.silent = self.silent.saturating_add(1);
            if self.silent >= MOST_SILENT {
                self.hold(now);
            }
        }
    }

    /// It cannot be reached, or nobody listens there.
    pub(crate) fn was_refused(&mut self, now: Micros) {
        self.failures = self.failures.wrapping_add(1);
        self.hold(now);
    }

    fn hold(&mut self, now: Micros) {
        if !self.is_held(now) {
            self.held_until = now.saturating_add(HOLD.saturating_mul(1 << self.holds.min(DOUBLINGS)));
            self.holds = self.holds.saturating_add(1);
        }
    }

    /// Whether it is held back.
    pub(crate) fn is_held(&self, now: Micros) -> bool {
        now < self.held_until
    }

    /// Whether it has failed since its last answer.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.holds > 0
    }

    /// Whether it was asked so short a time ago that another question would tell nothing new.
    pub(crate) fn was_asked_recently(&self, now: Micros) -> bool {
        self.asked.is_some_and(|asked| now < asked.saturating_add(HOLD))
    }

    /// Whether the network has changed perhaps: what was held back may be asked again.
    pub(crate) fn encourage(&mut self) {
        (self.held_until, self.asked) = (Micros::ZERO, None);
    }

    /// How long to wait for it before another is asked.
    pub(crate) fn patience(&self) -> Micros {
        let Some((smooth, varies)) = self.rtt else { return UNKNOWN };
        let usual = u64::from(smooth).saturating_add(u64::from(varies).saturating_mul(4));
        Micros::from_micros(usual).clamp(LEAST_PATIENCE, MOST_PATIENCE)
    }

    /// The smaller, the sooner it is asked.
    fn rank(&self, now: Micros) -> (bool, bool, u32) {
        let usual = self.rtt.map_or(u32::MAX, |(smooth, _)| smooth);
        let doubtful = self.is_doubtful() || self.silent > 0 || self.failed > 1 || self.late > MOST_LATE;
        (self.is_held(now), doubtful, usual)
    }
}

/// The best of `members` (places in `all`) whose bit in `except` is not set, by its place in `members`.
pub(crate) fn best(all: &[Health], members: &[usize], except: u32, now: Micros) -> Option<usize> {
    let mut found = None;
    for (place, member) in members.iter().enumerate() {
        let (Some(health), false) = (all.get(*member), has(except, place)) else { continue };
        let rank = health.rank(now);
        if found.is_none_or(|(_, least)| rank < least) {
            found = Some((place, rank));
        }
    }
    found.map(|(place, _)| place)
}

/// One whose figures are missing or old, or that may be back, by its place in `members`: the question goes to it as well.
pub(crate) fn to_compare(all: &[Health], members: &[usize], except: u32, now: Micros) -> Option<usize> {
    members.iter().enumerate().position(|(place, member)| {
        let Some(health) = all.get(*member) else { return false };
        let due = health.asked.is_none_or(|asked| now >= asked.saturating_add(COMPARE))
            || health.is_doubtful() && !health.was_asked_recently(now);
        due && !has(except, place) && !health.is_held(now)
    })
}

/// Whether the bit of `place` is set.
pub(crate) fn has(set: u32, place: usize) -> bool {
    set & bit(place) != 0
}

/// The bit of a place in a group. Groups have 16 members at most.
pub(crate) fn bit(place: usize) -> u32 {
    u32::try_from(place).ok().and_then(|place| 1u32.checked_shl(place)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Micros = Micros::from_millis(1);

    fn measured(rtt: u32) -> Health {
        let mut health = Health::default();
        for turn in 1..20 {
            let sent = MS * 1000 * turn;
            health.was_asked(sent);
            health.has_answered(sent + MS * rtt, Some(sent));
        }
        health
    }

    #[test]
    fn the_estimate_follows_the_round_trip_and_patience_has_bounds() {
        assert_eq!(Health::default().patience(), UNKNOWN);
        assert_eq!(measured(1).patience(), LEAST_PATIENCE);
        let (smooth, _) = measured(100).rtt.unwrap();
        assert!((99_000..=101_000).contains(&smooth), "{smooth}");
        assert!(measured(100).patience() > MS * 100 && measured(100).patience() < MS * 130);
        assert_eq!(measured(9000).patience(), MOST_PATIENCE);
    }

    #[test]
    fn the_quickest_is_asked_first_and_one_that_is_down_last() {
        let mut all = [measured(30), measured(5), Health::default()];
        let now = MS * 30_000;
        assert_eq!(best(&all, &[0, 1, 2], 0, now), Some(1));
        assert_eq!(best(&all, &[0, 1, 2], bit(1), now), Some(0));
        assert_eq!(best(&all, &[0, 1, 2], bit(0) | bit(1), now), Some(2));
        assert_eq!(best(&all, &[0, 1, 2], 7, now), None);
        assert_eq!(best(&all, &[9], 0, now), None);
        all[1].was_silent(now, now - SILENCE);
        assert!(!all[1].is_held(now));
        all[1].was_silent(now, now - SILENCE);
        assert!(all[1].is_held(now) && !all[1].is_held(now + HOLD));
        assert_eq!(best(&all, &[0, 1], 0, now), Some(0));
        // Doubtful until it answers.
        assert_eq!(best(&all, &[0, 1], 0, now + HOLD), Some(0));
        all[1].has_answered(now, Some(now - MS * 5));
        assert_eq!(best(&all, &[0, 1], 0, now), Some(1));
    }

    #[test]
    fn one_that_has_become_slow_is_asked_after_the_others_until_it_answers() {
        let mut all = [measured(5), measured(30)];
        let now = MS * 30_000;
        (0..=MOST_LATE).for_each(|_| all[0].was_late());
        assert!(!all[0].is_held(now));
        assert_eq!(best(&all, &[0, 1], 0, now), Some(1));
        all[0].has_answered(now, None);
        assert_eq!(best(&all, &[0, 1], 0, now), Some(0));
    }

    #[test]
    fn silence_counts_only_if_nothing_was_answered_meanwhile_and_holds_grow() {
        let mut health = measured(5);
        let now = MS * 30_000;
        for _ in 0..5 {
            health.was_silent(now, MS * 100);
        }
        assert!(!health.is_held(now));
        let (mut now, mut spans) = (now, Vec::new());
        for _ in 0..8 {
            health.was_refused(now);
            let held = health.held_until;
            // A second failure in this time does not prolong it.
            health.was_refused(now + MS);
            assert_eq!(health.held_until, held);
            spans.push((held - now).as_secs());
            now = held;
        }
        assert_eq!(spans, [1, 2, 4, 8, 16, 32, 32, 32]);
    }

    #[test]
    fn failures_in_a_row_say_that_a_server_is_of_no_use() {
        let mut health = measured(5);
        let now = MS * 30_000;
        for _ in 1..MOST_FAILED {
            health.has_failed(now, None);
        }
        assert!(!health.is_held(now));
        let mut other = health.clone();
        health.has_failed(now, None);
        assert!(health.is_held(now));
        other.has_answered(now, None);
        other.has_failed(now, None);
        assert!(!other.is_held(now));
    }

    #[test]
    fn others_are_compared_when_their_figures_are_missing_or_old() {
        let mut all = [measured(5), measured(30), Health::default()];
        let now = MS * 19_100;
        // All but the third were asked just now.
        assert_eq!(to_compare(&all, &[0, 1, 2], bit(0), now), Some(2));
        all[2].was_asked(now);
        assert_eq!(to_compare(&all, &[0, 1, 2], bit(0), now), None);
        assert_eq!(to_compare(&all, &[0, 1, 2], bit(0), now + COMPARE), Some(1));
        // One that was held back is tried again as soon as that is over.
        all[1].was_refused(now);
        assert_eq!(to_compare(&all, &[0, 1], bit(0), now), None);
        assert_eq!(to_compare(&all, &[0, 1], bit(0), now + HOLD), Some(1));
        all[1].was_asked(now + HOLD);
        assert_eq!(to_compare(&all, &[0, 1], bit(0), now + HOLD), None);
    }
}
