//! One service's states: which process comes next, what a process's end means, when to try again.
//!
//! Pure: time and events come in, effects go out. systemd.service(5) is the reference for behaviour.

use super::runtime::{Event, Runtime, Word, restart_delay};
use super::state::{Effect, Outcome, State, Whom};
use crate::unit::{Command, KillMode, Restart, Service, Type};
use minke_sys::process::Exit;
use minke_sys::signal::{SIGCONT, SIGHUP, SIGKILL};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

/// After so long a run the next crash counts as the first.
const STABLE: Duration = Duration::from_secs(60);

/// Tells a service's run what happens, and returns what follows from it.
pub fn step(run: &mut Runtime, definition: &Service, now: Duration, event: &Event<'_>) -> Vec<Effect> {
    let mut step = Step { run, definition, now, out: Vec::new() };
    match *event {
        Event::Start { by_hand } => step.start(by_hand),
        Event::Stop => step.stop(),
        Event::Reload => step.reload(),
        Event::Spawned { main, pid } => step.spawned(main, pid),
        Event::Exited { pid, exit } => step.exited(pid, exit),
        Event::Emptied => step.emptied(),
        Event::Adopted => step.feed_watchdog(),
        Event::Time => step.time(),
        Event::Says(word) => step.says(word),
    }
    step.out
}

/// One step of a service's machine.
struct Step<'a> {
    run: &'a mut Runtime,
    definition: &'a Service,
    now: Duration,
    out: Vec<Effect>,
}

