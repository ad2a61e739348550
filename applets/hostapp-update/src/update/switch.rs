//! From a slot that holds a system to one that is started next: the hooks of that system, the last of which selects it.

use super::image::is_bootable;
use super::progress::Progress;
use super::slots::Slots;
use super::why::{Result, Why, refuse};
use super::{Done, Update, slot};
use crate::hooks::{self, Phase};
use crate::rollback::{self, Other};
use minke_boot::Chain;
use minke_sys::signal::{self, SIGHUP, SIGINT, SIGTERM, Signals};
use minke_sys::status::exists;
use std::path::Path;

impl Update<'_> {
    /// Runs the hooks of the other slot's system, whose root is mounted at `system`; the last one selects that slot for a
    /// trial. When one fails, or a signal asks for the end, the running system's own hooks put everything back, but with
    /// `-x`.
    pub(super) fn switch(&self, system: &Path, slots: &Slots, progress: &mut Progress) -> Result<Done> {
        progress.step(90, "Running the hooks of the other system");
        // What forks has one thread. And what is half done here is worse than either end: it is not left to a signal.
        progress.settle();
        let signals = Signals::new(&[SIGHUP, SIGINT, SIGTERM])?;
        // A state partition without room is no reason to keep an old system (issue 1657).
        if let Err(error) = rollback::remember(&self.root) {
            progress.warn(&format!("the trial will not know how things were: {error}"));
        }
        let mut done = Self::run_hooks(system);
        if signals.take().is_some() {
            done = Err(Why::new(format_args!("interrupted")));
        }
        if let Err(error) = done {
            if self.args.has("no-restore") {
                return Err(error);
            }
            progress.warn(&format!("{error}: the running system's boot files and selection are put back"));
            if let Err(second) = hooks::run(&self.root, Phase::Forward, false) {
                refuse!("{error}; and the running system's boot files were not put back: {second}");
            }
            return Err(error);
        }
        drop(signals);
        signal::unblock_all()?;
        // The hooks are scripts of any origin: what counts is what the boot loader will read.
        let selection = Chain::find(&self.boot())?.read(&self.boot())?;
        if selection.root != slots.inactive.slot {
            refuse!("the hooks did not select slot {}", slots.inactive.slot.letter());
        }
        Ok(Done::Selected)
    }

    fn run_hooks(system: &Path) -> Result<()> {
        for phase in [Phase::Before, Phase::Forward, Phase::After] {
            hooks::run(system, phase, true)?;
        }
        Ok(())
    }

    /// `hostapp-update rollback`: selects what the other slot holds.
    pub(super) fn go_back(&self, progress: &mut Progress) -> Result<Done> {
        let slots = self.slots()?;
        let letter = slots.inactive.slot.letter();
        slot::mounted(&slots)?;
        let place = &slots.inactive.place;
        // A reference system has a stage 1 of its own there.
        if !is_bootable(&place.join("current")) && !exists(place.join("sbin/init")) {
            refuse!("slot {letter} holds no system");
        }
        let other = Other::mount(&self.root)?;
        progress.step(50, &format!("Going to {} in slot {letter}", other.version));
        if self.args.has("dry-run") {
            return Ok(Done::Checked);
        }
        self.switch(&other.place, &slots, progress)
    }
}
