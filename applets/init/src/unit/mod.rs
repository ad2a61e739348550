//! Units: what their files say, with meaning and defaults. systemd.unit(5), systemd.service(5),
//! systemd.exec(5), systemd.kill(5), systemd.path(5), systemd.timer(5).

mod command;
mod directive;
pub mod load;
mod service;
#[cfg(test)]
mod tests;
mod trigger;

pub use command::Command;
pub use directive::{Problem, apply};
pub use service::{Exec, KillMode, NotifyAccess, Restart, Service, Stream, Type};
pub use trigger::{Base, LOOKS, Look, Trigger};

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
    /// The service; `None` for a unit of another kind.
    pub service: Option<Box<Service>>,
    /// What a path, a timer or an automatic mount point starts, and when; `None` for a unit of another kind. One with neither is a target.
    pub trigger: Option<Box<Trigger>>,
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
            trigger: Trigger::new(name),
            installed: false,
        }
    }

    /// Adds the relations that most units have: systemd.service(5) and others, "Implicit Dependencies" and "Default
    /// Dependencies".
    pub fn add_default_dependencies(&mut self) {
        let relations = &mut self.relations;
        if let Some(trigger) = &self.trigger {
            add(&mut relations.before, &trigger.unit);
        } else if self.service.is_none() {
            // A target is reached when what it pulls in is up, unless the order is said to be otherwise.
            for pulled in [&relations.wants, &relations.requires, &relations.binds_to] {
                for name in pulled {
                    if !relations.before.contains(name) {
                        add(&mut relations.after, name);
                    }
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
        // An automatic mount point needs nothing but its folder.
        if let Some(trigger) = self.trigger.as_ref().filter(|trigger| trigger.place.is_none()) {
            let is_path = !trigger.paths.is_empty();
            add(&mut relations.before, if is_path { "paths.target" } else { "timers.target" });
            add(&mut relations.requires, "sysinit.target");
            add(&mut relations.after, "sysinit.target");
            if !trigger.calendars.is_empty() {
                add(&mut relations.after, "time-set.target");
                add(&mut relations.after, "time-sync.target");
            }
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

/// What makes a unit impossible to start.
pub fn bad_setting(unit: &Unit) -> Option<&'static str> {
    if let Some(trigger) = &unit.trigger {
        return trigger.fault(&unit.name);
    }
    let service = unit.service.as_ref()?;
    let starts = service.exec_start.len();
    match service.kind {
        Type::Oneshot if starts == 0 && service.exec_stop.is_empty() => {
            Some("no ExecStart= and no ExecStop=")
        }
        Type::Oneshot => None,
        _ if starts == 0 => Some("no ExecStart="),
        _ if starts > 1 => Some("more than one ExecStart= (Type=oneshot may have that)"),
        _ => None,
    }
}
