//! The directives: which there are in which section, and what their values mean.

use super::{
    ACTIONS, Action, Command, Condition, Exec, KillMode, NotifyAccess, Restart, Service, Stream, TESTS, Test,
    Type, Unit,
};
use minke_sys::capability::Capabilities;
use minke_sys::process::Limit;
use minke_wire::unit::{Name, Span, boolean, bytes, signal_number, time_span, words};
use std::fmt;
use std::path::PathBuf;
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

type Outcome = Result<(), Problem>;

/// Applies one assignment to a unit.
pub fn apply(unit: &mut Unit, name: &Name, section: &str, key: &str, value: &str) -> Outcome {
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
    match section {
        "Unit" => apply_unit(unit, key, value),
        "Service" => match &mut unit.service {
            Some(service) => apply_service(service, key, value),
            None => Err(Problem::Section),
        },
        _ => Err(Problem::Section),
    }
}

fn apply_unit(unit: &mut Unit, key: &str, value: &str) -> Outcome {
    let relations = &mut unit.relations;
    match key {
        "Description" => value.clone_into(&mut unit.description),
        "Documentation" | "SourcePath" | "AllowIsolate" => {}
        "Requires" => names(&mut relations.requires, value)?,
        "Requisite" => names(&mut relations.requisite, value)?,
        "Wants" => names(&mut relations.wants, value)?,
        "BindsTo" => names(&mut relations.binds_to, value)?,
        "PartOf" => names(&mut relations.part_of, value)?,
        "Conflicts" => names(&mut relations.conflicts, value)?,
        "After" => names(&mut relations.after, value)?,
        "Before" => names(&mut relations.before, value)?,
        "OnFailure" => names(&mut relations.on_failure, value)?,
        "DefaultDependencies" => unit.default_dependencies = yes_no(value)?,
        "RefuseManualStart" => unit.refuse_manual_start = yes_no(value)?,
        "RefuseManualStop" => unit.refuse_manual_stop = yes_no(value)?,
        "IgnoreOnIsolate" => unit.ignore_on_isolate = yes_no(value)?,
        "JobTimeoutAction" => unit.job_timeout_action = action(value)?,
        "JobTimeoutSec" => unit.job_timeout = limit(value)?,
        "StartLimitIntervalSec" | "StartLimitInterval" => {
            let (_, burst) = unit.start_limit.unwrap_or(START_LIMIT);
            unit.start_limit =
                span(value)?.limit().filter(|span| !span.is_zero()).map(|interval| (interval, burst));
        }
        "StartLimitBurst" => {
            let (interval, _) = unit.start_limit.unwrap_or(START_LIMIT);
            unit.start_limit = Some((interval, number(value)?));
        }
        "StartLimitAction" => unit.start_limit_action = action(value)?,
        "FailureAction" => unit.failure_action = action(value)?,
        "SuccessAction" => unit.success_action = action(value)?,
        _ => apply_condition(unit, key, value)?,
    }
    Ok(())
}

/// systemd's DefaultStartLimitIntervalSec= and DefaultStartLimitBurst=, for the half that a file leaves out.
const START_LIMIT: (Duration, u32) = (Duration::from_secs(10), 5);

fn apply_condition(unit: &mut Unit, key: &str, value: &str) -> Outcome {
    let (assertion, test) = match (key.strip_prefix("Condition"), key.strip_prefix("Assert")) {
        (Some(test), _) => (false, test),
        (_, Some(test)) => (true, test),
        _ => return Err(Problem::Unknown),
    };
    let (_, test) = *TESTS.iter().find(|(name, _)| *name == test).ok_or(Problem::Unknown)?;
    if value.is_empty() {
        unit.conditions.clear();
        return Ok(());
    }
    let (trigger, rest) = value.strip_prefix('|').map_or((false, value), |rest| (true, rest.trim_start()));
    let (negated, rest) = rest.strip_prefix('!').map_or((false, rest), |rest| (true, rest.trim_start()));
    if test != Test::KernelCommandLine && !rest.starts_with('/') {
        return Err(Problem::Value("an absolute path"));
    }
    unit.conditions.push(Condition { test, argument: rest.to_owned(), negated, trigger, assertion });
    Ok(())
}

