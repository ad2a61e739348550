//! Labels (spec supervisor §3.5), and what the feature labels add to a container.

use super::Device;
use crate::target::Pairs;
use crate::values::{empty, object, truthy};
use minke_wire::json::Value;

/// Labels that the supervisor sets begin with this.
const SYSTEM: &str = "io.balena.";

/// What feature labels add.
#[derive(Debug, Default)]
pub struct Features {
    /// Variables that win over the user's.
    pub environment: Pairs,
    /// Variables that give way to the user's.
    pub defaults: Pairs,
    /// Binds in short form.
    pub binds: Vec<String>,
    /// Mounts in long form.
    pub mounts: Vec<Value>,
    /// Device requests.
    pub devices: Vec<Value>,
    /// Named volumes that are used as they are called.
    pub volumes: Vec<String>,
    /// The service uses the supervisor's API.
    pub supervisor_api: bool,
}

/// Merges labels: those earlier in `sets` win. `io.resin.` names become `io.balena.` ones, of which one that
/// is there already wins (§3.5.2).
pub fn labels(sets: &[&[(String, String)]]) -> Pairs {
    let mut out = Pairs::new();
    for set in sets {
        let (old, new): (Vec<_>, Vec<_>) = set.iter().partition(|(name, _)| name.starts_with("io.resin."));
        for (name, value) in new {
            add(&mut out, name.clone(), value);
        }
        for (name, value) in old {
            add(&mut out, name.replace("resin", "balena"), value);
        }
    }
    out
}

fn add(out: &mut Pairs, name: String, value: &str) {
    if !out.iter().any(|(known, _)| *known == name) {
        out.push((name, value.to_owned()));
    }
}

/// Whether the feature is switched on by its label.
pub fn has_feature(labels: &[(String, String)], feature: &str) -> bool {
    let name = format!("{SYSTEM}features.{feature}");
    labels.iter().any(|(label, value)| *label == name && truthy(value))
}

/// What the labels of a service add; `host_network` and `key` (its key for the supervisor's API) say how it
/// reaches the supervisor.
pub fn features(labels: &[(String, String)], device: &Device, host_network: bool, key: &str) -> Features {
    let on = |feature| has_feature(labels, feature);
    let mut out = Features::default();
    for (feature, present, bind) in [
        ("dbus", true, "/run/dbus:/host/run/dbus"),
        ("sysfs", true, "/sys:/sys"),
        ("procfs", true, "/proc:/proc"),
        ("kernel-modules", device.has_modules, "/lib/modules:/lib/modules"),
        ("firmware", device.has_firmware, "/lib/firmware:/lib/firmware"),
        ("journal-logs", true, "/var/log/journal:/var/log/journal:ro"),
        ("journal-logs", true, "/run/log/journal:/run/log/journal:ro"),
        ("journal-logs", true, "/etc/machine-id:/etc/machine-id:ro"),
        ("extra-firmware", true, "extra-firmware:/extra-firmware"),
    ] {
        if present && on(feature) {
            out.binds.push(bind.to_owned());
        }
    }
    if on("extra-firmware") {
        out.volumes.push("extra-firmware".to_owned());
    }
    if on("balena-socket") {
        engine_socket(&mut out, &device.engine_socket);
    }
    if on("balena-api") {
        both(&mut out.environment, "API_KEY", &device.device_api_key);
        both(&mut out.environment, "API_URL", &device.api_endpoint);
    }
    if on("supervisor-api") {
        out.supervisor_api = true;
        supervisor_api(&mut out.environment, device, host_network, key);
    }
    if on("host-os.board-rev") {
        both(&mut out.environment, "HOST_OS_BOARD_REV", &device.board_rev);
        both(&mut out.environment, "HOST_OS_BUILD", &device.board_rev);
    }
    if on("gpu") {
        out.devices.push(gpu());
    }
    out
}

