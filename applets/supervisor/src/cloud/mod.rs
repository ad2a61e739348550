//! What the supervisor has to do with the cloud: for now the device's registration (spec supervisor §2.2). It is a thread of
//! its own, beside the local API and what runs on the device, and ends when the device is registered.
//!
//! The cloud is believed by its certificate, and a certificate has dates: nothing is asked before the clock can be trusted,
//! or five minutes have passed. `registered_at` is a time, too.

mod api;
mod facts;
mod registration;

use crate::values::int;
use crate::view::Shared;
use api::{Api, Error};
use minke_applet::log;
use minke_config::{Config, Loaded, Origin, Store, generate_key};
use minke_control::time;
use minke_sys::clock;
use registration::Step;
use std::time::Duration;

/// The usual pause between attempts, and the shortest, in milliseconds (`bootstrapRetryDelay`).
const RETRY_DELAY: u64 = 30_000;
const SHORTEST_DELAY: u64 = 1_000;

/// Whether the device belongs to a cloud that does not know it yet.
pub fn is_unregistered(config: &Config) -> bool {
    registration::next(config) != Step::Done
}

/// Registers the device, of this type, if the cloud does not know it yet. Tries again until it has worked.
pub fn register(store: &Store, device_type: &str, shared: &Shared) {
    let mut has_waited = false;
    loop {
        // Anew for each attempt: a person may be at work on the file.
        let Loaded { config, origin, problem, .. } = *store.load();
        let why = match (registration::next(&config), problem) {
            // Defaults do not say whether the device belongs to a cloud.
            (Step::Done, Some(problem)) if origin == Origin::Default => format!("config.json {problem}"),
            (Step::Done, _) => {
                shared.get().registration = None;
                return;
            }
            (step, _) => {
                if !std::mem::replace(&mut has_waited, true) {
                    wait_for_clock(shared);
                }
                match attempt(store, &config, step, device_type) {
                    Ok(id) => {
                        log::info(format_args!("Device is registered with the cloud, as {id}"));
                        continue;
                    }
                    Err(error) => error.to_string(),
                }
            }
        };
        say(shared, &why);
        let delay = config.number("bootstrapRetryDelay").unwrap_or(RETRY_DELAY);
        time::pause(Duration::from_millis(delay.max(SHORTEST_DELAY)));
    }
}

fn wait_for_clock(shared: &Shared) {
    if !time::is_doubtful() || time::is_sane() {
        return;
    }
    say(shared, "waiting for the time: the clock is not known to be right");
    if !time::wait_until_sane(time::CLOCK_LIMIT) {
        log::warn(format_args!("the clock is not known to be right: the cloud's certificate may be refused"));
    }
    shared.get().registration = None;
}

/// Shows why the device is not registered, and logs it once.
fn say(shared: &Shared, why: &str) {
    let line = format!("registration with the cloud: {why}");
    let told = shared.get().registration.replace(line.clone());
    if told.as_ref() != Some(&line) {
        log::warn(format_args!("{line}"));
    }
}

/// One attempt; the device's number in the cloud.
fn attempt(store: &Store, config: &Config, step: Step, device_type: &str) -> Result<i64, Error> {
    let api = Api::new(config)?;
    let known = match step {
        Step::Register => Some(api.register(device_type)?),
        Step::Exchange | Step::Done => api.exchange()?,
    };
    match known {
        Some(id) => keep(store, config, id),
        // Only where the cloud has said so: a number in `config.json` is of a device that was there.
        None if config.get("deviceId").is_none() => Err(renew(store, config)),
        None => Err(Error::Unknown),
    }
}

/// Stores the registration in one step.
///
/// Power cut: before it the cloud knows the device and the device does not know that; the next start registers the same
/// device with the same key, is told that there is one, and goes on from there. After it all is done.
fn keep(store: &Store, config: &Config, id: i64) -> Result<i64, Error> {
    let now = i64::try_from(clock::realtime().as_millis()).unwrap_or(i64::MAX);
    change(store, config, &mut |fresh| {
        fresh.set("registered_at", now.into());
        fresh.set("deviceId", id.into());
        fresh.remove("apiKey");
    })?;
    Ok(id)
}

/// Makes the device another one, which is then registered: the cloud has lost the one that it was (§2.2.3).
///
/// Power cut: it is the old one, of which the cloud says the same again, or the new one.
fn renew(store: &Store, config: &Config) -> Error {
    let renewed = generate_key().and_then(|uuid| Ok((uuid, generate_key()?)));
    let result = renewed.map_err(Error::System).and_then(|(uuid, key)| {
        change(store, config, &mut |fresh| {
            fresh.set("uuid", uuid.as_str().into());
            fresh.set("deviceApiKey", key.as_str().into());
            fresh.remove("registered_at");
        })
    });
    result.err().unwrap_or(Error::Renewed)
}

/// Changes `config.json`, unless the device has become another one's meanwhile.
fn change(store: &Store, config: &Config, change: &mut dyn FnMut(&mut Config)) -> Result<(), Error> {
    let mut is_same = false;
    let written = store.update(&mut |fresh| {
        is_same = registration::IDENTITY.iter().all(|key| fresh.string(key) == config.string(key));
        if is_same {
            change(fresh);
        }
    });
    written.map_err(Error::Config)?;
    if is_same { Ok(()) } else { Err(Error::Changed) }
}
