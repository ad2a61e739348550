//! Units and jobs: what must be started and stopped, in which order, and what follows from what happens.
//!
//! Pure but for [`World`], by which it asks for unit files and conditions: time and events come in, actions go
//! out. The loop in `pid1` carries them out.

mod job;
mod plan;
pub mod runtime;
mod service;
pub mod state;
#[cfg(test)]
mod tests;
mod trigger;

pub use job::{Job, Kind, Verdict};
pub use trigger::Armed;

use crate::log;
use crate::unit::load::Loaded;
use crate::unit::{self, Condition, Type, Unit, bad_setting};
use minke_wire::table::Table;
use runtime::{Event, Runtime, earlier};
use state::{Effect, Outcome, Phase, State};
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

/// What the manager asks the world.
pub trait World {
    /// Reads the unit that a name leads to.
    fn load(&mut self, name: &str) -> Loaded;
    /// The name that an alias stands for, or the name itself.
    fn resolve(&mut self, name: &str) -> String;
    /// Whether a condition's test holds (its negation is the manager's).
    fn holds(&mut self, condition: &Condition) -> bool;
    /// Reads a process id from a service's file.
    fn read_pid(&mut self, path: &Path) -> Option<i32>;
    /// The time since 1970 UTC, as far as the machine knows it.
    fn realtime(&mut self) -> Duration;
    /// A random number.
    fn random(&mut self) -> u64;
    /// A number that looks random and is always the same for this unit on this machine.
    fn fixed(&mut self, name: &str) -> u64;
    /// When a persistent timer last started its unit, since 1970, by what is on the disk.
    fn last_run(&mut self, name: &str) -> Option<Duration>;
    /// Keeps on the disk that this is now.
    fn record_run(&mut self, name: &str);
}

/// What the loop must do.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Something about a service's processes.
    Service {
        /// The unit.
        unit: String,
        /// What.
        effect: Effect,
    },
    /// Begin to watch an active path unit's paths, or to keep an automatic mount point, or no longer. [`Manager::path_event`] tells what happens to them,
    /// and once that watching has begun.
    Watch {
        /// The unit.
        unit: String,
        /// Begin, also with what is changed in its file.
        on: bool,
    },
    /// A log line.
    Log {
        /// syslog priority.
        priority: u8,
        /// The unit it is about.
        unit: String,
        /// The text.
        text: String,
    },
    /// A job has ended.
    JobEnded {
        /// Its number.
        id: u32,
        /// How.
        verdict: Verdict,
    },
    /// A unit's `FailureAction=` or the like.
    System {
        /// The unit.
        unit: String,
        /// What.
        action: unit::Action,
    },
}

/// What came of a request.
pub type Answer<T> = Result<T, Box<Refusal>>;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such unit.
    NotFound(String),
    /// It must not be started.
    Masked(String),
    /// Its file makes no sense.
    BadSetting(String, &'static str),
    /// `RefuseManualStart=` and the like.
    Manual(String),
    /// A unit that it needs must be active and is not.
    Requisite(String),
    /// It cannot be reloaded.
    NoReload(String),
    /// The system is going down.
    Ending,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(name) => write!(f, "unit {name} not found"),
            Self::Masked(name) => write!(f, "unit {name} is masked"),
            Self::BadSetting(name, why) => write!(f, "unit {name} has a bad setting: {why}"),
            Self::Manual(name) => write!(f, "unit {name} may only be started and stopped by other units"),
            Self::Requisite(name) => write!(f, "unit {name} is not active, which is required"),
            Self::NoReload(name) => write!(f, "unit {name} is not active or cannot be reloaded"),
            Self::Ending => f.write_str("the system is going down"),
        }
    }
}

