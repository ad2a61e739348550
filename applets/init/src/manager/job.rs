//! Jobs: one a unit, run when what is ordered before them has ended.

use super::runtime::{Event, earlier};
use super::state::{Outcome, Phase, State};
use super::{Manager, World};
use crate::log;
use crate::unit::{Condition, Type};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// How long a `Type=idle` service waits for other jobs: systemd's number.
const IDLE_WAIT: Duration = Duration::from_secs(5);

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Bring it up.
    Start,
    /// Bring it down.
    Stop,
    /// Down, then up.
    Restart,
    /// Let it read its configuration again.
    Reload,
}

impl Kind {
    /// systemd's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It did what it should.
    Done,
    /// A condition did not hold: nothing was to do.
    Skipped,
    /// It failed.
    Failed,
    /// A unit that it needs failed.
    Dependency,
    /// An opposite job took its place.
    Canceled,
    /// Its time limit passed.
    Timeout,
}

impl Verdict {
    /// systemd's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::Dependency => "dependency",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
        }
    }

    /// Whether those who asked for it got what they wanted.
    pub fn is_good(self) -> bool {
        matches!(self, Self::Done | Self::Skipped)
    }
}

/// A job.
#[derive(Debug, Clone)]
pub struct Job {
    /// Its number.
    pub id: u32,
    /// What it does.
    pub kind: Kind,
    /// It is under way; else it waits for others.
    pub running: bool,
    /// It is an automatic restart.
    pub automatic: bool,
    /// When it is given up.
    pub deadline: Option<Duration>,
    /// Until when a `Type=idle` service waits.
    pub idle_until: Option<Duration>,
    /// The number of the job that it waited for when somebody last looked; 0: none.
    pub waits_for: Cell<u32>,
}

impl Job {
    /// The next moment at which it must be looked at.
    pub fn next_deadline(&self) -> Option<Duration> {
        let idle = self.idle_until.filter(|_| !self.running);
        earlier(self.deadline, idle)
    }
}

impl Manager {
    /// Runs every job that may run now, until none is left that may.
    pub(super) fn settle(&mut self, world: &mut dyn World) {
        loop {
            if let Some(name) = self.first_waiting(&|name, job| self.may_run(name, job)) {
                self.run_job(world, &name);
            } else if let Some(name) = self.stuck() {
                self.note(
                    log::WARNING,
                    &name,
                    format_args!("is part of an ordering cycle, which is broken here"),
                );
                self.run_job(world, &name);
            } else if let Some(name) = self.due_trigger(world).filter(|_| !self.ending) {
                self.fire(world, &name);
            } else {
                return;
            }
        }
    }

    /// The unit with the oldest waiting job of which `wanted` says yes.
    fn first_waiting(&self, wanted: &dyn Fn(&str, &Job) -> bool) -> Option<String> {
        let mut first: Option<(u32, &String)> = None;
        for (name, job) in self.jobs.iter() {
            if !job.running && first.is_none_or(|(id, _)| job.id < id) && wanted(name, job) {
                first = Some((job.id, name));
            }
        }
        first.map(|(_, name)| name.clone())
    }

    /// Whether nothing that is ordered before the unit's job is left to do.
    fn may_run(&self, name: &str, job: &Job) -> bool {
        let Some(slot) = self.units.get(name) else { return true };
        let down = matches!(job.kind, Kind::Stop | Kind::Restart);
        if !down && slot.active() == Phase::Deactivating {
            return false;
        }
        if self.is_idle_job(job) && self.jobs.len() > 1 {
            return false;
        }
        // Each event asks for all jobs: as a rule one waits for the same as before.
        let before = job.waits_for.get();
        let known = self.jobs.iter().find(|(_, other)| other.id == before);
        if known.is_some_and(|(other, other_job)| self.waits(name, down, other, other_job)) {
            return false;
        }
        for (other, other_job) in self.jobs.iter() {
            if other != name && self.waits(name, down, other, other_job) {
                job.waits_for.set(other_job.id);
                return false;
            }
        }
        true
    }

    /// Whether a unit that goes `down` or comes up waits for another one's job. What comes after another goes down first
    /// and comes up when the other has ended whatever it does; what comes before another waits only while the other goes
    /// down.
    fn waits(&self, name: &str, down: bool, other: &str, other_job: &Job) -> bool {
        if self.is_after(name, other) {
            return !down;
        }
        (other_job.kind == Kind::Stop || self.is_going_down(other, other_job)) && self.is_after(other, name)
    }

