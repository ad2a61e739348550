//! Volumes, binds and tmpfs of a container: from the three places where a create body has them.

use crate::container::name;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use minke_wire::json::Value;
use std::fmt::Write;
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
    /// A mount with the source as the user says it: a path, a volume's name, or nothing.
    fn new(kind: Kind, source: &str, target: String) -> Self {
        let (mut name, mut path) = (String::new(), String::new());
        match kind {
            Kind::Bind => path = clean(source),
            Kind::Volume => source.clone_into(&mut name),
            Kind::Tmpfs => {}
        }
        let anonymous = kind == Kind::Volume && name.is_empty();
        let (propagation, options) = (String::new(), String::new());
        Self {
            kind,
            name,
            source: path,
            target,
            read_only: false,
            propagation,
            no_copy: false,
            anonymous,
            options,
        }
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
    let mut mounts = Vec::new();
    for bind in &host.texts("Binds") {
        add_bind(&mut mounts, bind)?;
    }
    for mount in host.items("Mounts") {
        add_mount(&mut mounts, mount)?;
    }
    for (target, options) in host.entries("Tmpfs") {
        let mount = add(&mut mounts, Kind::Tmpfs, "", target)?;
        options.as_str().unwrap_or("").clone_into(&mut mount.options);
    }
    for (target, _) in config.entries("Volumes") {
        let target = clean(target);
        if !mounts.iter().any(|other| other.target == target) {
            add(&mut mounts, Kind::Volume, "", &target)?;
        }
    }
    Ok(mounts)
}

/// Adds a mount of which the rest is to be filled in.
fn add<'a>(mounts: &'a mut Vec<Mount>, kind: Kind, source: &str, target: &str) -> Result<&'a mut Mount> {
    let target = clean(target);
    if !target.starts_with('/') || target == "/" || target.contains('\0') {
        return Err(ApiError::bad(format_args!(
            "invalid mount path: '{target}' mount path must be absolute and not '/'"
        )));
    }
    if mounts.iter().any(|other| other.target == target) {
        return Err(ApiError::bad(format_args!("Duplicate mount point: {target}")));
    }
    if mounts.len() >= MOUNT_LIMIT {
        return Err(ApiError::bad(format_args!("too many mounts")));
    }
    Ok(mounts.push_mut(Mount::new(kind, source, target)))
}

/// Options of a bind that say how mounts travel.
const PROPAGATIONS: &str = "rprivate private rslave slave rshared shared";
/// Options of a bind that change nothing here; the first is none.
const WITHOUT_EFFECT: &str = " rw z Z cached delegated consistent copy";

fn is_one_of(word: &str, words: &str) -> bool {
    words.split(' ').any(|other| other == word)
}

/// `SOURCE:TARGET[:OPTIONS]`, where a source without a slash in front is a volume's name.
fn add_bind(mounts: &mut Vec<Mount>, text: &str) -> Result<()> {
    let invalid = || ApiError::bad(format_args!("invalid volume specification: '{text}'"));
    let mut parts = text.split(':');
    let (source, target, options) = (parts.next(), parts.next(), parts.next());
    let (Some(source), Some(target), None) = (source, target, parts.next()) else { return Err(invalid()) };
    let kind = if source.starts_with('/') { Kind::Bind } else { Kind::Volume };
    if kind == Kind::Volume && !name::is_valid(source) {
        return Err(invalid());
    }
    let mount = add(mounts, kind, source, target)?;
    for option in options.unwrap_or("").split(',') {
        match option {
            "ro" => mount.read_only = true,
            "nocopy" => mount.no_copy = true,
            _ if is_one_of(option, PROPAGATIONS) => option.clone_into(&mut mount.propagation),
            _ if is_one_of(option, WITHOUT_EFFECT) => {}
            _ => return Err(invalid()),
        }
    }
    Ok(())
}

fn add_mount(mounts: &mut Vec<Mount>, value: &Value) -> Result<()> {
    let (kind, source) = (value.text("Type"), value.text("Source"));
    let (kind, problem) = match kind {
        "bind" if !source.starts_with('/') => (Kind::Bind, "the source must be an absolute path"),
        "bind" => (Kind::Bind, ""),
        "volume" if !source.is_empty() && !name::is_valid(source) => (Kind::Volume, "no valid volume name"),
        "volume" => (Kind::Volume, ""),
        "tmpfs" => (Kind::Tmpfs, ""),
        _ => (Kind::Tmpfs, "unknown type"),
    };
    if !problem.is_empty() {
        return Err(ApiError::bad(format_args!(
            "invalid mount config for type \"{}\": {problem}",
            value.text("Type")
        )));
    }
    let mount = add(mounts, kind, source, value.text("Target"))?;
    mount.read_only = value.flag("ReadOnly");
    mount.no_copy = value.at("VolumeOptions").flag("NoCopy");
    value.at("BindOptions").text("Propagation").clone_into(&mut mount.propagation);
    let tmpfs = value.at("TmpfsOptions");
    let (size, mode) = (tmpfs.number("SizeBytes"), tmpfs.number("Mode"));
    if size > 0 {
        mount.options = format!("size={size}");
    }
    if mode > 0 {
        let _ = write!(mount.options, ",mode={mode:o}");
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    fn parse_bind(text: &str) -> Result<Mount> {
        let mut mounts = Vec::new();
        add_bind(&mut mounts, text).map(|()| mounts.remove(0))
    }

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
