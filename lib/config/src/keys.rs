//! The keys that the OS or the supervisor reads (spec os §4.3), in one table: `check`, `set`, `explain` and the
//! dispatcher know a key from there alone.

use crate::Config;
use crate::config::{is_text, kind_of};
use minke_wire::json::{Map, Value};

/// A line per key: the dotted path; the types (s string, b boolean, n number, o object, a array; several where
/// the field has seen several, the first is what `set` makes); the default; the units to which a change is
/// handed; the meaning. As text, because five pointers per key would cost more than finding the tabs.
const KEYS: &str = include_str!("keys.tsv");

/// The units that have keys, in the order in which a change reaches them: who is known by what name first, then
/// what others read, the engine last. `~` marks a daemon, which stays down when it is down; `+` one that is part of
/// another unit in the list and is restarted by PID 1 along with it, or that notices by itself; the others do their
/// work anew (spec os §4.4.6).
const UNITS: &str = "balena-hostname balena-net-config +dnsmasq balena-ntp-config os-networkmanager os-sshkeys \
    os-udevrules os-fan-profile os-extra-firmware prepare-openvpn extract-balena-ca os-config ~balena-supervisor \
    development-features +balena-info +balena";

/// How a unit hears of other settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// It is started anew, also when it was down or has failed.
    Always,
    /// If it is up.
    IfUp,
    /// Another unit's restart is its own, or it notices by itself.
    Along,
}

/// A key of `config.json`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Key {
    /// The dotted path.
    pub path: &'static str,
    types: &'static str,
    /// What holds when it is absent, for people.
    pub default: &'static str,
    /// The units that get its value, separated by spaces, without `.service`; empty: nothing happens at once.
    pub units: &'static str,
    /// What it does.
    pub about: &'static str,
}

impl Key {
    /// What its value should be, for messages.
    pub fn wanted(&self) -> &'static str {
        match self.types.as_bytes().first() {
            Some(b's') => "a string",
            Some(b'n') => "a number",
            Some(b'b') => "true or false",
            Some(b'a') => "an array",
            _ => "an object",
        }
    }

    fn fits(&self, value: &Value) -> bool {
        let letter = match value {
            // Both words for a switch count (spec os §0.5).
            Value::String(text) if self.types == "b" => return text == "true" || text == "false",
            Value::String(text) if !is_text(text) => return false,
            Value::String(_) => 's',
            Value::Number(_) => 'n',
            Value::Bool(_) => 'b',
            Value::Array(_) => 'a',
            Value::Object(_) => 'o',
            Value::Null => return true,
        };
        minke_wire::text::is_one_of(letter, self.types)
    }
}

/// All keys, in the order of the specification.
pub fn keys() -> impl Iterator<Item = Key> {
    KEYS.lines().map(|line| {
        let mut fields = line.split('\t');
        let mut next = || fields.next().unwrap_or_default();
        Key { path: next(), types: next(), default: next(), units: next(), about: next() }
    })
}

/// What is known of the key at a dotted path. A path that others begin with, such as `os.network`, is an object.
pub fn key(path: &str) -> Option<Key> {
    for key in keys() {
        if key.path == path {
            return Some(key);
        }
        if key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')) {
            let path = key.path.get(..path.len()).unwrap_or_default();
            return Some(Key { path, types: "o", about: "A group of keys", ..Key::default() });
        }
    }
    None
}

/// What is said about each known key whose value has a type that nobody reads; empty when all is well.
pub fn mistyped(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    for whole in keys() {
        // A group that is no object hides its keys; it is named once.
        let ends = whole.path.match_indices('.').map(|(end, _)| end);
        for end in ends.chain([whole.path.len()]) {
            let path = whole.path.get(..end).unwrap_or_default();
            let Some(value) = config.get(path) else { break };
            let key = if path == whole.path { whole } else { Key { path, types: "o", ..whole } };
            if !key.fits(value) {
                let finding = format!("{path} is {} and should be {}", kind_of(value), key.wanted());
                if found.last() != Some(&finding) {
                    found.push(finding);
                }
                break;
            }
        }
    }
    found
}

