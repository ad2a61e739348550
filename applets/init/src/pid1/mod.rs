//! PID 1 of the system: sets the machine up, then runs the manager in one loop.

mod automount;
mod control;
mod ending;
mod environment;
mod guard;
mod launch;
mod notify;
mod setup;
mod show;
mod trigger;
mod users;
mod watch;
mod world;

use crate::cmdline::Cmdline;
use crate::log;
use crate::manager::runtime::{Event, Word, earlier};
use crate::manager::state::{Effect, Whom};
use crate::manager::{Action, Kind, Manager, Saved};
use crate::unit::load::Folders;
use crate::unit::{self};
use crate::watchdog::Watchdog;
use control::Waiter;
use minke_control::init::{Ending, SOCKET};
use minke_control::{self as control_socket, Limits, Server};
use minke_sys::alarm::Alarm;
use minke_sys::event::{Interest, Poller, Ready};
use minke_sys::signal::{SIGCHLD, SIGHUP, SIGINT, SIGPIPE, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, Signals};
use minke_sys::{cgroup, clock, process};
pub use setup::in_container;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;
use world::Machine;

const SIGNALS: u64 = 1;
const NOTIFY: u64 = 2;
const CONTROL: u64 = 3;
const GROUPS: u64 = 4;
const PATHS: u64 = 5;
const MOUNTS: u64 = 6;
const ALARM: u64 = 7;
const AUTOMOUNTS: u64 = 8;

/// Signals by which a system is taken down, as systemd(1) has them: SIGRTMIN+3 and on.
const RTMIN: i32 = 34;
/// All signals that are taken by the loop.
const TAKEN: [i32; 12] = [
    SIGCHLD,
    SIGTERM,
    SIGINT,
    SIGHUP,
    SIGPIPE,
    SIGUSR1,
    SIGUSR2,
    SIGWINCH,
    RTMIN + 3,
    RTMIN + 4,
    RTMIN + 5,
    RTMIN + 6,
];
/// Processes reaped in one turn of the loop, so that a flood of orphans cannot keep it from its other work.
const REAP_BATCH: u32 = 512;
/// Notifications read in one turn.
const NOTIFY_BATCH: u32 = 64;
/// Descriptors that one unit may store.
const STORE_LIMIT: usize = 512;

/// PID 1.
#[derive(Debug)]
pub(crate) struct Init {
    manager: Manager,
    machine: Machine,
    poller: Poller,
    signals: Signals,
    notify: Option<UnixDatagram>,
    server: Option<Server>,
    groups: Option<cgroup::Watch>,
    /// There once a path unit was up.
    watches: Option<watch::Watches>,
    automounts: Vec<automount::Kept>,
    /// There when a timer has waited for a moment of the calendar.
    alarm: Option<Alarm>,
    /// What it is set to.
    alarm_time: Option<Duration>,
    waiters: Vec<Waiter>,
    watchdog: Watchdog,
    ending: Option<(Ending, Duration)>,
}

/// Runs PID 1. It does not return.
pub fn run(arguments: &[std::ffi::OsString]) -> u8 {
    let again = guard::is_again(arguments);
    guard::install();
    if again {
        guard::limit_lives();
    } else {
        log::line(log::INFO, format_args!("minke {} is PID 1", minke_applet::build().version));
        minke_sys::watchdog::take();
        setup::run();
    }
    loop {
        match Init::new() {
            Ok(init) => Box::leak(init).run(again),
            Err(error) => log::alarm(format_args!("PID 1 cannot set up its loop: {error}")),
        }
        // Neither happens while the machine works; the next try may find it better.
        minke_sys::clock::sleep(Duration::from_secs(1));
    }
}

