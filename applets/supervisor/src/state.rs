//! What must survive a power cut: the target, the commits that run, the keys (spec supervisor §8.3). One
//! record, written only when something changed.

use crate::target::{self, App, Preload};
use crate::values::{list, members, put, set, text, truthy};
use minke_store::{Condition, Record};
use minke_wire::json::{Map, Value, json};
use std::path::Path;

/// The file within the data folder.
const FILE: &str = "state.json";

/// The durable state.
#[derive(Debug)]
pub struct State {
    record: Record,
    document: Map,
}

/// Why the state could not be read or written.
pub type Error = minke_store::Error;

impl State {
    /// Opens the state in `folder`; with it comes what was wrong with it, for the log.
    pub fn open(folder: &Path) -> Result<(Self, Option<String>), Error> {
        minke_sys::file::make_folder(folder, 0o755)?;
        // It holds keys.
        let (record, document, condition) = Record::open(&folder.join(FILE), 0o600)?;
        let problem = condition.problem().map(str::to_owned);
        debug_assert!(document.is_some() || condition != Condition::Good);
        let document = match document {
            Some(Value::Object(map)) => map,
            _ => Map::new(),
        };
        Ok((Self { record, document }, problem))
    }

    /// Whether a target was ever stored (§4.1.2).
    pub fn has_target(&self) -> bool {
        self.document.get("targetStateSet").and_then(Value::as_bool).unwrap_or(false)
    }

    /// Stores what a preload file holds as the target, with the pin for the cloud.
    pub fn set_preload(&mut self, preload: &Preload, source: &str) -> Result<(), Error> {
        let mut config = self.config();
        config.extend(preload.config.clone());
        let mut apps = Vec::new();
        for (uuid, app) in &preload.apps {
            apps.push(json!({ "uuid": uuid, "source": source, "app": app }));
        }
        let mut fresh = self.document.clone();
        put(&mut fresh, "apps", Value::Array(apps));
        put(&mut fresh, "deviceConfig", Value::Object(config));
        put(&mut fresh, "targetStateSet", true.into());
        if let Some((app, commit)) = &preload.pin {
            put(&mut fresh, "pinDevice", json!({ "app": app, "commit": commit }));
        }
        self.replace(fresh)
    }

    /// The stored apps of this source (§7.9), each checked anew, by uuid.
    pub fn apps(&self, source: &str) -> Vec<(Value, Result<App, Vec<String>>)> {
        let mut apps = Vec::new();
        for entry in list(self.document.get("apps")) {
            if text(entry, "source") == source {
                let app = &entry["app"];
                apps.push((app.clone(), target::app(text(entry, "uuid"), app)));
            }
        }
        apps
    }

    /// The config variables of the target.
    pub fn config(&self) -> Map {
        members(self.document.get("deviceConfig")).clone()
    }

    /// Whether the target switches local mode on (§6.1).
    pub fn local_mode(&self) -> bool {
        let config = members(self.document.get("deviceConfig"));
        let value = config.get("BALENA_SUPERVISOR_LOCAL_MODE").filter(|value| value.is_string());
        let value = value.or_else(|| config.get("RESIN_SUPERVISOR_LOCAL_MODE"));
        value.and_then(Value::as_str).is_some_and(truthy)
    }

    /// Stores that this commit of the app runs now.
    pub fn set_commit(&mut self, app: i64, commit: &str) -> Result<(), Error> {
        if self.commit(app) == Some(commit) {
            return Ok(());
        }
        let mut commits = members(self.document.get("currentCommit")).clone();
        put(&mut commits, &app.to_string(), commit.into());
        self.set("currentCommit", Value::Object(commits))
    }

    /// The commit of the app that ran last as a whole.
    pub fn commit(&self, app: i64) -> Option<&str> {
        members(self.document.get("currentCommit")).get(&app.to_string())?.as_str()
    }