/// The value that the words of a command line mean for a key, by the key's type; an unknown key's is a string.
/// The error says what was expected.
pub fn value_of(path: &str, text: &str) -> Result<Value, String> {
    let Some(key) = key(path).filter(|key| !key.types.starts_with('s')) else { return Ok(text.into()) };
    let parsed = minke_wire::json::parse_str(text).ok();
    // What is said of a key's type is meant for `set` too, but a number is not to become a string by its quotes.
    let parsed = parsed.filter(|value| !value.is_string() && !value.is_null() && key.fits(value));
    parsed.ok_or_else(|| format!("{path} should be {}", key.wanted()))
}

/// The units that get settings, in the order in which they are to get them.
pub fn units() -> impl Iterator<Item = (&'static str, Restart)> {
    UNITS.split(' ').map(|name| match name.split_at_checked(1) {
        Some(("~", daemon)) => (daemon, Restart::IfUp),
        Some(("+", part)) => (part, Restart::Along),
        _ => (name, Restart::Always),
    })
}

/// The settings of a unit: a member for each of its keys that is set (spec os §4.4.3).
pub fn settings(config: &Config, unit: &str) -> Map {
    let mut paths = Vec::new();
    for key in keys() {
        if key.units.split(' ').any(|name| name == unit) {
            paths.push(key.path);
        }
    }
    select(config, &paths)
}

