//! What the manager asks: unit files, conditions, process ids in files.

use crate::cmdline::Cmdline;
use crate::log;
use crate::manager::World;
use crate::mounts;
use crate::unit::load::{Folders, Loaded, Warning};
use crate::unit::{Condition, Test};
use minke_sys::{clock, file, random, status};
use minke_wire::mountinfo;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where persistent timers keep when they ran: systemd.timer(5), `Persistent=`.
const STAMPS: &str = "/var/lib/systemd/timers";

/// The machine that PID 1 runs on.
#[derive(Debug)]
pub struct Machine {
    folders: Folders,
    cmdline: Cmdline,
    /// Warnings that were logged: a unit is read more than once, its faults are told once.
    told: Vec<String>,
}

impl Machine {
    /// Units are read from `folders`.
    pub fn new(folders: Folders, cmdline: Cmdline) -> Self {
        Self { folders, cmdline, told: Vec::new() }
    }

    /// After a reload of the unit files, faults are told again.
    pub fn forget_warnings(&mut self) {
        self.told.clear();
    }
}

impl World for Machine {
    fn load(&mut self, name: &str) -> Loaded {
        let mut warnings: Vec<Warning> = Vec::new();
        let loaded = self.folders.load(name, &mut warnings);
        for warning in warnings {
            let text = warning.to_string();
            if !self.told.contains(&text) {
                self.told.push(text.clone());
                log::about(log::WARNING, Some(name), format_args!("{text}"));
            }
        }
        loaded
    }

    fn resolve(&mut self, name: &str) -> String {
        self.folders.resolve(name)
    }

    fn holds(&mut self, condition: &Condition) -> bool {
        let argument = condition.argument.as_str();
        let path = Path::new(argument);
        let metadata = status::of(path);
        match condition.test {
            Test::PathExists => metadata.is_ok(),
            Test::PathIsDirectory => metadata.is_ok_and(|data| data.is_dir()),
            Test::PathIsSymbolicLink => status::of_link(path).is_ok_and(|data| data.is_symlink()),
            Test::PathIsMountPoint => is_mount_point(argument),
            Test::PathIsReadWrite => metadata.is_ok() && !is_on_read_only_mount(argument),
            Test::DirectoryNotEmpty => file::list(path).is_ok_and(|entries| !entries.is_empty()),
            Test::FileNotEmpty => metadata.is_ok_and(|data| data.is_file() && data.length > 0),
            Test::FileIsExecutable => metadata.is_ok_and(|data| data.is_file() && data.mode() & 0o111 != 0),
            Test::KernelCommandLine => self.cmdline.contains(argument),
        }
    }

    fn read_pid(&mut self, path: &Path) -> Option<i32> {
        minke_wire::text::number(crate::read_text(path, 64).trim()).filter(|pid| *pid > 1)
    }

    fn realtime(&mut self) -> Duration {
        clock::realtime()
    }

    fn random(&mut self) -> u64 {
        random::quick()
    }

    fn fixed(&mut self, name: &str) -> u64 {
        // FNV-1a.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in crate::read_text(Path::new("/etc/machine-id"), 64).bytes().chain(name.bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash
    }

    fn last_run(&mut self, name: &str) -> Option<Duration> {
        status::stamp(&stamp_file(name)).map(|stamp| stamp.modified)
    }

    fn record_run(&mut self, name: &str) {
        // Not synced, as PID 1 must not wait for a slow disk: after a power cut the worst is that the unit runs once
        // more than it had to.
        let made = file::make_folder(Path::new(STAMPS), 0o755);
        if let Err(error) = made.and_then(|()| file::touch(&stamp_file(name))) {
            log::about(log::WARNING, Some(name), format_args!("{error}"));
        }
    }
}

/// The file whose time is the last run's.
fn stamp_file(name: &str) -> PathBuf {
    Path::new(STAMPS).join(format!("stamp-{name}"))
}

fn is_mount_point(path: &str) -> bool {
    mountinfo::find(&mounts::table(), path).is_some()
}

fn is_on_read_only_mount(path: &str) -> bool {
    let table = mounts::table();
    let mut folder = Path::new(path);
    loop {
        if let Some(found) = folder.to_str().and_then(|folder| mountinfo::find(&table, folder)) {
            let read_only = |options: &str| options.split(',').any(|option| option == "ro");
            return read_only(&found.options) || read_only(&found.super_options);
        }
        match folder.parent() {
            Some(parent) => folder = parent,
            None => return false,
        }
    }
}