/// A unit and its state.
#[derive(Debug)]
pub struct Slot {
    /// What its file says.
    pub unit: Rc<Unit>,
    /// A service's run.
    pub runtime: Runtime,
    /// A target is reached; a path or timer is up.
    pub reached: bool,
    /// What a path or timer does that is up.
    pub armed: Option<Box<Armed>>,
    /// When it was last started.
    pub went_up: Option<Duration>,
    /// When it last ended.
    pub went_down: Option<Duration>,
    /// What others have done of its work no longer counts (`X-DoneBy=`): it was started before, or somebody wants it
    /// anew.
    pub on_its_own: bool,
    /// Its last start was skipped because of a condition.
    pub condition_failed: bool,
    /// The number of the watch on its control group.
    pub watch: Option<i32>,
    /// Descriptors that it has stored, with their names.
    pub stored: Vec<(String, OwnedFd)>,
    /// When it was started lately, for the start limit.
    starts: Vec<Duration>,
}

impl Slot {
    fn new(unit: Box<Unit>) -> Self {
        Self {
            unit: Rc::from(unit),
            runtime: Runtime::default(),
            reached: false,
            armed: None,
            went_up: None,
            went_down: None,
            on_its_own: false,
            condition_failed: false,
            watch: None,
            stored: Vec::new(),
            starts: Vec::new(),
        }
    }

    /// `ActiveState`.
    pub fn active(&self) -> Phase {
        match (&self.unit.service, self.reached) {
            (Some(_), _) => self.runtime.state.active(),
            (None, true) => Phase::Active,
            (None, false) => Phase::Inactive,
        }
    }
}

/// What [`Manager::save`] writes of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The unit.
    pub name: String,
    /// It is up; else it is on the way up or down.
    pub up: bool,
    /// It has no process.
    pub exited: bool,
    /// The main process.
    pub main: Option<i32>,
    /// The process of another command.
    pub control: Option<i32>,
    /// Automatic restarts.
    pub restarts: u32,
}

/// All units and jobs.
#[derive(Debug, Default)]
pub struct Manager {
    units: Table<String, Box<Slot>>,
    jobs: Table<String, Box<Job>>,
    last_job: u32,
    /// The time of the present turn.
    now: Duration,
    out: Vec<Action>,
    ending: bool,
}

impl Manager {
    /// The loaded units by name.
    pub fn units(&self) -> &Table<String, Box<Slot>> {
        &self.units
    }

    /// The jobs by unit.
    pub fn jobs(&self) -> &Table<String, Box<Job>> {
        &self.jobs
    }

