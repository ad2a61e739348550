//! How registries are reached: who we are, whom we believe, how long we try.

use super::request::Failure;
use crate::documents::text;
use crate::{Error, Result};
use minke_http::Trust;
use minke_wire::base64;
use minke_wire::json::Value;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Most bytes of a file with credentials.
const MAX_FILE: usize = 1 << 20;

/// Who we are to a registry.
#[derive(Clone)]
pub enum Credentials {
    /// A user's name and password; for balena's registry `d_UUID` and the device's key.
    Basic {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that goes to the registry as it is.
    Token(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secrets belong into no log.
        f.write_str("Credentials")
    }
}

impl Credentials {
    /// What a `config.json` of Docker's (`auths`, as `docker login` writes it) has for a registry. A missing or
    /// unreadable file is none.
    pub fn from_file(path: &Path, registry: &str) -> Option<Self> {
        let content = minke_sys::file::read_bounded(path, MAX_FILE).ok()?;
        let document: Value = minke_wire::json::parse(&content).ok()?;
        let official = matches!(registry, "docker.io" | "index.docker.io");
        for (key, entry) in document.get("auths")?.as_object()? {
            let host = minke_wire::text::split_once(key, "://").map_or(key.as_str(), |(_, rest)| rest);
            let host = host.split('/').next().unwrap_or_default();
            if host == registry || official && matches!(host, "docker.io" | "index.docker.io") {
                return Self::from_auth(entry);
            }
        }
        None
    }

    /// What one entry, or the header `X-Registry-Auth` of the Engine API, has.
    pub fn from_auth(entry: &Value) -> Option<Self> {
        let text = |key| Some(text(entry, key)).filter(|text| !text.is_empty());
        if let Some(token) = text("registrytoken") {
            return Some(Self::Token(token.to_owned()));
        }
        if let (Some(user), Some(password)) = (text("username"), text("password")) {
            return Some(Self::Basic { user: user.to_owned(), password: password.to_owned() });
        }
        let auth = String::from_utf8(base64::decode(text("auth")?.as_bytes())?).ok()?;
        let (user, password) = auth.split_once(':')?;
        Some(Self::Basic { user: user.to_owned(), password: password.to_owned() })
    }
}

/// How registries are reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who we are, for registries that ask.
    pub credentials: Option<Credentials>,
    /// Registries, `HOST[:PORT]`, that are spoken to without TLS when they do not speak it. Those of this machine are
    /// without being named.
    pub insecure: Vec<String>,
    /// Whose certificates are believed.
    pub trust: Trust,
    /// The folder of `hosts` and `resolv.conf`.
    pub names: PathBuf,
    /// How often something is tried in a row without success (balenaEngine: 10).
    pub tries: u32,
    /// Set when nobody waits any more: no further try is made.
    pub unwanted: Option<Arc<AtomicBool>>,
    /// The first pause between two tries; each is twice the one before, up to 30 s.
    pub pause: Duration,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            credentials: None,
            insecure: Vec::new(),
            trust: Trust::default(),
            names: "/etc".into(),
            tries: 10,
            unwanted: None,
            pause: Duration::from_secs(1),
        }
    }
}

impl Access {
    /// Whether the date matters for what a reference means: its registry has certificates.
    pub fn needs_clock(&self, reference: &crate::Reference) -> bool {
        !self.allows_plain(reference.registry.as_deref().unwrap_or_default())
    }

    /// Whether a host may be spoken to without TLS.
    pub(super) fn allows_plain(&self, authority: &str) -> bool {
        let colon = authority.rfind(':').filter(|at| !authority.get(*at..).unwrap_or("]").contains(']'));
        let host = colon.and_then(|colon| authority.get(..colon)).unwrap_or(authority);
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        bare == "localhost"
            || bare.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
            || self.insecure.iter().any(|known| known == authority || known == host)
    }

    pub(super) fn patience(&self) -> Patience {
        Patience { left: self.tries, pause: self.pause }
    }
}

/// How often something is still tried.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    left: u32,
    pause: Duration,
}

impl Patience {
    /// Waits before the next try; the error when there is none.
    pub(super) fn wait(&mut self, failure: Failure, access: &Access) -> Result<()> {
        self.left = self.left.saturating_sub(1);
        if failure.is_final || self.left == 0 {
            return Err(failure.error);
        }
        minke_sys::clock::sleep(failure.after.unwrap_or(self.pause).min(MAX_PAUSE));
        if access.unwanted.as_ref().is_some_and(|unwanted| unwanted.load(Ordering::Relaxed)) {
            return Err(Error::Cancelled);
        }
        self.pause = self.pause.saturating_mul(2).min(MAX_PAUSE);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_and_named_hosts_go_without_tls() {
        let access = Access { insecure: vec!["reg.lan:5000".into(), "old.lan".into()], ..Access::default() };
        for (host, plain) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.1.2.3:80", true),
            ("[::1]:5000", true),
            ("reg.lan:5000", true),
            ("old.lan:81", true),
            ("reg.lan:5001", false),
            ("docker.io", false),
            ("127.0.0.1.evil.org", false),
            ("10.0.0.1:5000", false),
            ("[fd00::1]", false),
        ] {
            assert_eq!(access.allows_plain(host), plain, "{host}");
        }
    }

    #[test]
    fn credentials_are_found_by_their_registry() {
        let path = std::env::temp_dir().join(format!("minke-oci-auths-{}", std::process::id()));
        std::fs::write(
            &path,
            r#"{"auths": {"https://index.docker.io/v1/": {"auth": "dXNlcjpwYTpzcw=="},
                "reg.lan:5000": {"username": "d_1", "password": "key"}, "bad.lan": {"auth": "***"}}}"#,
        )
        .unwrap();
        let found = |registry: &str| match Credentials::from_file(&path, registry) {
            Some(Credentials::Basic { user, password }) => format!("{user} {password}"),
            _ => String::new(),
        };
        assert_eq!(found("docker.io"), "user pa:ss");
        assert_eq!(found("reg.lan:5000"), "d_1 key");
        assert_eq!((found("reg.lan"), found("bad.lan")), (String::new(), String::new()));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(found("docker.io"), "");
        std::fs::remove_file(&path).unwrap();
    }
}