fn apply_service(service: &mut Service, key: &str, value: &str) -> Outcome {
    match key {
        "Type" => {
            service.kind = one_of(
                value,
                &[
                    ("simple", Type::Simple),
                    ("exec", Type::Exec),
                    ("notify", Type::Notify),
                    ("oneshot", Type::Oneshot),
                    ("idle", Type::Idle),
                    ("forking", Type::Forking),
                ],
            )?;
        }
        "RemainAfterExit" => service.remain_after_exit = yes_no(value)?,
        "ExecCondition" => command(&mut service.exec_condition, value)?,
        "ExecStartPre" => command(&mut service.exec_start_pre, value)?,
        "ExecStart" => command(&mut service.exec_start, value)?,
        "ExecStartPost" => command(&mut service.exec_start_post, value)?,
        "ExecReload" => command(&mut service.exec_reload, value)?,
        "ExecStop" => command(&mut service.exec_stop, value)?,
        "ExecStopPost" => command(&mut service.exec_stop_post, value)?,
        "Restart" => {
            service.restart = one_of(
                value,
                &[
                    ("no", Restart::No),
                    ("always", Restart::Always),
                    ("on-success", Restart::OnSuccess),
                    ("on-failure", Restart::OnFailure),
                    ("on-abnormal", Restart::OnAbnormal),
                    ("on-abort", Restart::OnAbort),
                    ("on-watchdog", Restart::OnWatchdog),
                ],
            )?;
        }
        "RestartSec" => service.restart_delay = limit(value)?,
        "RestartMaxDelaySec" => service.restart_delay_max = limit(value)?,
        "RestartSteps" => service.restart_grows = number::<u32>(value)? > 0,
        "SuccessExitStatus" => {
            statuses(value, &mut service.success_codes, Some(&mut service.success_signals))?;
        }
        "RestartPreventExitStatus" => statuses(value, &mut service.restart_prevent, None)?,
        "TimeoutStartSec" => service.start_timeout = Some(span(value)?),
        "TimeoutStopSec" => service.stop_timeout = timeout(value)?,
        "TimeoutSec" => {
            service.start_timeout = Some(span(value)?);
            service.stop_timeout = timeout(value)?;
        }
        "RuntimeMaxSec" => service.runtime_max = limit(value)?,
        "WatchdogSec" => service.watchdog = limit(value)?.filter(|span| !span.is_zero()),
        "WatchdogSignal" => service.watchdog_signal = signal(value)?,
        "NotifyAccess" => {
            service.notify_access = one_of(
                value,
                &[
                    ("none", NotifyAccess::None),
                    ("main", NotifyAccess::Main),
                    ("exec", NotifyAccess::Exec),
                    ("all", NotifyAccess::All),
                ],
            )?;
        }
        "PIDFile" => service.pid_file = Some(run_path(value)),
        "KillMode" => {
            service.kill_mode = one_of(
                value,
                &[
                    ("control-group", KillMode::ControlGroup),
                    ("mixed", KillMode::Mixed),
                    ("process", KillMode::Process),
                    ("none", KillMode::None),
                ],
            )?;
        }
        "KillSignal" => service.kill_signal = signal(value)?,
        "SendSIGKILL" => service.send_sigkill = yes_no(value)?,
        "SendSIGHUP" => service.send_sighup = yes_no(value)?,
        _ => apply_exec(&mut service.exec, key, value)?,
    }
    Ok(())
}

