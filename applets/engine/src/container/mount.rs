//! Volumes, binds and tmpfs of a container: from the three places where a create body has them.

use crate::container::name;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use minke_wire::json::Value;
use std::path::{Component, Path};

/// Most mounts of one container.
const MOUNT_LIMIT: usize = 256;

/// What kind of thing is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A path of the host.
    Bind,
    /// A volume of the engine.
    Volume,
    /// A file system in memory.
    Tmpfs,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The kind.
    pub kind: Kind,
    /// The volume's name; empty for an anonymous volume that has none yet, and for the other kinds.
    pub name: String,
    /// The host's path; the engine fills it in for volumes.
    pub source: String,
    /// Where it appears.
    pub target: String,
    /// Writes are refused.
    pub read_only: bool,
    /// `rprivate`, `rslave` or `rshared`; empty is private.
    pub propagation: String,
    /// An empty volume does not get the image's content.
    pub no_copy: bool,
    /// The volume goes with the container when that is removed with `v=1`.
    pub anonymous: bool,
    /// tmpfs options.
    pub options: String,
}

impl Mount {
    fn new(kind: Kind, source: &str, target: &str) -> Self {
        let (name, source) = match kind {
            Kind::Volume => (source.to_owned(), String::new()),
            Kind::Bind | Kind::Tmpfs => (String::new(), source.to_owned()),
        };
        let anonymous = kind == Kind::Volume && name.is_empty();
        let (target, propagation, options) = (target.to_owned(), String::new(), String::new());
        Self { kind, name, source, target, read_only: false, propagation, no_copy: false, anonymous, options }
    }

    /// As `Mounts` of inspect has it, with what a later start needs.
    pub fn to_value(&self) -> Value {
        let kind = match self.kind {
            Kind::Bind => "bind",
            Kind::Volume => "volume",
            Kind::Tmpfs => "tmpfs",
        };
        let mut value = json!({
            "Type": kind, "Source": self.source, "Destination": self.target,
            "Mode": if self.read_only { "ro" } else { "" }, "RW": !self.read_only, "Propagation": self.propagation
        });
        if let Value::Object(map) = &mut value {
            if self.kind == Kind::Volume {
                map.insert("Name".to_owned(), self.name.as_str().into());
                map.insert("Driver".to_owned(), "local".into());
            }
            for (key, set) in [("NoCopy", self.no_copy), ("Anonymous", self.anonymous)] {
                if set {
                    map.insert(key.to_owned(), true.into());
                }
            }
            if !self.options.is_empty() {
                map.insert("Options".to_owned(), self.options.as_str().into());
            }
        }
        value
    }

    /// Reads what [`Mount::to_value`] wrote.
    pub fn from_value(value: &Value) -> Self {
        let kind = match value.text("Type") {
            "volume" => Kind::Volume,
            "tmpfs" => Kind::Tmpfs,
            _ => Kind::Bind,
        };
        let text = |key: &str| value.text(key).to_owned();
        Self {
            kind,
            name: text("Name"),
            source: text("Source"),
            target: text("Destination"),
            read_only: !value.flag("RW"),
            propagation: text("Propagation"),
            no_copy: value.flag("NoCopy"),
            anonymous: value.flag("Anonymous"),
            options: text("Options"),
        }
    }
}

/// All mounts of a create body. A target may be used once; the image's volumes yield to what the user says.
pub fn collect(config: &Value, host: &Value) -> Result<Vec<Mount>> {
    let mut mounts: Vec<Mount> = Vec::new();
    let add = |mounts: &mut Vec<Mount>, mount: Mount| -> Result<()> {
        check_target(&mount.target)?;
        if mounts.iter().any(|other| other.target == mount.target) {
            return Err(ApiError::bad(format_args!("Duplicate mount point: {}", mount.target)));
        }
        if mounts.len() >= MOUNT_LIMIT {
            return Err(ApiError::bad(format_args!("too many mounts")));
        }
        mounts.push(mount);
        Ok(())
    };
    for bind in host.texts("Binds") {
        add(&mut mounts, parse_bind(&bind)?)?;
    }
    for mount in host.items("Mounts") {
        add(&mut mounts, parse_mount(mount)?)?;
    }
    for (target, options) in host.entries("Tmpfs") {
        let mut mount = Mount::new(Kind::Tmpfs, "", &clean(target));
        mount.options = options.as_str().unwrap_or("").to_owned();
        add(&mut mounts, mount)?;
    }
    for (target, _) in config.entries("Volumes") {
        let target = clean(target);
        if !mounts.iter().any(|other| other.target == target) {
            add(&mut mounts, Mount::new(Kind::Volume, "", &target))?;
        }
    }
    Ok(mounts)
}

