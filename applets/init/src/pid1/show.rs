//! What PID 1 tells of units: properties, timers, paths.

use super::Init;
use crate::manager::Armed;
use crate::manager::runtime::earlier;
use crate::unit::LOOKS;
use minke_sys::cgroup;
use minke_sys::clock::{self, microseconds};
use minke_wire::json::{Value, json};
use std::time::Duration;

impl Init {
    /// A loaded unit's properties, named as in systemctl(1) `show`.
    pub(super) fn properties(&self, name: &str) -> Value {
        let Some(slot) = self.manager.units().get(name) else { return Value::Null };
        let (unit, runtime) = (&slot.unit, &slot.runtime);
        let relations = &unit.relations;
        let path = unit.path.as_ref().map(|path| path.to_string_lossy()).unwrap_or_default();
        let mut drop_ins = Vec::new();
        for path in &unit.drop_ins {
            drop_ins.push(path.to_string_lossy().into_owned());
        }
        let (code, status) = match runtime.main_exit {
            Some(minke_sys::process::Exit::Code(code)) => ("exited", code),
            Some(minke_sys::process::Exit::Signal(signal)) => ("killed", signal),
            None => ("", 0),
        };
        let mut memory = String::new();
        if !slot.active().is_down() {
            memory = cgroup::get(&super::launch::group_of(name), "memory.current").unwrap_or_default();
        }
        let mut properties = json!({
            "Id": name,
            "Description": unit.description,
            "LoadState": "loaded",
            "ActiveState": slot.active().name(),
            "SubState": self.manager.sub_state(slot),
            "FragmentPath": path,
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
            "InactiveExitTimestampMonotonic": microseconds(slot.went_up.unwrap_or_default()),
            "ActiveEnterTimestampMonotonic": microseconds(runtime.since),
            "MemoryCurrent": memory.trim(),
            "ControlGroup": format!("/system.slice/{name}"),
        });
        if let Value::Object(members) = &mut properties {
            for (name, list) in [
                ("Requires", &relations.requires),
                ("Wants", &relations.wants),
                ("BindsTo", &relations.binds_to),
                ("PartOf", &relations.part_of),
                ("Conflicts", &relations.conflicts),
                ("After", &relations.after),
                ("Before", &relations.before),
            ] {
                members.insert(name.to_owned(), list.join(" ").into());
            }
            let (required, wanted) = self.pulled_in_by(name);
            members.insert("RequiredBy".to_owned(), required.join(" ").into());
            members.insert("WantedBy".to_owned(), wanted.join(" ").into());
            members.insert("TriggeredBy".to_owned(), self.manager.starters(name).join(" ").into());
            if let Some(trigger) = &unit.trigger {
                members.insert("Triggers".to_owned(), trigger.unit.as_str().into());
            }
            if let Some((next, last)) = slot.armed.as_deref().map(moments) {
                members.insert("NextElapseUSecRealtime".to_owned(), date(next).into());
                members.insert("LastTriggerUSec".to_owned(), date(last).into());
            }
        }
        properties
    }

    /// The loaded units that require a unit, and those that want it.
    fn pulled_in_by(&self, name: &str) -> (Vec<&str>, Vec<&str>) {
        let (mut required, mut wanted) = (Vec::new(), Vec::new());
        let has = |list: &[String]| list.iter().any(|entry| entry == name);
        for (other, slot) in self.manager.units().iter() {
            let relations = &slot.unit.relations;
            if has(&relations.requires) || has(&relations.binds_to) {
                required.push(other.as_str());
            } else if has(&relations.wants) {
                wanted.push(other.as_str());
            }
        }
        (required, wanted)
    }

    /// The timers that are up, as systemctl(1) `list-timers` has them: microseconds since 1970, or from now.
    pub(super) fn list_timers(&self) -> Value {
        let now = clock::realtime();
        let mut timers = Vec::new();
        for (name, slot) in self.manager.units().iter() {
            let (Some(armed), Some(trigger)) = (&slot.armed, &slot.unit.trigger) else { continue };
            if !trigger.paths.is_empty() || trigger.place.is_some() {
                continue;
            }
            let (next, last) = moments(armed);
            let left = next.map(|next| microseconds(next.saturating_sub(now)));
            let passed = last.map(|last| microseconds(now.saturating_sub(last)));
            timers.push(json!({
                "next": next.map(microseconds), "left": left, "last": last.map(microseconds), "passed": passed,
                "unit": name, "activates": trigger.unit,
            }));
        }
        json!({ "timers": timers })
    }

    /// What the path units that are up watch, as systemctl(1) `list-paths` has it.
    pub(super) fn list_paths(&self) -> Value {
        let mut paths = Vec::new();
        for (name, slot) in self.manager.units().iter() {
            let Some(trigger) = slot.unit.trigger.as_ref().filter(|_| slot.armed.is_some()) else { continue };
            for (look, path) in &trigger.paths {
                let condition = LOOKS.iter().find(|(_, known)| known == look).map_or("", |(word, _)| word);
                paths.push(json!({
                    "path": path, "condition": condition, "unit": name, "activates": trigger.unit,
                }));
            }
        }
        json!({ "paths": paths })
    }
}

/// A timer's next and last moments, since 1970.
fn moments(armed: &Armed) -> (Option<Duration>, Option<Duration>) {
    let (now, real) = (clock::boottime(), clock::realtime());
    let next = armed.next.map(|next| real.saturating_add(next.saturating_sub(now)));
    (earlier(next, armed.next_calendar), armed.last.map(|(_, last)| last))
}

/// A moment as text; empty when there is none.
fn date(moment: Option<Duration>) -> String {
    moment.map_or_else(String::new, |moment| crate::date(i64::try_from(moment.as_secs()).unwrap_or(i64::MAX)))
}
