//! Units on the disk: search path, aliases, templates, drop-ins, `.wants` folders. systemd.unit(5).

use super::{Problem, Unit, apply};
use minke_sys::file::{list, read_optional};
use minke_sys::status;
use minke_wire::unit::{Name, parse};
use std::fmt;
use std::path::{Path, PathBuf};

/// Bytes of a unit file or drop-in.
const FILE_LIMIT: usize = 256 << 10;
/// Links that lead from an alias to its unit.
const ALIAS_DEPTH: u32 = 8;

/// Where units are, the most important first.
#[derive(Debug, Clone)]
pub struct Folders(Vec<PathBuf>);

impl Default for Folders {
    fn default() -> Self {
        let folders = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"];
        Self(folders.iter().map(PathBuf::from).collect())
    }
}

/// What a name leads to.
#[derive(Debug)]
pub enum Loaded {
    /// A unit.
    Unit(Box<Unit>),
    /// Nothing.
    Missing,
    /// A link to `/dev/null` or an empty file: it must not be started.
    Masked,
}

/// Something in a unit file that has no effect.
#[derive(Debug)]
pub struct Warning {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; 0: the file as a whole.
    pub line: u32,
    /// What.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.text)
    }
}

impl Folders {
    /// Folders for a test.
    #[cfg(test)]
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self(folders)
    }

    /// Reads the unit that `name` leads to, with its drop-ins; what has no effect goes to `warnings`.
    pub fn load(&self, name: &str, warnings: &mut Vec<Warning>) -> Loaded {
        let Ok(name) = Name::parse(&self.resolve(name)) else { return Loaded::Missing };
        let file = self.find(name.full()).or_else(|| self.find(&name.template()?));
        let mut unit = Box::new(Unit::new(name.full()));
        match &file {
            Some(path) if is_mask(path) => return Loaded::Masked,
            Some(path) => read_into(&mut unit, &name, path, warnings),
            // A target may exist by its name alone, so that units can gather under it.
            None if name.kind() == "target" => {}
            None => return Loaded::Missing,
        }
        unit.path = file;
        for path in self.drop_ins(&name) {
            read_into(&mut unit, &name, &path, warnings);
            unit.drop_ins.push(path);
        }
        self.finish(&mut unit, &name);
        Loaded::Unit(unit)
    }

    /// The name of the unit that `name`, perhaps an alias, leads to.
    pub fn resolve(&self, name: &str) -> String {
        let mut name = name.to_owned();
        for _ in 0..ALIAS_DEPTH {
            let Some(next) = self.find(&name).as_deref().and_then(link_to_other) else { break };
            // `a@.service` may be the alias of a template: the instance goes along.
            let instance = Name::parse(&name).ok().and_then(|name| name.instance().map(str::to_owned));
            name = match (Name::parse(&next), instance) {
                (Ok(target), Some(instance)) if target.is_template() => target.instantiate(&instance),
                _ => next,
            };
        }
        name
    }

    /// The file of that name in the most important folder that has it.
    fn find(&self, name: &str) -> Option<PathBuf> {
        first(&self.0, name)
    }

    /// The drop-ins of a unit by file name; of two with one name the more important folder's counts.
    fn drop_ins(&self, name: &Name) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for owner in owners(name) {
            for folder in &self.0 {
                folders.push(folder.join(format!("{owner}.d")));
            }
        }
        let mut found = merged(&folders);
        found.retain(|path| !is_mask(path));
        found
    }

    /// Adds what folders and defaults say, and resolves aliases.
    fn finish(&self, unit: &mut Unit, name: &Name) {
        for folder in &self.0 {
            for owner in owners(name).iter().rev() {
                let relations = &mut unit.relations;
                for (kind, list) in [("wants", &mut relations.wants), ("requires", &mut relations.requires)] {
                    for link in entries(&folder.join(format!("{owner}.{kind}"))) {
                        super::add(list, &link);
                    }
                }
            }
        }
        for list in unit.relations.lists_mut() {
            for entry in std::mem::take(list) {
                let entry = self.resolve(&entry);
                if entry != name.full() {
                    super::add(list, &entry);
                }
            }
        }
        if let Some(trigger) = &mut unit.trigger {
            trigger.unit = self.resolve(&trigger.unit);
        }
        unit.add_default_dependencies();
    }

    /// The names of all unit files, templates and aliases included, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for folder in &self.0 {
            for name in entries(folder) {
                let is_file = status::of(folder.join(&name)).is_ok_and(|data| !data.is_dir());
                if is_file && Name::parse(&name).is_ok() {
                    names.push(name);
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// The names that folders for a unit may have: its template's, its own.
fn owners(name: &Name) -> Vec<String> {
    let mut owners: Vec<String> = name.template().into_iter().collect();
    owners.push(name.full().to_owned());
    owners
}

/// Reads one file into a unit.
pub fn read_into(unit: &mut Unit, name: &Name, path: &Path, warnings: &mut Vec<Warning>) {
    let mut warn = |line, text| warnings.push(Warning { path: path.to_owned(), line, text });
    let content = match read_optional(path, FILE_LIMIT) {
        Ok(Some(content)) => content,
        Ok(None) => return warn(0, "there is no such file".to_owned()),
        Err(error) => return warn(0, error.to_string()),
    };
    let file = parse(&String::from_utf8_lossy(&content));
    for error in &file.errors {
        warn(error.line, error.problem.to_owned());
    }
    for entry in &file.entries {
        let Err(problem) = apply(unit, name, &entry.section, &entry.key, &entry.value) else { continue };
        let text = match problem {
            Problem::Section => format!("unknown section [{}]", entry.section),
            Problem::Unknown => format!("unknown directive {}= in [{}]", entry.key, entry.section),
            Problem::Value(wanted) => format!("{}={}: wanted: {wanted}", entry.key, entry.value),
        };
        warn(entry.line, text);
    }
}

/// The name that a link to another unit leads to; `None` for a file, a mask or a link of the same name.
fn link_to_other(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    let name = target.file_name()?.to_str()?;
    (Some(name) != path.file_name()?.to_str() && Name::parse(name).is_ok()).then(|| name.to_owned())
}

fn is_mask(path: &Path) -> bool {
    std::fs::read_link(path).is_ok_and(|target| target == Path::new("/dev/null"))
        || status::of(path).is_ok_and(|data| data.is_file() && data.length == 0)
}

/// The files that end in `.conf` in all these folders, by name; of two with one name the first folder's.
pub fn merged(folders: &[PathBuf]) -> Vec<PathBuf> {
    let mut names = Vec::new();
    for folder in folders {
        names.extend(entries(folder));
    }
    names.sort_unstable();
    names.dedup();
    let mut files = Vec::new();
    for name in names {
        if Path::new(&name).extension().is_some_and(|extension| extension == "conf") {
            files.extend(first(folders, &name));
        }
    }
    files
}

/// The file of that name in the first folder that has it.
fn first(folders: &[PathBuf], name: &str) -> Option<PathBuf> {
    for folder in folders {
        let path = folder.join(name);
        if status::of_link(&path).is_ok_and(|data| !data.is_dir()) {
            return Some(path);
        }
    }
    None
}

/// The names in a folder, in the order of their bytes, in which the list is.
fn entries(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for path in list(folder).unwrap_or_default() {
        names.extend(path.file_name().and_then(|name| name.to_str()).map(str::to_owned));
    }
    names
}
