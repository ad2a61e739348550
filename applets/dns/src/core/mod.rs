//! What the forwarder knows and decides, without a socket and without a clock: times are since boot.
//!
//! A query goes to [`Resolver::ask`]. What it cannot answer is for a server, by the [`Route`] that it gives; whatever a
//! server says goes through [`Resolver::answered`], which believes it or not, and [`Resolver::reply`] then makes each
//! waiting client's response of it.

mod key;

#[allow(unused_imports)]
pub(crate) use key::{Key, UDP_SIZE};

use crate::config::Settings;
use minke_wire::dns::{Kind, Name, Rcode};
use std::net::IpAddr;
use std::time::Duration;

/// After this long without a server's answer a client gets the old one, if there is one (RFC 8767 §5).
pub(crate) const STALE_AFTER: Duration = Duration::from_millis(1800);

/// Everything that the forwarder knows.
#[derive(Debug)]
pub(crate) struct Resolver {
    settings: Settings,
    counters: Counters,
}

/// A client's query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Who asks.
    pub(crate) from: IpAddr,
    /// The message.
    pub(crate) query: &'a [u8],
    /// By UDP: the response must not be longer than the client takes.
    pub(crate) udp: bool,
    /// How many search domains were tried for it: 0 at first, then what [`Route::search`] says. A waiting client's
    /// query keeps it.
    pub(crate) search: u8,
}

/// What becomes of a query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The response was appended to `out`.
    Answered,
    /// The response was appended to `out`; it will be old soon, so the question shall be asked anew, for nobody.
    Refresh(Route),
    /// A server is to be asked.
    Forward(Route),
    /// `mdns` is to be asked; what it says goes to [`Resolver::found`].
    Mdns(Key),
    /// Nothing: it is no query.
    Drop,
}

/// Who is asked for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// The place of the group of servers in the settings; 0 is the default group, which has the fallback behind it.
    pub(crate) group: usize,
    /// What is asked; the same key is asked only once at a time.
    pub(crate) key: Key,
    /// An old answer is there: after [`STALE_AFTER`] without a new one, [`Resolver::stale`] gives it.
    pub(crate) stale: bool,
    /// For [`Asked::search`] of this client.
    pub(crate) search: u8,
}

/// What was made of a server's response that was believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// The waiting clients can be answered.
    Good,
    /// The same, but its addresses were left out: they are private and the name is not (rebinding). To be told in the
    /// log.
    Rebinding,
}

/// Why a server's response was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It does not answer what was asked, or is no message: the true response may still come.
    Foreign,
    /// It answers, but with other letters than were asked with. Somebody guesses, or the server writes all letters
    /// small: the true response may still come. A server that sends nothing better until its time is over is asked
    /// again by TCP, or without capitals.
    Letters,
    /// It did not fit: to be asked again by TCP.
    Truncated,
    /// The server does not understand OPT: to be asked again without.
    NoEdns,
    /// The server cannot or does not want to tell: another one is to be asked.
    Failed(Rcode),
}

/// What happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Queries of clients.
    pub(crate) queries: u64,
    /// Answered by what is known here: hosts, own name, private reverse zones and the like.
    pub(crate) local: u64,
    /// Answered by the cache.
    pub(crate) hits: u64,
    /// Of these: that there is none.
    pub(crate) negative_hits: u64,
    /// Of these: by an old answer.
    pub(crate) stale: u64,
    /// Asked anew before they were old.
    pub(crate) prefetches: u64,
    /// For servers or `mdns`.
    pub(crate) misses: u64,
    /// Entries of the cache that gave way to others before their time.
    pub(crate) evictions: u64,
    /// Responses that were not believed: of somebody else or broken, other letters, failures.
    pub(crate) foreign: u64,
    pub(crate) letters: u64,
    pub(crate) failures: u64,
    /// Responses whose private addresses were left out.
    pub(crate) rebinding: u64,
    /// Records of responses that had nothing to do with the question.
    pub(crate) unrelated: u64,
}

/// A record that `mdns` has found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    /// Whose it is.
    pub(crate) name: &'a Name,
    /// Its type.
    pub(crate) kind: Kind,
    /// How long it may be kept, in seconds.
    pub(crate) ttl: u32,
    /// Its data, names in it without compression.
    pub(crate) data: &'a [u8],
}

impl Resolver {
    /// Begins with nothing in the cache; `seed` is random, so that nobody can make names that meet in the cache's index.
    pub(crate) fn new(settings: Settings, seed: [u64; 2]) -> Self {
        let _ = seed;
        Self { settings, counters: Counters::default() }
    }

    /// Takes other settings. What is in the cache stays, but what lies in domains whose rule is another now, and names
    /// that are known here now.
    pub(crate) fn apply(&mut self, settings: Settings) {
        self.settings = settings;
    }

    /// The settings.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What to do with a query; what is answered is appended to `out`.
    pub(crate) fn ask(&mut self, now: Duration, asked: &Asked<'_>, out: &mut Vec<u8>) -> Step {
        let _ = (now, asked, out);
        Step::Drop
    }

    /// Checks what a server says to `sent`, the query that [`Key::query`] made of `key`, and remembers it. `secure`
    /// tells that nobody on the way could change it (strict TLS, or the same host), so that AD in it means something.
    pub(crate) fn answered(
        &mut self,
        now: Duration,
        key: &Key,
        sent: &[u8],
        response: &[u8],
        secure: bool,
    ) -> Result<Taken, Refusal> {
        let _ = (now, key, sent, response, secure);
        Err(Refusal::Foreign)
    }

    /// No server has an answer to `key`; the code is the last server's, SERVFAIL where all were silent.
    pub(crate) fn failed(&mut self, now: Duration, key: &Key, code: Rcode) {
        let _ = (now, key, code);
    }

    /// What `mdns` has found for `key`; nothing when it found nothing.
    pub(crate) fn found(&mut self, now: Duration, key: &Key, records: &[Found<'_>]) {
        let _ = (now, key, records);
    }

    /// The response to a client that waited for what the last call of [`Resolver::answered`], [`Resolver::failed`] or
    /// [`Resolver::found`] told. To be called for all waiting clients before the next of those calls. A plain name that
    /// one search domain does not have may be [`Step::Forward`] to the next one.
    pub(crate) fn reply(&mut self, now: Duration, asked: &Asked<'_>, out: &mut Vec<u8>) -> Step {
        let _ = (now, asked, out);
        Step::Drop
    }

    /// The old answer to a client that has waited [`STALE_AFTER`]; `false` if there is none. The question goes on.
    pub(crate) fn stale(&mut self, now: Duration, asked: &Asked<'_>, out: &mut Vec<u8>) -> bool {
        let _ = (now, asked, out);
        false
    }

    /// The response SERVFAIL to a query that cannot be looked after, for want of memory or time; nothing is appended
    /// for what is no query.
    pub(crate) fn refuse(&self, asked: &Asked<'_>, out: &mut Vec<u8>) {
        let _ = (asked, out);
    }

    /// Forgets what is known about a name and those below it, or everything; the answer is how many entries that were.
    pub(crate) fn flush(&mut self, name: Option<&Name>) -> usize {
        let _ = name;
        0
    }

    /// What happened since the start.
    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }

    /// How many answers are in the cache, and the bytes that it takes.
    pub(crate) fn cached(&self) -> (usize, usize) {
        (0, 0)
    }
}
