//! One service's states: which process comes next, what a process's end means, when to try again.
//!
//! Pure: time and events come in, effects go out. systemd.service(5) is the reference for behaviour.

use super::state::{Effect, Outcome, State, Whom};
use crate::unit::{Command, KillMode, Restart, Service, Type};
use minke_sys::process::Exit;
use minke_sys::signal::{SIGCONT, SIGHUP, SIGKILL};
use std::time::Duration;

/// First delay before a restart when the unit does not say: systemd's DefaultRestartSec=.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The delay doubles up to this.
const LARGEST_DELAY: Duration = Duration::from_secs(60);
/// A delay that a unit names itself and that is at least this long stays as it is, as systemd has it.
const CALM_DELAY: Duration = Duration::from_secs(5);
/// After so long a run the next crash counts as the first.
const STABLE: Duration = Duration::from_secs(60);

/// A service's run.
#[derive(Debug, Clone, Default)]
pub struct Runtime {
    /// Where it is.
    pub state: State,
    /// The main process.
    pub main: Option<i32>,
    /// The process of the other command that runs.
    pub control: Option<i32>,
    /// How the main process ended last.
    pub main_exit: Option<Exit>,
    /// How the run ended, as far as it has.
    pub outcome: Outcome,
    /// Automatic restarts since the last start by hand.
    pub restarts: u32,
    /// What it says about itself.
    pub status: String,
    /// When it came up.
    pub since: Duration,
    /// Its control group holds a process.
    pub populated: bool,
    /// Position in the list of commands of the present state.
    command: usize,
    /// When the present state has lasted too long.
    deadline: Option<Duration>,
    /// When it must have said that it lives.
    watchdog: Option<Duration>,
    /// Its own word on the interval.
    watchdog_interval: Option<Duration>,
    /// Crashes in a row.
    crashes: u32,
    /// Somebody wants it down.
    stopping: bool,
    /// It was ready before its start command's post commands were through.
    ready: bool,
}

type Effects = Vec<Effect>;

impl Runtime {
    /// A service that ran when PID 1 started again.
    pub fn adopted(
        state: State,
        main: Option<i32>,
        restarts: u32,
        now: Duration,
        definition: &Service,
    ) -> Self {
        let mut runtime = Self { state, main, restarts, populated: true, since: now, ..Self::default() };
        runtime.feed_watchdog(definition, now);
        runtime
    }

