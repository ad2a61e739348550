//! Units: what their files say, with meaning and defaults. systemd.unit(5), systemd.service(5),
//! systemd.exec(5), systemd.kill(5).

mod command;
mod directive;
pub mod load;
#[cfg(test)]
mod tests;

pub use command::Command;
pub use directive::{Problem, apply};

use minke_sys::capability::Capabilities;
use minke_sys::process::{Exit, Limit};
use minke_sys::signal::{SIGHUP, SIGINT, SIGPIPE, SIGTERM};
use minke_wire::unit::Span;
use std::path::PathBuf;
use std::time::Duration;

/// A unit.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Its own name; aliases lead to it.
    pub name: String,
    /// The file it was read from; `None` for one that exists by its name alone.
    pub path: Option<PathBuf>,
    /// Drop-ins, in the order in which they were applied.
    pub drop_ins: Vec<PathBuf>,
    /// One line for people.
    pub description: String,
    /// How it relates to others. Names are resolved: no aliases.
    pub relations: Relations,
    /// Whether it has the usual relations to `sysinit.target`, `basic.target` and `shutdown.target`.
    pub default_dependencies: bool,
    /// What must hold for it to start; else it is skipped.
    pub conditions: Vec<Condition>,
    /// At most so many starts in so long a time; `None`: no limit, as back-off keeps a service from spinning.
    pub start_limit: Option<(Duration, u32)>,
    /// What to do when the start limit is reached.
    pub start_limit_action: Action,
    /// What to do when it fails.
    pub failure_action: Action,
    /// What to do when it ends well.
    pub success_action: Action,
    /// How long a job may wait and run.
    pub job_timeout: Option<Duration>,
    /// What to do when that has passed.
    pub job_timeout_action: Action,
    /// Only other units start it.
    pub refuse_manual_start: bool,
    /// Only other units stop it.
    pub refuse_manual_stop: bool,
    /// It stays when the system goes over to another target.
    pub ignore_on_isolate: bool,
    /// The service; `None` for a target.
    pub service: Option<Box<Service>>,
    /// `WantedBy=`, `RequiredBy=`, `Alias=`: what the image builder makes links for.
    pub installed: bool,
}

/// How a unit relates to others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relations {
    /// Started with it; its start fails when they fail; stopped with them.
    pub requires: Vec<String>,
    /// Must be active already.
    pub requisite: Vec<String>,
    /// Started with it.
    pub wants: Vec<String>,
    /// As `requires`, and stopped whenever they end.
    pub binds_to: Vec<String>,
    /// Stopped and restarted with them.
    pub part_of: Vec<String>,
    /// Stopped when it starts, and the other way round.
    pub conflicts: Vec<String>,
    /// Ordered after these.
    pub after: Vec<String>,
    /// Ordered before these.
    pub before: Vec<String>,
    /// Started when it fails.
    pub on_failure: Vec<String>,
}

impl Relations {
    /// All lists, to treat every name alike.
    pub fn lists_mut(&mut self) -> [&mut Vec<String>; 9] {
        [
            &mut self.requires,
            &mut self.requisite,
            &mut self.wants,
            &mut self.binds_to,
            &mut self.part_of,
            &mut self.conflicts,
            &mut self.after,
            &mut self.before,
            &mut self.on_failure,
        ]
    }
}

/// A condition on the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What is looked at.
    pub test: Test,
    /// Path or word.
    pub argument: String,
    /// `!`: it must not hold.
    pub negated: bool,
    /// `|`: of all these one must hold.
    pub trigger: bool,
    /// `Assert…=`: the start fails and is not skipped.
    pub assertion: bool,
}

/// What a condition looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    /// Something is there.
    PathExists,
    /// A folder is there.
    PathIsDirectory,
    /// A symbolic link is there.
    PathIsSymbolicLink,
    /// Something is mounted there.
    PathIsMountPoint,
    /// It can be written to.
    PathIsReadWrite,
    /// A folder with something in it.
    DirectoryNotEmpty,
    /// A file with something in it.
    FileNotEmpty,
    /// A file that can be executed.
    FileIsExecutable,
    /// A word, or a word with this value, on the kernel command line.
    KernelCommandLine,
}

