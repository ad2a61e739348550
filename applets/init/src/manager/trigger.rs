//! Paths and timers: when they start their units.
//!
//! A path looks at the disk by [`World::holds`] and hears of changes by [`Manager::path_event`]; a timer knows its next
//! moments. Both start their unit in [`Manager::settle`], when nothing else is left to do.

use super::plan::Plan;
use super::runtime::{earlier, later};
use super::{Action, Manager, Slot, World};
use crate::log;
use crate::unit::{Base, Condition, Look, Test, Trigger};
use std::rc::Rc;
use std::time::Duration;

/// So long after a change the unit starts: what an editor does in several steps counts as one change.
const SETTLE: Duration = Duration::from_millis(100);
/// What is still there when the unit has ended starts it again, with at least this in between: the rate of systemd's
/// start limit, without its end.
const PAUSE: Duration = Duration::from_secs(2);
/// The shortest time between starts by `OnUnitActiveSec=` and `OnUnitInactiveSec=`.
const LEAST: Duration = Duration::from_millis(100);

/// A path or timer that is up.
#[derive(Debug, Default)]
pub struct Armed {
    /// A path: when it starts its unit, if that is down then.
    due: Option<Duration>,
    /// A path: its late starts, for the limit.
    starts: Vec<Duration>,
    /// That the limit was reached has been told.
    told: bool,
    /// When it came up.
    since: Duration,
    /// Its last start of its unit: since boot, and since 1970.
    pub last: Option<(Duration, Duration)>,
    /// A timer: the next moment, since boot.
    pub next: Option<Duration>,
    /// A timer: the next moment of the calendar, since 1970.
    pub next_calendar: Option<Duration>,
    /// A timer: moments of the calendar after this one are to come, since 1970.
    base: Duration,
}

impl Manager {
    /// Something may have happened to what an active path watches; `changed`: it has for sure, in a way that
    /// `PathChanged=` or `PathModified=` means.
    pub fn path_event(&mut self, world: &mut dyn World, name: &str, changed: bool, now: Duration) {
        self.now = now;
        if changed && let Some(armed) = self.armed(name) {
            armed.due = earlier(armed.due, Some(later(now, SETTLE)));
        }
        self.look(world, name);
        self.settle(world);
    }

    /// Somebody has set the clock: the moments of the calendar are computed anew.
    pub fn clock_set(&mut self, world: &mut dyn World, now: Duration) {
        self.now = now;
        let calendar = |trigger: &Trigger| !trigger.calendars.is_empty();
        for name in self.names_of(&|_, slot| slot.unit.trigger.as_ref().is_some_and(|unit| calendar(unit))) {
            self.schedule(world, &name, false);
        }
        self.settle(world);
    }

    /// When the calendar's alarm must ring, since 1970: at the last moment of those that can be served together.
    pub fn alarm(&self) -> Option<Duration> {
        self.wake(|armed| armed.next_calendar)
    }

    /// The same for moments since boot.
    pub(super) fn next_moment(&self) -> Option<Duration> {
        let mut next = self.wake(|armed| armed.next);
        for slot in self.units.values() {
            let (Some(armed), Some(trigger)) = (&slot.armed, &slot.unit.trigger) else { continue };
            if armed.due.is_some() && !self.ending && self.is_at_rest(&trigger.unit) {
                next = earlier(next, armed.due);
            }
        }
        next
    }

    /// The one moment for all timers that may run out until the first must.
    fn wake(&self, moment: fn(&Armed) -> Option<Duration>) -> Option<Duration> {
        // A system that goes down starts nothing, and nothing wakes it for that.
        if self.ending {
            return None;
        }
        let mut limit = None;
        let mut moments = Vec::new();
        for slot in self.units.values() {
            let Some(next) = slot.armed.as_deref().and_then(moment) else { continue };
            let accuracy =
                slot.unit.trigger.as_ref().and_then(|trigger| trigger.accuracy).unwrap_or_default();
            limit = earlier(limit, Some(later(next, accuracy)));
            moments.push(next);
        }
        let limit = limit?;
        moments.into_iter().filter(|next| *next <= limit).max()
    }

