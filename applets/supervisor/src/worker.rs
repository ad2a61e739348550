//! The worker: the thread that talks to the engine. It sleeps until the engine tells of something, or until a
//! pause after a failure is over.

use crate::apply::execute;
use crate::crashes::Crashes;
use crate::current;
use crate::failure::Failure;
use crate::plan::{Container, Current, Plan, Service, Step, Target, plan};
use crate::queue::Queue;
use crate::settings::Settings;
use crate::state::State;
use crate::values::backoff;
use crate::view::{ContainerRow, ImageRow, Shared};
use minke_applet::log;
use minke_engine_api::{Engine, Error, Event};
use minke_sys::clock::{boottime, milliseconds};
use std::time::Duration;

/// Rounds of one apply. A target is reached in a few: more means that something undoes what is done.
const MAX_ROUNDS: u32 = 50;

/// The first pause after a failed apply (spec supervisor §4.1.1); it doubles up to the poll interval.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// What people read while there is no engine.
const NO_ENGINE: &str = "the engine does not answer";

/// What the worker is told.
#[derive(Debug)]
pub enum Message {
    /// The engine answers, and events come from now on.
    EngineUp,
    /// The engine is gone.
    EngineDown,
    /// Something happened to a container.
    Event(Event),
}

/// The worker's own state.
#[derive(Debug)]
pub struct Worker {
    engine: Engine,
    settings: Box<Settings>,
    state: State,
    shared: Shared,
    crashes: Crashes,
    engine_up: bool,
    /// The preload file was judged.
    preloaded: bool,
    /// Something happened that may need an apply.
    wanted: bool,
    failures: u32,
    /// Until when nothing is applied, after a failure.
    retry_at: Option<Duration>,
    /// What was last said about rejected apps and waiting services, so that it is said once.
    said: Vec<String>,
}

impl Worker {
    /// A worker that has done nothing yet.
    pub fn new(engine: Engine, settings: Box<Settings>, state: State, shared: Shared) -> Self {
        Self {
            engine,
            settings,
            state,
            shared,
            crashes: Crashes::default(),
            engine_up: false,
            preloaded: false,
            wanted: false,
            failures: 0,
            retry_at: None,
            said: Vec::new(),
        }
    }

    /// Works for ever.
    pub fn run(mut self, messages: &Queue) {
        self.publish_keys();
        loop {
            let pause = self.next_deadline().map(|deadline| deadline.saturating_sub(boottime()));
            // What has piled up meanwhile needs one look, not many.
            for message in messages.take(pause) {
                self.take(message);
            }
            self.work();
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::EngineUp => {
                self.engine_up = true;
                self.wanted = true;
                self.retry_at = None;
            }
            Message::EngineDown => {
                self.engine_up = false;
                let mut view = self.shared.get();
                view.applied = false;
                view.problems = vec![NO_ENGINE.to_owned()];
            }
            Message::Event(event) => {
                self.crashes.event(&event, boottime());
                let matters = ["create", "start", "die", "destroy", "rename", "pause", "unpause"];
                self.wanted |= matters.contains(&event.action.as_str());
            }
        }
    }

    /// When to look even if nothing happens.
    fn next_deadline(&self) -> Option<Duration> {
        if !self.engine_up {
            return None;
        }
        match self.retry_at {
            Some(retry) => Some(retry),
            None => self.crashes.next(),
        }
    }

    fn work(&mut self) {
        let now = boottime();
        // After a failure events do not hurry it: a step that fails makes events itself.
        let pausing = self.retry_at.is_some_and(|retry| retry > now);
        let due = self.retry_at.is_some() || self.crashes.next().is_some_and(|due| due <= now);
        if !self.engine_up || pausing || !(self.wanted || due) {
            return;
        }
        self.wanted = false;
        self.retry_at = None;
        self.shared.get().apply_since = Some(now);
        let result = self.apply();
        let mut view = self.shared.get();
        view.apply_since = None;
        view.changing = None;
        drop(view);
        match result {
            Ok(()) => self.failures = 0,
            Err(failure) => self.failed(&failure),
        }
    }

    fn failed(&mut self, failure: &Failure) {
        self.failures = self.failures.saturating_add(1);
        let pause = backoff(FIRST_PAUSE, self.failures, self.settings.poll_interval);
        self.retry_at = Some(boottime().saturating_add(pause));
        // That the engine is gone is told by the end of its events, and its return by their beginning.
        if !failure.unreachable {
            log::error(format_args!(
                "Failed to apply state transition steps. {}; next try in {} ms",
                failure.reason,
                milliseconds(pause)
            ));
        }
        let mut view = self.shared.get();
        view.applied = false;
        view.problems = vec![failure.reason.clone()];
    }

    /// Rounds of planning and doing, until nothing is left to do.
    fn apply(&mut self) -> Result<(), Failure> {
        self.preload()?;
        for _ in 0..MAX_ROUNDS {
            let current = current::current(&self.engine)?;
            let target = self.target()?;
            let now = boottime();
            let crashed = self.crashes.due(now);
            let plan = plan(&current, &target, &crashed);
            // Before anybody is told that all is applied.
            let settled = plan.steps.is_empty().then(|| self.settle(&target));
            self.publish(&current, &target, &plan);
            self.say(&target, &plan);
            self.crashes.acted(now);
            if let Some(settled) = settled {
                return settled;
            }
            self.execute(&plan)?;
        }
        let reason = format!("no end after {MAX_ROUNDS} rounds: something undoes what is done");
        Err(Failure { reason, unreachable: false })
    }