    /// Whether the job of a `Type=idle` service still waits for the others.
    fn is_idle_job(&self, job: &Job) -> bool {
        job.idle_until.is_some_and(|until| until > self.now)
    }

    /// Whether a restart is in its first half.
    fn is_going_down(&self, name: &str, job: &Job) -> bool {
        job.kind == Kind::Restart && self.is_not_down(name)
    }

    /// Whether `one` is ordered after `other`.
    fn is_after(&self, one: &str, other: &str) -> bool {
        let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
        self.units.get(one).is_some_and(|slot| has(&slot.unit.relations.after, other))
            || self.units.get(other).is_some_and(|slot| has(&slot.unit.relations.before, one))
    }

    /// The first waiting job when all wait for each other: nothing is under way that could end the wait.
    fn stuck(&self) -> Option<String> {
        for (name, job) in self.jobs.iter() {
            if job.running || self.is_idle_job(job) {
                return None;
            }
            let Some(slot) = self.units.get(name) else { continue };
            let moving = matches!(slot.active(), Phase::Activating | Phase::Deactivating | Phase::Reloading);
            if moving && slot.runtime.state != State::AutoRestart {
                return None;
            }
        }
        self.first_waiting(&|_, _| true)
    }

    fn run_job(&mut self, world: &mut dyn World, name: &str) {
        let Some(job) = self.jobs.get_mut(name) else { return };
        let (kind, automatic) = (job.kind, job.automatic);
        job.running = true;
        let Some(slot) = self.units.get(name) else {
            return self.end_job(name, Verdict::Done);
        };
        let active = slot.active();
        match kind {
            Kind::Start if active.is_up() => self.end_job(name, Verdict::Done),
            Kind::Start => self.run_start(world, name, !automatic),
            Kind::Stop if active.is_down() => self.end_job(name, Verdict::Done),
            Kind::Restart if active.is_down() => self.restart_went_down(name),
            Kind::Stop | Kind::Restart => self.run_stop(world, name),
            Kind::Reload if slot.runtime.state == State::Running => {
                self.service(world, name, &Event::Reload);
            }
            Kind::Reload => self.end_job(name, Verdict::Failed),
        }
    }

    /// Whether the unit's first start in this boot has been done along with another's (`X-DoneBy=`).
    fn is_done_by_another(&mut self, name: &str) -> bool {
        let Some(slot) = self.units.get_mut(name) else { return false };
        let unit = Rc::clone(&slot.unit);
        let first = !std::mem::replace(&mut slot.on_its_own, true);
        let other = unit.service.as_ref().and_then(|service| service.done_by.as_deref());
        first && other.is_some_and(|other| self.is_up(other))
    }

    fn run_start(&mut self, world: &mut dyn World, name: &str, by_hand: bool) {
        let Some(slot) = self.units.get_mut(name) else { return };
        if starting(slot.runtime.state) {
            return;
        }
        let unmet = unmet(world, &slot.unit.conditions);
        slot.condition_failed = unmet.is_some();
        if let Some((why, verdict)) = unmet {
            if slot.runtime.state == State::AutoRestart {
                slot.runtime.state = State::Dead;
            }
            self.note(log::INFO, name, format_args!("not started: {why}"));
            return self.end_job(name, verdict);
        }
        if self.is_done_by_another(name) {
            let now = self.now;
            if let Some(slot) = self.units.get_mut(name) {
                slot.runtime.state = State::Exited;
                slot.runtime.since = now;
            }
            self.moved(world, name, true);
            return self.end_job(name, Verdict::Done);
        }
        let Some(slot) = self.units.get_mut(name) else { return };
        if slot.unit.service.is_none() {
            slot.reached = true;
            // Of a path or timer it is told that it was started.
            if slot.unit.trigger.is_none() {
                self.note(log::INFO, name, format_args!("reached"));
            }
            self.arm(world, name, true);
            self.moved(world, name, true);
            return self.end_job(name, Verdict::Done);
        }
        if !slot.may_start(self.now) {
            slot.runtime.state = State::Failed;
            slot.runtime.outcome = Outcome::StartLimit;
            self.note(
                log::ERROR,
                name,
                format_args!("was started too often (StartLimitBurst=) and stays down"),
            );
            self.system(name, |unit| unit.start_limit_action);
            return self.end_job(name, Verdict::Failed);
        }
        self.moved(world, name, true);
        self.service(world, name, &Event::Start { by_hand });
    }

