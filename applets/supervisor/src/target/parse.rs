//! From JSON to a checked app. Every problem is named, and they concern that app alone: one bad app must not
//! keep the device from running the others.

use super::{App, Pairs, Release, Service, normalise};
use crate::values::int;
use minke_wire::json::{Map, Value};

/// Longest name, uuid or reference (§0.5).
const MAX_TEXT: usize = 255;

/// Most problems that are listed of one app: a person reads them.
const MAX_PROBLEMS: usize = 10;

/// The problems found on the way down, each with its path.
struct Checker {
    problems: Vec<String>,
}

/// Reads the app `uuid` from its JSON form.
pub fn app(uuid: &str, value: &Value) -> Result<App, Vec<String>> {
    let mut checker = Checker { problems: Vec::new() };
    let found = checker.app(uuid, value);
    if checker.problems.is_empty() { Ok(found) } else { Err(checker.problems) }
}

impl Checker {
    fn problem(&mut self, path: &str, what: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(format!("{path}: {what}"));
        }
    }

    fn app(&mut self, uuid: &str, value: &Value) -> App {
        let path = format!("app {uuid}");
        if uuid.is_empty() || uuid.len() > MAX_TEXT {
            self.problem(&path, "the uuid must have 1 to 255 characters");
        }
        if let Some(class) = value.get("class")
            && !matches!(class.as_str(), Some("fleet" | "app" | "block"))
        {
            self.problem(&path, "class must be fleet, app or block");
        }
        let releases = self.map(&path, value, "releases");
        // At most one release is expected; the first is used.
        let release = releases.iter().next().map(|(commit, release)| self.release(&path, commit, release));
        App {
            uuid: uuid.to_owned(),
            id: self.number(&path, value, "id"),
            name: self.text(&path, value, "name"),
            is_host: value.get("is_host").and_then(Value::as_bool).unwrap_or(false),
            release,
        }
    }

    fn release(&mut self, path: &str, commit: &str, value: &Value) -> Release {
        let path = format!("{path}, release {commit}");
        if commit.is_empty() || commit.len() > MAX_TEXT {
            self.problem(&path, "the commit must have 1 to 255 characters");
        }
        let services = self.map(&path, value, "services");
        Release {
            commit: commit.to_owned(),
            id: self.number(&path, value, "id"),
            services: services.iter().map(|(name, service)| self.service(&path, name, service)).collect(),
            volumes: self.named(&path, value, "volumes"),
            networks: self.named(&path, value, "networks"),
        }
    }

    fn service(&mut self, path: &str, name: &str, value: &Value) -> Service {
        let path = format!("{path}, service {name}");
        if !is_docker_name(name) {
            self.problem(&path, "the name may have letters, digits and _ . -");
        }
        let image = self.text(&path, value, "image");
        let normal = normalise(&image);
        if normal.is_none() {
            self.problem(&path, "image must be [registry/]name[:tag][@digest]");
        }
        Service {
            name: name.to_owned(),
            id: self.number(&path, value, "id"),
            image_id: self.number(&path, value, "image_id"),
            image: normal.unwrap_or_default(),
            environment: self.strings(&path, value, "environment", is_variable),
            labels: self.strings(&path, value, "labels", is_label),
            running: self.flag(&path, value, "running", true),
            composition: self.map(&path, value, "composition"),
        }
    }

    fn number(&mut self, path: &str, value: &Value, key: &str) -> i64 {
        let number = value.get(key).and_then(int);
        if number.is_none() {
            self.problem(path, &format!("{key} must be a whole number"));
        }
        number.unwrap_or(0)
    }

    fn text(&mut self, path: &str, value: &Value, key: &str) -> String {
        match value.get(key).and_then(Value::as_str) {
            Some(text) if text.len() <= MAX_TEXT => text.to_owned(),
            _ => {
                self.problem(path, &format!("{key} must be a text of at most 255 characters"));
                String::new()
            }
        }
    }

    fn flag(&mut self, path: &str, value: &Value, key: &str, default: bool) -> bool {
        match value.get(key) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.problem(path, &format!("{key} must be true or false"));
                default
            }
        }
    }

    fn map(&mut self, path: &str, value: &Value, key: &str) -> Map {
        match value.get(key) {
            Some(Value::Object(map)) => map.clone(),
            None => Map::new(),
            Some(_) => {
                self.problem(path, &format!("{key} must be an object"));
                Map::new()
            }
        }
    }

    /// A map whose keys are engine names; `null` stands for an empty object.
    fn named(&mut self, path: &str, value: &Value, key: &str) -> Map {
        let mut map = self.map(path, value, key);
        for (name, item) in &mut map {
            if !is_docker_name(name) || !(item.is_object() || item.is_null()) {
                self.problem(path, &format!("{key}: '{name}' must be a proper name of an object"));
            }
            if item.is_null() {
                *item = Value::Object(Map::new());
            }
        }
        map
    }

    fn strings(&mut self, path: &str, value: &Value, key: &str, is_key: fn(&str) -> bool) -> Pairs {
        if value.get(key).is_none() {
            self.problem(path, &format!("{key} is missing"));
        }
        let mut pairs = Pairs::new();
        for (name, item) in &self.map(path, value, key) {
            match item.as_str() {
                Some(text) if is_key(name) && name.len() <= MAX_TEXT => {
                    pairs.push((name.clone(), text.to_owned()));
                }
                _ => self.problem(path, &format!("{key}: '{name}' must be a proper name with a text")),
            }
        }
        pairs
    }
}

