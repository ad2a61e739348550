//! From a slot that holds a system to one that is started next: the hooks of that system, the last of which selects it.

use super::image::{Mounted, is_bootable};
use super::progress::Progress;
use super::slots::Slots;
use super::why::{Result, refuse};
use super::{Done, Update, slot};
use crate::hooks::{self, Phase};
use minke_boot::Chain;
use minke_sys::signal::{SIGHUP, SIGINT, SIGTERM, Signals};
use std::path::Path;

impl Update<'_> {
    /// Runs the hooks of the host app in the folder `app` of the other slot; the last one selects that slot for a trial.
    /// When one fails, the running system's own hooks put everything back, but with `-x`.
    pub(super) fn switch(&self, app: &Path, slots: &Slots, progress: &mut Progress) -> Result<Done> {
        progress.step(90, "Running the hooks of the other system");
        // What forks has one thread. And what is half done here is worse than either end: it is not left to a signal.
        progress.settle();
        let signals = Signals::new(&[SIGHUP, SIGINT, SIGTERM])?;
        self.remember_health(progress);
        if let Err(error) = self.run_hooks(app) {
            progress.warn(&format!("{error}; the running system's boot files are put back"));
            if self.args.has("no-restore") {
                return Err(error);
            }
            if let Err(second) = hooks::run(&self.root, Phase::Forward, false) {
                refuse!("{error}; and the boot files of the running system were not put back: {second}");
            }
            return Err(error);
        }
        drop(signals);
        // The hooks are scripts of any origin: what counts is what the boot loader will read.
        let selection = Chain::find(&self.boot())?.read(&self.boot())?;
        if selection.root != slots.inactive.slot {
            refuse!("the hooks did not select slot {}", slots.inactive.slot.letter());
        }
        Ok(Done::Selected)
    }

    fn run_hooks(&self, app: &Path) -> Result<()> {
        let image = Mounted::new(app, &self.root)?;
        for phase in [Phase::Before, Phase::Forward, Phase::After] {
            hooks::run(image.place(), phase, true)?;
        }
        Ok(())
    }

    /// Writes down what works now. A state partition without room is no reason to keep an old system (issue 1657).
    fn remember_health(&self, progress: &mut Progress) {
        if let Err(error) = crate::rollback::remember(&self.root) {
            progress.warn(&format!("the trial will not know how things were: {error}"));
        }
    }

    /// `hostapp-update rollback`: selects what the other slot holds.
    pub(super) fn go_back(&self, progress: &mut Progress) -> Result<Done> {
        let slots = self.slots()?;
        let letter = slots.inactive.slot.letter();
        slot::mounted(&slots)?;
        let app = slot::current(&slots.inactive.place).map(|id| slot::folder(&slots.inactive.place, &id));
        let Some(app) = app.filter(|app| is_bootable(app)) else {
            refuse!("slot {letter} holds no system");
        };
        let image = Mounted::new(&app, &self.root)?;
        let version = image.os_release().version().unwrap_or("an unknown version").to_owned();
        drop(image);
        progress.step(50, &format!("Going to {version} in slot {letter}"));
        if self.args.has("dry-run") {
            return Ok(Done::Checked);
        }
        self.switch(&app, &slots, progress)
    }
}
