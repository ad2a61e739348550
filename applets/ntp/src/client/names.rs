//! Lines of the lists: from names to servers, and other servers for those that are of no use.

use super::source::{SECOND, Source};
use super::{Action, BURST, Client, MOST_SOURCES, Now};
use crate::nanos::Nanos;
use crate::sources::Line;
use std::net::{IpAddr, SocketAddr};

/// First pause before a name is looked up again; it doubles up to the longest.
const RETRY: i64 = 2 * SECOND;
const LONGEST: i64 = 1024 * SECOND;
/// Between two look-ups of a name that was found.
const AGAIN: i64 = 64 * SECOND;
/// Addresses of a name that are kept.
const MOST_ADDRESSES: usize = 16;

/// A line and what became of it.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) line: Line,
    /// The line's port, or what a key exchange has told.
    port: u16,
    /// Addresses that have not been tried.
    spare: Vec<IpAddr>,
    /// When it is looked up next, in nanoseconds since boot.
    due: Option<i64>,
    /// A look-up is on its way.
    resolving: bool,
    failures: u32,
    /// Look-ups since a server of it last answered.
    vain: u32,
    /// What the resolver said.
    pub(crate) problem: String,
    found: bool,
    last: Option<i64>,
}

impl Entry {
    pub(crate) fn new(id: u64, line: Line) -> Self {
        let problem = String::new();
        Self {
            id,
            port: line.port,
            line,
            spare: Vec::new(),
            due: Some(0),
            resolving: false,
            failures: 0,
            vain: 0,
            problem,
            found: false,
            last: None,
        }
    }

    pub(crate) fn due(&self) -> Option<i64> {
        self.due.filter(|_| !self.resolving)
    }

    /// Whether it may become a server in a moment, for the first time.
    pub(crate) fn is_beginning(&self) -> bool {
        !self.found && self.failures == 0
    }

    /// Whether it could not be looked up, which a new route may change.
    pub(crate) fn waits(&self) -> bool {
        !self.found && self.failures > 0
    }

    fn plan(&mut self, now: i64) {
        let pause = RETRY.checked_shl(self.failures.min(20)).unwrap_or(LONGEST).min(LONGEST);
        self.due = Some(now.after(pause));
        self.failures = self.failures.saturating_add(1);
    }
}

impl Client {
    /// The lines that have no server, with what the resolver said.
    pub(crate) fn unresolved(&self) -> impl Iterator<Item = (&Line, &str)> {
        let without = |entry: &&Entry| !self.sources.iter().any(|source| source.entry == entry.id);
        self.entries.iter().filter(without).map(|entry| (&entry.line, entry.problem.as_str()))
    }

    pub(super) fn resolve_due(&mut self, now: Now) {
        let mut literals = Vec::new();
        for entry in &mut self.entries {
            if entry.due().is_none_or(|due| due > now.boot) {
                continue;
            }
            entry.due = None;
            let options = entry.line.options;
            match entry.line.host.parse::<IpAddr>() {
                Ok(address) if !options.nts => literals.push((entry.id, address)),
                _ => {
                    entry.resolving = true;
                    entry.last = Some(now.boot);
                    let nts = options.nts.then_some(options.nts_port);
                    self.actions.push(Action::Resolve {
                        entry: entry.id,
                        host: entry.line.host.clone(),
                        nts,
                    });
                }
            }
        }
        for (entry, address) in literals {
            self.resolved(entry, now, Ok(vec![address]));
        }
    }

