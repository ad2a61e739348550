//! Requests over the control socket.

use super::Init;
use crate::manager::state::State;
use crate::manager::{Answer, Kind, Refusal, Verdict, World};
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

/// What a request gets: an answer now, or (`None`) when its jobs have ended; the error is a refusal.
type Reply = Result<Option<Value>, String>;

impl Init {
    /// Answers a request, at once or when its jobs have ended.
    pub(super) fn request(&mut self, conn: u64, request: &Value, uid: u32) {
        match self.reply(conn, request, uid) {
            Ok(Some(answer)) => self.answer(conn, &answer),
            Ok(None) => {}
            Err(why) => self.refuse(conn, &why),
        }
    }

    fn reply(&mut self, conn: u64, request: &Value, uid: u32) -> Reply {
        let command = text(request, "command").unwrap_or_default();
        let changes = !matches!(command, "show" | "list-units" | "list-jobs" | "list-timers" | "list-paths");
        if changes && uid != 0 {
            return Err("only root may do that".to_owned());
        }
        let ending = match command {
            "list-units" => return Ok(Some(self.list_units())),
            "list-jobs" => return Ok(Some(self.list_jobs())),
            "list-timers" => return Ok(Some(self.list_timers())),
            "list-paths" => return Ok(Some(self.list_paths())),
            "daemon-reload" => {
                self.reload_units();
                return Ok(Some(json!({})));
            }
            "reset-failed" => {
                match names(request) {
                    Ok(names) => names.iter().for_each(|name| self.manager.reset_failed(Some(name))),
                    Err(_) => self.manager.reset_failed(None),
                }
                return Ok(Some(json!({})));
            }
            "reboot" => Ending::Reboot,
            "poweroff" => Ending::PowerOff,
            "halt" => Ending::Halt,
            _ => return self.about_units(conn, command, request),
        };
        self.answer(conn, &json!({}));
        if request.get("force").and_then(Value::as_bool) == Some(true) {
            super::ending::finish(super::kernel_ending(ending));
        }
        self.begin_ending(ending);
        Ok(None)
    }

    /// The commands that name units.
    fn about_units(&mut self, conn: u64, command: &str, request: &Value) -> Reply {
        let kind = match command {
            "start" => Kind::Start,
            "stop" => Kind::Stop,
            "restart" | "try-restart" => Kind::Restart,
            "reload" | "reload-or-restart" => Kind::Reload,
            "isolate" => return self.isolate(&names(request)?),
            "kill" => return self.kill(request),
            "show" => return self.show(names(request)?),
            _ => return Err("unknown command".to_owned()),
        };
        let mut names = names(request)?;
        if command == "try-restart" {
            names.retain(|name| self.manager.is_up_or_coming(name));
        }
        let restart = command == "reload-or-restart" && !names.iter().all(|name| self.can_reload(name));
        self.enqueue(conn, if restart { Kind::Restart } else { kind }, names, request)
    }

