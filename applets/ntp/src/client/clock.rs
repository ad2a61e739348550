//! The discipline: from what the servers say to what the kernel is told.
//!
//! The kernel gets the frequency and the offset at once and works the offset off by itself: each second a share of
//! 1/2^(2 + constant) of what is left (the kernel's PLL with its frequency held). Samples are counted on the bare
//! oscillator, so none of this shows in them, and the whole offset can be given out each time without a loop that could
//! swing.

use super::filter::{Estimate, Sample};
use super::select::{Candidate, Verdict, select};
use super::source::{Reference, SECOND, Source, exponent};
use super::{Action, Beginning, Now, leap};
use crate::nanos::{Nanos, nanos};
use minke_wire::ntp::Leap;

/// Beyond this the clock is set (spec os §5.6.2), in seconds.
const STEP: f64 = 1.0;
/// The same for the first time after a boot, and after the machine slept or somebody set the clock: nobody can rely on its
/// going on evenly then, and working more than this off takes a while.
const FIRST_STEP: f64 = 0.01;
/// How long the first answers wait for those of the other servers, in nanoseconds.
const QUORUM_WAIT: i64 = 4 * SECOND;
/// So many servers that agree do not wait for names to be looked up.
const ENOUGH: usize = 3;
/// Standard deviation of an oscillator's frequency that nobody knows: those of cheap boards are within ±100 ppm.
const UNKNOWN: f64 = 50e-6;
/// How well a frequency from an earlier run is known at best: the board may be warmer or colder now.
const WARMTH: f64 = 1e-6;
/// The wander, in 1/s: variance of the frequency after a second. From a tenth of a millionth in a month to 30 ppm in a
/// minute.
const LEAST_WANDER: f64 = 1e-21;
const MOST_WANDER: f64 = 1e-11;
const USUAL_WANDER: f64 = 1e-17;
/// The interval grows while the clock is expected to stay within this, in seconds.
const GOAL: f64 = 0.002;
/// The farthest that the kernel works off by itself: MAXPHASE of the kernel.
const MOST_SLEW: f64 = 0.5;
/// What one server alone may do to a clock that nobody has confirmed: forward by so much from the build time.
const ALONE: i64 = 20 * 365 * 86_400 * SECOND;
/// And to a clock that was synchronised.
const ALONE_LATER: i64 = 86_400 * SECOND;
/// What the kernel shall do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Steering {
    /// Nanoseconds to make up for.
    pub(crate) offset: i64,
    /// See [`minke_sys::adjtime::Steer`].
    pub(crate) constant: i64,
    /// Correction of the frequency, as a share.
    pub(crate) frequency: f64,
    /// Bound of the error and expected error, in seconds.
    pub(crate) maxerror: f64,
    pub(crate) esterror: f64,
    /// A leap second at the end of this day.
    pub(crate) leap: Leap,
}

/// The clock as the servers see it.
#[derive(Debug)]
pub(crate) struct Clock {
    beginning: Beginning,
    /// What offsets are counted from: true time less the oscillator's, roughly, in nanoseconds.
    base: i64,
    wander: f64,
    frequency: (f64, f64),
    estimate: Option<Estimate>,
    /// The clock has been compared since the start or since it lost its phase.
    pub(crate) synchronized: bool,
    /// It once was.
    begun: bool,
    /// Somebody may rely on its going on evenly: it has not just begun, been set or slept.
    even: bool,
    /// The first answer that waits for those of others.
    first_heard: Option<i64>,
    /// How far the clock was ahead of the oscillator at the last look, and when.
    ahead: i64,
    looked: i64,
    /// How far apart the clocks may have been read then.
    spread: i64,
    /// The frequency that the kernel was told.
    told: f64,
    /// For people: see `minke_control::ntp::Status`.
    pub(crate) report: Report,
}

