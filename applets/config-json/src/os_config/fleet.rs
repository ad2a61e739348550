//! Which cloud and fleet a device belongs to: what `join` and `leave` make of `config.json` (spec os §4.6.5), as
//! functions of documents alone.
//!
//! The reference removes the cloud's keys before it compares the device types and remembers the old key (a DEFECT);
//! here both come first.

use minke_config::{Config, Map, Value, mistyped};

/// Keys whose wrong type stops everything that deals with the cloud (spec os §4.5).
const CHECKED: [&str; 5] = ["apiEndpoint", "deviceType", "balenaRootCA", "deviceApiKey", "deviceApiKeys"];

/// What is wrong with the keys that decide about the cloud.
pub(crate) fn check(config: &Config) -> Result<(), String> {
    for finding in mistyped(config) {
        if finding.split(' ').next().is_some_and(|key| CHECKED.contains(&key)) {
            return Err(finding);
        }
    }
    Ok(())
}

/// An endpoint without its scheme, as `deviceApiKeys` is indexed.
pub(crate) fn endpoint_host(endpoint: &str) -> &str {
    minke_wire::text::split_once(endpoint, "://").map_or(endpoint, |(_, rest)| rest).trim_end_matches('/')
}

fn remembered_keys(config: &Config) -> Map {
    match config.get("deviceApiKeys") {
        Some(Value::Object(keys)) => keys.clone(),
        _ => Map::new(),
    }
}

/// Keeps the device's key for the cloud that it belongs to now.
fn remember(config: &mut Config) {
    let (Some(endpoint), Some(key)) = (config.string("apiEndpoint"), config.string("deviceApiKey")) else {
        return;
    };
    let mut keys = remembered_keys(config);
    // A host has dots, so its key is no dotted path.
    keys.insert(endpoint_host(endpoint).to_owned(), key.into());
    config.set("deviceApiKeys", keys.into());
}

/// Gives a managed device without a key the one that it had with this cloud, else `fresh`; remembers it. `false`: the
/// device has a key, or needs none.
pub(crate) fn ensure_key(config: &mut Config, fresh: &str) -> bool {
    let Some(endpoint) = config.string("apiEndpoint") else { return false };
    if config.string("deviceApiKey").is_some() {
        return false;
    }
    let keys = remembered_keys(config);
    let known = keys.get(endpoint_host(endpoint)).and_then(Value::as_str).filter(|key| !key.is_empty());
    let key = known.unwrap_or(fresh).to_owned();
    config.set("deviceApiKey", key.into());
    remember(config);
    true
}

/// Makes the device a member of the fleet that `fleet` describes. `board` is the type of the device where the
/// configuration names none; `owned` are the keys that the cloud decides about.
pub(crate) fn join(
    config: &mut Config,
    fleet: &Map,
    owned: &[String],
    board: Option<&str>,
    fresh: &str,
) -> Result<(), String> {
    let mut wanted = Config::default();
    for (key, value) in fleet.iter() {
        wanted.set(key, value.clone());
    }
    check(&wanted)?;
    if wanted.string("apiEndpoint").is_none() {
        return Err("apiEndpoint is missing in the fleet's configuration".to_owned());
    }
    let own = config.string("deviceType").or(board).unwrap_or_default().to_owned();
    let theirs = wanted.string("deviceType").unwrap_or_default();
    if !own.is_empty() && !theirs.is_empty() && own != theirs {
        return Err(format!("the fleet is for devices of type {theirs}, and this one is {own}"));
    }
    leave(config, owned);
    let mut keys = remembered_keys(config);
    for (key, value) in fleet.iter() {
        config.set(key, value.clone());
    }
    // Other clouds' keys stay, also when the fleet's document brings some.
    for (host, key) in remembered_keys(&wanted).iter() {
        keys.insert(host.clone(), key.clone());
    }
    if !keys.is_empty() {
        config.set("deviceApiKeys", keys.into());
    }
    if config.string("deviceType").is_none() && !own.is_empty() {
        config.set("deviceType", own.as_str().into());
    }
    ensure_key(config, fresh);
    remember(config);
    Ok(())
}

