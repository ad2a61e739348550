//! What needs root, once at the start: folders and links; then root is given up.

use crate::files::Places;
use minke_sys::capability::{self, Capabilities};
use minke_sys::{Result, file};
use std::path::Path;

/// The largest passwd file that is read.
const PASSWD_LIMIT: usize = 64 * 1024;

/// Makes folders and links. With root's rights and a user named `user`, that user gets the folders, and this
/// process becomes that user, in the time client's group, with the rights to set up links (CAP_NET_ADMIN), to use packet sockets
/// (CAP_NET_RAW) and the DHCP client's port (CAP_NET_BIND_SERVICE), and no others. Returns whether it did.
pub fn prepare(places: &Places, user: &str) -> Result<bool> {
    let ids = if is_root()? { find_user(user)? } else { None };
    // Without one of these a file is missing or an address is not remembered; without a network much more is.
    for folder in places.folders() {
        complain(file::make_folder(&folder, 0o755));
        if let Some((uid, gid)) = ids {
            complain(file::chown(&folder, uid, gid));
        }
    }
    for (link, target) in places.links() {
        complain(file::set_link(&link, Path::new(target)));
    }
    let Some((uid, gid)) = ids else { return Ok(false) };
    // Time servers are handed over in a folder that the time client shares, and so is its socket.
    let clock = find_user("ntp")?.map(|(_, group)| group);
    if let Some(group) = clock {
        let folder = places.sources();
        complain(file::chown(&folder, uid, group).and_then(|()| file::set_mode(&folder, 0o770)));
    }
    give_up_root(uid, gid, clock.as_slice())?;
    Ok(true)
}

fn complain(result: Result<()>) {
    if let Err(error) = result {
        minke_applet::log::warn(format_args!("{error}"));
    }
}

fn is_root() -> Result<bool> {
    let status = minke_sys::status::of("/proc/self")?;
    Ok(status.uid == 0)
}

/// User and group id from `/etc/passwd`.
fn find_user(name: &str) -> Result<Option<(u32, u32)>> {
    let bytes = file::read_optional(Path::new("/etc/passwd"), PASSWD_LIMIT)?.unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name);
        let (uid, gid) =
            (minke_wire::text::number(fields.nth(1)?)?, minke_wire::text::number(fields.next()?)?);
        (found && uid != 0).then_some((uid, gid))
    }))
}

fn give_up_root(uid: u32, gid: u32, groups: &[u32]) -> Result<()> {
    let keep = ["NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"]
        .into_iter()
        .filter_map(Capabilities::by_name)
        .fold(Capabilities::default(), Capabilities::with);
    capability::limit_bounding_set(keep)?;
    capability::keep_over_user_change(true)?;
    capability::set_user(uid, gid, groups)?;
    capability::set(keep, keep)?;
    capability::no_new_privileges()
}