    /// The key of an owner (§1.3.4): app 0 without a service is the global one. It is made and stored when
    /// there is none.
    pub fn key(&mut self, app: i64, service: Option<&str>) -> Result<String, Error> {
        if let Some(key) = self.stored_key(app, service) {
            return Ok(key.to_owned());
        }
        let key = minke_config::generate_key()?;
        let mut scope = json!({ "type": if app == 0 { "global" } else { "app" } });
        if app != 0 {
            set(&mut scope, "appId", app.into());
        }
        let mut secrets = self.secrets().to_vec();
        secrets.push(json!({ "appId": app, "serviceName": service, "scopes": [scope], "key": key }));
        self.set("apiSecret", Value::Array(secrets))?;
        Ok(key)
    }

    /// The key of an owner if there is one.
    pub fn stored_key(&self, app: i64, service: Option<&str>) -> Option<&str> {
        let is_owner =
            |entry: &&Value| entry["appId"].as_i64() == Some(app) && entry["serviceName"].as_str() == service;
        self.secrets().iter().find(is_owner)?.get("key")?.as_str()
    }

    fn secrets(&self) -> &[Value] {
        list(self.document.get("apiSecret"))
    }

    /// All keys, each with the app that it is for; 0 is every app.
    pub fn keys(&self) -> Vec<(String, i64)> {
        let mut keys = Vec::new();
        for entry in self.secrets() {
            if let (Some(key), Some(app)) = (entry["key"].as_str(), entry["appId"].as_i64()) {
                keys.push((key.to_owned(), app));
            }
        }
        keys
    }

    fn set(&mut self, name: &str, value: Value) -> Result<(), Error> {
        let mut fresh = self.document.clone();
        put(&mut fresh, name, value);
        self.replace(fresh)
    }

    /// What could not be stored is not taken as true either.
    fn replace(&mut self, fresh: Map) -> Result<(), Error> {
        let document = Value::Object(fresh);
        self.record.write(&document)?;
        if let Value::Object(fresh) = document {
            self.document = fresh;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    fn folder(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("minke-supervisor-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        path
    }

    fn sample() -> Preload {
        let file = json!({ "config": { "BALENA_SUPERVISOR_LOCAL_MODE": "1" }, "pinDevice": true, "apps": { "u": {
            "id": 7, "name": "a", "releases": { "c": { "id": 1, "services": {} } } } } });
        crate::target::preload(file.to_string().as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn everything_is_there_after_a_restart() {
        let folder = folder("state");
        let (mut state, problem) = State::open(&folder).unwrap();
        assert_eq!((problem, state.has_target(), state.local_mode()), (None, false, false));
        state.set_preload(&sample(), "local").unwrap();
        state.set_commit(7, "c").unwrap();
        let keys = (state.key(0, None).unwrap(), state.key(7, Some("web")).unwrap());
        let (mut again, _) = State::open(&folder).unwrap();
        assert!(again.has_target() && again.local_mode());
        assert_eq!(again.apps("local")[0].1.as_ref().unwrap().id, 7);
        assert!(again.apps("https://other").is_empty());
        assert_eq!((again.commit(7), again.commit(8)), (Some("c"), None));
        assert_eq!((again.key(0, None).unwrap(), again.key(7, Some("web")).unwrap()), keys);
        assert_eq!(again.keys(), [(keys.0, 0), (keys.1, 7)]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_damaged_record_falls_back_to_the_one_before() {
        let folder = folder("damaged");
        let (mut state, _) = State::open(&folder).unwrap();
        state.set_preload(&sample(), "local").unwrap();
        state.set_commit(7, "c").unwrap();
        let path = folder.join(FILE);
        let content = std::fs::read(&path).unwrap();
        std::fs::write(&path, &content[..content.len() / 2]).unwrap();
        let (again, problem) = State::open(&folder).unwrap();
        assert!(problem.is_some() && again.has_target());
        assert_eq!(again.commit(7), None);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_did_not_change_is_not_written() {
        let folder = folder("unchanged");
        let (mut state, _) = State::open(&folder).unwrap();
        state.set_commit(7, "c").unwrap();
        state.key(0, None).unwrap();
        let time = |path: &Path| std::fs::metadata(path).unwrap().modified().unwrap();
        let before = time(&folder.join(FILE));
        std::thread::sleep(std::time::Duration::from_millis(20));
        state.set_commit(7, "c").unwrap();
        state.key(0, None).unwrap();
        assert_eq!(time(&folder.join(FILE)), before);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