/// What people ask for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Report {
    /// The source that weighs most; `None`: none is of use now.
    pub(crate) selected: Option<u64>,
    /// Whom the clock follows, or what it goes on from when nobody answers any more.
    pub(crate) reference: Option<Reference>,
    /// The last one that was selected.
    favourite: Option<u64>,
    pub(crate) leap: Leap,
    pub(crate) updated: Option<i64>,
    pub(crate) updated_real: i64,
    pub(crate) interval: i64,
    /// In seconds.
    pub(crate) last_offset: f64,
    pub(crate) rms_offset: f64,
    pub(crate) residual_frequency: f64,
    /// When and by how much the clock was set, in nanoseconds.
    pub(crate) last_step: Option<(i64, i64)>,
    stepping: i64,
}

impl Clock {
    pub(crate) fn new(now: Now, beginning: Beginning) -> Self {
        let frequency = match beginning.drift {
            Some((frequency, deviation)) => (frequency, deviation * deviation + WARMTH * WARMTH),
            None => (0.0, UNKNOWN * UNKNOWN),
        };
        Self {
            beginning,
            base: now.ahead(),
            wander: USUAL_WANDER,
            frequency,
            estimate: None,
            synchronized: false,
            begun: beginning.synchronized,
            even: beginning.synchronized,
            first_heard: None,
            ahead: now.ahead(),
            looked: now.raw,
            spread: now.spread,
            told: frequency.0,
            report: Report { leap: Leap::Unknown, ..Report::default() },
        }
    }

    /// In the filter's units.
    pub(crate) fn sample(&self, time: i64, offset: i64, delay: i64, precision: f64) -> Sample {
        let offset = offset.since(self.base) as f64 * 1e-9;
        Sample { time: time as f64 * 1e-9, offset, delay: delay as f64 * 1e-9, precision }
    }

    /// What is known of the frequency before a server's answers: value and variance. As the results of some servers, who
    /// all begin with it, are added up, it is taken for less certain.
    pub(crate) fn frequency(&self) -> (f64, f64) {
        (self.frequency.0, 4.0 * self.frequency.1.max(WARMTH * WARMTH))
    }

    /// What is known of the frequency for a later run: value and standard deviation.
    pub(crate) fn drift(&self) -> (f64, f64) {
        (self.frequency.0, self.frequency.1.sqrt())
    }

    /// Times of servers are those nearest to this, in nanoseconds since 1970: as no true time is before the build, an era
    /// of 136 years begins there.
    pub(crate) fn pivot(&self) -> i64 {
        self.beginning.build.after(68 * 365 * 86_400 * SECOND)
    }

    /// A server's time less ours now, in nanoseconds.
    pub(crate) fn offset_of(&self, estimate: &Estimate, now: Now) -> i64 {
        let offset = estimate.at(now.time(), self.wander).offset;
        self.base.after(nanos(offset)).since(now.ahead())
    }

    pub(crate) fn wander(&self) -> f64 {
        self.wander
    }

    /// When the first answers have waited long enough for others.
    pub(crate) fn quorum_deadline(&self) -> Option<i64> {
        self.first_heard.filter(|_| !self.synchronized).map(|heard| heard.after(QUORUM_WAIT))
    }

    pub(crate) fn heard(&mut self, now: Now) {
        if !self.synchronized {
            self.first_heard.get_or_insert(now.boot);
        }
    }

    /// Whether the clock is right, by all that is known: it was compared, and has not been left alone for too long.
    pub(crate) fn is_synchronized(&self, now: Now) -> bool {
        self.synchronized && self.error(now) < 16.0
    }

    /// Three standard deviations of what is known of now, in seconds.
    pub(crate) fn error(&self, now: Now) -> f64 {
        let estimate = self.estimate.map(|estimate| estimate.at(now.time(), self.wander));
        estimate.map_or(16.0, |estimate| 3.0 * estimate.offset_variance.sqrt())
    }

    /// What is left to correct now, in nanoseconds: true time less the clock's.
    pub(crate) fn remaining(&self, now: Now) -> Option<i64> {
        let estimate = self.estimate.filter(|_| self.synchronized)?.at(now.time(), self.wander);
        Some(self.base.after(nanos(estimate.offset)).since(now.ahead()))
    }

