//! A container's environment (spec supervisor §3.4).

use super::Device;
use super::features::{Features, add, both};
use crate::target::{App, Pairs, Service};
use minke_wire::json::Value;

/// Where update locks and the end of a hand-over are looked for inside a container.
const LOCK: &str = "/tmp/balena/updates.lock";
const HANDOVER: &str = "/tmp/balena/handover-complete";

/// `NAME=value` of every variable: what features inject, then the user's, then the defaults, then the image's;
/// the first of a name wins.
pub fn environment(
    app: &App,
    service: &Service,
    composed: &Pairs,
    features: &Features,
    device: &Device,
    image: &[String],
) -> Value {
    let mut out = Pairs::new();
    let defaults = defaults(app, service, device);
    for pairs in [&features.environment, &service.environment, composed, &features.defaults, &defaults] {
        for (name, value) in pairs {
            add(&mut out, name, value);
        }
    }
    for (name, value) in image.iter().filter_map(|text| text.split_once('=')) {
        add(&mut out, name, value);
    }
    let mut lines = Vec::new();
    for (name, value) in out {
        lines.push(format!("{name}={value}").into());
    }
    Value::Array(lines)
}

fn defaults(app: &App, service: &Service, device: &Device) -> Pairs {
    let mut out = Pairs::new();
    let id = app.id.to_string();
    for (name, value) in [
        ("APP_ID", id.as_str()),
        ("APP_UUID", &app.uuid),
        ("APP_NAME", &app.name),
        ("SERVICE_NAME", &service.name),
        ("DEVICE_UUID", &device.uuid),
        ("DEVICE_TYPE", &device.device_type),
        ("DEVICE_ARCH", &device.arch),
        ("HOST_OS_VERSION", &device.os_version),
        ("APP_LOCK_PATH", LOCK),
    ] {
        both(&mut out, name, value);
    }
    for (name, value) in [
        ("BALENA", "1"),
        ("RESIN", "1"),
        ("USER", "root"),
        ("RESIN_SERVICE_KILL_ME_PATH", HANDOVER),
        ("BALENA_SERVICE_HANDOVER_COMPLETE_PATH", HANDOVER),
    ] {
        out.push((name.to_owned(), value.to_owned()));
    }
    out
}
