//! A container's environment (spec supervisor §3.4).

use super::Device;
use super::features::{Features, both};
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
    composed: Pairs,
    features: &Features,
    device: &Device,
    image: &[String],
) -> Vec<Value> {
    let mut out = Pairs::new();
    let mut add = |pairs: Pairs| {
        for (name, value) in pairs {
            if !out.iter().any(|(known, _)| *known == name) {
                out.push((name, value));
            }
        }
    };
    add(features.environment.clone());
    add(service.environment.clone());
    add(composed);
    add(features.defaults.clone());
    add(defaults(app, service, device));
    let pair = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    add(image.iter().filter_map(pair).collect());
    out.into_iter().map(|(name, value)| format!("{name}={value}").into()).collect()
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
