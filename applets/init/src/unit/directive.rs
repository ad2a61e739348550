//! The directives: which there are in which section, and what their values mean.

use super::service;
use super::trigger::{self, AUTOMOUNT, PATH, TIMER};
use super::{ACTIONS, Action, Command, Condition, Exec, Service, Stream, TESTS, Test, Unit};
use minke_sys::capability::Capabilities;
use minke_sys::process::Limit;
use minke_wire::unit::{Name, Span, boolean, bytes, signal_number, time_span, words};
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// Why an assignment has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// There is no such directive in this section.
    Unknown,
    /// There is no such section.
    Section,
    /// The value is not of the form that the directive wants.
    Value(&'static str),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown directive"),
            Self::Section => f.write_str("unknown section"),
            Self::Value(wanted) => write!(f, "bad value: {wanted}"),
        }
    }
}

/// What came of one value; the error says what is wanted.
pub(super) type Outcome = Result<(), &'static str>;
/// A value; the error says what is wanted.
pub(super) type Wanted<T> = Result<T, &'static str>;

/// Where a directive's value goes, and by that how it is read.
pub(super) enum Field<'a> {
    /// It has gone there already.
    Done(Outcome),
    Flag(&'a mut bool),
    /// Unit names.
    Names(&'a mut Vec<String>),
    /// Words.
    List(&'a mut Vec<String>),
    /// A text; an empty one is none.
    Text(&'a mut Option<String>),
    /// What is done to the machine.
    Action(&'a mut Action),
    Commands(&'a mut Vec<Rc<Command>>),
    Span(&'a mut Option<Duration>),
    /// A span in which 0 means no limit, as in `Timeout…Sec=`.
    Timeout(&'a mut Option<Duration>),
    Signal(&'a mut i32),
    /// Permission bits.
    Bits(&'a mut u32),
    /// A number within bounds.
    Range(i16, i16, &'a mut Option<i32>),
    Stream(&'a mut Stream),
}

use Field::{
    Action as Act, Bits, Commands, Done, Flag, List, Names, Range, Signal, Span as Time, Stream as Io, Text,
    Timeout,
};

/// A directive: its name, and its field in `S`.
pub(super) type Directive<S> = (&'static str, for<'a> fn(&'a mut S, &str) -> Field<'a>);

const UNIT: &[Directive<Unit>] = &[
    ("Description", |unit, value| Done(set(&mut unit.description, value.to_owned()))),
    ("Documentation", |_, _| Done(Ok(()))),
    ("SourcePath", |_, _| Done(Ok(()))),
    ("AllowIsolate", |_, _| Done(Ok(()))),
    ("Requires", |unit, _| Names(&mut unit.relations.requires)),
    ("Requisite", |unit, _| Names(&mut unit.relations.requisite)),
    ("Wants", |unit, _| Names(&mut unit.relations.wants)),
    ("BindsTo", |unit, _| Names(&mut unit.relations.binds_to)),
    ("PartOf", |unit, _| Names(&mut unit.relations.part_of)),
    ("Conflicts", |unit, _| Names(&mut unit.relations.conflicts)),
    ("After", |unit, _| Names(&mut unit.relations.after)),
    ("Before", |unit, _| Names(&mut unit.relations.before)),
    ("OnFailure", |unit, _| Names(&mut unit.relations.on_failure)),
    ("DefaultDependencies", |unit, _| Flag(&mut unit.default_dependencies)),
    ("RefuseManualStart", |unit, _| Flag(&mut unit.refuse_manual_start)),
    ("RefuseManualStop", |unit, _| Flag(&mut unit.refuse_manual_stop)),
    ("IgnoreOnIsolate", |unit, _| Flag(&mut unit.ignore_on_isolate)),
    ("JobTimeoutAction", |unit, _| Act(&mut unit.job_timeout_action)),
    ("JobTimeoutSec", |unit, _| Time(&mut unit.job_timeout)),
    ("StartLimitIntervalSec", |unit, value| Done(start_limit_interval(unit, value))),
    ("StartLimitInterval", |unit, value| Done(start_limit_interval(unit, value))),
    ("StartLimitBurst", |unit, value| Done(start_limit_burst(unit, value))),
    ("StartLimitAction", |unit, _| Act(&mut unit.start_limit_action)),
    ("FailureAction", |unit, _| Act(&mut unit.failure_action)),
    ("SuccessAction", |unit, _| Act(&mut unit.success_action)),
];

const SERVICE: &[Directive<Service>] = &[
    ("Type", |service, value| Done(put(&mut service.kind, one_of(value, &service::TYPES)))),
    ("RemainAfterExit", |service, _| Flag(&mut service.remain_after_exit)),
    ("X-DoneBy", |service, _| Text(&mut service.done_by)),
    ("ExecCondition", |service, _| Commands(&mut service.exec_condition)),
    ("ExecStartPre", |service, _| Commands(&mut service.exec_start_pre)),
    ("ExecStart", |service, _| Commands(&mut service.exec_start)),
    ("ExecStartPost", |service, _| Commands(&mut service.exec_start_post)),
    ("ExecReload", |service, _| Commands(&mut service.exec_reload)),
    ("ExecStop", |service, _| Commands(&mut service.exec_stop)),
    ("ExecStopPost", |service, _| Commands(&mut service.exec_stop_post)),
    ("Restart", |service, value| Done(put(&mut service.restart, one_of(value, &service::RESTARTS)))),
    ("RestartSec", |service, _| Time(&mut service.restart_delay)),
    ("RestartMaxDelaySec", |service, _| Time(&mut service.restart_delay_max)),
    ("RestartSteps", |service, value| {
        Done(put(&mut service.restart_grows, number(value).map(|steps| steps > 0)))
    }),
    ("SuccessExitStatus", |service, value| Done(success_exit_status(service, value))),
    ("RestartPreventExitStatus", |service, value| Done(statuses(value, &mut service.restart_prevent, None))),
    ("TimeoutStartSec", |service, value| Done(timeout_start(service, value))),
    ("TimeoutStopSec", |service, _| Timeout(&mut service.stop_timeout)),
    ("TimeoutSec", |service, value| Done(timeout_both(service, value))),
    ("RuntimeMaxSec", |service, _| Time(&mut service.runtime_max)),
    ("WatchdogSec", |service, _| Timeout(&mut service.watchdog)),
    ("WatchdogSignal", |service, _| Signal(&mut service.watchdog_signal)),
    ("NotifyAccess", |service, value| Done(put(&mut service.notify_access, one_of(value, &service::ACCESS)))),
    ("PIDFile", |service, value| Done(set(&mut service.pid_file, Some(Path::new("/run").join(value))))),
    ("KillMode", |service, value| Done(put(&mut service.kill_mode, one_of(value, &service::KILL_MODES)))),
    ("KillSignal", |service, _| Signal(&mut service.kill_signal)),
    ("SendSIGKILL", |service, _| Flag(&mut service.send_sigkill)),
    ("SendSIGHUP", |service, _| Flag(&mut service.send_sighup)),
    ("User", |service, _| Text(&mut service.exec.user)),
    ("Group", |service, _| Text(&mut service.exec.group)),
    ("SupplementaryGroups", |service, _| List(&mut service.exec.supplementary_groups)),
    ("Environment", |service, value| Done(environment(service, value))),
    ("EnvironmentFile", |service, value| Done(environment_file(service, value))),
    ("WorkingDirectory", |service, value| Done(working_directory(service, value))),
    ("UMask", |service, _| Bits(&mut service.exec.umask)),
    ("OOMScoreAdjust", |service, _| Range(-1000, 1000, &mut service.exec.oom_score_adjust)),
    ("Nice", |service, _| Range(-20, 19, &mut service.exec.nice)),
    ("CapabilityBoundingSet", |service, value| Done(bounding_set(service, value))),
    ("AmbientCapabilities", |service, value| Done(ambient(service, value))),
    ("NoNewPrivileges", |service, _| Flag(&mut service.exec.no_new_privileges)),
    ("RuntimeDirectory", |service, _| List(&mut service.exec.runtime_directories)),
    ("RuntimeDirectoryMode", |service, _| Bits(&mut service.exec.runtime_directory_mode)),
    ("RuntimeDirectoryPreserve", |service, value| Done(preserve(service, value))),
    ("StateDirectory", |service, _| List(&mut service.exec.state_directories)),
    ("StandardInput", |service, _| Io(&mut service.exec.input)),
    ("StandardOutput", |service, _| Io(&mut service.exec.output)),
    ("StandardError", |service, _| Io(&mut service.exec.error)),
    ("TTYPath", |service, _| Text(&mut service.exec.terminal)),
    ("SyslogIdentifier", |service, _| Text(&mut service.exec.syslog_identifier)),
    ("Delegate", |service, value| Done(set(&mut service.exec.delegate, boolean(value).unwrap_or(true)))),
    ("CPUWeight", |service, value| Done(cpu_weight(service, value))),
    ("Slice", |_, _| Done(Ok(()))),
    ("MemoryAccounting", |_, _| Done(Ok(()))),
    ("TasksAccounting", |_, _| Done(Ok(()))),
    ("CPUAccounting", |_, _| Done(Ok(()))),
    ("IOAccounting", |_, _| Done(Ok(()))),
];

/// Settings of the control group: directives and files.
const GROUP: [(&str, &str); 5] = [
    ("MemoryMax", "memory.max"),
    ("MemoryHigh", "memory.high"),
    ("MemoryLow", "memory.low"),
    ("MemoryMin", "memory.min"),
    ("TasksMax", "pids.max"),
];

const LIMITS: [(&str, Limit); 12] = [
    ("LimitCPU", Limit::Cpu),
    ("LimitFSIZE", Limit::Fsize),
    ("LimitDATA", Limit::Data),
    ("LimitSTACK", Limit::Stack),
    ("LimitCORE", Limit::Core),
    ("LimitNOFILE", Limit::Nofile),
    ("LimitAS", Limit::As),
    ("LimitNPROC", Limit::Nproc),
    ("LimitMEMLOCK", Limit::Memlock),
    ("LimitMSGQUEUE", Limit::Msgqueue),
    ("LimitNICE", Limit::Nice),
    ("LimitRTPRIO", Limit::Rtprio),
];

/// Applies one assignment to a unit.
pub fn apply(unit: &mut Unit, name: &Name, section: &str, key: &str, value: &str) -> Result<(), Problem> {
    if section.starts_with("X-") {
        return Ok(());
    }
    // What the image builder reads.
    if section == "Install" {
        unit.installed = true;
        return match key {
            "WantedBy" | "RequiredBy" | "Alias" | "Also" | "DefaultInstance" => Ok(()),
            _ => Err(Problem::Unknown),
        };
    }
    let value = &name.expand(value).map_err(|_| Problem::Value("unknown specifier"))?;
    let done = match (section, &mut unit.service) {
        ("Unit", _) => apply_from(UNIT, unit, key, value).or_else(|| apply_condition(unit, key, value)),
        ("Service", Some(service)) => apply_from(SERVICE, &mut **service, key, value)
            .or_else(|| apply_group(&mut service.exec, key, value))
            .or_else(|| apply_limit(&mut service.exec, key, value)),
        ("Path" | "Timer" | "Automount", _) if section.to_ascii_lowercase() == name.kind() => {
            let Some(trigger) = &mut unit.trigger else { return Err(Problem::Section) };
            let table = match section {
                "Path" => PATH,
                "Timer" => TIMER,
                _ => AUTOMOUNT,
            };
            apply_from(table, &mut **trigger, key, value)
                .or_else(|| trigger::apply_list(trigger, section, key, value))
        }
        _ => return Err(Problem::Section),
    };
    match done {
        None if key.starts_with("X-") => Ok(()),
        done => done.ok_or(Problem::Unknown)?.map_err(Problem::Value),
    }
}

/// Applies a directive that the table has; `None`: it has not.
fn apply_from<S>(table: &[Directive<S>], target: &mut S, key: &str, value: &str) -> Option<Outcome> {
    let (_, field) = table.iter().find(|(name, _)| *name == key)?;
    Some(fill(field(target, value), value))
}

fn fill(field: Field<'_>, value: &str) -> Outcome {
    match field {
        Done(outcome) => outcome,
        Flag(field) => put(field, yes_no(value)),
        Names(field) => names(field, value),
        List(field) => list(field, value),
        Text(field) => set(field, text(value)),
        Act(field) => put(field, one_of(value, &ACTIONS)),
        Commands(field) => commands(field, value),
        Time(field) => set(field, span(value)?.limit()),
        Timeout(field) => set(field, timeout(span(value)?)),
        Signal(field) => put(field, signal_number(value).ok_or("a signal")),
        Bits(field) => put(field, octal(value)),
        Range(least, most, field) => set(field, Some(ranged(value, least, most)?)),
        Io(field) => put(field, stream(value)),
    }
}

pub(super) fn put<T>(field: &mut T, value: Wanted<T>) -> Outcome {
    set(field, value?)
}

pub(super) fn set<T>(field: &mut T, value: T) -> Outcome {
    *field = value;
    Ok(())
}

/// systemd's DefaultStartLimitIntervalSec= and DefaultStartLimitBurst=, for the half that a file leaves out.
const START_LIMIT: (Duration, u32) = (Duration::from_secs(10), 5);

fn start_limit_interval(unit: &mut Unit, value: &str) -> Outcome {
    let (_, burst) = unit.start_limit.unwrap_or(START_LIMIT);
    set(&mut unit.start_limit, timeout(span(value)?).map(|interval| (interval, burst)))
}

fn start_limit_burst(unit: &mut Unit, value: &str) -> Outcome {
    let (interval, _) = unit.start_limit.unwrap_or(START_LIMIT);
    set(&mut unit.start_limit, Some((interval, number(value)?)))
}

fn apply_condition(unit: &mut Unit, key: &str, value: &str) -> Option<Outcome> {
    let (assertion, test) = match key.strip_prefix("Condition") {
        Some(test) => (false, test),
        None => (true, key.strip_prefix("Assert")?),
    };
    let (_, test) = *TESTS.iter().find(|(name, _)| *name == test)?;
    if value.is_empty() {
        unit.conditions.clear();
        return Some(Ok(()));
    }
    let (trigger, rest) = prefixed(value, '|');
    let (negated, rest) = prefixed(rest, '!');
    if test != Test::KernelCommandLine && !rest.starts_with('/') {
        return Some(Err("an absolute path"));
    }
    unit.conditions.push(Condition { test, argument: rest.to_owned(), negated, trigger, assertion });
    Some(Ok(()))
}

/// Whether the value begins with `prefix`, and what follows that.
fn prefixed(value: &str, prefix: char) -> (bool, &str) {
    value.strip_prefix(prefix).map_or((false, value), |rest| (true, rest.trim_start()))
}

fn success_exit_status(service: &mut Service, value: &str) -> Outcome {
    statuses(value, &mut service.success_codes, Some(&mut service.success_signals))
}

fn timeout_start(service: &mut Service, value: &str) -> Outcome {
    set(&mut service.start_timeout, Some(span(value)?))
}

fn timeout_both(service: &mut Service, value: &str) -> Outcome {
    timeout_start(service, value)?;
    set(&mut service.stop_timeout, timeout(span(value)?))
}

fn environment_file(service: &mut Service, value: &str) -> Outcome {
    if value.is_empty() {
        service.exec.environment_files.clear();
    } else {
        service.exec.environment_files.push(optional_path(value)?);
    }
    Ok(())
}

fn working_directory(service: &mut Service, value: &str) -> Outcome {
    let folder = if value.is_empty() { None } else { Some(optional_path(value)?) };
    set(&mut service.exec.working_directory, folder)
}

fn bounding_set(service: &mut Service, value: &str) -> Outcome {
    let set = capabilities(service.exec.bounding, value)?;
    service.exec.bounding = Some(set);
    Ok(())
}

fn ambient(service: &mut Service, value: &str) -> Outcome {
    let set = capabilities(Some(service.exec.ambient), value)?;
    service.exec.ambient = set;
    Ok(())
}

fn preserve(service: &mut Service, value: &str) -> Outcome {
    set(&mut service.exec.runtime_directory_preserve, value == "restart" || yes_no(value)?)
}

fn cpu_weight(service: &mut Service, value: &str) -> Outcome {
    set_group(&mut service.exec, "cpu.weight", ranged(value, 1, 10_000)?.to_string())
}

fn apply_group(exec: &mut Exec, key: &str, value: &str) -> Option<Outcome> {
    let (_, file) = GROUP.iter().find(|(name, _)| *name == key)?;
    Some(match bytes(value) {
        Some(Some(count)) => set_group(exec, file, count.to_string()),
        Some(None) => set_group(exec, file, "max".to_owned()),
        None => Err("a number, with K, M, G or T, or infinity"),
    })
}

fn set_group(exec: &mut Exec, file: &'static str, value: String) -> Outcome {
    exec.cgroup.retain(|(present, _)| *present != file);
    exec.cgroup.push((file, value));
    Ok(())
}

fn apply_limit(exec: &mut Exec, key: &str, value: &str) -> Option<Outcome> {
    let (_, limit) = LIMITS.iter().find(|(name, _)| *name == key)?;
    let (soft, hard) = value.split_once(':').unwrap_or((value, value));
    let (Some(soft), Some(hard)) = (bytes(soft), bytes(hard)) else {
        return Some(Err("a number or infinity"));
    };
    exec.limits.retain(|(present, ..)| present != limit);
    exec.limits.push((*limit, soft, hard));
    Some(Ok(()))
}

/// Adds names to a list; an empty value empties it.
fn names(list: &mut Vec<String>, value: &str) -> Outcome {
    if value.is_empty() {
        list.clear();
    }
    for word in value.split_whitespace() {
        Name::parse(word).map_err(|_| "unit names")?;
        super::add(list, word);
    }
    Ok(())
}

fn list(list: &mut Vec<String>, value: &str) -> Outcome {
    if value.is_empty() {
        list.clear();
    }
    for word in value.split_whitespace() {
        list.push(word.to_owned());
    }
    Ok(())
}

fn commands(list: &mut Vec<Rc<Command>>, value: &str) -> Outcome {
    if value.is_empty() {
        list.clear();
        return Ok(());
    }
    // A semicolon that is a word of its own separates commands.
    let mut rest = value;
    while let Some((part, after)) = minke_wire::text::split_once(rest, " ; ") {
        list.push(Rc::new(Command::parse(part.trim())?));
        rest = after;
    }
    list.push(Rc::new(Command::parse(rest.trim())?));
    Ok(())
}

fn environment(service: &mut Service, value: &str) -> Outcome {
    const WANTED: &str = "NAME=VALUE words";
    let list = &mut service.exec.environment;
    if value.is_empty() {
        list.clear();
    }
    for word in words(value).ok_or(WANTED)? {
        if !word.contains('=') {
            return Err(WANTED);
        }
        list.push(word);
    }
    Ok(())
}

fn statuses(value: &str, codes: &mut Vec<i32>, mut signals: Option<&mut Vec<i32>>) -> Outcome {
    if value.is_empty() {
        codes.clear();
    }
    for word in value.split_whitespace() {
        match (minke_wire::text::number(word), signal_number(word), signals.as_deref_mut()) {
            (Some(code), ..) => codes.push(code),
            (_, Some(signal), Some(signals)) => signals.push(signal),
            _ => return Err("exit statuses and signals"),
        }
    }
    Ok(())
}

fn stream(value: &str) -> Result<Stream, &'static str> {
    Ok(match (value.split_once(':'), value) {
        (Some(("file" | "truncate", path)), _) => Stream::File(path.into()),
        (Some(("append", path)), _) => Stream::Append(path.into()),
        (None, "null") => Stream::Null,
        (None, "journal" | "journal+console" | "syslog") => Stream::Journal,
        (None, "kmsg" | "kmsg+console") => Stream::Kmsg,
        (None, "tty" | "tty-force" | "tty-fail") => Stream::Terminal,
        (None, "inherit") => Stream::Inherit,
        _ => return Err("null, journal, kmsg, tty, inherit, file:PATH or append:PATH"),
    })
}

fn capabilities(present: Option<Capabilities>, value: &str) -> Result<Capabilities, &'static str> {
    let (inverted, names) = prefixed(value, '~');
    let mut set = Capabilities::NONE;
    for name in names.split_whitespace() {
        set = set.with(Capabilities::by_name(name).ok_or("capability names")?);
    }
    Ok(match (inverted, present) {
        (true, present) => present.unwrap_or(Capabilities::ALL).without(set),
        (false, _) if value.is_empty() => Capabilities::NONE,
        (false, present) => present.unwrap_or(Capabilities::NONE).with(set),
    })
}

fn one_of<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, &'static str> {
    let found = choices.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice);
    found.ok_or("not one of the directive's words")
}

pub(super) fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn optional_path(value: &str) -> Result<(PathBuf, bool), &'static str> {
    let (optional, path) = value.strip_prefix('-').map_or((false, value), |path| (true, path));
    if !path.starts_with('/') && path != "~" {
        return Err("an absolute path");
    }
    Ok((path.into(), optional))
}

fn yes_no(value: &str) -> Result<bool, &'static str> {
    boolean(value).ok_or("yes or no")
}

pub(super) fn span(value: &str) -> Wanted<Span> {
    time_span(value).ok_or("a time span, for instance 5min 20s")
}

fn timeout(span: Span) -> Option<Duration> {
    span.limit().filter(|limit| !limit.is_zero())
}

fn octal(value: &str) -> Result<u32, &'static str> {
    let bits = minke_wire::text::in_base::<u32>(value, 8).filter(|bits| *bits <= 0o7777);
    bits.ok_or("permission bits in octal")
}

fn number(value: &str) -> Result<u32, &'static str> {
    minke_wire::text::number(value).ok_or("a number")
}

fn ranged(value: &str, least: i16, most: i16) -> Result<i32, &'static str> {
    let number: i32 = minke_wire::text::number(value).ok_or("a number")?;
    let within = (i32::from(least)..=i32::from(most)).contains(&number);
    if within { Ok(number) } else { Err("out of range") }
}