/// Makes the device nobody's, with its keys remembered.
pub(crate) fn leave(config: &mut Config, owned: &[String]) {
    remember(config);
    for key in owned {
        config.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap()
    }

    fn owned() -> Vec<String> {
        [
            "applicationId",
            "deviceType",
            "apiEndpoint",
            "apiKey",
            "deviceApiKey",
            "registered_at",
            "balenaRootCA",
        ]
        .map(str::to_owned)
        .to_vec()
    }

    fn flat(config: &Config) -> String {
        config.to_text().split_whitespace().collect()
    }

    #[test]
    fn joining_remembers_the_old_key_and_finds_it_when_the_device_comes_back() {
        let mut device = config(
            r#"{"uuid":"u","apiEndpoint":"https://api.one","deviceType":"pi","deviceApiKey":"k1","registered_at":5,"mine":1}"#,
        );
        let two = config(r#"{"apiEndpoint":"https://api.two/","deviceType":"pi","applicationId":7}"#);
        join(&mut device, two.members(), &owned(), None, "fresh").unwrap();
        assert_eq!(
            flat(&device),
            r#"{"uuid":"u","mine":1,"deviceApiKeys":{"api.one":"k1","api.two":"fresh"},"apiEndpoint":"https://api.two/","deviceType":"pi","applicationId":7,"deviceApiKey":"fresh"}"#
        );
        let one = config(r#"{"apiEndpoint":"https://api.one","deviceApiKeys":{"api.three":"k3"}}"#);
        join(&mut device, one.members(), &owned(), None, "other").unwrap();
        assert_eq!(device.string("deviceApiKey"), Some("k1"));
        assert_eq!(device.string("deviceType"), Some("pi"), "it is kept where the fleet names none");
        let keys = device.get("deviceApiKeys").unwrap().to_string();
        assert_eq!(keys, r#"{"api.one":"k1","api.two":"fresh","api.three":"k3"}"#);
        leave(&mut device, &owned());
        assert_eq!(flat(&device), format!(r#"{{"uuid":"u","mine":1,"deviceApiKeys":{keys}}}"#));
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let text = r#"{"apiEndpoint":"https://a","deviceType":"pi","deviceApiKey":"k"}"#;
        for (fleet, board, problem) in [
            (
                r#"{"apiEndpoint":"https://b","deviceType":"nuc"}"#,
                None,
                "the fleet is for devices of type nuc, and this one is pi",
            ),
            (r#"{"deviceType":"pi"}"#, None, "apiEndpoint is missing in the fleet's configuration"),
            (r#"{"apiEndpoint":5}"#, None, "apiEndpoint is a number and should be a string"),
            (
                r#"{"apiEndpoint":"https://b","deviceApiKeys":[]}"#,
                None,
                "deviceApiKeys is an array and should be an object",
            ),
        ] {
            let mut device = config(text);
            let error = join(&mut device, config(fleet).members(), &owned(), board, "x").unwrap_err();
            assert_eq!((error.as_str(), device), (problem, config(text)));
        }
        // After leaving, the board says what the device is.
        let mut device = config("{}");
        let nuc = config(r#"{"apiEndpoint":"https://b","deviceType":"nuc"}"#);
        assert!(join(&mut device, nuc.members(), &owned(), Some("pi"), "x").is_err());
        assert_eq!(device, config("{}"));
        join(&mut device, nuc.members(), &owned(), Some("nuc"), "x").unwrap();
    }

    #[test]
    fn keys_are_made_remembered_and_taken_from_memory() {
        let mut device = config("{}");
        assert!(!ensure_key(&mut device, "a"));
        device.set("apiEndpoint", "https://api.example.com".into());
        assert!(ensure_key(&mut device, "a") && !ensure_key(&mut device, "b"));
        assert_eq!(device.get("deviceApiKeys").unwrap().to_string(), r#"{"api.example.com":"a"}"#);
        device.remove("deviceApiKey");
        assert!(ensure_key(&mut device, "b"));
        assert_eq!(device.string("deviceApiKey"), Some("a"));
    }

    #[test]
    fn wrong_types_are_named() {
        assert_eq!(check(&config(r#"{"hostname":5,"listenPort":true}"#)), Ok(()));
        let problem = check(&config(r#"{"hostname":5,"balenaRootCA":{}}"#)).unwrap_err();
        assert_eq!(problem, "balenaRootCA is an object and should be a string");
    }
}