    /// The next moment at which [`Runtime::time`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        [self.deadline, self.watchdog].into_iter().flatten().min()
    }

    /// Whether this process is one of those that PID 1 started for it.
    pub fn owns(&self, pid: i32) -> bool {
        self.main == Some(pid) || self.control == Some(pid)
    }

    /// Starts it. `by_hand`: not an automatic restart.
    pub fn start(&mut self, definition: &Service, now: Duration, by_hand: bool, out: &mut Effects) {
        if by_hand {
            self.restarts = 0;
            self.crashes = 0;
        }
        self.stopping = false;
        self.ready = false;
        self.outcome = Outcome::Success;
        self.main_exit = None;
        self.watchdog_interval = None;
        self.status.clear();
        self.deadline = after(now, definition.start_limit());
        self.enter(State::Condition, definition, now, out);
    }

    /// Stops it, whatever it is doing.
    pub fn stop(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        self.stopping = true;
        match self.state {
            State::Dead | State::Failed => {}
            State::AutoRestart => {
                self.state = State::Dead;
                self.deadline = None;
                out.push(Effect::Ended { outcome: self.outcome, restart: None });
            }
            State::Running | State::Exited | State::Reload => self.enter_stop(definition, now, out),
            State::Condition | State::StartPre | State::Start | State::StartPost => {
                self.enter_kill(definition.kill_signal, definition, now, out);
            }
            State::Stop | State::StopSignal | State::StopKill | State::StopPost => {}
        }
    }

    /// Makes it read its configuration again. The caller has seen that it is up and has `ExecReload=`.
    pub fn reload(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        self.deadline = after(now, definition.start_limit());
        self.enter(State::Reload, definition, now, out);
    }

    /// A process of the present state was started, or could not be.
    pub fn spawned(
        &mut self,
        main: bool,
        pid: Option<i32>,
        definition: &Service,
        now: Duration,
        out: &mut Effects,
    ) {
        let Some(pid) = pid else {
            self.fail(Outcome::Resources);
            return self.control_failed(definition, now, out);
        };
        self.populated = true;
        if !main {
            self.control = Some(pid);
            return;
        }
        self.main = Some(pid);
        self.since = now;
        if self.state == State::Start && matches!(definition.kind, Type::Simple | Type::Exec | Type::Idle) {
            self.enter(State::StartPost, definition, now, out);
        }
    }

    /// One of its processes ended; `populated` tells whether others are left.
    pub fn exited(&mut self, pid: i32, exit: Exit, definition: &Service, now: Duration, out: &mut Effects) {
        if self.control == Some(pid) {
            self.control = None;
            self.control_exited(exit, definition, now, out);
        } else if self.main == Some(pid) {
            self.main = None;
            self.main_exit = Some(exit);
            self.main_exited(exit, definition, now, out);
        }
    }

    /// No process is left in its control group.
    pub fn emptied(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        self.populated = false;
        match self.state {
            State::StopSignal | State::StopKill => self.check_stopped(definition, now, out),
            // A forking service without a known main process lives as long as anything in its group.
            State::Running if self.main.is_none() => self.enter_stop(definition, now, out),
            _ => {}
        }
    }

    /// It says that it is ready.
    pub fn ready(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        self.ready = true;
        if self.state == State::Start && definition.kind == Type::Notify {
            self.enter(State::StartPost, definition, now, out);
        }
    }

    /// It says that it lives.
    pub fn feed_watchdog(&mut self, definition: &Service, now: Duration) {
        let interval = self.watchdog_interval.or(definition.watchdog);
        if matches!(self.state, State::Running | State::StartPost | State::Reload) {
            self.watchdog = after(now, interval);
        }
    }

    /// It sets another watchdog interval.
    pub fn set_watchdog(&mut self, interval: Duration, definition: &Service, now: Duration) {
        self.watchdog_interval = Some(interval);
        self.feed_watchdog(definition, now);
    }

    /// It asks for more time in the present state.
    pub fn extend(&mut self, by: Duration, now: Duration) {
        if let Some(deadline) = self.deadline {
            self.deadline = Some(deadline.max(now.saturating_add(by)));
        }
    }

    /// Its watchdog ran out, or it says so itself.
    pub fn watchdog_missed(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        self.watchdog = None;
        self.fail(Outcome::Watchdog);
        out.push(Effect::Note("the watchdog was not fed in time".to_owned()));
        self.enter_kill(definition.watchdog_signal, definition, now, out);
    }

    /// Time has passed.
    pub fn time(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        if self.watchdog.is_some_and(|watchdog| watchdog <= now) {
            return self.watchdog_missed(definition, now, out);
        }
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.deadline = None;
        match self.state {
            State::AutoRestart => out.push(Effect::TryAgain),
            State::Dead | State::Failed | State::Exited => {}
            State::StopSignal if definition.send_sigkill => {
                out.push(Effect::Note("did not stop in time and is killed".to_owned()));
                self.fail(Outcome::Timeout);
                self.state = State::StopKill;
                self.deadline = after(now, definition.stop_timeout);
                self.signal_for(definition, SIGKILL, true, out);
                self.check_stopped(definition, now, out);
            }
            State::StopSignal | State::StopKill => {
                out.push(Effect::Note("has processes left that do not end".to_owned()));
                self.fail(Outcome::Timeout);
                self.enter(State::StopPost, definition, now, out);
            }
            State::StopPost => {
                self.fail(Outcome::Timeout);
                out.push(Effect::Signal(Whom::All, SIGKILL));
                self.end(definition, now, out);
            }
            State::Reload => {
                out.push(Effect::Note("did not reload in time".to_owned()));
                self.kill_control(out);
                self.state = State::Running;
                out.push(Effect::Reloaded(false));
            }
            State::Condition
            | State::StartPre
            | State::Start
            | State::StartPost
            | State::Running
            | State::Stop => {
                out.push(Effect::Note(format!("state {} lasted too long", self.state.name())));
                self.fail(Outcome::Timeout);
                self.enter_kill(definition.kill_signal, definition, now, out);
            }
        }
    }

    /// Goes to a state that runs a list of commands, and starts the first.
    fn enter(&mut self, state: State, definition: &Service, now: Duration, out: &mut Effects) {
        self.state = state;
        self.command = 0;
        if state == State::StopPost {
            self.deadline = after(now, definition.stop_timeout);
        }
        self.proceed(definition, now, out);
    }

    /// Starts the next command of the present state, or goes on when there is none.
    fn proceed(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        let commands = commands(self.state, definition);
        if let Some(command) = commands.get(self.command) {
            let main = self.state == State::Start && definition.kind != Type::Forking;
            out.push(Effect::Spawn { command: command.clone(), main });
            return;
        }
        match self.state {
            State::Condition => self.enter(State::StartPre, definition, now, out),
            State::StartPre => self.enter(State::Start, definition, now, out),
            State::Start => self.enter(State::StartPost, definition, now, out),
            State::StartPost => self.enter_running(definition, now, out),
            State::Reload => {
                self.state = State::Running;
                self.deadline = None;
                out.push(Effect::Reloaded(true));
            }
            State::Stop => self.enter_kill(definition.kill_signal, definition, now, out),
            State::StopPost => self.end(definition, now, out),
            _ => {}
        }
    }

    fn enter_running(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        self.state = State::Running;
        self.deadline = after(now, definition.runtime_max);
        self.since = now;
        self.feed_watchdog(definition, now);
        let alive = match definition.kind {
            Type::Oneshot => false,
            Type::Forking => self.main.is_some() || self.populated,
            _ => self.main.is_some(),
        };
        out.push(Effect::Started);
        if !alive {
            self.main_gone(definition, now, out);
        }
    }

    /// The main process of a service that is up has ended.
    fn main_gone(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        self.watchdog = None;
        if definition.remain_after_exit && !self.outcome.is_failure() {
            self.state = State::Exited;
            self.deadline = None;
        } else {
            self.enter_stop(definition, now, out);
        }
    }

    fn enter_stop(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        self.kill_control(out);
        self.watchdog = None;
        self.deadline = after(now, definition.stop_timeout);
        self.enter(State::Stop, definition, now, out);
    }

    /// Asks what is left to end, by signal.
    fn enter_kill(&mut self, signal: i32, definition: &Service, now: Duration, out: &mut Effects) {
        self.state = State::StopSignal;
        self.watchdog = None;
        self.deadline = after(now, definition.stop_timeout);
        self.signal_for(definition, signal, false, out);
        self.check_stopped(definition, now, out);
    }

    fn signal_for(&self, definition: &Service, signal: i32, last: bool, out: &mut Effects) {
        let whole_group = match definition.kill_mode {
            KillMode::ControlGroup => true,
            KillMode::Mixed => last,
            KillMode::Process => false,
            KillMode::None => return,
        };
        let mut signals = vec![signal];
        if !last {
            // A stopped process must run to see the signal.
            signals.push(SIGCONT);
            if definition.send_sighup {
                signals.push(SIGHUP);
            }
        }
        for signal in signals {
            if whole_group && self.populated {
                out.push(Effect::Signal(Whom::All, signal));
            } else {
                for pid in [self.main, self.control].into_iter().flatten() {
                    out.push(Effect::Signal(Whom::Process(pid), signal));
                }
            }
        }
    }

    fn kill_control(&mut self, out: &mut Effects) {
        if let Some(pid) = self.control.take() {
            out.push(Effect::Signal(Whom::Process(pid), SIGKILL));
        }
    }

    /// Goes on when nobody is left of those whom the stop was for.
    fn check_stopped(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        let processes = self.main.is_some() || self.control.is_some();
        let left = match definition.kill_mode {
            KillMode::ControlGroup => processes || self.populated,
            KillMode::Mixed if processes => true,
            KillMode::Mixed if self.populated => {
                if self.state == State::StopSignal {
                    // The main process is gone; what it left is not asked.
                    self.state = State::StopKill;
                    out.push(Effect::Signal(Whom::All, SIGKILL));
                }
                true
            }
            KillMode::Mixed | KillMode::None => false,
            KillMode::Process => processes,
        };
        if !left {
            self.enter(State::StopPost, definition, now, out);
        }
    }

    fn end(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        let leave = matches!(definition.kill_mode, KillMode::Process | KillMode::None);
        if self.populated && !leave {
            out.push(Effect::Signal(Whom::All, SIGKILL));
        }
        (self.main, self.control, self.deadline, self.watchdog) = (None, None, None, None);
        out.push(Effect::Clean);
        let outcome = self.outcome;
        if self.stopping || !self.should_restart(definition) {
            self.state = if outcome.is_failure() { State::Failed } else { State::Dead };
            out.push(Effect::Ended { outcome, restart: None });
            return;
        }
        if now.saturating_sub(self.since) >= STABLE {
            self.crashes = 0;
        }
        let delay = restart_delay(definition, self.crashes);
        self.crashes = self.crashes.saturating_add(1);
        self.restarts = self.restarts.saturating_add(1);
        self.state = State::AutoRestart;
        self.deadline = after(now, Some(delay));
        out.push(Effect::Ended { outcome, restart: Some(delay) });
    }

    fn should_restart(&self, definition: &Service) -> bool {
        if let Some(Exit::Code(code)) = self.main_exit
            && definition.restart_prevent.contains(&code)
        {
            return false;
        }
        let outcome = self.outcome;
        match definition.restart {
            Restart::No => false,
            Restart::Always => outcome != Outcome::Condition,
            Restart::OnSuccess => outcome == Outcome::Success,
            Restart::OnFailure => outcome.is_failure(),
            Restart::OnAbnormal => outcome.is_failure() && outcome != Outcome::ExitCode,
            Restart::OnAbort => outcome == Outcome::Signal,
            Restart::OnWatchdog => outcome == Outcome::Watchdog,
        }
    }

    fn control_exited(&mut self, exit: Exit, definition: &Service, now: Duration, out: &mut Effects) {
        let command = commands(self.state, definition).get(self.command);
        let ignored = command.is_some_and(|command| command.ignore_failure);
        if definition.is_clean(exit) || ignored {
            self.command = self.command.saturating_add(1);
            return match self.state {
                State::StopSignal | State::StopKill => self.check_stopped(definition, now, out),
                _ => self.proceed(definition, now, out),
            };
        }
        if self.state == State::Condition && matches!(exit, Exit::Code(1..=254)) {
            self.fail(Outcome::Condition);
            return self.enter(State::StopPost, definition, now, out);
        }
        let program = command.map_or("", |command| command.program.as_str());
        out.push(Effect::Note(format!("{program} in state {} ended with {exit}", self.state.name())));
        if self.state != State::Reload {
            self.fail(outcome_of(exit));
        }
        self.control_failed(definition, now, out);
    }

    /// A command failed, or a process could not be started.
    fn control_failed(&mut self, definition: &Service, now: Duration, out: &mut Effects) {
        match self.state {
            State::Reload => {
                self.state = State::Running;
                self.deadline = None;
                out.push(Effect::Reloaded(false));
            }
            State::Stop => self.enter_kill(definition.kill_signal, definition, now, out),
            State::StopSignal | State::StopKill => self.check_stopped(definition, now, out),
            State::StopPost => {
                self.command = self.command.saturating_add(1);
                self.proceed(definition, now, out);
            }
            _ => self.enter_kill(definition.kill_signal, definition, now, out),
        }
    }

    fn main_exited(&mut self, exit: Exit, definition: &Service, now: Duration, out: &mut Effects) {
        let command = definition.exec_start.get(self.command).or(definition.exec_start.last());
        let clean = definition.is_clean(exit) || command.is_some_and(|command| command.ignore_failure);
        if !clean {
            out.push(Effect::Note(format!("main process ended with {exit}")));
            self.fail(outcome_of(exit));
        }
        match self.state {
            State::Start if definition.kind == Type::Oneshot && clean => {
                self.command = self.command.saturating_add(1);
                self.proceed(definition, now, out);
            }
            State::Start => {
                if clean {
                    out.push(Effect::Note("ended before it was ready".to_owned()));
                    self.fail(Outcome::Protocol);
                }
                self.enter_kill(definition.kill_signal, definition, now, out);
            }
            // Noticed when the post commands are through.
            State::StartPost => {}
            State::Running | State::Reload => self.main_gone(definition, now, out),
            State::StopSignal | State::StopKill => self.check_stopped(definition, now, out),
            _ => {}
        }
    }

    /// The first failure of a run is the one that is told.
    fn fail(&mut self, outcome: Outcome) {
        if self.outcome == Outcome::Success {
            self.outcome = outcome;
        }
    }
}

fn commands(state: State, definition: &Service) -> &[Command] {
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

fn after(now: Duration, limit: Option<Duration>) -> Option<Duration> {
    limit.map(|limit| now.saturating_add(limit))
}

/// The delay before the restart after `crashes` earlier ones in a row. It doubles, so that a service that
/// crashes at once never spins; a calm delay of the unit's own stays, as systemd has it.
pub fn restart_delay(definition: &Service, crashes: u32) -> Duration {
    let first = definition.restart_delay.unwrap_or(FIRST_DELAY);
    let grows = definition.restart_grows || definition.restart_delay_max.is_some() || first < CALM_DELAY;
    if !grows {
        return first;
    }
    let largest = definition.restart_delay_max.unwrap_or(LARGEST_DELAY).max(first);
    let factor = 1u32.checked_shl(crashes.min(31)).unwrap_or(u32::MAX);
    first.max(Duration::from_millis(1)).saturating_mul(factor).min(largest)
}
