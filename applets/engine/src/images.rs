//! Image work that takes time: loads and removals, in threads.

use crate::api::Call;
use crate::engine::{Done, Engine};
use crate::error::{ApiError, Result};
use crate::fields::json;
use minke_http::Conn;
use minke_oci::{ImageStore, Platform, Progress, Removal};
use minke_wire::json::Value;
use std::fs::File;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;

/// An archive that a client is sending.
#[derive(Debug)]
pub struct Upload {
    /// Its connection.
    pub conn: Conn,
    path: PathBuf,
    file: Result<File>,
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Loaded or given up: the archive is not needed any more.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Begins to receive an archive. It goes to the disk, as an archive is read in no fixed order.
#[expect(clippy::unnecessary_wraps, reason = "the form of a route")]
pub fn upload_begin(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let serial = engine.next_serial();
    let path = engine.options.data.join("tmp").join(format!("load-{serial}.tar"));
    let file = minke_sys::file::open(&path, minke_sys::file::CREATE_NEW).map_err(ApiError::from);
    engine.uploads.push(Upload { conn: call.conn, path, file });
    Ok(())
}

/// A piece came.
pub fn upload_piece(engine: &mut Engine, conn: Conn, data: &[u8]) {
    let Some(upload) = engine.uploads.iter_mut().find(|upload| upload.conn == conn) else { return };
    let failure = match &mut upload.file {
        Ok(file) => {
            let _limit = minke_sys::capability::out_of_reserve();
            file.write_all(data).err()
        }
        Err(_) => None,
    };
    if let Some(error) = failure {
        upload.file = Err(ApiError::internal(format_args!("write {}: {error}", upload.path.display())));
    }
}

/// All of it came: loads it in a thread.
pub fn upload_end(engine: &mut Engine, conn: Conn) {
    let Some(index) = engine.uploads.iter().position(|upload| upload.conn == conn) else { return };
    let upload = engine.uploads.remove(index);
    if let Err(error) = &upload.file {
        engine.fail(conn, &error.clone());
        return;
    }
    let store = engine.images;
    let work = move || Done::Load(conn, load(store, &upload));
    if let Err(error) = in_background(engine, Box::new(work)) {
        engine.fail(conn, &error);
    }
}

/// Loads an archive. Returns the lines for the client.
fn load(store: &ImageStore, upload: &Upload) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut progress = |step: Progress<'_>| {
        if let Progress::LayerDone(id) = step {
            let id = id.to_string();
            lines.push(json!({ "status": "Loading layer", "id": id.get(7..19), "progressDetail": {} }));
        }
        ControlFlow::Continue(())
    };
    match store.load_archive(&upload.path, &Platform::host(), &mut progress) {
        Ok(images) => {
            for image in &images {
                if image.names.is_empty() {
                    lines.push(json!({ "stream": format!("Loaded image ID: {}\n", image.id) }));
                }
                for name in &image.names {
                    lines.push(json!({ "stream": format!("Loaded image: {name}\n") }));
                }
            }
        }
        Err(error) => {
            let text = error.to_string();
            lines.push(json!({ "errorDetail": { "message": text }, "error": text }));
        }
    }
    lines
}

/// The load ended.
pub fn answer_load(engine: &mut Engine, conn: Conn, lines: &[Value]) {
    crate::api::start_json_stream(engine, conn);
    for line in lines {
        let _ = engine.server.send(conn, format!("{line}\n").as_bytes());
    }
    engine.server.finish(conn);
}

/// Removes an image in a thread; layers may hold many files.
pub fn remove(engine: &mut Engine, call: &Call<'_>) -> Result<()> {
    let (conn, name, force) = (call.conn, call.name.to_owned(), call.flag("force"));
    let used: Vec<String> = engine.containers.iter().map(|container| container.image.clone()).collect();
    let store = engine.images;
    let work = move || {
        let in_use = |id: &minke_oci::Digest| used.contains(&id.to_string());
        let removals = store.remove(&name, force, &in_use);
        Done::Answer(conn, removals.map_err(ApiError::from).map(|removals| removal_lines(&removals)))
    };
    in_background(engine, Box::new(work))
}

fn removal_lines(removals: &[Removal]) -> Value {
    let mut lines = Vec::new();
    for removal in removals {
        lines.push(match removal {
            Removal::Untagged(name) => json!({ "Untagged": name }),
            Removal::Deleted(id) => json!({ "Deleted": id.to_string() }),
        });
    }
    Value::Array(lines)
}

/// Does `work` in a thread; the engine's loop takes what came of it.
fn in_background(engine: &Engine, work: Box<dyn FnOnce() -> Done + Send>) -> Result<()> {
    let results = engine.results;
    let work = move || results.push(work());
    Ok(minke_sys::thread::spawn("images", Box::new(work))?)
}