impl Init {
    fn new() -> minke_sys::Result<Box<Self>> {
        let signals = Signals::new(&TAKEN)?;
        let poller = Poller::new()?;
        poller.add(&signals, SIGNALS, Interest::Read)?;
        // Without one of these the system still boots.
        let notify = usable(notify::listen(), &poller, NOTIFY);
        let _ = minke_sys::file::make_folder(Path::new("/run/minke"), 0o755);
        let server = usable(Server::bind(Path::new(SOCKET), 0o666, Limits::default()), &poller, CONTROL);
        let groups = usable(cgroup::Watch::new(), &poller, GROUPS);
        let cmdline = Cmdline::read();
        let watchdog = Watchdog::new(&cmdline);
        let machine = Machine::new(Folders::default(), cmdline);
        Ok(Box::new(Self {
            manager: Manager::default(),
            machine,
            poller,
            signals,
            notify,
            server,
            groups,
            watches: None,
            automounts: Vec::new(),
            alarm: None,
            alarm_time: None,
            waiters: Vec::new(),
            watchdog,
            ending: None,
        }))
    }

    fn run(&mut self, again: bool) -> ! {
        if again {
            self.take_over();
        }
        let _ = process::ignore_ctrl_alt_del();
        self.boot();
        let mut ready: Vec<Ready> = Vec::new();
        loop {
            self.act();
            self.set_alarm();
            let now = clock::boottime();
            self.end_when_idle(now);
            let limit = self.ending.map(|(_, limit)| limit);
            let next = earlier(earlier(self.manager.deadline(), limit), self.watchdog.turn(now));
            let timeout = next.map(|next| next.saturating_sub(now));
            if let Err(error) = self.poller.wait(&mut ready, timeout) {
                log::line(log::ERROR, format_args!("{error}"));
                minke_sys::clock::sleep(Duration::from_secs(1));
            }
            for event in &ready {
                match event.token {
                    SIGNALS => self.take_signals(),
                    NOTIFY => self.take_notifications(),
                    CONTROL => self.take_requests(),
                    PATHS => self.take_path_changes(),
                    MOUNTS => self.take_mount_changes(),
                    ALARM => self.take_alarm(),
                    AUTOMOUNTS => self.take_automounts(),
                    _ => self.take_group_changes(),
                }
            }
            self.manager.time(&mut self.machine, clock::boottime());
        }
    }

    /// Starts what the boot is for.
    fn boot(&mut self) {
        let cmdline = Cmdline::read();
        let target = cmdline.value("systemd.unit").unwrap_or("default.target").to_owned();
        let now = clock::boottime();
        for name in [target.as_str(), "multi-user.target"] {
            match self.manager.enqueue(&mut self.machine, Kind::Start, name, now) {
                Ok(_) => return,
                Err(refusal) => log::line(log::ERROR, format_args!("cannot start {name}: {refusal}")),
            }
        }
        log::console(format_args!("no unit could be started; see 'systemctl verify'"));
    }

    /// After a fault: the units that run go on.
    fn take_over(&mut self) {
        let saved = guard::load();
        log::line(log::ERROR, format_args!("PID 1 started again after a fault; {} units go on", saved.len()));
        let now = clock::boottime();
        self.manager.adopt(&mut self.machine, &saved, now);
        self.clear_halves(&saved);
        for unit in saved.iter().filter(|unit| unit.up) {
            self.watch(&unit.name);
            if let Some(pid) = unit.main.filter(|pid| process::kill(*pid, 0).is_err()) {
                self.event(&unit.name, &Event::Exited { pid, exit: process::Exit::Code(0) });
            }
            self.check_empty(&unit.name);
        }
    }

    /// Kills what belongs to units that were between down and up: they are started anew. Containers, whose
    /// engine leaves them alive, stay.
    fn clear_halves(&mut self, saved: &[Saved]) {
        for unit in saved.iter().filter(|unit| !unit.up) {
            for pid in [unit.main, unit.control] {
                let _ = pid.map(|pid| process::kill(pid, minke_sys::signal::SIGKILL));
            }
        }
        for group in cgroup::children(&Path::new(cgroup::ROOT).join("system.slice")) {
            let Some(name) = group.file_name().and_then(|name| name.to_str()) else { continue };
            let Ok(slot) = self.manager.load(&mut self.machine, name) else { continue };
            let kept = slot.unit.service.as_ref().is_some_and(|service| {
                matches!(service.kill_mode, unit::KillMode::Process | unit::KillMode::None)
            });
            if slot.active().is_down() && !kept {
                let _ = cgroup::kill(&group);
            }
        }
    }

