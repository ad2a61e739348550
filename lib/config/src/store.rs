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
        let flasher = minke_sys::status::exists(root.join("mnt/boot/balena-image-flasher"));
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
    Broken(Box<(PathBuf, Problem)>),
    /// A file could not be written.
    Sys(minke_sys::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(broken) => {
                let (path, problem) = &**broken;
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
    pub fn load(&self) -> Box<Loaded> {
        let content = fatrw::read(&self.paths.config);
        let mut loaded = self.judge(content.map_err(|error| Problem::Unreadable(error.to_string())));
        if loaded.config.get("uuid").is_none()
            && let Some(uuid) = self.provisional()
        {
            loaded.config.set("uuid", uuid.into());
        }
        loaded
    }

    /// Changes the configuration power-safely. The file is read again under its lock, so that keys that others
    /// have changed meanwhile are kept. A file that is missing, empty or zeroed is made anew from what
    /// [`Store::load`] would use; one that is broken otherwise is an error.
    pub fn update(&self, change: &mut dyn FnMut(&mut Config)) -> Result<(), Error> {
        let mut broken = None;
        let mut text = String::new();
        fatrw::update(&self.paths.config, &mut |content| {
            let mut loaded = self.judge(Ok(content));
            broken = loaded.problem.take().filter(|problem| !problem.nothing_to_lose());
            if broken.is_some() {
                return None;
            }
            let before = loaded.config.to_text();
            change(&mut loaded.config);
            text = loaded.config.to_text();
            let same = text == before && loaded.origin == Origin::File;
            (!same).then(|| text.clone().into_bytes())
        })?;
        if let Some(problem) = broken {
            return Err(Error::Broken(Box::new((self.paths.config.clone(), problem))));
        }
        // The change itself is durable. A full state partition must not undo it.
        let _ = self.remember_text(&text);
        Ok(())
    }

    /// Keeps `config` as the last good copy, if it differs from the one that is kept. The result tells whether
    /// it was written.
    pub fn remember(&self, config: &Config) -> minke_sys::Result<bool> {
        self.remember_text(&config.to_text())
    }

    fn remember_text(&self, text: &str) -> minke_sys::Result<bool> {
        let kept = file::read_optional(&self.paths.good, LIMIT).ok().flatten();
        if kept.as_deref() == Some(text.as_bytes()) {
            return Ok(false);
        }
        file::write_durable(&self.paths.good, text.as_bytes(), 0o600)?;
        Ok(true)
    }

    /// The last good copy.
    pub fn last_good(&self) -> Option<Config> {
        read(&self.paths.good)
    }

    /// The uuid that was generated while the file could not take it.
    pub(crate) fn provisional(&self) -> Option<String> {
        let content = file::read_bounded(&self.paths.provisional, 256).ok()?;
        let uuid = String::from_utf8(content).ok()?.trim().to_owned();
        crate::identity::is_generated(&uuid).then_some(uuid)
    }

    fn judge(&self, content: Result<Option<Vec<u8>>, Problem>) -> Box<Loaded> {
        let mut loaded = Box::new(Loaded {
            config: Config::default(),
            origin: Origin::File,
            problem: None,
            path: self.paths.config.clone(),
        });
        match content.and_then(|content| Config::parse(&content.ok_or(Problem::Missing)?)) {
            Ok(config) => loaded.config = config,
            Err(problem) => {
                loaded.origin = self.stand_in(&mut loaded.config, problem.nothing_to_lose());
                loaded.problem = Some(problem);
            }
        }
        loaded
    }

    /// Reads what stands in for a file that is not usable, and tells what it is.
    fn stand_in(&self, config: &mut Config, gone: bool) -> Origin {
        // What a writer with a plain `write, rename` leaves on FAT when the power goes in the rename: the new name
        // alone. It counts only where the file itself is gone.
        const NAMES: [&str; 4] =
            ["config.json.new", ".config.json.new", "config.json.tmp", ".config.json.tmp"];
        for name in NAMES.iter().filter(|_| gone) {
            let path = self.paths.config.with_file_name(name);
            if let Some(copy) = read(&path)
                && !copy.members().is_empty()
            {
                *config = copy;
                return Origin::Copy(path);
            }
        }
        match self.last_good() {
            Some(good) => {
                *config = good;
                Origin::LastGood(self.paths.good.clone())
            }
            None => Origin::Default,
        }
    }
}

fn read(path: &Path) -> Option<Config> {
    Config::parse(&file::read_bounded(path, LIMIT + 1).ok()?).ok()
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
