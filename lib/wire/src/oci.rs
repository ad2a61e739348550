//! Image references, digests and media types (OCI image-spec 1.1 `descriptor.md`, `media-types.md`;
//! OCI distribution-spec 1.1 "Pulling manifests"; spec supervisor §0.6).

use std::fmt;

/// Longest full name of an image, registry included (OCI distribution-spec: 255 characters are what clients
/// must expect to work).
pub const MAX_NAME: usize = 255;

/// The content's address: `algorithm:hex` (OCI image-spec, `descriptor.md`, Digests).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(Box<str>);

impl Digest {
    /// Parses `algorithm:hex` with at least 32 digits; a sha256 digest must have its 64.
    pub fn parse(text: &str) -> Option<Self> {
        let (algorithm, hex) = text.split_once(':')?;
        let good_algorithm = algorithm.starts_with(|first: char| first.is_ascii_lowercase())
            && is_made_of(algorithm, "+._-")
            && !algorithm.bytes().any(|byte| byte.is_ascii_uppercase());
        let good_length = match algorithm {
            "sha256" => hex.len() == 64,
            "sha512" => hex.len() == 128,
            _ => (32..=256).contains(&hex.len()),
        };
        (good_algorithm && good_length && is_lower_hex(hex)).then(|| Self(text.into()))
    }

    /// The sha256 digest with these 64 digits.
    #[inline(never)]
    pub fn of_hex(hex: &str) -> Option<Self> {
        let mut text = String::from("sha256:");
        text.push_str(hex);
        Self::parse(&text)
    }

    /// The digest with these sha256 bytes.
    pub fn sha256(bytes: &[u8; 32]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in bytes {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from(HEX.get(usize::from(nibble)).copied().unwrap_or(b'0')));
            }
        }
        Self(text.into_boxed_str())
    }

    /// The whole text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the colon.
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').map_or("", |(algorithm, _)| algorithm)
    }

    /// What stands after the colon.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }

    /// The first 12 hex digits, as people are shown them.
    pub fn short(&self) -> &str {
        let hex = self.hex();
        hex.get(..12).unwrap_or(hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text consists of lower-case hex digits and is not empty.
pub fn is_lower_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// An image reference as written: `[registry/]name[:tag][@digest]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The first path part, when it is `localhost` or contains `.` or `:`.
    pub registry: Option<String>,
    /// The path below the registry, without tag and digest.
    pub name: String,
    /// The tag; `latest` when neither tag nor digest was written.
    pub tag: Option<String>,
    /// The digest of the manifest.
    pub digest: Option<Digest>,
}

/// A text that is no image reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceError {
    /// The text.
    pub text: Box<str>,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for ReferenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "invalid reference format: '{}': {}; expected [registry/]name[:tag][@digest]",
            self.text, self.reason
        )
    }
}

impl std::error::Error for ReferenceError {}

impl Reference {
    /// Parses a reference (spec supervisor §0.6).
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let fail = |reason| ReferenceError { text: text.chars().take(MAX_NAME).collect(), reason };
        Self::parts(text).map_err(fail)
    }

    fn parts(text: &str) -> Result<Self, &'static str> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest).ok_or("bad digest")?)),
            None => (text, None),
        };
        // A colon after the last slash begins a tag; one before it belongs to the registry's port.
        let (path, tag) = match rest.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err("bad tag");
        }
        let (registry, name) = match path.split_once('/') {
            Some((first, name)) if first == "localhost" || first.contains(['.', ':']) => (Some(first), name),
            _ => (None, path),
        };
        if registry.is_some_and(|registry| !is_registry(registry)) {
            return Err("bad registry");
        }
        if name.is_empty() || !name.split('/').all(is_path_component) {
            return Err("bad name (lower-case letters, digits and single separators)");
        }
        if path.len() > MAX_NAME {
            return Err("name too long");
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Self {
            registry: registry.map(str::to_owned),
            name: name.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }

    /// Registry and name, without tag and digest.
    pub fn repository(&self) -> String {
        match &self.registry {
            Some(registry) => format!("{registry}/{}", self.name),
            None => self.name.clone(),
        }
    }

    /// The repository as Docker shows it: without `docker.io/` and without `library/` below that.
    pub fn familiar_repository(&self) -> String {
        let name = match self.registry.as_deref() {
            None | Some("docker.io" | "index.docker.io") => &self.name,
            Some(_) => return self.repository(),
        };
        match name.strip_prefix("library/") {
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => name.clone(),
        }
    }

    /// The normalised form of spec supervisor §0.6: with a digest without the tag, else with the tag.
    pub fn normalised(&self) -> String {
        self.with_suffix(self.repository())
    }

    /// As [`Reference::normalised`] with the familiar repository: the form under which images are stored, so
    /// that `docker.io/library/busybox` and `busybox:latest` are one.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_repository())
    }

    /// Whether two references mean the same image: equal full names, or the same digest.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.digest, &other.digest) {
            (Some(one), Some(two)) => one == two,
            _ => self.normalised() == other.normalised(),
        }
    }

    fn with_suffix(&self, mut full: String) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => {
                full.push('@');
                full.push_str(digest.as_str());
            }
            (None, tag) => {
                full.push(':');
                full.push_str(tag.as_deref().unwrap_or("latest"));
            }
        }
        full
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.normalised())
    }
}

