//! `GET /v2/state/status` (spec supervisor §1.8.2).

use super::auth::Access;
use crate::values::set;
use crate::view::{ContainerRow, ImageRow, View};
use minke_wire::json::{Value, json};

/// The answer for a caller with this access.
pub fn state_status(view: &View, access: Access) -> Value {
    let (mut containers, mut images) = (Vec::new(), Vec::new());
    for row in view.containers.iter().filter(|row| access.includes(row.app)) {
        containers.push(container(row, view));
    }
    for row in view.images.iter().filter(|row| access.includes(row.app)) {
        images.push(image(row, view));
    }
    let mut answer = json!({
        "status": "success",
        "appState": if view.applied { "applied" } else { "applying" },
        // Nothing is downloaded yet, so there is no mean over what is downloading.
        "overallDownloadProgress": null,
        "containers": containers,
        "images": images,
    });
    if let Some(release) = &view.release {
        set(&mut answer, "release", release.into());
    }
    // Not in the reference: why the target is not reached. Clients skip what they do not know.
    let mut problems = view.problems.clone();
    problems.extend(view.registration.clone());
    if access == Access::All && !problems.is_empty() {
        set(&mut answer, "problems", json!(problems));
    }
    answer
}

fn container(row: &ContainerRow, view: &View) -> Value {
    let changing = view.changing.as_ref().filter(|(service, _)| *service == row.service);
    json!({
        "status": changing.map_or(row.status.as_str(), |(_, status)| status),
        "serviceName": row.service,
        "appId": row.app,
        "imageId": row.image_id,
        "serviceId": row.service_id,
        "containerId": row.id,
        "createdAt": row.created,
    })
}

fn image(row: &ImageRow, view: &View) -> Value {
    let container = view.containers.iter().find(|found| found.app == row.app && found.service == row.service);
    let ready = row.engine_id.is_some();
    json!({
        "name": row.name,
        "appId": row.app,
        "serviceName": row.service,
        "imageId": container.map(|found| found.image_id),
        "dockerImageId": row.engine_id,
        "status": if ready { "Downloaded" } else { "Downloading" },
        "downloadProgress": if ready { None } else { Some(0) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    fn view() -> View {
        let row = |app: i64| ContainerRow {
            id: format!("c{app}"),
            app,
            service: "web".into(),
            service_id: 5,
            image_id: 6,
            status: "Running".into(),
            created: "2026".into(),
        };
        let image =
            ImageRow { name: "i:1".into(), app: 7, service: "web".into(), engine_id: Some("sha".into()) };
        View {
            applied: true,
            containers: vec![row(7), row(8)],
            images: vec![image],
            release: Some("c0ffee".into()),
            ..View::default()
        }
    }

    #[test]
    fn the_documented_shape() {
        let wanted = json!({
            "status": "success", "appState": "applied", "overallDownloadProgress": null,
            "containers": [{ "status": "Running", "serviceName": "web", "appId": 7, "imageId": 6, "serviceId": 5,
                "containerId": "c7", "createdAt": "2026" }],
            "images": [{ "name": "i:1", "appId": 7, "serviceName": "web", "imageId": 6, "dockerImageId": "sha",
                "status": "Downloaded", "downloadProgress": null }],
            "release": "c0ffee"
        });
        assert_eq!(state_status(&view(), Access::App(7)), wanted);
        assert_eq!(state_status(&view(), Access::All)["containers"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_is_being_done_shows() {
        let view = View { changing: Some(("web".into(), "Stopping")), applied: false, ..view() };
        let status = state_status(&view, Access::All);
        assert_eq!(
            (&status["appState"], &status["containers"][0]["status"]),
            (&json!("applying"), &json!("Stopping"))
        );
    }
}
