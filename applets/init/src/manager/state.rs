//! The states of a service, how its run ends, and what its machine asks of the world.

use crate::unit::Command;
use std::rc::Rc;
use std::time::Duration;

/// Where a service is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    /// Not running.
    #[default]
    Dead,
    /// Not running, and its last run ended badly.
    Failed,
    /// `ExecCondition=` runs.
    Condition,
    /// `ExecStartPre=` runs.
    StartPre,
    /// The main process is starting, or a oneshot runs.
    Start,
    /// `ExecStartPost=` runs.
    StartPost,
    /// Up.
    Running,
    /// Up without a process.
    Exited,
    /// `ExecReload=` runs.
    Reload,
    /// `ExecStop=` runs.
    Stop,
    /// It was asked to end by signal.
    StopSignal,
    /// It was killed.
    StopKill,
    /// `ExecStopPost=` runs.
    StopPost,
    /// It waits for its next start.
    AutoRestart,
}

impl State {
    /// systemd's name of it: `SubState`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Failed => "failed",
            Self::Condition => "condition",
            Self::StartPre => "start-pre",
            Self::Start => "start",
            Self::StartPost => "start-post",
            Self::Running => "running",
            Self::Exited => "exited",
            Self::Reload => "reload",
            Self::Stop => "stop",
            Self::StopSignal => "stop-sigterm",
            Self::StopKill => "stop-sigkill",
            Self::StopPost => "stop-post",
            Self::AutoRestart => "auto-restart",
        }
    }

    /// The same, as every kind of unit has it: `ActiveState`.
    pub fn active(self) -> Phase {
        match self {
            Self::Dead => Phase::Inactive,
            Self::Failed => Phase::Failed,
            Self::Condition | Self::StartPre | Self::Start | Self::StartPost | Self::AutoRestart => {
                Phase::Activating
            }
            Self::Running | Self::Exited => Phase::Active,
            Self::Reload => Phase::Reloading,
            Self::Stop | Self::StopSignal | Self::StopKill | Self::StopPost => Phase::Deactivating,
        }
    }
}

/// `ActiveState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Down.
    Inactive,
    /// Down after a failure.
    Failed,
    /// Between down and up.
    Activating,
    /// Up.
    Active,
    /// Up, and taking a new configuration.
    Reloading,
    /// Between up and down.
    Deactivating,
}

impl Phase {
    /// systemd's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Failed => "failed",
            Self::Activating => "activating",
            Self::Active => "active",
            Self::Reloading => "reloading",
            Self::Deactivating => "deactivating",
        }
    }

    /// Whether it is up.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Active | Self::Reloading)
    }

    /// Whether it is down.
    pub fn is_down(self) -> bool {
        matches!(self, Self::Inactive | Self::Failed)
    }
}

/// How the last run ended: `Result`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Well, or not yet.
    #[default]
    Success,
    /// `ExecCondition=` said no.
    Condition,
    /// A process could not be started.
    Resources,
    /// A notifying service ended without having been ready.
    Protocol,
    /// A time limit passed.
    Timeout,
    /// An exit status.
    ExitCode,
    /// A signal.
    Signal,
    /// It missed its watchdog.
    Watchdog,
    /// It was started too often.
    StartLimit,
}

impl Outcome {
    /// systemd's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Condition => "exec-condition",
            Self::Resources => "resources",
            Self::Protocol => "protocol",
            Self::Timeout => "timeout",
            Self::ExitCode => "exit-code",
            Self::Signal => "signal",
            Self::Watchdog => "watchdog",
            Self::StartLimit => "start-limit-hit",
        }
    }

    /// Whether the unit is `failed` after it.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Success | Self::Condition)
    }
}

/// Whom a signal goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// One process.
    Process(i32),
    /// All processes of the unit.
    All,
}

/// What the world must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start a process; [`Event::Spawned`](super::runtime::Event::Spawned) tells the outcome.
    Spawn {
        /// Its command line.
        command: Rc<Command>,
        /// It is the service's main process.
        main: bool,
    },
    /// Send a signal.
    Signal(Whom, i32),
    /// Remove what the service leaves: control group, run-time folders.
    Clean,
    /// The start is done.
    Started,
    /// The reload is done; `false`: it failed.
    Reloaded(bool),
    /// It is down.
    Ended {
        /// How.
        outcome: Outcome,
        /// When it will be started again.
        restart: Option<Duration>,
    },
    /// The time of its next start has come.
    TryAgain,
    /// For the log: a process ended badly, a time limit passed.
    Note(String),
}
