//! Bind mounts from the state and data partitions (spec os §3.1.1).

use crate::mount::{find, table, volatile_folder};
use crate::plan::{BINDS, Bind, DATA, OVERLAY, STATE, Source};
use minke_applet::log;
use minke_sys::file::{self, Flags};
use minke_sys::status::{self, Status};
use minke_sys::{Errno, Error, Result, mount};
use std::path::{Path, PathBuf};

/// What single bind mounts may hold whose source cannot be made.
const VOLATILE_OPTIONS: &str = "mode=0755,size=4m";

/// Where the content of a bind mount lies.
pub fn source_of(root: &Path, bind: &Bind) -> PathBuf {
    match bind.source {
        Source::Overlay => root.join(OVERLAY).join(bind.target),
        Source::Path(path) => root.join(path),
    }
}

/// Makes all bind mounts. A source that is not there is made empty, of its target's kind; all new sources reach
/// the disk by one sync before any of them is used.
pub fn all(root: &Path) {
    let mut made = false;
    let mut due = Vec::new();
    for bind in &BINDS {
        match prepare(root, bind, &mut made) {
            Ok(Some(source)) => due.push((bind, source)),
            Ok(None) => {}
            Err(error) => log::error(format_args!("/{} is not bound: {error}", bind.target)),
        }
    }
    if made {
        for partition in &[STATE.target, DATA.target] {
            let _ = file::sync_file_system(&root.join(partition));
        }
    }
    for (bind, source) in due {
        if let Err(error) = mount::bind(&source, &root.join(bind.target), false) {
            log::error(format_args!("/{} is not bound: {error}", bind.target));
        }
    }
}

/// Makes the source if needed, and tells in `made` if one on a disk was; `None`: the target is mounted already.
fn prepare(root: &Path, bind: &Bind, made: &mut bool) -> Result<Option<PathBuf>> {
    let target = root.join(bind.target);
    if find(&table()?, &target).is_some() {
        return Ok(None);
    }
    let model = status::of(&target)?;
    if !bind.shadows && !is_empty(&target) {
        log::warn(format_args!("the content of /{} in the root image is hidden", bind.target));
    }
    let mut source = source_of(root, bind);
    match make_source(&source, &model) {
        Ok(fresh) => *made |= fresh,
        Err(error) => {
            // Full, broken or of another kind: this one place is volatile, the rest is not.
            log::error(format_args!("/{} is kept in memory only: {error}", bind.target));
            source = volatile_folder(root, "binds", VOLATILE_OPTIONS)?.join(bind.target);
            make_source(&source, &model)?;
        }
    }
    Ok(Some(source))
}

/// Makes an empty folder or file with the kind, mode and owner of `model`. The result tells whether it did.
fn make_source(source: &Path, model: &Status) -> Result<bool> {
    match status::of_link(source) {
        Ok(present) if present.is_dir() == model.is_dir() && !present.is_symlink() => return Ok(false),
        Ok(_) => {
            let errno = if model.is_dir() { Errno::NOTDIR } else { Errno::ISDIR };
            return Err(Error::new("use", source.display(), errno));
        }
        Err(error) if error.errno == Errno::NOENT => {}
        Err(error) => return Err(error),
    }
    let mode = model.mode();
    if let Some(folder) = source.parent() {
        file::make_folder(folder, 0o755)?;
    }
    if model.is_dir() {
        file::make_folder(source, mode)?;
    } else {
        file::open_with_mode(source, Flags::WRONLY | Flags::CREATE | Flags::EXCL, mode)?;
    }
    file::chown(source, model.uid, model.gid)?;
    Ok(true)
}

fn is_empty(path: &Path) -> bool {
    match status::of(path) {
        Ok(data) if data.is_dir() => file::list(path).is_ok_and(|entries| entries.is_empty()),
        Ok(data) => data.length == 0,
        Err(_) => true,
    }
}
