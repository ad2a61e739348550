//! The environment of a service's processes.

use super::launch::{NOTIFY_SOCKET, PATH};
use super::microseconds;
use super::users::User;
use crate::manager::Slot;
use crate::unit::{NotifyAccess, Service, Stream, Type};
use minke_sys::{Result, file};

/// Bytes of an environment file.
const FILE_LIMIT: usize = 256 << 10;

/// Names and values.
pub struct Environment(pub Vec<(String, String)>);

impl Environment {
    /// What a process of this service gets; `main`: it is the main process.
    pub fn new(slot: &Slot, service: &Service, user: Option<&User>, main: bool) -> Result<Self> {
        let mut list = Self(Vec::new());
        list.set("PATH", PATH);
        list.set("LANG", "C.UTF-8");
        if let Some(user) = user {
            list.set("USER", &user.name);
            list.set("LOGNAME", &user.name);
            list.set("HOME", &user.home);
            list.set("SHELL", &user.shell);
        } else if service.exec.input == Stream::Terminal {
            list.set("HOME", "/home/root");
            list.set("TERM", "vt220");
        }
        list.set_facts(slot, service, main);
        for (name, value) in &service.exec.environment {
            list.set(name, value);
        }
        for (path, optional) in &service.exec.environment_files {
            match file::read_bounded(path, FILE_LIMIT) {
                Ok(content) => list.read(&String::from_utf8_lossy(&content)),
                Err(_) if *optional => {}
                Err(error) => return Err(error),
            }
        }
        Ok(list)
    }

    /// Sets a variable, perhaps anew.
    pub fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(present, _)| present != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    /// What PID 1 tells about the service.
    fn set_facts(&mut self, slot: &Slot, service: &Service, main: bool) {
        if service.kind == Type::Notify
            || service.notify_access != NotifyAccess::Default
            || service.watchdog.is_some()
        {
            self.set("NOTIFY_SOCKET", NOTIFY_SOCKET);
        }
        if let Some(interval) = service.watchdog {
            self.set("WATCHDOG_USEC", &microseconds(interval).to_string());
        }
        if let Some(pid) = slot.runtime.main {
            self.set("MAINPID", &pid.to_string());
        }
        if !main {
            self.set("SERVICE_RESULT", slot.runtime.outcome.name());
        }
        if let Some(name) = service.exec.runtime_directories.first() {
            self.set("RUNTIME_DIRECTORY", &format!("/run/{name}"));
        }
        if let Some(name) = service.exec.state_directories.first() {
            self.set("STATE_DIRECTORY", &format!("/var/lib/{name}"));
        }
    }

    /// Takes the assignments in an environment file: one a line, the value perhaps in quotes.
    fn read(&mut self, content: &str) {
        for line in content.lines() {
            let line = line.trim();
            if line.starts_with(['#', ';']) {
                continue;
            }
            let Some((name, value)) = line.split_once('=') else { continue };
            let value = value.trim();
            let inner = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
            self.set(name.trim(), inner.unwrap_or(value));
        }
    }
}
