//! The time client without sockets and clocks: events come in with the time, what is to be done comes out.

mod clock;
pub(crate) mod filter;
pub(crate) mod law;
mod leap;
mod names;
pub(crate) mod select;
#[cfg(test)]
mod simulator;
pub(crate) mod source;
#[cfg(test)]
mod tests;

use crate::nanos::Nanos;
use crate::sources::Line;
use clock::Clock;
pub(crate) use clock::Steering;
use names::Entry;
use source::{Answer, SECOND, Source};
use std::net::SocketAddr;

/// The most servers that are asked.
pub(crate) const MOST_SOURCES: usize = 32;
/// Questions of a burst at the start, as many as chrony's `iburst` has.
const BURST: u8 = 8;
/// Between two attempts that changes of routes lead to, in nanoseconds.
const ROUTE_PAUSE: i64 = 10 * SECOND;
/// A sleep of the machine longer than this makes old answers worthless, in nanoseconds.
const SUSPENDED: i64 = 50_000_000;

/// All clocks at once, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Now {
    /// Since boot, suspend included.
    pub(crate) boot: i64,
    /// How much of that the machine was suspended.
    pub(crate) suspended: i64,
    /// The bare oscillator.
    pub(crate) raw: i64,
    /// Since 1970 UTC, by the clock that is steered.
    pub(crate) real: i64,
    /// How long it took to read these two: they may be of moments so far from each other.
    pub(crate) spread: i64,
    /// For what must not be the same on all devices; no secret.
    pub(crate) random: u64,
}

impl Now {
    /// How far the clock is ahead of the oscillator.
    pub(crate) fn ahead(&self) -> i64 {
        self.real.since(self.raw)
    }

    /// The oscillator in seconds.
    fn time(&self) -> f64 {
        self.raw as f64 * 1e-9
    }
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Send the question of this source: [`Client::ask`] makes it.
    Ask(u64),
    /// This source is gone or its question is void: close its socket.
    Close(u64),
    /// Find the addresses of a host and tell [`Client::resolved`].
    Resolve {
        /// Which line asks.
        entry: u64,
        /// The name.
        host: String,
        /// The port of NTS key exchanges, when one is to tell where the server is: [`Client::keyed`].
        nts: Option<u16>,
    },
    /// Set the clock forward by nanoseconds (back, if negative), then tell [`Client::stepped`].
    Step(i64),
    /// Steer the clock.
    Steer(Steering),
    /// The clock is no longer known to be right.
    Lost,
    /// A line for the log.
    Log(String),
}

/// What is known at the start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Beginning {
    /// Frequency and its standard deviation, from an earlier run.
    pub(crate) drift: Option<(f64, f64)>,
    /// When the binary was built, in nanoseconds since 1970: no true time is earlier.
    pub(crate) build: i64,
    /// The kernel's clock is synchronised: an earlier run of this program has steered it.
    pub(crate) synchronized: bool,
    /// The clock is only watched.
    pub(crate) watch_only: bool,
}

/// The time client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) sources: Vec<Source>,
    entries: Vec<Entry>,
    pub(crate) clock: Clock,
    pub(crate) online: bool,
    actions: Vec<Action>,
    next_id: u64,
    suspended: i64,
    /// When those who waited for a route were tried again.
    rerouted: Option<i64>,
}

impl Client {
    /// A client without servers.
    pub(crate) fn new(now: Now, beginning: Beginning) -> Self {
        Self {
            sources: Vec::new(),
            entries: Vec::new(),
            clock: Clock::new(now, beginning),
            online: true,
            actions: Vec::new(),
            next_id: 1,
            suspended: now.suspended,
            rerouted: None,
        }
    }

    /// What has to be done since the last call.
    pub(crate) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// When [`Client::timer`] is due, in nanoseconds since boot.
    pub(crate) fn deadline(&self) -> Option<i64> {
        let mut first = self.clock.quorum_deadline();
        if self.online {
            let asks = self.sources.iter().map(|source| source.next);
            for due in asks.chain(self.entries.iter().map(Entry::due)).flatten() {
                first = Some(first.map_or(due, |first| first.min(due)));
            }
        }
        first
    }