    fn preload(&mut self) -> Result<(), Error> {
        if self.preloaded || (self.state.has_target() && self.settings.provisioned) {
            return Ok(());
        }
        let source = if self.settings.is_unmanaged() { LOCAL } else { self.settings.api_endpoint() };
        crate::preload::take(&self.settings.apps, source, &mut self.state, &self.engine)?;
        self.preloaded = true;
        Ok(())
    }

    fn target(&mut self) -> Result<Target, Failure> {
        let source = source(&self.settings, &self.state);
        current::target(&mut self.state, source, &self.engine, &self.settings.device)
    }

    /// Executes every step of a round, and returns the first error.
    fn execute(&mut self, plan: &Plan<'_>) -> Result<(), Failure> {
        let mut first = Ok(());
        for step in &plan.steps {
            self.shared.get().changing = changing(step);
            if let Err(error) = execute(&self.engine, step, &self.settings.device_name)
                && first.is_ok()
            {
                first = Err(error.into());
            }
            self.shared.get().changing = None;
        }
        first
    }

    fn settle(&mut self, target: &Target) -> Result<(), Failure> {
        for app in &target.apps {
            if app.services.iter().all(|service| service.image_ready.is_some()) {
                self.state.set_commit(app.id, &app.commit)?;
            }
        }
        let release = target.apps.first().and_then(|app| self.state.commit(app.id));
        self.shared.get().release = release.map(str::to_owned);
        Ok(())
    }

    /// Logs why something does not run, once.
    fn say(&mut self, target: &Target, plan: &Plan<'_>) {
        let lines = problems(target, plan, " cannot be run");
        for line in lines.iter().filter(|line| !self.said.contains(line)) {
            log::warn(format_args!("{line}"));
        }
        self.said = lines;
    }

    fn publish_keys(&mut self) {
        if let Err(error) = self.state.key(0, None) {
            log::error(format_args!("store the API key: {error}"));
        }
        let apps = self.state.apps(source(&self.settings, &self.state));
        let first = apps.first().and_then(|(app, _)| app.get("id").and_then(crate::values::int));
        let mut view = self.shared.get();
        view.keys = self.state.keys();
        view.local_mode = self.state.local_mode();
        view.release = first.and_then(|app| self.state.commit(app)).map(str::to_owned);
        view.problems = vec![NO_ENGINE.to_owned()];
    }

    fn publish(&self, current: &Current, target: &Target, plan: &Plan<'_>) {
        let mut view = self.shared.get();
        view.problems = problems(target, plan, "");
        view.applied = plan.steps.is_empty() && view.problems.is_empty();
        view.containers = current.containers.iter().map(row).collect();
        view.images.clear();
        for app in &target.apps {
            view.images.extend(app.services.iter().map(|service| image_row(app.id, service)));
        }
        view.keys = self.state.keys();
        view.local_mode = self.state.local_mode();
    }
}

/// What keeps the target from being reached; `words` follow the number of a rejected app.
fn problems(target: &Target, plan: &Plan<'_>, words: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for (app, reason) in &target.rejected {
        lines.push(format!("app {app}{words}: {reason}"));
    }
    lines.extend_from_slice(&plan.waiting);
    lines
}

/// The source of targets that no cloud gave (§7.9).
const LOCAL: &str = "local";

/// Whose target counts now (§6.1, §7.9).
fn source<'a>(settings: &'a Settings, state: &State) -> &'a str {
    if settings.is_unmanaged() || state.local_mode() { LOCAL } else { settings.api_endpoint() }
}

/// What a service is called while a step changes it (§2.9.5).
fn changing(step: &Step<'_>) -> Option<(String, &'static str)> {
    match step {
        Step::Kill(id) | Step::Stop(id) => Some((id.service.to_owned(), "Stopping")),
        Step::Start(id) => Some((id.service.to_owned(), "Starting")),
        Step::Create(create) => Some((create.service.to_owned(), "Installing")),
        _ => None,
    }
}

fn row(container: &Container) -> ContainerRow {
    let status = match container.status.as_str() {
        "created" => "Installed",
        "running" => "Running",
        "dead" => "Dead",
        other => other,
    };
    ContainerRow {
        id: container.id.clone(),
        app: container.app,
        service: container.service.clone(),
        service_id: container.service_id,
        image_id: image_id(&container.name).unwrap_or(0),
        status: status.to_owned(),
        created: container.created.clone(),
    }
}

/// The image id in `<service>_<imageId>_<releaseId>_<commit>` (§3.8.1); a service's name may hold underscores.
fn image_id(name: &str) -> Option<i64> {
    let mut parts = name.rsplit('_');
    let (_commit, _release) = (parts.next()?, parts.next()?);
    minke_wire::text::number(parts.next()?)
}

fn image_row(app: i64, service: &Service) -> ImageRow {
    ImageRow {
        name: service.image.clone(),
        app,
        service: service.name.clone(),
        engine_id: service.image_ready.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_names_are_read_back() {
        assert_eq!(image_id("web_6_34_c0ffee"), Some(6));
        assert_eq!(image_id("my_web_app_12_3_c"), Some(12));
        assert_eq!(image_id("strange"), None);
    }
}
