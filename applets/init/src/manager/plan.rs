//! From a request to jobs: everything that must be started or stopped along with a unit.

use super::job::idle_until;
use super::{Answer, Job, Kind, Manager, Refusal, Verdict, World};
use crate::log;
use minke_wire::table::Table;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// The jobs of one request, by unit.
pub(super) type Plan = Table<String, Kind>;

impl Manager {
    /// Accepts a request for a unit and all that follows from it. Returns the number of its job; `None` when
    /// nothing is to do.
    pub fn enqueue(
        &mut self,
        world: &mut dyn World,
        kind: Kind,
        name: &str,
        now: Duration,
    ) -> Answer<Option<u32>> {
        if self.ending {
            return Err(Refusal::Ending.into());
        }
        self.now = now;
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
                    return Err(Refusal::NoReload(name).into());
                }
                plan.insert(name.clone(), Kind::Reload);
            }
        }
        self.accept(&plan, false);
        let id = self.jobs.get(&name).map(|job| job.id);
        self.settle(world);
        Ok(id)
    }

    /// The automatic restart of a service.
    pub(super) fn enqueue_automatic(&mut self, world: &mut dyn World, name: &str) -> Answer<()> {
        let mut plan = Plan::new();
        self.plan_start(world, name, &mut plan)?;
        plan.insert(name.to_owned(), Kind::Start);
        self.accept(&plan, true);
        Ok(())
    }

    /// Goes over to a target: starts it, and stops everything that it does not pull in.
    pub fn isolate(&mut self, world: &mut dyn World, name: &str, now: Duration) -> Answer<()> {
        self.now = now;
        let name = world.resolve(name);
        let mut plan = Plan::new();
        self.plan_start(world, &name, &mut plan)?;
        for (other, slot) in self.units.iter() {
            let busy = !slot.active().is_down() || self.jobs.contains_key(other);
            if busy && !slot.unit.ignore_on_isolate && !plan.contains_key(other) {
                plan.insert(other.clone(), Kind::Stop);
            }
        }
        self.accept(&plan, false);
        self.settle(world);
        Ok(())
    }

    /// Stops the units that are bound to one that went down.
    pub(super) fn stop_bound(&mut self, name: &str) {
        let mut plan = Plan::new();
        for (other, slot) in self.units.iter() {
            if !slot.active().is_down() && has(&slot.unit.relations.binds_to, name) {
                self.plan_stop(other, &mut plan);
            }
        }
        self.accept(&plan, false);
    }

    /// The units that need `name` (`Requires=`, `BindsTo=`, `Requisite=`); with `parts`, also `PartOf=`.
    pub(super) fn dependents(&self, name: &str, parts: bool) -> Vec<String> {
        self.names_of(&|_, slot| {
            let relations = &slot.unit.relations;
            has(&relations.requires, name)
                || has(&relations.binds_to, name)
                || has(&relations.requisite, name)
                || (parts && has(&relations.part_of, name))
        })
    }

    pub(super) fn plan_start(&mut self, world: &mut dyn World, name: &str, plan: &mut Plan) -> Answer<()> {
        if will_start(plan, name) {
            return Ok(());
        }
        let unit = Rc::clone(&self.load(world, name)?.unit);
        let relations = &unit.relations;
        plan.insert(name.to_owned(), Kind::Start);
        for other in &relations.requisite {
            if !self.is_up(other) {
                return Err(Refusal::Requisite(other.clone()).into());
            }
        }
        for list in [&relations.requires, &relations.binds_to] {
            for other in list {
                self.plan_start(world, other, plan)?;
            }
        }
        for other in &relations.wants {
            let before = plan.clone();
            if let Err(refusal) = self.plan_start(world, other, plan) {
                *plan = before;
                // That an optional unit is not installed is no news.
                if !matches!(&*refusal, Refusal::NotFound(missing) if missing == other) {
                    self.note(log::WARNING, name, format_args!("wants {other}, but {refusal}"));
                }
            }
        }
        let reverse = self.names_of(&|_, slot| has(&slot.unit.relations.conflicts, name));
        for list in [&relations.conflicts, &reverse] {
            for other in list {
                if self.is_busy(other) && !will_start(plan, other) {
                    self.plan_stop(other, plan);
                }
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

    fn plan_restart(&mut self, world: &mut dyn World, name: &str, plan: &mut Plan) -> Answer<()> {
        self.plan_start(world, name, plan)?;
        let mut names = vec![name.to_owned()];
        while let Some(name) = names.pop() {
            if plan.insert(name.clone(), Kind::Restart) == Some(Kind::Restart) {
                continue;
            }
            for other in self.dependents(&name, true) {
                if self.is_busy(&other) {
                    // What it pulls in comes up with it, also what a condition kept down before.
                    if let Err(refusal) = self.plan_start(world, &other, plan) {
                        self.note(log::WARNING, &other, format_args!("restarts, but {refusal}"));
                    }
                    names.push(other);
                }
            }
        }
        Ok(())
    }

    fn is_busy(&self, name: &str) -> bool {
        self.is_not_down(name) || self.jobs.get(name).is_some_and(|job| job.kind != Kind::Stop)
    }

    /// Makes the plan's jobs, and takes their opposites away.
    pub(super) fn accept(&mut self, plan: &Plan, automatic: bool) {
        for (name, kind) in plan.iter() {
            let (name, mut kind) = (name.as_str(), *kind);
            let Some(slot) = self.units.get_mut(name) else { continue };
            slot.on_its_own |= kind == Kind::Restart;
            let active = slot.active();
            let needless = match kind {
                Kind::Start => active.is_up(),
                Kind::Stop => active.is_down(),
                Kind::Restart | Kind::Reload => false,
            };
            let unit = Rc::clone(&slot.unit);
            match self.jobs.get(name) {
                Some(present) if present.kind == kind => continue,
                // A start under way becomes a restart by being stopped first.
                Some(_) => self.end_job(name, Verdict::Canceled),
                None => {}
            }
            if needless {
                continue;
            }
            if kind == Kind::Restart && active.is_down() {
                kind = Kind::Start;
            }
            self.last_job = self.last_job.wrapping_add(1).max(1);
            let job = Job {
                id: self.last_job,
                kind,
                running: false,
                automatic,
                deadline: unit.job_timeout.map(|limit| minke_sys::clock::after(self.now, limit)),
                idle_until: idle_until(&unit, self.now),
                waits_for: Cell::new(0),
            };
            self.jobs.insert(name.to_owned(), Box::new(job));
        }
    }
}

fn has(list: &[String], name: &str) -> bool {
    list.iter().any(|entry| entry == name)
}

/// Whether the plan brings the unit up.
fn will_start(plan: &Plan, name: &str) -> bool {
    matches!(plan.get(name), Some(Kind::Start | Kind::Restart))
}
