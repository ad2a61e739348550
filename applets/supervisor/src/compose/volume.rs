//! Volumes (spec supervisor §3.6).

use super::SUPERVISED;
use crate::target::{App, Pairs};
use crate::values::{self, set, text};
use minke_engine_api::Volume;
use minke_wire::json::{Map, Value, json};

/// Labels that are not the user's.
const APP_UUID: &str = "io.balena.app-uuid";

/// What a service's `volumes` mean for its container.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ServiceVolumes {
    /// Short form: `<volume>:/path[:mode]`.
    pub binds: Vec<String>,
    /// Long form, as the engine's `Mounts`.
    pub mounts: Vec<Value>,
    /// Paths of anonymous volumes.
    pub anonymous: Vec<String>,
    /// The names of the volumes that are used, as the composition calls them.
    pub named: Vec<String>,
    /// Entries that were left out, with the reason.
    pub warnings: Vec<String>,
}

/// The engine's name of a volume.
pub fn name(app: i64, volume: &str) -> String {
    format!("{app}_{volume}")
}

/// Reads the `volumes` of a service of `app`.
pub fn service_volumes(app: i64, entries: Option<&Value>) -> ServiceVolumes {
    let mut out = ServiceVolumes::default();
    for entry in values::list(entries) {
        let taken = match entry {
            Value::String(text) => short(app, text.trim(), &mut out),
            entry => long(app, entry, &mut out),
        };
        if taken.is_none() {
            out.warnings.push(format!("Ignoring volume entry {entry}: not a named volume, or malformed"));
        }
    }
    out
}

fn short(app: i64, text: &str, out: &mut ServiceVolumes) -> Option<()> {
    let Some((source, target)) = text.split_once(':') else {
        text.starts_with('/').then(|| out.anonymous.push(text.to_owned()))?;
        return Some(());
    };
    let (source, target) = (source.trim(), target.trim());
    let (path, mode) = target.split_once(':').unwrap_or((target, ""));
    if !values::is_name(source) || !path.starts_with('/') || mode.contains(':') {
        return None;
    }
    out.binds.push(format!("{}:{target}", name(app, source)));
    out.named.push(source.to_owned());
    Some(())
}

fn long(app: i64, entry: &Value, out: &mut ServiceVolumes) -> Option<()> {
    let (target, kind) = (text(entry, "target"), text(entry, "type"));
    if !target.starts_with('/') {
        return None;
    }
    let mut mount = json!({ "Target": target, "Type": kind });
    match kind {
        "volume" => {
            if let Some(Value::String(source)) = entry.get("source") {
                values::is_name(source).then_some(())?;
                set(&mut mount, "Source", name(app, source).into());
                out.named.push(source.clone());
            }
            if let Some(nocopy) = entry["volume"].get("nocopy") {
                set(&mut mount, "VolumeOptions", json!({ "NoCopy": nocopy.as_bool()? }));
            }
        }
        "tmpfs" => {
            if let Some(size) = entry["tmpfs"].get("size") {
                set(&mut mount, "TmpfsOptions", json!({ "SizeBytes": values::memory(size)? }));
            }
        }
        // Binds of host folders are the host's business, not an app's.
        _ => return None,
    }
    if values::flag(entry, "read_only") {
        set(&mut mount, "ReadOnly", true.into());
    }
    out.mounts.push(mount);
    Some(())
}

/// The body that creates a volume.
pub fn body(app: &App, volume: &str, config: &Value) -> Value {
    let mut labels = object(config.get("labels"));
    values::put(&mut labels, SUPERVISED, "true".into());
    values::put(&mut labels, APP_UUID, app.uuid.as_str().into());
    json!({
        "Name": name(app.id, volume),
        "Driver": config.get("driver").and_then(Value::as_str).unwrap_or("local"),
        "DriverOpts": object(config.get("driver_opts")),
        "Labels": labels,
    })
}

/// Whether a volume is what `body` would create (§3.6.5). Labels of the supervisor do not count: older
/// volumes have none.
pub fn is_same(body: &Value, volume: &Volume) -> bool {
    let users = |mut labels: Pairs| {
        labels.retain(|(name, _)| ![SUPERVISED, APP_UUID, "io.resin.supervised"].contains(&name.as_str()));
        labels
    };
    text(body, "Driver") == volume.driver
        && sorted(body.get("DriverOpts")) == volume.options
        && users(sorted(body.get("Labels"))) == users(volume.labels.clone())
}

/// A map of texts; numbers and switches become texts, as engines take nothing else.
pub fn object(value: Option<&Value>) -> Map {
    let mut out = Map::new();
    for (key, value) in values::members(value) {
        if let Some(text) = super::fields::scalar(value) {
            values::put(&mut out, key, text.into());
        }
    }
    out
}

/// The pairs of a map of texts, sorted.
pub fn sorted(value: Option<&Value>) -> Pairs {
    let mut pairs = Pairs::new();
    for (key, value) in values::members(value) {
        if let Some(text) = value.as_str() {
            pairs.push((key.clone(), text.to_owned()));
        }
    }
    pairs.sort_unstable();
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    fn read(entries: &Value) -> ServiceVolumes {
        service_volumes(7, Some(entries))
    }

    #[test]
    fn short_entries() {
        let found = read(&json!([" data:/data ", "logs:/var/log:ro", "/cache"]));
        assert_eq!(found.binds, ["7_data:/data", "7_logs:/var/log:ro"]);
        assert_eq!(
            (found.anonymous, found.named),
            (vec!["/cache".into()], vec!["data".into(), "logs".into()])
        );
        assert!(found.warnings.is_empty());
    }

    #[test]
    fn long_entries() {
        let found = read(&json!([
            { "type": "volume", "source": "data", "target": "/d", "read_only": true, "volume": { "nocopy": true } },
            { "type": "tmpfs", "target": "/t", "tmpfs": { "size": "1m" } },
        ]));
        assert_eq!(
            found.mounts,
            [
                json!({ "Target": "/d", "Type": "volume", "Source": "7_data", "VolumeOptions": { "NoCopy": true },
                    "ReadOnly": true }),
                json!({ "Target": "/t", "Type": "tmpfs", "TmpfsOptions": { "SizeBytes": 1048576 } }),
            ]
        );
    }

    #[test]
    fn binds_and_nonsense_are_left_out_with_a_warning() {
        let entries = json!([
            "/etc:/etc", "./x:/x", "a/b:/c", "data:relative", "data:/a:ro:x", "relative", 5, null,
            { "type": "bind", "source": "/", "target": "/host" }, { "type": "volume" },
            { "type": "volume", "source": "../x", "target": "/x" }
        ]);
        let found = read(&entries);
        assert_eq!(found.warnings.len(), entries.as_array().unwrap().len());
        assert_eq!((found.binds.len(), found.mounts.len(), found.named.len()), (0, 0, 0));
    }

    #[test]
    fn comparison_ignores_the_supervisors_labels() {
        let app = App { uuid: "u".into(), id: 7, name: "a".into(), is_host: false, release: None };
        let body = body(&app, "data", &json!({ "labels": { "a": "1" } }));
        let labels = vec![("a".to_owned(), "1".to_owned())];
        let old = Volume { name: "7_data".into(), driver: "local".into(), options: vec![], labels };
        assert!(is_same(&body, &old));
        assert!(!is_same(&body, &Volume { labels: vec![], ..old.clone() }));
        assert!(!is_same(&body, &Volume { options: vec![("o".into(), "x".into())], ..old }));
    }
}