    /// Another list of servers. Those that stay keep what is known of them.
    pub(crate) fn set_lines(&mut self, now: Now, lines: Vec<Line>) {
        let mut old = std::mem::take(&mut self.entries);
        for line in lines {
            let entry = match old.iter().position(|entry| entry.line == line) {
                Some(place) => old.swap_remove(place),
                None => Entry::new(self.fresh_id(), line),
            };
            self.entries.push(entry);
        }
        for entry in old {
            self.drop_sources(|source| source.entry == entry.id);
        }
        self.timer(now);
    }

    /// Does what is due.
    pub(crate) fn timer(&mut self, now: Now) {
        self.watch(now);
        if self.online {
            self.replace_hopeless(now);
            self.resolve_due(now);
            self.ask_due(now);
        }
        if self.clock.quorum_deadline().is_some_and(|deadline| deadline <= now.boot) {
            self.update(now);
        }
        self.reselect(now);
    }

    /// Asks all servers whose time has come, and those whose time comes soon after: one waking for all.
    fn ask_due(&mut self, now: Now) {
        let due = |source: &Source, at: i64| source.next.is_some_and(|next| next <= at);
        if !self.sources.iter().any(|source| due(source, now.boot)) {
            return;
        }
        let mut ids = Vec::new();
        for source in &mut self.sources {
            let early = (SECOND << source.interval().clamp(0, 17)) / 8;
            if due(source, now.boot.after(if source.burst > 0 { SECOND / 2 } else { early })) {
                // Until it is asked, which happens at once; a call meanwhile must not ask twice.
                source.next = None;
                ids.push(source.id);
            }
        }
        for id in ids {
            self.actions.push(Action::Ask(id));
        }
    }

    /// The question of a source, its address and whether it must be sealed; `None` when the source is gone. `random` must be unpredictable.
    pub(crate) fn ask(&mut self, id: u64, now: Now, random: [u64; 2]) -> Option<(SocketAddr, Vec<u8>)> {
        let source = self.source(id)?;
        let question = (source.address, source.ask(now, random));
        self.reselect(now);
        Some(question)
    }

    /// The question was sent when the clock showed `real` nanoseconds.
    pub(crate) fn was_sent(&mut self, id: u64, now: Now, real: i64) {
        if let Some(source) = self.source(id) {
            source.was_sent(real.since(now.ahead()));
        }
    }

    /// The question could not be sent or was refused on the way; `unrouted`: no route leads there, so that asking again
    /// is useless until one comes.
    pub(crate) fn was_refused(&mut self, id: u64, now: Now, problem: &'static str, unrouted: bool) {
        if let Some(source) = self.source(id) {
            source.was_refused(now, problem, unrouted);
            self.replace_hopeless(now);
            self.update(now);
        }
    }

    /// A datagram came from a source when the clock showed `real` nanoseconds. `true`: it answers the question.
    pub(crate) fn received(&mut self, id: u64, now: Now, bytes: &[u8], real: i64) -> bool {
        self.watch(now);
        let raw = real.since(now.ahead());
        let Some(place) = self.sources.iter().position(|source| source.id == id) else { return true };
        let Some(source) = self.sources.get_mut(place) else { return true };
        match source.answer(now, bytes, raw, self.clock.pivot()) {
            Answer::Foreign => return false,
            Answer::Useless => {}
            Answer::Sample { time, offset, delay, precision } => {
                let sample = self.clock.sample(time, offset, delay, precision);
                if source.filter.estimate().is_none() {
                    let (frequency, variance) = self.clock.frequency();
                    source.filter.restart(frequency, variance);
                }
                let jumped = source.add(sample, self.clock.wander());
                let doubtful = source.filter.is_doubtful();
                if jumped {
                    let name = source.address.ip();
                    self.actions.push(Action::Log(format!("the time of {name} or the clock's has jumped")));
                }
                if doubtful {
                    source.doubt(now);
                }
                self.clock.heard(now);
                let entry = source.entry;
                self.entry_is_well(entry);
            }
        }
        self.replace_hopeless(now);
        self.update(now);
        true
    }

    /// The network is there: every server is asked now.
    pub(crate) fn go_online(&mut self, now: Now) {
        self.online = true;
        self.hurry(now);
    }