    /// What must be done since the last call.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.out)
    }

    /// Whether no job is left.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty()
    }

    /// From now on only what takes the system down is accepted.
    pub fn set_ending(&mut self) {
        self.ending = true;
    }

    /// The next moment at which [`Manager::time`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        let mut next = None;
        for slot in self.units.values() {
            next = earlier(next, slot.runtime.deadline());
        }
        for job in self.jobs.values() {
            next = earlier(next, job.next_deadline());
        }
        earlier(next, self.next_moment())
    }

    /// The unit that a process of PID 1's own belongs to.
    pub fn owner(&self, pid: i32) -> Option<&str> {
        self.units.iter().find(|(_, slot)| slot.runtime.owns(pid)).map(|(name, _)| name.as_str())
    }

    /// A loaded unit.
    pub fn slot_mut(&mut self, name: &str) -> Option<&mut Slot> {
        self.units.get_mut(name).map(|slot| &mut **slot)
    }

    /// Time has passed.
    pub fn time(&mut self, world: &mut dyn World, now: Duration) {
        self.now = now;
        let due = |deadline: Option<Duration>| deadline.is_some_and(|deadline| deadline <= now);
        for name in self.names_of(&|_, slot| due(slot.runtime.deadline())) {
            self.service(world, &name, &Event::Time);
        }
        let late = self.names_of(&|name, _| self.jobs.get(name).is_some_and(|job| due(job.deadline)));
        for name in late {
            self.end_job(&name, Verdict::Timeout);
            self.system(&name, |unit| unit.job_timeout_action);
        }
        self.settle(world);
    }

    /// Something happened to a unit's service.
    pub fn event(&mut self, world: &mut dyn World, name: &str, event: &Event<'_>, now: Duration) {
        self.now = now;
        self.service(world, name, event);
        self.settle(world);
    }

    /// The loaded units of which `wanted` says yes.
    fn names_of(&self, wanted: &dyn Fn(&str, &Slot) -> bool) -> Vec<String> {
        let mut names = Vec::new();
        for (name, slot) in self.units.iter() {
            if wanted(name, slot) {
                names.push(name.clone());
            }
        }
        names
    }

    /// Forgets failures, of one unit or of all.
    pub fn reset_failed(&mut self, name: Option<&str>) {
        for (own, slot) in self.units.iter_mut() {
            if name.is_none_or(|name| name == own) {
                slot.starts.clear();
                slot.runtime.restarts = 0;
                if slot.runtime.state == State::Failed {
                    slot.runtime.state = State::Dead;
                    slot.runtime.outcome = Outcome::Success;
                }
            }
        }
    }

    /// Reads all unit files again. A unit whose file is gone keeps its definition while it is up.
    pub fn reload(&mut self, world: &mut dyn World) {
        for name in self.names_of(&|_, _| true) {
            let loaded = world.load(&name);
            let Some(slot) = self.units.get_mut(&name) else { continue };
            if let Loaded::Unit(unit) = loaded {
                slot.unit = Rc::from(unit);
                if slot.armed.is_some() {
                    self.arm(world, &name, false);
                }
            } else if slot.active().is_down() && !self.jobs.contains_key(&name) {
                self.units.remove(&name);
            }
        }
    }

    /// Loads a unit if it is not loaded yet.
    pub fn load(&mut self, world: &mut dyn World, name: &str) -> Answer<&mut Slot> {
        if !self.units.contains_key(name) {
            let unit = match world.load(name) {
                Loaded::Unit(unit) => unit,
                Loaded::Missing => return Err(Refusal::NotFound(name.to_owned()).into()),
                Loaded::Masked => return Err(Refusal::Masked(name.to_owned()).into()),
            };
            if let Some(why) = bad_setting(&unit) {
                return Err(Refusal::BadSetting(name.to_owned(), why).into());
            }
            self.units.insert(name.to_owned(), Box::new(Slot::new(unit)));
        }
        self.slot_mut(name).ok_or_else(|| Refusal::NotFound(name.to_owned()).into())
    }

    /// What a later PID 1 must know: the units that are up, and the processes of the others.
    pub fn save(&self) -> Vec<Saved> {
        let mut saved = Vec::new();
        for (name, slot) in self.units.iter() {
            let Slot { unit, runtime, .. } = &**slot;
            let up = self.is_up(name);
            if up || runtime.main.is_some() || runtime.control.is_some() {
                saved.push(Saved {
                    name: name.clone(),
                    up,
                    exited: runtime.state == State::Exited || unit.service.is_none(),
                    main: runtime.main,
                    control: runtime.control,
                    restarts: runtime.restarts,
                });
            }
        }
        saved
    }

    /// Whether a unit is loaded and up.
    fn is_up(&self, name: &str) -> bool {
        self.units.get(name).is_some_and(|slot| slot.active().is_up())
    }

    /// Whether a unit is up or on its way there: what `try-restart` restarts.
    pub fn is_up_or_coming(&self, name: &str) -> bool {
        let phase = self.units.get(name).map(|slot| slot.active());
        phase.is_some_and(|phase| phase.is_up() || phase == Phase::Activating)
    }

    /// Whether a unit is loaded and not down.
    fn is_not_down(&self, name: &str) -> bool {
        self.units.get(name).is_some_and(|slot| !slot.active().is_down())
    }

    /// Takes over the units that an earlier PID 1 has brought up. The others are the caller's to clear away:
    /// they are started anew.
    pub fn adopt(&mut self, world: &mut dyn World, saved: &[Saved], now: Duration) {
        self.now = now;
        for Saved { name, exited, main, restarts, .. } in saved.iter().filter(|unit| unit.up) {
            let Ok(slot) = self.load(world, name) else { continue };
            slot.on_its_own = true;
            if slot.unit.service.is_none() {
                slot.reached = true;
                self.arm(world, name, false);
                continue;
            }
            let runtime = &mut slot.runtime;
            runtime.state = if *exited { State::Exited } else { State::Running };
            (runtime.main, runtime.restarts) = (*main, *restarts);
            (runtime.populated, runtime.since) = (true, now);
            self.service(world, name, &Event::Adopted);
        }
    }

    /// Lets a service's machine make a step and does what follows from it.
    fn service(&mut self, world: &mut dyn World, name: &str, event: &Event<'_>) {
        let Some(slot) = self.units.get_mut(name) else { return };
        let Some(definition) = &slot.unit.service else { return };
        for effect in service::step(&mut slot.runtime, definition, self.now, event) {
            self.follow(world, name, effect);
        }
    }

    fn follow(&mut self, world: &mut dyn World, name: &str, effect: Effect) {
        match effect {
            Effect::Spawn { .. } | Effect::Signal(..) | Effect::Clean => {
                self.out.push(Action::Service { unit: name.to_owned(), effect });
            }
            Effect::Started => {
                self.find_forked_main(world, name);
                self.end_job_of(name, Kind::Start, Verdict::Done);
            }
            Effect::Reloaded(done) => {
                self.end_job_of(name, Kind::Reload, if done { Verdict::Done } else { Verdict::Failed });
            }
            Effect::TryAgain => self.try_again(world, name),
            Effect::Note(text) => self.note(log::WARNING, name, format_args!("{text}")),
            Effect::Ended { outcome, restart } => self.ended(world, name, outcome, restart),
        }
    }

    /// The main process of a forking service, when it says which it is.
    fn find_forked_main(&mut self, world: &mut dyn World, name: &str) {
        let Some(slot) = self.units.get_mut(name) else { return };
        let Some(definition) = slot.unit.service.as_ref().filter(|service| service.kind == Type::Forking)
        else {
            return;
        };
        if let Some(path) = &definition.pid_file {
            slot.runtime.main = world.read_pid(path);
        }
    }

    fn try_again(&mut self, world: &mut dyn World, name: &str) {
        if self.ending {
            return;
        }
        if let Err(refusal) = self.enqueue_automatic(world, name) {
            self.note(log::ERROR, name, format_args!("is not started again: {refusal}"));
            if let Some(slot) = self.units.get_mut(name) {
                slot.runtime.state = State::Failed;
            }
        }
    }

    /// A service went down.
    fn ended(&mut self, world: &mut dyn World, name: &str, outcome: Outcome, restart: Option<Duration>) {
        let started = if outcome == Outcome::Condition { Verdict::Skipped } else { Verdict::Failed };
        self.end_job_of(name, Kind::Start, started);
        self.end_job_of(name, Kind::Reload, Verdict::Failed);
        self.end_job_of(name, Kind::Stop, Verdict::Done);
        self.restart_went_down(name);
        self.moved(world, name, false);
        if let Some(delay) = restart {
            let count = self.units.get(name).map_or(0, |slot| slot.runtime.restarts);
            let (result, delay) = (outcome.name(), minke_sys::clock::milliseconds(delay));
            return self.note(
                log::INFO,
                name,
                format_args!("ended ({result}); start {count} follows in {delay} ms"),
            );
        }
        if outcome.is_failure() {
            self.failed(world, name, outcome);
        } else {
            self.note(log::INFO, name, format_args!("stopped"));
            self.system(name, |unit| unit.success_action);
        }
        self.stop_bound(name);
    }

    fn failed(&mut self, world: &mut dyn World, name: &str, outcome: Outcome) {
        self.note(log::ERROR, name, format_args!("failed ({})", outcome.name()));
        let Some(slot) = self.units.get(name) else { return };
        let unit = Rc::clone(&slot.unit);
        for helper in &unit.relations.on_failure {
            if let Err(refusal) = self.enqueue(world, Kind::Start, helper, self.now) {
                self.note(log::WARNING, name, format_args!("{refusal}"));
            }
        }
        self.system(name, |unit| unit.failure_action);
    }

    /// Asks for what a unit's file says about the machine in this case.
    fn system(&mut self, name: &str, case: fn(&Unit) -> unit::Action) {
        let action = self.units.get(name).map_or(unit::Action::None, |slot| case(&slot.unit));
        if action != unit::Action::None {
            self.out.push(Action::System { unit: name.to_owned(), action });
        }
    }

    fn note(&mut self, priority: u8, name: &str, text: fmt::Arguments<'_>) {
        self.out.push(Action::Log { priority, unit: name.to_owned(), text: text.to_string() });
    }
}