/// Whether a text is not empty and made of letters, digits and these other characters, all ASCII.
#[inline(never)]
pub fn is_made_of(text: &str, others: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || others.as_bytes().contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

/// A tag: a letter, digit or `_`, then up to 127 of those, `.` and `-`.
fn is_tag(tag: &str) -> bool {
    tag.len() <= 128 && is_made_of(tag, "_.-") && !tag.starts_with(['.', '-'])
}

/// A host name, an IPv4 address or a bracketed IPv6 address, with an optional port.
fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (registry, None),
    };
    let good_port =
        port.is_none_or(|port| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit()));
    let good_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => {
            !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':' || b == b'.')
        }
        None => host
            .split('.')
            .all(|label| is_made_of(label, "-") && !label.starts_with('-') && !label.ends_with('-')),
    };
    good_port && good_host
}

/// Lower-case letters and digits, separated by one `.`, one or two `_`, or any number of `-`.
fn is_path_component(component: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let words = rest.iter().take_while(|byte| is_word(**byte)).count();
        let (word, after) = rest.split_at_checked(words).unwrap_or_default();
        let separator = after.iter().take_while(|byte| !is_word(**byte)).count();
        let (separator, after) = after.split_at_checked(separator).unwrap_or_default();
        if word.is_empty() || separator.is_empty() {
            return !word.is_empty();
        }
        if !matches!(separator, b"." | b"_" | b"__") && separator.iter().any(|byte| *byte != b'-') {
            return false;
        }
        rest = after;
    }
}

/// What a document or blob is, by its media type. Docker's types mean the same as OCI's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaType {
    /// A list of manifests for several platforms.
    Index,
    /// The manifest of one image.
    Manifest,
    /// The image's configuration.
    Config,
    /// A layer, compressed as said.
    Layer(Compression),
    /// Something else.
    Other,
}

/// How a layer blob is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// Not told: look at the first bytes.
    Unknown,
}

impl MediaType {
    /// Looks a media type up.
    pub fn of(text: &str) -> Self {
        match text {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => Self::Index,
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => Self::Manifest,
            "application/vnd.oci.image.config.v1+json" | "application/vnd.docker.container.image.v1+json" => {
                Self::Config
            }
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Self::Layer(Compression::None),
            "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Self::Layer(Compression::Gzip),
            "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Self::Layer(Compression::Zstd),
            _ => Self::Other,
        }
    }
}

impl Compression {
    /// Tells by a blob's first bytes; four are enough.
    pub fn sniff(start: &[u8]) -> Self {
        if start.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd
        } else {
            Self::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_split_and_normalise() {
        let digest = format!("sha256:{HEX}");
        for (text, registry, name, normal, familiar) in [
            ("busybox", None, "busybox", "busybox:latest", "busybox:latest"),
            (
                "docker.io/library/busybox:1.36",
                Some("docker.io"),
                "library/busybox",
                "docker.io/library/busybox:1.36",
                "busybox:1.36",
            ),
            ("library/a", None, "library/a", "library/a:latest", "a:latest"),
            ("me/app:v1", None, "me/app", "me/app:v1", "me/app:v1"),
            ("localhost/app", Some("localhost"), "app", "localhost/app:latest", "localhost/app:latest"),
            ("h:5000/a/b", Some("h:5000"), "a/b", "h:5000/a/b:latest", "h:5000/a/b:latest"),
            ("[fd00::1]:80/a:x", Some("[fd00::1]:80"), "a", "[fd00::1]:80/a:x", "[fd00::1]:80/a:x"),
        ] {
            let parsed = Reference::parse(text).unwrap();
            assert_eq!((parsed.registry.as_deref(), parsed.name.as_str()), (registry, name), "{text}");
            assert_eq!((parsed.normalised().as_str(), parsed.familiar().as_str()), (normal, familiar));
        }
        let parsed = Reference::parse(&format!("r.io/v2/abc:tag@{digest}")).unwrap();
        assert_eq!(parsed.normalised(), format!("r.io/v2/abc@{digest}"));
        assert!(parsed.is_same(&Reference::parse(&format!("other@{digest}")).unwrap()));
        assert!(!parsed.is_same(&Reference::parse("r.io/v2/abc:tag").unwrap()));
    }

    #[test]
    fn bad_references_are_refused_with_the_expected_format() {
        let long = "a".repeat(MAX_NAME + 1);
        for text in [
            "",
            ":tag",
            "a:",
            "A",
            "a//b",
            "a/",
            "/a",
            "a@sha256:12",
            "a@",
            "a b",
            "a:-x",
            "a..b",
            "a___b",
            "a-",
            "-a",
            "host.io:x/a",
            "ho_st.io/a",
            "localhost",
            "é",
            &long,
        ] {
            if text == "localhost" {
                // Without a path it is a name.
                assert!(Reference::parse(text).is_ok());
                continue;
            }
            let error = Reference::parse(text).unwrap_err();
            assert!(error.to_string().contains("expected [registry/]name"), "{text}");
        }
        for text in ["a__b", "a---b", "a.b/c_d", "a:_x"] {
            assert!(Reference::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn digests_are_checked_and_formatted() {
        assert_eq!(Digest::sha256(&[0xab; 32]).hex(), "ab".repeat(32));
        let digest = Digest::parse(&format!("sha256:{HEX}")).unwrap();
        assert_eq!((digest.algorithm(), digest.short()), ("sha256", "e3b0c44298fc"));
        for bad in ["", "sha256:", "sha256:ab", ":ab", "SHA256:ab", &format!("sha256:{}", HEX.to_uppercase())]
        {
            assert!(Digest::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn compression_is_seen() {
        assert_eq!(Compression::sniff(&[0x1f, 0x8b, 8, 0]), Compression::Gzip);
        assert_eq!(Compression::sniff(&[0x28, 0xb5, 0x2f, 0xfd]), Compression::Zstd);
        assert_eq!(Compression::sniff(b"etc/"), Compression::None);
    }
}
