//! What path and timer units need of the loop: news of the disk, and the calendar's alarm.

use super::watch::{News, Watches};
use super::{ALARM, Init, MOUNTS, PATHS, usable};
use crate::log;
use minke_sys::alarm::Alarm;
use minke_sys::clock;
use minke_sys::event::Interest;

impl Init {
    /// Begins to watch what a path unit names, or ends it.
    pub(super) fn watch_paths(&mut self, name: &str, on: bool) {
        if self.keep_automount(name, on) {
            return;
        }
        if on && self.watches.is_none() {
            self.watches = usable(Watches::new(), &self.poller, PATHS);
            if let Some(watches) = &self.watches {
                log::failure(log::ERROR, self.poller.add(watches.mounts(), MOUNTS, Interest::None));
            }
        }
        // What has happened until now is not lost when a reload begins to watch anew.
        self.take_path_changes();
        // The instance stays when nothing is watched: containers, which share root's number of them, may have taken the
        // last one by the time it is needed again.
        let Some(watches) = &mut self.watches else { return };
        watches.forget(name);
        let slot = self.manager.units().get(name);
        if let Some(trigger) = slot.and_then(|slot| slot.unit.trigger.as_deref()).filter(|_| on) {
            watches.watch(name, trigger);
            // What is there already is seen from now on, too.
            self.tell_paths(vec![(name.to_owned(), false)]);
        }
    }

    /// Changes on the disk.
    pub(super) fn take_path_changes(&mut self) {
        let news = self.watches.as_mut().map(Watches::take);
        self.tell_paths(news.unwrap_or_default());
    }

    /// Mounts came or went.
    pub(super) fn take_mount_changes(&mut self) {
        let news = self.watches.as_mut().map(Watches::remounted);
        self.tell_paths(news.unwrap_or_default());
    }

    fn tell_paths(&mut self, news: Vec<News>) {
        for (name, changed) in news {
            self.manager.path_event(&mut self.machine, &name, changed, clock::boottime());
        }
    }

    /// Sets the alarm to the next moment of the calendar that a timer waits for.
    pub(super) fn set_alarm(&mut self) {
        let wanted = self.manager.alarm();
        if wanted == self.alarm_time {
            return;
        }
        if self.alarm.is_none() {
            self.alarm = usable(Alarm::new(), &self.poller, ALARM);
        }
        self.alarm_time = wanted;
        match self.alarm.as_ref().map(|alarm| alarm.set(wanted)) {
            Some(Ok(true)) => {
                self.alarm_time = None;
                self.manager.clock_set(&mut self.machine, clock::boottime());
            }
            Some(Err(error)) => log::line(log::ERROR, format_args!("{error}")),
            _ => {}
        }
    }

    /// The alarm rings: timers are looked at in each turn of the loop anyhow.
    pub(super) fn take_alarm(&mut self) {
        // Whatever comes next, the alarm is set anew.
        self.alarm_time = None;
        if self.alarm.as_ref().is_some_and(Alarm::take) {
            self.manager.clock_set(&mut self.machine, clock::boottime());
        }
    }
}
