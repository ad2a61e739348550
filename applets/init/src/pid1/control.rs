//! Requests over the control socket.

use super::Init;
use crate::manager::state::{Phase, State};
use crate::manager::{Kind, Slot, Verdict};
use minke_control::init::Ending;
use minke_sys::cgroup;
use minke_wire::json::{Value, json};
use minke_wire::unit::{Name, signal_number};

/// Units named in one request.
const UNITS_LIMIT: usize = 256;

/// Somebody who waits for jobs.
#[derive(Debug)]
pub struct Waiter {
    conn: u64,
    /// Jobs that are still to end, with the units that were asked for.
    jobs: Vec<(u32, String)>,
    /// What went wrong so far.
    failures: Vec<String>,
}

impl Init {
    /// Answers a request, at once or when its jobs have ended.
    pub(super) fn request(&mut self, conn: u64, request: &Value, uid: u32) {
        let command = request.get("command").and_then(Value::as_str).unwrap_or_default();
        let changes = !matches!(command, "show" | "list-units" | "list-jobs" | "list-unit-files");
        if changes && uid != 0 {
            return self.server_refuse(conn, "only root may do that");
        }
        match command {
            "start" => self.job(conn, Kind::Start, request),
            "stop" => self.job(conn, Kind::Stop, request),
            "restart" => self.job(conn, Kind::Restart, request),
            "try-restart" => self.job_if_up(conn, request),
            "reload" => self.job(conn, Kind::Reload, request),
            "reload-or-restart" => self.reload_or_restart(conn, request),
            "isolate" => self.isolate(conn, request),
            "kill" => self.kill(conn, request),
            "show" => self.show(conn, request),
            "list-units" => self.list_units(conn),
            "list-jobs" => self.list_jobs(conn),
            "daemon-reload" => {
                self.reload_units();
                self.answer(conn, &json!({}));
            }
            "reset-failed" => self.reset_failed(conn, request),
            "reboot" | "poweroff" | "halt" => {
                let ending = match command {
                    "reboot" => Ending::Reboot,
                    "poweroff" => Ending::PowerOff,
                    _ => Ending::Halt,
                };
                self.answer(conn, &json!({}));
                if request.get("force").and_then(Value::as_bool) == Some(true) {
                    self.end_now(ending);
                }
                self.begin_ending(ending);
            }
            _ => self.server_refuse(conn, "unknown command"),
        }
    }

    /// Forgets a connection that went away.
    pub(super) fn forget(&mut self, conn: u64) {
        self.waiters.retain(|waiter| waiter.conn != conn);
    }

    /// A job ended: those who wait for it may have their answer.
    pub(super) fn job_ended(&mut self, id: u32, verdict: Verdict) {
        let mut done = Vec::new();
        for waiter in &mut self.waiters {
            let Some(index) = waiter.jobs.iter().position(|(job, _)| *job == id) else { continue };
            let (_, name) = waiter.jobs.remove(index);
            if !verdict.is_good() {
                let verdict = verdict.name();
                waiter.failures.push(format!(
                    "job for {name} failed ({verdict}); see 'systemctl status {name}' and 'journalctl -u {name}'"
                ));
            }
            if waiter.jobs.is_empty() {
                done.push((waiter.conn, waiter.failures.join("\n")));
            }
        }
        for (conn, failures) in done {
            self.forget(conn);
            if failures.is_empty() {
                self.answer(conn, &json!({}));
            } else {
                self.server_refuse(conn, &failures);
            }
        }
    }

    fn names(request: &Value) -> Result<Vec<String>, String> {
        let units = request.get("units").and_then(Value::as_array).ok_or("the request names no units")?;
        if units.is_empty() || units.len() > UNITS_LIMIT {
            return Err("the request names no units, or too many".to_owned());
        }
        let complete = |unit: &Value| {
            let text = unit.as_str().unwrap_or_default();
            Name::complete(text)
                .map(|name| name.full().to_owned())
                .map_err(|error| format!("{text}: {error}"))
        };
        units.iter().map(complete).collect()
    }

    fn job(&mut self, conn: u64, kind: Kind, request: &Value) {
        match Self::names(request) {
            Ok(names) => self.enqueue(conn, kind, &names, request),
            Err(why) => self.server_refuse(conn, &why),
        }
    }