    /// Carries out what the manager wants, until it wants nothing more.
    fn act(&mut self) {
        let mut changed = false;
        loop {
            let actions = self.manager.take_actions();
            if actions.is_empty() {
                break;
            }
            changed = true;
            for action in actions {
                match action {
                    Action::Service { unit, effect } => self.effect(&unit, &effect),
                    Action::Log { priority, unit, text } => {
                        log::about(priority, Some(&unit), format_args!("{unit}: {text}"));
                    }
                    Action::Watch { unit, on } => self.watch_paths(&unit, on),
                    Action::JobEnded { id, verdict } => {
                        self.automount_ended(id, verdict);
                        self.job_ended(id, verdict);
                    }
                    Action::System { unit, action } => self.system(&unit, action),
                }
            }
        }
        if changed {
            guard::save(&self.manager);
            self.watchdog.look();
        }
    }

    fn effect(&mut self, name: &str, effect: &Effect) {
        match effect {
            Effect::Spawn { command, main } => self.spawn(name, command, *main),
            Effect::Signal(Whom::Process(pid), signal) => {
                let _ = process::kill(*pid, *signal);
            }
            Effect::Signal(Whom::All, signal) => signal_group(name, *signal),
            Effect::Clean => {
                // Processes that may stay (KillMode=process) keep the group.
                let _ = cgroup::remove(&launch::group_of(name));
                if let Some(slot) = self.manager.units().get(name)
                    && let Some(service) = &slot.unit.service
                {
                    launch::remove_folders(&service.exec);
                }
            }
            _ => {}
        }
    }

    fn spawn(&mut self, name: &str, command: &unit::Command, main: bool) {
        let Some(slot) = self.manager.units().get(name) else { return };
        let keeps = self.automounts.iter().any(|kept| kept.target == name);
        let pid = match launch::launch(slot, command, main, keeps) {
            Ok(pid) => Some(pid),
            Err(why) => {
                error_about(name, format_args!("{name}: {} cannot start: {why}", command.program));
                None
            }
        };
        self.watch(name);
        self.event(name, &Event::Spawned { main, pid });
    }

    /// Tells the manager that something happened to a unit's service.
    fn event(&mut self, name: &str, event: &Event<'_>) {
        self.manager.event(&mut self.machine, name, event, clock::boottime());
    }

    /// Watches the unit's control group, so that we know when it is empty.
    fn watch(&mut self, name: &str) {
        if let Some(groups) = &self.groups
            && let Ok(number) = groups.add(&launch::group_of(name))
            && let Some(slot) = self.manager.slot_mut(name)
        {
            slot.watch = Some(number);
        }
    }

    fn take_signals(&mut self) {
        while let Some(signal) = self.signals.take() {
            match signal {
                SIGCHLD => {}
                // Ctrl-Alt-Del; systemd(1), "Signals".
                SIGINT | SIGTERM => self.begin_ending(Ending::Reboot),
                // BusyBox's halt and poweroff send these two.
                SIGUSR1 => self.begin_ending(Ending::Halt),
                SIGUSR2 => self.begin_ending(Ending::PowerOff),
                SIGHUP => self.reload_units(),
                _ => match signal - RTMIN {
                    3 => self.begin_ending(Ending::Halt),
                    4 => self.begin_ending(Ending::PowerOff),
                    5 | 6 => self.begin_ending(Ending::Reboot),
                    _ => {}
                },
            }
        }
        self.reap();
    }

    /// Takes processes that have ended: services' and orphans alike.
    fn reap(&mut self) {
        for _ in 0..REAP_BATCH {
            let Some((pid, exit)) = process::reap() else { return };
            // What a process has said, it said before it ended.
            self.take_notifications();
            let Some(name) = self.manager.owner(pid).map(str::to_owned) else { continue };
            if let process::Exit::Code(code) = exit
                && let Some(what) = process::Failure::name(code)
            {
                error_about(&name, format_args!("{name}: set-up failed with status {code}/{what}"));
            }
            self.event(&name, &Event::Exited { pid, exit });
            self.check_empty(&name);
        }
        // More may wait, and their SIGCHLD is taken: look again after the other work.
        let _ = process::kill(1, SIGCHLD);
    }

