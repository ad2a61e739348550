//! `/_ping`, `/version`, `/info`, `/events`, `/system/df`.

use super::{API_VERSION, Call, OLDEST_API_VERSION, no_such_page};
use crate::engine::Engine;
use crate::error::{ApiError, Result};
use crate::events::Subscriber;
use crate::fields::json;
use minke_http::{Headers, Response};
use minke_wire::json::Value;

/// Readers of events at a time.
const SUBSCRIBER_LIMIT: usize = 64;

/// Routes everything that belongs to no kind of object.
pub fn route(engine: &mut Engine, call: &Call<'_>, method: &str, parts: &[&str]) -> Result<()> {
    let conn = call.conn;
    match (method, parts) {
        ("GET", ["_ping"]) => {
            let mut response = Response::text(200, "OK");
            for (name, value) in [
                ("Api-Version", API_VERSION),
                ("OSType", "linux"),
                ("Docker-Experimental", "true"),
                ("Builder-Version", "1"),
            ] {
                response.headers.push(name, value);
            }
            engine.server.respond(conn, response);
        }
        ("GET", ["version"]) => engine.answer(conn, Ok(version())),
        ("GET", ["info"]) => {
            let document = info(engine);
            engine.answer(conn, Ok(document));
        }
        ("GET", ["events"]) => {
            if engine.subscribers.len() >= SUBSCRIBER_LIMIT {
                return Err(ApiError::new(503, "too many readers of events"));
            }
            let filters = call.filters()?;
            let mut headers = Headers::default();
            headers.push("Content-Type", "application/json");
            engine.server.start_stream(conn, 200, &headers);
            engine.subscribers.push(Subscriber { conn, filters });
        }
        ("GET", ["system", "df"]) => engine.answer(
            conn,
            Ok(json!({
                "LayersSize": 0, "Images": [], "Containers": [], "Volumes": [], "BuildCache": []
            })),
        ),
        ("POST", ["auth"]) => {
            return Err(ApiError::new(501, "this engine does not log in to registries yet"));
        }
        ("POST", ["build", "prune"]) => {
            engine.answer(conn, Ok(json!({ "CachesDeleted": null, "SpaceReclaimed": 0 })));
        }
        ("POST", ["build"]) => return Err(ApiError::new(501, "this engine does not build images")),
        _ => return Err(no_such_page()),
    }
    Ok(())
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// The processor in Go's names.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn version() -> Value {
    let build = minke_applet::build();
    let built = crate::time::rfc3339(std::time::Duration::from_secs(build.time));
    json!({
        "Platform": { "Name": "minke engine" }, "Version": build.version, "ApiVersion": API_VERSION,
        "MinAPIVersion": OLDEST_API_VERSION, "GitCommit": "", "GoVersion": "", "Os": "linux", "Arch": architecture(),
        "KernelVersion": kernel(), "BuildTime": built, "Experimental": true,
        "Components": [{
            "Name": "Engine", "Version": build.version,
            "Details": {
                "ApiVersion": API_VERSION, "Arch": architecture(), "BuildTime": built, "Experimental": "true", "GitCommit": "",
                "GoVersion": "", "KernelVersion": kernel(), "MinAPIVersion": OLDEST_API_VERSION, "Os": "linux"
            }
        }]
    })
}

fn info(engine: &Engine) -> Value {
    let count = |running: bool| {
        engine.containers.iter().filter(|container| container.is_running() == running).count()
    };
    let processors = minke_sys::machine::processors();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    let controllers = minke_sys::cgroup::get(&engine.group, "cgroup.subtree_control").unwrap_or_default();
    let has = |name: &str| controllers.split_whitespace().any(|controller| controller == name);
    let mut info = json!({
        "ID": "", "Containers": engine.containers.len(), "ContainersRunning": count(true), "ContainersPaused": 0,
        "ContainersStopped": count(false), "Images": engine.images.list().len(), "Driver": "overlay2", "DriverStatus": [],
        "Plugins": { "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["journald"] },
        "MemoryLimit": has("memory"), "SwapLimit": has("memory"), "CpuCfsPeriod": has("cpu"), "CpuCfsQuota": has("cpu"),
        "CPUShares": has("cpu"), "CPUSet": has("cpuset"), "PidsLimit": has("pids"), "IPv4Forwarding": false, "Debug": false,
        "NFd": 0, "OomKillDisable": false, "NGoroutines": 0, "SystemTime": crate::time::rfc3339(minke_sys::clock::realtime()),
        "LoggingDriver": "journald", "CgroupDriver": "cgroupfs", "CgroupVersion": "2", "NEventsListener": engine.subscribers.len(),
        "KernelVersion": kernel(), "OperatingSystem": operating_system(), "OSType": "linux",
        "Architecture": std::env::consts::ARCH, "NCPU": processors, "MemTotal": memory.unwrap_or(0).saturating_mul(1024)
    });
    let more = json!({
        "IndexServerAddress": "https://index.docker.io/v1/", "RegistryConfig": null, "GenericResources": null,
        "DockerRootDir": engine.options.data.display().to_string(), "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
        "Name": host_name(), "Labels": [], "ExperimentalBuild": true, "ServerVersion": minke_applet::build().version,
        "Runtimes": { "runc": { "path": "minke" } }, "DefaultRuntime": "runc", "Swarm": { "LocalNodeState": "inactive" },
        "LiveRestoreEnabled": true, "Isolation": "", "InitBinary": "engine-init", "SecurityOptions": [], "Warnings": null
    });
    crate::fields::object(&mut info).extend(more.as_object().cloned().unwrap_or_default());
    info
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.map(|value| value.trim_matches('"')).unwrap_or_default().to_owned()
}

/// Readers below the limit that share the connection limit: see [`super::limits`].
const _: () = assert!(SUBSCRIBER_LIMIT < 256);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Fields;

    #[test]
    fn the_version_has_what_clients_negotiate_with() {
        let document = version();
        assert_eq!(
            (document.text("ApiVersion"), document.text("MinAPIVersion"), document.text("Os")),
            ("1.43", "1.24", "linux")
        );
    }
}
