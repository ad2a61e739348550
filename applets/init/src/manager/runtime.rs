//! What is known of a service's run, and what happens to it.

use super::state::{Outcome, State};
use crate::unit::Service;
use minke_sys::process::Exit;
use std::time::Duration;

/// First delay before a restart when the unit does not say: systemd's DefaultRestartSec=.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// The delay doubles up to this.
const LARGEST_DELAY: Duration = Duration::from_secs(60);
/// A delay that a unit names itself and that is at least this long stays as it is, as systemd has it.
const CALM_DELAY: Duration = Duration::from_secs(5);

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
    pub(super) command: usize,
    /// When the present state has lasted too long.
    pub(super) deadline: Option<Duration>,
    /// When it must have said that it lives.
    pub(super) watchdog: Option<Duration>,
    /// Its own word on the interval.
    pub(super) watchdog_interval: Option<Duration>,
    /// Crashes in a row.
    pub(super) crashes: u32,
    /// Somebody wants it down.
    pub(super) stopping: bool,
}

impl Runtime {
    /// The next moment at which [`Event::Time`] has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        earlier(self.deadline, self.watchdog)
    }

    /// Whether this process is one of those that PID 1 started for it.
    pub fn owns(&self, pid: i32) -> bool {
        self.main == Some(pid) || self.control == Some(pid)
    }
}

/// A moment so much later. On 32-bit machines a sum of spans is not worth inlining.
#[inline(never)]
pub fn later(moment: Duration, span: Duration) -> Duration {
    moment.saturating_add(span)
}

/// The earlier of two moments that may be missing.
#[inline(never)]
pub fn earlier(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// What happens to a service.
#[derive(Debug)]
pub enum Event<'a> {
    /// It is to start. `by_hand`: it is not an automatic restart.
    Start {
        /// Somebody asked for it.
        by_hand: bool,
    },
    /// It is to stop, whatever it is doing.
    Stop,
    /// It is to read its configuration again. The sender has seen that it is up and has `ExecReload=`.
    Reload,
    /// A process of the present state was started (`pid`), or could not be.
    Spawned {
        /// It is the main process.
        main: bool,
        /// Its id.
        pid: Option<i32>,
    },
    /// One of its processes ended. [`Event::Emptied`] follows when no other is left.
    Exited {
        /// Which.
        pid: i32,
        /// How.
        exit: Exit,
    },
    /// No process is left in its control group.
    Emptied,
    /// It ran when PID 1 started again.
    Adopted,
    /// Time has passed.
    Time,
    /// It says something about itself.
    Says(Word<'a>),
}

/// One line of a message of a service about itself: sd_notify(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word<'a> {
    /// `READY=1`.
    Ready,
    /// `WATCHDOG=1`.
    Alive,
    /// `WATCHDOG=trigger`.
    Hung,
    /// `WATCHDOG_USEC=`.
    WatchdogInterval(Duration),
    /// `STATUS=`.
    Status(&'a str),
    /// `MAINPID=`.
    MainPid(i32),
    /// `EXTEND_TIMEOUT_USEC=`.
    Extend(Duration),
    /// `FDSTORE=1`: keep the descriptors that came along.
    Store,
    /// `FDSTOREREMOVE=1`: drop those of the name.
    StoreRemove,
    /// `FDNAME=`: the name of the descriptors.
    StoreName(&'a str),
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
