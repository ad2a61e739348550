//! Users and groups by name: passwd(5), group(5).

use crate::read_text;
use crate::unit::Exec;
use crate::why::Why;
use minke_sys::process::Credentials;
use std::path::Path;

/// Bytes of the user and group tables.
const LIMIT: usize = 1 << 20;

/// Who a service's processes are.
#[derive(Debug)]
pub struct Account {
    /// Name; empty when only a group is named.
    pub name: String,
    /// Home folder.
    pub home: String,
    /// Shell.
    pub shell: String,
    /// User and groups.
    pub credentials: Credentials,
}

/// The user with this name or number.
fn user(key: &str) -> Option<Box<Account>> {
    for line in read_text(Path::new("/etc/passwd"), LIMIT).lines() {
        let fields: Vec<&str> = line.split(':').collect();
        if let [name, _, uid, gid, _, home, shell] = *fields
            && (name == key || uid == key)
            && let (Some(uid), Some(gid)) = (minke_wire::text::number(uid), minke_wire::text::number(gid))
        {
            return Some(account(name, home, shell, (uid, gid)));
        }
    }
    let uid = minke_wire::text::number(key)?;
    Some(account(key, "/", "/bin/sh", (uid, uid)))
}

fn account(name: &str, home: &str, shell: &str, (uid, gid): (u32, u32)) -> Box<Account> {
    let credentials = Credentials { uid, gid, groups: Vec::new() };
    Box::new(Account { name: name.into(), home: home.into(), shell: shell.into(), credentials })
}

/// The id of the group with this name or number.
fn group(key: &str) -> Result<u32, Why> {
    let found = groups(&|name, _| name == key).first().copied();
    found.or_else(|| minke_wire::text::number(key)).ok_or_else(|| Why::missing("group", key))
}

/// The groups of which `wanted` says yes, by their name and their members.
fn groups(wanted: &dyn Fn(&str, &str) -> bool) -> Vec<u32> {
    let mut found = Vec::new();
    for line in read_text(Path::new("/etc/group"), LIMIT).lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(gid)) = (fields.next(), fields.nth(1))
            && let Some(gid) = minke_wire::text::number(gid)
            && wanted(name, fields.next().unwrap_or_default())
        {
            found.push(gid);
        }
    }
    found
}

/// Who a service with these settings runs as; `None`: it stays root.
pub fn account_of(exec: &Exec) -> Result<Option<Box<Account>>, Why> {
    let mut found = match &exec.user {
        Some(name) => user(name).ok_or_else(|| Why::missing("user", name))?,
        None if exec.group.is_none() && exec.supplementary_groups.is_empty() => return Ok(None),
        None => account("", "/home/root", "", (0, 0)),
    };
    let Account { name, credentials, .. } = &mut *found;
    if exec.user.is_some() {
        credentials.groups = groups(&|_, members| members.split(',').any(|member| member == *name));
    }
    if let Some(name) = &exec.group {
        credentials.gid = group(name)?;
    }
    for name in &exec.supplementary_groups {
        credentials.groups.push(group(name)?);
    }
    Ok(Some(found))
}
