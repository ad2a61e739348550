//! From a request to jobs: everything that must be started or stopped along with a unit.

use super::job::idle_until;
use super::state::Phase;
use super::{Job, Kind, Manager, Refusal, Verdict, World};
use crate::log;
use minke_wire::table::Table;
use std::time::Duration;

/// The jobs of one request, by unit.
type Plan = Table<String, Kind>;

impl Manager {
    /// Accepts a request for a unit and all that follows from it. Returns the number of its job; `None` when
    /// nothing is to do.
    pub fn enqueue(
        &mut self,
        world: &mut dyn World,
        kind: Kind,
        name: &str,
        now: Duration,
    ) -> Result<Option<u32>, Refusal> {
        if self.ending {
            return Err(Refusal::Ending);
        }
        let name = world.resolve(name);
        let mut plan = Plan::new();
        match kind {
            Kind::Start => self.plan_start(world, &name, &mut plan)?,
            Kind::Stop => {
                self.load(world, &name)?;
                self.plan_stop(&name, &mut plan);
            }
            Kind::Restart => self.plan_restart(world, &name, &mut plan)?,
            Kind::Reload => {
                let slot = self.load(world, &name)?;
                let can = slot.unit.service.as_ref().is_some_and(|service| !service.exec_reload.is_empty());
                if !can || !slot.active().is_up() {
                    return Err(Refusal::NoReload(name));
                }
                plan.insert(name.clone(), Kind::Reload);
            }
        }
        self.accept(&plan, false, now);
        let id = self.jobs.get(&name).map(|job| job.id);
        self.settle(world, now);
        Ok(id)
    }

    /// The automatic restart of a service.
    pub(super) fn enqueue_automatic(
        &mut self,
        world: &mut dyn World,
        name: &str,
        now: Duration,
    ) -> Result<(), Refusal> {
        let mut plan = Plan::new();
        self.plan_start(world, name, &mut plan)?;
        plan.insert(name.to_owned(), Kind::Start);
        self.accept(&plan, true, now);
        Ok(())
    }

    /// Goes over to a target: starts it, and stops everything that it does not pull in.
    pub fn isolate(&mut self, world: &mut dyn World, name: &str, now: Duration) -> Result<(), Refusal> {
        let name = world.resolve(name);
        let mut plan = Plan::new();
        self.plan_start(world, &name, &mut plan)?;
        let others: Vec<String> = self
            .units
            .iter()
            .filter(|(other, slot)| {
                let busy = !slot.active().is_down() || self.jobs.contains_key(*other);
                busy && !slot.unit.ignore_on_isolate && !plan.contains_key(*other)
            })
            .map(|(other, _)| other.clone())
            .collect();
        for other in others {
            plan.insert(other, Kind::Stop);
        }
        self.accept(&plan, false, now);
        self.settle(world, now);
        Ok(())
    }

    /// Stops the units that are bound to one that went down.
    pub(super) fn stop_bound(&mut self, name: &str, now: Duration) {
        let mut plan = Plan::new();
        for dependent in self.dependents(name, false) {
            let bound = self.units.get(&dependent).is_some_and(|slot| {
                !slot.active().is_down() && slot.unit.relations.binds_to.iter().any(|n| n == name)
            });
            if bound {
                self.plan_stop(&dependent, &mut plan);
            }
        }
        self.accept(&plan, false, now);
    }

    /// The units that need `name` (`Requires=`, `BindsTo=`, `Requisite=`); with `parts`, also `PartOf=`.
    pub(super) fn dependents(&self, name: &str, parts: bool) -> Vec<String> {
        let has = |list: &[String]| list.iter().any(|entry| entry == name);
        let needs = self.units.iter().filter(|(_, slot)| {
            let relations = &slot.unit.relations;
            has(&relations.requires)
                || has(&relations.binds_to)
                || has(&relations.requisite)
                || (parts && has(&relations.part_of))
        });
        needs.map(|(name, _)| name.clone()).collect()
    }

