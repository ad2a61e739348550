//! What must survive a power cut: the target, the commits that run, the keys (spec supervisor §8.3). One
//! record, written only when something changed.

use crate::target::{self, App, Preload};
use crate::values::{object, put, truthy};
use minke_store::{Condition, Record};
use minke_wire::json::{Map, Value};
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
        let apps = preload.apps.iter().map(|(uuid, app)| {
            object(vec![("uuid", uuid.as_str().into()), ("source", source.into()), ("app", app.clone())])
        });
        let mut fresh = self.document.clone();
        put(&mut fresh, "apps", apps.collect());
        put(&mut fresh, "deviceConfig", Value::Object(config));
        put(&mut fresh, "targetStateSet", true.into());
        if let Some((app, commit)) = &preload.pin {
            put(
                &mut fresh,
                "pinDevice",
                object(vec![("app", app.as_str().into()), ("commit", commit.as_str().into())]),
            );
        }
        self.replace(fresh)
    }

    /// The stored apps of this source (§7.9), each checked anew, by uuid.
    pub fn apps(&self, source: &str) -> Vec<(Value, Result<App, Vec<String>>)> {
        let list = self.document.get("apps").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let is_ours = |entry: &&Value| entry.get("source").and_then(Value::as_str) == Some(source);
        let read = |entry: &Value| {
            let uuid = entry.get("uuid").and_then(Value::as_str).unwrap_or_default();
            let app = entry.get("app").cloned().unwrap_or_default();
            let checked = target::app(uuid, &app);
            (app, checked)
        };
        list.iter().filter(is_ours).map(read).collect()
    }

    /// The config variables of the target.
    pub fn config(&self) -> Map {
        self.document.get("deviceConfig").and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// Whether the target switches local mode on (§6.1).
    pub fn local_mode(&self) -> bool {
        let config = self.config();
        let value =
            |prefix: &str| config.get(&format!("{prefix}_SUPERVISOR_LOCAL_MODE")).and_then(Value::as_str);
        value("BALENA").or_else(|| value("RESIN")).is_some_and(truthy)
    }

    /// Stores that this commit of the app runs now.
    pub fn set_commit(&mut self, app: i64, commit: &str) -> Result<(), Error> {
        let key = app.to_string();
        let mut commits = self.commits();
        if commits.get(&key).and_then(Value::as_str) == Some(commit) {
            return Ok(());
        }
        commits.insert(key, commit.into());
        self.set("currentCommit", Value::Object(commits))
    }

    /// The commit of the app that ran last as a whole.
    pub fn commit(&self, app: i64) -> Option<String> {
        self.commits().get(&app.to_string()).and_then(Value::as_str).map(str::to_owned)
    }

    fn commits(&self) -> Map {
        self.document.get("currentCommit").and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// The key of an owner (§1.3.4): app 0 without a service is the global one. It is made and stored when
    /// there is none.
    pub fn key(&mut self, app: i64, service: Option<&str>) -> Result<String, Error> {
        let is_owner = |entry: &&Value| {
            entry.get("appId").and_then(Value::as_i64) == Some(app)
                && entry.get("serviceName").and_then(Value::as_str) == service
        };
        if let Some(key) = self.secrets().iter().find(is_owner).and_then(|entry| entry.get("key")?.as_str()) {
            return Ok(key.to_owned());
        }
        let key = minke_config::generate_key()?;
        let scope = match app {
            0 => object(vec![("type", "global".into())]),
            _ => object(vec![("type", "app".into()), ("appId", app.into())]),
        };
        let entry = object(vec![
            ("appId", app.into()),
            ("serviceName", service.map_or(Value::Null, Value::from)),
            ("scopes", Value::Array(vec![scope])),
            ("key", key.as_str().into()),
        ]);
        let mut secrets = self.secrets().to_vec();
        secrets.push(entry);
        self.set("apiSecret", Value::Array(secrets))?;
        Ok(key)
    }

    fn secrets(&self) -> &[Value] {
        self.document.get("apiSecret").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// All keys, each with the app that it is for; 0 is every app.
    pub fn keys(&self) -> Vec<(String, i64)> {
        let pair = |entry: &Value| {
            Some((entry.get("key")?.as_str()?.to_owned(), entry.get("appId").and_then(Value::as_i64)?))
        };
        self.secrets().iter().filter_map(pair).collect()
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
        assert_eq!((again.commit(7), again.commit(8)), (Some("c".into()), None));
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