    /// `SubState`.
    pub fn sub_state(&self, slot: &Slot) -> &'static str {
        match (&slot.unit.service, &slot.unit.trigger, &slot.armed) {
            (Some(_), ..) => slot.runtime.state.name(),
            (_, Some(trigger), Some(armed)) => self.trigger_state(armed, trigger),
            _ if slot.reached => "active",
            _ => "dead",
        }
    }

    /// The state of a path or timer beyond that it is up.
    fn trigger_state(&self, armed: &Armed, trigger: &Trigger) -> &'static str {
        if !self.is_at_rest(&trigger.unit) {
            "running"
        } else if trigger.place.is_none()
            && trigger.paths.is_empty()
            && armed.next.is_none()
            && armed.next_calendar.is_none()
        {
            "elapsed"
        } else {
            "waiting"
        }
    }

    /// A path or timer comes up. `first`: for good, not after a fault of PID 1 or with a new definition.
    pub(super) fn arm(&mut self, world: &mut dyn World, name: &str, first: bool) {
        let (now, real) = (self.now, world.realtime());
        let Some(slot) = self.units.get_mut(name) else { return };
        let Some(trigger) = &slot.unit.trigger else { return };
        let mut armed = slot.armed.take().unwrap_or_else(|| {
            let last = if first { None } else { Some((now, real)) };
            Box::new(Armed { since: now, base: real, last, ..Armed::default() })
        });
        if first && trigger.persistent {
            match world.last_run(name) {
                Some(last) => armed.base = last,
                // The first run is not one that was missed.
                None => world.record_run(name),
            }
        }
        slot.armed = Some(armed);
        if trigger.paths.is_empty() && trigger.place.is_none() {
            self.schedule(world, name, first);
        } else {
            self.out.push(Action::Watch { unit: name.to_owned(), on: true });
        }
    }

    /// It goes down.
    pub(super) fn disarm(&mut self, name: &str) {
        let armed = self.units.get_mut(name).and_then(|slot| slot.armed.take());
        if armed.is_some() {
            self.out.push(Action::Watch { unit: name.to_owned(), on: false });
        }
    }

    /// A unit went up (was started) or down: those that start it look again.
    pub(super) fn moved(&mut self, world: &mut dyn World, name: &str, up: bool) {
        let now = self.now;
        let Some(slot) = self.units.get_mut(name) else { return };
        if up {
            slot.went_up = Some(now);
        } else {
            slot.went_down = Some(now);
        }
        for starter in self.starters(name) {
            let Some(slot) = self.units.get(&starter) else { continue };
            let Some(trigger) = &slot.unit.trigger else { continue };
            let base = if up { Base::UnitActive } else { Base::UnitInactive };
            if trigger.moments.iter().any(|(own, _)| *own == base) {
                self.schedule(world, &starter, false);
            } else if !up {
                self.look(world, &starter);
            }
        }
    }

    /// The active paths and timers that start a unit.
    pub fn starters(&self, name: &str) -> Vec<String> {
        self.names_of(&|_, slot| {
            slot.armed.is_some() && slot.unit.trigger.as_ref().is_some_and(|trigger| trigger.unit == name)
        })
    }

    /// The first path or timer that must start its unit now.
    pub(super) fn due_trigger(&self, world: &mut dyn World) -> Option<String> {
        let mut real = None;
        for (name, slot) in self.units.iter() {
            let (Some(armed), Some(trigger)) = (&slot.armed, &slot.unit.trigger) else { continue };
            let passed = |moment: Option<Duration>| moment.is_some_and(|moment| moment <= self.now);
            let mut is_due = passed(armed.next) || passed(armed.due) && self.is_at_rest(&trigger.unit);
            if let Some(next) = armed.next_calendar {
                is_due |= next <= *real.get_or_insert_with(|| world.realtime());
            }
            if is_due {
                return Some(name.clone());
            }
        }
        None
    }

    /// Starts what a path or timer is for.
    pub(super) fn fire(&mut self, world: &mut dyn World, name: &str) {
        let Some(slot) = self.units.get(name) else { return };
        let unit = Rc::clone(&slot.unit);
        let Some(trigger) = &unit.trigger else { return };
        let last = (self.now, world.realtime());
        if trigger.paths.is_empty() {
            if trigger.persistent {
                world.record_run(name);
            }
            if let Some(armed) = self.armed(name) {
                (armed.last, armed.base) = (Some(last), last.1);
            }
            self.schedule(world, name, false);
        } else if self.must_wait(name, trigger) {
            return;
        } else if let Some(armed) = self.armed(name) {
            (armed.last, armed.due, armed.told) = (Some(last), None, false);
            armed.starts.push(last.0);
        }
        let mut plan = Plan::new();
        match self.plan_start(world, &trigger.unit, &mut plan) {
            Ok(()) => self.accept(&plan, false),
            Err(refusal) => {
                self.note(log::ERROR, name, format_args!("cannot start {}: {refusal}", trigger.unit));
            }
        }
        let over = |armed: &Armed| armed.next.is_none() && armed.next_calendar.is_none();
        if !trigger.remain && self.armed(name).is_some_and(|armed| over(armed)) {
            self.disarm(name);
            if let Some(slot) = self.units.get_mut(name) {
                slot.reached = false;
            }
        }
    }

    /// Whether the path has started its unit too often lately, or the unit's own start limit is reached. Then it tries
    /// again when that is over: unlike systemd's, which fails for good.
    fn must_wait(&mut self, name: &str, trigger: &Trigger) -> bool {
        let now = self.now;
        let unit_limit = self.units.get(&trigger.unit).and_then(|slot| slot.start_limit_until(now));
        let Some(armed) = self.armed(name) else { return true };
        let mut until = unit_limit;
        if let Some(interval) = trigger.limit_interval {
            armed.starts.retain(|start| now.saturating_sub(*start) < interval);
            if armed.starts.len() >= usize::try_from(trigger.limit_burst).unwrap_or(usize::MAX) {
                until = armed.starts.first().map(|first| later(*first, interval)).max(until);
            }
        } else {
            armed.starts.clear();
        }
        if until.is_none() {
            return false;
        }
        armed.due = until;
        if !std::mem::replace(&mut armed.told, true) {
            self.note(log::WARNING, name, format_args!("starts {} too often and waits", trigger.unit));
        }
        true
    }

    /// Looks whether what a path waits for is there.
    fn look(&mut self, world: &mut dyn World, name: &str) {
        let now = self.now;
        let Some(slot) = self.units.get_mut(name) else { return };
        let (Some(armed), Some(trigger)) = (&mut slot.armed, &slot.unit.trigger) else { return };
        for (look, path) in &trigger.paths {
            let test = match look {
                Look::Exists => Test::PathExists,
                Look::NotEmpty => Test::DirectoryNotEmpty,
                Look::Changed | Look::Modified => continue,
            };
            let argument = path.clone();
            let condition = Condition { test, argument, negated: false, trigger: false, assertion: false };
            if world.holds(&condition) {
                let earliest = armed.last.map_or(now, |(last, _)| now.max(later(last, PAUSE)));
                armed.due = earlier(armed.due, Some(earliest));
            }
        }
    }

    /// Computes a timer's next moments. `first`: what has passed already since the boot counts.
    fn schedule(&mut self, world: &mut dyn World, name: &str, first: bool) {
        let (now, real) = (self.now, world.realtime());
        let Some(slot) = self.units.get(name) else { return };
        let (Some(armed), Some(trigger)) = (&slot.armed, &slot.unit.trigger) else { return };
        let unit = self.units.get(&trigger.unit);
        let last = armed.last.map(|(last, _)| last);
        let base = armed.base.min(real);
        let mut next = None;
        for (base, span) in &trigger.moments {
            let since = match base {
                Base::Active => Some(armed.since),
                Base::Boot => Some(Duration::ZERO),
                Base::UnitActive => unit.and_then(|unit| unit.went_up).max(last),
                Base::UnitInactive => unit.and_then(|unit| unit.went_down).max(last),
            };
            let once = matches!(base, Base::Active | Base::Boot);
            let span = if once { *span } else { (*span).max(LEAST) };
            let Some(moment) = since.map(|since| later(since, span)) else { continue };
            if first || !once || moment > now {
                next = earlier(next, Some(moment));
            }
        }
        let mut next_calendar = None;
        for (calendar, _) in &trigger.calendars {
            let moment = calendar.next(i64::try_from(base.as_secs()).unwrap_or(i64::MAX));
            let moment = moment.and_then(|moment| u64::try_from(moment).ok()).map(Duration::from_secs);
            next_calendar = earlier(next_calendar, moment);
        }
        if let Some(most) = trigger.random.filter(|most| !most.is_zero()) {
            // A moment that was missed is delayed, too: not all devices of a fleet come at once.
            let delay =
                random_below(most, if trigger.fixed_random { world.fixed(name) } else { world.random() });
            next = next.map(|next| later(next.max(now), delay));
            next_calendar = next_calendar.map(|next| later(next.max(real), delay));
        }
        if let Some(armed) = self.armed(name) {
            (armed.base, armed.next, armed.next_calendar) = (base, next, next_calendar);
        }
    }

    fn armed(&mut self, name: &str) -> Option<&mut Armed> {
        self.units.get_mut(name)?.armed.as_deref_mut()
    }

    /// Whether a unit is down and nothing is about to change that.
    fn is_at_rest(&self, name: &str) -> bool {
        !self.is_not_down(name) && !self.jobs.contains_key(name)
    }
}

/// A span of at most `most` from a random number, in whole milliseconds.
fn random_below(most: Duration, random: u64) -> Duration {
    let most = minke_sys::clock::milliseconds(most).saturating_add(1);
    Duration::from_millis(random.checked_rem(most).unwrap_or(0))
}
