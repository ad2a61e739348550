//! The decisions, without a clock and without input or output (spec os §15.10.3, §15.10.4).

use minke_boot::{Selection, Slot};
use minke_config::os_release;
use std::path::Path;
use std::time::Duration;

/// How a system is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Attempts until it is given up.
    pub count: u32,
    /// Between two attempts.
    pub timeout: Duration,
    /// Before the first one.
    pub delay: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { count: 15, timeout: Duration::from_secs(60), delay: Duration::from_secs(60) }
    }
}

impl Settings {
    /// The defaults, and over them `COUNT=`, `TIMEOUT=` and `DELAY=` (seconds) of `/mnt/state/rollback-health.conf`; what
    /// makes no sense there changes nothing.
    pub fn read(root: &Path) -> Self {
        // The same shell assignments as in os-release.
        let file = os_release(&root.join("mnt/state/rollback-health.conf"));
        let number = |name: &str, least: u64, usual: u64| {
            let given = file.get(name).and_then(minke_wire::text::number::<u64>);
            given.filter(|number| (least..=86_400).contains(number)).unwrap_or(usual)
        };
        let usual = Self::default();
        Self {
            count: u32::try_from(number("COUNT", 1, usual.count.into())).unwrap_or(usual.count),
            timeout: Duration::from_secs(number("TIMEOUT", 1, usual.timeout.as_secs())),
            delay: Duration::from_secs(number("DELAY", 0, usual.delay.as_secs())),
        }
    }
}

/// What a boot with breadcrumbs is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Situation {
    /// The selected slot runs, on trial.
    Trial,
    /// The selected slot runs, and there is no trial (any more).
    Over,
    /// The other slot is selected and was not started yet: the next boot begins its trial.
    Pending,
    /// The other slot runs: the boot loader gave the selected one up, or a person chose it.
    Elsewhere,
}

/// What this boot is.
pub fn situation(selection: &Selection, running: Slot) -> Situation {
    match (selection.root == running, selection.upgrade_available) {
        // Whatever a boot loader started or gave up, it has counted before.
        (false, true) if selection.bootcount == 0 => Situation::Pending,
        (false, _) => Situation::Elsewhere,
        (true, true) => Situation::Trial,
        (true, false) => Situation::Over,
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Ask again after this time.
    Wait(Duration),
    /// Make an attempt.
    Attempt,
    /// The system is well: it stays.
    Keep,
    /// The system is given up.
    GoBack,
}

/// A trial. A reboot begins it anew.
#[derive(Debug)]
pub struct Trial {
    settings: Settings,
    /// Attempts that failed.
    pub attempts: u32,
    next: Duration,
}

impl Trial {
    /// A trial that begins at `now`.
    pub fn new(settings: Settings, now: Duration) -> Self {
        Self { settings, attempts: 0, next: now.saturating_add(settings.delay) }
    }

    /// What to do at `now`; `attempt`: how the attempt went that was just made.
    pub fn step(&mut self, now: Duration, attempt: Option<bool>) -> Action {
        match attempt {
            Some(true) => return Action::Keep,
            Some(false) => {
                self.attempts = self.attempts.saturating_add(1);
                self.next = now.saturating_add(self.settings.timeout);
            }
            None => {}
        }
        if self.attempts >= self.settings.count {
            return Action::GoBack;
        }
        match self.next.saturating_sub(now) {
            Duration::ZERO => Action::Attempt,
            left => Action::Wait(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Lets a trial run on a clock of its own, where an attempt takes 2 s: how it ends, and when.
    fn simulate(settings: Settings, well_from: Option<u32>) -> (Action, u64, u32) {
        let mut now = seconds(1000);
        let (mut trial, mut attempt, mut made) = (Trial::new(settings, now), None, 0);
        for _ in 0..10_000 {
            match trial.step(now, attempt.take()) {
                Action::Wait(time) => now += time,
                Action::Attempt => {
                    made += 1;
                    now += seconds(2);
                    attempt = Some(well_from.is_some_and(|from| made >= from));
                }
                end => return (end, (now - seconds(1000)).as_secs(), made),
            }
        }
        panic!("no end");
    }

    #[test]
    fn a_trial_takes_as_long_as_the_specification_says() {
        // 60 s, then 15 attempts of 2 s with 60 s between them.
        assert_eq!(simulate(Settings::default(), None), (Action::GoBack, 60 + 15 * 2 + 14 * 60, 15));
        assert_eq!(simulate(Settings::default(), Some(1)), (Action::Keep, 62, 1));
        assert_eq!(simulate(Settings::default(), Some(15)), (Action::Keep, 60 + 15 * 2 + 14 * 60, 15));
        let short = Settings { count: 3, timeout: seconds(10), delay: Duration::ZERO };
        assert_eq!(simulate(short, None), (Action::GoBack, 26, 3));
    }

    #[test]
    fn settings_that_make_no_sense_are_the_usual_ones() {
        let root = std::env::temp_dir().join(format!("minke-rule-{}", std::process::id()));
        std::fs::create_dir_all(root.join("mnt/state")).unwrap();
        let with = |text: &str| {
            std::fs::write(root.join("mnt/state/rollback-health.conf"), text).unwrap();
            let Settings { count, timeout, delay } = Settings::read(&root);
            (count, timeout.as_secs(), delay.as_secs())
        };
        assert_eq!(with("COUNT=3\nTIMEOUT=10\nDELAY=0\n"), (3, 10, 0));
        assert_eq!(with("# mine\nTIMEOUT=\"5\"\r\n"), (15, 5, 60));
        assert_eq!(with("COUNT=0\nTIMEOUT=-1\nDELAY=100000\n"), (15, 60, 60));
        assert_eq!(with("COUNT=99999999999999999999\nTIMEOUT=x\nDELAY"), (15, 60, 60));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(Settings::read(&root), Settings::default());
    }

    #[test]
    fn a_boot_is_a_trial_its_end_or_a_fall_back() {
        let selection = |root, upgrade_available| Selection { root, upgrade_available, bootcount: 4 };
        let fresh = Selection { root: Slot::B, upgrade_available: true, bootcount: 0 };
        assert_eq!(situation(&fresh, Slot::A), Situation::Pending);
        assert_eq!(situation(&fresh, Slot::B), Situation::Trial);
        assert_eq!(situation(&selection(Slot::B, true), Slot::B), Situation::Trial);
        assert_eq!(situation(&selection(Slot::B, false), Slot::B), Situation::Over);
        assert_eq!(situation(&selection(Slot::B, true), Slot::A), Situation::Elsewhere);
        assert_eq!(situation(&selection(Slot::B, false), Slot::A), Situation::Elsewhere);
    }
}
