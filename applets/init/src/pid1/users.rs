//! Users and groups by name: passwd(5), group(5).

use crate::read_text;
use crate::unit::Exec;
use crate::why::Why;
use minke_sys::process::Credentials;
use std::path::Path;

/// Bytes of the user and group tables.
const LIMIT: usize = 1 << 20;

/// A user.
#[derive(Debug)]
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
fn user(key: &str) -> Option<User> {
    for line in read_text(Path::new("/etc/passwd"), LIMIT).lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [name, _, uid, gid, _, home, shell] = *fields
            && (name == key || uid == key)
            && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
        {
            let (name, home, shell) = (name.to_owned(), home.to_owned(), shell.to_owned());
            return Some(User { name, uid, gid, home, shell });
        }
    }
    let uid = key.parse().ok()?;
    Some(User { name: key.to_owned(), uid, gid: uid, home: "/".to_owned(), shell: "/bin/sh".to_owned() })
}

/// The id of the group with this name or number.
fn group(key: &str) -> Result<u32, Why> {
    let found = groups(&|name, _| name == key).first().copied();
    found.or_else(|| key.parse().ok()).ok_or_else(|| Why::missing("group", key))
}

/// The groups of which `wanted` says yes, by their name and their members.
fn groups(wanted: &dyn Fn(&str, &str) -> bool) -> Vec<u32> {
    let mut found = Vec::new();
    for line in read_text(Path::new("/etc/group"), LIMIT).lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(gid)) = (fields.next(), fields.nth(1))
            && let Ok(gid) = gid.parse()
            && wanted(name, fields.next().unwrap_or_default())
        {
            found.push(gid);
        }
    }
    found
}

/// What a service with these settings runs as.
pub fn credentials(exec: &Exec) -> Result<(Option<User>, Option<Credentials>), Why> {
    if exec.user.is_none() && exec.group.is_none() && exec.supplementary_groups.is_empty() {
        return Ok((None, None));
    }
    let mut credentials = Credentials { uid: 0, gid: 0, groups: Vec::new() };
    let mut found = None;
    if let Some(name) = &exec.user {
        let user = user(name).ok_or_else(|| Why::missing("user", name))?;
        (credentials.uid, credentials.gid) = (user.uid, user.gid);
        credentials.groups = groups(&|_, members| members.split(',').any(|member| member == user.name));
        found = Some(user);
    }
    if let Some(name) = &exec.group {
        credentials.gid = group(name)?;
    }
    for name in &exec.supplementary_groups {
        credentials.groups.push(group(name)?);
    }
    Ok((found, Some(credentials)))
}
