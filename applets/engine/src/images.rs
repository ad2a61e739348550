//! Image work that takes time: loads and removals, in threads.

use crate::engine::{Done, Engine};
use crate::error::{ApiError, Result};
use crate::fields::json;
use minke_http::{Conn, Headers};
use minke_oci::{Platform, Progress, Removal};
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
pub fn upload_begin(engine: &mut Engine, conn: Conn) {
    let serial = engine.next_serial();
    let path = engine.options.data.join("tmp").join(format!("load-{serial}.tar"));
    let file = File::create(&path)
        .map_err(|error| ApiError::internal(format!("create {}: {error}", path.display())));
    engine.uploads.push(Upload { conn, path, file });
}

/// A piece came.
pub fn upload_piece(engine: &mut Engine, conn: Conn, data: &[u8]) {
    let Some(upload) = engine.uploads.iter_mut().find(|upload| upload.conn == conn) else { return };
    let failure = match &mut upload.file {
        Ok(file) => file.write_all(data).err(),
        Err(_) => None,
    };
    if let Some(error) = failure {
        upload.file = Err(ApiError::internal(format!("write {}: {error}", upload.path.display())));
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
    let store = engine.images.clone();
    let work = move || {
        let mut lines = Vec::new();
        let mut progress = |step: Progress<'_>| {
            if let Progress::LayerDone(id) = step {
                let id = id.to_string();
                lines.push(json!({ "status": "Loading layer", "id": id.get(7..19), "progressDetail": {} }));
            }
            ControlFlow::Continue(())
        };
        let loaded = store.load_archive(&upload.path, &Platform::host(), &mut progress);
        match loaded {
            Ok(images) => {
                for image in images {
                    if image.names.is_empty() {
                        lines.push(json!({ "stream": format!("Loaded image ID: {}\n", image.id) }));
                    }
                    for name in image.names {
                        lines.push(json!({ "stream": format!("Loaded image: {name}\n") }));
                    }
                }
            }
            Err(error) => lines
                .push(json!({ "errorDetail": { "message": error.to_string() }, "error": error.to_string() })),
        }
        drop(upload);
        Done::Load(conn, lines)
    };
    if let Err(error) = in_background(engine, Box::new(work)) {
        engine.fail(conn, &error);
    }
}

/// The load ended.
pub fn answer_load(engine: &mut Engine, conn: Conn, lines: &[Value]) {
    let mut headers = Headers::default();
    headers.push("Content-Type", "application/json");
    engine.server.start_stream(conn, 200, &headers);
    for line in lines {
        let _ = engine.server.send(conn, format!("{line}\n").as_bytes());
    }
    engine.server.finish(conn);
}

/// Removes an image in a thread; layers may hold many files.
pub fn remove(engine: &mut Engine, conn: Conn, name: String, force: bool) {
    let used: Vec<String> = engine.containers.iter().map(|container| container.image.clone()).collect();
    let store = engine.images.clone();
    let work = move || {
        let in_use = |id: &minke_oci::Digest| used.contains(&id.to_string());
        let result = store.remove(&name, force, &in_use).map_err(ApiError::from).map(|removals| {
            let line = |removal: &Removal| match removal {
                Removal::Untagged(name) => json!({ "Untagged": name }),
                Removal::Deleted(id) => json!({ "Deleted": id.to_string() }),
            };
            removals.iter().map(line).collect()
        });
        Done::Answer(conn, result)
    };
    if let Err(error) = in_background(engine, Box::new(work)) {
        engine.fail(conn, &error);
    }
}

/// Does `work` in a thread; the engine's loop takes what came of it.
fn in_background(engine: &Engine, work: Box<dyn FnOnce() -> Done + Send>) -> Result<()> {
    let (done, waker) = (engine.done.0.clone(), engine.waker.try_clone()?);
    let work = move || {
        let _ = done.send(work());
        waker.wake();
    };
    Ok(minke_sys::thread::spawn("images", Box::new(work))?)
}