    fn check_empty(&mut self, name: &str) {
        let populated = self.manager.units().get(name).is_some_and(|slot| slot.runtime.populated);
        if populated && !cgroup::populated(&launch::group_of(name)) {
            self.event(name, &Event::Emptied);
        }
    }

    fn take_group_changes(&mut self) {
        let Some(groups) = &self.groups else { return };
        for number in groups.take() {
            let watched = self.manager.units().values().find(|slot| slot.watch == Some(number));
            if let Some(name) = watched.map(|slot| slot.unit.name.clone()) {
                self.check_empty(&name);
            }
        }
    }

    fn take_notifications(&mut self) {
        for _ in 0..NOTIFY_BATCH {
            let Some(message) = self.notify.as_ref().and_then(notify::take) else { return };
            if let Some(name) = notify::sender(&self.manager, message.pid) {
                self.notified(&name, message);
            }
        }
    }

    fn notified(&mut self, name: &str, message: notify::Message) {
        let mut store_name = "stored";
        let (mut store, mut remove) = (false, false);
        for word in notify::words(&message.text) {
            match word {
                Word::StoreName(name) => store_name = name,
                Word::Store => store = true,
                Word::StoreRemove => remove = true,
                word => self.event(name, &Event::Says(word)),
            }
        }
        let Some(slot) = self.manager.slot_mut(name) else { return };
        if remove {
            slot.stored.retain(|(present, _)| present != store_name);
        }
        if store {
            for descriptor in message.descriptors {
                if slot.stored.len() < STORE_LIMIT {
                    slot.stored.push((store_name.to_owned(), descriptor));
                }
            }
        }
    }

    fn take_requests(&mut self) {
        let Some(server) = &mut self.server else { return };
        let events = match server.events() {
            Ok(events) => events,
            Err(error) => return log::line(log::WARNING, format_args!("{error}")),
        };
        for event in events {
            match event {
                control_socket::Event::Request { conn, request, uid } => self.request(conn, &request, uid),
                control_socket::Event::Closed { conn } => self.forget(conn),
            }
        }
    }

    fn answer(&mut self, conn: u64, answer: &minke_wire::json::Value) {
        if let Some(server) = &mut self.server {
            server.finish(conn, answer);
        }
    }

    fn refuse(&mut self, conn: u64, why: &str) {
        if let Some(server) = &mut self.server {
            server.refuse(conn, why);
        }
    }

    fn reload_units(&mut self) {
        self.machine.forget_warnings();
        self.manager.reload(&mut self.machine);
        log::line(log::INFO, format_args!("unit files were read again"));
    }
}

fn error_about(unit: &str, message: std::fmt::Arguments<'_>) {
    log::about(log::ERROR, Some(unit), message);
}

/// What the kernel is asked for in the end.
pub(crate) fn kernel_ending(ending: Ending) -> process::Ending {
    match ending {
        Ending::Reboot => process::Ending::Restart,
        Ending::PowerOff => process::Ending::PowerOff,
        Ending::Halt => process::Ending::Halt,
    }
}

/// Signals all processes of a unit. SIGKILL goes to all at once, so that none can start another in between.
fn signal_group(name: &str, signal: i32) {
    let group = launch::group_of(name);
    if signal == minke_sys::signal::SIGKILL {
        let _ = cgroup::kill(&group);
        return;
    }
    for pid in cgroup::processes(&group, true) {
        let _ = process::kill(pid, signal);
    }
}

fn usable<T: std::os::fd::AsFd>(made: minke_sys::Result<T>, poller: &Poller, token: u64) -> Option<T> {
    match made.and_then(|made| poller.add(&made, token, Interest::Read).map(|()| made)) {
        Ok(made) => Some(made),
        Err(error) => {
            log::line(log::ERROR, format_args!("{error}"));
            None
        }
    }
}
