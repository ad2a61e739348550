//! The way of one question through the servers: whom it goes to, when, and when it is given up. Pure: time comes in.
//!
//! First the quickest server; after as long as its answers usually take the next one too, and so on, while all of them may
//! still answer. Failures go on at once. When everybody was asked it begins again, more slowly, as datagrams get lost. The
//! fallback servers are asked when the usual ones cannot be reached, refuse, or have all been silent for a while; not because
//! a usual server says SERVFAIL, which is an answer: a private name is not for others to know.

use super::health::{Health, SILENCE, best, bit, has, to_compare};
use crate::core::STALE_AFTER;
use minke_wire::micros::Micros;

/// Servers that are all down have this long for an answer, others the longer time.
const GIVE_UP_DOWN: Micros = Micros::from_secs(3);
const GIVE_UP: Micros = Micros::from_secs(10);
/// How often all servers are asked.
const ROUNDS: u8 = 4;
/// No further round begins when so many questions were sent.
const MOST_ASKED: u8 = 16;
/// The first pause before everybody is asked again; the others are longer.
const PAUSE: Micros = Micros::from_millis(400);

/// The servers of a question: their figures, the places of those in charge, and of those that stand in for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Servers<'a> {
    pub(crate) all: &'a [Health],
    pub(crate) usual: &'a [usize],
    pub(crate) fallback: &'a [usize],
}

impl Servers<'_> {
    fn are_held(&self, members: &[usize], now: Micros) -> bool {
        members.iter().all(|member| self.all.get(*member).is_none_or(|health| health.is_held(now)))
    }
}

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send the question to this server, too.
    Ask(usize),
    /// Tell the clients what was known before, if anything; the question goes on.
    Stale,
    /// There will be no answer.
    Fail,
    /// Wait for an answer, or for [`Course::deadline`].
    Wait,
}

/// Where a question stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Course {
    begun: Micros,
    /// The fallback servers are asked now.
    fallen_back: bool,
    /// Bits of the places in the present list.
    tried: u32,
    failed: u32,
    rounds: u8,
    /// When the next server is asked; `None`: no more.
    next: Option<Micros>,
    /// The question has just gone to the first server; another may be compared with it.
    compare: bool,
    /// How often it was asked.
    asked: u8,
    stale: bool,
    /// A usual server has answered that it could not find out.
    failure: bool,
    /// The next moment at which there may be something to do.
    deadline: Micros,
}

impl Course {
    /// A question that comes up now.
    pub(crate) fn new(now: Micros) -> Self {
        Self {
            begun: now,
            fallen_back: false,
            tried: 0,
            failed: 0,
            rounds: 0,
            next: Some(now),
            compare: false,
            asked: 0,
            stale: false,
            failure: false,
            deadline: now,
        }
    }

    /// When [`Course::step`] is to be called at the latest.
    pub(crate) fn deadline(&self) -> Micros {
        self.deadline
    }

    /// The server cannot be asked or has refused (`answered`: it has said that it could not find out).
    pub(crate) fn failed(&mut self, server: usize, answered: bool, servers: Servers<'_>, now: Micros) {
        let members = if self.fallen_back { servers.fallback } else { servers.usual };
        if let Some(place) = members.iter().position(|member| *member == server) {
            self.failed |= bit(place);
            self.failure |= answered && !self.fallen_back;
            self.next = self.next.map(|_| now);
        }
        self.deadline = now;
    }