/// `SOURCE:TARGET[:OPTIONS]`, where a source without a slash in front is a volume's name.
fn parse_bind(text: &str) -> Result<Mount> {
    let invalid = || ApiError::bad(format_args!("invalid volume specification: '{text}'"));
    let mut parts = text.split(':');
    let (source, target, options) = (parts.next(), parts.next(), parts.next());
    let (Some(source), Some(target), None) = (source, target, parts.next()) else { return Err(invalid()) };
    let mut mount = if source.starts_with('/') {
        Mount::new(Kind::Bind, &clean(source), &clean(target))
    } else if name::is_valid(source) {
        Mount::new(Kind::Volume, source, &clean(target))
    } else {
        return Err(invalid());
    };
    for option in options.unwrap_or("").split(',') {
        match option {
            "ro" => mount.read_only = true,
            "nocopy" => mount.no_copy = true,
            "rprivate" | "private" | "rslave" | "slave" | "rshared" | "shared" => {
                option.clone_into(&mut mount.propagation);
            }
            "" | "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" | "copy" => {}
            _ => return Err(invalid()),
        }
    }
    Ok(mount)
}

fn parse_mount(value: &Value) -> Result<Mount> {
    let (source, target) = (value.text("Source"), clean(value.text("Target")));
    let invalid = |why: &str| {
        ApiError::bad(format_args!("invalid mount config for type \"{}\": {why}", value.text("Type")))
    };
    let mut mount = match value.text("Type") {
        "bind" if !source.starts_with('/') => return Err(invalid("the source must be an absolute path")),
        "bind" => Mount::new(Kind::Bind, &clean(source), &target),
        "volume" if !source.is_empty() && !name::is_valid(source) => {
            return Err(invalid("no valid volume name"));
        }
        "volume" => Mount::new(Kind::Volume, source, &target),
        "tmpfs" => Mount::new(Kind::Tmpfs, "", &target),
        _ => return Err(invalid("unknown type")),
    };
    mount.read_only = value.flag("ReadOnly");
    mount.no_copy = value.at("VolumeOptions").flag("NoCopy");
    value.at("BindOptions").text("Propagation").clone_into(&mut mount.propagation);
    let tmpfs = value.at("TmpfsOptions");
    if tmpfs.number("SizeBytes") > 0 {
        mount.options = format!("size={}", tmpfs.number("SizeBytes"));
    }
    if tmpfs.number("Mode") > 0 {
        mount.options = format!("{},mode={:o}", mount.options, tmpfs.number("Mode"));
    }
    Ok(mount)
}

/// Without double and trailing slashes and single dots.
fn clean(path: &str) -> String {
    let mut cleaned = std::path::PathBuf::new();
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                cleaned.pop();
            }
            part => cleaned.push(part),
        }
    }
    cleaned.to_string_lossy().into_owned()
}

fn check_target(target: &str) -> Result<()> {
    if !target.starts_with('/') || target == "/" || target.contains('\0') {
        return Err(ApiError::bad(format_args!(
            "invalid mount path: '{target}' mount path must be absolute and not '/'"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    #[test]
    fn binds_and_named_volumes() {
        let mount = parse_bind("/a//b/:/c/./d/:ro,rslave").unwrap();
        assert_eq!((mount.kind, mount.source.as_str(), mount.target.as_str()), (Kind::Bind, "/a/b", "/c/d"));
        assert!(mount.read_only && mount.propagation == "rslave");
        let volume = parse_bind("1_data:/data").unwrap();
        assert_eq!((volume.kind, volume.name.as_str(), volume.anonymous), (Kind::Volume, "1_data", false));
        for text in ["", "/a", "/a:/b:ro:x", "a/b:/c", "/a:/b:what"] {
            assert!(parse_bind(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_place_contributes_and_targets_are_unique() {
        let config = json!({ "Volumes": { "/data": {}, "/cache": {} } });
        let host = json!({
            "Binds": ["v:/data"], "Tmpfs": { "/tmp": "size=1m" },
            "Mounts": [{ "Type": "tmpfs", "Target": "/run", "TmpfsOptions": { "SizeBytes": 5, "Mode": 448 } }]
        });
        let mounts = collect(&config, &host).unwrap();
        let shown: Vec<_> =
            mounts.iter().map(|mount| (mount.kind, mount.target.as_str(), mount.anonymous)).collect();
        assert_eq!(
            shown,
            [
                (Kind::Volume, "/data", false),
                (Kind::Tmpfs, "/run", false),
                (Kind::Tmpfs, "/tmp", false),
                (Kind::Volume, "/cache", true),
            ]
        );
        assert_eq!(mounts[1].options, "size=5,mode=700");
        for mount in mounts {
            assert_eq!(Mount::from_value(&mount.to_value()), mount);
        }
        assert!(collect(&json!({}), &json!({ "Binds": ["/a:/x", "/b:/x"] })).is_err());
        assert!(collect(&json!({}), &json!({ "Binds": ["/a:/../.."] })).is_err());
    }
}
