//! What a service's file says, beyond what every unit's does.

use super::Command;
use minke_sys::capability::Capabilities;
use minke_sys::process::{Exit, Limit};
use minke_sys::signal::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use minke_wire::unit::Span;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

/// How a service tells that it has started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Type {
    /// It runs.
    #[default]
    Simple,
    /// It runs. (The failure to execute it shows as its exit status 203.)
    Exec,
    /// It says so by sd_notify(3).
    Notify,
    /// It has ended.
    Oneshot,
    /// It runs; started after all other jobs.
    Idle,
    /// Its first process has ended.
    Forking,
}

/// The types by name.
pub const TYPES: [(&str, Type); 6] = [
    ("simple", Type::Simple),
    ("exec", Type::Exec),
    ("notify", Type::Notify),
    ("oneshot", Type::Oneshot),
    ("idle", Type::Idle),
    ("forking", Type::Forking),
];

/// When a service that has ended is started again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// After any end.
    Always,
    /// After a clean end.
    OnSuccess,
    /// After any other.
    OnFailure,
    /// After a signal, a time-out, a missed watchdog.
    OnAbnormal,
    /// After an unclean signal.
    OnAbort,
    /// After a missed watchdog.
    OnWatchdog,
}

/// The same by name.
pub const RESTARTS: [(&str, Restart); 7] = [
    ("no", Restart::No),
    ("always", Restart::Always),
    ("on-success", Restart::OnSuccess),
    ("on-failure", Restart::OnFailure),
    ("on-abnormal", Restart::OnAbnormal),
    ("on-abort", Restart::OnAbort),
    ("on-watchdog", Restart::OnWatchdog),
];

/// Whose notifications count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NotifyAccess {
    /// The file says nothing: with `Type=notify` or a watchdog the main process's.
    #[default]
    Default,
    /// Nobody's.
    None,
    /// The main process's.
    Main,
    /// Those of all processes that the manager started for it.
    Exec,
    /// Those of all of its processes.
    All,
}

/// The same by name.
pub const ACCESS: [(&str, NotifyAccess); 4] = [
    ("none", NotifyAccess::None),
    ("main", NotifyAccess::Main),
    ("exec", NotifyAccess::Exec),
    ("all", NotifyAccess::All),
];

/// Whom a stop kills.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KillMode {
    /// All processes of the unit.
    #[default]
    ControlGroup,
    /// The main process; SIGKILL goes to all.
    Mixed,
    /// The main process.
    Process,
    /// Nobody.
    None,
}

/// The same by name.
pub const KILL_MODES: [(&str, KillMode); 4] = [
    ("control-group", KillMode::ControlGroup),
    ("mixed", KillMode::Mixed),
    ("process", KillMode::Process),
    ("none", KillMode::None),
];

/// Where a standard stream comes from or goes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Stream {
    /// `/dev/null` as input; as output what comes before it.
    #[default]
    Default,
    /// `/dev/null`.
    Null,
    /// The journal.
    Journal,
    /// The kernel's log.
    Kmsg,
    /// The terminal of `TTYPath=`.
    Terminal,
    /// What comes before it: error as output, output as input.
    Inherit,
    /// A file: read, or created and written.
    File(PathBuf),
    /// A file that is created and written at its end.
    Append(PathBuf),
}

/// A service.
#[derive(Debug, Clone)]
pub struct Service {
    /// How it tells that it has started.
    pub kind: Type,
    /// It stays active after a clean end.
    pub remain_after_exit: bool,
    /// `X-DoneBy=`: the unit whose process does this one's work at boot as well. While it is up, the first start in a
    /// boot takes no process; every later one does the work itself.
    pub done_by: Option<String>,
    /// Commands in order.
    pub exec_condition: Vec<Rc<Command>>,
    /// Before the main process.
    pub exec_start_pre: Vec<Rc<Command>>,
    /// The main process; for a oneshot several, one after the other.
    pub exec_start: Vec<Rc<Command>>,
    /// After the start.
    pub exec_start_post: Vec<Rc<Command>>,
    /// To reload its configuration.
    pub exec_reload: Vec<Rc<Command>>,
    /// To stop it.
    pub exec_stop: Vec<Rc<Command>>,
    /// After its end.
    pub exec_stop_post: Vec<Rc<Command>>,
    /// When to start it again.
    pub restart: Restart,
    /// First delay before that; `None`: the file says nothing.
    pub restart_delay: Option<Duration>,
    /// Largest delay before that.
    pub restart_delay_max: Option<Duration>,
    /// `RestartSteps=` was given: the delay grows.
    pub restart_grows: bool,
    /// Exit statuses and signals that count as clean.
    pub success_codes: Vec<i32>,
    /// Signals that count as a clean end.
    pub success_signals: Vec<i32>,
    /// Exit statuses after which it is not started again.
    pub restart_prevent: Vec<i32>,
    /// How long a start may take; `None`: the file says nothing.
    pub start_timeout: Option<Span>,
    /// How long a stop may take before it is forced.
    pub stop_timeout: Option<Duration>,
    /// How long it may run.
    pub runtime_max: Option<Duration>,
    /// How often it must say that it lives.
    pub watchdog: Option<Duration>,
    /// The signal for one that does not.
    pub watchdog_signal: i32,
    /// Whose notifications count.
    pub notify_access: NotifyAccess,
    /// Where a forking service writes its main process's id.
    pub pid_file: Option<PathBuf>,
    /// Whom a stop kills.
    pub kill_mode: KillMode,
    /// How.
    pub kill_signal: i32,
    /// SIGKILL follows when that does not help.
    pub send_sigkill: bool,
    /// SIGHUP goes along, for shells.
    pub send_sighup: bool,
    /// Its processes' surroundings.
    pub exec: Exec,
}

