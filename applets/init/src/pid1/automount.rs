//! Automatic mount points: systemd.automount(5).
//!
//! Whoever walks into one waits until the unit that mounts it has started or failed. PID 1 and the processes of that unit,
//! which share its process group, do not wait. After a fault the next PID 1 takes the mount points over, with what is mounted
//! there; who waited at that moment gets an error.

use super::{AUTOMOUNTS, Init};
use crate::log;
use crate::manager::{Kind, Verdict};
use crate::mounts;
use minke_sys::autofs::{Automount, KIND};
use minke_sys::event::Interest;
use minke_sys::{Errno, clock, mount};
use minke_wire::autofs::Request;
use minke_wire::mountinfo;
use std::path::Path;

/// The number of the last request, for a PID 1 after this one. In a tmpfs: it is of this boot alone.
const LAST: &str = "/run/minke/init.automount";

/// An automatic mount point that is up.
#[derive(Debug)]
pub(super) struct Kept {
    /// Its unit.
    unit: String,
    place: String,
    /// The unit that mounts it.
    pub target: String,
    automount: Automount,
    /// Those who wait.
    waiting: Vec<u32>,
    /// The job that they wait for.
    job: Option<u32>,
}

impl Kept {
    /// Lets everybody go on who waits.
    fn answer(&mut self, good: bool) {
        self.job = None;
        for token in self.waiting.drain(..) {
            let answer = match good {
                true => self.automount.ready(token),
                false => self.automount.fail(token, Errno::NODEV),
            };
            log::failure(log::ERROR, answer);
        }
    }

    /// Whether something is mounted there.
    fn is_filled(&self) -> bool {
        mountinfo::find(&mounts::table(), &self.place).is_some_and(|mount| mount.kind != KIND)
    }
}

impl Init {
    /// Makes a unit's automatic mount point, or ends it. `false`: the unit is none.
    pub(super) fn keep_automount(&mut self, name: &str, on: bool) -> bool {
        let slot = self.manager.units().get(name);
        let Some(trigger) = slot.and_then(|slot| slot.unit.trigger.as_deref()) else { return false };
        let Some(place) = trigger.place.clone() else { return false };
        let (target, mode) = (trigger.unit.clone(), trigger.directory_mode);
        let present = self.automounts.iter().position(|kept| kept.unit == name);
        match (present, on) {
            (None, true) => {
                let path = Path::new(&place);
                let _ = minke_sys::file::make_folder(path, mode);
                let last = minke_wire::text::number(&crate::read_text(Path::new(LAST), 64)).unwrap_or(0);
                let made = Automount::new(path, last).and_then(|automount| {
                    self.poller.add(&automount, AUTOMOUNTS, Interest::Read).map(|()| automount)
                });
                match made {
                    Ok(automount) => self.automounts.push(Kept {
                        unit: name.to_owned(),
                        place,
                        target,
                        automount,
                        waiting: Vec::new(),
                        job: None,
                    }),
                    Err(error) => super::error_about(name, format_args!("{name}: {error}")),
                }
            }
            (Some(index), false) => {
                let mut kept = self.automounts.remove(index);
                kept.answer(false);
                let filled = kept.is_filled();
                drop(kept);
                if !filled {
                    let _ = mount::unmount_lazy(Path::new(&place));
                }
            }
            _ => {}
        }
        true
    }

    /// Somebody walks into an automatic mount point.
    pub(super) fn take_automounts(&mut self) {
        for index in 0..self.automounts.len() {
            let mut asked = false;
            let Some(kept) = self.automounts.get_mut(index) else { return };
            while let Some(request) = kept.automount.take() {
                match request {
                    Request::Mount(token) => {
                        let _ = minke_sys::file::write(LAST, token.to_string());
                        kept.waiting.push(token);
                    }
                    // Nobody has asked the kernel for this.
                    Request::Unmount(token) => {
                        log::failure(log::ERROR, kept.automount.fail(token, Errno::BUSY));
                    }
                }
                asked = true;
            }
            if !asked {
                continue;
            }
            if kept.is_filled() {
                kept.answer(true);
                continue;
            }
            // A unit that is up without anything mounted: somebody has unmounted it by hand.
            let up = self.manager.units().get(&kept.target).is_some_and(|slot| slot.active().is_up());
            let (kind, target) = (if up { Kind::Restart } else { Kind::Start }, kept.target.clone());
            let job = self.manager.enqueue(&mut self.machine, kind, &target, clock::boottime());
            let Some(kept) = self.automounts.get_mut(index) else { return };
            match job {
                Ok(Some(job)) => kept.job = Some(job),
                Ok(None) => kept.answer(true),
                Err(refusal) => {
                    let unit = kept.unit.clone();
                    kept.answer(false);
                    super::error_about(&unit, format_args!("{unit}: {refusal}"));
                }
            }
        }
    }

    /// A job has ended, perhaps one that somebody waits for.
    pub(super) fn automount_ended(&mut self, id: u32, verdict: Verdict) {
        for kept in &mut self.automounts {
            if kept.job == Some(id) {
                kept.answer(verdict.is_good());
            }
        }
    }
}
