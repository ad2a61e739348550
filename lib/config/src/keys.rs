//! The keys that the OS or the supervisor reads, with their types (spec os §4.3).

use crate::Config;
use crate::config::kind_of;
use minke_wire::json::Value;

/// Type letters of the specification: s string, b boolean, n number, o object, a array; several where the
/// field has seen several.
const KEYS: &str = "\
    uuid:s apiEndpoint:s apiKey:s deviceApiKey:s deviceApiKeys:o deviceId:ns registered_at:ns \
    applicationId:ns deviceType:s initialDeviceName:s hostname:s developmentMode:b persistentLogging:b \
    country:s ntpServers:s dnsServers:s balenaRootCA:s listenPort:ns deltaEndpoint:s registryEndpoint:s \
    appUpdatePollInterval:ns os:o os.sshKeys:a os.udevRules:o os.network:o os.network.connectivity:o \
    os.network.connectivity.uri:s os.network.connectivity.interval:ns os.network.connectivity.response:s \
    os.network.wifi:o os.network.wifi.randomMacAddressScan:b os.kernel:o os.kernel.extraFirmwareVol:s \
    installer:o";

fn keys() -> impl Iterator<Item = (&'static str, &'static str)> {
    KEYS.split(' ').filter_map(|key| key.split_once(':'))
}

/// What is said about each known key whose value has a type that nobody reads; empty when all is well.
pub fn mistyped(config: &Config) -> Vec<String> {
    let mut found = Vec::new();
    for (path, types) in keys() {
        let Some(value) = config.get(path) else { continue };
        let fits = match value {
            // Both words for a switch count (spec os §0.5).
            Value::String(text) if types == "b" => text == "true" || text == "false",
            Value::String(_) => types.contains('s'),
            Value::Number(_) => types.contains('n'),
            Value::Bool(_) => types.contains('b'),
            Value::Array(_) => types.contains('a'),
            Value::Object(_) => types.contains('o'),
            Value::Null => true,
        };
        if !fits {
            found.push(format!("{path} is {} and should be {}", kind_of(value), wanted(types)));
        }
    }
    found
}

/// The value that the words of a command line mean for a key, by the key's type; an unknown key's is a string.
/// The error says what was expected.
pub fn value_of(path: &str, text: &str) -> Result<Value, String> {
    let types = keys().find(|(key, _)| *key == path).map_or("s", |(_, types)| types);
    let parsed = || minke_wire::json::parse_str(text).ok();
    let value = match types.as_bytes().first() {
        Some(b's') => return Ok(text.into()),
        Some(b'b') => parsed().filter(Value::is_boolean),
        Some(b'n') => parsed().filter(Value::is_number),
        Some(b'a') => parsed().filter(Value::is_array),
        _ => parsed().filter(Value::is_object),
    };
    value.ok_or_else(|| format!("{path} should be {}", wanted(types)))
}

fn wanted(types: &str) -> &'static str {
    match types.as_bytes().first() {
        Some(b's') => "a string",
        Some(b'n') => "a number",
        Some(b'b') => "true or false",
        Some(b'a') => "an array",
        _ => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_type_is_named() {
        let read = |text: &str| mistyped(&Config::parse(text.as_bytes()).unwrap());
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
        assert!(read(r#"{"persistentLogging":"true","listenPort":48484}"#).is_empty());
    }

    #[test]
    fn words_become_values_by_the_keys_type() {
        assert_eq!(value_of("developmentMode", "true"), Ok(true.into()));
        assert_eq!(value_of("hostname", "123"), Ok("123".into()));
        assert_eq!(value_of("listenPort", "80"), Ok(80.into()));
        assert_eq!(value_of("os.sshKeys", r#"["a"]"#), Ok(minke_wire::json::json!(["a"])));
        assert_eq!(value_of("mine", "true"), Ok("true".into()));
        assert_eq!(
            value_of("developmentMode", "yes").unwrap_err(),
            "developmentMode should be true or false"
        );
        assert!(value_of("os", "{").is_err());
    }
}
