//! Where `config.json` and its last good copy live, and what is used when the file is broken.

use crate::config::{LIMIT, Problem};
use crate::{Config, fatrw};
use minke_sys::file;
use std::fmt;
use std::path::{Path, PathBuf};

/// The files of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// The file that people and the supervisor write.
    pub config: PathBuf,
    /// The last content of it that was usable. It holds keys, so its mode is 0600. It lies outside
    /// `root-overlay`: a state reset leaves it, as it leaves `config.json` (spec os §3.5).
    pub good: PathBuf,
    /// A uuid that was generated while `config.json` could not take it.
    pub provisional: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self::below(Path::new("/"))
    }
}

impl Paths {
    /// The places below another root folder. In an installer the working copy counts (spec os §4.1.1).
    pub fn below(root: &Path) -> Self {
        let flasher = root.join("mnt/boot/balena-image-flasher").exists();
        let folder = root.join(if flasher { "mnt/boottmp" } else { "mnt/boot" });
        let state = root.join("mnt/state");
        Self {
            config: folder.join("config.json"),
            good: state.join("config.json.good"),
            provisional: state.join("uuid.provisional"),
        }
    }
}

/// Where a configuration came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The file itself.
    File,
    /// A copy beside the file that another writer's interrupted rename has left.
    Copy(PathBuf),
    /// The last good copy.
    LastGood(PathBuf),
    /// Nothing was usable: all keys are at their defaults.
    Default,
}

/// A configuration with what there is to say about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration to use.
    pub config: Config,
    /// Where it came from.
    pub origin: Origin,
    /// What is wrong with the file.
    pub problem: Option<Problem>,
    path: PathBuf,
}

impl Loaded {
    /// The one line for the log when the file is not usable: what is wrong, where, and what is used instead.
    pub fn message(&self) -> Option<String> {
        let problem = self.problem.as_ref()?;
        let path = self.path.display();
        Some(match &self.origin {
            Origin::File => format!("{path} {problem}"),
            Origin::Copy(copy) => format!("{path} {problem}; using {}", copy.display()),
            Origin::LastGood(copy) => {
                format!("{path} {problem}; using the last good copy {}", copy.display())
            }
            Origin::Default => format!("{path} {problem}, and there is no good copy; using the defaults"),
        })
    }
}

/// Why a configuration could not be changed.
#[derive(Debug)]
pub enum Error {
    /// The file is broken; it is left as it is, for the person who wrote it.
    Broken(PathBuf, Problem),
    /// A file could not be written.
    Sys(minke_sys::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(path, problem) => {
                write!(f, "{} {problem}; correct it before changing keys", path.display())
            }
            Self::Sys(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<minke_sys::Error> for Error {
    fn from(error: minke_sys::Error) -> Self {
        Self::Sys(error)
    }
}

/// The configuration on disk.
#[derive(Debug, Clone, Default)]
pub struct Store {
    paths: Paths,
}

impl Store {
    /// The configuration at these places.
    pub fn new(paths: Paths) -> Self {
        Self { paths }
    }

    /// Its places.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// Reads the configuration and never fails: the file, after finishing an interrupted write; else a copy
    /// that an interrupted rename has left beside it; else the last good copy; else the defaults. A uuid that
    /// was generated while the file was broken stands in for a missing one.
    pub fn load(&self) -> Loaded {
        let content = fatrw::read(&self.paths.config);
        let mut loaded = self.judge(content.map_err(|error| Problem::Unreadable(error.to_string())));
        if loaded.config.get("uuid").is_none()
            && let Some(uuid) = self.provisional()
        {
            loaded.config.set("uuid", uuid.into());
        }
        loaded
    }

    /// Changes the configuration power-safely and returns the new one. The file is read again under its lock,
    /// so that keys that others have changed meanwhile are kept. A file that is missing, empty or zeroed is
    /// made anew from what [`Store::load`] would use; one that is broken otherwise is an error.
    pub fn update(&self, change: &mut dyn FnMut(&mut Config)) -> Result<Config, Error> {
        let mut result = Ok(Config::default());
        fatrw::update(&self.paths.config, &mut |content| {
            let loaded = self.judge(Ok(content));
            if let Some(problem) = loaded.problem.filter(|problem| !problem.nothing_to_lose()) {
                result = Err(Error::Broken(self.paths.config.clone(), problem));
                return None;
            }
            let mut config = loaded.config.clone();
            change(&mut config);
            let same = config == loaded.config && loaded.origin == Origin::File;
            let text = (!same).then(|| config.to_text().into_bytes());
            result = Ok(config);
            text
        })?;
        if let Ok(config) = &result {
            // The change itself is durable. A full state partition must not undo it.
            let _ = self.remember(config);
        }
        result
    }

    /// Keeps `config` as the last good copy, if it differs from the one that is kept. The result tells whether
    /// it was written.
    pub fn remember(&self, config: &Config) -> minke_sys::Result<bool> {
        let text = config.to_text();
        if file::read_optional(&self.paths.good, LIMIT)
            .is_ok_and(|kept| kept.as_deref() == Some(text.as_bytes()))
        {
            return Ok(false);
        }
        file::write_durable(&self.paths.good, text.as_bytes(), 0o600)?;
        Ok(true)
    }

    /// The last good copy.
    pub fn last_good(&self) -> Option<Config> {
        Config::parse(&file::read_bounded(&self.paths.good, LIMIT + 1).ok()?).ok()
    }

    /// The uuid that was generated while the file could not take it.
    pub(crate) fn provisional(&self) -> Option<String> {
        let content = file::read_bounded(&self.paths.provisional, 256).ok()?;
        let uuid = String::from_utf8(content).ok()?.trim().to_owned();
        crate::identity::is_generated(&uuid).then_some(uuid)
    }

    fn judge(&self, content: Result<Option<Vec<u8>>, Problem>) -> Loaded {
        let path = self.paths.config.clone();
        let parsed = content.and_then(|content| Config::parse(&content.ok_or(Problem::Missing)?));
        let problem = match parsed {
            Ok(config) => return Loaded { config, origin: Origin::File, problem: None, path },
            Err(problem) => problem,
        };
        // A copy of another writer counts only where the file itself is gone: FAT's rename, interrupted.
        let copy = if problem.nothing_to_lose() { self.stray_copy() } else { None };
        let good = || Some((self.last_good()?, Origin::LastGood(self.paths.good.clone())));
        let (config, origin) = copy.or_else(good).unwrap_or_else(|| (Config::default(), Origin::Default));
        Loaded { config, origin, problem: Some(problem), path }
    }

    /// What a writer with a plain `write, rename` leaves on FAT when the power goes in the rename: the new name
    /// alone.
    fn stray_copy(&self) -> Option<(Config, Origin)> {
        const NAMES: [&str; 4] =
            ["config.json.new", ".config.json.new", "config.json.tmp", ".config.json.tmp"];
        NAMES.into_iter().find_map(|name| {
            let path = self.paths.config.with_file_name(name);
            let config = Config::parse(&file::read_bounded(&path, LIMIT + 1).ok()?).ok()?;
            (!config.members().is_empty()).then_some((config, Origin::Copy(path)))
        })
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