/// A member for each path that leads to something, named by the path's last part.
fn select(config: &Config, paths: &[&str]) -> Map {
    let mut members = Map::new();
    for path in paths {
        if let Some(value) = config.get(path) {
            members.insert(path.rsplit('.').next().unwrap_or_default(), value.clone());
        }
    }
    members
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_table_is_whole() {
        let mut seen: Vec<&str> = Vec::new();
        for line in KEYS.lines() {
            assert_eq!(line.split('\t').count(), 5, "{line}");
        }
        for key in keys() {
            assert!(!seen.contains(&key.path) && !key.about.is_empty() && !key.default.is_empty(), "{key:?}");
            assert!(key.types.chars().all(|letter| "sbnoa".contains(letter)) && !key.types.is_empty());
            seen.push(key.path);
            for unit in key.units.split(' ').filter(|unit| !unit.is_empty()) {
                assert!(units().any(|(name, _)| name == unit), "{unit}");
            }
        }
        for (unit, _) in units() {
            assert!(keys().any(|key| key.units.split(' ').any(|name| name == unit)), "{unit} has no key");
        }
        assert_eq!(seen.len(), 48);
    }

    /// Spec os §4.4.6, but for four: `apiEndpoint` reaches the connectivity check, whose default it makes; `hostname` does not reach the engine (DEFECT 2464), `os.network.connectivity.response`
    /// is watched (DEFECT of §4.3), and `balenaRootCA` reaches the bundle too (DEFECT of §4.7.3).
    #[test]
    fn each_unit_has_its_paths() {
        for (unit, paths) in [
            ("balena", "developmentMode"),
            ("balena-supervisor", "balenaRootCA listenPort"),
            ("extract-balena-ca", "balenaRootCA"),
            ("development-features", "developmentMode"),
            ("balena-info", "developmentMode"),
            ("balena-hostname", "hostname"),
            ("dnsmasq", "hostname dnsServers"),
            ("balena-net-config", "country dnsServers"),
            ("balena-ntp-config", "ntpServers"),
            (
                "os-networkmanager",
                "apiEndpoint os.network.connectivity.uri os.network.connectivity.interval \
                 os.network.connectivity.response os.network.wifi.randomMacAddressScan",
            ),
            ("os-sshkeys", "os.sshKeys"),
            ("os-udevrules", "os.udevRules"),
            ("prepare-openvpn", "apiKey"),
            ("os-config", "apiEndpoint"),
            ("os-fan-profile", "os.fan.profile"),
            ("os-extra-firmware", "os.kernel.extraFirmwareVol"),
        ] {
            let own: Vec<&str> = keys()
                .filter(|key| key.units.split(' ').any(|name| name == unit))
                .map(|key| key.path)
                .collect();
            assert_eq!(own.join(" "), paths, "{unit}");
        }
        assert_eq!(units().count(), 16);
    }

    /// Spec os §4.4.5.
    #[test]
    fn settings_are_named_by_the_last_part_of_their_path() {
        let paths = ["a.b.c.0", "x.one"];
        let text = |text: &str| select(&config(text), &paths).to_text();
        assert_eq!(
            text(r#"{"x":{"one":{"k":[1]}},"a":{"b":{"c":["z",2]}}}"#),
            r#"{"0":"z","one":{"k":[1]}}"#
        );
        assert_eq!(text(r#"{"x":{"one":1},"a":{"b":{"c":[]}}}"#), r#"{"one":1}"#);
        assert_eq!(text(r#"{"x":{"one":null},"a":{"b":7}}"#), "{}");
        let both = config(r#"{"hostname":"h","dnsServers":"","unknown":1}"#);
        assert_eq!(settings(&both, "dnsmasq").to_text(), r#"{"hostname":"h","dnsServers":""}"#);
        assert_eq!(settings(&both, "balena-hostname").to_text(), r#"{"hostname":"h"}"#);
        assert_eq!(settings(&both, "balena").to_text(), "{}");
    }

    #[test]
    fn each_wrong_type_is_named() {
        let read = |text: &str| mistyped(&config(text));
        assert_eq!(
            read(
                r#"{"uuid":5,"developmentMode":1,"os":{"sshKeys":"x"},"deviceId":"7","mine":[],"hostname":null}"#
            ),
            [
                "uuid is a number and should be a string",
                "developmentMode is a number and should be true or false",
                "os.sshKeys is a string and should be an array",
            ]
        );
        assert_eq!(read(r#"{"os":[]}"#), ["os is an array and should be an object"]);
        assert_eq!(
            read(r#"{"os":{"network":{"connectivity":1,"wifi":{"randomMacAddressScan":"x"}}}}"#),
            [
                "os.network.connectivity is a number and should be an object",
                "os.network.wifi.randomMacAddressScan is a string and should be true or false"
            ]
        );
        assert!(read(r#"{"persistentLogging":"true","listenPort":48484}"#).is_empty());
    }

    #[test]
    fn words_become_values_by_the_keys_type() {
        assert_eq!(value_of("developmentMode", "true"), Ok(true.into()));
        assert_eq!(value_of("hostname", "123"), Ok("123".into()));
        assert_eq!(value_of("listenPort", "80"), Ok(80.into()));
        assert_eq!(value_of("os.sshKeys", r#"["a"]"#), Ok(minke_wire::json::json!(["a"])));
        assert_eq!(value_of("os.network", r#"{"wifi":{}}"#), Ok(minke_wire::json::json!({"wifi": {}})));
        assert_eq!(value_of("mine", "true"), Ok("true".into()));
        assert_eq!(
            value_of("developmentMode", "yes").unwrap_err(),
            "developmentMode should be true or false"
        );
        for (path, text) in [("os", "{"), ("os", "1"), ("listenPort", "\"80\""), ("os.sshKeys", "null")] {
            assert!(value_of(path, text).is_err(), "{path} {text}");
        }
    }

    #[test]
    fn a_text_with_nul_is_as_good_as_none() {
        let config = config(r#"{"deviceType":"a\u0000b","deviceId":"\u0000","apiKey":"fine"}"#);
        assert_eq!((config.string("deviceType"), config.text("deviceId")), (None, None));
        assert_eq!(
            mistyped(&config),
            [
                "deviceId is a string with NUL and should be a number",
                "deviceType is a string with NUL and should be a string"
            ]
        );
    }
}