impl Step<'_> {
    /// Starts it. `by_hand`: not an automatic restart.
    fn start(&mut self, by_hand: bool) {
        if by_hand {
            self.run.restarts = 0;
            self.run.crashes = 0;
        }
        self.run.stopping = false;
        self.run.outcome = Outcome::Success;
        self.run.main_exit = None;
        self.run.watchdog_interval = None;
        self.run.status.clear();
        self.run.deadline = self.after(self.definition.start_limit());
        self.enter(State::Condition);
    }

    /// Stops it, whatever it is doing.
    fn stop(&mut self) {
        self.run.stopping = true;
        match self.run.state {
            State::Dead | State::Failed => {}
            State::AutoRestart => {
                self.run.state = State::Dead;
                self.run.deadline = None;
                self.out.push(Effect::Ended { outcome: self.run.outcome, restart: None });
            }
            State::Running | State::Exited | State::Reload => self.enter_stop(),
            State::Condition | State::StartPre | State::Start | State::StartPost => {
                self.terminate();
            }
            State::Stop | State::StopSignal | State::StopKill | State::StopPost => {}
        }
    }

    /// Makes it read its configuration again. The caller has seen that it is up and has `ExecReload=`.
    fn reload(&mut self) {
        self.run.deadline = self.after(self.definition.start_limit());
        self.enter(State::Reload);
    }

    /// A process of the present state was started, or could not be.
    fn spawned(&mut self, main: bool, pid: Option<i32>) {
        let Some(pid) = pid else {
            self.fail(Outcome::Resources);
            return self.control_failed();
        };
        self.run.populated = true;
        if !main {
            self.run.control = Some(pid);
            return;
        }
        self.run.main = Some(pid);
        self.run.since = self.now;
        if self.run.state == State::Start
            && matches!(self.definition.kind, Type::Simple | Type::Exec | Type::Idle)
        {
            self.enter(State::StartPost);
        }
    }

    /// One of its processes ended; `populated` tells whether others are left.
    fn exited(&mut self, pid: i32, exit: Exit) {
        if self.run.control == Some(pid) {
            self.run.control = None;
            self.control_exited(exit);
        } else if self.run.main == Some(pid) {
            self.run.main = None;
            self.run.main_exit = Some(exit);
            self.main_exited(exit);
        }
    }

    /// No process is left in its control group.
    fn emptied(&mut self) {
        self.run.populated = false;
        match self.run.state {
            State::StopSignal | State::StopKill => self.check_stopped(),
            // A forking service without a known main process lives as long as anything in its group.
            State::Running if self.run.main.is_none() => self.enter_stop(),
            _ => {}
        }
    }

    fn says(&mut self, word: Word<'_>) {
        match word {
            Word::Ready => self.ready(),
            Word::Alive => self.feed_watchdog(),
            Word::Hung => self.watchdog_missed(),
            Word::WatchdogInterval(interval) => {
                self.run.watchdog_interval = Some(interval);
                self.feed_watchdog();
            }
            Word::Status(text) => text.clone_into(&mut self.run.status),
            Word::MainPid(pid) => self.run.main = Some(pid),
            Word::Extend(by) => {
                let least = minke_sys::clock::after(self.now, by);
                self.run.deadline = self.run.deadline.map(|deadline| deadline.max(least));
            }
            // The descriptors are kept by the loop that has received them.
            Word::Store | Word::StoreRemove | Word::StoreName(_) => {}
        }
    }

    /// It says that it is ready.
    fn ready(&mut self) {
        if self.run.state == State::Start && self.definition.kind == Type::Notify {
            self.enter(State::StartPost);
        }
    }

    /// It says that it lives.
    fn feed_watchdog(&mut self) {
        let interval = self.run.watchdog_interval.or(self.definition.watchdog);
        if matches!(self.run.state, State::Running | State::StartPost | State::Reload) {
            self.run.watchdog = self.after(interval);
        }
    }

    /// Its watchdog ran out, or it says so itself.
    fn watchdog_missed(&mut self) {
        self.run.watchdog = None;
        self.fail(Outcome::Watchdog);
        self.note(format_args!("the watchdog was not fed in time"));
        self.enter_kill(self.definition.watchdog_signal);
    }

    /// Time has passed.
    fn time(&mut self) {
        if self.run.watchdog.is_some_and(|watchdog| watchdog <= self.now) {
            return self.watchdog_missed();
        }
        if self.run.deadline.is_none_or(|deadline| deadline > self.now) {
            return;
        }
        self.run.deadline = None;
        match self.run.state {
            State::AutoRestart => self.out.push(Effect::TryAgain),
            State::Dead | State::Failed | State::Exited => {}
            State::StopSignal if self.definition.send_sigkill => {
                self.note(format_args!("did not stop in time and is killed"));
                self.fail(Outcome::Timeout);
                self.run.state = State::StopKill;
                self.limit_stop();
                self.signal_for(SIGKILL, true);
                self.check_stopped();
            }
            State::StopSignal | State::StopKill => {
                self.note(format_args!("has processes left that do not end"));
                self.fail(Outcome::Timeout);
                self.enter(State::StopPost);
            }
            State::StopPost => {
                self.fail(Outcome::Timeout);
                self.signal_all(SIGKILL);
                self.end();
            }
            State::Reload => {
                self.note(format_args!("did not reload in time"));
                self.kill_control();
                self.reloaded(false);
            }
            _ => {
                self.note(format_args!("state {} lasted too long", self.run.state.name()));
                self.fail(Outcome::Timeout);
                self.terminate();
            }
        }
    }

    /// Goes to a state that runs a list of commands, and starts the first.
    fn enter(&mut self, state: State) {
        self.run.state = state;
        self.run.command = 0;
        if state == State::StopPost {
            self.limit_stop();
        }
        self.proceed();
    }

    fn next_command(&mut self) {
        self.run.command = self.run.command.saturating_add(1);
        self.proceed();
    }

    /// Starts the present command of the present state, or goes on when there is none.
    fn proceed(&mut self) {
        let commands = commands(self.run.state, self.definition);
        if let Some(command) = commands.get(self.run.command) {
            let main = self.run.state == State::Start && self.definition.kind != Type::Forking;
            self.out.push(Effect::Spawn { command: command.clone(), main });
            return;
        }
        match self.run.state {
            State::Condition => self.enter(State::StartPre),
            State::StartPre => self.enter(State::Start),
            State::Start => self.enter(State::StartPost),
            State::StartPost => self.enter_running(),
            State::Reload => self.reloaded(true),
            State::Stop => self.terminate(),
            State::StopPost => self.end(),
            _ => {}
        }
    }

    fn reloaded(&mut self, done: bool) {
        self.run.state = State::Running;
        self.run.deadline = None;
        self.out.push(Effect::Reloaded(done));
    }

    fn enter_running(&mut self) {
        self.run.state = State::Running;
        self.run.deadline = self.after(self.definition.runtime_max);
        self.run.since = self.now;
        self.feed_watchdog();
        let alive = match self.definition.kind {
            Type::Oneshot => false,
            Type::Forking => self.run.main.is_some() || self.run.populated,
            _ => self.run.main.is_some(),
        };
        self.out.push(Effect::Started);
        if !alive {
            self.main_gone();
        }
    }

    /// The main process of a service that is up has ended.
    fn main_gone(&mut self) {
        self.run.watchdog = None;
        if self.definition.remain_after_exit && !self.run.outcome.is_failure() {
            self.run.state = State::Exited;
            self.run.deadline = None;
        } else {
            self.enter_stop();
        }
    }

    fn enter_stop(&mut self) {
        self.kill_control();
        self.run.watchdog = None;
        self.limit_stop();
        self.enter(State::Stop);
    }

    /// Asks what is left to end.
    fn terminate(&mut self) {
        self.enter_kill(self.definition.kill_signal);
    }

    /// The same, by another signal.
    fn enter_kill(&mut self, signal: i32) {
        self.run.state = State::StopSignal;
        self.run.watchdog = None;
        self.limit_stop();
        self.signal_for(signal, false);
        self.check_stopped();
    }

    fn signal_for(&mut self, signal: i32, last: bool) {
        let whole_group = match self.definition.kill_mode {
            KillMode::ControlGroup => true,
            KillMode::Mixed => last,
            KillMode::Process => false,
            KillMode::None => return,
        };
        self.signal(whole_group, signal);
        if !last {
            // A stopped process must run to see the signal.
            self.signal(whole_group, SIGCONT);
            if self.definition.send_sighup {
                self.signal(whole_group, SIGHUP);
            }
        }
    }

    fn signal(&mut self, whole_group: bool, signal: i32) {
        if whole_group && self.run.populated {
            return self.signal_all(signal);
        }
        self.signal_one(self.run.main, signal);
        self.signal_one(self.run.control, signal);
    }

    fn signal_all(&mut self, signal: i32) {
        self.out.push(Effect::Signal(Whom::All, signal));
    }

    fn signal_one(&mut self, pid: Option<i32>, signal: i32) {
        if let Some(pid) = pid {
            self.out.push(Effect::Signal(Whom::Process(pid), signal));
        }
    }

    fn kill_control(&mut self) {
        let control = self.run.control.take();
        self.signal_one(control, SIGKILL);
    }

    fn note(&mut self, text: fmt::Arguments<'_>) {
        self.out.push(Effect::Note(text.to_string()));
    }

    /// Goes on when nobody is left of those whom the stop was for.
    fn check_stopped(&mut self) {
        let processes = self.run.main.is_some() || self.run.control.is_some();
        let left = match self.definition.kill_mode {
            KillMode::ControlGroup => processes || self.run.populated,
            KillMode::Mixed if processes => true,
            KillMode::Mixed if self.run.populated => {
                if self.run.state == State::StopSignal {
                    // The main process is gone; what it left is not asked.
                    self.run.state = State::StopKill;
                    self.signal_all(SIGKILL);
                }
                true
            }
            KillMode::Mixed | KillMode::None => false,
            KillMode::Process => processes,
        };
        if !left {
            self.enter(State::StopPost);
        }
    }

    fn end(&mut self) {
        let leave = matches!(self.definition.kill_mode, KillMode::Process | KillMode::None);
        if self.run.populated && !leave {
            self.signal_all(SIGKILL);
        }
        (self.run.main, self.run.control) = (None, None);
        (self.run.deadline, self.run.watchdog) = (None, None);
        self.out.push(Effect::Clean);
        let outcome = self.run.outcome;
        if self.run.stopping || !self.should_restart() {
            self.run.state = if outcome.is_failure() { State::Failed } else { State::Dead };
            self.out.push(Effect::Ended { outcome, restart: None });
            return;
        }
        if self.now.saturating_sub(self.run.since) >= STABLE {
            self.run.crashes = 0;
        }
        let delay = restart_delay(self.definition, self.run.crashes);
        self.run.crashes = self.run.crashes.saturating_add(1);
        self.run.restarts = self.run.restarts.saturating_add(1);
        self.run.state = State::AutoRestart;
        self.run.deadline = self.after(Some(delay));
        self.out.push(Effect::Ended { outcome, restart: Some(delay) });
    }

    fn should_restart(&self) -> bool {
        if let Some(Exit::Code(code)) = self.run.main_exit
            && self.definition.restart_prevent.contains(&code)
        {
            return false;
        }
        let outcome = self.run.outcome;
        match self.definition.restart {
            Restart::No => false,
            Restart::Always => outcome != Outcome::Condition,
            Restart::OnSuccess => outcome == Outcome::Success,
            Restart::OnFailure => outcome.is_failure(),
            Restart::OnAbnormal => outcome.is_failure() && outcome != Outcome::ExitCode,
            Restart::OnAbort => outcome == Outcome::Signal,
            Restart::OnWatchdog => outcome == Outcome::Watchdog,
        }
    }

    fn control_exited(&mut self, exit: Exit) {
        let command = commands(self.run.state, self.definition).get(self.run.command);
        let ignored = command.is_some_and(|command| command.ignore_failure);
        if self.definition.is_clean(exit) || ignored {
            return match self.run.state {
                State::StopSignal | State::StopKill => self.check_stopped(),
                _ => self.next_command(),
            };
        }
        if self.run.state == State::Condition && matches!(exit, Exit::Code(1..=254)) {
            self.fail(Outcome::Condition);
            return self.enter(State::StopPost);
        }
        let program = command.map_or("", |command| command.program.as_str());
        self.note(format_args!("{program} in state {} ended with {exit}", self.run.state.name()));
        if self.run.state != State::Reload {
            self.fail(outcome_of(exit));
        }
        self.control_failed();
    }

    /// A command failed, or a process could not be started.
    fn control_failed(&mut self) {
        match self.run.state {
            State::Reload => self.reloaded(false),
            State::StopSignal | State::StopKill => self.check_stopped(),
            State::StopPost => self.next_command(),
            _ => self.terminate(),
        }
    }

    fn main_exited(&mut self, exit: Exit) {
        let command = self.definition.exec_start.get(self.run.command).or(self.definition.exec_start.last());
        let clean = self.definition.is_clean(exit) || command.is_some_and(|command| command.ignore_failure);
        if !clean {
            self.note(format_args!("main process ended with {exit}"));
            self.fail(outcome_of(exit));
        }
        match self.run.state {
            State::Start if self.definition.kind == Type::Oneshot && clean => self.next_command(),
            State::Start => {
                if clean {
                    self.note(format_args!("ended before it was ready"));
                    self.fail(Outcome::Protocol);
                }
                self.terminate();
            }
            // Noticed when the post commands are through.
            State::StartPost => {}
            State::Running | State::Reload => self.main_gone(),
            State::StopSignal | State::StopKill => self.check_stopped(),
            _ => {}
        }
    }

    /// The first failure of a run is the one that is told.
    fn fail(&mut self, outcome: Outcome) {
        if self.run.outcome == Outcome::Success {
            self.run.outcome = outcome;
        }
    }

    fn limit_stop(&mut self) {
        self.run.deadline = self.after(self.definition.stop_timeout);
    }

    fn after(&self, limit: Option<Duration>) -> Option<Duration> {
        limit.map(|limit| minke_sys::clock::after(self.now, limit))
    }
}

fn commands(state: State, definition: &Service) -> &[Rc<Command>] {
    match state {
        State::Condition => &definition.exec_condition,
        State::StartPre => &definition.exec_start_pre,
        State::Start => &definition.exec_start,
        State::StartPost => &definition.exec_start_post,
        State::Reload => &definition.exec_reload,
        State::Stop => &definition.exec_stop,
        State::StopPost => &definition.exec_stop_post,
        _ => &[],
    }
}

fn outcome_of(exit: Exit) -> Outcome {
    match exit {
        Exit::Code(_) => Outcome::ExitCode,
        Exit::Signal(_) => Outcome::Signal,
    }
}