    fn job_if_up(&mut self, conn: u64, request: &Value) {
        match Self::names(request) {
            Ok(mut names) => {
                names.retain(|name| self.slot(name).is_some_and(|slot| slot.active().is_up()));
                self.enqueue(conn, Kind::Restart, &names, request);
            }
            Err(why) => self.server_refuse(conn, &why),
        }
    }

    fn reload_or_restart(&mut self, conn: u64, request: &Value) {
        let names = match Self::names(request) {
            Ok(names) => names,
            Err(why) => return self.server_refuse(conn, &why),
        };
        let can = |slot: &Slot| {
            let reload = slot.unit.service.as_ref().is_some_and(|service| !service.exec_reload.is_empty());
            reload && slot.runtime.state == State::Running
        };
        let all = names.iter().all(|name| self.slot(name).is_some_and(can));
        self.enqueue(conn, if all { Kind::Reload } else { Kind::Restart }, &names, request);
    }

    fn enqueue(&mut self, conn: u64, kind: Kind, names: &[String], request: &Value) {
        let now = minke_sys::clock::boottime();
        let mut waiter = Waiter { conn, jobs: Vec::new(), failures: Vec::new() };
        for name in names {
            if let Err(why) = self.allowed(kind, name) {
                return self.server_refuse(conn, &why);
            }
            match self.manager.enqueue(&mut self.machine, kind, name, now) {
                Ok(Some(id)) => waiter.jobs.push((id, name.clone())),
                Ok(None) => {}
                Err(refusal) => return self.server_refuse(conn, &refusal.to_string()),
            }
        }
        let block = request.get("block").and_then(Value::as_bool).unwrap_or(true);
        // A job may have ended while it was accepted; its end is among the actions that are still to come.
        if block && !waiter.jobs.is_empty() {
            self.waiters.push(waiter);
        } else {
            self.answer(conn, &json!({}));
        }
    }

    fn allowed(&mut self, kind: Kind, name: &str) -> Result<(), String> {
        let name = crate::manager::World::resolve(&mut self.machine, name);
        let Ok(slot) = self.manager.load(&mut self.machine, &name) else { return Ok(()) };
        let refused = match kind {
            Kind::Start => slot.unit.refuse_manual_start,
            Kind::Stop => slot.unit.refuse_manual_stop,
            Kind::Restart | Kind::Reload => slot.unit.refuse_manual_start || slot.unit.refuse_manual_stop,
        };
        if refused { Err(crate::manager::Refusal::Manual(name).to_string()) } else { Ok(()) }
    }

    fn isolate(&mut self, conn: u64, request: &Value) {
        let names = match Self::names(request) {
            Ok(names) => names,
            Err(why) => return self.server_refuse(conn, &why),
        };
        let now = minke_sys::clock::boottime();
        for name in names {
            if let Err(refusal) = self.manager.isolate(&mut self.machine, &name, now) {
                return self.server_refuse(conn, &refusal.to_string());
            }
        }
        self.answer(conn, &json!({}));
    }

    fn kill(&mut self, conn: u64, request: &Value) {
        let signal = request.get("signal").and_then(Value::as_str).unwrap_or("TERM");
        let Some(signal) = signal_number(signal) else {
            return self.server_refuse(conn, "no such signal");
        };
        let names = match Self::names(request) {
            Ok(names) => names,
            Err(why) => return self.server_refuse(conn, &why),
        };
        for name in names {
            let name = crate::manager::World::resolve(&mut self.machine, &name);
            let main_only = request.get("whom").and_then(Value::as_str) == Some("main");
            let main = self.slot(&name).and_then(|slot| slot.runtime.main);
            let pids = match main {
                Some(pid) if main_only => vec![pid],
                _ => cgroup::processes(&super::launch::group_of(&name), true),
            };
            if pids.is_empty() {
                return self.server_refuse(conn, &format!("unit {name} has no process"));
            }
            for pid in pids {
                let _ = minke_sys::process::kill(pid, signal);
            }
        }
        self.answer(conn, &json!({}));
    }

    fn reset_failed(&mut self, conn: u64, request: &Value) {
        match Self::names(request) {
            Ok(names) => names.iter().for_each(|name| self.manager.reset_failed(Some(name))),
            Err(_) => self.manager.reset_failed(None),
        }
        self.answer(conn, &json!({}));
    }

