//! The orders for a container's shim (`RUN/spec.json`), from its record, its image and its addresses.

use super::Container;
use super::create::{self, host_ports, parse_port};
use super::mount::{Kind, Mount};
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use minke_wire::json::{Map, Value};
use std::path::{Path, PathBuf};

/// What the engine contributes.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The container's folder below the data root.
    pub folder: &'a Path,
    /// The image's layers, lowest first.
    pub layers: &'a [PathBuf],
    /// Links to make, `shim::network`'s endpoints; the first one's address gets the published ports.
    pub endpoints: Vec<Value>,
    /// First processes of containers whose namespaces are joined: by `NetworkMode`, `PidMode`, `IpcMode`.
    pub joined: [i32; 3],
    /// The control group; empty when the machine has none.
    pub group: PathBuf,
    /// The journal's native socket.
    pub journal: &'a Path,
    /// The host's name, for host networking.
    pub host_name: &'a str,
}

/// The orders.
pub fn orders(container: &Container, with: &Surroundings<'_>) -> Result<Value> {
    let (config, host) = (&container.config, &container.host);
    let network_mode = host.text("NetworkMode");
    let (upper, work, root) = (with.folder.join("upper"), with.folder.join("work"), with.folder.join("root"));
    let mut arguments = config.texts("Entrypoint");
    arguments.extend(config.texts("Cmd"));
    let hostname = if network_mode == "host" && config.text("Hostname").is_empty() {
        with.host_name
    } else {
        config.text("Hostname")
    };
    let layers: Vec<String> = with.layers.iter().rev().map(|path| path.display().to_string()).collect();
    let limits: Vec<Value> = host
        .items("Ulimits")
        .iter()
        .map(|limit| json!({ "name": limit.text("Name"), "soft": limit.number("Soft"), "hard": limit.number("Hard") }))
        .collect();
    let devices: Vec<Value> = host.items("Devices").iter().map(device).collect();
    let [network_pid, pid_pid, ipc_pid] = with.joined;
    Ok(json!({
        "id": container.id, "name": container.name, "journal": with.journal.display().to_string(),
        "layers": layers, "upper": upper.display().to_string(), "work": work.display().to_string(),
        "root": root.display().to_string(), "read_only": host.flag("ReadonlyRootfs"),
        "args": arguments, "env": environment(config, hostname), "cwd": config.text("WorkingDir"),
        "user": config.text("User"), "groups": host.texts("GroupAdd"),
        "hostname": hostname, "domainname": config.text("Domainname"), "uts_host": host.text("UTSMode") == "host",
        "tty": config.flag("Tty"), "stdin": config.flag("OpenStdin"), "stdin_once": config.flag("StdinOnce"),
        "init": host.flag("Init"), "privileged": host.flag("Privileged"),
        "no_new_privileges": no_new_privileges(host), "capabilities": create::capabilities(host)?.0,
        "mounts": mounts(container, with.folder), "devices": devices, "rlimits": limits,
        "sysctls": host.at("Sysctls"), "shm_size": host.number("ShmSize"), "oom_score_adj": host.number("OomScoreAdj"),
        "stop_signal": container.stop_signal(),
        "cgroup": { "path": with.group.display().to_string(), "settings": settings(host) },
        "pid": namespace(host.text("PidMode"), pid_pid), "ipc": namespace(host.text("IpcMode"), ipc_pid),
        "network": {
            "mode": match network_mode {
                "host" => "host",
                mode if mode.starts_with("container:") => "join",
                _ => "own",
            },
            "pid": network_pid, "endpoints": with.endpoints, "ports": ports(container, &with.endpoints)?
        }
    }))
}

fn namespace(mode: &str, pid: i32) -> Value {
    match mode {
        "host" => json!({ "mode": "host" }),
        mode if mode.starts_with("container:") => json!({ "mode": "join", "pid": pid }),
        _ => json!({ "mode": "own" }),
    }
}

