//! Containers whose process died: the second line behind the engine's restart policy.
//!
//! The engine restarts what dies. Should it not, because it was itself restarted in that moment, a container
//! that died by itself is started again after a pause that grows. One that somebody stopped is left alone:
//! the engine tells of the signal before it tells of the death, and where one does not, the exit status of the
//! signals that stop containers gives it away. In doubt it stays down: what a person did counts more.
//! Pure: times are arguments.

use crate::values::backoff;
use minke_engine_api::Event;
use std::time::Duration;

/// The first pause; long enough for the engine's own restarts, which begin after a tenth of a second.
const FIRST: Duration = Duration::from_secs(5);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(300);
/// A container that ran for this long was well: the next pause is the first again.
const HEALTHY: Duration = Duration::from_secs(60);
/// Most containers that are remembered.
const MAX: usize = 256;

#[derive(Debug, Default)]
struct Life {
    container: String,
    started: Option<Duration>,
    /// Somebody sent it a signal since it started.
    stopped: bool,
    /// How often it died in a row.
    deaths: u32,
    /// When it may be started again.
    due: Option<Duration>,
}

/// The containers that were seen to die.
#[derive(Debug, Default)]
pub struct Crashes {
    lives: Vec<Life>,
}

impl Crashes {
    /// Takes an event of the engine at time `now`.
    pub fn event(&mut self, event: &Event, now: Duration) {
        let (action, container) = (event.action.as_str(), event.container.as_str());
        if action == "destroy" {
            self.lives.retain(|life| life.container != container);
            return;
        }
        if !matches!(action, "start" | "kill" | "stop" | "die") {
            return;
        }
        let known = self.lives.iter().position(|life| life.container == container);
        if known.is_none() && self.lives.len() < MAX {
            self.lives.push(Life { container: container.to_owned(), ..Life::default() });
        }
        let place = known.unwrap_or(self.lives.len().saturating_sub(1));
        let Some(life) = self.lives.get_mut(place).filter(|life| life.container == container) else { return };
        match action {
            "start" => {
                life.started = Some(now);
                life.stopped = false;
                life.due = None;
            }
            "die" if !life.stopped && event.exit_code.is_some_and(is_crash) => {
                let ran = life.started.map_or(Duration::ZERO, |start| now.saturating_sub(start));
                life.deaths = if ran >= HEALTHY { 1 } else { life.deaths.saturating_add(1) };
                life.due = Some(minke_sys::clock::after(now, backoff(FIRST, life.deaths, LONGEST)));
            }
            "die" => {}
            _ => {
                life.stopped = true;
                life.due = None;
            }
        }
    }

    /// Containers whose pause is over at `now`. One that is `exited` then is to be started; one that the
    /// engine has brought back is not, and its "start" has ended the pause.
    pub fn due(&self, now: Duration) -> Vec<String> {
        let is_due = |life: &&Life| life.due.is_some_and(|due| due <= now);
        self.lives.iter().filter(is_due).map(|life| life.container.clone()).collect()
    }

    /// The pauses that were over at `now` have been acted on.
    pub fn acted(&mut self, now: Duration) {
        for life in &mut self.lives {
            life.due = life.due.filter(|due| *due > now);
        }
    }

    /// When the next pause ends.
    pub fn next(&self) -> Option<Duration> {
        self.lives.iter().filter_map(|life| life.due).min()
    }
}

/// Exit statuses that no stop gives: 0 is an orderly end, 128 and the number of SIGINT, SIGKILL or SIGTERM is
/// what a stop leaves.
fn is_crash(code: i64) -> bool {
    !matches!(code, 0 | 130 | 137 | 143)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn event(action: &str, container: &str) -> Event {
        Event { action: action.to_owned(), container: container.to_owned(), exit_code: Some(1) }
    }

    #[test]
    fn an_end_that_a_stop_may_have_caused_is_no_crash() {
        for (exit_code, wanted) in
            [(Some(0), false), (Some(137), false), (Some(143), false), (None, false), (Some(139), true)]
        {
            let mut crashes = Crashes::default();
            crashes.event(&Event { exit_code, ..event("die", "a") }, at(0));
            assert_eq!(crashes.next().is_some(), wanted, "{exit_code:?}");
        }
    }

    #[test]
    fn what_died_is_due_after_a_pause_that_grows() {
        let mut crashes = Crashes::default();
        let mut now = at(0);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            crashes.event(&event("start", "a"), now);
            crashes.event(&event("die", "a"), now);
            let next = crashes.next().unwrap();
            assert!(crashes.due(next - at(1)).is_empty());
            assert!(crashes.due(next) == ["a"]);
            pauses.push((next - now).as_secs());
            crashes.acted(next);
            assert_eq!(crashes.next(), None);
            now = next;
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300]);
        crashes.event(&event("start", "a"), now);
        crashes.event(&event("die", "a"), now + HEALTHY);
        assert_eq!(crashes.next(), Some(now + HEALTHY + FIRST));
    }

    #[test]
    fn what_was_stopped_or_came_back_or_is_gone_is_left_alone() {
        let mut crashes = Crashes::default();
        for (events, due) in [
            (&["start", "kill", "die", "stop"][..], false),
            (&["start", "die", "start"], false),
            (&["start", "die", "destroy"], false),
            (&["start", "kill", "die", "start", "die"], true),
            (&["die"], true),
            (&["exec_start", "top"], false),
        ] {
            for action in events {
                crashes.event(&event(action, "a"), at(10));
            }
            assert_eq!(crashes.next().is_some(), due, "{events:?}");
            crashes.event(&event("destroy", "a"), at(10));
        }
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut crashes = Crashes::default();
        for number in 0..10_000 {
            crashes.event(&event("die", &number.to_string()), at(0));
        }
        assert_eq!(crashes.lives.len(), MAX);
    }
}