fn engine_socket(out: &mut Features, path: &str) {
    const INSIDE: &str = "/host/run/balena-engine.sock";
    const USUAL: &str = "/var/run/balena.sock";
    let mut targets = vec![INSIDE, path];
    if path != USUAL {
        targets.push(USUAL);
    }
    out.mounts.extend(targets.iter().map(|to| bind(path, to)));
    out.defaults.push(("DOCKER_HOST".to_owned(), format!("unix://{INSIDE}")));
}

fn bind(source: &str, target: &str) -> Value {
    object(vec![("Type", "bind".into()), ("Source", source.into()), ("Target", target.into())])
}

fn gpu() -> Value {
    object(vec![
        ("Driver", "".into()),
        ("Count", 1.into()),
        ("DeviceIDs", Value::Array(Vec::new())),
        ("Capabilities", Value::Array(vec![vec!["gpu"].into()])),
        ("Options", empty()),
    ])
}

fn supervisor_api(out: &mut Pairs, device: &Device, host_network: bool, key: &str) {
    let host = if host_network { "127.0.0.1" } else { super::network::SUPERVISOR_GATEWAY };
    let port = device.listen_port.to_string();
    both(out, "SUPERVISOR_API_KEY", key);
    both(out, "SUPERVISOR_PORT", &port);
    both(out, "SUPERVISOR_HOST", host);
    both(out, "SUPERVISOR_ADDRESS", &format!("http://{host}:{port}"));
}

/// A variable with both prefixes.
pub fn both(out: &mut Pairs, name: &str, value: &str) {
    out.push((format!("BALENA_{name}"), value.to_owned()));
    out.push((format!("RESIN_{name}"), value.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Pairs {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn old_labels_are_renamed_and_new_ones_win() {
        let service = pairs(&[
            ("io.resin.features.resin-api", "1"),
            ("io.resin.features.dbus", "0"),
            ("io.balena.features.dbus", "1"),
            ("com.resin.x", "y"),
        ]);
        let image = pairs(&[("com.resin.x", "image"), ("only", "image")]);
        let merged = labels(&[&service, &image]);
        let get =
            |name: &str| merged.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str());
        assert_eq!(get("io.balena.features.balena-api"), Some("1"));
        assert_eq!((get("io.balena.features.dbus"), get("io.resin.features.dbus")), (Some("1"), None));
        assert_eq!((get("com.resin.x"), get("only")), (Some("y"), Some("image")));
    }

    #[test]
    fn only_truthy_labels_count_and_host_paths_must_exist() {
        let device = Device { has_modules: false, has_firmware: true, ..Device::sample() };
        let on = pairs(&[
            ("io.balena.features.dbus", "no"),
            ("io.balena.features.sysfs", "true"),
            ("io.balena.features.kernel-modules", "1"),
            ("io.balena.features.firmware", "1"),
        ]);
        assert_eq!(features(&on, &device, false, "").binds, ["/sys:/sys", "/lib/firmware:/lib/firmware"]);
    }

    #[test]
    fn the_way_to_the_supervisor_depends_on_the_network() {
        let on = pairs(&[("io.balena.features.supervisor-api", "1")]);
        let address = |host| {
            let found = features(&on, &Device::sample(), host, "k");
            found.environment.into_iter().find(|(name, _)| name == "BALENA_SUPERVISOR_ADDRESS").unwrap().1
        };
        assert_eq!(address(false), "http://10.114.104.1:48484");
        assert_eq!(address(true), "http://127.0.0.1:48484");
    }

    #[test]
    fn the_engine_socket_appears_where_programs_look_for_it() {
        let on = pairs(&[("io.balena.features.balena-socket", "1")]);
        let found = features(&on, &Device::sample(), false, "");
        let targets: Vec<_> = found.mounts.iter().map(|mount| mount["Target"].as_str().unwrap()).collect();
        let wanted = ["/host/run/balena-engine.sock", "/run/balena-engine.sock", "/var/run/balena.sock"];
        assert_eq!(targets, wanted);
        assert_eq!(found.defaults[0].1, "unix:///host/run/balena-engine.sock");
    }
}