/// The search path of containers whose image names none: as the reference has it.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of a process by `Env` and `Tty`: the defaults that it does not set itself, then its own.
pub fn environment(config: &Value, hostname: &str) -> Vec<String> {
    let wanted = config.texts("Env");
    let mut environment = Vec::new();
    let mut add = |entry: String| {
        let name = entry.split_once('=').map_or("", |(name, _)| name).to_owned();
        if !wanted.iter().any(|own| own.split_once('=').is_some_and(|(own, _)| own == name)) {
            environment.push(entry);
        }
    };
    add(PATH.to_owned());
    add(format!("HOSTNAME={hostname}"));
    if config.flag("Tty") {
        add("TERM=xterm".to_owned());
    }
    // An entry without a value asks for its absence.
    environment.extend(wanted.into_iter().filter(|entry| entry.contains('=')));
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

fn device(device: &Value) -> Value {
    let source = device.text("PathOnHost");
    let target = match device.text("PathInContainer") {
        "" => source,
        target => target,
    };
    let access = match device.text("CgroupPermissions") {
        "" => "rwm",
        access => access,
    };
    json!({ "source": source, "target": target, "access": access })
}

fn mounts(container: &Container, folder: &Path) -> Vec<Value> {
    let mut list: Vec<Value> = container.mounts.iter().map(one_mount).collect();
    for name in ["hosts", "hostname", "resolv.conf"] {
        let target = format!("/etc/{name}");
        if container.mounts.iter().any(|mount| mount.target == target || mount.target == "/etc") {
            continue;
        }
        list.push(
            json!({ "type": "bind", "source": folder.join(name).display().to_string(), "target": target }),
        );
    }
    list
}

fn one_mount(mount: &Mount) -> Value {
    if mount.kind == Kind::Tmpfs {
        return json!({ "type": "tmpfs", "target": mount.target, "options": mount.options });
    }
    let copy = mount.kind == Kind::Volume && !mount.no_copy;
    // The marker stands beside the volume's content folder.
    let marker = Path::new(&mount.source).with_file_name("filling");
    json!({
        "type": "bind", "source": mount.source, "target": mount.target, "read_only": mount.read_only,
        "propagation": mount.propagation, "copy": copy, "marker": marker.display().to_string()
    })
}

/// One CPU's share of time is given out in periods of this many microseconds.
const PERIOD: i64 = 100_000;

/// Files of cgroup v2 with their values (Documentation/admin-guide/cgroup-v2.rst).
fn settings(host: &Value) -> Map {
    let mut files = Map::new();
    let mut set = |file: &str, value: String| files.insert(file.to_owned(), Value::String(value));
    let (memory, swap) = (host.number("Memory"), host.number("MemorySwap"));
    if memory > 0 {
        set("memory.max", memory.to_string());
        match swap {
            // As much swap as memory, unless told.
            0 => set("memory.swap.max", memory.to_string()),
            ..0 => set("memory.swap.max", "max".to_owned()),
            _ => set("memory.swap.max", swap.saturating_sub(memory).max(0).to_string()),
        };
    }
    if host.number("MemoryReservation") > 0 {
        set("memory.low", host.number("MemoryReservation").to_string());
    }
    if host.number("PidsLimit") > 0 {
        set("pids.max", host.number("PidsLimit").to_string());
    }
    let period = match host.number("CpuPeriod") {
        ..=0 => PERIOD,
        period => period,
    };
    if host.number("NanoCpus") > 0 {
        let quota = host.number("NanoCpus").saturating_mul(PERIOD) / 1_000_000_000;
        set("cpu.max", format!("{} {PERIOD}", quota.max(1000)));
    } else if host.number("CpuQuota") > 0 {
        set("cpu.max", format!("{} {period}", host.number("CpuQuota")));
    }
    let shares = host.number("CpuShares");
    if shares > 0 {
        // 2…262144 maps onto 1…10000, as runc has it.
        let weight = shares.clamp(2, 262_144).saturating_sub(2).saturating_mul(9999) / 262_142;
        set("cpu.weight", weight.saturating_add(1).to_string());
    }
    for (key, file) in [("CpusetCpus", "cpuset.cpus"), ("CpusetMems", "cpuset.mems")] {
        if !host.text(key).is_empty() {
            set(file, host.text(key).to_owned());
        }
    }
    files
}

/// Published ports, with the container's first address as their target.
fn ports(container: &Container, endpoints: &[Value]) -> Result<Vec<Value>> {
    let address =
        endpoints.iter().map(|endpoint| endpoint.text("address")).find(|address| !address.is_empty());
    let Some(address) = address else { return Ok(Vec::new()) };
    let mut list = Vec::new();
    let mut publish = |key: &str, ip: &str, host_port: u16| -> Result<()> {
        let (port, protocol) = parse_port(key)?;
        if matches!(protocol, "tcp" | "udp") {
            list.push(json!({ "key": key_of(port, protocol), "host_ip": ip, "host_port": host_port, "address": address, "port": port }));
        } else {
            minke_applet::log::warn(format_args!(
                "container {}: port {key} is not published, only TCP and UDP are",
                container.name
            ));
        }
        Ok(())
    };
    for (key, bindings) in container.host.entries("PortBindings") {
        for binding in bindings.as_array().map_or(&[][..], Vec::as_slice) {
            let text = binding.text("HostPort");
            let host_port =
                if text.is_empty() { Some(0) } else { host_ports(text).map(|range| *range.start()) };
            let host_port =
                host_port.ok_or_else(|| ApiError::bad(format!("invalid port specification: '{text}'")))?;
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

/// `80/tcp`.
fn key_of(port: u16, protocol: &str) -> String {
    format!("{port}/{protocol}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    #[test]
    fn limits_become_files() {
        let files = settings(
            &json!({ "Memory": 64 << 20, "PidsLimit": 9, "NanoCpus": 1_500_000_000i64, "CpuShares": 1024, "CpusetCpus": "0-1" }),
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
