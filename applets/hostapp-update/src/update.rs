//! The command itself (spec os §15.1, §15.2).
//!
//! Everything is checked before the first write. The running system stays the selected one until the last step, which is
//! one write: whatever ends the program before, and be it a power cut, leaves it as it was.

mod check;
pub(crate) mod image;
mod install;
mod progress;
mod remake;
mod slot;
mod slots;
mod status;
mod switch;
mod version;
pub mod why;

use crate::cloud::Cloud;
use minke_applet::{Args, EXIT_USAGE, errln, log};
use minke_sys::file::{self, Flags};
use progress::Progress;
use slots::Slots;
use std::fs::File;
use std::path::{Path, PathBuf};
use why::{Result, Why};

/// Another update is under way.
const EXIT_BUSY: u8 = 9;
/// The lock of those who write the other slot, below the root.
const LOCK: &str = "run/lock/hostapp-update.lock";

/// Runs `hostapp-update`.
pub fn run(args: &Args) -> u8 {
    let root = match file::real_path(Path::new(args.value("root").unwrap_or("/"))) {
        Ok(root) => root,
        Err(error) => return minke_applet::report::<Why>(Err(error.into())),
    };
    let update = Update { args, links: args.value("devices").map(PathBuf::from), root };
    let sources = [args.has("image"), args.has("file")];
    match (args.operand(0), args.operands().len(), sources) {
        (None, 0, [true, false] | [false, true]) => update.locked(Update::install),
        (Some("status"), 1, [false, false]) => minke_applet::report(status::print(&update)),
        (Some("rollback"), 1, [false, false]) => update.locked(Update::go_back),
        _ => {
            errln!(
                "hostapp-update: expected -i REFERENCE, -f FILE, status or rollback; see 'hostapp-update --help'"
            );
            EXIT_USAGE
        }
    }
}

/// One run of the command.
struct Update<'a> {
    args: &'a Args,
    root: PathBuf,
    /// A test's devices.
    links: Option<PathBuf>,
}

impl Update<'_> {
    /// Does `work` while nobody else writes the other slot, and reboots then if that is wanted.
    fn locked(&self, work: fn(&Self, &mut Progress) -> Result<Done>) -> u8 {
        let lock = match self.lock() {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                log::error(format_args!("another update is under way"));
                return EXIT_BUSY;
            }
            Err(error) => return minke_applet::report(Err(error)),
        };
        let cloud = if self.args.has("dry-run") { None } else { Cloud::of(&self.root) };
        let mut progress = Progress::new(self.args.has("json"), cloud);
        let result = work(self, &mut progress).and_then(|done| self.end(&done, &mut progress));
        let status = match result {
            Ok(()) => 0,
            Err(error) => {
                progress.failed(&error.to_string());
                log::error(format_args!("{error}"));
                1
            }
        };
        progress.settle();
        drop(lock);
        status
    }

    fn lock(&self) -> Result<Option<File>> {
        let path = self.path(LOCK);
        file::make_folder(path.parent().unwrap_or(&self.root), 0o755)?;
        let lock = file::open(&path, Flags::RDWR | Flags::CREATE)?;
        Ok(file::try_lock(&lock)?.then_some(lock))
    }

    fn path(&self, below: &str) -> PathBuf {
        self.root.join(below)
    }

    fn boot(&self) -> PathBuf {
        self.path(crate::BOOT)
    }

    fn slots(&self) -> Result<Slots> {
        Slots::find(&self.root, self.links.as_deref())
    }
}

/// How far it came.
enum Done {
    /// It was found that it could be done.
    Checked,
    /// The other slot is filled, and not selected.
    Filled,
    /// The other slot is selected.
    Selected,
}

impl Update<'_> {
    /// The end of an update that went well.
    fn end(&self, done: &Done, progress: &mut Progress) -> Result<()> {
        let reboots = self.args.has("reboot");
        let words = match done {
            Done::Checked => "It can be installed; nothing was changed",
            Done::Filled => "The other slot is filled, and not selected, as no hook was run",
            Done::Selected if reboots => "Update successful, rebooting",
            Done::Selected => "Update successful; the next start is into the other slot",
        };
        progress.step(100, words);
        if reboots && !matches!(done, Done::Checked) {
            crate::reboot::safe(&mut |percent, text| progress.step(percent, text))?;
        }
        Ok(())
    }
}
