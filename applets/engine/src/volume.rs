//! Volumes: a folder each below `DATA/volumes/NAME`, with `_data` for the content and `volume.json` for what
//! the create call said.

use crate::container::name;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use minke_wire::json::Value;
use std::path::{Path, PathBuf};

/// All volumes.
#[derive(Debug)]
pub struct Volumes {
    root: PathBuf,
    list: Vec<Value>,
}

impl Volumes {
    /// Reads the folders in `root`. One whose record is damaged keeps its content under the defaults.
    pub fn open(root: PathBuf) -> Result<Self> {
        minke_sys::file::make_folder(&root, 0o700)?;
        clean_up(&root);
        let mut volumes = Self { root, list: Vec::new() };
        for folder in &minke_sys::file::list(&volumes.root)? {
            let name = folder.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or("");
            if !name::is_valid(name) || !minke_sys::status::is_dir(volumes.content(name)) {
                continue;
            }
            let opened = crate::record::read(&volumes.record_path(name), format_args!("volume {name}"));
            let document = match opened {
                Some(opened) if opened.1.text("Name") == name => opened.1,
                _ => volumes.describe(name, &Value::Null),
            };
            volumes.list.push(document);
        }
        Ok(volumes)
    }

    /// All, as the API shows them.
    pub fn list(&self) -> &[Value] {
        &self.list
    }

    /// One by name.
    pub fn get(&self, name: &str) -> Result<&Value> {
        let found = self.list.iter().find(|volume| volume.text("Name") == name);
        found.ok_or_else(|| ApiError::missing(format_args!("get {name}: no such volume")))
    }

    /// The folder that containers see.
    pub fn content(&self, name: &str) -> PathBuf {
        self.root.join(name).join("_data")
    }

    fn record_path(&self, name: &str) -> PathBuf {
        self.root.join(name).join("volume.json")
    }

    /// Makes a volume from a create body; one that exists is returned unchanged. An empty name gets a random one.
    ///
    /// A power cut leaves either nothing, or a folder without content folder, which counts as nothing and is
    /// used by the next create.
    pub fn create(&mut self, body: &Value) -> Result<Value> {
        let name = match body.text("Name") {
            "" => name::new_id()?,
            name => name.to_owned(),
        };
        if !name::is_valid(&name) {
            return Err(ApiError::bad(format_args!(
                "create {name}: \"{name}\" includes invalid characters for a local volume name"
            )));
        }
        if !matches!(body.text("Driver"), "" | "local") {
            return Err(ApiError::bad(format_args!(
                "create {name}: no volume driver '{}'",
                body.text("Driver")
            )));
        }
        if let Ok(existing) = self.get(&name) {
            return Ok(existing.clone());
        }
        let document = self.describe(&name, body);
        minke_sys::file::make_folder(&self.root.join(&name), 0o701)?;
        crate::record::open(&self.record_path(&name), format_args!("volume {name}"))?.0.write(&document)?;
        minke_sys::file::make_folder(&self.content(&name), 0o755)?;
        minke_sys::file::sync_folder(&self.root.join(&name))?;
        minke_sys::file::sync_folder(&self.root)?;
        self.list.push(document.clone());
        Ok(document)
    }

    fn describe(&self, name: &str, body: &Value) -> Value {
        let options = body.at("DriverOpts");
        let options = if options.is_object() { options } else { &Value::Null };
        json!({
            "CreatedAt": crate::time::rfc3339(minke_sys::clock::realtime()), "Driver": "local", "Labels": body.object("Labels"),
            "Mountpoint": self.content(name).display().to_string(), "Name": name, "Options": options, "Scope": "local"
        })
    }

    /// Removes a volume. `in_use` names a container that has it.
    ///
    /// The folder gets a name that is no volume first, so that a power cut never leaves half a volume.
    pub fn remove(&mut self, name: &str, in_use: Option<&str>) -> Result<()> {
        self.get(name)?;
        if let Some(container) = in_use {
            return Err(ApiError::conflict(format_args!("remove {name}: volume is in use - [{container}]")));
        }
        let doomed = self.root.join(format!("-{name}"));
        std::fs::rename(self.root.join(name), &doomed)
            .map_err(|error| ApiError::internal(format_args!("remove {name}: {error}")))?;
        minke_sys::file::sync_folder(&self.root)?;
        self.list.retain(|volume| volume.text("Name") != name);
        Ok(minke_sys::file::remove_all(&doomed)?)
    }
}

/// Removes what a power cut left of volumes that were being removed.
fn clean_up(root: &Path) {
    for path in &minke_sys::file::list(root).unwrap_or_default() {
        if path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"-")) {
            let _ = minke_sys::file::remove_all(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    #[test]
    fn volumes_survive_a_restart_and_a_damaged_record() {
        let root = std::env::temp_dir().join(format!("minke-volumes-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let mut volumes = Volumes::open(root.clone()).unwrap();
        let body = json!({ "Name": "1_data", "Labels": { "a": "b" }, "DriverOpts": { "x": "y" } });
        let made = volumes.create(&body).unwrap();
        assert_eq!(volumes.create(&json!({ "Name": "1_data" })).unwrap(), made);
        assert_eq!(made.at("Labels").to_string(), r#"{"a":"b"}"#);
        volumes.create(&json!({})).unwrap();
        assert_eq!(volumes.create(&json!({ "Name": "../x" })).unwrap_err().status, 400);
        std::fs::write(volumes.content("1_data").join("file"), "kept").unwrap();
        let again = Volumes::open(root.clone()).unwrap();
        assert_eq!((again.list().len(), again.get("1_data").unwrap()), (2, &made));
        std::fs::write(again.record_path("1_data"), "{").unwrap();
        let mut third = Volumes::open(root.clone()).unwrap();
        assert!(third.content("1_data").join("file").exists() && third.get("1_data").is_ok());
        assert_eq!(third.remove("1_data", Some("c")).unwrap_err().status, 409);
        third.remove("1_data", None).unwrap();
        assert_eq!(third.get("1_data").unwrap_err().status, 404);
        std::fs::remove_dir_all(root).unwrap();
    }
}