    /// Looks whether somebody else set the clock: by how much, in nanoseconds. A leap second, which the kernel does when
    /// it was told to, is no such thing.
    pub(crate) fn watch(&mut self, now: Now, sources: &mut [Source]) -> Option<i64> {
        let elapsed = now.raw.since(self.looked) as f64 * 1e-9;
        let moved = now.ahead().since(self.ahead);
        let expected = nanos(elapsed * self.told);
        let spread = self.spread.max(now.spread) as f64 * 1e-9;
        (self.ahead, self.looked, self.spread) = (now.ahead(), now.raw, now.spread);
        let jump = moved.since(expected);
        // What was given to be worked off, what another program may do to a clock that we only watch, and what is not known
        // of the moments at which the clocks were read: a process may be made to wait between two of them.
        let rate = if self.beginning.watch_only { 1e-3 } else { 2e-5 };
        let allowed = self.report.last_offset.abs() + elapsed * rate + spread + 0.005;
        if nanos(allowed) >= jump.saturating_abs() {
            return None;
        }
        let leap = match self.report.leap {
            Leap::Insert => -SECOND,
            Leap::Delete => SECOND,
            _ => 0,
        };
        // The second that is inserted is the day's last one once more.
        let after_midnight = now.real.after(SECOND).rem_euclid(86_400 * SECOND) < 3600 * SECOND;
        if leap != 0 && after_midnight && jump.since(leap).saturating_abs() <= nanos(allowed) {
            // True time made the same leap.
            self.base = self.base.after(leap);
            self.report.leap = Leap::None;
            for source in sources {
                source.forget_question();
            }
            return None;
        }
        Some(jump)
    }

    /// The phase is no longer known; the frequency is.
    pub(crate) fn lose_phase(&mut self, now: Now) {
        self.synchronized = false;
        self.even = false;
        self.first_heard = None;
        self.estimate = None;
        self.base = now.ahead();
        self.report.leap = Leap::Unknown;
        self.report.selected = None;
        self.report.reference = None;
    }

    /// The clock was set by us.
    pub(crate) fn stepped(&mut self, now: Now) {
        (self.ahead, self.looked, self.spread) = (now.ahead(), now.raw, now.spread);
        self.report.last_step = Some((now.real, self.report.stepping));
    }

    /// Judges all servers and steers. `waiting`: servers that may answer for the first time in a moment, and names that may
    /// become servers.
    pub(crate) fn update(
        &mut self,
        now: Now,
        sources: &mut [Source],
        waiting: (usize, usize),
        actions: &mut Vec<Action>,
    ) {
        let candidates = self.candidates(now, sources);
        let selection = select(&candidates);
        for source in sources.iter_mut() {
            source.verdict = None;
        }
        self.report.selected = None;
        let Some(selection) = selection else { return };
        for (one, verdict) in candidates.iter().zip(&selection.verdicts) {
            if let Some(source) = sources.get_mut(one.index) {
                source.verdict = Some(*verdict);
                if source.last.is_some_and(|last| last.at == now.boot) {
                    let lies = *verdict == Verdict::Falseticker;
                    source.lies = if lies { source.lies.saturating_add(1) } else { 0 };
                }
            }
        }
        // The first time, a majority of all that were asked decides, or of those that answered within a while.
        let patient = self.first_heard.is_some_and(|heard| now.boot.since(heard) < QUORUM_WAIT);
        let (servers, names) = waiting;
        let names = if selection.truechimers < ENOUGH { names } else { 0 };
        let total = candidates.len().saturating_add(servers).saturating_add(names);
        if !self.synchronized && patient && selection.truechimers.saturating_mul(2) <= total {
            return;
        }
        let first = candidates.get(selection.first).and_then(|one| sources.get(one.index));
        self.report.selected = first.map(|source| source.id);
        self.report.reference = first.and_then(Reference::of);
        self.report.favourite = self.report.selected;
        self.adapt(&selection.verdicts, &candidates, sources);
        self.discipline(now, selection.estimate, selection.truechimers, sources, actions);
        self.set_polls(now, sources);
        self.rebase(sources);
    }

