//! The hooks of an update (spec os §15.4, §15.5).
//!
//! A system brings its own: scripts in `/etc/hostapp-update-hooks.d` and the steps that are built in, run by its own
//! `hostapp-update-hooks`. The updater runs that program of the new system, and a rollback the old system's.

mod builtin;
mod enter;
mod steps;

use crate::child::{self, text};
use crate::update::why::{Result, Why, refuse};
use minke_applet::{Args, EXIT_USAGE, errln, log, report};
use minke_sys::process::{Exit, Spawn};
use minke_sys::{process, status};
use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a system's scripts are.
const FOLDER: &str = "etc/hostapp-update-hooks.d";
/// The runner's names: of hooks with phases, and of those that only know forward.
const RUNNERS: [&str; 2] = ["usr/bin/hostapp-update-hooks-v2", "usr/bin/hostapp-update-hooks"];
/// How long all hooks of a phase may take. One hook's limit is shorter, so this ends a runner that hangs itself.
const PHASE_LIMIT: Duration = Duration::from_secs(3600);

/// When hooks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// In the old system, before the others.
    Before,
    /// In the new system, or in the one that is gone back to.
    Forward,
    /// In the old system, after the others.
    After,
    /// In the new system, once it was found well.
    Commit,
}

impl Phase {
    /// The word that stands in the paths of its scripts and as option.
    pub fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Forward => "forward",
            Self::After => "after",
            Self::Commit => "commit",
        }
    }
}

/// Runs the hooks of the system whose root is mounted at `image`: `Before` and `After` in this system's environment,
/// `Forward` and `Commit` in a chroot of it; those of the running system, whose root is no image, right here.
/// `during_update`: the slot to select is the inactive one. An error names the hook.
pub fn run(image: &Path, phase: Phase, during_update: bool) -> Result<()> {
    let runner = RUNNERS.iter().position(|name| status::of_link(image.join(name)).is_ok());
    let own = image == Path::new("/") || runner.is_none() && !during_update;
    let in_chroot = matches!(phase, Phase::Forward | Phase::Commit);
    match runner {
        _ if own => steps::run(&steps::Request::of(image, phase, during_update)),
        // A system of the time before phases has nothing for them.
        Some(1) if phase != Phase::Forward => Ok(()),
        None if phase != Phase::Forward => Ok(()),
        None => refuse!("{} has no hostapp-update-hooks", image.display()),
        Some(number) => {
            let name = RUNNERS.get(number).copied().unwrap_or_default();
            let mut words = Vec::new();
            let folder = image.join(FOLDER);
            if in_chroot {
                words.extend([Path::new("--chroot"), image]);
            }
            let option = PathBuf::from(format!("--{}", phase.word()));
            if phase != Phase::Forward {
                words.push(&option);
            }
            if !in_chroot {
                words.extend([Path::new("--dir"), &folder]);
            }
            let program = if in_chroot { PathBuf::from("/proc/self/exe") } else { image.join(name) };
            run_runner(&program, &words, phase, during_update)
        }
    }
}

/// Runs a hook runner as a process of its own and waits for it.
fn run_runner(program: &Path, words: &[&Path], phase: Phase, during_update: bool) -> Result<()> {
    let mut spawn = Spawn::new(&text(program));
    spawn.arguments = vec![c"hostapp-update-hooks".into()];
    spawn.arguments.extend(words.iter().map(|word| text(word)));
    spawn.environment = environment(during_update, None);
    match child::run(&spawn, phase.word(), PHASE_LIMIT)? {
        exit if exit.success() => Ok(()),
        exit => Err(failed(phase.word(), exit)),
    }
}

fn failed(what: &str, exit: Exit) -> Why {
    Why::new(format_args!("hook {what}: {exit}; the lines before this one say why"))
}

/// This process's environment and what hooks are told (spec os §15.4.2).
fn environment(during_update: bool, folder: Option<&Path>) -> Vec<CString> {
    let told = |line: &CString| {
        ["DURING_UPDATE=", "HOOKS_DIR="].iter().any(|name| line.as_bytes().starts_with(name.as_bytes()))
    };
    let mut lines = process::environment();
    lines.retain(|line| !told(line) || folder.is_none() && line.as_bytes().starts_with(b"HOOKS_DIR="));
    if !lines.iter().any(|line| line.as_bytes().starts_with(b"PATH=")) {
        lines.push(c"PATH=/usr/sbin:/usr/bin:/sbin:/bin".into());
    }
    lines.push(if during_update { c"DURING_UPDATE=1".into() } else { c"DURING_UPDATE=0".into() });
    if let Some(folder) = folder {
        lines.push(text(&PathBuf::from(format!("HOOKS_DIR={}", folder.display()))));
    }
    lines
}

/// Runs `hostapp-update-hooks`, also under its other name.
pub fn run_program(args: &Args) -> u8 {
    let during_update = std::env::var_os("DURING_UPDATE").is_some_and(|value| value == "1");
    if !args.operands().is_empty() {
        errln!("no operand is expected; see --help");
        return EXIT_USAGE;
    }
    let mut phases = Vec::new();
    for phase in [Phase::Before, Phase::Forward, Phase::After, Phase::Commit] {
        let full = args.has("full") && phase != Phase::Commit;
        if full || phase != Phase::Forward && args.has(phase.word()) {
            phases.push(phase);
        }
    }
    if phases.is_empty() {
        phases.push(Phase::Forward);
    }
    if let Some(root) = args.value("chroot") {
        // It returns only when it fails.
        return report(enter::execute(Path::new(root), &phases).map(|()| 1));
    }
    let root = Path::new(args.value("root").unwrap_or("/"));
    for phase in phases {
        let mut request = steps::Request::of(root, phase, during_update);
        if let Some(folder) = args.value("dir") {
            request.folder = folder.into();
            request.own = false;
        }
        if let Err(error) = steps::run(&request) {
            log::error(format_args!("{error}"));
            return 1;
        }
    }
    0
}
