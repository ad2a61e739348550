//! From a service's settings to a process.

use super::users::{self, User};
use crate::log;
use crate::unit::{Command, Exec, NotifyAccess, Service, Stream, Type, Unit};
use minke_sys::process::{Spawn, Terminal};
use minke_sys::{cgroup, device, file, socket};
use std::ffi::CString;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The notify socket.
pub const NOTIFY_SOCKET: &str = "/run/systemd/notify";
/// Where the journal takes streams.
const JOURNAL_STREAM: &str = "/run/systemd/journal/stdout";
/// The search path of commands without a slash, and the default `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";
/// Bytes of an environment file.
const ENVIRONMENT_LIMIT: usize = 256 << 10;
/// `LOG_INFO`, the priority of lines without one of their own.
const STREAM_PRIORITY: u8 = 6;

/// Facts about the process that the service's file does not say.
#[derive(Debug, Default)]
pub struct Facts {
    /// The main process, or nothing.
    pub main_pid: Option<i32>,
    /// The present watchdog interval.
    pub watchdog: Option<Duration>,
    /// How the run ended, for `ExecStopPost=`.
    pub result: Option<&'static str>,
    /// Stored descriptors with their names.
    pub stored: Vec<(String, OwnedFd)>,
}

/// The control group of a unit.
pub fn group_of(name: &str) -> PathBuf {
    Path::new(cgroup::ROOT).join("system.slice").join(name)
}

/// Starts a command of a unit and returns its process id. `Err` says why not.
pub fn launch(unit: &Unit, service: &Service, command: &Command, facts: Facts) -> Result<i32, String> {
    let exec = &service.exec;
    let (user, credentials) = if command.privileged {
        (None, None)
    } else {
        users::credentials(exec.user.as_deref(), exec.group.as_deref(), &exec.supplementary_groups)?
    };
    let ids = credentials.as_ref().map_or((0, 0), |credentials| (credentials.uid, credentials.gid));
    make_folders(exec, ids)?;
    let mut environment = environment(service, user.as_ref(), &facts)?;
    let program = find_program(&command.program)?;
    let mut spawn = Spawn::new(&program);
    spawn.cgroup = prepare_group(unit, exec);
    set_streams(&mut spawn, unit, exec, &mut environment)?;
    spawn.arguments = strings(command.expanded(&environment))?;
    spawn.credentials = credentials;
    spawn.folder = Some(c"/".into());
    if let Some((path, optional)) = &exec.working_directory {
        let home = user.as_ref().map_or("/home/root", |user| user.home.as_str());
        let path = if path == Path::new("~") { Path::new(home) } else { path };
        spawn.folder = Some(string(path.as_os_str().as_encoded_bytes())?);
        spawn.folder_optional = *optional;
    }
    spawn.umask = Some(exec.umask.unwrap_or(0o022));
    spawn.nice = exec.nice;
    // PID 1's own score is not for others.
    spawn.oom_score = Some(string(exec.oom_score_adjust.unwrap_or(0).to_string().as_bytes())?);
    spawn.limits.clone_from(&exec.limits);
    if !command.privileged {
        spawn.bounding = exec.bounding.map(|set| set.0);
        spawn.ambient = exec.ambient.0;
        spawn.no_new_privileges = exec.no_new_privileges;
    }
    pass_descriptors(&mut spawn, &mut environment, facts.stored);
    spawn.environment = strings(environment.into_iter().map(|(name, value)| format!("{name}={value}")))?;
    spawn.start().map_err(|error| error.to_string())
}

fn pass_descriptors(
    spawn: &mut Spawn,
    environment: &mut Vec<(String, String)>,
    stored: Vec<(String, OwnedFd)>,
) {
    if stored.is_empty() {
        return;
    }
    let names: Vec<&str> = stored.iter().map(|(name, _)| name.as_str()).collect();
    environment.push(("LISTEN_FDS".to_owned(), stored.len().to_string()));
    environment.push(("LISTEN_FDNAMES".to_owned(), names.join(":")));
    spawn.tell_pid_as = Some("LISTEN_PID");
    spawn.inherited = stored.into_iter().map(|(_, fd)| fd).collect();
}

