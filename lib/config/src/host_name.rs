//! The host name (spec os §6.1): the key `hostname`, else the first seven characters of the uuid.

use crate::Config;
use crate::config::kind_of;

/// The name of a device that has neither.
pub const FALLBACK_HOST_NAME: &str = "balena";

/// The longest name that the kernel takes (`__NEW_UTS_LEN`).
const KERNEL_LIMIT: usize = 64;

/// A host name that is safe to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName {
    /// Valid by [`is_host_name`].
    pub name: String,
    /// Why it is not the one that was asked for.
    pub problem: Option<String>,
}

/// The host name that `config` asks for, or a safe one.
pub fn host_name(config: &Config) -> HostName {
    let wanted = match config.get("hostname") {
        Some(minke_wire::json::Value::String(name)) if name.is_empty() => Ok(None),
        Some(minke_wire::json::Value::String(name)) if is_host_name(name) => Ok(Some(name)),
        Some(minke_wire::json::Value::String(name)) => {
            let shown = minke_wire::text::shown(name.get(..KERNEL_LIMIT).unwrap_or(name));
            Err(format!("hostname '{shown}' is no valid host name (RFC 1123: letters, digits, hyphens)"))
        }
        Some(other) => Err(format!("hostname is {} and should be a string", kind_of(other))),
        None => Ok(None),
    };
    match wanted {
        Ok(Some(name)) => HostName { name: name.clone(), problem: None },
        Ok(None) => by_uuid(config),
        Err(problem) => {
            let name = by_uuid(config).name;
            HostName { problem: Some(format!("{problem}; using {name}")), name }
        }
    }
}

fn by_uuid(config: &Config) -> HostName {
    let short: String = config.string("uuid").unwrap_or_default().chars().take(7).collect();
    if is_host_name(&short) {
        return HostName { name: short, problem: None };
    }
    let problem = format!("neither hostname nor uuid gives a host name; using {FALLBACK_HOST_NAME}");
    HostName { name: FALLBACK_HOST_NAME.to_owned(), problem: Some(problem) }
}

/// Whether a name is valid by RFC 1123 §2.1 and RFC 952, and short enough for the kernel: labels of at most 63
/// letters, digits and hyphens, with no hyphen at either end, joined by dots.
pub fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= KERNEL_LIMIT && name.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> HostName {
        host_name(&Config::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn the_key_then_the_uuid_then_the_default() {
        assert_eq!(named(r#"{"hostname":"kitchen","uuid":"0123456789"}"#).name, "kitchen");
        for empty in [r#""""#, "null"] {
            let name = named(&format!(r#"{{"hostname":{empty},"uuid":"0123456789"}}"#));
            assert_eq!(name, HostName { name: "0123456".into(), problem: None });
        }
        let none = named("{}");
        assert_eq!(none.name, FALLBACK_HOST_NAME);
        assert!(none.problem.is_some());
        assert_eq!(named(r#"{"uuid":"../../x"}"#).name, FALLBACK_HOST_NAME);
        assert_eq!(named(r#"{"uuid":["x"]}"#).name, FALLBACK_HOST_NAME);
    }

    #[test]
    fn a_bad_name_is_named_and_replaced() {
        let long = "a".repeat(64);
        for bad in ["a b", "-a", "a-", "a..b", ".", "ä", "a_b", "a\nb", "a;reboot", &long] {
            let text = minke_wire::json::json!({"hostname": bad, "uuid": "0123456789"}).to_string();
            let name = named(&text);
            assert_eq!(name.name, "0123456", "{bad}");
            let problem = name.problem.unwrap();
            assert!(problem.contains("RFC 1123") && !problem.contains('\n'), "{problem}");
        }
        let name = named(r#"{"hostname":5,"uuid":"0123456789"}"#);
        assert_eq!(name.problem.unwrap(), "hostname is a number and should be a string; using 0123456");
    }

    #[test]
    fn valid_names() {
        for good in ["a", "A-1", "0x", "host.example.com", &"a".repeat(63)] {
            assert!(is_host_name(good), "{good}");
        }
        assert!(!is_host_name(""));
        assert!(!is_host_name(&format!("{0}.{0}", "a".repeat(32))));
    }
}
