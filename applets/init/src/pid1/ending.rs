//! Taking the system down: units in order, then the last steps, when all are down: kill what is left, write everything to the disks, take all mounts
//! away, end the machine.

use super::Init;
use crate::{log, mounts, unit};
use minke_control::init::Ending;
use minke_sys::mount::{self, Flags};
use minke_sys::signal::{SIGCONT, SIGKILL, SIGTERM};
use minke_sys::{clock, file, process};
use minke_wire::mountinfo::Mount;
use std::path::Path;
use std::time::Duration;

/// How long units may take to stop before the machine ends all the same (spec os §2.4.3).
const ENDING_LIMIT: Duration = Duration::from_secs(600);
/// How long processes of no unit may take after SIGTERM.
const TERM_WAIT: Duration = Duration::from_secs(5);
/// How long killed processes may take to be gone: some wait for a disk.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// How often the mounts are gone through: one may hold another.
const ROUNDS: u32 = 20;
/// File systems of the kernel's that hold nothing and are left alone.
const VIRTUAL: &str = "proc sysfs devtmpfs devpts tmpfs cgroup2 cgroup mqueue securityfs efivarfs bpf pstore rootfs \
                       debugfs";

impl Init {
    /// What a unit's file wants done to the machine.
    pub(super) fn system(&mut self, name: &str, action: unit::Action) {
        let word = unit::ACTIONS.iter().find(|(_, known)| *known == action).map_or("", |(word, _)| word);
        log::line(log::WARNING, format_args!("{name} asks for {word}"));
        match action {
            unit::Action::None => {}
            unit::Action::Reboot => self.begin_ending(Ending::Reboot),
            unit::Action::PowerOff => self.begin_ending(Ending::PowerOff),
            unit::Action::RebootForce => finish(process::Ending::Restart),
            unit::Action::PowerOffForce => finish(process::Ending::PowerOff),
            unit::Action::RebootImmediate => finish_now(process::Ending::Restart),
        }
    }

    /// Takes the system down in order.
    pub(super) fn begin_ending(&mut self, ending: Ending) {
        if self.ending.is_some() {
            return;
        }
        let now = clock::boottime();
        log::line(log::INFO, format_args!("{} begins", ending.verb()));
        self.ending = Some((ending, minke_sys::clock::after(now, ENDING_LIMIT)));
        let target = match ending {
            Ending::Reboot => "reboot.target",
            Ending::PowerOff => "poweroff.target",
            Ending::Halt => "halt.target",
        };
        if let Err(refusal) = self.manager.isolate(&mut self.machine, target, now) {
            log::line(log::ERROR, format_args!("{target}: {refusal}"));
        }
        self.manager.set_ending();
    }

    /// Ends the machine when its time has come.
    pub(super) fn end_when_idle(&mut self, now: Duration) {
        let Some((ending, limit)) = self.ending else { return };
        if self.manager.is_idle() || now >= limit {
            // The journal is down: the rest of the story is for the kernel's log.
            finish(super::kernel_ending(ending));
        }
    }
}

/// Ends the machine in order. It does not return.
pub fn finish(ending: process::Ending) -> ! {
    crate::watchdog::end(ending);
    log::line(log::INFO, format_args!("all units are down; file systems are unmounted"));
    kill_everything();
    file::sync_all();
    if !super::setup::in_container() {
        unmount_everything();
        file::sync_all();
    }
    loop {
        if let Err(error) = process::end_system(ending) {
            log::console(format_args!("{error}"));
        }
        // A halt may return on some boards; PID 1 must not.
        minke_sys::clock::sleep(Duration::from_secs(1));
    }
}

/// Ends the machine with nothing but a sync before it.
pub fn finish_now(ending: process::Ending) -> ! {
    crate::watchdog::end(ending);
    file::sync_all();
    loop {
        let _ = process::end_system(ending);
        minke_sys::clock::sleep(Duration::from_secs(1));
    }
}

fn kill_everything() {
    for (signal, limit) in &[(SIGTERM, TERM_WAIT), (SIGKILL, KILL_WAIT)] {
        if process::kill(-1, *signal).is_err() {
            return;
        }
        let _ = process::kill(-1, SIGCONT);
        if wait_for_none(*limit) {
            return;
        }
    }
    log::line(log::WARNING, format_args!("some processes do not end"));
}

/// Reaps until no process is left. Everything in the machine is a child of PID 1 by now or becomes one.
fn wait_for_none(limit: Duration) -> bool {
    let end = minke_sys::clock::ahead(limit);
    loop {
        while process::reap().is_some() {}
        if process::kill(-1, 0).is_err() {
            return true;
        }
        if clock::boottime() >= end {
            return false;
        }
        // The machine is going down and nothing else is to do: no loop and no descriptor is needed here.
        minke_sys::clock::sleep(Duration::from_millis(20));
    }
}

/// Takes all mounts away, the latest first. What is busy (the root image, the slot that it lies in) becomes
/// read-only, so that its file system is clean.
fn unmount_everything() {
    let _ = std::env::set_current_dir("/");
    for _ in 0..ROUNDS {
        let mounts = mounts::table();
        let mut progress = false;
        for mount in mounts.iter().rev().filter(|mount| is_candidate(mount)) {
            progress |= mount::unmount(Path::new(&mount.target)).is_ok();
        }
        if !progress {
            break;
        }
    }
    for mount in mounts::table().iter().rev().filter(|mount| is_candidate(mount) || mount.target == "/") {
        let writable = !mount.super_options.split(',').any(|option| option == "ro");
        let path = Path::new(&mount.target);
        if writable && mount.kind != "overlay" && mount::remount(path, Flags::RDONLY, "").is_err() {
            log::alarm(format_args!("{} ({}) is busy and stays mounted", mount.target, mount.source));
        }
    }
}

/// Whether a mount holds a disk's file system (or hides one below it).
fn is_candidate(mount: &Mount) -> bool {
    let kept = ["/", "/proc", "/sys", "/dev", "/run"];
    if kept.contains(&mount.target.as_str()) {
        return false;
    }
    let below_kernel = ["/proc/", "/sys/", "/dev/"].iter().any(|folder| mount.target.starts_with(folder));
    !(below_kernel && VIRTUAL.split(' ').any(|kind| kind == mount.kind))
}