    /// The addresses of a line's host, or why there are none.
    pub(crate) fn resolved(&mut self, id: u64, now: Now, addresses: Result<Vec<IpAddr>, String>) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { return };
        entry.resolving = false;
        match addresses {
            Ok(mut addresses) if !addresses.is_empty() => {
                addresses.truncate(MOST_ADDRESSES);
                entry.found = true;
                entry.failures = 0;
                entry.problem.clear();
                entry.spare = addresses;
            }
            Ok(_) => entry.plan(now.boot),
            Err(problem) => {
                if !problem.ends_with(entry.problem.as_str()) || entry.problem.is_empty() {
                    self.actions.push(Action::Log(problem.clone()));
                }
                // The resolver begins with the name, which stands beside it anyway.
                let beside =
                    problem.strip_prefix(entry.line.host.as_str()).and_then(|rest| rest.strip_prefix(": "));
                entry.problem = beside.unwrap_or(&problem).to_owned();
                entry.plan(now.boot);
            }
        }
        self.fill(now);
        self.timer(now);
    }

    /// A key exchange has told where a line's server is, and brought keys: it is asked now.
    pub(crate) fn keyed(&mut self, id: u64, now: Now, addresses: Vec<IpAddr>, port: u16) {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) else { return };
        entry.port = port;
        self.drop_sources(|source| {
            let address = source.address;
            source.entry == id && (address.port() != port || !addresses.contains(&address.ip()))
        });
        for source in self.sources.iter_mut().filter(|source| source.entry == id) {
            source.forget_question();
            source.begin_burst(now.boot, 1);
        }
        self.resolved(id, now, Ok(addresses));
    }

    /// The lines that are asked with NTS, each with its host and its port of key exchanges.
    pub(crate) fn nts_lines(&self) -> impl Iterator<Item = (u64, &str, u16)> {
        let lines = self.entries.iter().filter(|entry| entry.line.options.nts);
        lines.map(|entry| (entry.id, entry.line.host.as_str(), entry.line.options.nts_port))
    }

    /// A server of this line has answered.
    pub(super) fn entry_is_well(&mut self, id: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.vain = 0;
        }
    }

    /// Names that could not be looked up are tried again.
    pub(super) fn retry_names(&mut self, when: i64) {
        for entry in self.entries.iter_mut().filter(|entry| entry.waits()) {
            entry.due = Some(entry.due.map_or(when, |due| due.min(when)));
            entry.failures = entry.failures.min(4);
        }
    }

    /// Makes servers of spare addresses where a line lacks some.
    fn fill(&mut self, now: Now) {
        let mut entries = std::mem::take(&mut self.entries);
        for entry in &mut entries {
            while !entry.spare.is_empty() {
                let has = self.sources.iter().filter(|source| source.entry == entry.id).count();
                if has >= entry.line.servers || self.sources.len() >= MOST_SOURCES {
                    break;
                }
                let address = SocketAddr::new(entry.spare.remove(0), entry.port);
                if self.sources.iter().any(|source| source.address == address) {
                    continue;
                }
                let id = self.fresh_id();
                let mut source = Source::new(id, entry.id, &entry.line, address);
                let (frequency, variance) = self.clock.frequency();
                source.filter.restart(frequency, variance);
                source.begin_burst(now.boot, if entry.line.options.iburst { BURST } else { 1 });
                self.sources.push(source);
            }
        }
        self.entries = entries;
    }

    /// Servers that are of no use give way to others of the same name; without spare addresses the name is looked up
    /// again, now and then.
    pub(super) fn replace_hopeless(&mut self, now: Now) {
        let mut gone = Vec::new();
        for source in &self.sources {
            let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == source.entry) else {
                continue;
            };
            // A key exchange helps against silence; who answers is known for sure.
            let fixed = if entry.line.options.nts {
                source.reach != 0 || source.denied
            } else {
                entry.line.host.parse::<IpAddr>().is_ok()
            };
            if !source.is_hopeless() || fixed {
                continue;
            }
            let used = |address: &IpAddr| self.sources.iter().any(|source| source.address.ip() == *address);
            entry.spare.retain(|address| !used(address));
            if !entry.spare.is_empty() {
                gone.push(source.id);
            } else if !entry.resolving && entry.due.is_none() {
                let due = entry.last.map_or(now.boot, |last| now.boot.max(last.after(AGAIN)));
                // Each time a little later: a server that stays silent may be all there is.
                let pause = AGAIN.checked_shl(entry.vain.min(8)).unwrap_or(LONGEST).min(LONGEST);
                entry.vain = entry.vain.saturating_add(1);
                entry.due = Some(due.after(pause.since(AGAIN)));
            }
        }
        if !gone.is_empty() {
            self.drop_sources(|source| gone.contains(&source.id));
            self.fill(now);
        }
    }
}
