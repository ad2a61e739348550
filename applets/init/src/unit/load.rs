//! Units on the disk: search path, aliases, templates, drop-ins, `.wants` folders. systemd.unit(5).

use super::{Problem, Unit, apply};
use minke_sys::file::read_optional;
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
        Self(folders.map(PathBuf::from).to_vec())
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
        let mut unit = Unit::new(name.full());
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
        Loaded::Unit(Box::new(unit))
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
        let paths = self.0.iter().map(|folder| folder.join(name));
        paths.into_iter().find(|path| std::fs::symlink_metadata(path).is_ok_and(|data| !data.is_dir()))
    }

    /// The drop-ins of a unit by file name; of two with one name the more important folder's counts.
    fn drop_ins(&self, name: &Name) -> Vec<PathBuf> {
        let folders =
            [name.template().map(|template| format!("{template}.d")), Some(format!("{}.d", name.full()))];
        let mut found: Vec<PathBuf> = Vec::new();
        for inner in folders.iter().flatten() {
            for folder in &self.0 {
                for path in entries(&folder.join(inner)) {
                    let is_drop_in = path.extension().is_some_and(|extension| extension == "conf");
                    if is_drop_in && !found.iter().any(|other| other.file_name() == path.file_name()) {
                        found.push(path);
                    }
                }
            }
        }
        found.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
        found.retain(|path| !is_mask(path));
        found
    }

    /// Adds what folders and defaults say, and resolves aliases.
    fn finish(&self, unit: &mut Unit, name: &Name) {
        for folder in &self.0 {
            for owner in [Some(name.full().to_owned()), name.template()].into_iter().flatten() {
                let lists =
                    [("wants", &mut unit.relations.wants), ("requires", &mut unit.relations.requires)];
                for (kind, list) in lists {
                    let links = entries(&folder.join(format!("{owner}.{kind}")));
                    for link in links.iter().filter_map(|path| path.file_name()?.to_str()) {
                        super::add(list, link);
                    }
                }
            }
        }
        for list in unit.relations.lists_mut() {
            for entry in list.iter_mut() {
                *entry = self.resolve(entry);
            }
            list.retain(|entry| entry != name.full());
            let mut unique: Vec<String> = Vec::new();
            list.drain(..).for_each(|entry| super::add(&mut unique, &entry));
            *list = unique;
        }
        unit.add_default_dependencies();
    }

    /// The names of all unit files, templates and aliases included, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .0
            .iter()
            .flat_map(|folder| entries(folder))
            .filter_map(|path| {
                let name = path.file_name()?.to_str()?.to_owned();
                let is_file = std::fs::metadata(&path).is_ok_and(|data| !data.is_dir());
                (is_file && Name::parse(&name).is_ok()).then_some(name)
            })
            .collect();
        names.sort();
        names.dedup();
        names
    }
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
        || std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() == 0)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
