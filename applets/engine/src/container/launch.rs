//! The orders for a container's shim (`RUN/spec.json`), from its record, its image and its addresses.

use super::Container;
use super::create::{self, host_port, parse_port};
use super::mount::{TMPFS, VOLUME};
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use minke_wire::json::{Map, Value};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// What the engine contributes.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The container's folder below the data root.
    pub folder: &'a Path,
    /// The image's layers, lowest first.
    pub layers: &'a [PathBuf],
    /// Links to make, `shim::network`'s endpoints; the first one's address gets the published ports.
    pub endpoints: &'a [Value],
    /// First processes of containers whose namespaces are joined: by `NetworkMode`, `PidMode`, `IpcMode`.
    pub joined: [i32; 3],
    /// The control group; empty when the machine has none.
    pub group: &'a Path,
    /// The journal's native socket.
    pub journal: &'a Path,
}

/// Members of the orders that stand in `Config`.
const FROM_CONFIG: &[(&str, &str)] = &[
    ("cwd", "WorkingDir"),
    ("user", "User"),
    ("hostname", "Hostname"),
    ("domainname", "Domainname"),
    ("tty", "Tty"),
    ("stdin", "OpenStdin"),
    ("stdin_once", "StdinOnce"),
];

/// Members of the orders that stand in `HostConfig`.
const FROM_HOST: &[(&str, &str)] = &[
    ("read_only", "ReadonlyRootfs"),
    ("groups", "GroupAdd"),
    ("init", "Init"),
    ("privileged", "Privileged"),
    ("sysctls", "Sysctls"),
    ("shm_size", "ShmSize"),
    ("oom_score_adj", "OomScoreAdj"),
];

/// The orders.
pub fn orders(container: &Container, with: &Surroundings<'_>) -> Result<Value> {
    let (config, host) = (&container.config, &container.host);
    let (capabilities, ports) = (create::capabilities(host)?.0, ports(container, with.endpoints)?);
    let folder = with.folder.display();
    let mut layers = Vec::new();
    for layer in with.layers.iter().rev() {
        layers.push(layer.display().to_string());
    }
    let [network_pid, pid_pid, ipc_pid] = with.joined;
    let mut network = namespace(host.text("NetworkMode"), network_pid);
    network.set("endpoints", &with.endpoints);
    network.set("ports", &ports);
    let mut orders = json!({
        "id": container.id, "name": container.name, "journal": with.journal.display().to_string(),
        "layers": layers, "upper": format!("{folder}/upper"), "work": format!("{folder}/work"),
        "root": format!("{folder}/root"), "args": container.command(), "uts_host": host.text("UTSMode") == "host",
        "no_new_privileges": no_new_privileges(host), "capabilities": capabilities,
        "mounts": mounts(container, with.folder), "devices": devices(host), "rlimits": limits(host),
        "stop_signal": container.stop_signal(),
        "cgroup": { "path": with.group.display().to_string(), "settings": settings(host) },
        "pid": namespace(host.text("PidMode"), pid_pid), "ipc": namespace(host.text("IpcMode"), ipc_pid),
        "network": network
    });
    copy_members(&mut orders, config, FROM_CONFIG);
    copy_members(&mut orders, host, FROM_HOST);
    if host.text("NetworkMode") == "host" && config.text("Hostname").is_empty() {
        orders.set("hostname", &crate::engine::kernel_setting("hostname"));
    }
    orders.set("env", &environment(config, orders.text("hostname")));
    Ok(orders)
}

fn copy_members(to: &mut Value, from: &Value, names: &[(&str, &str)]) {
    for (new, old) in names {
        to.set(new, from.at(old));
    }
}

fn namespace(mode: &str, pid: i32) -> Value {
    let mode = match mode {
        "host" => "host",
        mode if mode.starts_with("container:") => "join",
        _ => "own",
    };
    json!({ "mode": mode, "pid": pid })
}

