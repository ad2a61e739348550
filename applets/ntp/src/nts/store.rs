//! Cookies for the time after a restart: one file a server, readable by its owner alone, in the daemon's folder.
//!
//! What lies in a file is used by nobody before the next start, which takes the file away first. So no cookie is sent
//! twice, whenever the power goes:
//! 1. while the file is written: the old content or the new one, both unused, or none;
//! 2. after that: the content, unused;
//! 3. while it is taken away: it is there, and nothing of it was sent, or it is gone, and a key exchange follows.

use super::aead::Key;
use super::session::{RESERVE, Session};
use minke_sys::{Result, file};
use minke_wire::base64;
use minke_wire::json::{self, Value, json};
use minke_wire::nts::LONGEST_COOKIE;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Bytes of a file; its longest content has less than half.
const LIMIT: usize = 16 * 1024;
const PREFIX: &str = "nts-";
const SUFFIX: &str = ".json";

/// What is kept of an association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Keys and cookies.
    pub(crate) session: Session,
    /// Where the NTP server is.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its port.
    pub(crate) port: u16,
}

/// Writes what is kept of the server of a key exchange.
pub(crate) fn put(folder: &Path, host: &str, port: u16, kept: &Kept) -> Result<()> {
    let mut cookies = Vec::new();
    for cookie in &kept.session.cookies {
        cookies.push(Value::String(text(cookie)));
    }
    let mut addresses = Vec::new();
    for address in &kept.addresses {
        addresses.push(Value::String(address.to_string()));
    }
    let document = json!({
        "host": host,
        "port": port,
        "addresses": Value::Array(addresses),
        "ntpPort": kept.port,
        "toServer": text(&kept.session.to_server.0),
        "toClient": text(&kept.session.to_client.0),
        "cookies": Value::Array(cookies),
    });
    file::write_durable(&path(folder, host, port), document.to_text().as_bytes(), 0o600)
}

/// Takes what was kept, so that it is used once. `None`: nothing, or nothing that can be used; the file is gone in any
/// case. When it cannot be removed, it is not used.
pub(crate) fn take(folder: &Path, host: &str, port: u16) -> Option<Kept> {
    let path = path(folder, host, port);
    let content = file::read_bounded(&path, LIMIT).ok();
    let kept = content.and_then(|content| parse(&content, host, port));
    file::remove_durable(&path).ok()?;
    kept
}

/// Removes the files of servers that are not among `wanted`, by host and port: of a server that comes and goes nothing
/// stays for ever.
pub(crate) fn prune(folder: &Path, wanted: &[(&str, u16)]) {
    let wanted: Vec<PathBuf> = wanted.iter().map(|(host, port)| path(folder, host, *port)).collect();
    for path in file::list(folder).unwrap_or_default() {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) && !wanted.contains(&path) {
            let _ = file::remove_durable(&path);
        }
    }
}

/// A host's name holds no slash where it could be resolved; what else there is cannot leave the folder either.
fn path(folder: &Path, host: &str, port: u16) -> PathBuf {
    let mut name = String::from(PREFIX);
    for byte in host.bytes() {
        let fits = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
        name.push(if fits { byte.to_ascii_lowercase().into() } else { '_' });
    }
    folder.join(format!("{name}_{port}{SUFFIX}"))
}

fn parse(content: &[u8], host: &str, port: u16) -> Option<Kept> {
    let document = json::parse(content).ok()?;
    let at = |name: &str| document.get(name).unwrap_or(&Value::Null);
    if at("host").as_str() != Some(host) || number(at("port")) != Some(port) {
        return None;
    }
    let key = |name: &str| bytes(at(name)).and_then(|bytes| bytes.try_into().ok()).map(Key);
    let mut addresses = Vec::new();
    for address in at("addresses").as_array()? {
        addresses.push(address.as_str()?.parse().ok()?);
    }
    let mut cookies = Vec::new();
    for cookie in at("cookies").as_array()? {
        let cookie = bytes(cookie).filter(|cookie| (1..=LONGEST_COOKIE).contains(&cookie.len()))?;
        cookies.push(cookie);
    }
    if addresses.is_empty() || cookies.is_empty() || cookies.len() > RESERVE {
        return None;
    }
    let session = Session::new(key("toServer")?, key("toClient")?, cookies);
    Some(Kept { session, addresses, port: number(at("ntpPort"))? })
}

fn number(value: &Value) -> Option<u16> {
    value.as_u64()?.try_into().ok().filter(|number| *number != 0)
}

/// In base64, padded.
fn text(bytes: &[u8]) -> String {
    let mut text = base64::encode_unpadded(bytes);
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    text
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    base64::decode(value.as_str()?.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn kept() -> Kept {
        let session = Session::new(Key([1; 32]), Key([2; 32]), vec![vec![3; 100], vec![4; 1024]]);
        Kept {
            session,
            addresses: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
            port: 123,
        }
    }

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("minke-nts-store-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn what_is_kept_comes_back_once_and_to_its_host_alone() {
        let folder = folder("once");
        put(&folder, "time.example", 4460, &kept()).unwrap();
        let path = folder.join("nts-time.example_4460.json");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(take(&folder, "time.example", 4461), None);
        let content = std::fs::read(&path).unwrap();
        assert_eq!(take(&folder, "time.example", 4460), Some(kept()));
        assert_eq!(take(&folder, "time.example", 4460), None);
        // A file of another host under this one's name.
        std::fs::write(folder.join("nts-other.example_4460.json"), content).unwrap();
        assert_eq!(take(&folder, "other.example", 4460), None);
        put(&folder, "../../etc/passwd", 4460, &kept()).unwrap();
        assert!(folder.join("nts-.._.._etc_passwd_4460.json").exists());
        put(&folder, "a", 1, &kept()).unwrap();
        std::fs::write(folder.join("drift"), "0.0").unwrap();
        prune(&folder, &[("a", 1)]);
        let mut names: Vec<_> =
            std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["drift", "nts-a_1.json"]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn damaged_files_are_nothing() {
        let folder = folder("damaged");
        put(&folder, "a", 1, &kept()).unwrap();
        let path = folder.join("nts-a_1.json");
        let good = std::fs::read(&path).unwrap();
        let mut state = 3u64;
        let mut unchanged = 0;
        for _ in 0..20_000 {
            let mut bad = good.clone();
            for _ in 0..2 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let at = (state >> 33) as usize % bad.len();
                bad[at] = (state >> 24) as u8;
            }
            unchanged += usize::from(parse(&bad, "a", 1).is_some());
        }
        // Flipped within a key or a cookie: the server will say so.
        assert!(unchanged > 0);
        for length in 0..good.len() {
            assert_eq!(parse(&good[..length], "a", 1), None, "{length}");
        }
        std::fs::write(&path, vec![b' '; LIMIT + 1]).unwrap();
        assert_eq!(take(&folder, "a", 1), None);
        assert!(!path.exists());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
