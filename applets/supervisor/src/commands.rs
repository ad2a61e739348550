//! Commands for people: `supervisor status` and `supervisor key`.

use crate::daemon::local_address;
use crate::settings::Settings;
use crate::state::State;
use crate::values::{list, word};
use minke_http::Client;
use minke_http::client::Body;
use minke_wire::json::Value;
use std::fmt::{self, Write};
use std::time::Duration;

/// Why a command failed.
#[derive(Debug)]
pub enum Error {
    /// The supervisor could not be asked.
    Ask(std::net::SocketAddr, minke_http::Error),
    /// It said no.
    Refused(u16, String),
    /// Its answer is not JSON.
    Answer,
    /// The state cannot be read.
    State(crate::state::Error),
    /// The device has no key yet.
    NoKey,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ask(address, error) => {
                write!(
                    f,
                    "ask the supervisor at {address}: {error}; see 'systemctl status balena-supervisor'"
                )
            }
            Self::Refused(401, _) => f.write_str("the supervisor wants its key: run this as root"),
            Self::Refused(status, text) => write!(f, "the supervisor answered {status}: {text}"),
            Self::Answer => f.write_str("the supervisor's answer is not JSON"),
            Self::State(error) => error.fmt(f),
            Self::NoKey => f.write_str("there is no key yet; the supervisor makes it when it first starts"),
        }
    }
}

/// Prints the device's key for the API.
pub fn key(settings: &Settings) -> Result<u8, Error> {
    let key = stored_key(settings).map_err(Error::State)?.ok_or(Error::NoKey)?;
    Ok(minke_applet::print(&format!("{key}\n")))
}

/// Reads only: a command must not make state that the service owns.
fn stored_key(settings: &Settings) -> Result<Option<String>, crate::state::Error> {
    if !minke_sys::status::is_dir(&settings.data) {
        return Ok(None);
    }
    let (state, _) = State::open(&settings.data)?;
    Ok(state.stored_key(0, None).map(str::to_owned))
}

/// Prints what runs.
pub fn status(settings: &Settings, json: bool) -> Result<u8, Error> {
    let address = local_address(settings);
    let client = Client::tcp(address).with_timeout(Some(Duration::from_secs(10)));
    let header = stored_key(settings).ok().flatten().map(|key| format!("Bearer {key}"));
    let header = header.as_ref().map(|value| ("Authorization", value.as_str()));
    let response = client
        .request("GET", "/v2/state/status", header.as_slice(), Body::None)
        .map_err(|error| Error::Ask(address, error))?;
    let text = String::from_utf8_lossy(&response.body);
    if response.status != 200 {
        return Err(Error::Refused(response.status, text.into_owned()));
    }
    let value: Value = minke_wire::json::parse(&response.body).map_err(|_| Error::Answer)?;
    if json {
        return Ok(minke_applet::print(&format!("{text}\n")));
    }
    Ok(minke_applet::print(&table(&value)))
}

/// A member for people.
fn cell<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(word).unwrap_or("-")
}

fn table(value: &Value) -> String {
    let mut rows = vec![["SERVICE", "STATUS", "APP", "CONTAINER", "IMAGE"]];
    let (containers, images) = (list(value.get("containers")), list(value.get("images")));
    let is_same = |one: &Value, other: &Value| {
        one["appId"] == other["appId"] && one["serviceName"] == other["serviceName"]
    };
    let row = |value, id, image| {
        [cell(value, "serviceName"), cell(value, "status"), cell(value, "appId"), id, image]
    };
    for container in containers {
        let image = images.iter().find(|image| is_same(image, container));
        let id = cell(container, "containerId");
        rows.push(row(container, id.get(..12).unwrap_or(id), image.map_or("-", |image| cell(image, "name"))));
    }
    for image in images {
        if !containers.iter().any(|container| is_same(image, container)) {
            rows.push(row(image, "-", cell(image, "name")));
        }
    }
    let mut out = format!("Target: {}, release {}\n", cell(value, "appState"), cell(value, "release"));
    for problem in list(value.get("problems")) {
        let _ = writeln!(out, "Problem: {}", problem.as_str().unwrap_or_default());
    }
    write_columns(&rows, &mut out);
    out
}

fn write_columns(rows: &[[&str; 5]], out: &mut String) {
    let mut widths = [0; 5];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ");
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_wire::json::json;

    #[test]
    fn the_table_lists_containers_and_services_without_one() {
        let value = json!({ "appState": "applying", "release": "c0ffee", "problems": ["db waits"],
            "containers": [{ "serviceName": "web", "status": "Running", "appId": 7, "containerId": "0123456789abcdef" }],
            "images": [{ "serviceName": "web", "appId": 7, "name": "i:1" },
                { "serviceName": "db", "appId": 7, "name": "d:1", "status": "Downloading" }] });
        let wanted = "Target: applying, release c0ffee\nProblem: db waits\n\
            SERVICE  STATUS       APP  CONTAINER     IMAGE\n\
            web      Running      7    0123456789ab  i:1\n\
            db       Downloading  7    -             d:1\n";
        assert_eq!(table(&value), wanted);
    }
}
