//! Loading kernel modules by name or alias, with what they depend on; and the program `modprobe`.

use crate::unit::load::merged;
use minke_applet::Args;
use minke_sys::module;
use minke_wire::kmod;
use std::cell::OnceCell;
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
    alias: OnceCell<String>,
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
        Self { folder, dep, softdep, builtin, alias: OnceCell::new() }
    }

    /// Loads a module, or all modules that an alias stands for. Loaded or built in already is success.
    pub fn load(&self, name: &str, parameters: &str) -> Result<(), Error> {
        self.load_at(name, parameters, 0)
    }

    fn load_at(&self, name: &str, parameters: &str, depth: u32) -> Result<(), Error> {
        let normal = kmod::normalize(name);
        if minke_sys::status::exists(format!("/sys/module/{normal}/initstate")) {
            return Ok(());
        }
        if let Some((path, needs)) = kmod::dependencies(&self.dep, &normal) {
            return self.load_files(&normal, path, &needs, parameters, depth).map_err(Error::Load);
        }
        if kmod::is_builtin(&self.builtin, &normal) {
            return Ok(());
        }
        // One that works is enough: several drivers may claim one device or one algorithm.
        let mut outcome = Err(Error::NotFound(name.to_owned()));
        if depth < DEPTH {
            let alias = self.alias.get_or_init(|| text(&self.folder.join("modules.alias")));
            for name in kmod::resolve_alias(alias, name) {
                let loaded = self.load_at(name, parameters, depth.saturating_add(1));
                if outcome.is_err() {
                    outcome = loaded;
                }
            }
        }
        outcome
    }

    fn load_files(
        &self,
        name: &str,
        path: &str,
        needs: &[&str],
        parameters: &str,
        depth: u32,
    ) -> minke_sys::Result<()> {
        self.load_soft(name, false, depth);
        for need in needs {
            self.load_soft(&kmod::normalize(kmod::name_of(need)), false, depth);
            module::load(&self.folder.join(need), "")?;
        }
        module::load(&self.folder.join(path), parameters)?;
        self.load_soft(name, true, depth);
        Ok(())
    }

    /// Soft dependencies, which come before or after a module, are loaded when they are there; a failure is none of
    /// the module's.
    fn load_soft(&self, name: &str, after: bool, depth: u32) {
        if depth >= DEPTH {
            return;
        }
        let (before, behind) = kmod::soft_dependencies(&self.softdep, name);
        for name in if after { behind } else { before } {
            let _ = self.load_at(name, "", depth.saturating_add(1));
        }
    }
}

fn text(path: &Path) -> String {
    crate::read_text(path, LIMIT)
}

/// The module names in a list file: one a line, with parameters after it; `#` and `;` begin a comment.
pub fn listed(content: &str) -> impl Iterator<Item = (&str, &str)> {
    content.lines().filter_map(|line| {
        let line = line.trim();
        let (name, parameters) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        (!line.is_empty() && !line.starts_with(['#', ';'])).then_some((name, parameters.trim()))
    })
}

/// The program `modprobe`, as the kernel calls it: `/sbin/modprobe -q -- ALIAS`.
pub fn modprobe(args: &Args) -> u8 {
    let modules = Modules::open();
    if args.has("modules-load") {
        return load_lists(&modules);
    }
    let mut words = Vec::new();
    for word in args.operands() {
        words.push(word.to_string_lossy().into_owned());
    }
    let Some((name, parameters)) = words.split_first() else {
        minke_applet::log::error(format_args!("which module? see 'modprobe --help'"));
        return minke_applet::EXIT_USAGE;
    };
    let quiet = args.has("quiet");
    if !args.has("all") {
        return u8::from(!load(&modules, name, &parameters.join(" "), quiet));
    }
    let mut status = 0;
    for name in &words {
        status |= u8::from(!load(&modules, name, "", quiet));
    }
    status
}

/// Loads one module for the program, and says whether it did.
fn load(modules: &Modules, name: &str, parameters: &str, quiet: bool) -> bool {
    let loaded = modules.load(name, parameters);
    if let Err(error) = &loaded
        && !(quiet && matches!(error, Error::NotFound(_)))
    {
        minke_applet::log::error(format_args!("{error}"));
    }
    loaded.is_ok()
}

/// Where lists of modules to load at boot are: modules-load.d(5), the most important first.
const LIST_FOLDERS: [&str; 3] = ["/etc/modules-load.d", "/run/modules-load.d", "/usr/lib/modules-load.d"];

/// Loads what the lists name; a list in a more important folder replaces those of the same name.
fn load_lists(modules: &Modules) -> u8 {
    let mut status = 0;
    for path in merged(&LIST_FOLDERS.map(PathBuf::from)) {
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
