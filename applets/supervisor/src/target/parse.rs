//! From JSON to a checked app. Every problem is named, and they concern that app alone: one bad app must not
//! keep the device from running the others.

use super::{App, Pairs, Release, Service, normalise};
use crate::values;
use minke_wire::json::{Map, Value};
use std::fmt;

/// Longest name, uuid or reference (§0.5).
const MAX_TEXT: usize = 255;

/// Most problems that are listed of one app: a person reads them.
const MAX_PROBLEMS: usize = 10;

/// The problems found on the way down.
struct Checker {
    /// Where it stands.
    path: String,
    /// Each with its path.
    problems: Vec<String>,
}

/// Reads the app `uuid` from its JSON form.
pub fn app(uuid: &str, value: &Value) -> Result<App, Vec<String>> {
    let mut checker = Checker { path: format!("app {uuid}"), problems: Vec::new() };
    let found = checker.app(uuid, value);
    if checker.problems.is_empty() { Ok(found) } else { Err(checker.problems) }
}

impl Checker {
    #[inline(never)]
    fn problem(&mut self, what: fmt::Arguments<'_>) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(format!("{}: {what}", self.path));
        }
    }

    /// Goes one step down, and returns the way back.
    fn enter(&mut self, what: &str, name: &str) -> String {
        let inner = format!("{}, {what} {name}", self.path);
        std::mem::replace(&mut self.path, inner)
    }

    fn app(&mut self, uuid: &str, value: &Value) -> App {
        self.length("uuid", uuid);
        if let Some(class) = value.get("class")
            && !matches!(class.as_str(), Some("fleet" | "app" | "block"))
        {
            self.problem(format_args!("class must be fleet, app or block"));
        }
        let releases = self.map(value, "releases");
        // At most one release is expected; the first is used.
        let release = releases.iter().next().map(|(commit, release)| self.release(commit, release));
        App {
            uuid: uuid.to_owned(),
            id: self.number(value, "id"),
            name: self.text(value, "name"),
            is_host: values::flag(value, "is_host"),
            release,
        }
    }

    fn release(&mut self, commit: &str, value: &Value) -> Release {
        let outer = self.enter("release", commit);
        self.length("commit", commit);
        let all = self.map(value, "services");
        let id = self.number(value, "id");
        let mut services = Vec::new();
        for (name, service) in &all {
            services.push(self.service(name, service));
        }
        let (volumes, networks) = (self.named(value, "volumes"), self.named(value, "networks"));
        self.path = outer;
        Release { commit: commit.to_owned(), id, services, volumes, networks }
    }

    fn service(&mut self, name: &str, value: &Value) -> Service {
        let outer = self.enter("service", name);
        if !is_docker_name(name) {
            self.problem(format_args!("the name may have letters, digits and _ . -"));
        }
        let image = normalise(&self.text(value, "image"));
        if image.is_none() {
            self.problem(format_args!("image must be [registry/]name[:tag][@digest]"));
        }
        let service = Service {
            name: name.to_owned(),
            id: self.number(value, "id"),
            image_id: self.number(value, "image_id"),
            image: image.unwrap_or_default(),
            environment: self.strings(value, "environment", is_variable),
            labels: self.strings(value, "labels", is_label),
            running: self.flag(value, "running", true),
            composition: self.map(value, "composition"),
        };
        self.path = outer;
        service
    }

    fn length(&mut self, what: &str, text: &str) {
        if text.is_empty() || text.len() > MAX_TEXT {
            self.problem(format_args!("the {what} must have 1 to 255 characters"));
        }
    }

    fn number(&mut self, value: &Value, key: &str) -> i64 {
        let number = value.get(key).and_then(values::int);
        if number.is_none() {
            self.problem(format_args!("{key} must be a whole number"));
        }
        number.unwrap_or(0)
    }

    fn text(&mut self, value: &Value, key: &str) -> String {
        match value.get(key).and_then(Value::as_str) {
            Some(text) if text.len() <= MAX_TEXT => text.to_owned(),
            _ => {
                self.problem(format_args!("{key} must be a text of at most 255 characters"));
                String::new()
            }
        }
    }

    fn flag(&mut self, value: &Value, key: &str, default: bool) -> bool {
        let flag = value.get(key).map(Value::as_bool);
        if flag == Some(None) {
            self.problem(format_args!("{key} must be true or false"));
        }
        flag.flatten().unwrap_or(default)
    }

    fn map(&mut self, value: &Value, key: &str) -> Map {
        let value = value.get(key);
        if value.is_some_and(|value| !value.is_object()) {
            self.problem(format_args!("{key} must be an object"));
        }
        values::members(value).clone()
    }

    /// A map whose keys are engine names; `null` stands for an empty object.
    fn named(&mut self, value: &Value, key: &str) -> Map {
        let mut map = self.map(value, key);
        for (name, item) in &mut map {
            if !is_docker_name(name) || !(item.is_object() || item.is_null()) {
                self.problem(format_args!("{key}: '{name}' must be a proper name of an object"));
            }
            if item.is_null() {
                *item = Value::Object(Map::new());
            }
        }
        map
    }

    fn strings(&mut self, value: &Value, key: &str, is_key: fn(&str) -> bool) -> Pairs {
        if value.get(key).is_none() {
            self.problem(format_args!("{key} is missing"));
        }
        let mut pairs = Pairs::new();
        for (name, item) in &self.map(value, key) {
            match item.as_str() {
                Some(text) if is_key(name) && name.len() <= MAX_TEXT => {
                    pairs.push((name.clone(), text.to_owned()));
                }
                _ => self.problem(format_args!("{key}: '{name}' must be a proper name with a text")),
            }
        }
        pairs
    }
}

/// Names of services, volumes and networks (§0.5).
fn is_docker_name(name: &str) -> bool {
    name.len() <= MAX_TEXT && values::is_name(name)
}

fn is_variable(name: &str) -> bool {
    values::is_made_of(name, "_") && !name.starts_with(|first: char| first.is_ascii_digit())
}

fn is_label(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"'`".contains(&byte))
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