    fn show(&mut self, conn: u64, request: &Value) {
        let names = match Self::names(request) {
            Ok(names) => names,
            Err(why) => return self.server_refuse(conn, &why),
        };
        let mut units = Vec::new();
        for asked in names {
            let name = crate::manager::World::resolve(&mut self.machine, &asked);
            match self.manager.load(&mut self.machine, &name) {
                Ok(slot) => units.push(properties(&name, slot)),
                Err(refusal) => {
                    let state = match refusal {
                        crate::manager::Refusal::Masked(_) => "masked",
                        crate::manager::Refusal::BadSetting(..) => "bad-setting",
                        _ => "not-found",
                    };
                    let unit = json!({
                        "Id": asked, "LoadState": state, "ActiveState": "inactive", "SubState": "dead",
                        "LoadError": refusal.to_string(),
                    });
                    units.push(unit);
                }
            }
        }
        self.answer(conn, &json!({ "units": units }));
    }

    fn list_units(&mut self, conn: u64) {
        let units: Vec<Value> = self
            .manager
            .units()
            .iter()
            .map(|(name, slot)| {
                json!({
                    "unit": name, "load": "loaded", "active": slot.active().name(), "sub": slot.sub_state(),
                    "description": slot.unit.description,
                })
            })
            .collect();
        self.answer(conn, &json!({ "units": units }));
    }

    fn list_jobs(&mut self, conn: u64) {
        let jobs: Vec<Value> = self
            .manager
            .jobs()
            .iter()
            .map(|(name, job)| {
                let state = if job.running { "running" } else { "waiting" };
                json!({ "job": job.id, "unit": name, "type": job.kind.name(), "state": state })
            })
            .collect();
        self.answer(conn, &json!({ "jobs": jobs }));
    }

    fn slot(&self, name: &str) -> Option<&Slot> {
        self.manager.units().get(name)
    }
}

/// A unit's properties, named as in systemctl(1) `show`.
fn properties(name: &str, slot: &Slot) -> Value {
    let (unit, runtime) = (&slot.unit, &slot.runtime);
    let relations = &unit.relations;
    let list = |names: &[String]| names.join(" ");
    let path = unit.path.as_ref().map(|path| path.display().to_string());
    let drop_ins: Vec<String> = unit.drop_ins.iter().map(|path| path.display().to_string()).collect();
    let (code, status) = match runtime.main_exit {
        Some(minke_sys::process::Exit::Code(code)) => ("exited", code),
        Some(minke_sys::process::Exit::Signal(signal)) => ("killed", signal),
        None => ("", 0),
    };
    let memory = match slot.active() {
        Phase::Inactive | Phase::Failed => None,
        _ => cgroup::get(&super::launch::group_of(name), "memory.current").ok(),
    };
    json!({
        "Id": name,
        "Description": unit.description,
        "LoadState": "loaded",
        "ActiveState": slot.active().name(),
        "SubState": slot.sub_state(),
        "FragmentPath": path.unwrap_or_default(),
        "DropInPaths": drop_ins.join(" "),
        "UnitFileState": if unit.installed { "enabled" } else { "static" },
        "MainPID": runtime.main.unwrap_or(0),
        "ControlPID": runtime.control.unwrap_or(0),
        "Result": runtime.outcome.name(),
        "ExecMainCode": code,
        "ExecMainStatus": status,
        "NRestarts": runtime.restarts,
        "StatusText": runtime.status,
        "ConditionResult": if slot.condition_failed { "no" } else { "yes" },
        "ActiveEnterTimestampMonotonic": u64::try_from(runtime.since.as_micros()).unwrap_or(0),
        "MemoryCurrent": memory.map(|text| text.trim().to_owned()).unwrap_or_default(),
        "ControlGroup": format!("/system.slice/{name}"),
        "Requires": list(&relations.requires),
        "Wants": list(&relations.wants),
        "BindsTo": list(&relations.binds_to),
        "PartOf": list(&relations.part_of),
        "Conflicts": list(&relations.conflicts),
        "After": list(&relations.after),
        "Before": list(&relations.before),
    })
}