/// The search path of containers whose image names none: as the reference has it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of a process by `Env` and `Tty`: the defaults that it does not set itself, then its own.
pub fn environment(config: &Value, hostname: &str) -> Vec<String> {
    let wanted = config.texts("Env");
    let mut environment = vec![PATH.to_owned(), format!("HOSTNAME={hostname}")];
    if config.flag("Tty") {
        environment.push("TERM=xterm".to_owned());
    }
    environment.retain(|default| {
        let name = create::variable(default);
        !wanted.iter().any(|own| own.len() > name.len() && create::variable(own) == name)
    });
    // An entry without a value asks for its absence.
    for entry in &wanted {
        if entry.contains('=') {
            environment.push(entry.clone());
        }
    }
    environment
}

/// `no-new-privileges`, `no-new-privileges:true`, `no-new-privileges=true`.
fn no_new_privileges(host: &Value) -> bool {
    let options = host.texts("SecurityOpt");
    options
        .iter()
        .filter_map(|option| option.strip_prefix("no-new-privileges"))
        .any(|rest| !rest.ends_with("false"))
}

fn devices(host: &Value) -> Vec<Value> {
    let mut list = Vec::new();
    for device in host.items("Devices") {
        let source = device.text("PathOnHost");
        let target = match device.text("PathInContainer") {
            "" => source,
            target => target,
        };
        let access = match device.text("CgroupPermissions") {
            "" => "rwm",
            access => access,
        };
        list.push(json!({ "source": source, "target": target, "access": access }));
    }
    list
}

fn limits(host: &Value) -> Vec<Value> {
    let mut list = Vec::new();
    for limit in host.items("Ulimits") {
        list.push(
            json!({ "name": limit.text("Name"), "soft": limit.number("Soft"), "hard": limit.number("Hard") }),
        );
    }
    list
}

fn mounts(container: &Container, folder: &Path) -> Vec<Value> {
    let mut list = Vec::new();
    for mount in &container.mounts {
        list.push(one_mount(mount));
    }
    for name in &["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{name}");
        let hides =
            |mount: &Value| mount.text("Destination") == target || mount.text("Destination") == "/etc";
        if container.mounts.iter().any(hides) {
            continue;
        }
        let source = format!("{}/{name}", folder.display());
        list.push(json!({ "type": "bind", "source": source, "target": target }));
    }
    list
}

fn one_mount(mount: &Value) -> Value {
    let (kind, source, target) = (mount.text("Type"), mount.at("Source"), mount.at("Destination"));
    if kind == TMPFS {
        return json!({ "type": kind, "target": target, "options": mount.at("Options") });
    }
    let copy = kind == VOLUME && !mount.flag("NoCopy");
    // The marker stands beside the volume's content folder.
    let marker = Path::new(mount.text("Source")).with_file_name("filling");
    json!({
        "type": "bind", "source": source, "target": target, "read_only": !mount.flag("RW"),
        "propagation": mount.at("Propagation"), "copy": copy, "marker": marker.display().to_string()
    })
}

/// One CPU's share of time is given out in periods of this many microseconds.
const PERIOD: i64 = 100_000;

