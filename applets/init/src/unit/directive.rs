//! The directives: which there are in which section, and what their values mean.

use super::service;
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
type Outcome = Result<(), &'static str>;

/// How a directive's value is read, and where in `S` it goes.
enum Setter<S: 'static> {
    /// Nowhere: accepted without effect.
    Nowhere,
    Flag(fn(&mut S) -> &mut bool),
    /// Unit names.
    Names(fn(&mut S) -> &mut Vec<String>),
    /// Words.
    List(fn(&mut S) -> &mut Vec<String>),
    /// A text; an empty one is none.
    Text(fn(&mut S) -> &mut Option<String>),
    /// What is done to the machine.
    Action(fn(&mut S) -> &mut Action),
    Commands(fn(&mut S) -> &mut Vec<Rc<Command>>),
    Span(fn(&mut S) -> &mut Option<Duration>),
    /// A span in which 0 means no limit, as in `Timeout…Sec=`.
    Timeout(fn(&mut S) -> &mut Option<Duration>),
    Signal(fn(&mut S) -> &mut i32),
    /// A number within bounds.
    Range(i16, i16, fn(&mut S) -> &mut Option<i32>),
    Stream(fn(&mut S) -> &mut Stream),
    /// Anything else.
    Own(fn(&mut S, &str) -> Outcome),
}

use Setter::{
    Action as Act, Commands, Flag, List, Names, Nowhere, Own, Range, Signal, Span as Time, Stream as Io,
    Text, Timeout,
};

const UNIT: &[(&str, Setter<Unit>)] = &[
    ("Description", Own(|unit, value| set(&mut unit.description, value.to_owned()))),
    ("Documentation", Nowhere),
    ("SourcePath", Nowhere),
    ("AllowIsolate", Nowhere),
    ("Requires", Names(|unit| &mut unit.relations.requires)),
    ("Requisite", Names(|unit| &mut unit.relations.requisite)),
    ("Wants", Names(|unit| &mut unit.relations.wants)),
    ("BindsTo", Names(|unit| &mut unit.relations.binds_to)),
    ("PartOf", Names(|unit| &mut unit.relations.part_of)),
    ("Conflicts", Names(|unit| &mut unit.relations.conflicts)),
    ("After", Names(|unit| &mut unit.relations.after)),
    ("Before", Names(|unit| &mut unit.relations.before)),
    ("OnFailure", Names(|unit| &mut unit.relations.on_failure)),
    ("DefaultDependencies", Flag(|unit| &mut unit.default_dependencies)),
    ("RefuseManualStart", Flag(|unit| &mut unit.refuse_manual_start)),
    ("RefuseManualStop", Flag(|unit| &mut unit.refuse_manual_stop)),
    ("IgnoreOnIsolate", Flag(|unit| &mut unit.ignore_on_isolate)),
    ("JobTimeoutAction", Act(|unit| &mut unit.job_timeout_action)),
    ("JobTimeoutSec", Time(|unit| &mut unit.job_timeout)),
    ("StartLimitIntervalSec", Own(start_limit_interval)),
    ("StartLimitInterval", Own(start_limit_interval)),
    ("StartLimitBurst", Own(start_limit_burst)),
    ("StartLimitAction", Act(|unit| &mut unit.start_limit_action)),
    ("FailureAction", Act(|unit| &mut unit.failure_action)),
    ("SuccessAction", Act(|unit| &mut unit.success_action)),
];

