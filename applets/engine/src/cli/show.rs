//! Tables and streams.

use super::{Api, Line, Outcome, message, print_json};
use crate::fields::Fields;
use minke_http::client::Body;
use minke_http::escape;
use minke_wire::json::Value;
use std::io::Write;

/// `ps`.
pub fn containers(api: &Api, line: &Line) -> Outcome {
    let list = api.get(&format!("/containers/json?all={}", u8::from(line.has('a'))))?;
    let mut rows =
        vec![["CONTAINER ID", "IMAGE", "COMMAND", "STATUS", "PORTS", "NAMES"].map(str::to_owned).to_vec()];
    for container in list.as_array().into_iter().flatten() {
        let id = short(container.text("Id"));
        if line.has('q') {
            println!("{id}");
            continue;
        }
        let names: Vec<String> =
            container.texts("Names").iter().map(|name| name.trim_start_matches('/').to_owned()).collect();
        let ports: Vec<String> = container
            .items("Ports")
            .iter()
            .map(|port| {
                format!(
                    "{}:{}->{}/{}",
                    port.text("IP"),
                    port.number("PublicPort"),
                    port.number("PrivatePort"),
                    port.text("Type")
                )
            })
            .collect();
        let command: String = container.text("Command").chars().take(20).collect();
        let image = if container.text("Image").starts_with("sha256:") {
            short(container.text("Image"))
        } else {
            container.text("Image").to_owned()
        };
        rows.push(vec![
            id,
            image,
            format!("\"{command}\""),
            container.text("Status").to_owned(),
            ports.join(", "),
            names.join(","),
        ]);
    }
    if !line.has('q') {
        table(&rows);
    }
    Ok(())
}

/// `images`.
pub fn images(api: &Api, line: &Line) -> Outcome {
    let list = api.get("/images/json")?;
    let mut rows = vec![["REPOSITORY", "TAG", "IMAGE ID", "SIZE"].map(str::to_owned).to_vec()];
    for image in list.as_array().into_iter().flatten() {
        let id = short(image.text("Id"));
        if line.has('q') {
            println!("{id}");
            continue;
        }
        let mut tags = image.texts("RepoTags");
        if tags.is_empty() {
            tags.push("<none>:<none>".to_owned());
        }
        for tag in tags {
            let (repository, tag) = tag.rsplit_once(':').unwrap_or((tag.as_str(), ""));
            rows.push(vec![repository.to_owned(), tag.to_owned(), id.clone(), size(image.number("Size"))]);
        }
    }
    if !line.has('q') {
        table(&rows);
    }
    Ok(())
}

/// `inspect`: containers first, then images.
pub fn inspect(api: &Api, line: &Line) -> Outcome {
    let mut found = Vec::new();
    for name in &line.names {
        let name = escape(name);
        let document = api
            .get(&format!("/containers/{name}/json"))
            .or_else(|_| api.get(&format!("/images/{name}/json")));
        found.push(document.map_err(|_| format!("No such object: {name}"))?);
    }
    print_json(&Value::Array(found))
}

/// `logs`: takes the frames of the multiplexed stream apart.
pub fn logs(api: &Api, line: &Line) -> Outcome {
    let name = line.names.first().ok_or("logs needs a container")?;
    let raw = api.get(&format!("/containers/{}/json", escape(name)))?.at("Config").flag("Tty");
    let tail = line.value('n').map_or("all", |lines| lines);
    let target = format!(
        "/containers/{}/logs?stdout=1&stderr=1&follow={}&tail={}&timestamps={}",
        escape(name),
        u8::from(line.has('f')),
        escape(tail),
        u8::from(line.has('T'))
    );
    let failed = |error: minke_http::Error| error.to_string();
    let mut answer = api.client.clone_for(None).stream("GET", &target, &[], Body::None).map_err(failed)?;
    if answer.status != 200 {
        return Err(message(&answer.read_all(1 << 20).map_err(failed)?.body));
    }
    let mut buffer = Vec::new();
    while let Some(piece) = answer.next_piece().map_err(failed)? {
        buffer.extend_from_slice(&piece);
        if raw {
            let _ = std::io::stdout().write_all(&buffer);
            buffer.clear();
        }
        while let Some((head, rest)) = buffer.split_first_chunk::<8>().filter(|_| !raw) {
            let [kind, _, _, _, a, b, c, d] = *head;
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            let Some(text) = rest.get(..length) else { break };
            let _ =
                if kind == 2 { std::io::stderr().write_all(text) } else { std::io::stdout().write_all(text) };
            buffer.drain(..length.saturating_add(8));
        }
        let _ = std::io::stdout().flush();
    }
    Ok(())
}

fn short(id: &str) -> String {
    id.trim_start_matches("sha256:").chars().take(12).collect()
}

/// In whole units of 1000, as the reference shows sizes.
fn size(bytes: i64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes.max(0);
    for (index, unit) in units.iter().enumerate() {
        if value < 10_000 || index.saturating_add(1) == units.len() {
            return format!("{value}{unit}");
        }
        value /= 1000;
    }
    String::new()
}

fn table(rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        println!("{}", cells.collect::<Vec<_>>().join("   ").trim_end());
    }
}
