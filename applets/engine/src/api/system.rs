//! `/_ping`, `/version`, `/info`, `/events`, `/system/df`.

use super::Handler::{Json, Own};
use super::{API_VERSION, Call, OLDEST_API_VERSION, Route, start_json_stream};
use crate::engine::{Engine, kernel_setting};
use crate::error::{ApiError, Result};
use crate::events::Subscriber;
use crate::fields::json;
use minke_http::Response;
use minke_wire::json::Value;

/// Readers of events at a time.
const SUBSCRIBER_LIMIT: usize = 64;

/// What belongs to no kind of object.
pub const ROUTES: &[Route] = &[
    ("GET _ping", Own(ping)),
    ("GET version", Json(200, |_, _| Ok(version()))),
    ("GET info", Json(200, info)),
    ("GET events", Own(events)),
    (
        "GET system/df",
        Json(200, |_, _| {
            Ok(json!({ "LayersSize": 0, "Images": [], "Containers": [], "Volumes": [], "BuildCache": [] }))
        }),
    ),
    (
        "POST auth",
        Own(|_, _| Err(ApiError::new(501, format_args!("this engine does not log in to registries yet")))),
    ),
    ("POST build/prune", Json(200, |_, _| Ok(json!({ "CachesDeleted": null, "SpaceReclaimed": 0 })))),
    ("POST build", Own(|_, _| Err(ApiError::new(501, format_args!("this engine does not build images"))))),
];

#[expect(clippy::unnecessary_wraps, reason = "the form of a route")]
fn ping(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let mut response = Response::text(200, "OK");
    for (name, value) in &[
        ("Api-Version", API_VERSION),
        ("OSType", "linux"),
        ("Docker-Experimental", "true"),
        ("Builder-Version", "1"),
    ] {
        response.headers.push(name, value);
    }
    engine.server.respond(call.conn, response);
    Ok(())
}

fn events(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    if engine.subscribers.len() >= SUBSCRIBER_LIMIT {
        return Err(ApiError::new(503, format_args!("too many readers of events")));
    }
    let filters = call.filters()?;
    start_json_stream(engine, call.conn);
    engine.subscribers.push(Subscriber { conn: call.conn, filters });
    Ok(())
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
    let kernel = kernel_setting("osrelease");
    json!({
        "Platform": { "Name": "minke engine" }, "Version": build.version, "ApiVersion": API_VERSION,
        "MinAPIVersion": OLDEST_API_VERSION, "GitCommit": "", "GoVersion": "", "Os": "linux", "Arch": architecture(),
        "KernelVersion": kernel, "BuildTime": built, "Experimental": true,
        "Components": [{
            "Name": "Engine", "Version": build.version,
            "Details": {
                "ApiVersion": API_VERSION, "Arch": architecture(), "BuildTime": built, "Experimental": "true", "GitCommit": "",
                "GoVersion": "", "KernelVersion": kernel, "MinAPIVersion": OLDEST_API_VERSION, "Os": "linux"
            }
        }]
    })
}

#[expect(clippy::unnecessary_wraps, reason = "the form of a route")]
fn info(engine: &mut Engine, _: &Call<'_>) -> Result<Value> {
    let running = engine.containers.iter().filter(|container| container.is_running()).count();
    let meminfo = minke_sys::file::text("/proc/meminfo");
    let memory = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let memory = memory.and_then(|line| minke_wire::text::number::<u64>(line.trim().strip_suffix(" kB")?));
    let controllers = minke_sys::cgroup::get(&engine.group, "cgroup.subtree_control").unwrap_or_default();
    let has = |name: &str| controllers.split_whitespace().any(|controller| controller == name);
    let (memory_group, processor_group) = (has("memory"), has("cpu"));
    Ok(json!({
        "ID": "", "Containers": engine.containers.len(), "ContainersRunning": running, "ContainersPaused": 0,
        "ContainersStopped": engine.containers.len().saturating_sub(running), "Images": engine.images.list().len(),
        "Driver": "overlay2", "DriverStatus": [],
        "Plugins": { "Volume": ["local"], "Network": ["bridge", "host", "null"], "Authorization": null, "Log": ["journald"] },
        "MemoryLimit": memory_group, "SwapLimit": memory_group, "CpuCfsPeriod": processor_group,
        "CpuCfsQuota": processor_group, "CPUShares": processor_group, "CPUSet": has("cpuset"), "PidsLimit": has("pids"),
        "IPv4Forwarding": false, "Debug": false, "NFd": 0, "OomKillDisable": false, "NGoroutines": 0,
        "SystemTime": crate::time::rfc3339(minke_sys::clock::realtime()), "LoggingDriver": "journald",
        "CgroupDriver": "cgroupfs", "CgroupVersion": "2", "NEventsListener": engine.subscribers.len(),
        "KernelVersion": kernel_setting("osrelease"), "OperatingSystem": operating_system(), "OSType": "linux",
        "Architecture": std::env::consts::ARCH, "NCPU": minke_sys::machine::processors(),
        "MemTotal": memory.unwrap_or(0).saturating_mul(1024),
        "IndexServerAddress": "https://index.docker.io/v1/", "RegistryConfig": null, "GenericResources": null,
        "DockerRootDir": engine.options.data.display().to_string(), "HttpProxy": "", "HttpsProxy": "", "NoProxy": "",
        "Name": kernel_setting("hostname"), "Labels": [], "ExperimentalBuild": true,
        "ServerVersion": minke_applet::build().version, "Runtimes": { "runc": { "path": "minke" } },
        "DefaultRuntime": "runc", "Swarm": { "LocalNodeState": "inactive" }, "LiveRestoreEnabled": true,
        "Isolation": "", "InitBinary": "engine-init", "SecurityOptions": [], "Warnings": null
    }))
}

fn operating_system() -> String {
    let text = minke_sys::file::text("/etc/os-release");
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
