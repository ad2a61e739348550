//! `apps.json`: the target that was put onto the data partition before the first boot (spec supervisor §7.2).

use super::{App, app};
use minke_wire::json::{Map, Value};

/// A preload file that was understood.
#[derive(Debug, PartialEq, Eq)]
pub struct Preload {
    /// Config variables, to be laid over the present ones.
    pub config: Map,
    /// The apps as they stand in the file, by uuid: this is what is stored.
    pub apps: Map,
    /// The same apps, checked.
    pub checked: Vec<App>,
    /// Whether the device is to stay at this release: app uuid and commit.
    pub pin: Option<(String, String)>,
}

/// Reads a preload file. `Ok(None)`: it holds nothing, as after a successful preload.
pub fn preload(content: &[u8]) -> Result<Option<Preload>, String> {
    let value: Value = minke_wire::json::parse(content).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(file) = value else {
        return Err("format 1 (a list of apps) is not supported: preload with a current CLI".to_owned());
    };
    let (config, apps) = (part(&file, "config")?, part(&file, "apps")?);
    if config.is_empty() && apps.is_empty() {
        return Ok(None);
    }
    for (name, value) in &config {
        if !value.is_string() {
            return Err(format!("config variable {name} must be a text"));
        }
    }
    let pinned = file.get("pinDevice").and_then(Value::as_bool).unwrap_or(false);
    let (mut all, mut pin) = (Vec::new(), None);
    for (uuid, value) in &apps {
        let app = checked(uuid, value)?;
        let is_fleet = value.get("class").is_none_or(|class| class == "fleet");
        if let (true, true, None, Some(release)) = (pinned, is_fleet, &pin, &app.release) {
            pin = Some((app.uuid.clone(), release.commit.clone()));
        }
        all.push(app);
    }
    Ok(Some(Preload { config, apps, checked: all, pin }))
}

/// One of the file's parts, which may be missing.
fn part(file: &Map, name: &str) -> Result<Map, String> {
    match file.get(name) {
        None => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map.clone()),
        Some(_) => Err(format!("{name} must be an object")),
    }
}

fn checked(uuid: &str, value: &Value) -> Result<App, String> {
    // Format 2 keys its apps by number and has no releases; its uuid is known to the cloud alone (§7.3).
    if value.get("releases").is_none() && uuid.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("format 2 needs the cloud to be read: preload with CLI 13.5.1 or later".to_owned());
    }
    let app = app(uuid, value).map_err(|problems| problems.join("; "))?;
    if app.release.is_none() {
        return Err(format!("app {uuid}: a preloaded app needs a release"));
    }
    Ok(app)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    fn read(value: &Value) -> Result<Option<Preload>, String> {
        preload(value.to_string().as_bytes())
    }

    fn sample() -> Value {
        json!({ "config": { "RESIN_HOST_CONFIG_gpu_mem": "16" }, "pinDevice": true, "apps": {
            "u1": { "id": 1, "name": "a", "releases": { "c": { "id": 2, "services": { "s": {
                "id": 3, "image_id": 4, "image": "i", "environment": {}, "labels": {} } } } } } } })
    }

    #[test]
    fn format_3_is_read_with_its_pin() {
        let preload = read(&sample()).unwrap().unwrap();
        assert_eq!(preload.pin, Some(("u1".to_owned(), "c".to_owned())));
        assert_eq!(preload.checked[0].release.as_ref().unwrap().services[0].image, "i:latest");
        assert_eq!(preload.apps, sample()["apps"].as_object().unwrap().clone());
    }

    #[test]
    fn nothing_in_it_is_nothing_to_do() {
        assert_eq!(read(&json!({})), Ok(None));
        assert_eq!(read(&json!({ "config": {}, "apps": {} })), Ok(None));
    }

    #[test]
    fn older_formats_and_broken_files_are_refused_with_advice() {
        assert!(preload(b"{\"apps\":").unwrap_err().contains("JSON"));
        assert!(read(&json!([{ "appId": 1 }])).unwrap_err().contains("format 1"));
        assert!(read(&json!({ "apps": { "12": { "services": {} } } })).unwrap_err().contains("format 2"));
        assert!(read(&json!({ "apps": [] })).unwrap_err().contains("apps"));
        assert!(read(&json!({ "config": { "A": 1 } })).unwrap_err().contains("A"));
        let mut none = sample();
        none["apps"]["u1"]["releases"] = json!({});
        assert!(read(&none).unwrap_err().contains("needs a release"));
    }
}
