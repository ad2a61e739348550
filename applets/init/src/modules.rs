//! Loading kernel modules by name or alias, with what they depend on; and the program `modprobe`.

use minke_applet::Args;
use minke_sys::file::read_optional;
use minke_sys::module;
use minke_wire::kmod;
use std::fmt;
use std::path::{Path, PathBuf};

/// Bytes of one of depmod's files; a whole distribution kernel's `modules.alias` has 1.5 MB.
const LIMIT: usize = 8 << 20;
/// How deep soft dependencies may nest; a cycle ends here.
const DEPTH: u32 = 8;

/// The running kernel's modules.
#[derive(Debug)]
pub struct Modules {
    folder: PathBuf,
    dep: String,
    softdep: String,
    builtin: String,
    alias: Option<String>,
}

/// Why a module was not loaded.
#[derive(Debug)]
pub enum Error {
    /// Neither a module nor an alias.
    NotFound(String),
    /// The kernel refused it.
    Load(minke_sys::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(name) => write!(f, "load module {name}: there is no such module or alias"),
            Self::Load(error) => error.fmt(f),
        }
    }
}

impl Modules {
    /// Reads what depmod wrote for the running kernel; without that, no module is found.
    pub fn open() -> Self {
        let folder = Path::new("/lib/modules").join(module::release());
        let read = |name: &str| text(&folder.join(name));
        let (dep, softdep, builtin) = (read("modules.dep"), read("modules.softdep"), read("modules.builtin"));
        Self { folder, dep, softdep, builtin, alias: None }
    }

    /// Loads a module, or all modules that an alias stands for. Loaded or built in already is success.
    pub fn load(&mut self, name: &str, parameters: &str) -> Result<(), Error> {
        self.load_at(name, parameters, 0)
    }

    fn load_at(&mut self, name: &str, parameters: &str, depth: u32) -> Result<(), Error> {
        let normal = kmod::normalize(name);
        if Path::new("/sys/module").join(&normal).join("initstate").exists() {
            return Ok(());
        }
        if let Some((path, needs)) = kmod::dependencies(&self.dep, &normal) {
            let path = self.folder.join(path);
            let needs: Vec<PathBuf> = needs.into_iter().map(|path| self.folder.join(path)).collect();
            return self.load_files(&normal, &path, &needs, parameters, depth);
        }
        if kmod::is_builtin(&self.builtin, &normal) {
            return Ok(());
        }
        if self.alias.is_none() {
            self.alias = Some(text(&self.folder.join("modules.alias")));
        }
        let alias = self.alias.as_deref().unwrap_or_default();
        let names: Vec<String> = kmod::resolve_alias(alias, name).into_iter().map(str::to_owned).collect();
        if names.is_empty() || depth >= DEPTH {
            return Err(Error::NotFound(name.to_owned()));
        }
        // One that works is enough: several drivers may claim one device or one algorithm.
        let mut outcome = Err(Error::NotFound(name.to_owned()));
        for name in names {
            let loaded = self.load_at(&name, parameters, depth.saturating_add(1));
            if outcome.is_err() {
                outcome = loaded;
            }
        }
        outcome
    }

    fn load_files(
        &mut self,
        name: &str,
        path: &Path,
        needs: &[PathBuf],
        parameters: &str,
        depth: u32,
    ) -> Result<(), Error> {
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let (before, after) = kmod::soft_dependencies(&self.softdep, name);
        let (before, after) = (owned(before), owned(after));
        self.load_soft(&before, depth);
        for need in needs {
            let own = need.to_str().map(|path| kmod::normalize(kmod::name_of(path))).unwrap_or_default();
            let (before, _) = kmod::soft_dependencies(&self.softdep, &own);
            let before = owned(before);
            self.load_soft(&before, depth);
            module::load(need, "").map_err(Error::Load)?;
        }
        module::load(path, parameters).map_err(Error::Load)?;
        self.load_soft(&after, depth);
        Ok(())
    }

    /// Soft dependencies are loaded when they are there; a failure is none of the module's.
    fn load_soft(&mut self, names: &[String], depth: u32) {
        if depth < DEPTH {
            for name in names {
                let _ = self.load_at(name, "", depth.saturating_add(1));
            }
        }
    }
}

fn text(path: &Path) -> String {
    let content = read_optional(path, LIMIT).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&content).into_owned()
}

/// The module names in a list file: one a line, with parameters after it; `#` and `;` begin a comment.
pub fn listed(content: &str) -> impl Iterator<Item = (&str, &str)> {
    content.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])).map(
        |line| {
            let (name, parameters) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            (name, parameters.trim())
        },
    )
}

/// The program `modprobe`, as the kernel calls it: `/sbin/modprobe -q -- ALIAS`.
pub fn modprobe(args: &Args) -> u8 {
    let mut modules = Modules::open();
    if args.has("modules-load") {
        return load_lists(&mut modules);
    }
    let words: Vec<String> = args.operands().iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let Some((name, parameters)) = words.split_first() else {
        minke_applet::log::error(format_args!("which module? see 'modprobe --help'"));
        return minke_applet::EXIT_USAGE;
    };
    let mut status = 0;
    let mut load = |name: &str, parameters: &str| match modules.load(name, parameters) {
        Ok(()) => {}
        Err(Error::NotFound(_)) if args.has("quiet") => status = 1,
        Err(error) => {
            minke_applet::log::error(format_args!("{error}"));
            status = 1;
        }
    };
    if args.has("all") {
        words.iter().for_each(|name| load(name, ""));
    } else {
        load(name, &parameters.join(" "));
    }
    status
}

/// Where lists of modules to load at boot are: modules-load.d(5), the most important first.
const LIST_FOLDERS: [&str; 3] = ["/etc/modules-load.d", "/run/modules-load.d", "/usr/lib/modules-load.d"];

/// Loads what the lists name; a list in a more important folder replaces those of the same name.
fn load_lists(modules: &mut Modules) -> u8 {
    let mut lists: Vec<PathBuf> = Vec::new();
    for folder in LIST_FOLDERS {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_list = path.extension().is_some_and(|extension| extension == "conf");
            if is_list && !lists.iter().any(|other| other.file_name() == path.file_name()) {
                lists.push(path);
            }
        }
    }
    lists.sort_by(|one, other| one.file_name().cmp(&other.file_name()));
    let mut status = 0;
    for path in lists {
        for (name, parameters) in listed(&text(&path)) {
            if let Err(error) = modules.load(name, parameters) {
                minke_applet::log::warn(format_args!("{}: {error}", path.display()));
                status = 1;
            }
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_comments_and_parameters() {
        let found: Vec<_> = listed("# first\n\nloop max_loop=8\n;x\n  ext4  \n").collect();
        assert_eq!(found, [("loop", "max_loop=8"), ("ext4", "")]);
    }
}
