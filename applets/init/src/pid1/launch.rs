//! From a service's settings to a process.

use super::environment::Environment;
use super::users::{self, Account};
use crate::log;
use crate::manager::Slot;
use crate::unit::{Command, Exec, Stream, Unit};
use crate::why::Why;
use minke_sys::file::{self, APPEND, Flags, open};
use minke_sys::process::{Spawn, Terminal};
use minke_sys::{cgroup, device, socket};
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The notify socket.
pub const NOTIFY_SOCKET: &str = "/run/systemd/notify";
/// The search path of commands without a slash, and the default `PATH`.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";
/// Where the journal takes streams.
const JOURNAL_STREAM: &str = "/run/systemd/journal/stdout";
/// `LOG_INFO`, the priority of lines without one of their own.
const STREAM_PRIORITY: u8 = 6;

/// The control group of a unit.
pub fn group_of(name: &str) -> PathBuf {
    Path::new(cgroup::ROOT).join("system.slice").join(name)
}

/// Starts a command of a unit and returns its process id. `main`: it becomes the main process; `same_group`: it stays in
/// PID 1's process group.
pub fn launch(slot: &Slot, command: &Command, main: bool, same_group: bool) -> Result<i32, Why> {
    let Some(service) = &slot.unit.service else { return Err(Why::missing("service", &slot.unit.name)) };
    let account = if command.privileged { None } else { users::account_of(&service.exec)? };
    make_folders(&service.exec, account.as_deref())?;
    let mut environment = Environment::new(slot, service, account.as_deref(), main)?;
    let mut spawn = Box::new(Spawn::new(&find_program(&command.program)?));
    spawn.folder = Some(c"/".into());
    spawn.same_group = same_group;
    if let Some((path, optional)) = &service.exec.working_directory {
        let home = account.as_ref().map_or("/home/root", |account| account.home.as_str());
        spawn.folder = Some(string(if path == Path::new("~") { Path::new(home) } else { path })?);
        spawn.folder_optional = *optional;
    }
    spawn.credentials = account.map(|account| account.credentials);
    spawn.cgroup = prepare_group(&slot.unit, &service.exec);
    set_limits(&mut spawn, &service.exec, command.privileged);
    Streams { unit: &slot.unit, exec: &service.exec, journal: false }.set(&mut spawn, &mut environment)?;
    spawn.arguments = strings(&command.expanded(&environment.0))?;
    if main {
        pass_descriptors(&mut spawn, &mut environment, slot);
    }
    spawn.environment = strings(&environment.0)?;
    Ok(spawn.start()?)
}

fn set_limits(spawn: &mut Spawn, exec: &Exec, privileged: bool) {
    spawn.umask = Some(exec.umask);
    spawn.nice = exec.nice;
    // PID 1's own score is not for others.
    spawn.oom_score = string(Path::new(&exec.oom_score_adjust.unwrap_or(0).to_string())).ok();
    spawn.limits.clone_from(&exec.limits);
    if !privileged {
        spawn.bounding = exec.bounding.map(|set| set.0);
        spawn.ambient = exec.ambient.0;
        spawn.no_new_privileges = exec.no_new_privileges;
    }
}

/// Passes the descriptors that the service has stored: `sd_listen_fds(3)`.
fn pass_descriptors(spawn: &mut Spawn, environment: &mut Environment, slot: &Slot) {
    let mut names = Vec::new();
    for (name, descriptor) in &slot.stored {
        if let Ok(copy) = file::duplicate(descriptor) {
            names.push(name.as_str());
            spawn.inherited.push(copy);
        }
    }
    if !names.is_empty() {
        environment.set("LISTEN_FDS", &names.len().to_string());
        environment.set("LISTEN_FDNAMES", &names.join(":"));
        spawn.tell_pid_as = Some("LISTEN_PID");
    }
}

/// Makes the unit's group with its settings; `None` when there are no control groups.
fn prepare_group(unit: &Unit, exec: &Exec) -> Option<CString> {
    let mut group = group_of(&unit.name);
    let warn = |error| log::about(log::WARNING, Some(&unit.name), format_args!("{error}"));
    cgroup::create(&group).map_err(warn).ok()?;
    for (file, value) in &exec.cgroup {
        let _ = cgroup::set(&group, file, value).map_err(warn);
    }
    // A group whose controllers its service has passed on cannot hold processes itself.
    if exec.delegate && cgroup::get(&group, "cgroup.subtree_control").is_ok_and(|on| !on.trim().is_empty()) {
        group.push("main");
        let _ = cgroup::create(&group);
    }
    group.push("cgroup.procs");
    string(&group).ok()
}

