//! Volumes, binds and tmpfs of a container: from the three places where a create body has them.
//!
//! A mount is kept as `Mounts` of inspect shows it, with what a start needs beside: `NoCopy` (an empty volume does not
//! get the image's content), `Anonymous` (the volume goes with the container when that is removed with `v=1`) and
//! `Options` (of a tmpfs). The engine fills in name and source of volumes.

use crate::container::name;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use minke_wire::json::Value;
use std::fmt::Write;
use std::path::{Component, Path};

/// Most mounts of one container.
const MOUNT_LIMIT: usize = 256;

/// All mounts of a create body. A target may be used once; the image's volumes yield to what the user says.
pub fn collect(config: &Value, host: &Value) -> Result<Vec<Value>> {
    let mut mounts = Vec::new();
    for bind in &host.texts("Binds") {
        add_bind(&mut mounts, bind)?;
    }
    for mount in host.items("Mounts") {
        add_mount(&mut mounts, mount)?;
    }
    for (target, options) in host.entries("Tmpfs") {
        set_text(add(&mut mounts, TMPFS, "", target)?, "Options", options.as_str().unwrap_or(""));
    }
    for (target, _) in config.entries("Volumes") {
        let target = clean(target);
        if !has_target(&mounts, &target) {
            add(&mut mounts, VOLUME, "", &target)?;
        }
    }
    Ok(mounts)
}

/// `Type` of a path of the host.
const BIND: &str = "bind";
/// `Type` of a volume of the engine.
pub const VOLUME: &str = "volume";
/// `Type` of a file system in memory.
pub const TMPFS: &str = "tmpfs";

fn has_target(mounts: &[Value], target: &str) -> bool {
    mounts.iter().any(|other| other.text("Destination") == target)
}

/// Adds a mount of which the rest is to be filled in. The source is as the user says it: a path, a volume's name, or
/// nothing.
fn add<'a>(mounts: &'a mut Vec<Value>, kind: &str, source: &str, target: &str) -> Result<&'a mut Value> {
    let target = clean(target);
    if !target.starts_with('/') || target == "/" || target.contains('\0') {
        return Err(ApiError::bad(format_args!(
            "invalid mount path: '{target}' mount path must be absolute and not '/'"
        )));
    }
    if has_target(mounts, &target) {
        return Err(ApiError::bad(format_args!("Duplicate mount point: {target}")));
    }
    if mounts.len() >= MOUNT_LIMIT {
        return Err(ApiError::bad(format_args!("too many mounts")));
    }
    let path = if kind == BIND { clean(source) } else { String::new() };
    let mut mount = json!({
        "Type": kind, "Source": path, "Destination": target, "Mode": "", "RW": true, "Propagation": ""
    });
    if kind == VOLUME {
        mount.set("Name", &source);
        mount.set("Driver", &"local");
        set_flag(&mut mount, "Anonymous", source.is_empty());
    }
    Ok(mounts.push_mut(mount))
}

fn set_flag(mount: &mut Value, key: &str, on: bool) {
    if on {
        mount.set(key, &true);
    }
}

fn set_text(mount: &mut Value, key: &str, text: &str) {
    if !text.is_empty() {
        mount.set(key, &text);
    }
}

fn set_read_only(mount: &mut Value) {
    mount.set("Mode", &"ro");
    mount.set("RW", &false);
}

/// Options of a bind that say how mounts travel.
const PROPAGATIONS: &str = "rprivate private rslave slave rshared shared";
/// Options of a bind that change nothing here; the first is none.
const WITHOUT_EFFECT: &str = " rw z Z cached delegated consistent copy";

fn is_one_of(word: &str, words: &str) -> bool {
    words.split(' ').any(|other| other == word)
}

/// `SOURCE:TARGET[:OPTIONS]`, where a source without a slash in front is a volume's name.
fn add_bind(mounts: &mut Vec<Value>, text: &str) -> Result<()> {
    let invalid = || ApiError::bad(format_args!("invalid volume specification: '{text}'"));
    let mut parts = text.split(':');
    let (source, target, options) = (parts.next(), parts.next(), parts.next());
    let (Some(source), Some(target), None) = (source, target, parts.next()) else { return Err(invalid()) };
    let kind = if source.starts_with('/') { BIND } else { VOLUME };
    if kind == VOLUME && !name::is_valid(source) {
        return Err(invalid());
    }
    let mount = add(mounts, kind, source, target)?;
    for option in options.unwrap_or("").split(',') {
        match option {
            "ro" => set_read_only(mount),
            "nocopy" => set_flag(mount, "NoCopy", true),
            _ if is_one_of(option, PROPAGATIONS) => set_text(mount, "Propagation", option),
            _ if is_one_of(option, WITHOUT_EFFECT) => {}
            _ => return Err(invalid()),
        }
    }
    Ok(())
}

fn add_mount(mounts: &mut Vec<Value>, value: &Value) -> Result<()> {
    let (kind, source) = (value.text("Type"), value.text("Source"));
    let problem = match kind {
        BIND if !source.starts_with('/') => "the source must be an absolute path",
        VOLUME if !source.is_empty() && !name::is_valid(source) => "no valid volume name",
        BIND | VOLUME | TMPFS => "",
        _ => "unknown type",
    };
    if !problem.is_empty() {
        return Err(ApiError::bad(format_args!("invalid mount config for type \"{kind}\": {problem}")));
    }
    let mount = add(mounts, kind, source, value.text("Target"))?;
    if value.flag("ReadOnly") {
        set_read_only(mount);
    }
    set_flag(mount, "NoCopy", value.at("VolumeOptions").flag("NoCopy"));
    set_text(mount, "Propagation", value.at("BindOptions").text("Propagation"));
    let tmpfs = value.at("TmpfsOptions");
    let (size, mode) = (tmpfs.number("SizeBytes"), tmpfs.number("Mode"));
    let mut options = String::new();
    if size > 0 {
        options = format!("size={size}");
    }
    if mode > 0 {
        let _ = write!(options, ",mode={mode:o}");
    }
    set_text(mount, "Options", &options);
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

    fn parse_bind(text: &str) -> Result<Value> {
        let mut mounts = Vec::new();
        add_bind(&mut mounts, text).map(|()| mounts.remove(0))
    }

    #[test]
    fn binds_and_named_volumes() {
        let mount = parse_bind("/a//b/:/c/./d/:ro,rslave").unwrap();
        assert_eq!(
            (mount.text("Type"), mount.text("Source"), mount.text("Destination")),
            (BIND, "/a/b", "/c/d")
        );
        assert!(!mount.flag("RW") && mount.text("Mode") == "ro" && mount.text("Propagation") == "rslave");
        let volume = parse_bind("1_data:/data").unwrap();
        assert_eq!(
            (volume.text("Type"), volume.text("Name"), volume.flag("Anonymous")),
            (VOLUME, "1_data", false)
        );
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
        let shown: Vec<_> = mounts
            .iter()
            .map(|mount| (mount.text("Type"), mount.text("Destination"), mount.flag("Anonymous")))
            .collect();
        assert_eq!(
            shown,
            [
                (VOLUME, "/data", false),
                (TMPFS, "/run", false),
                (TMPFS, "/tmp", false),
                (VOLUME, "/cache", true),
            ]
        );
        assert_eq!(mounts[1].text("Options"), "size=5,mode=700");
        assert!(collect(&json!({}), &json!({ "Binds": ["/a:/x", "/b:/x"] })).is_err());
        assert!(collect(&json!({}), &json!({ "Binds": ["/a:/../.."] })).is_err());
    }
}