/// Names of services, volumes and networks (§0.5).
fn is_docker_name(name: &str) -> bool {
    name.len() <= MAX_TEXT
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|character| character.is_ascii_alphanumeric() || "_.-".contains(character))
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

fn is_label(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|character| character.is_ascii_graphic() && !"\"'`".contains(character))
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    fn sample() -> Value {
        json!({ "id": "12", "name": "fleet", "class": "fleet", "releases": { "c0ffee": {
            "id": 34, "services": { "web": {
                "id": 5, "image_id": 6, "image": "demo", "environment": { "A": "b" }, "labels": {},
                "running": true, "composition": { "restart": "always" }, "unknown": [] } },
            "volumes": { "data": {} }, "networks": { "default": null } } }, "extra": 1 })
    }

    fn problems(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let mut value = sample();
        change(&mut value);
        app("u", &value).expect_err("must be refused")
    }

    #[test]
    fn a_full_app_is_read() {
        let app = app("u", &sample()).unwrap();
        let release = app.release.unwrap();
        assert_eq!((app.id, &*release.commit, release.id), (12, "c0ffee", 34));
        let service = &release.services[0];
        assert_eq!((&*service.image, service.running, service.image_id), ("demo:latest", true, 6));
        assert_eq!(release.networks["default"], json!({}));
    }

    #[test]
    fn each_violation_is_named_with_its_place() {
        let service = "/releases/c0ffee/services/web";
        for (pointer, value, wanted) in [
            ("/id", json!("x"), "app u: id"),
            ("/name", json!(null), "app u: name"),
            ("/class", json!("device"), "app u: class"),
            ("/releases", json!([]), "app u: releases"),
            ("/releases/c0ffee/volumes", json!({ "a/b": {} }), "volumes: 'a/b'"),
            (&format!("{service}/image"), json!("a b"), "service web: image"),
            (&format!("{service}/environment"), json!({ "1A": "x" }), "environment: '1A'"),
            (&format!("{service}/environment"), json!({ "A": 1 }), "environment: 'A'"),
            (&format!("{service}/labels"), json!({ "a b": "x" }), "labels: 'a b'"),
            (&format!("{service}/running"), json!("yes"), "running"),
            (&format!("{service}/composition"), json!(1), "composition"),
        ] {
            let found = problems(|app| *app.pointer_mut(pointer).unwrap() = value.clone());
            assert!(found.iter().any(|line| line.contains(wanted)), "{pointer}: {found:?}");
        }
    }

    #[test]
    fn mutated_documents_never_panic() {
        let seed = sample().to_string().into_bytes();
        let mut random = 7u64;
        let mut next = |bound: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(random >> 33).unwrap() % bound
        };
        let mut parsed = 0;
        for _ in 0..50_000 {
            let mut bytes = seed.clone();
            for _ in 0..=next(2) {
                let (at, from) = (next(bytes.len()), next(bytes.len()));
                bytes[at] = bytes[from];
            }
            if let Ok(value) = minke_wire::json::parse(&bytes) {
                parsed += 1;
                let _ = app("u", &value);
            }
        }
        assert!(parsed > 1000, "{parsed}");
    }
}
