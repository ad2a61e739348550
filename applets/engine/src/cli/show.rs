//! Tables and streams.

use super::{Api, Line, Outcome, failed, print_json};
use crate::fields::Fields;
use minke_http::client::Body;
use minke_http::escape;
use minke_sys::stdio;
use minke_wire::json::Value;
use std::fmt::Write as _;

/// What stands between the cells of a row.
const CELL: char = '\0';

/// `ps`.
pub fn containers(api: &Api, line: &Line) -> Outcome {
    let list = api.get(&format!("/containers/json?all={}", u8::from(line.has('a'))))?;
    let mut rows = vec!["CONTAINER ID\0IMAGE\0COMMAND\0STATUS\0PORTS\0NAMES".to_owned()];
    for container in list.elements() {
        let id = short(container.text("Id"));
        if line.has('q') {
            minke_applet::outln!("{id}");
            continue;
        }
        let image = container.text("Image");
        let image = if image.starts_with("sha256:") { short(image) } else { image };
        let (command, status) = (container.text("Command"), container.text("Status"));
        let mut row = format!("{id}\0{image}\0\"{command:.20}\"\0{status}\0");
        for (index, port) in container.items("Ports").iter().enumerate() {
            let _ = write!(
                row,
                "{}{}:{}->{}/{}",
                if index == 0 { "" } else { ", " },
                port.text("IP"),
                port.number("PublicPort"),
                port.number("PrivatePort"),
                port.text("Type")
            );
        }
        for (index, name) in container.texts("Names").iter().enumerate() {
            row.push(if index == 0 { CELL } else { ',' });
            row.push_str(name.trim_start_matches('/'));
        }
        rows.push(row);
    }
    if !line.has('q') {
        table(&rows);
    }
    Ok(())
}

/// `images`.
pub fn images(api: &Api, line: &Line) -> Outcome {
    let list = api.get("/images/json")?;
    let mut rows = vec!["REPOSITORY\0TAG\0IMAGE ID\0SIZE".to_owned()];
    for image in list.elements() {
        let id = short(image.text("Id"));
        if line.has('q') {
            minke_applet::outln!("{id}");
            continue;
        }
        let mut tags = image.texts("RepoTags");
        if tags.is_empty() {
            tags.push("<none>:<none>".to_owned());
        }
        for tag in &tags {
            let (repository, tag) = tag.rsplit_once(':').unwrap_or((tag.as_str(), ""));
            rows.push(format!("{repository}\0{tag}\0{id}\0{}", size(image.number("Size"))));
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
    let mut answer = api.open("GET", &target, Body::None)?;
    let mut buffer = Vec::new();
    while let Some(piece) = answer.next_piece().map_err(failed)? {
        buffer.extend_from_slice(&piece);
        if raw {
            let _ = stdio::output(&buffer);
            buffer.clear();
        }
        while let Some((head, rest)) = buffer.split_first_chunk::<8>().filter(|_| !raw) {
            let [kind, _, _, _, a, b, c, d] = *head;
            let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            let Some(text) = rest.get(..length) else { break };
            let _ = if kind == 2 { stdio::error(text) } else { stdio::output(text) };
            buffer.drain(..length.saturating_add(8));
        }
    }
    Ok(())
}

fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

/// In whole units of 1000, as the reference shows sizes.
fn size(bytes: i64) -> String {
    let mut value = bytes.max(0);
    for unit in &["B", "kB", "MB", "GB"] {
        if value < 10_000 {
            return format!("{value}{unit}");
        }
        value /= 1000;
    }
    format!("{value}TB")
}

/// Prints rows with their cells below each other.
fn table(rows: &[String]) {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (index, cell) in row.split(CELL).enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(index) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.split(CELL).zip(&widths) {
            let _ = write!(line, "{cell:width$}   ");
        }
        minke_applet::outln!("{}", line.trim_end());
    }
}