/// Makes the unit's group with its settings; `None` when there are no control groups.
fn prepare_group(unit: &Unit, exec: &Exec) -> Option<CString> {
    let group = group_of(&unit.name);
    if let Err(error) = cgroup::create(&group) {
        log::about(log::WARNING, Some(&unit.name), format_args!("{error}"));
        return None;
    }
    for (file, value) in &exec.cgroup {
        if let Err(error) = cgroup::set(&group, file, value) {
            log::about(log::WARNING, Some(&unit.name), format_args!("{error}"));
        }
    }
    let mut target = group.clone();
    // A group whose controllers its service has passed on cannot hold processes itself.
    if exec.delegate && cgroup::get(&group, "cgroup.subtree_control").is_ok_and(|on| !on.trim().is_empty()) {
        target = group.join("main");
        let _ = cgroup::create(&target);
    }
    string(target.join("cgroup.procs").as_os_str().as_encoded_bytes()).ok()
}

fn make_folders(exec: &Exec, (uid, gid): (u32, u32)) -> Result<(), String> {
    let runtime = exec
        .runtime_directories
        .iter()
        .map(|name| (Path::new("/run").join(name), exec.runtime_directory_mode));
    let state = exec.state_directories.iter().map(|name| (Path::new("/var/lib").join(name), 0o755));
    for (path, mode) in runtime.chain(state) {
        let made = file::make_folder(&path, 0o755)
            .and_then(|()| file::chown(&path, uid, gid))
            .map_err(|error| error.to_string());
        made?;
        let _ = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
    }
    Ok(())
}

/// Removes the folders that live as long as the service.
pub fn remove_folders(exec: &Exec) {
    if !exec.runtime_directory_preserve {
        for name in &exec.runtime_directories {
            let _ = std::fs::remove_dir_all(Path::new("/run").join(name));
        }
    }
}