    fn can_reload(&self, name: &str) -> bool {
        let Some(slot) = self.manager.units().get(name) else { return false };
        let service = slot.unit.service.as_ref();
        slot.runtime.state == State::Running && service.is_some_and(|service| !service.exec_reload.is_empty())
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
                self.refuse(conn, &failures);
            }
        }
    }

    fn enqueue(&mut self, conn: u64, kind: Kind, names: Vec<String>, request: &Value) -> Reply {
        let now = minke_sys::clock::boottime();
        let mut waiter = Waiter { conn, jobs: Vec::new(), failures: Vec::new() };
        for name in names {
            let accepted = self
                .check_allowed(kind, &name)
                .and_then(|()| self.manager.enqueue(&mut self.machine, kind, &name, now));
            // Two names of one unit are one job.
            if let Some(id) = accepted.map_err(|refusal| refusal.to_string())?
                && !waiter.jobs.iter().any(|(job, _)| *job == id)
            {
                waiter.jobs.push((id, name));
            }
        }
        // A job may have ended while it was accepted; its end is among the actions that are still to come.
        if waiter.jobs.is_empty() || request.get("block").and_then(Value::as_bool) == Some(false) {
            return Ok(Some(json!({})));
        }
        self.waiters.push(waiter);
        Ok(None)
    }

    fn check_allowed(&mut self, kind: Kind, name: &str) -> Answer<()> {
        let name = self.machine.resolve(name);
        let Ok(slot) = self.manager.load(&mut self.machine, &name) else { return Ok(()) };
        let refused = (kind != Kind::Stop && slot.unit.refuse_manual_start)
            || (kind != Kind::Start && slot.unit.refuse_manual_stop);
        if refused { Err(Refusal::Manual(name).into()) } else { Ok(()) }
    }

    fn isolate(&mut self, names: &[String]) -> Reply {
        let now = minke_sys::clock::boottime();
        for name in names {
            self.manager.isolate(&mut self.machine, name, now).map_err(|refusal| refusal.to_string())?;
        }
        Ok(Some(json!({})))
    }

    fn kill(&mut self, request: &Value) -> Reply {
        let signal = text(request, "signal").unwrap_or("TERM");
        let signal = signal_number(signal).ok_or("no such signal")?;
        let main_only = text(request, "whom") == Some("main");
        for name in names(request)? {
            let name = self.machine.resolve(&name);
            let main = self.manager.units().get(&name).and_then(|slot| slot.runtime.main);
            let pids = match main {
                Some(pid) if main_only => vec![pid],
                _ => cgroup::processes(&super::launch::group_of(&name), true),
            };
            if pids.is_empty() {
                return Err(format!("unit {name} has no process"));
            }
            for pid in pids {
                let _ = minke_sys::process::kill(pid, signal);
            }
        }
        Ok(Some(json!({})))
    }

    fn show(&mut self, names: Vec<String>) -> Reply {
        let mut units = Vec::new();
        for asked in names {
            let name = self.machine.resolve(&asked);
            units.push(match self.manager.load(&mut self.machine, &name) {
                Ok(_) => self.properties(&name),
                Err(refusal) => {
                    let state = match &*refusal {
                        Refusal::Masked(_) => "masked",
                        Refusal::BadSetting(..) => "bad-setting",
                        _ => "not-found",
                    };
                    json!({
                        "Id": asked, "LoadState": state, "ActiveState": "inactive", "SubState": "dead",
                        "LoadError": refusal.to_string(),
                    })
                }
            });
        }
        Ok(Some(json!({ "units": units })))
    }

    fn list_units(&self) -> Value {
        let mut units = Vec::new();
        for (name, slot) in self.manager.units().iter() {
            units.push(json!({
                "unit": name, "load": "loaded", "active": slot.active().name(), "sub": self.manager.sub_state(slot),
                "description": slot.unit.description,
            }));
        }
        json!({ "units": units })
    }

    fn list_jobs(&self) -> Value {
        let mut jobs = Vec::new();
        for (name, job) in self.manager.jobs().iter() {
            let state = if job.running { "running" } else { "waiting" };
            jobs.push(json!({ "job": job.id, "unit": name, "type": job.kind.name(), "state": state }));
        }
        json!({ "jobs": jobs })
    }
}

fn text<'a>(request: &'a Value, name: &str) -> Option<&'a str> {
    request.get(name).and_then(Value::as_str)
}

/// The units that a request names.
fn names(request: &Value) -> Result<Vec<String>, String> {
    let units = request.get("units").and_then(Value::as_array).ok_or("the request names no units")?;
    if units.is_empty() || units.len() > UNITS_LIMIT {
        return Err("the request names no units, or too many".to_owned());
    }
    let mut names = Vec::new();
    for unit in units {
        let text = unit.as_str().unwrap_or_default();
        let name = Name::complete(text).map_err(|error| format!("{text}: {error}"))?;
        names.push(name.full().to_owned());
    }
    Ok(names)
}
