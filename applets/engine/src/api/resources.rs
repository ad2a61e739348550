//! `/images`, `/networks`, `/volumes`.

use super::Handler::{Empty, Json, Own};
use super::{Call, Route, filters_fit, inspect, is_true, label_fits, list};
use crate::engine::Engine;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use crate::{images, network, pull};
use minke_oci::Reference;
use minke_wire::json::Value;

/// `/images`, `/networks` and `/volumes`.
pub const ROUTES: &[Route] = &[
    ("GET images/json", Json(200, list::images)),
    ("POST images/load", Own(images::upload_begin)),
    ("POST images/create", Own(pull::begin)),
    ("POST images/prune", Json(200, prune_images)),
    ("GET images/**/json", Json(200, inspect::image)),
    ("GET images/**/history", Json(200, history)),
    ("POST images/**/tag", Empty(201, tag)),
    ("DELETE images/**", Own(images::remove)),
    ("GET networks", Json(200, networks)),
    ("POST networks/create", Json(201, create_network)),
    ("POST networks/prune", Json(200, prune_networks)),
    ("GET networks/*", Json(200, inspect::network)),
    ("POST networks/*/connect", Empty(200, |engine, call| engine.connect(call.name, &call.body()?))),
    ("POST networks/*/disconnect", Empty(200, |engine, call| engine.disconnect(call.name, &call.body()?))),
    ("DELETE networks/*", Empty(204, remove_network)),
    ("GET volumes", Json(200, volumes)),
    ("POST volumes/create", Json(201, |engine, call| engine.volumes.create(&call.body()?))),
    ("POST volumes/prune", Json(200, prune_volumes)),
    ("GET volumes/*", Json(200, |engine, call| engine.volumes.get(call.name).cloned())),
    ("DELETE volumes/*", Empty(204, remove_volume)),
];

fn prune_images(engine: &mut Engine, _: &Call<'_>) -> Result<Value> {
    let freed = engine.images.collect()?;
    Ok(json!({ "ImagesDeleted": null, "SpaceReclaimed": freed }))
}

fn tag(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let (mut text, tag) = (call.query("repo").to_owned(), call.query("tag"));
    if !tag.is_empty() {
        text = format!("{text}:{tag}");
    }
    let reference = Reference::parse(&text).map_err(|error| ApiError::bad(format_args!("{error}")))?;
    Ok(engine.images.tag(call.name, &reference)?)
}

fn history(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let image = engine.images.get(call.name)?;
    let config = engine.images.config(&image.id)?;
    let mut entries = Vec::new();
    for entry in config.document().items("history").iter().rev() {
        entries.push(json!({
            "Id": "<missing>", "Created": crate::time::parse_rfc3339(entry.text("created")), "CreatedBy": entry.text("created_by"),
            "Tags": null, "Size": 0, "Comment": entry.text("comment")
        }));
    }
    Ok(Value::Array(entries))
}

fn networks(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let filters = call.filters()?;
    let mut shown = Vec::new();
    for network in engine.networks.list() {
        let fits = |key: &str, value: &str| match key {
            "name" => minke_wire::text::contains(network.text("Name"), value),
            "id" => network.text("Id").starts_with(value),
            "driver" => network.text("Driver") == value,
            "type" => (network.text("Created") == crate::time::NEVER) == (value == "builtin"),
            "label" => label_fits(network.at("Labels"), value),
            _ => true,
        };
        if filters_fit(&filters, &fits) {
            shown.push(inspect::network_document(engine, network));
        }
    }
    Ok(Value::Array(shown))
}

fn create_network(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let made = engine.networks.create(&call.body()?, &network::routed())?;
    // The supervisor looks for its bridge's address before any container is there.
    network::ensure_bridge(&made)?;
    let id = made.text("Id");
    let attributes = json!({ "name": made.text("Name"), "type": made.text("Driver") });
    engine.publish("network", "create", id, &attributes);
    Ok(json!({ "Id": id, "Warning": "" }))
}

fn prune_networks(engine: &mut Engine, _: &Call<'_>) -> Result<Value> {
    let mut unused = Vec::new();
    for network in engine.networks.list().iter().skip(3) {
        let name = network.text("Name");
        if !is_used(engine, name) {
            unused.push(name.to_owned());
        }
    }
    for name in &unused {
        engine.networks.remove(name, false)?;
    }
    Ok(json!({ "NetworksDeleted": unused }))
}

fn remove_network(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let name = engine.networks.get(call.name)?.text("Name").to_owned();
    let used = is_used(engine, &name);
    let id = engine.networks.remove(call.name, used)?;
    engine.publish("network", "destroy", &id, &json!({ "name": name, "type": "bridge" }));
    Ok(())
}

/// Whether a container that runs has an endpoint on a network.
fn is_used(engine: &Engine, name: &str) -> bool {
    engine.containers.iter().any(|container| container.is_active() && container.networks.contains_key(name))
}

fn volumes(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let filters = call.filters()?;
    let mut shown = Vec::new();
    for volume in engine.volumes.list() {
        let fits = |key: &str, value: &str| match key {
            "name" => minke_wire::text::contains(volume.text("Name"), value),
            "label" => label_fits(volume.at("Labels"), value),
            "dangling" => engine.volume_user(volume.text("Name")).is_none() == is_true(value),
            _ => true,
        };
        if filters_fit(&filters, &fits) {
            shown.push(volume.clone());
        }
    }
    Ok(json!({ "Volumes": shown, "Warnings": null }))
}

fn prune_volumes(engine: &mut Engine, call: &Call<'_>) -> Result<Value> {
    let filters = call.filters()?;
    let all =
        !filters.at("all").is_null() && filters_fit(&filters, &|key, value| key != "all" || is_true(value));
    let mut names = Vec::new();
    for volume in engine.volumes.list() {
        let name = volume.text("Name");
        let fits = all || label_fits(volume.at("Labels"), "com.docker.volume.anonymous");
        if fits && engine.volume_user(name).is_none() {
            names.push(name.to_owned());
        }
    }
    for name in &names {
        engine.volumes.remove(name, None)?;
    }
    Ok(json!({ "VolumesDeleted": names, "SpaceReclaimed": 0 }))
}

fn remove_volume(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let user = engine.volume_user(call.name).map(str::to_owned);
    engine.volumes.remove(call.name, user.as_deref())
}