fn environment(
    service: &Service,
    user: Option<&User>,
    facts: &Facts,
) -> Result<Vec<(String, String)>, String> {
    let mut list: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| {
        list.retain(|(present, _)| present != name);
        list.push((name.to_owned(), value));
    };
    set("PATH", PATH.to_owned());
    set("LANG", "C.UTF-8".to_owned());
    if let Some(user) = user {
        set("USER", user.name.clone());
        set("LOGNAME", user.name.clone());
        set("HOME", user.home.clone());
        set("SHELL", user.shell.clone());
    } else if service.exec.input == Stream::Terminal {
        set("HOME", "/home/root".to_owned());
        set("TERM", "vt220".to_owned());
    }
    if service.kind == Type::Notify
        || service.notify_access != NotifyAccess::Default
        || service.watchdog.is_some()
    {
        set("NOTIFY_SOCKET", NOTIFY_SOCKET.to_owned());
    }
    if let Some(interval) = facts.watchdog {
        set("WATCHDOG_USEC", u64::try_from(interval.as_micros()).unwrap_or(u64::MAX).to_string());
    }
    if let Some(pid) = facts.main_pid {
        set("MAINPID", pid.to_string());
    }
    if let Some(result) = facts.result {
        set("SERVICE_RESULT", result.to_owned());
    }
    if let Some(name) = service.exec.runtime_directories.first() {
        set("RUNTIME_DIRECTORY", format!("/run/{name}"));
    }
    if let Some(name) = service.exec.state_directories.first() {
        set("STATE_DIRECTORY", format!("/var/lib/{name}"));
    }
    for (name, value) in &service.exec.environment {
        set(name, value.clone());
    }
    for (path, optional) in &service.exec.environment_files {
        match file::read_bounded(path, ENVIRONMENT_LIMIT) {
            Ok(content) => {
                for (name, value) in environment_file(&String::from_utf8_lossy(&content)) {
                    set(&name, value);
                }
            }
            Err(_) if *optional => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(list)
}

/// The assignments in an environment file: one a line, the value perhaps in quotes.
fn environment_file(content: &str) -> Vec<(String, String)> {
    let assignment = |line: &str| {
        let line = line.trim();
        if line.starts_with(['#', ';']) {
            return None;
        }
        let (name, value) = line.split_once('=')?;
        let value = value.trim();
        let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        Some((name.trim().to_owned(), inner.unwrap_or(value).to_owned()))
    };
    content.lines().filter_map(assignment).collect()
}

fn find_program(name: &str) -> Result<CString, String> {
    if name.starts_with('/') {
        return string(name.as_bytes());
    }
    let found = PATH.split(':').map(|folder| Path::new(folder).join(name)).find(|path| path.exists());
    found.map_or_else(
        || Err(format!("there is no program {name}")),
        |path| string(path.as_os_str().as_encoded_bytes()),
    )
}

fn set_streams(
    spawn: &mut Spawn,
    unit: &Unit,
    exec: &Exec,
    environment: &mut Vec<(String, String)>,
) -> Result<(), String> {
    let terminal = exec.terminal.clone().unwrap_or_else(|| "/dev/console".into());
    let on_terminal = exec.input == Stream::Terminal;
    let input = match &exec.input {
        Stream::Terminal => {
            spawn.terminal = Terminal::Controlling;
            device::open_terminal(&terminal).map_err(|error| error.to_string())?
        }
        Stream::File(path) => OpenOptions::new()
            .read(true)
            .open(path)
            .map_err(|error| format!("open {}: {error}", path.display()))?
            .into(),
        _ => null()?,
    };
    let mut journal = false;
    let mut open = |stream: &Stream, before: &OwnedFd| -> Result<OwnedFd, String> {
        let wanted = match stream {
            Stream::Default if on_terminal => &Stream::Inherit,
            Stream::Default => &Stream::Journal,
            stream => stream,
        };
        match wanted {
            Stream::Inherit | Stream::Default => before.try_clone().map_err(|error| error.to_string()),
            Stream::Null => null(),
            Stream::Kmsg => kmsg(),
            Stream::Terminal => device::open_terminal(&terminal).map_err(|error| error.to_string()),
            Stream::File(path) => open_file(path, false),
            Stream::Append(path) => open_file(path, true),
            Stream::Journal => match journal_stream(unit, exec) {
                Some(stream) => {
                    journal = true;
                    Ok(stream)
                }
                None => kmsg(),
            },
        }
    };
    let output = open(&exec.output, &input)?;
    let error = match &exec.error {
        Stream::Default | Stream::Inherit => output.try_clone().map_err(|error| error.to_string())?,
        stream => open(stream, &output)?,
    };
    if journal {
        environment.push(("JOURNAL_STREAM".to_owned(), stream_id(&error).unwrap_or_default()));
    }
    spawn.stdio = [Some(input), Some(output), Some(error)];
    Ok(())
}

/// Device and inode of a stream: by these a program sees that its standard error is the journal.
fn stream_id(stream: &OwnedFd) -> Option<String> {
    let metadata = std::fs::File::from(stream.try_clone().ok()?).metadata().ok()?;
    Some(format!("{}:{}", metadata.dev(), metadata.ino()))
}

/// A stream into the journal: a connection that begins with lines about who writes. `None` when the journal
/// does not listen or its queue is full: PID 1 never waits for it.
fn journal_stream(unit: &Unit, exec: &Exec) -> Option<OwnedFd> {
    let stream = socket::connect_now(Path::new(JOURNAL_STREAM)).ok()?;
    let fallback = unit.name.rsplit_once('.').map_or(unit.name.as_str(), |(stem, _)| stem);
    let identifier = exec.syslog_identifier.as_deref().unwrap_or(fallback);
    let header = format!("{identifier}\n{}\n{STREAM_PRIORITY}\n1\n0\n0\n0\n", unit.name);
    let mut file = std::fs::File::from(stream);
    file.write_all(header.as_bytes()).ok()?;
    Some(file.into())
}

fn null() -> Result<OwnedFd, String> {
    let open = OpenOptions::new().read(true).write(true).open("/dev/null");
    open.map(Into::into).map_err(|error| format!("open /dev/null: {error}"))
}

fn kmsg() -> Result<OwnedFd, String> {
    OpenOptions::new().write(true).open("/dev/kmsg").map(Into::into).or_else(|_| null())
}

fn open_file(path: &Path, append: bool) -> Result<OwnedFd, String> {
    let open = OpenOptions::new().write(true).create(true).truncate(!append).append(append).open(path);
    open.map(Into::into).map_err(|error| format!("open {}: {error}", path.display()))
}

fn string(bytes: &[u8]) -> Result<CString, String> {
    CString::new(bytes).map_err(|_| "a NUL byte in a setting".to_owned())
}

fn strings(texts: impl IntoIterator<Item = String>) -> Result<Vec<CString>, String> {
    texts.into_iter().map(|text| string(text.as_bytes())).collect()
}