    /// The network is away: nobody is asked.
    pub(crate) fn go_offline(&mut self, now: Now) {
        self.online = false;
        for source in &mut self.sources {
            source.forget_question();
            // Nobody knows whether it can still be reached.
            source.reach = 0;
            self.actions.push(Action::Close(source.id));
        }
        self.reselect(now);
    }

    /// Whether somebody waits for a route.
    pub(crate) fn waits_for_route(&self) -> bool {
        self.sources.iter().any(|source| source.unrouted) || self.entries.iter().any(Entry::waits)
    }

    /// Addresses or routes have changed: whoever waited for one is tried again.
    pub(crate) fn route_changed(&mut self, now: Now) {
        // Containers that come and go change routes all the time.
        let again = self.rerouted.map_or(now.boot, |last| last.after(ROUTE_PAUSE));
        let soon = again.max(now.boot.after(SECOND / 5));
        self.rerouted = Some(soon);
        for source in self.sources.iter_mut().filter(|source| source.unrouted) {
            source.next = Some(source.next.map_or(soon, |next| next.min(soon)));
        }
        self.retry_names(soon);
    }

    /// Asks each server `count` times in a row; also those that could not be reached.
    pub(crate) fn burst(&mut self, now: Now, count: u8) {
        for source in &mut self.sources {
            source.begin_burst(now.boot, count);
        }
        self.retry_names(now.boot);
        self.timer(now);
    }

    fn hurry(&mut self, now: Now) {
        let count = if self.clock.is_synchronized(now) { 1 } else { BURST };
        self.burst(now, count);
    }

    /// Looks whether the machine slept or somebody set the clock: what was known of the phase is worthless then.
    pub(crate) fn watch(&mut self, now: Now) {
        let slept = now.suspended.since(self.suspended);
        self.suspended = now.suspended;
        let set = self.clock.watch(now, &mut self.sources);
        if slept.saturating_abs() <= SUSPENDED && set.is_none() {
            return;
        }
        let reason = set.map_or_else(
            || format!("the machine slept for {} s", slept / SECOND),
            |by| format!("somebody set the clock by {}", clock::seconds(by)),
        );
        self.actions.push(Action::Log(format!("{reason}; all servers are asked anew")));
        self.clock.lose_phase(now);
        self.actions.push(Action::Lost);
        let (frequency, variance) = self.clock.frequency();
        for source in &mut self.sources {
            source.filter.restart(frequency, variance);
            source.forget_question();
            self.actions.push(Action::Close(source.id));
            source.begin_burst(now.boot, BURST);
        }
    }

    /// The clock has been set as [`Action::Step`] asked.
    pub(crate) fn stepped(&mut self, now: Now) {
        self.clock.stepped(now);
        // The stamps of answers that are on their way cannot be told to be from before or after.
        for source in &mut self.sources {
            if source.is_pending() {
                source.forget_question();
                self.actions.push(Action::Close(source.id));
            }
        }
    }

    /// Sets the clock at once by what is left to correct.
    pub(crate) fn step_now(&mut self, now: Now) {
        if let Some(by) = self.clock.remaining(now) {
            self.actions.push(Action::Step(by));
        }
    }

    /// The server that was followed may have fallen silent or be gone: the others are judged without it.
    fn reselect(&mut self, now: Now) {
        let Some(id) = self.clock.report.selected else { return };
        if !self.sources.iter().any(|source| source.id == id && source.is_usable()) {
            self.update(now);
        }
    }

    fn update(&mut self, now: Now) {
        let waiting = self.waiting();
        self.clock.update(now, &mut self.sources, waiting, &mut self.actions);
    }

    /// Servers that may still give their first answer in a moment, and names that may still become servers.
    fn waiting(&self) -> (usize, usize) {
        let first = |source: &&Source| source.is_pending() && source.last.is_none() && source.sent <= 1;
        let names = self.entries.iter().filter(|entry| entry.is_beginning()).count();
        (self.sources.iter().filter(first).count(), names)
    }

    fn source(&mut self, id: u64) -> Option<&mut Source> {
        self.sources.iter_mut().find(|source| source.id == id)
    }

    fn drop_sources(&mut self, drop: impl Fn(&Source) -> bool) {
        for source in &self.sources {
            if drop(source) {
                self.actions.push(Action::Close(source.id));
            }
        }
        self.sources.retain(|source| !drop(source));
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }
}