/// Surroundings of a service's processes.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// User name or number.
    pub user: Option<String>,
    /// Group name or number.
    pub group: Option<String>,
    /// Further groups.
    pub supplementary_groups: Vec<String>,
    /// `NAME=VALUE`.
    pub environment: Vec<String>,
    /// Files with such lines; `true`: one that is missing is skipped.
    pub environment_files: Vec<(PathBuf, bool)>,
    /// Working folder; `true`: one that is missing is skipped. `~` is the user's home.
    pub working_directory: Option<(PathBuf, bool)>,
    /// Bits that new files do not get.
    pub umask: u32,
    /// Limits, soft and hard.
    pub limits: Vec<(Limit, Option<u64>, Option<u64>)>,
    /// -1000 to 1000.
    pub oom_score_adjust: Option<i32>,
    /// -20 to 19.
    pub nice: Option<i32>,
    /// The most it may have.
    pub bounding: Option<Capabilities>,
    /// What it has though it is not root.
    pub ambient: Capabilities,
    /// It never gains privileges.
    pub no_new_privileges: bool,
    /// Folders below `/run` that live as long as it does.
    pub runtime_directories: Vec<String>,
    /// Their permission bits.
    pub runtime_directory_mode: u32,
    /// They stay when it stops.
    pub runtime_directory_preserve: bool,
    /// Folders below `/var/lib`.
    pub state_directories: Vec<String>,
    /// Standard input.
    pub input: Stream,
    /// Standard output.
    pub output: Stream,
    /// Standard error.
    pub error: Stream,
    /// Terminal of `tty`.
    pub terminal: Option<String>,
    /// The name that its lines have in the journal.
    pub syslog_identifier: Option<String>,
    /// The control group below belongs to the service: PID 1 makes nothing in it.
    pub delegate: bool,
    /// Control group settings: file, value.
    pub cgroup: Vec<(&'static str, String)>,
}

/// Time limits without a directive: systemd's DefaultTimeoutStartSec= and DefaultTimeoutStopSec=.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);

impl Service {
    /// How long a start may take; a oneshot may take its time unless its file says otherwise.
    pub fn start_limit(&self) -> Option<Duration> {
        match self.start_timeout {
            Some(span) => span.limit().filter(|limit| !limit.is_zero()),
            None if self.kind == Type::Oneshot => None,
            None => Some(DEFAULT_TIMEOUT),
        }
    }

    /// Whether a process that ended this way ended well.
    pub fn is_clean(&self, exit: Exit) -> bool {
        match exit {
            Exit::Code(code) => code == 0 || self.success_codes.contains(&code),
            Exit::Signal(signal) => {
                let usual =
                    self.kind != Type::Oneshot && [SIGHUP, SIGINT, SIGTERM, SIGPIPE].contains(&signal);
                usual || self.success_signals.contains(&signal)
            }
        }
    }
}

impl Default for Service {
    fn default() -> Self {
        Self {
            kind: Type::Simple,
            remain_after_exit: false,
            done_by: None,
            exec_condition: Vec::new(),
            exec_start_pre: Vec::new(),
            exec_start: Vec::new(),
            exec_start_post: Vec::new(),
            exec_reload: Vec::new(),
            exec_stop: Vec::new(),
            exec_stop_post: Vec::new(),
            restart: Restart::No,
            restart_delay: None,
            restart_delay_max: None,
            restart_grows: false,
            success_codes: Vec::new(),
            success_signals: Vec::new(),
            restart_prevent: Vec::new(),
            start_timeout: None,
            stop_timeout: Some(DEFAULT_TIMEOUT),
            runtime_max: None,
            watchdog: None,
            watchdog_signal: minke_sys::process::SIGABRT,
            notify_access: NotifyAccess::Default,
            pid_file: None,
            kill_mode: KillMode::ControlGroup,
            kill_signal: SIGTERM,
            send_sigkill: true,
            send_sighup: false,
            exec: Exec { umask: 0o022, runtime_directory_mode: 0o755, ..Exec::default() },
        }
    }
}
