//! Labels (spec supervisor §3.5), and what the feature labels add to a container.

use super::Device;
use crate::target::Pairs;
use crate::values::truthy;
use minke_wire::json::{Value, json};

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
        let is_old = |name: &str| name.starts_with("io.resin.");
        for (name, value) in set.iter().filter(|(name, _)| !is_old(name)) {
            add(&mut out, name, value);
        }
        for (name, value) in set.iter().filter(|(name, _)| is_old(name)) {
            add(&mut out, &minke_wire::text::replace(name, "resin", "balena"), value);
        }
    }
    out
}

/// Adds a pair unless there is one of that name.
pub fn add(out: &mut Pairs, name: &str, value: &str) {
    if !out.iter().any(|(known, _)| known == name) {
        out.push((name.to_owned(), value.to_owned()));
    }
}

/// Whether the feature is switched on by its label.
pub fn has_feature(labels: &[(String, String)], feature: &str) -> bool {
    let name = format!("{SYSTEM}features.{feature}");
    labels.iter().any(|(label, value)| *label == name && truthy(value))
}

/// The features that bind folders of the host.
const BINDS: [(&str, &str); 9] = [
    ("dbus", "/run/dbus:/host/run/dbus"),
    ("sysfs", "/sys:/sys"),
    ("procfs", "/proc:/proc"),
    ("kernel-modules", "/lib/modules:/lib/modules"),
    ("firmware", "/lib/firmware:/lib/firmware"),
    ("journal-logs", "/var/log/journal:/var/log/journal:ro"),
    ("journal-logs", "/run/log/journal:/run/log/journal:ro"),
    ("journal-logs", "/etc/machine-id:/etc/machine-id:ro"),
    ("extra-firmware", "extra-firmware:/extra-firmware"),
];

/// What the labels of a service add; `host_network` and `key` (its key for the supervisor's API) say how it
/// reaches the supervisor.
pub fn features(labels: &[(String, String)], device: &Device, host_network: bool, key: &str) -> Features {
    let on = |feature| has_feature(labels, feature);
    let mut out = Features { supervisor_api: on("supervisor-api"), ..Features::default() };
    for (feature, bind) in BINDS {
        let absent = match feature {
            "kernel-modules" => !device.has_modules,
            "firmware" => !device.has_firmware,
            _ => false,
        };
        if !absent && on(feature) {
            out.binds.push(bind.to_owned());
        }
    }
    if on("extra-firmware") {
        out.volumes.push("extra-firmware".to_owned());
    }
    if on("balena-socket") {
        engine_socket(&mut out, &device.engine_socket);
    }
    let host = if host_network { "127.0.0.1" } else { super::network::SUPERVISOR_GATEWAY };
    let port = device.listen_port.to_string();
    let address = format!("http://{host}:{port}");
    for (feature, name, value) in [
        ("balena-api", "API_KEY", device.device_api_key.as_str()),
        ("balena-api", "API_URL", &device.api_endpoint),
        ("supervisor-api", "SUPERVISOR_API_KEY", key),
        ("supervisor-api", "SUPERVISOR_PORT", &port),
        ("supervisor-api", "SUPERVISOR_HOST", host),
        ("supervisor-api", "SUPERVISOR_ADDRESS", &address),
        ("host-os.board-rev", "HOST_OS_BOARD_REV", &device.board_rev),
        ("host-os.board-rev", "HOST_OS_BUILD", &device.board_rev),
    ] {
        if on(feature) {
            both(&mut out.environment, name, value);
        }
    }
    if on("gpu") {
        out.devices.push(json!({
            "Driver": "", "Count": 1, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}
        }));
    }
    out
}

fn engine_socket(out: &mut Features, path: &str) {
    const INSIDE: &str = "/host/run/balena-engine.sock";
    const USUAL: &str = "/var/run/balena.sock";
    for target in [INSIDE, path, USUAL] {
        if target != USUAL || path != USUAL {
            out.mounts.push(json!({ "Type": "bind", "Source": path, "Target": target }));
        }
    }
    out.defaults.push(("DOCKER_HOST".to_owned(), format!("unix://{INSIDE}")));
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