fn apply_exec(exec: &mut Exec, key: &str, value: &str) -> Outcome {
    match key {
        "User" => exec.user = text(value),
        "Group" => exec.group = text(value),
        "SupplementaryGroups" => list(&mut exec.supplementary_groups, value),
        "Environment" => environment(&mut exec.environment, value)?,
        "EnvironmentFile" => {
            if value.is_empty() {
                exec.environment_files.clear();
            } else {
                exec.environment_files.push(optional_path(value)?);
            }
        }
        "WorkingDirectory" => {
            exec.working_directory = text(value).map(|_| optional_path(value)).transpose()?;
        }
        "UMask" => exec.umask = Some(octal(value)?),
        "OOMScoreAdjust" => exec.oom_score_adjust = Some(ranged(value, -1000, 1000)?),
        "Nice" => exec.nice = Some(ranged(value, -20, 19)?),
        "CapabilityBoundingSet" => exec.bounding = Some(capabilities(exec.bounding, value)?),
        "AmbientCapabilities" => exec.ambient = capabilities(Some(exec.ambient), value)?,
        "NoNewPrivileges" => exec.no_new_privileges = yes_no(value)?,
        "RuntimeDirectory" => list(&mut exec.runtime_directories, value),
        "RuntimeDirectoryMode" => exec.runtime_directory_mode = octal(value)?,
        "RuntimeDirectoryPreserve" => {
            exec.runtime_directory_preserve = value == "restart" || yes_no(value)?;
        }
        "StateDirectory" => list(&mut exec.state_directories, value),
        "StandardInput" => exec.input = stream(value)?,
        "StandardOutput" => exec.output = stream(value)?,
        "StandardError" => exec.error = stream(value)?,
        "TTYPath" => exec.terminal = text(value).map(PathBuf::from),
        "SyslogIdentifier" => exec.syslog_identifier = text(value),
        "Delegate" => exec.delegate = yes_no(value).unwrap_or(true),
        "MemoryMax" => cgroup(exec, "memory.max", bytes_text(value)?),
        "MemoryHigh" => cgroup(exec, "memory.high", bytes_text(value)?),
        "MemoryLow" => cgroup(exec, "memory.low", bytes_text(value)?),
        "MemoryMin" => cgroup(exec, "memory.min", bytes_text(value)?),
        "TasksMax" => cgroup(exec, "pids.max", bytes_text(value)?),
        "CPUWeight" => cgroup(exec, "cpu.weight", ranged(value, 1, 10_000)?.to_string()),
        "Slice" | "MemoryAccounting" | "TasksAccounting" | "CPUAccounting" | "IOAccounting" => {}
        _ => return apply_limit(exec, key, value),
    }
    Ok(())
}

fn apply_limit(exec: &mut Exec, key: &str, value: &str) -> Outcome {
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
    let (_, limit) = LIMITS.iter().find(|(name, _)| *name == key).ok_or(Problem::Unknown)?;
    let one = |text: &str| bytes(text).ok_or(Problem::Value("a number or infinity"));
    let (soft, hard) = match value.split_once(':') {
        Some((soft, hard)) => (one(soft)?, one(hard)?),
        None => (one(value)?, one(value)?),
    };
    exec.limits.retain(|(present, ..)| present != limit);
    exec.limits.push((*limit, soft, hard));
    Ok(())
}

/// Adds names to a list; an empty value empties it.
fn names(list: &mut Vec<String>, value: &str) -> Outcome {
    if value.is_empty() {
        list.clear();
    }
    for word in value.split_whitespace() {
        Name::parse(word).map_err(|_| Problem::Value("unit names"))?;
        super::add(list, word);
    }
    Ok(())
}

fn list(list: &mut Vec<String>, value: &str) {
    if value.is_empty() {
        list.clear();
    }
    list.extend(value.split_whitespace().map(str::to_owned));
}

fn command(list: &mut Vec<Command>, value: &str) -> Outcome {
    if value.is_empty() {
        list.clear();
        return Ok(());
    }
    // A semicolon that is a word of its own separates commands.
    for part in value.split(" ; ") {
        list.push(Command::parse(part.trim()).map_err(Problem::Value)?);
    }
    Ok(())
}

fn environment(list: &mut Vec<(String, String)>, value: &str) -> Outcome {
    if value.is_empty() {
        list.clear();
    }
    for word in words(value).ok_or(Problem::Value("NAME=VALUE words"))? {
        let (name, value) = word.split_once('=').ok_or(Problem::Value("NAME=VALUE words"))?;
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
            _ => return Err(Problem::Value("exit statuses and signals")),
        }
    }
    Ok(())
}

