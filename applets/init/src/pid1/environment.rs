//! The environment of a service's processes.

use super::launch::{NOTIFY_SOCKET, PATH};
use super::users::Account;
use crate::manager::Slot;
use crate::unit::{NotifyAccess, Service, Stream, Type};
use minke_sys::clock::microseconds;
use minke_sys::{Result, file};

/// Bytes of an environment file.
const FILE_LIMIT: usize = 256 << 10;

/// `NAME=VALUE` lines.
pub struct Environment(pub Vec<String>);

impl Environment {
    /// What a process of this service gets; `main`: it is the main process.
    pub fn new(slot: &Slot, service: &Service, account: Option<&Account>, main: bool) -> Result<Self> {
        let mut list = Self(Vec::new());
        list.set("PATH", PATH);
        list.set("LANG", "C.UTF-8");
        if let Some(user) = account.filter(|account| !account.name.is_empty()) {
            list.set("USER", &user.name);
            list.set("LOGNAME", &user.name);
            list.set("HOME", &user.home);
            list.set("SHELL", &user.shell);
        } else if service.exec.input == Stream::Terminal {
            list.set("HOME", "/home/root");
            list.set("TERM", "vt220");
        }
        list.set_facts(slot, service, main);
        for line in &service.exec.environment {
            list.set_line(line.clone());
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
        self.set_line(format!("{name}={value}"));
    }

    fn set_line(&mut self, line: String) {
        let name = line.split_once('=').map(|(name, _)| name);
        self.0.retain(|present| present.split_once('=').map(|(name, _)| name) != name);
        self.0.push(line);
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