/// The tests by the names that their directives have after `Condition` and `Assert`.
pub const TESTS: [(&str, Test); 9] = [
    ("PathExists", Test::PathExists),
    ("PathIsDirectory", Test::PathIsDirectory),
    ("PathIsSymbolicLink", Test::PathIsSymbolicLink),
    ("PathIsMountPoint", Test::PathIsMountPoint),
    ("PathIsReadWrite", Test::PathIsReadWrite),
    ("DirectoryNotEmpty", Test::DirectoryNotEmpty),
    ("FileNotEmpty", Test::FileNotEmpty),
    ("FileIsExecutable", Test::FileIsExecutable),
    ("KernelCommandLine", Test::KernelCommandLine),
];

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = TESTS.iter().find(|(_, test)| *test == self.test).map_or("", |(name, _)| name);
        let (trigger, not) = (if self.trigger { "|" } else { "" }, if self.negated { "!" } else { "" });
        write!(f, "{name}={trigger}{not}{}", self.argument)
    }
}

/// `FailureAction=` and the like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    #[default]
    None,
    /// An orderly restart of the machine.
    Reboot,
    /// A restart without stopping units.
    RebootForce,
    /// A restart without anything.
    RebootImmediate,
    /// Orderly power-off.
    PowerOff,
    /// Power-off without stopping units.
    PowerOffForce,
}

/// The actions by name.
pub const ACTIONS: [(&str, Action); 6] = [
    ("none", Action::None),
    ("reboot", Action::Reboot),
    ("reboot-force", Action::RebootForce),
    ("reboot-immediate", Action::RebootImmediate),
    ("poweroff", Action::PowerOff),
    ("poweroff-force", Action::PowerOffForce),
];

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
    /// Commands in order.
    pub exec_condition: Vec<Command>,
    /// Before the main process.
    pub exec_start_pre: Vec<Command>,
    /// The main process; for a oneshot several, one after the other.
    pub exec_start: Vec<Command>,
    /// After the start.
    pub exec_start_post: Vec<Command>,
    /// To reload its configuration.
    pub exec_reload: Vec<Command>,
    /// To stop it.
    pub exec_stop: Vec<Command>,
    /// After its end.
    pub exec_stop_post: Vec<Command>,
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
    pub environment: Vec<(String, String)>,
    /// Files with such lines; `true`: one that is missing is skipped.
    pub environment_files: Vec<(PathBuf, bool)>,
    /// Working folder; `true`: one that is missing is skipped. `~` is the user's home.
    pub working_directory: Option<(PathBuf, bool)>,
    /// Bits that new files do not get.
    pub umask: Option<u32>,
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
    pub terminal: Option<PathBuf>,
    /// The name that its lines have in the journal.
    pub syslog_identifier: Option<String>,
    /// The control group below belongs to the service: PID 1 makes nothing in it.
    pub delegate: bool,
    /// Control group settings: file, value.
    pub cgroup: Vec<(&'static str, String)>,
}

/// Time limits without a directive: systemd's DefaultTimeoutStartSec= and DefaultTimeoutStopSec=.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(90);

impl Unit {
    /// A unit of which only the name is known.
    pub fn new(name: &str) -> Self {
        let is_service = name.ends_with(".service");
        Self {
            name: name.to_owned(),
            path: None,
            drop_ins: Vec::new(),
            description: name.to_owned(),
            relations: Relations::default(),
            default_dependencies: true,
            conditions: Vec::new(),
            start_limit: None,
            start_limit_action: Action::None,
            failure_action: Action::None,
            success_action: Action::None,
            job_timeout: None,
            job_timeout_action: Action::None,
            refuse_manual_start: false,
            refuse_manual_stop: false,
            ignore_on_isolate: false,
            service: is_service.then(Box::default),
            installed: false,
        }
    }

    /// Adds the relations that most units have: systemd.service(5) and systemd.target(5), "Default
    /// Dependencies".
    pub fn add_default_dependencies(&mut self) {
        let relations = &mut self.relations;
        if self.service.is_none() {
            // A target is reached when what it pulls in is up, unless the order is said to be otherwise.
            let pulled: Vec<String> = relations
                .wants
                .iter()
                .chain(&relations.requires)
                .chain(&relations.binds_to)
                .cloned()
                .collect();
            for name in pulled {
                if !relations.before.contains(&name) {
                    add(&mut relations.after, &name);
                }
            }
        }
        if !self.default_dependencies {
            return;
        }
        if self.service.is_some() {
            add(&mut relations.requires, "sysinit.target");
            add(&mut relations.after, "sysinit.target");
            add(&mut relations.after, "basic.target");
        }
        if self.name != "shutdown.target" {
            add(&mut relations.conflicts, "shutdown.target");
            add(&mut relations.before, "shutdown.target");
        }
    }
}

fn add(list: &mut Vec<String>, name: &str) {
    if !list.iter().any(|present| present == name) {
        list.push(name.to_owned());
    }
}

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
            exec: Exec { runtime_directory_mode: 0o755, ..Exec::default() },
        }
    }
}
