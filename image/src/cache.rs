//! The download and build cache: folders keyed by their inputs, each with a list of digests that is checked at every
//! use. An entry that a crash, a full disk or a person damaged is made anew.

use crate::error::{Context, Error, Result};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The list of digests in every entry, in the format of `sha256sum`, with links as `link:TARGET`.
const SUMS: &str = "SHA256SUMS";

/// The cache folder.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `MINKE_CACHE`, else `~/.cache/minke`.
    pub fn open() -> Result<Cache> {
        let root = match std::env::var_os("MINKE_CACHE") {
            Some(path) if !path.is_empty() => PathBuf::from(path),
            _ => {
                let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
                let home =
                    home.ok_or_else(|| Error::Invalid("neither MINKE_CACHE nor HOME is set".into()))?;
                PathBuf::from(home).join(".cache/minke")
            }
        };
        Cache::at(&std::path::absolute(&root).on("resolving", &root)?)
    }

    /// A cache in this folder, which is made.
    pub fn at(root: &Path) -> Result<Cache> {
        fs::create_dir_all(root).on("making", root)?;
        Ok(Cache { root: root.to_path_buf() })
    }

    /// A folder below the cache, which is made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).on("making", &path)?;
        Ok(path)
    }

    /// Holds the lock `name` until the value is dropped, so that two builds do not make the same thing at once.
    pub fn lock(&self, name: &str) -> Result<File> {
        let path = self.folder("locks")?.join(name);
        let file = File::create(&path).on("opening", &path)?;
        file.lock().on("locking", &path)?;
        Ok(file)
    }

    /// The entry `key` of `kind`; `make` fills a new folder when there is none or when a file in it is not as it was.
    ///
    /// The folder is built beside its place and renamed, so a build that is cut off leaves no half entry.
    pub fn entry(&self, kind: &str, key: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let _lock = self.lock(&format!("{kind}-{key}"))?;
        let place = self.folder(kind)?.join(key);
        if place.exists() {
            match verify(&place) {
                Ok(()) => return Ok(place),
                Err(error) => eprintln!("cache: {error}; making it anew"),
            }
            fs::remove_dir_all(&place).on("removing", &place)?;
        }
        let new = self.folder(kind)?.join(format!("{key}.new"));
        if new.exists() {
            fs::remove_dir_all(&new).on("removing", &new)?;
        }
        fs::create_dir_all(&new).on("making", &new)?;
        make(&new)?;
        let sums = new.join(SUMS);
        fs::write(&sums, sums_text(&digests(&new)?)).on("writing", &sums)?;
        fs::rename(&new, &place).on("renaming", &new)?;
        Ok(place)
    }
}

/// A key from everything that an entry is made of.
#[derive(Debug, Default)]
pub struct Key(Sha256);

impl Key {
    /// An empty key.
    pub fn new() -> Key {
        Key::default()
    }

    /// Adds one input; its length goes in too, so that no two lists of inputs look alike.
    #[must_use]
    pub fn with(mut self, bytes: impl AsRef<[u8]>) -> Key {
        let bytes = bytes.as_ref();
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    /// The key as 64 hexadecimal digits.
    pub fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The SHA-256 of a file's bytes.
pub fn file_digest(path: &Path) -> Result<String> {
    let mut file = File::open(path).on("opening", path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut buffer).on("reading", path)?;
        match buffer.get(..length) {
            None | Some([]) => return Ok(hex(&hash.finalize())),
            Some(bytes) => hash.update(bytes),
        }
    }
}

/// Digest of every file and target of every link below `folder`, by relative path.
pub fn digests(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for (relative, path) in crate::tree::walk(folder)? {
        let kind = fs::symlink_metadata(&path).on("looking at", &path)?.file_type();
        if kind.is_symlink() {
            let target = fs::read_link(&path).on("reading the link", &path)?;
            found.insert(relative, format!("link:{}", target.display()));
        } else if kind.is_file() && relative != SUMS {
            found.insert(relative, file_digest(&path)?);
        }
    }
    Ok(found)
}

fn sums_text(digests: &BTreeMap<String, String>) -> String {
    digests.iter().map(|(path, digest)| format!("{digest}  {path}\n")).collect()
}

fn verify(folder: &Path) -> Result<()> {
    let sums = folder.join(SUMS);
    let noted = fs::read_to_string(&sums).on("reading", &sums)?;
    if noted == sums_text(&digests(folder)?) {
        return Ok(());
    }
    Err(Error::Invalid(format!("{} is not as it was made", folder.display())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_entry_is_made_anew_and_a_good_one_is_kept() {
        let folder = crate::tree::Scratch::new("cache-test").unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let made = std::cell::Cell::new(0);
        let make = |path: &Path| {
            made.set(made.get() + 1);
            fs::write(path.join("file"), "good").unwrap();
            std::os::unix::fs::symlink("file", path.join("link")).unwrap();
            Ok(())
        };
        let place = cache.entry("kind", "key", make).unwrap();
        cache.entry("kind", "key", make).unwrap();
        assert_eq!(made.get(), 1);
        fs::write(place.join("file"), "goob").unwrap();
        cache.entry("kind", "key", make).unwrap();
        assert_eq!(made.get(), 2);
        assert_eq!(fs::read_to_string(place.join("file")).unwrap(), "good");
        fs::remove_file(place.join("link")).unwrap();
        cache.entry("kind", "key", make).unwrap();
        fs::write(place.join("more"), "").unwrap();
        cache.entry("kind", "key", make).unwrap();
        assert_eq!(made.get(), 4);
    }

    #[test]
    fn a_build_that_fails_leaves_no_entry() {
        let folder = crate::tree::Scratch::new("cache-fail").unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let failed = cache.entry("kind", "key", |path| {
            fs::write(path.join("half"), "x").unwrap();
            Err(Error::Invalid("cut off".into()))
        });
        assert!(failed.is_err());
        let place = cache.entry("kind", "key", |_| Ok(())).unwrap();
        assert!(!place.join("half").exists());
    }

    #[test]
    fn keys_tell_lists_of_inputs_apart() {
        assert_ne!(Key::new().with("ab").with("c").finish(), Key::new().with("a").with("bc").finish());
        assert_eq!(hex(&[0, 171]), "00ab");
    }
}