fn stream(value: &str) -> Result<Stream, Problem> {
    Ok(match value.split_once(':') {
        Some(("file" | "truncate", path)) => Stream::File(path.into()),
        Some(("append", path)) => Stream::Append(path.into()),
        Some(_) => return Err(Problem::Value(STREAMS)),
        None => match value {
            "null" => Stream::Null,
            "journal" | "journal+console" | "syslog" => Stream::Journal,
            "kmsg" | "kmsg+console" => Stream::Kmsg,
            "tty" | "tty-force" | "tty-fail" => Stream::Terminal,
            "inherit" => Stream::Inherit,
            _ => return Err(Problem::Value(STREAMS)),
        },
    })
}

const STREAMS: &str = "null, journal, kmsg, tty, inherit, file:PATH or append:PATH";

fn capabilities(present: Option<Capabilities>, value: &str) -> Result<Capabilities, Problem> {
    let (inverted, names) = value.strip_prefix('~').map_or((false, value), |names| (true, names));
    let mut set = Capabilities::NONE;
    for name in names.split_whitespace() {
        set = set.with(Capabilities::by_name(name).ok_or(Problem::Value("capability names"))?);
    }
    Ok(match (inverted, present) {
        (true, present) => present.unwrap_or(Capabilities::ALL).without(set),
        (false, _) if value.is_empty() => Capabilities::NONE,
        (false, present) => present.unwrap_or(Capabilities::NONE).with(set),
    })
}

fn action(value: &str) -> Result<Action, Problem> {
    one_of(value, &ACTIONS)
}

fn one_of<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, Problem> {
    let found = choices.iter().find(|(name, _)| *name == value).map(|(_, choice)| *choice);
    found.ok_or(Problem::Value("not one of the directive's words"))
}

fn cgroup(exec: &mut Exec, file: &'static str, value: String) {
    exec.cgroup.retain(|(present, _)| *present != file);
    exec.cgroup.push((file, value));
}

fn bytes_text(value: &str) -> Result<String, Problem> {
    let count = bytes(value).ok_or(Problem::Value("a number, with K, M, G or T, or infinity"))?;
    Ok(count.map_or_else(|| "max".to_owned(), |count| count.to_string()))
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn optional_path(value: &str) -> Result<(PathBuf, bool), Problem> {
    let (optional, path) = value.strip_prefix('-').map_or((false, value), |path| (true, path));
    if !path.starts_with('/') && path != "~" {
        return Err(Problem::Value("an absolute path"));
    }
    Ok((path.into(), optional))
}

fn run_path(value: &str) -> PathBuf {
    std::path::Path::new("/run").join(value)
}

fn yes_no(value: &str) -> Result<bool, Problem> {
    boolean(value).ok_or(Problem::Value("yes or no"))
}

fn span(value: &str) -> Result<Span, Problem> {
    time_span(value).ok_or(Problem::Value("a time span, for instance 5min 20s"))
}

fn limit(value: &str) -> Result<Option<Duration>, Problem> {
    span(value).map(Span::limit)
}

/// In `Timeout…Sec=`, 0 means no limit.
fn timeout(value: &str) -> Result<Option<Duration>, Problem> {
    limit(value).map(|limit| limit.filter(|limit| !limit.is_zero()))
}

fn signal(value: &str) -> Result<i32, Problem> {
    signal_number(value).ok_or(Problem::Value("a signal"))
}

fn octal(value: &str) -> Result<u32, Problem> {
    let bits = u32::from_str_radix(value, 8).ok().filter(|bits| *bits <= 0o7777);
    bits.ok_or(Problem::Value("permission bits in octal"))
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| Problem::Value("a number"))
}

fn ranged(value: &str, least: i32, most: i32) -> Result<i32, Problem> {
    number(value).and_then(|number| {
        if (least..=most).contains(&number) { Ok(number) } else { Err(Problem::Value("out of range")) }
    })
}