    /// The next thing to do; to be called until it says [`Step::Wait`].
    pub(crate) fn step(&mut self, now: Micros, servers: Servers<'_>) -> Step {
        let age = now.saturating_sub(self.begun);
        if !self.stale && age >= STALE_AFTER {
            self.stale = true;
            return Step::Stale;
        }
        if !self.fallen_back && self.must_fall_back(now, servers) {
            self.fallen_back = true;
            (self.tried, self.failed, self.rounds, self.asked) = (0, 0, 0, 0);
            self.next = Some(now);
        }
        let members = if self.fallen_back { servers.fallback } else { servers.usual };
        let down = servers.are_held(servers.usual, now) && servers.are_held(servers.fallback, now);
        let limit = if down { GIVE_UP_DOWN } else { GIVE_UP };
        let all_failed = (0..members.len()).all(|place| has(self.failed, place));
        if age >= limit || all_failed {
            return Step::Fail;
        }
        if std::mem::take(&mut self.compare)
            && let Some(place) = to_compare(servers.all, members, self.tried | self.failed, now)
        {
            return self.ask(place, members);
        }
        if self.next.is_some_and(|next| next <= now) {
            if let Some(place) = best(servers.all, members, self.tried | self.failed, now) {
                self.compare = self.tried == 0 && self.rounds == 0;
                let health = members.get(place).and_then(|member| servers.all.get(*member));
                self.next = Some(now.saturating_add(health.map_or(PAUSE, Health::patience)));
                return self.ask(place, members);
            }
            // Everybody was asked; those that have not failed are asked again.
            self.tried = 0;
            let pause = PAUSE.saturating_mul(1 << self.rounds.min(ROUNDS));
            self.rounds = self.rounds.saturating_add(1);
            self.next = (self.rounds < ROUNDS && self.asked < MOST_ASKED).then(|| now.saturating_add(pause));
        }
        self.deadline = [STALE_AFTER, SILENCE, GIVE_UP_DOWN]
            .map(|span| self.begun.saturating_add(span))
            .into_iter()
            .chain(self.next)
            .filter(|moment| *moment > now)
            .fold(self.begun.saturating_add(GIVE_UP), Micros::min);
        Step::Wait
    }

    fn must_fall_back(&self, now: Micros, servers: Servers<'_>) -> bool {
        if servers.fallback.is_empty() {
            return false;
        }
        let count = servers.usual.len();
        let held = servers.are_held(servers.usual, now);
        if (0..count).all(|place| has(self.failed, place)) {
            return held || !self.failure;
        }
        let silent = now >= self.begun.saturating_add(SILENCE);
        let due = self.next.is_none_or(|next| next <= now);
        let recent =
            |member: &usize| servers.all.get(*member).is_none_or(|health| health.was_asked_recently(now));
        let tried = (0..count).all(|place| has(self.tried, place));
        silent || held && due && (tried || servers.usual.iter().all(recent))
    }

