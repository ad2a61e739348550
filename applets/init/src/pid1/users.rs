//! Users and groups by name: passwd(5), group(5).

use minke_sys::file::read_optional;
use minke_sys::process::Credentials;
use std::path::Path;

/// Bytes of the user and group tables.
const LIMIT: usize = 1 << 20;

/// A user.
#[derive(Debug, Clone)]
pub struct User {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Home folder.
    pub home: String,
    /// Shell.
    pub shell: String,
}

/// The user with this name or number.
pub fn user(key: &str) -> Option<User> {
    let table = table("/etc/passwd");
    let found = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, _, home, shell] = fields.as_slice() else { return None };
        if *name != key && *uid != key {
            return None;
        }
        Some(User {
            name: (*name).to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            home: (*home).to_owned(),
            shell: (*shell).to_owned(),
        })
    });
    found.or_else(|| {
        let uid = key.parse().ok()?;
        Some(User { name: key.to_owned(), uid, gid: uid, home: "/".to_owned(), shell: "/bin/sh".to_owned() })
    })
}

/// The id of the group with this name or number.
pub fn group(key: &str) -> Option<u32> {
    let table = table("/etc/group");
    let found = table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?);
        (name == key).then(|| gid.parse().ok()).flatten()
    });
    found.or_else(|| key.parse().ok())
}

/// The groups that list the user as a member.
fn memberships(name: &str) -> Vec<u32> {
    let table = table("/etc/group");
    let member = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let (gid, members) = (fields.next()?, fields.next()?);
        members.split(',').any(|member| member == name).then(|| gid.parse().ok()).flatten()
    };
    table.lines().filter_map(member).collect()
}

/// What a service with these settings runs as. `Err` names what is not there.
pub fn credentials(
    user_name: Option<&str>,
    group_name: Option<&str>,
    more: &[String],
) -> Result<(Option<User>, Option<Credentials>), String> {
    if user_name.is_none() && group_name.is_none() && more.is_empty() {
        return Ok((None, None));
    }
    let found = match user_name {
        Some(name) => Some(user(name).ok_or_else(|| format!("there is no user {name}"))?),
        None => None,
    };
    let by_name = |name: &str| group(name).ok_or_else(|| format!("there is no group {name}"));
    let gid = match group_name {
        Some(name) => by_name(name)?,
        None => found.as_ref().map_or(0, |user| user.gid),
    };
    let mut groups = found.as_ref().map_or_else(Vec::new, |user| memberships(&user.name));
    for name in more {
        groups.push(by_name(name)?);
    }
    let uid = found.as_ref().map_or(0, |user| user.uid);
    Ok((found, Some(Credentials { uid, gid, groups })))
}

fn table(path: &str) -> String {
    let content = read_optional(Path::new(path), LIMIT).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&content).into_owned()
}