    fn run_stop(&mut self, world: &mut dyn World, name: &str) {
        let Some(slot) = self.units.get_mut(name) else { return };
        if slot.unit.service.is_some() {
            return self.service(world, name, &Event::Stop);
        }
        slot.reached = false;
        self.disarm(name);
        self.moved(world, name, false);
        self.end_job_of(name, Kind::Stop, Verdict::Done);
        self.restart_went_down(name);
        self.stop_bound(name);
    }

    /// The first half of a restart is done: it becomes a start.
    pub(super) fn restart_went_down(&mut self, name: &str) {
        if let Some(job) = self.jobs.get_mut(name).filter(|job| job.kind == Kind::Restart) {
            job.kind = Kind::Start;
            job.running = false;
        }
    }

    /// Ends the unit's job if it is of this kind and under way.
    pub(super) fn end_job_of(&mut self, name: &str, kind: Kind, verdict: Verdict) {
        if self.jobs.get(name).is_some_and(|job| job.kind == kind && job.running) {
            self.end_job(name, verdict);
        }
    }

    /// Ends the unit's job, and with a failed start the waiting starts of the units that need it.
    pub(super) fn end_job(&mut self, name: &str, verdict: Verdict) {
        let Some(job) = self.jobs.remove(name) else { return };
        self.out.push(super::Action::JobEnded { id: job.id, verdict });
        match (job.kind, verdict) {
            (Kind::Start, Verdict::Done) => self.note(log::INFO, name, format_args!("started")),
            (_, Verdict::Timeout) => {
                self.note(log::ERROR, name, format_args!("{} job timed out", job.kind.name()));
            }
            _ => {}
        }
        if !matches!(job.kind, Kind::Start | Kind::Restart)
            || verdict.is_good()
            || verdict == Verdict::Canceled
        {
            return;
        }
        for dependent in self.dependents(name, false) {
            let job = self.jobs.get(&dependent);
            if job.is_some_and(|job| !job.running && matches!(job.kind, Kind::Start | Kind::Restart)) {
                self.note(log::ERROR, &dependent, format_args!("not started: it needs {name}, which failed"));
                self.end_job(&dependent, Verdict::Dependency);
            }
        }
    }
}

impl super::Slot {
    /// When the start limit allows the next start, if it does not now.
    pub(super) fn start_limit_until(&self, now: Duration) -> Option<Duration> {
        let (interval, burst) = self.unit.start_limit?;
        let mut recent = Vec::new();
        for start in &self.starts {
            let until = start.saturating_add(interval);
            if until > now {
                recent.push(until);
            }
        }
        let full = recent.len() >= usize::try_from(burst).unwrap_or(usize::MAX);
        if full { recent.first().copied() } else { None }
    }

    /// Counts a start against the start limit.
    fn may_start(&mut self, now: Duration) -> bool {
        let Some((interval, burst)) = self.unit.start_limit else { return true };
        self.starts.retain(|start| now.saturating_sub(*start) < interval);
        if self.starts.len() >= usize::try_from(burst).unwrap_or(usize::MAX) {
            return false;
        }
        self.starts.push(now);
        true
    }
}

/// Whether a start is under way already.
fn starting(state: State) -> bool {
    matches!(state, State::Condition | State::StartPre | State::Start | State::StartPost)
}

/// What keeps a unit from being started.
fn unmet(world: &mut dyn World, conditions: &[Condition]) -> Option<(String, Verdict)> {
    let mut triggers = (false, false);
    for condition in conditions {
        let holds = world.holds(condition) != condition.negated;
        if condition.trigger {
            triggers = (true, triggers.1 || holds);
        } else if !holds {
            let verdict = if condition.assertion { Verdict::Failed } else { Verdict::Skipped };
            return Some((format!("{condition} does not hold"), verdict));
        }
    }
    (triggers == (true, false))
        .then(|| ("none of its triggering conditions holds".to_owned(), Verdict::Skipped))
}

/// Whether a service waits for the others' jobs.
pub(super) fn idle_until(unit: &crate::unit::Unit, now: Duration) -> Option<Duration> {
    let idle = unit.service.as_ref().is_some_and(|service| service.kind == Type::Idle);
    idle.then(|| minke_sys::clock::after(now, IDLE_WAIT))
}