    /// Small numbers are precise: after a great step, offsets are counted from where the clock is now.
    fn rebase(&mut self, sources: &mut [Source]) {
        let Some(estimate) = self.estimate.as_mut().filter(|estimate| estimate.offset.abs() > 10.0) else {
            return;
        };
        let by = nanos(estimate.offset);
        self.base = self.base.after(by);
        estimate.offset = 0.0;
        for source in sources {
            source.filter.rebase(by as f64 * 1e-9);
        }
    }

    fn candidates(&self, now: Now, sources: &[Source]) -> Vec<Candidate> {
        let mut candidates = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            let Some(estimate) = source.filter.estimate() else { continue };
            if !source.is_usable() {
                continue;
            }
            let estimate = estimate.at(now.time(), self.wander);
            let delay = source.filter.least_delay();
            let distance =
                source.root_distance() + delay / 2.0 + 3.0 * estimate.offset_variance.sqrt() + 1e-5;
            // Ways there and back seldom differ by more than a tenth; and the server itself is wrong by a part of
            // what it admits.
            let bias = (0.05 * delay + 0.1 * source.root_distance()).powi(2) + 1e-12;
            let favourite = self.report.favourite == Some(source.id);
            candidates.push(Candidate {
                index,
                estimate,
                distance,
                bias,
                prefer: source.options.prefer,
                favourite,
            });
        }
        candidates
    }

    /// Learns how much the oscillator wanders: what makes the good servers' answers most likely. Quickly upwards, as
    /// when the sun begins to shine on it, and slowly downwards.
    fn adapt(&mut self, verdicts: &[Verdict], candidates: &[Candidate], sources: &mut [Source]) {
        let good = |verdict: &Verdict| matches!(verdict, Verdict::Selected | Verdict::Combined);
        let mut cost = |wander: f64| {
            let mut sum = 0.0;
            for (one, verdict) in candidates.iter().zip(verdicts) {
                if let Some(source) = sources.get_mut(one.index).filter(|_| good(verdict)) {
                    sum += source.filter.cost(wander);
                }
            }
            sum
        };
        let mut wander = self.wander;
        let mut best = cost(wander);
        for _ in 0..3 {
            let more = wander * 4.0;
            let found = cost(more);
            if found > best - 2.0 || more > MOST_WANDER {
                break;
            }
            (wander, best) = (more, found);
        }
        if wander == self.wander && wander > LEAST_WANDER && cost(wander / 4.0) < best - 0.2 {
            wander /= 1.5;
        }
        if wander != self.wander {
            self.wander = wander;
            for source in sources {
                source.filter.replay(wander);
            }
        }
    }

    fn discipline(
        &mut self,
        now: Now,
        estimate: Estimate,
        truechimers: usize,
        sources: &[Source],
        actions: &mut Vec<Action>,
    ) {
        let target = self.base.after(nanos(estimate.offset));
        let offset = target.since(now.ahead());
        if truechimers < 2 && !self.may_alone(now, offset) {
            actions.push(Action::Log(format!(
                "one server alone wants to set the clock by {}, and nobody confirms it",
                seconds(offset)
            )));
            return;
        }
        let report = &mut self.report;
        let away = offset as f64 * 1e-9;
        // The answers to one round of questions are one update.
        let interval = report.updated.map_or(0, |updated| now.boot.since(updated));
        if interval > SECOND / 2 {
            report.interval = interval;
        }
        report.updated = Some(now.boot);
        report.updated_real = now.real;
        report.residual_frequency = estimate.frequency - self.told;
        self.estimate = Some(estimate);
        self.frequency = (estimate.frequency.clamp(-0.001, 0.001), estimate.frequency_variance);
        self.synchronized = true;
        self.begun = true;
        let even = std::mem::replace(&mut self.even, true);
        self.first_heard = None;
        let step = away.abs() > if even { STEP } else { FIRST_STEP };
        let left = if step { 0 } else { offset };
        report.last_offset = left as f64 * 1e-9;
        let squared = report.rms_offset * report.rms_offset;
        let share = if squared == 0.0 { 1.0 } else { 0.125 };
        report.rms_offset = (squared + share * (report.last_offset * report.last_offset - squared)).sqrt();
        report.leap = leap::announced(sources);
        self.told = self.frequency.0;
        let told = std::mem::take(&mut self.report.stepping);
        if step {
            self.report.stepping = offset;
            actions.push(Action::Step(offset));
        }
        // A clock that is only watched stays as wrong as it is: that is told once.
        let known = self.beginning.watch_only && told.abs_diff(offset) < SECOND.unsigned_abs();
        if away.abs() > STEP && !known {
            let done = if self.beginning.watch_only { "would be" } else { "is" };
            actions.push(Action::Log(format!("the clock {done} set by {}", seconds(offset))));
        }
        actions.push(Action::Steer(self.steering(now, left, sources)));
    }

    /// What the kernel shall know now: [`Clock::update`] orders it; a caller may repeat it to keep the kernel's own error
    /// bound from growing. `left`: nanoseconds to make up for.
    pub(crate) fn steering(&self, now: Now, left: i64, sources: &[Source]) -> Steering {
        let away = (left as f64 * 1e-9).clamp(-MOST_SLEW, MOST_SLEW);
        let selected = sources.iter().find(|source| Some(source.id) == self.report.selected);
        // That of the last one still holds when nobody is selected any more.
        let distance =
            self.report.reference.map_or(0, |one| (one.delay / 2).after(one.dispersion)) as f64 * 1e-9;
        // Quickly when servers are asked often, and never faster than 5 % of time's pace.
        let quick = selected.is_none_or(|source| source.poll <= 5);
        let constant = if away.abs() > 0.2 || !quick { 2 } else { 0 };
        let error = self.error(now);
        Steering {
            offset: nanos(away),
            constant,
            frequency: self.frequency.0,
            maxerror: distance + error + (left as f64 * 1e-9).abs(),
            esterror: error / 3.0,
            leap: leap::due(self.report.leap, now.real),
        }
    }

    fn may_alone(&self, now: Now, offset: i64) -> bool {
        let target = now.real.after(offset);
        if self.begun {
            offset.saturating_abs() <= ALONE_LATER
        } else {
            let from = self.beginning.build;
            (from..=from.after(ALONE)).contains(&target)
        }
    }

    /// Chooses the intervals: as long as the clock stays good enough meanwhile.
    fn set_polls(&self, now: Now, sources: &mut [Source]) {
        let Some(estimate) = self.estimate else { return };
        let growth = |poll: i8| {
            let later = estimate.at(now.time() + exponent(poll), self.wander);
            (later.offset_variance - estimate.offset_variance).max(0.0).sqrt()
        };
        // A clock that is known to 20 ms need not be asked about for 2 ms; nor one that only a crowd of bad answers shows
        // so well.
        let selected = sources.iter().find(|source| Some(source.id) == self.report.selected);
        let crowd = selected.map_or(0.0, |source| source.filter.deviation() / 4.0);
        let known = estimate.offset_variance.sqrt().max(crowd);
        let goal = GOAL.max(known);
        let longest = |goal: f64| {
            let mut poll = 4;
            while poll < 17 && growth(poll + 1) <= goal {
                poll += 1;
            }
            poll
        };
        let (wanted, learning) = (longest(goal), longest((GOAL / 4.0).max(known / 2.0)));
        for source in sources.iter_mut() {
            // The frequency is known well enough for the owner's interval, or as well as it can be.
            let interval = exponent(source.options.minpoll);
            let learned = estimate.frequency_variance * interval * interval <= goal * goal / 16.0
                || estimate.frequency_variance <= 0.5 * self.wander * interval;
            // Only an answer changes an interval, and not while it is doubted.
            if source.last.is_some_and(|last| last.at == now.boot) && source.burst == 0 {
                source.set_poll(if learned { wanted } else { learning }, learned);
                source.plan(now);
            }
        }
    }
}

/// A span for people, in seconds with milliseconds.
pub(crate) fn seconds(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let milli = nanos.unsigned_abs() / 1_000_000;
    format!("{sign}{}.{:03} s", milli / 1000, milli % 1000)
}
