//! When the hardware watchdog is fed (spec os §17.5): systemd's RuntimeWatchdogSec= and RebootWatchdogSec=.
//!
//! Stage 1 starts it, PID 1's loop feeds it, and who ends the machine leaves it running: what hangs on the way is reset,
//! which a boot loader counts during a trial.

use crate::cmdline::Cmdline;
use crate::log;
use minke_sys::process::Ending;
use minke_sys::watchdog;
use minke_wire::unit::span_micros;
use std::time::Duration;

/// How long PID 1's loop may stand still.
const LIMIT: Duration = Duration::from_secs(10);
/// How long stage 1's steps may take, each, and the last steps before a restart: a slow card with much to be written.
const LONG: Duration = Duration::from_secs(600);
/// A driver that waits less than this is no help there: it would cut the disks' writes short.
const SHORT: Duration = Duration::from_secs(120);

/// How long the loop may stand still; `None`: a container's machine is somebody else's, or the kernel command line says
/// `systemd.watchdog_sec=0` (or `off`).
fn wanted(cmdline: &Cmdline) -> Option<Duration> {
    if crate::pid1::in_container() {
        return None;
    }
    let limit = match cmdline.value("systemd.watchdog_sec").unwrap_or_default() {
        "off" => Some(0),
        value => span_micros(value),
    };
    limit.map_or(Some(LIMIT), |limit| Some(Duration::from_micros(limit)).filter(|limit| !limit.is_zero()))
}

/// Starts it with the long limit; feeds it, if that was so before.
pub fn hold(cmdline: &Cmdline) {
    if wanted(cmdline).is_none() {
        return;
    }
    match watchdog::open() {
        Ok(false) => {}
        Ok(true) if watchdog::set_limit(LONG) >= SHORT => watchdog::feed(),
        Ok(true) => watchdog::stop(),
        Err(error) => log::line(log::WARNING, format_args!("{error}")),
    }
}

/// For the last steps of the machine: a restart that hangs is one all the same; nothing starts again what is to be off.
pub fn end(ending: Ending) {
    hold(&Cmdline::read());
    if !matches!(ending, Ending::Restart) {
        watchdog::stop();
    }
}

/// The loop's watchdog.
#[derive(Debug)]
pub struct Watchdog {
    /// `None`: it is not used, or cannot be.
    wanted: Option<Duration>,
    /// How long it waits. `None`: there is none yet.
    limit: Option<Duration>,
    /// When it was fed.
    fed: Duration,
}

impl Watchdog {
    /// As the command line says.
    pub fn new(cmdline: &Cmdline) -> Self {
        Self { wanted: wanted(cmdline), limit: None, fed: Duration::ZERO }
    }

    /// Looks for the device, which may come with a module.
    pub fn look(&mut self) {
        let (Some(wanted), None) = (self.wanted, self.limit) else { return };
        match watchdog::open() {
            Ok(false) => {}
            Ok(true) => {
                let limit = watchdog::set_limit(wanted).max(Duration::from_secs(1));
                log::line(log::INFO, format_args!("the hardware watchdog waits {} s", limit.as_secs()));
                self.limit = Some(limit);
            }
            Err(error) => {
                log::line(log::WARNING, format_args!("{error}"));
                self.wanted = None;
            }
        }
    }

    /// One turn of the loop at `now`: feeds it when it is time, and says when the loop must turn again.
    pub fn turn(&mut self, now: Duration) -> Option<Duration> {
        let limit = self.limit?;
        if self.is_due(limit, now) {
            watchdog::feed();
        }
        Some(self.fed.saturating_add(limit / 2))
    }

    /// Half of the limit is when it must be; a loop that turns anyhow brings that forward, from a quarter on, so that
    /// seldom a turn is for this alone.
    fn is_due(&mut self, limit: Duration, now: Duration) -> bool {
        let due = now.saturating_sub(self.fed) >= limit / 4;
        if due {
            self.fed = now;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_a_say() {
        let of = |text: &str| wanted(&Cmdline::parse(text)).map(|limit| limit.as_secs());
        assert_eq!(of("ro quiet"), Some(10));
        assert_eq!(of("systemd.watchdog_sec=30"), Some(30));
        assert_eq!(of("systemd.watchdog_sec=1min"), Some(60));
        for text in ["default", "", "x"] {
            assert_eq!(of(&format!("systemd.watchdog_sec={text}")), Some(10), "{text}");
        }
        for text in ["systemd.watchdog_sec=0", "systemd.watchdog-sec=off"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn a_loop_that_turns_feeds_it_in_time_and_seldom() {
        let second = Duration::from_secs;
        // Wake-ups of others' in seconds, and how often it is fed in five minutes.
        for (others, most) in [(u64::MAX, 61), (1, 101), (3, 101), (4, 76), (7, 86)] {
            let mut watchdog = Watchdog { wanted: None, limit: Some(second(10)), fed: Duration::ZERO };
            let (mut now, mut fed, mut last) = (second(100), 0, second(100));
            while now < second(400) {
                let before = watchdog.fed;
                let next = watchdog.turn(now).unwrap();
                if watchdog.fed != before {
                    assert!(now - last <= second(5), "{others}: fed after {:?}", now - last);
                    (fed, last) = (fed + 1, now);
                }
                let other =
                    now.as_secs().checked_div(others).and_then(|count| (count + 1).checked_mul(others));
                now = other.map_or(next, |other| next.min(second(other)));
            }
            assert!(fed <= most, "{others}: fed {fed} times");
        }
        let mut none = Watchdog { wanted: None, limit: None, fed: Duration::ZERO };
        assert_eq!(none.turn(second(5)), None);
    }
}
