//! The steps of a phase in their order, one after the other.

use super::{FOLDER, Phase, builtin, environment, failed};
use crate::child::{self, text};
use crate::update::why::Result;
use minke_applet::log;
use minke_sys::process::Spawn;
use minke_sys::{Errno, file, status};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long one hook may take. The longest that is known copies a database or writes a boot loader's flash.
const LIMIT: Duration = Duration::from_secs(900);
/// How deep folders of hooks may lie in each other.
const DEPTH: usize = 4;
/// The most hooks: a folder that links to itself must not fill the memory.
const MOST: usize = 512;

/// What is to be run.
pub struct Request {
    /// The root of the system that the steps work on.
    pub root: PathBuf,
    /// Where scripts are.
    pub folder: PathBuf,
    /// Which of them.
    pub phase: Phase,
    /// The good slot is the inactive one.
    pub during_update: bool,
    /// Also what is built in: not with a folder that somebody names.
    pub own: bool,
    /// How long one of them may take.
    pub limit: Duration,
}

impl Request {
    /// The hooks of the system below `root`.
    pub fn of(root: &Path, phase: Phase, during_update: bool) -> Self {
        let (folder, root) = (root.join(FOLDER), root.to_owned());
        Self { root, folder, phase, during_update, own: true, limit: LIMIT }
    }
}

/// Runs the steps of a phase in the order of their paths. The first failure ends it; then the scripts for cleaning up
/// run, and the error is the first one's.
pub fn run(request: &Request) -> Result<()> {
    let trace = is_traced(&request.root);
    let mut scripts = Vec::new();
    collect(&request.folder, DEPTH, &mut scripts)?;
    let mut result = Ok(());
    for path in steps(request, &scripts) {
        let own = builtin::STEPS.iter().find(|step| request.folder.join(step.name) == Path::new(&path));
        result = match own.filter(|_| !scripts.contains(&path)) {
            Some(step) => own_step(request, step),
            None => script(request, Path::new(&path), trace),
        };
        if result.is_err() {
            break;
        }
    }
    if result.is_err() {
        for path in scripts.iter().filter(|path| is_of(request, path, "cleanup")) {
            if let Err(error) = script(request, Path::new(path), trace) {
                log::error(format_args!("{error}"));
            }
        }
    }
    result
}

fn own_step(request: &Request, step: &builtin::Step) -> Result<()> {
    log::info(format_args!("hook {}", step.name));
    Ok((step.run)(&request.root, request.during_update)?)
}

/// The paths of the steps in order: a script with the name of a built-in step replaces it.
fn steps(request: &Request, scripts: &[String]) -> Vec<String> {
    let mut steps = Vec::new();
    for path in scripts {
        let top = Path::new(path).parent() == Some(&request.folder) && request.phase == Phase::Forward;
        if top || is_of(request, path, request.phase.word()) {
            steps.push(path.clone());
        }
    }
    if request.own && request.phase == Phase::Forward {
        for step in &builtin::STEPS {
            let path = request.folder.join(step.name);
            if !steps.iter().any(|other| Path::new(other).starts_with(&path)) {
                steps.push(path.to_string_lossy().into_owned());
            }
        }
    }
    steps.sort_unstable();
    steps
}

/// Whether a word stands in the path of a script, below the folder.
fn is_of(request: &Request, path: &str, word: &str) -> bool {
    let below = Path::new(path).strip_prefix(&request.folder).unwrap_or(Path::new(path));
    let folders = below.components().count() > 1;
    folders && minke_wire::text::contains(&below.to_string_lossy(), word)
}

/// All files below a folder; a folder that is not there has none.
fn collect(folder: &Path, depth: usize, found: &mut Vec<String>) -> Result<()> {
    let paths = match file::list(folder) {
        Err(error) if error.errno == Errno::NOENT => return Ok(()),
        paths => paths?,
    };
    for path in paths {
        let status = status::of(&path);
        if status.as_ref().is_ok_and(|status| status.is_dir()) && depth > 0 {
            collect(&path, depth.saturating_sub(1), found)?;
        } else if status.is_ok_and(|status| status.is_file()) && found.len() < MOST {
            match path.to_str() {
                Some(path) => found.push(path.to_owned()),
                None => log::warn(format_args!("{} is no name for a hook", path.display())),
            }
        }
    }
    Ok(())
}

/// Runs a script, or another executable; a file without the bit for that is given to the shell.
fn script(request: &Request, path: &Path, trace: bool) -> Result<()> {
    let shown = path.to_string_lossy();
    log::info(format_args!("hook {shown}"));
    let executable = status::of(path)?.mode() & 0o111 != 0;
    let mut spawn = Spawn::new(&text(path));
    if let Some(shell) = shell_of(path, executable, trace) {
        let shell = text(Path::new(&shell));
        spawn.arguments = vec![shell.clone()];
        if trace {
            spawn.arguments.push(c"-x".into());
        }
        spawn.arguments.push(text(path));
        spawn.program = shell;
    }
    spawn.environment = environment(request.during_update, Some(&request.folder));
    match child::run(&spawn, &shown, request.limit)? {
        exit if exit.success() => Ok(()),
        exit => Err(failed(&shown, exit)),
    }
}

/// The shell to run a file by, where the kernel would not find it or is not to.
fn shell_of(path: &Path, executable: bool, trace: bool) -> Option<String> {
    if executable && !trace {
        return None;
    }
    let mut start = Vec::new();
    let _ = file::open_to_read(path).map(|file| minke_sys::file::read_some(&file, &mut start));
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let named = std::str::from_utf8(line).ok().and_then(|line| line.strip_prefix("#!")).map(str::trim);
    match named {
        Some(shell) if shell.ends_with("sh") && shell.starts_with('/') => Some(shell.to_owned()),
        _ if !executable => Some("/bin/sh".to_owned()),
        _ => None,
    }
}

/// Whether `config.json` asks for traces (`debug`).
fn is_traced(root: &Path) -> bool {
    let config = minke_config::Store::new(minke_config::Paths::below(root)).load().config;
    let Some(value) = config.get("debug") else { return false };
    matches!(value.to_text().as_str(), "1" | "\"1\"" | "true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use minke_sys::{clock, process};

    #[test]
    fn a_hook_that_hangs_is_ended_with_what_it_started() {
        let root = std::env::temp_dir().join(format!("minke-steps-{}", std::process::id()));
        std::fs::create_dir_all(root.join(FOLDER)).unwrap();
        let hook = root.join(FOLDER).join("50-hangs");
        std::fs::write(&hook, "echo $$ >$HOOKS_DIR/../pid; sleep 600 & sleep 600; touch $HOOKS_DIR/../over")
            .unwrap();
        std::fs::write(root.join(FOLDER).join("60-next"), "touch $HOOKS_DIR/../over").unwrap();
        let mut request = Request::of(&root, Phase::Forward, true);
        (request.own, request.limit) = (false, Duration::from_secs(5));
        let begun = clock::boottime();
        let error = run(&request).unwrap_err();
        assert!(error.to_string().contains("50-hangs: Timer expired"), "{error}");
        assert!(clock::boottime() - begun < Duration::from_secs(500) && !root.join("etc/over").exists());
        let group: i32 = std::fs::read_to_string(root.join("etc/pid")).unwrap().trim().parse().unwrap();
        // Killed ones that nobody has waited for yet count as there.
        let gone = |_| {
            std::thread::sleep(Duration::from_millis(50));
            process::kill(-group, 0).is_err()
        };
        assert!((0..600).any(gone), "something of it runs on");
        std::fs::remove_dir_all(root).unwrap();
    }
}
