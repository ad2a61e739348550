//! A file that has to be as it should: content, owner, mode.

use minke_sys::{Result, file, status};
use std::path::Path;

/// Makes `path` a file of root's with this content, readable by root alone; `None`: there is no such file. What is
/// right is not written again. The result tells whether anything changed.
///
/// Power cut: the old or the new content, whole (`write_durable`); a removal happened or not. The next boot does
/// the same again.
pub fn file(path: &Path, content: Option<&[u8]>, limit: usize) -> Result<bool> {
    let Some(content) = content else {
        let present = status::of_link(path).is_ok();
        return file::remove_durable(path).map(|()| present);
    };
    // A link is replaced: who may write where it leads could let himself in.
    let own = status::of_link(path).is_ok_and(|status| status.is_file());
    if !own || file::read_optional(path, limit)?.as_deref() != Some(content) {
        file::write_durable(path, content, 0o600)?;
        right(path, 0o600)?;
        return Ok(true);
    }
    right(path, 0o600)
}

/// Makes `path` a folder of root's, which root alone may enter.
pub fn folder(path: &Path) -> Result<bool> {
    file::make_folder(path, 0o700)?;
    right(path, 0o700)
}

/// sshd ignores keys that somebody else could have written.
fn right(path: &Path, mode: u32) -> Result<bool> {
    let status = status::of(path)?;
    let owned = (status.uid, status.gid) == (0, 0);
    if !owned {
        file::chown(path, 0, 0)?;
    }
    if status.mode() != mode {
        file::set_mode(path, mode)?;
    }
    Ok(!owned || status.mode() != mode)
}
