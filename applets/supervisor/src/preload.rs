//! Taking over `apps.json` (spec supervisor §7.4).
//!
//! The order makes it safe against power cuts. First the target is stored durably; a cut before that leaves
//! everything as it was. Then the file gets its other name; a cut before that means that the same target is
//! stored once more at the next start. Then an empty file takes its place; a cut before that leaves no file,
//! which is the same as an empty one.

use crate::state::State;
use crate::target::{Preload, preload};
use minke_applet::log;
use minke_engine_api::{Engine, Error};
use minke_sys::Context;
use minke_sys::file::{read_optional, sync_parent, write_durable};
use std::path::{Path, PathBuf};

/// Largest preload file, in bytes.
const MAX: usize = 2 << 20;

/// Takes over the file at `path` as the target of `source`, if it holds one. Whatever is wrong with it is
/// logged, and the device goes on without. The error is the engine's: then the file has not been judged.
pub fn take(path: &Path, source: &str, state: &mut State, engine: &Engine) -> Result<(), Error> {
    let ignored = |reason: &str| {
        log::error(format_args!("{}: {reason}; the preloaded apps are ignored", path.display()));
        Ok(())
    };
    let found = match read(path) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(()),
        Err(reason) => return ignored(&reason),
    };
    if let Some(image) = missing_image(&found, engine)? {
        return ignored(&format!("image {image} is not in the engine"));
    }
    if let Err(error) = state.set_preload(&found, source) {
        return ignored(&error.to_string());
    }
    log::info(format_args!("{}: took over {} preloaded app(s)", path.display(), found.checked.len()));
    if let Err(error) = retire(path) {
        log::warn(format_args!("{error}; the file is read again at the next start"));
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<Preload>, String> {
    match read_optional(path, MAX) {
        Ok(Some(content)) => preload(&content),
        Ok(None) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

fn missing_image<'a>(preload: &'a Preload, engine: &Engine) -> Result<Option<&'a str>, Error> {
    for app in &preload.checked {
        for service in app.release.iter().flat_map(|release| &release.services) {
            if engine.inspect_image(&service.image)?.is_none() {
                return Ok(Some(&service.image));
            }
        }
    }
    Ok(None)
}

/// Renames the file to `apps.json.preloaded`, unless there is one, and puts an empty one in its place.
fn retire(path: &Path) -> minke_sys::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".preloaded");
    let kept = PathBuf::from(name);
    if !minke_sys::status::exists(&kept) {
        std::fs::rename(path, &kept).on("rename", path)?;
        sync_parent(path)?;
    }
    write_durable(path, b"{}\n", 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("minke-preload-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_file_is_kept_once_and_then_emptied() {
        let folder = folder("retire");
        let (path, kept) = (folder.join("apps.json"), folder.join("apps.json.preloaded"));
        for content in ["first", "second"] {
            std::fs::write(&path, content).unwrap();
            retire(&path).unwrap();
            assert_eq!((read(&path), read(&kept)), ("{}\n".to_owned(), "first".to_owned()));
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn files_that_are_no_preload_are_left_and_nothing_is_stored() {
        let folder = folder("broken");
        let (mut state, _) = State::open(&folder.join("data")).unwrap();
        // Nobody listens: whoever asks the engine gets an error.
        let engine = Engine::unix(folder.join("none.sock"));
        let path = folder.join("apps.json");
        take(&path, "local", &mut state, &engine).unwrap();
        for content in ["", "{", "[]", "{}", "{\"apps\":{},\"config\":{}}", "{\"apps\":{\"u\":{}}}"] {
            std::fs::write(&path, content).unwrap();
            take(&path, "local", &mut state, &engine).unwrap();
            assert_eq!(read(&path), content);
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        take(&path, "local", &mut state, &engine).unwrap();
        assert!(!state.has_target());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
