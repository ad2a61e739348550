//! The user that a container runs as: names and numbers by the container's own passwd and group files.

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Home folder by the passwd file.
    pub home: String,
}

/// Resolves `wanted` (`USER`, `USER:GROUP`, names or numbers, empty for root) and the additional `groups` with
/// the texts of the container's `/etc/passwd` and `/etc/group`.
pub fn resolve(wanted: &str, groups: &[String], passwd: &str, group: &str) -> Result<User, String> {
    let (name, group_name) = match wanted.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (wanted, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let id = number(name);
    let entry = line_with(passwd, &|line| field(line, 0) == name)
        .or_else(|| line_with(passwd, &|line| id.is_some() && number(field(line, 2)) == id))
        .unwrap_or("");
    let uid = number(field(entry, 2))
        .or(id)
        .ok_or_else(|| format!("unable to find user {name}: no matching entries in passwd file"))?;
    let gid = match group_name {
        Some(wanted) if !wanted.is_empty() => group_id(wanted, group)?,
        _ => number(field(entry, 3)).unwrap_or(0),
    };
    let login = field(entry, 0);
    let mut supplementary = Vec::new();
    // A group that is named replaces the memberships, as the engine API's reference does it.
    if group_name.is_none() && !login.is_empty() {
        for line in group.lines() {
            if field(line, 3).split(',').any(|member| member == login) {
                supplementary.extend(number(field(line, 2)));
            }
        }
    }
    for wanted in groups {
        supplementary.push(group_id(wanted, group)?);
    }
    let home = match field(entry, 5) {
        "" => "/",
        home => home,
    };
    Ok(User { uid, gid, groups: supplementary, home: home.to_owned() })
}

fn group_id(wanted: &str, group: &str) -> Result<u32, String> {
    let line = line_with(group, &|line| field(line, 0) == wanted).unwrap_or("");
    number(field(line, 2))
        .or_else(|| number(wanted))
        .ok_or_else(|| format!("unable to find group {wanted}: no matching entries in group file"))
}

fn line_with<'a>(text: &'a str, fits: &dyn Fn(&str) -> bool) -> Option<&'a str> {
    text.lines().find(|line| fits(line))
}

/// A field of a line; empty when there is none.
fn field(line: &str, index: usize) -> &str {
    line.split(':').nth(index).unwrap_or("")
}

/// An id as users write it; the largest value means "no change" to the kernel and is refused.
fn number(text: &str) -> Option<u32> {
    minke_wire::text::number(text).filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:www:/srv:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nvideo:x:44:web,other\nweb:x:34:\nplug:x:46:web\n";

    fn user(wanted: &str, groups: &[&str]) -> Result<User, String> {
        let groups: Vec<String> = groups.iter().map(|text| (*text).to_owned()).collect();
        resolve(wanted, &groups, PASSWD, GROUP)
    }

    #[test]
    fn names_numbers_and_groups() {
        assert_eq!(user("", &[]).unwrap(), User { uid: 0, gid: 0, groups: vec![], home: "/root".into() });
        let web = user("web", &["video"]).unwrap();
        assert_eq!((web.uid, web.gid, web.groups, web.home.as_str()), (33, 34, vec![44, 46, 44], "/srv"));
        assert_eq!(user("33", &[]).unwrap().gid, 34);
        assert_eq!(user("1000", &[]).unwrap(), User { uid: 1000, gid: 0, groups: vec![], home: "/".into() });
        let mixed = user("web:video", &[]).unwrap();
        assert_eq!((mixed.gid, mixed.groups), (44, vec![]));
        assert_eq!(user("1:2", &["7"]).unwrap().groups, vec![7]);
    }

    #[test]
    fn unknown_names_are_errors() {
        assert!(user("nobody", &[]).unwrap_err().contains("user nobody"));
        assert!(user("web:none", &[]).unwrap_err().contains("group none"));
        assert!(user("4294967295", &[]).is_err());
        assert!(user("-1", &[]).is_err());
    }

    #[test]
    fn mutated_files_never_panic() {
        let mut seed = 0x2545_f491_4f6c_dd1du64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed >> 16).unwrap()
        };
        for _ in 0..20_000 {
            let mut files = [PASSWD, GROUP, "web:video"].map(|text| text.as_bytes().to_vec());
            for file in &mut files {
                let place = random() % file.len();
                match random() % 3 {
                    0 => file[place] = b":,\n\x00\xff9-w"[random() % 8],
                    1 => file.truncate(place),
                    _ => drop(file.splice(place..place, b"::18446744073709551616\n".iter().copied())),
                }
            }
            let [passwd, group, wanted] = files.map(|file| String::from_utf8_lossy(&file).into_owned());
            let _ = resolve(&wanted, &["video".to_owned()], &passwd, &group);
        }
    }
}
