//! Giving up root: the daemon needs it for the place of its socket alone.

use minke_sys::capability::{self, Capabilities};
use minke_sys::{Result, file};
use minke_wire::text::number;
use std::path::Path;

/// The largest passwd file that is read.
const PASSWD_LIMIT: usize = 64 << 10;

/// Whom to become.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    pub(super) uid: u32,
    gid: u32,
}

/// The user of this name, if this is root and there is one.
pub(super) fn find(name: &str) -> Result<Option<User>> {
    if minke_sys::status::of("/proc/self")?.uid != 0 {
        return Ok(None);
    }
    let bytes = file::read_optional(Path::new("/etc/passwd"), PASSWD_LIMIT)?.unwrap_or_default();
    for line in String::from_utf8_lossy(&bytes).lines() {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            continue;
        }
        if let (Some(uid), Some(gid)) = (fields.nth(1).and_then(number), fields.next().and_then(number)) {
            return Ok(Some(User { uid, gid }).filter(|_| uid != 0));
        }
    }
    Ok(None)
}

/// Becomes that user, without any right that others have not. Nobody to become: stays, with no rights more than before.
pub(super) fn become_user(user: Option<User>) -> Result<()> {
    let none = Capabilities::default();
    if let Some(User { uid, gid }) = user {
        capability::limit_bounding_set(none)?;
        capability::set_user(uid, gid, &[])?;
        capability::set(none, none)?;
    }
    capability::no_new_privileges()
}