/// Files of cgroup v2 with their values (Documentation/admin-guide/cgroup-v2.rst).
fn settings(host: &Value) -> Map {
    let mut files = Map::new();
    let mut set = |file: &str, value: &dyn Display| {
        files.insert(file, Value::String(value.to_string()));
    };
    let (memory, swap) = (host.number("Memory"), host.number("MemorySwap"));
    if memory > 0 {
        set("memory.max", &memory);
        match swap {
            // As much swap as memory, unless told.
            0 => set("memory.swap.max", &memory),
            ..0 => set("memory.swap.max", &"max"),
            _ => set("memory.swap.max", &swap.saturating_sub(memory).max(0)),
        }
    }
    for (key, file) in &[("MemoryReservation", "memory.low"), ("PidsLimit", "pids.max")] {
        let limit = host.number(key);
        if limit > 0 {
            set(file, &limit);
        }
    }
    let (processors, quota) = (host.number("NanoCpus"), host.number("CpuQuota"));
    if processors > 0 {
        let quota = processors.saturating_mul(PERIOD) / 1_000_000_000;
        set("cpu.max", &format_args!("{} {PERIOD}", quota.max(1000)));
    } else if quota > 0 {
        let period = match host.number("CpuPeriod") {
            ..=0 => PERIOD,
            period => period,
        };
        set("cpu.max", &format_args!("{quota} {period}"));
    }
    let shares = host.number("CpuShares");
    if shares > 0 {
        // 2…262144 maps onto 1…10000, as runc has it.
        let weight = shares.clamp(2, 262_144).saturating_sub(2).saturating_mul(9999) / 262_142;
        set("cpu.weight", &weight.saturating_add(1));
    }
    for (key, file) in &[("CpusetCpus", "cpuset.cpus"), ("CpusetMems", "cpuset.mems")] {
        if !host.text(key).is_empty() {
            set(file, &host.text(key));
        }
    }
    files
}

/// Published ports, with the container's first address as their target.
fn ports(container: &Container, endpoints: &[Value]) -> Result<Vec<Value>> {
    let mut addresses = endpoints.iter().map(|endpoint| endpoint.text("address"));
    let Some(address) = addresses.find(|address| !address.is_empty()) else { return Ok(Vec::new()) };
    let mut list = Vec::new();
    let mut publish = |key: &str, ip: &str, host_port: u16| -> Result<()> {
        let (port, protocol) = parse_port(key)?;
        if matches!(protocol, "tcp" | "udp") {
            let key = format!("{port}/{protocol}");
            list.push(json!({ "key": key, "host_ip": ip, "host_port": host_port, "address": address, "port": port }));
        } else {
            minke_applet::log::warn(format_args!(
                "container {}: port {key} is not published, only TCP and UDP are",
                container.name
            ));
        }
        Ok(())
    };
    for (key, bindings) in container.host.entries("PortBindings") {
        for binding in bindings.elements() {
            let text = binding.text("HostPort");
            let host_port = match (text, host_port(text)) {
                ("", _) => 0,
                (_, Some(port)) => port,
                _ => return Err(ApiError::bad(format_args!("invalid port specification: '{text}'"))),
            };
            publish(key, binding.text("HostIp"), host_port)?;
        }
    }
    if container.host.flag("PublishAllPorts") {
        for (key, _) in container.config.entries("ExposedPorts") {
            if container.host.at("PortBindings").get(key).is_none() {
                publish(key, "", 0)?;
            }
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    #[test]
    fn limits_become_files() {
        let files = settings(
            &json!({ "Memory": 64 << 20, "PidsLimit": 9, "NanoCpus": 1500 * 1_000_000i64, "CpuShares": 1024, "CpusetCpus": "0-1" }),
        );
        let shown: Vec<String> =
            files.iter().map(|(file, value)| format!("{file}={}", value.as_str().unwrap())).collect();
        assert_eq!(
            shown,
            [
                "memory.max=67108864",
                "memory.swap.max=67108864",
                "pids.max=9",
                "cpu.max=150000 100000",
                "cpu.weight=39",
                "cpuset.cpus=0-1"
            ]
        );
        assert!(settings(&json!({ "Memory": 0, "PidsLimit": -1 })).is_empty());
    }

    #[test]
    fn environments_have_a_path_and_no_entries_without_value() {
        let config = json!({ "Tty": true, "Env": ["A=1", "GONE", "HOSTNAME=mine"] });
        assert_eq!(environment(&config, "h"), [PATH, "TERM=xterm", "A=1", "HOSTNAME=mine"]);
        assert!(no_new_privileges(&json!({ "SecurityOpt": ["no-new-privileges"] })));
        assert!(!no_new_privileges(&json!({ "SecurityOpt": ["no-new-privileges:false"] })));
        assert!(!no_new_privileges(&json!({})));
    }
}