    fn ask(&mut self, place: usize, members: &[usize]) -> Step {
        self.tried |= bit(place);
        self.asked = self.asked.saturating_add(1);
        members.get(place).map_or(Step::Wait, |server| Step::Ask(*server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Micros = Micros::from_millis(1);
    const START: Micros = Micros::from_secs(100);

    /// Servers that have answered just now, each in so many milliseconds.
    fn answered(times: &[u32]) -> Vec<Health> {
        let each = |time: &u32| {
            let mut health = Health::default();
            for turn in (1..20).rev() {
                let sent = START - MS * 100 * turn;
                health.was_asked(sent);
                health.has_answered(sent + MS * *time, Some(sent));
            }
            health
        };
        times.iter().map(each).collect()
    }

    /// What happens in the time of a question whose servers say nothing: when, and what.
    fn silence(course: &mut Course, servers: Servers<'_>) -> Vec<(u64, Step)> {
        let (mut now, mut seen) = (START, Vec::new());
        for _ in 0..1000 {
            let step = course.step(now, servers);
            if step == Step::Wait {
                assert!(course.deadline() > now);
                now = course.deadline();
                continue;
            }
            seen.push(((now - START).as_millis(), step));
            if step == Step::Fail {
                return seen;
            }
        }
        panic!("{seen:?}");
    }

    fn asked(seen: &[(u64, Step)]) -> Vec<usize> {
        seen.iter()
            .filter_map(|(_, step)| if let Step::Ask(server) = step { Some(*server) } else { None })
            .collect()
    }

    #[test]
    fn the_next_server_is_asked_within_milliseconds_and_everybody_again_later() {
        let all = answered(&[30, 5]);
        let servers = Servers { all: &all, usual: &[0, 1], fallback: &[] };
        let seen = silence(&mut Course::new(START), servers);
        assert_eq!(seen[0], (0, Step::Ask(1)));
        assert_eq!(seen[1], (20, Step::Ask(0)));
        assert!(seen[2].0 > 400 && seen[2].1 == Step::Ask(1), "{seen:?}");
        assert_eq!(asked(&seen), [1, 0, 1, 0, 1, 0, 1, 0]);
        assert!(seen.contains(&(1800, Step::Stale)));
        assert_eq!(seen.last(), Some(&(10_000, Step::Fail)));
    }

    #[test]
    fn a_lone_server_is_asked_again() {
        let all = answered(&[5]);
        let seen = silence(&mut Course::new(START), Servers { all: &all, usual: &[0], fallback: &[] });
        assert_eq!(asked(&seen), [0; 4]);
    }

    #[test]
    fn unknown_servers_are_compared_at_once() {
        let all = [Health::default(), Health::default(), Health::default()];
        let servers = Servers { all: &all, usual: &[0, 1, 2], fallback: &[] };
        let seen = silence(&mut Course::new(START), servers);
        assert_eq!(seen[..3], [(0, Step::Ask(0)), (0, Step::Ask(1)), (200, Step::Ask(2))]);
    }

    #[test]
    fn the_fallback_waits_until_the_usual_ones_were_silent_for_a_while() {
        let all = answered(&[5, 5, 5]);
        let servers = Servers { all: &all, usual: &[0, 1], fallback: &[2] };
        let seen = silence(&mut Course::new(START), servers);
        let first = seen.iter().find(|(_, step)| *step == Step::Ask(2)).unwrap();
        assert_eq!(first.0, 1500);
        // With nobody else it is asked at once.
        let seen = silence(&mut Course::new(START), Servers { usual: &[], ..servers });
        assert_eq!(seen[0], (0, Step::Ask(2)));
        let none = Servers { usual: &[], fallback: &[], ..servers };
        assert_eq!(silence(&mut Course::new(START), none), [(0, Step::Fail)]);
    }

    #[test]
    fn the_fallback_stands_in_soon_for_servers_that_are_known_to_be_down() {
        let mut all = answered(&[5, 5]);
        all[0].was_refused(START);
        let servers = Servers { all: &all, usual: &[0], fallback: &[1] };
        let seen = silence(&mut Course::new(START), servers);
        // Asked a tenth of a second ago: not again.
        assert_eq!(seen[0], (0, Step::Ask(1)));
        let later = START + Micros::from_millis(990);
        let mut course = Course::new(later);
        assert_eq!(course.step(later, servers), Step::Ask(0));
        assert_eq!(course.step(later, servers), Step::Wait);
        assert_eq!(course.deadline(), later + MS * 20);
    }

    #[test]
    fn failures_go_on_at_once_and_a_usual_servers_servfail_is_final() {
        let all = answered(&[5, 6, 7]);
        let servers = Servers { all: &all, usual: &[0, 1], fallback: &[2] };
        let mut course = Course::new(START);
        assert_eq!(course.step(START, servers), Step::Ask(0));
        assert_eq!(course.step(START, servers), Step::Wait);
        course.failed(0, true, servers, START + MS);
        assert_eq!(course.step(START + MS, servers), Step::Ask(1));
        let mut refused = course.clone();
        course.failed(1, true, servers, START + MS * 2);
        assert_eq!(course.step(START + MS * 2, servers), Step::Fail);
        // One of two has not even answered: neither is that of the other.
        refused.failure = false;
        refused.failed(1, false, servers, START + MS * 2);
        assert_eq!(refused.step(START + MS * 2, servers), Step::Ask(2));
        refused.failed(2, false, servers, START + MS * 3);
        assert_eq!(refused.step(START + MS * 3, servers), Step::Fail);
    }

    #[test]
    fn servers_that_fail_every_question_make_way() {
        let mut all = answered(&[5, 5]);
        (0..4).for_each(|_| all[0].has_failed(START, None));
        let servers = Servers { all: &all, usual: &[0], fallback: &[1] };
        let mut course = Course::new(START + MS * 990);
        assert_eq!(course.step(START + MS * 990, servers), Step::Ask(0));
        course.failed(0, true, servers, START + MS * 995);
        assert_eq!(course.step(START + MS * 995, servers), Step::Ask(1));
    }

    #[test]
    fn what_is_down_is_given_up_sooner() {
        let mut all = answered(&[5]);
        for _ in 0..4 {
            all[0].was_refused(START + Micros::from_secs(3600));
        }
        all[0].was_refused(START);
        let servers = Servers { all: &all, usual: &[0], fallback: &[] };
        let seen = silence(&mut Course::new(START), servers);
        assert_eq!(seen.last(), Some(&(3_000, Step::Fail)));
    }
}
