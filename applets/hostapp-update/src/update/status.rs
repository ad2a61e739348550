//! `hostapp-update status`: what each slot holds, which one starts next, what came of the last update.

use super::image::{Mounted, is_bootable};
use super::slots::Side;
use super::why::Result;
use super::{Update, slot};
use crate::rollback;
use minke_applet::outln;
use minke_boot::Chain;
use minke_boot::rule::TRIES;
use minke_config::os_release;
use minke_sys::space;
use minke_wire::json::{Value, json};

/// Prints it, for a person or as JSON.
pub fn print(update: &Update<'_>) -> Result<u8> {
    let report = report(update)?;
    if update.args.has("json") {
        outln!("{}", report.to_pretty());
        return Ok(0);
    }
    for name in ["active", "inactive"] {
        let side = report.get(name).unwrap_or(&Value::Null);
        let text = |key: &str| side.get(key).and_then(Value::as_str).unwrap_or("-");
        let number = |key: &str| side.get(key).and_then(Value::as_u64).unwrap_or(0);
        let (used, free) = (number("used") >> 20, number("free") >> 20);
        let id = text("id").get(..12).unwrap_or("no system");
        outln!(
            "{name:9} {} {}  {}  {id}  {used} MiB used, {free} MiB free",
            text("slot"),
            text("device"),
            text("version")
        );
        if let Some(kept) = side.get("interrupted").and_then(Value::as_u64) {
            outln!(
                "          an interrupted update left {} MiB, with which the next one goes on",
                kept >> 20
            );
        }
    }
    let selection = report.get("selection").unwrap_or(&Value::Null);
    let text = |key: &str| selection.get(key).and_then(Value::as_str).unwrap_or("-");
    let trial = match selection.get("trial") {
        Some(Value::Bool(true)) => {
            let tries = selection.get("tries").and_then(Value::as_u64).unwrap_or(0);
            format!("on trial, started {tries} of {TRIES} times")
        }
        _ => "for good".to_owned(),
    };
    outln!("selected  {}, {trial} ({})", text("slot"), text("chain"));
    match report.get("rollback") {
        Some(Value::Object(members)) => {
            for (key, value) in members.iter() {
                outln!("rollback  {key}: {}", value.as_str().map_or_else(|| value.to_text(), str::to_owned));
            }
        }
        _ => outln!("rollback  none"),
    }
    Ok(0)
}

fn report(update: &Update<'_>) -> Result<Value> {
    let slots = update.slots()?;
    let active = side(&slots.active, os_release(&update.path("etc/os-release")).version());
    let version = match slot::mounted(&slots) {
        Ok(()) => slot::current(&slots.inactive.place)
            .map(|id| slot::folder(&slots.inactive.place, &id))
            .filter(|app| is_bootable(app))
            .and_then(|app| Some(Mounted::new(&app, &update.root).ok()?.os_release().version()?.to_owned())),
        Err(_) => None,
    };
    let mut inactive = side(&slots.inactive, version.as_deref());
    if let (Value::Object(members), Some(bytes)) = (&mut inactive, slot::interrupted(&slots.inactive.place)) {
        members.insert("interrupted", bytes.into());
    }
    let boot = update.boot();
    let selection = match Chain::find(&boot).and_then(|chain| Ok((chain, chain.read(&boot)?))) {
        Ok((chain, selection)) => json!({
            "chain": chain.name(),
            "slot": selection.root.letter(),
            "trial": selection.upgrade_available,
            "tries": selection.bootcount,
        }),
        Err(error) => json!({ "error": error.to_string() }),
    };
    let rollback = rollback::status(&update.root);
    Ok(json!({ "active": active, "inactive": inactive, "selection": selection, "rollback": rollback }))
}

fn side(side: &Side, version: Option<&str>) -> Value {
    let space = space::of(&side.place).ok();
    let used = space.map(|space| space.total.saturating_sub(space.free));
    json!({
        "slot": side.slot.letter(),
        "device": side.device.to_string_lossy().into_owned(),
        "version": version,
        "id": slot::current(&side.place),
        "used": used,
        "free": space.map(|space| space.available),
    })
}
