//! `hostapp-update -i` and `-f`: from a release to a filled slot.

use super::check::{Device, Release, check};
use super::progress::Progress;
use super::slot::{self, Writing};
use super::slots::Slots;
use super::why::{Result, Why, refuse};
use super::{CLOCK_LIMIT, Done, Update};
use minke_boot::Chain;
use minke_config::{DeviceType, os_release};

impl Update<'_> {
    /// Installs a release and switches to it.
    pub(super) fn install(&self, progress: &mut Progress) -> Result<Done> {
        progress.step(25, "Preparing OS update");
        let slots = self.slots()?;
        // Without a selection to change, nothing of all this would count.
        let chain = Chain::find(&self.boot())?;
        let _ = (slots, chain, CLOCK_LIMIT);
        refuse!("not there yet")
    }
}
