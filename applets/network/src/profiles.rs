//! The owner's profiles as files (spec os §11.2): which of them count. Root alone may read them, so the service reads
//! them before it gives up root's rights, and `network reload` hands it what they say later on.

use crate::profile::printable;
use minke_applet::log;
use minke_sys::file::{self, Flags};
use minke_sys::status;
use minke_wire::json::Map;
use minke_wire::keyfile::Keyfile;
use minke_wire::keyfile::profile::Profile;
use std::path::Path;

/// The largest file that is read, and the most profiles: a message carries them all.
const FILE_LIMIT: usize = 8 << 10;
const MOST: usize = 64;

/// The Ethernet profiles of a folder, by the names of their files and in the order of these. The others stay with root:
/// they hold the secrets of wireless networks. A file that cannot be used is told and left out.
pub fn read(folder: &Path) -> Map {
    let mut profiles = Map::new();
    let paths = match file::list(folder) {
        Ok(paths) => paths,
        Err(error) if error.errno == minke_sys::Errno::NOENT => return profiles,
        Err(error) => {
            log::warn(format_args!("{error}"));
            return profiles;
        }
    };
    for path in paths {
        let name = printable(&path.file_name().unwrap_or_default().to_string_lossy());
        if is_ignored(&name) {
            continue;
        }
        if profiles.len() == MOST {
            log::warn(format_args!("{}: only the first {MOST} profiles are used", folder.display()));
            break;
        }
        match content(&path) {
            Ok(Some(content)) => _ = profiles.insert(name, content.into()),
            Ok(None) => {}
            Err(why) => log::warn(format_args!("{} is not used: {why}", folder.join(name).display())),
        }
    }
    profiles
}

/// Names that NetworkManager passes over: hidden ones, copies that editors and interrupted writers leave, certificates.
/// `.ignore` is one of them, as it has six letters like the ends of mkstemp(3).
fn is_ignored(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let end = lower.rsplit_once('.').map_or("", |(_, end)| end);
    lower.starts_with('.')
        || lower.ends_with('~')
        || ["swp", "swpx", "pem", "der"].contains(&end)
        || end.len() == 6 && end.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// A file's content if it is a profile for Ethernet. As with NetworkManager it must be a regular file of root's that
/// nobody else may touch: a profile decides where all that is sent goes to.
fn content(path: &Path) -> Result<Option<String>, String> {
    let text = |error: minke_sys::Error| error.to_string();
    // What is no file, a pipe for instance, must not stop us here.
    let file = file::open(path, Flags::RDONLY | Flags::NONBLOCK).map_err(text)?;
    let status = status::of_open(&file).map_err(text)?;
    if !status.is_file() {
        return Err("it is no regular file".to_owned());
    }
    if status.uid != 0 || status.mode() & 0o077 != 0 {
        return Err("others than root may read or write it; 'chown root' and 'chmod 600' help".to_owned());
    }
    let mut content = Vec::new();
    while file::read_some(&file, &mut content).map_err(|errno| format!("it cannot be read: {errno}"))? {
        if content.len() > FILE_LIMIT {
            return Err("it is too long".to_owned());
        }
    }
    let file = Keyfile::parse(&content).map_err(|broken| broken.to_string())?;
    if !is_ethernet(&file) {
        return Ok(None);
    }
    String::from_utf8(content).map(Some).map_err(|_| "it is not in UTF-8".to_owned())
}

/// A profile without a type is of the one whose group it has.
fn is_ethernet(file: &Keyfile) -> bool {
    match Profile::new(file).kind() {
        Ok(Some(kind)) => kind == "ethernet",
        _ => file.has_group("ethernet") || file.has_group("802-3-ethernet"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_profiles() {
        for name in ["balena-sample.ignore", "README.ignore", ".a", "a~", "a.SWP", "a.pem", "a.X1y2Z3"] {
            assert!(is_ignored(name), "{name}");
        }
        for name in ["a", "a.nmconnection", "office", "my.network", "Wired connection 1", "a.ignored"] {
            assert!(!is_ignored(name), "{name}");
        }
    }

    #[test]
    fn other_kinds_are_none_of_ours() {
        let is = |text: &str| is_ethernet(&Keyfile::parse(text.as_bytes()).unwrap());
        assert!(is("[connection]\ntype=ethernet\n") && is("[connection]\ntype=802-3-ethernet\n"));
        assert!(is("[connection]\nid=a\n[802-3-ethernet]\n") && is("[ethernet]\n"));
        assert!(
            !is("[connection]\ntype=wifi\n[ethernet]\n") && !is("[connection]\ntype=bridge\n") && !is("")
        );
    }
}