fn make_folders(exec: &Exec, account: Option<&Account>) -> minke_sys::Result<()> {
    let (uid, gid) = account.map_or((0, 0), |account| (account.credentials.uid, account.credentials.gid));
    for (base, names, mode) in [
        ("/run", &exec.runtime_directories, exec.runtime_directory_mode),
        ("/var/lib", &exec.state_directories, 0o755),
    ] {
        for name in names {
            let path = Path::new(base).join(name);
            file::make_folder(&path, 0o755)?;
            file::chown(&path, uid, gid)?;
            let _ = file::set_mode(&path, mode);
        }
    }
    Ok(())
}

/// Removes the folders that live as long as the service.
pub fn remove_folders(exec: &Exec) {
    if !exec.runtime_directory_preserve {
        for name in &exec.runtime_directories {
            let _ = file::remove_all(&Path::new("/run").join(name));
        }
    }
}

fn find_program(name: &str) -> Result<CString, Why> {
    if name.starts_with('/') {
        return string(Path::new(name));
    }
    for folder in PATH.split(':') {
        let path = Path::new(folder).join(name);
        if minke_sys::status::exists(&path) {
            return string(&path);
        }
    }
    Err(Why::missing("program", name))
}

/// The standard streams of a process to be.
struct Streams<'a> {
    unit: &'a Unit,
    exec: &'a Exec,
    /// One of them goes to the journal.
    journal: bool,
}

impl Streams<'_> {
    fn set(&mut self, spawn: &mut Spawn, environment: &mut Environment) -> minke_sys::Result<()> {
        let input = match &self.exec.input {
            Stream::Terminal => {
                spawn.terminal = Terminal::Controlling;
                self.terminal()?
            }
            Stream::File(path) => open(path, Flags::RDONLY)?.into(),
            _ => null()?,
        };
        let output = self.open(&self.exec.output, &input)?;
        let error = match &self.exec.error {
            Stream::Default => copy(&output)?,
            stream => self.open(stream, &output)?,
        };
        if self.journal {
            environment.set("JOURNAL_STREAM", &stream_id(&error).unwrap_or_default());
        }
        spawn.stdio = [Some(input), Some(output), Some(error)];
        Ok(())
    }

    /// Opens a stream for writing; `before` is the one that it may be a copy of.
    fn open(&mut self, stream: &Stream, before: &OwnedFd) -> minke_sys::Result<OwnedFd> {
        match stream {
            Stream::Null => null(),
            Stream::Kmsg => kmsg(),
            Stream::Terminal => self.terminal(),
            Stream::File(path) => open(path, Flags::WRONLY | Flags::CREATE | Flags::TRUNC).map(Into::into),
            Stream::Append(path) => open(path, APPEND).map(Into::into),
            Stream::Default if self.exec.input == Stream::Terminal => copy(before),
            Stream::Inherit => copy(before),
            Stream::Default | Stream::Journal => match self.to_journal() {
                Some(stream) => {
                    self.journal = true;
                    Ok(stream)
                }
                None => kmsg(),
            },
        }
    }

    fn terminal(&self) -> minke_sys::Result<OwnedFd> {
        device::open_terminal(Path::new(self.exec.terminal.as_deref().unwrap_or("/dev/console")))
    }

    /// A stream into the journal: a connection that begins with lines about who writes. `None` when the journal
    /// does not listen or its queue is full: PID 1 never waits for it.
    fn to_journal(&self) -> Option<OwnedFd> {
        let stream = socket::connect_now(Path::new(JOURNAL_STREAM)).ok()?;
        let name = self.unit.name.as_str();
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let identifier = self.exec.syslog_identifier.as_deref().unwrap_or(stem);
        let header = format!("{identifier}\n{name}\n{STREAM_PRIORITY}\n1\n0\n0\n0\n");
        let mut file = File::from(stream);
        file.write_all(header.as_bytes()).ok()?;
        Some(file.into())
    }
}

/// Device and inode of a stream: by these a program sees that its standard error is the journal.
fn stream_id(stream: &OwnedFd) -> Option<String> {
    let status = minke_sys::status::of_open(stream).ok()?;
    Some(format!("{}:{}", status.device, status.inode))
}

fn null() -> minke_sys::Result<OwnedFd> {
    open("/dev/null", Flags::RDWR).map(Into::into)
}

fn kmsg() -> minke_sys::Result<OwnedFd> {
    open("/dev/kmsg", Flags::WRONLY).map(Into::into).or_else(|_| null())
}

fn copy(stream: &OwnedFd) -> minke_sys::Result<OwnedFd> {
    file::duplicate(stream)
}

fn strings(texts: &[String]) -> Result<Vec<CString>, Why> {
    let mut strings = Vec::new();
    for text in texts {
        strings.push(string(Path::new(text))?);
    }
    Ok(strings)
}

fn string(text: &Path) -> Result<CString, Why> {
    CString::new(text.as_os_str().as_encoded_bytes()).map_err(|_| Why("a NUL byte in a setting".into()))
}
