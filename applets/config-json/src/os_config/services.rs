//! The table `/etc/os-config.json` and the cloud's answer (spec os §4.6.1, §4.6.3): which files a service has, what is in
//! them, which units use them.

use minke_sys::{Result, file};
use minke_wire::json::{Map, Value};
use std::path::{Path, PathBuf};

/// The only form that is known, of the table and of the answer.
const SCHEMA: &str = "1.0.0";
/// Most bytes of the table, and of a service's file.
pub(crate) const LIMIT: usize = 1 << 20;

/// A file of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceFile {
    /// Its name in the cloud's answer.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
}

/// A service that the cloud configures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) id: String,
    /// By name.
    pub(crate) files: Vec<ServiceFile>,
    pub(crate) units: Vec<String>,
}

/// The table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) services: Vec<Service>,
    /// The keys of `config.json` that the cloud decides about.
    pub(crate) keys: Vec<String>,
}

fn strings(value: Option<&Value>) -> Option<Vec<String>> {
    let mut found = Vec::new();
    for item in value?.as_array()? {
        found.push(item.as_str()?.to_owned());
    }
    Some(found)
}

fn object<'a>(value: &'a Value, key: &str) -> Option<&'a Map> {
    match value.get(key)? {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

impl Table {
    /// Reads the table's text.
    pub(crate) fn parse(text: &[u8]) -> std::result::Result<Self, String> {
        let document = minke_wire::json::parse(text).map_err(|error| format!("is not JSON: {error}"))?;
        check_schema(&document)?;
        let read = || {
            let mut services = Vec::new();
            for service in document.get("services")?.as_array()? {
                services.push(Service::read(service)?);
            }
            Some(Self { services, keys: strings(document.get("keys"))? })
        };
        read().ok_or_else(|| "is not a table of services and keys".to_owned())
    }
}

impl Service {
    fn read(value: &Value) -> Option<Self> {
        let mut files = Vec::new();
        for (name, file) in object(value, "files")?.iter() {
            let path = PathBuf::from(file.get("path")?.as_str()?);
            let mode = match file.get("perm").and_then(Value::as_str).unwrap_or_default() {
                "" => 0o644,
                digits => minke_wire::text::in_base::<u32>(digits, 8).filter(|mode| *mode <= 0o777)?,
            };
            files.push(ServiceFile { name: name.clone(), path, mode });
        }
        files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let id = value.get("id")?.as_str()?.to_owned();
        Some(Self { id, files, units: strings(value.get("systemd_services"))? })
    }
}

fn check_schema(document: &Value) -> std::result::Result<(), String> {
    match document.get("schema_version").and_then(Value::as_str) {
        Some(SCHEMA) => Ok(()),
        Some(other) => {
            Err(format!("has schema_version {}, and only {SCHEMA} is known", minke_wire::text::shown(other)))
        }
        None => Err("has no schema_version".to_owned()),
    }
}

/// The content of every file of every service, in the table's order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Contents(Vec<Vec<String>>);

impl Contents {
    /// Reads the cloud's answer; the error completes a sentence about it.
    pub(crate) fn parse(answer: &[u8], table: &Table) -> std::result::Result<Self, String> {
        let document = minke_wire::json::parse(answer).map_err(|error| format!("is not JSON: {error}"))?;
        check_schema(&document)?;
        let mut contents = Vec::new();
        for service in &table.services {
            let mut files = Vec::new();
            for file in &service.files {
                let text = document
                    .get("services")
                    .and_then(|all| all.get(&service.id))
                    .and_then(|all| all.get(&file.name));
                match text.and_then(Value::as_str) {
                    Some(text) => files.push(text.to_owned()),
                    None => return Err(format!("has no text {} of the service {}", file.name, service.id)),
                }
            }
            contents.push(files);
        }
        Ok(Self(contents))
    }

    /// Each service with its files and their contents.
    pub(crate) fn of<'a>(&'a self, table: &'a Table) -> impl Iterator<Item = (&'a Service, &'a [String])> {
        table.services.iter().zip(self.0.iter().map(Vec::as_slice))
    }

    /// Whether every file below `root` has its content already.
    pub(crate) fn are_there(&self, table: &Table, root: &Path) -> bool {
        self.of(table).all(|(service, texts)| {
            service.files.iter().zip(texts).all(|(place, text)| {
                let there = file::read_optional(&below(root, &place.path), LIMIT).ok().flatten();
                there.as_deref() == Some(text.as_bytes())
            })
        })
    }
}

/// A path of the system below another root.
pub(crate) fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

impl ServiceFile {
    /// Replaces the file durably.
    ///
    /// Power cut: the file has the old or the new content; the next `update` compares all of them again.
    pub(crate) fn write(&self, root: &Path, text: &str) -> Result<()> {
        let path = below(root, &self.path);
        if let Some(folder) = path.parent() {
            file::make_folder(folder, 0o755)?;
        }
        file::write_durable(&path, text.as_bytes(), self.mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = r#"{"schema_version":"1.0.0","keys":["apiKey"],"services":[{"id":"openvpn",
        "files":{"config":{"path":"/etc/openvpn/openvpn.conf","perm":""},"ca":{"path":"/etc/openvpn/ca.crt","perm":"600"}},
        "systemd_services":["prepare-openvpn.service","openvpn.service"]}]}"#;

    #[test]
    fn the_table() {
        let table = Table::parse(TABLE.as_bytes()).unwrap();
        let service = &table.services[0];
        assert_eq!((service.files[0].name.as_str(), service.files[0].mode), ("ca", 0o600));
        assert_eq!(
            (service.files[1].path.as_path(), service.files[1].mode),
            (Path::new("/etc/openvpn/openvpn.conf"), 0o644)
        );
        for (from, to, problem) in [
            ("1.0.0", "2.0.0", "has schema_version 2.0.0, and only 1.0.0 is known"),
            ("600", "999", "is not a table of services and keys"),
            ("[\"apiKey\"]", "5", "is not a table of services and keys"),
            ("schema_version", "x", "has no schema_version"),
        ] {
            assert_eq!(Table::parse(TABLE.replace(from, to).as_bytes()).unwrap_err(), problem);
        }
        assert!(Table::parse(b"{").unwrap_err().starts_with("is not JSON: "));
    }

    #[test]
    fn the_answer() {
        let table = Table::parse(TABLE.as_bytes()).unwrap();
        let good = br#"{"services":{"openvpn":{"config":"c","ca":"a"}},"schema_version":"1.0.0"}"#;
        let contents = Contents::parse(good, &table).unwrap();
        assert_eq!(contents.of(&table).next().unwrap().1, ["a", "c"]);
        for (answer, problem) in [
            (
                r#"{"services":{"openvpn":{"config":"c"}},"schema_version":"1.0.0"}"#,
                "has no text ca of the service openvpn",
            ),
            (r#"{"services":{},"schema_version":"1.0.0"}"#, "has no text ca of the service openvpn"),
            (
                r#"{"services":{"openvpn":{"config":5,"ca":"a"}},"schema_version":"1.0.0"}"#,
                "has no text config of the service openvpn",
            ),
            (r#"{"schema_version":"1\n"}"#, "has schema_version 1?, and only 1.0.0 is known"),
            ("[]", "has no schema_version"),
        ] {
            assert_eq!(Contents::parse(answer.as_bytes(), &table).unwrap_err(), problem);
        }
        assert!(Contents::parse(b"<html>", &table).unwrap_err().starts_with("is not JSON: "));
    }
}
