//! `/images`, `/networks`, `/volumes`.

use super::{Call, filters_fit, inspect, label_fits, list, no_such_page};
use crate::engine::Engine;
use crate::error::{ApiError, Result};
use crate::fields::Fields;
use crate::fields::json;
use crate::{images, network};
use minke_http::Response;
use minke_oci::Reference;
use minke_wire::json::Value;

/// Routes what follows `/images/`. Image names hold slashes, so they are what stands between the ends.
pub fn images(engine: &mut Engine, call: &Call<'_>, method: &str, parts: &[&str]) -> Result<()> {
    let conn = call.conn;
    match (method, parts) {
        ("GET", ["json"]) => {
            let result = list::images(engine, call);
            engine.answer(conn, result);
        }
        ("POST", ["load"]) => images::upload_begin(engine, conn),
        ("POST", ["create"]) => {
            let name = call.query("fromImage");
            return Err(ApiError::new(
                501,
                format!("cannot pull {name}: this engine does not pull images yet; load an archive instead"),
            ));
        }
        ("POST", ["prune"]) => {
            let freed = engine.images.collect()?;
            engine.answer(conn, Ok(json!({ "ImagesDeleted": null, "SpaceReclaimed": freed })));
        }
        ("GET", [name @ .., "json"]) => {
            let result = inspect::image(engine, &name.join("/"));
            engine.answer(conn, result);
        }
        ("GET", [name @ .., "history"]) => {
            let result = history(engine, &name.join("/"));
            engine.answer(conn, result);
        }
        ("POST", [name @ .., "tag"]) => {
            let (repository, tag) = (call.query("repo"), call.query("tag"));
            let text = if tag.is_empty() { repository.to_owned() } else { format!("{repository}:{tag}") };
            let reference = Reference::parse(&text).map_err(|error| ApiError::bad(error.to_string()))?;
            engine.images.tag(&name.join("/"), &reference)?;
            engine.server.respond(conn, Response::empty(201));
        }
        ("DELETE", name @ [_, ..]) => images::remove(engine, conn, name.join("/"), call.flag("force")),
        _ => return Err(no_such_page()),
    }
    Ok(())
}

fn history(engine: &Engine, query: &str) -> Result<Value> {
    let image = engine.images.get(query)?;
    let config = engine.images.config(&image.id)?;
    let entries = config.document().items("history").iter().rev().map(|entry| {
        json!({
            "Id": "<missing>", "Created": crate::time::parse_rfc3339(entry.text("created")), "CreatedBy": entry.text("created_by"),
            "Tags": null, "Size": 0, "Comment": entry.text("comment")
        })
    });
    Ok(entries.collect())
}