    fn plan_start(&mut self, world: &mut dyn World, name: &str, plan: &mut Plan) -> Result<(), Refusal> {
        if matches!(plan.get(name), Some(Kind::Start | Kind::Restart)) {
            return Ok(());
        }
        let relations = self.load(world, name)?.unit.relations.clone();
        plan.insert(name.to_owned(), Kind::Start);
        for other in &relations.requisite {
            if !self.units.get(other).is_some_and(|slot| slot.active().is_up()) {
                return Err(Refusal::Requisite(other.clone()));
            }
        }
        for other in relations.requires.iter().chain(&relations.binds_to) {
            self.plan_start(world, other, plan)?;
        }
        for other in &relations.wants {
            let before = plan.clone();
            if let Err(refusal) = self.plan_start(world, other, plan) {
                *plan = before;
                // That an optional unit is not installed is no news.
                if !matches!(&refusal, Refusal::NotFound(missing) if missing == other) {
                    self.note(log::WARNING, name, format!("wants {other}, but {refusal}"));
                }
            }
        }
        let reverse =
            self.units.iter().filter(|(_, slot)| slot.unit.relations.conflicts.iter().any(|n| n == name));
        let reverse: Vec<String> = reverse.map(|(other, _)| other.clone()).collect();
        for other in relations.conflicts.iter().chain(&reverse) {
            let busy = self.units.get(other).is_some_and(|slot| !slot.active().is_down())
                || self.jobs.get(other).is_some_and(|job| job.kind != Kind::Stop);
            if busy && !matches!(plan.get(other), Some(Kind::Start | Kind::Restart)) {
                self.plan_stop(other, plan);
            }
        }
        Ok(())
    }

    fn plan_stop(&self, name: &str, plan: &mut Plan) {
        if plan.insert(name.to_owned(), Kind::Stop) == Some(Kind::Stop) {
            return;
        }
        for other in self.dependents(name, true) {
            if self.is_busy(&other) {
                self.plan_stop(&other, plan);
            }
        }
    }

    fn plan_restart(&mut self, world: &mut dyn World, name: &str, plan: &mut Plan) -> Result<(), Refusal> {
        self.plan_start(world, name, plan)?;
        let mut names = vec![name.to_owned()];
        while let Some(name) = names.pop() {
            if plan.insert(name.clone(), Kind::Restart) != Some(Kind::Restart) {
                names.extend(self.dependents(&name, true).into_iter().filter(|other| self.is_busy(other)));
            }
        }
        Ok(())
    }

    fn is_busy(&self, name: &str) -> bool {
        self.units.get(name).is_some_and(|slot| !slot.active().is_down())
            || self.jobs.get(name).is_some_and(|job| job.kind != Kind::Stop)
    }

    /// Makes the plan's jobs, and takes their opposites away.
    fn accept(&mut self, plan: &Plan, automatic: bool, now: Duration) {
        for (name, kind) in plan.iter() {
            let Some(slot) = self.units.get(name) else { continue };
            let active = slot.active();
            let needless = match kind {
                Kind::Start => active.is_up(),
                Kind::Stop => active.is_down(),
                Kind::Restart | Kind::Reload => false,
            };
            let (deadline, idle_until) =
                (slot.unit.job_timeout.map(|limit| now.saturating_add(limit)), idle_until(&slot.unit, now));
            match self.jobs.get(name).map(|job| (job.kind, job.running)) {
                Some((present, _)) if present == *kind => continue,
                // A start under way becomes a restart by being stopped first.
                Some(_) => self.end_job(name, Verdict::Canceled),
                None => {}
            }
            if needless && !(*kind == Kind::Start && active == Phase::Deactivating) {
                continue;
            }
            self.last_job = self.last_job.wrapping_add(1).max(1);
            let kind = match kind {
                Kind::Restart if active.is_down() => Kind::Start,
                kind => *kind,
            };
            let job = Job { id: self.last_job, kind, running: false, automatic, deadline, idle_until };
            self.jobs.insert(name.clone(), job);
        }
    }
}