const SERVICE: &[(&str, Setter<Service>)] = &[
    ("Type", Own(|service, value| set(&mut service.kind, one_of(value, &service::TYPES)?))),
    ("RemainAfterExit", Flag(|service| &mut service.remain_after_exit)),
    ("ExecCondition", Commands(|service| &mut service.exec_condition)),
    ("ExecStartPre", Commands(|service| &mut service.exec_start_pre)),
    ("ExecStart", Commands(|service| &mut service.exec_start)),
    ("ExecStartPost", Commands(|service| &mut service.exec_start_post)),
    ("ExecReload", Commands(|service| &mut service.exec_reload)),
    ("ExecStop", Commands(|service| &mut service.exec_stop)),
    ("ExecStopPost", Commands(|service| &mut service.exec_stop_post)),
    ("Restart", Own(|service, value| set(&mut service.restart, one_of(value, &service::RESTARTS)?))),
    ("RestartSec", Time(|service| &mut service.restart_delay)),
    ("RestartMaxDelaySec", Time(|service| &mut service.restart_delay_max)),
    ("RestartSteps", Own(|service, value| set(&mut service.restart_grows, number(value)? > 0))),
    ("SuccessExitStatus", Own(success_exit_status)),
    ("RestartPreventExitStatus", Own(|service, value| statuses(value, &mut service.restart_prevent, None))),
    ("TimeoutStartSec", Own(timeout_start)),
    ("TimeoutStopSec", Timeout(|service| &mut service.stop_timeout)),
    ("TimeoutSec", Own(timeout_both)),
    ("RuntimeMaxSec", Time(|service| &mut service.runtime_max)),
    ("WatchdogSec", Timeout(|service| &mut service.watchdog)),
    ("WatchdogSignal", Signal(|service| &mut service.watchdog_signal)),
    ("NotifyAccess", Own(|service, value| set(&mut service.notify_access, one_of(value, &service::ACCESS)?))),
    ("PIDFile", Own(|service, value| set(&mut service.pid_file, Some(Path::new("/run").join(value))))),
    ("KillMode", Own(|service, value| set(&mut service.kill_mode, one_of(value, &service::KILL_MODES)?))),
    ("KillSignal", Signal(|service| &mut service.kill_signal)),
    ("SendSIGKILL", Flag(|service| &mut service.send_sigkill)),
    ("SendSIGHUP", Flag(|service| &mut service.send_sighup)),
    ("User", Text(|service| &mut service.exec.user)),
    ("Group", Text(|service| &mut service.exec.group)),
    ("SupplementaryGroups", List(|service| &mut service.exec.supplementary_groups)),
    ("Environment", Own(environment)),
    ("EnvironmentFile", Own(environment_file)),
    ("WorkingDirectory", Own(working_directory)),
    ("UMask", Own(|service, value| set(&mut service.exec.umask, octal(value)?))),
    ("OOMScoreAdjust", Range(-1000, 1000, |service| &mut service.exec.oom_score_adjust)),
    ("Nice", Range(-20, 19, |service| &mut service.exec.nice)),
    ("CapabilityBoundingSet", Own(bounding_set)),
    ("AmbientCapabilities", Own(ambient)),
    ("NoNewPrivileges", Flag(|service| &mut service.exec.no_new_privileges)),
    ("RuntimeDirectory", List(|service| &mut service.exec.runtime_directories)),
    (
        "RuntimeDirectoryMode",
        Own(|service, value| set(&mut service.exec.runtime_directory_mode, octal(value)?)),
    ),
    ("RuntimeDirectoryPreserve", Own(preserve)),
    ("StateDirectory", List(|service| &mut service.exec.state_directories)),
    ("StandardInput", Io(|service| &mut service.exec.input)),
    ("StandardOutput", Io(|service| &mut service.exec.output)),
    ("StandardError", Io(|service| &mut service.exec.error)),
    ("TTYPath", Text(|service| &mut service.exec.terminal)),
    ("SyslogIdentifier", Text(|service| &mut service.exec.syslog_identifier)),
    ("Delegate", Own(|service, value| set(&mut service.exec.delegate, boolean(value).unwrap_or(true)))),
    ("CPUWeight", Own(cpu_weight)),
    ("Slice", Nowhere),
    ("MemoryAccounting", Nowhere),
    ("TasksAccounting", Nowhere),
    ("CPUAccounting", Nowhere),
    ("IOAccounting", Nowhere),
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
    if section.starts_with("X-") || key.starts_with("X-") {
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
        _ => return Err(Problem::Section),
    };
    done.ok_or(Problem::Unknown)?.map_err(Problem::Value)
}

/// Applies a directive that the table has; `None`: it has not.
fn apply_from<S>(table: &[(&str, Setter<S>)], target: &mut S, key: &str, value: &str) -> Option<Outcome> {
    let (_, setter) = table.iter().find(|(name, _)| *name == key)?;
    Some(apply_setter(setter, target, value))
}

fn apply_setter<S>(setter: &Setter<S>, target: &mut S, value: &str) -> Outcome {
    match setter {
        Nowhere => Ok(()),
        Flag(field) => set(field(target), yes_no(value)?),
        Names(field) => names(field(target), value),
        List(field) => list(field(target), value),
        Text(field) => set(field(target), text(value)),
        Act(field) => set(field(target), one_of(value, &ACTIONS)?),
        Commands(field) => commands(field(target), value),
        Time(field) => set(field(target), span(value)?.limit()),
        Timeout(field) => set(field(target), timeout(span(value)?)),
        Signal(field) => set(field(target), signal_number(value).ok_or("a signal")?),
        Range(least, most, field) => set(field(target), Some(ranged(value, *least, *most)?)),
        Io(field) => set(field(target), stream(value)?),
        Own(apply) => apply(target, value),
    }
}

fn set<T>(field: &mut T, value: T) -> Outcome {
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
        let (name, value) = word.split_once('=').ok_or(WANTED)?;
        list.push((name.to_owned(), value.to_owned()));
    }
    Ok(())
}

fn statuses(value: &str, codes: &mut Vec<i32>, mut signals: Option<&mut Vec<i32>>) -> Outcome {
    if value.is_empty() {
        codes.clear();
    }
    for word in value.split_whitespace() {
        match (word.parse(), signal_number(word), signals.as_deref_mut()) {
            (Ok(code), ..) => codes.push(code),
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

fn text(value: &str) -> Option<String> {
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

fn span(value: &str) -> Result<Span, &'static str> {
    time_span(value).ok_or("a time span, for instance 5min 20s")
}

fn timeout(span: Span) -> Option<Duration> {
    span.limit().filter(|limit| !limit.is_zero())
}

fn octal(value: &str) -> Result<u32, &'static str> {
    let bits = u32::from_str_radix(value, 8).ok().filter(|bits| *bits <= 0o7777);
    bits.ok_or("permission bits in octal")
}

fn number(value: &str) -> Result<u32, &'static str> {
    value.parse().map_err(|_| "a number")
}

fn ranged(value: &str, least: i16, most: i16) -> Result<i32, &'static str> {
    let number: i32 = value.parse().map_err(|_| "a number")?;
    let within = (i32::from(least)..=i32::from(most)).contains(&number);
    if within { Ok(number) } else { Err("out of range") }
}