/// Routes what follows `/networks/`.
pub fn networks(engine: &mut Engine, call: &Call<'_>, method: &str, parts: &[&str]) -> Result<()> {
    let conn = call.conn;
    match (method, parts) {
        ("GET", []) => {
            let filters = call.filters()?;
            let fits = |network: &&Value| {
                filters_fit(&filters, &|key: &str, value: &str| match key {
                    "name" => network.text("Name").contains(value),
                    "id" => network.text("Id").starts_with(value),
                    "driver" => network.text("Driver") == value,
                    "type" => (network.text("Created") == crate::time::NEVER) == (value == "builtin"),
                    "label" => label_fits(network.at("Labels"), value),
                    _ => true,
                })
            };
            let shown: Value = engine
                .networks
                .list()
                .iter()
                .filter(fits)
                .map(|network| inspect::network(engine, network))
                .collect();
            engine.answer(conn, Ok(shown));
        }
        ("POST", ["create"]) => {
            let made = engine.networks.create(&call.body()?, &network::routed())?;
            // The supervisor looks for its bridge's address before any container is there.
            network::ensure_bridge(&made)?;
            engine.publish(
                "network",
                "create",
                made.text("Id"),
                &json!({ "name": made.text("Name"), "type": made.text("Driver") }),
            );
            let answer = json!({ "Id": made.text("Id"), "Warning": "" });
            engine.server.respond(conn, Response::json(201, answer.to_string().into_bytes()));
        }
        ("POST", ["prune"]) => {
            let names: Vec<String> = engine
                .networks
                .list()
                .iter()
                .skip(3)
                .map(|network| network.text("Name").to_owned())
                .collect();
            let unused: Vec<String> = names.into_iter().filter(|name| !is_used(engine, name)).collect();
            for name in &unused {
                engine.networks.remove(name, false)?;
            }
            engine.answer(conn, Ok(json!({ "NetworksDeleted": unused })));
        }
        ("GET", [name]) => {
            let found = engine.networks.get(name).map(|network| inspect::network(engine, network));
            engine.answer(conn, found);
        }
        ("POST", [name, "connect"]) => {
            let result = engine.connect(name, &call.body()?);
            engine.answer_status(conn, 200, &result);
        }
        ("POST", [name, "disconnect"]) => {
            let result = engine.disconnect(name, &call.body()?);
            engine.answer_status(conn, 200, &result);
        }
        ("DELETE", [name]) => {
            let full = engine.networks.get(name)?.text("Name").to_owned();
            let used = is_used(engine, &full);
            let id = engine.networks.remove(name, used)?;
            engine.publish("network", "destroy", &id, &json!({ "name": full, "type": "bridge" }));
            engine.answer_status(conn, 204, &Ok(()));
        }
        _ => return Err(no_such_page()),
    }
    Ok(())
}

/// Whether a container that runs has an endpoint on a network.
fn is_used(engine: &Engine, name: &str) -> bool {
    engine.containers.iter().any(|container| container.is_active() && container.networks.contains_key(name))
}

/// Routes what follows `/volumes/`.
pub fn volumes(engine: &mut Engine, call: &Call<'_>, method: &str, parts: &[&str]) -> Result<()> {
    let conn = call.conn;
    match (method, parts) {
        ("GET", []) => {
            let filters = call.filters()?;
            let fits = |volume: &&Value| {
                filters_fit(&filters, &|key: &str, value: &str| match key {
                    "name" => volume.text("Name").contains(value),
                    "label" => label_fits(volume.at("Labels"), value),
                    "dangling" => {
                        engine.volume_user(volume.text("Name")).is_none() == (value == "true" || value == "1")
                    }
                    _ => true,
                })
            };
            let shown: Value = engine.volumes.list().iter().filter(fits).cloned().collect();
            engine.answer(conn, Ok(json!({ "Volumes": shown, "Warnings": null })));
        }
        ("POST", ["create"]) => {
            let made = engine.volumes.create(&call.body()?)?;
            engine.server.respond(conn, Response::json(201, made.to_string().into_bytes()));
        }
        ("POST", ["prune"]) => {
            let filters = call.filters()?;
            let all = filters_fit(&filters, &|key: &str, value: &str| {
                key != "all" || value == "true" || value == "1"
            }) && !filters.at("all").is_null();
            let removable = |volume: &&Value| {
                engine.volume_user(volume.text("Name")).is_none()
                    && (all || label_fits(volume.at("Labels"), "com.docker.volume.anonymous"))
            };
            let names: Vec<String> = engine
                .volumes
                .list()
                .iter()
                .filter(removable)
                .map(|volume| volume.text("Name").to_owned())
                .collect();
            for name in &names {
                engine.volumes.remove(name, None)?;
            }
            engine.answer(conn, Ok(json!({ "VolumesDeleted": names, "SpaceReclaimed": 0 })));
        }
        ("GET", [name]) => {
            let found = engine.volumes.get(name).cloned();
            engine.answer(conn, found);
        }
        ("DELETE", [name]) => {
            let user = engine.volume_user(name);
            let result = engine.volumes.remove(name, user.as_deref());
            engine.answer_status(conn, 204, &result);
        }
        _ => return Err(no_such_page()),
    }
    Ok(())
}
