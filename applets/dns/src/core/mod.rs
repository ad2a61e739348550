//! What the forwarder knows and decides, without a socket and without a clock: times are since boot.
//!
//! A query goes to [`Resolver::ask`]. What it cannot answer is for a server, by the [`Route`] that it gives; whatever a
//! server says goes through [`Resolver::answered`], which believes it or not, and [`Resolver::reply`] then makes each
//! waiting client's response of it.

mod answer;
mod key;
mod local;
mod query;
mod step;
mod store;
#[cfg(test)]
mod tests;

pub(crate) use key::Key;

use crate::config::{Settings, Target};
use answer::seconds;
use key::KeyRef;
use local::{Known, Local};
use minke_wire::dns::{Class, Data, Flags, Kind, Name, Rcode, Section, Writer};
use minke_wire::micros::Micros;
use query::{HEADER, Query};
use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;
use step::Mode;
use store::{Meta, Store};

/// After this long without a server's answer a client gets the old one, if there is one (RFC 8767 §5).
pub(crate) const STALE_AFTER: Micros = Micros::from_millis(1800);
/// How long it is remembered that no server could tell (RFC 9520 §3.2; RFC 2308 §7 has 300 s as the most), and how long
/// a question whose old answer is given is not asked anew, in seconds.
const FAILURE_TTL: u32 = 5;

/// How long an answer of `mdns` is kept, in seconds: it hears when something changes, we do not. That of answers to
/// those who know nothing of multicast (RFC 6762 §6.7).
const LINK_TTL: u32 = 10;
/// Bytes of an answer whose memory is given back.
const LARGE: usize = 8 << 10;

/// Everything that the forwarder knows.
#[derive(Debug)]
pub(crate) struct Resolver {
    settings: Rc<Settings>,
    local: Local,
    store: Store,
    latest: Latest,
    /// For a response that is put together from another name's.
    scratch: Vec<u8>,
    /// Hashes of the keys that are asked for next.
    expected: Vec<(u32, u32)>,
    counters: Counters,
}

/// The answer that came last: for those who wait for it, whether it may be kept or not.
#[derive(Debug, Default)]
struct Latest {
    /// Empty: none.
    key: Vec<u8>,
    meta: Meta,
    /// Header, question and records.
    message: Vec<u8>,
    /// Where the records begin.
    records: usize,
    reason: u16,
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

/// A client's query that was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    asked: Asked<'a>,
    query: Query<'a>,
    key: KeyRef<'a>,
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
    /// `mdns` is to be asked; what it says goes to [`Resolver::found`]. The number is for [`Asked::search`].
    Mdns(Key, u8),
    /// Nothing: it is no query.
    Drop,
}

impl Step {
    /// For [`Asked::search`] of the client that waits.
    pub(crate) fn search(&self) -> u8 {
        match self {
            Self::Forward(route) => route.search,
            Self::Mdns(_, search) => *search,
            Self::Answered | Self::Refresh(_) | Self::Drop => 0,
        }
    }
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
    pub(crate) fn new(settings: impl Into<Rc<Settings>>, seed: [u64; 2]) -> Self {
        let settings = settings.into();
        Self {
            local: Local::new(&settings),
            store: Store::new(settings.cache.bytes, seed),
            settings,
            latest: Latest::default(),
            scratch: Vec::new(),
            expected: Vec::new(),
            counters: Counters::default(),
        }
    }

    /// Takes other settings. What is in the cache stays, but what lies in domains whose rule is another now, and names
    /// that are known here now; that servers failed is forgotten when they are others now.
    pub(crate) fn apply(&mut self, settings: impl Into<Rc<Settings>>) {
        let old = std::mem::replace(&mut self.settings, settings.into());
        self.local = Local::new(&self.settings);
        if old.cache != self.settings.cache
            || old.rebind_protection != self.settings.rebind_protection
            || old.rebind_ok != self.settings.rebind_ok
        {
            self.store.clear(self.settings.cache.bytes);
        }
        if !old.tells_others(&self.settings) {
            return;
        }
        let others = old.groups != self.settings.groups || old.fallback != self.settings.fallback;
        let (local, settings) = (&self.local, &self.settings);
        self.store.remove_if(&mut |key, meta| {
            let Some(name) = Key::name_in(key) else { return true };
            if others && !meta.is_answer() {
                return true;
            }
            meta.failing &= !others;
            // That there is no such name is kept for all types; addresses are what is known here most often.
            let kind = Some(Key::kind_in(key)).filter(|kind| kind.0 > 0).unwrap_or(Kind::A);
            let known = local.look(settings, IpAddr::V6(Ipv6Addr::UNSPECIFIED), &name, kind);
            let here = !matches!(known, Known::Ask(_) | Known::Mdns | Known::Plain(_));
            here || servers(&old, &name) != servers(settings, &name)
        });
    }

    /// The settings.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Reads a query. An error is what becomes of one that is none, or that cannot be asked: what it is answered is
    /// appended to `out`.
    pub(crate) fn read<'a>(&mut self, asked: Asked<'a>, out: &mut Vec<u8>) -> Result<Asking<'a>, Step> {
        self.counters.queries = self.counters.queries.saturating_add(1);
        self.parse(asked, out)
    }

    /// Tells which queries will be answered next, so that memory is read for all of them at once.
    pub(crate) fn warm<'a>(&mut self, queries: impl Iterator<Item = &'a Asking<'a>>) {
        self.expected.clear();
        self.expected.extend(queries.map(|asking| (asking.key.hash, 0)));
        self.store.warm(&mut self.expected);
    }

    /// [`Resolver::read`] and [`Resolver::answer`] in one.
    pub(crate) fn ask(&mut self, now: Micros, asked: &Asked<'_>, out: &mut Vec<u8>) -> Step {
        match self.read(*asked, out) {
            Ok(asking) => self.answer(now, &asking, out),
            Err(step) => step,
        }
    }

    /// What to do with a query; what is answered is appended to `out`.
    pub(crate) fn answer(&mut self, now: Micros, asking: &Asking<'_>, out: &mut Vec<u8>) -> Step {
        let step = self.step(now, asking, Mode::Ask, out);
        match &step {
            Step::Forward(_) | Step::Mdns(..) => {
                self.counters.misses = self.counters.misses.saturating_add(1);
            }
            Step::Refresh(_) => self.counters.prefetches = self.counters.prefetches.saturating_add(1),
            Step::Answered | Step::Drop => {}
        }
        step
    }

    /// Checks what a server says to `sent`, the query that [`Key::query`] made of `key`, and remembers it. `secure`
    /// tells that nobody on the way could change it (strict TLS, or the same host), so that AD in it means something.
    pub(crate) fn answered(
        &mut self,
        now: Micros,
        key: &Key,
        sent: &[u8],
        response: &[u8],
        secure: bool,
    ) -> Result<Taken, Refusal> {
        self.begin_latest();
        let private_ok = self.settings.may_be_private(&key.name());
        let message = &mut self.latest.message;
        let believed = answer::answers(sent, response)
            .and_then(|()| answer::believe(now, key, response, &self.settings.cache, private_ok, message));
        let counter = match &believed {
            Ok(believed) if believed.taken == Taken::Rebinding => Some(&mut self.counters.rebinding),
            Ok(_) | Err(Refusal::Truncated | Refusal::NoEdns) => None,
            Err(Refusal::Foreign) => Some(&mut self.counters.foreign),
            Err(Refusal::Letters) => Some(&mut self.counters.letters),
            Err(Refusal::Failed(_)) => Some(&mut self.counters.failures),
        };
        if let Some(counter) = counter {
            *counter = counter.saturating_add(1);
        }
        let mut believed = believed?;
        self.counters.unrelated = self.counters.unrelated.saturating_add(believed.unrelated.into());
        believed.meta.authentic &= secure;
        if believed.taken == Taken::Rebinding {
            self.latest.reason = query::reason::FILTERED;
        }
        self.keep(key, believed.meta);
        Ok(believed.taken)
    }

    /// No server has an answer to `key`; the code is the last server's, SERVFAIL where all were silent.
    pub(crate) fn failed(&mut self, now: Micros, key: &Key, code: Rcode) {
        self.begin_latest();
        let now = seconds(now);
        if let Some(at) = self.find(&self.key(key))
            && let Some(meta) = self.store.meta_mut(at)
            && meta.is_answer()
        {
            // Its time is over, or it was being prefetched.
            (meta.failing, meta.retry) = (true, now.saturating_add(FAILURE_TTL));
            if meta.may_be_given(now, &self.settings.cache) {
                return;
            }
        }
        // What is no failure, or needs OPT to be told, is none of the client's.
        let told = !matches!(code, Rcode::NOERROR | Rcode::NXDOMAIN) && code.0 < 16;
        let code = if told { code } else { Rcode::SERVFAIL };
        let meta = Meta { stored: now, ttl: FAILURE_TTL, code: code.0 as u8, ..Meta::default() };
        self.latest.reason = query::reason::UNREACHABLE;
        let mut writer = Writer::new(&mut self.latest.message, usize::MAX, 0, Flags::QR);
        writer.question(key.name().as_ref(), key.kind(), key.class());
        self.keep(key, meta);
    }

    /// What `mdns` has found for `key`: perhaps nothing of that type, while the name has others; `None` when there is
    /// nobody to ask, and so no such name.
    pub(crate) fn found(&mut self, now: Micros, key: &Key, records: Option<&[Found<'_>]>) {
        self.begin_latest();
        let (name, kind) = (key.name(), key.kind());
        let max = LINK_TTL.min(seconds(self.settings.cache.max_ttl));
        let mut least = max;
        let mut writer = Writer::new(&mut self.latest.message, usize::from(u16::MAX), 0, Flags::QR);
        writer.question(name.as_ref(), kind, key.class());
        for record in records.unwrap_or_default() {
            // An address of the link is of no use without the link, which this answer cannot tell.
            let link_local = record.kind == Kind::AAAA && matches!(record.data, [0xFE, 0x80..=0xBF, ..]);
            let right = [kind, Kind::CNAME].contains(&record.kind) || kind == Kind::ANY;
            if *record.name != name || !right || link_local {
                continue;
            }
            least = least.min(record.ttl);
            let owner = (record.name.as_ref(), record.kind, Class::IN);
            writer.record(Section::Answer, owner, record.ttl.min(max), &Data::Other(record.data));
        }
        let counts = [writer.count(1), 0, 0];
        // That there is nothing is `mdns`'s to remember: it hears when something comes.
        let none = counts == [0; 3];
        let ttl = if none { 0 } else { least };
        let code = if records.is_none() { Rcode::NXDOMAIN } else { Rcode::NOERROR };
        let stored = seconds(now);
        self.keep(key, Meta { stored, ttl, counts, code: code.0 as u8, negative: none, ..Meta::default() });
    }

    /// The response to a client that waited for what the last call of [`Resolver::answered`], [`Resolver::failed`] or
    /// [`Resolver::found`] told. To be called for all waiting clients before the next of those calls. A plain name that
    /// one search domain does not have may be [`Step::Forward`] to the next one.
    pub(crate) fn reply(&mut self, now: Micros, asked: &Asked<'_>, out: &mut Vec<u8>) -> Step {
        self.step_of(now, asked, Mode::Reply, out)
    }

    /// The old answer to a client that has waited [`STALE_AFTER`]; `false` if there is none. The question goes on.
    pub(crate) fn stale(&mut self, now: Micros, asked: &Asked<'_>, out: &mut Vec<u8>) -> bool {
        self.step_of(now, asked, Mode::Stale, out) == Step::Answered
    }

    /// The response SERVFAIL to a query that cannot be looked after, for want of memory or time; nothing is appended
    /// for what is no query.
    pub(crate) fn refuse(&self, asked: &Asked<'_>, out: &mut Vec<u8>) {
        if let Some(query) = Query::read(asked, out) {
            query.error(Rcode::SERVFAIL, out);
        }
    }

    /// Forgets what is known about a name and those below it, or everything; the answer is how many entries that were.
    pub(crate) fn flush(&mut self, name: Option<&Name>) -> usize {
        let Some(name) = name else {
            let count = self.store.len();
            self.store.clear(self.settings.cache.bytes);
            return count;
        };
        self.store.remove_if(&mut |key, _| Key::name_in(key).is_none_or(|known| known.is_within(name)))
    }

    /// What happened since the start.
    pub(crate) fn counters(&self) -> Counters {
        Counters { evictions: self.store.evictions, ..self.counters }
    }

    /// How many answers are in the cache, and the bytes that it takes.
    pub(crate) fn cached(&self) -> (usize, usize) {
        (self.store.len(), self.store.bytes())
    }

    /// Makes place for the next answer.
    fn begin_latest(&mut self) {
        self.latest.key.clear();
        self.latest.message.clear();
        self.latest.reason = query::reason::NONE;
        // One large answer shall not hold its memory for ever.
        if self.latest.message.capacity() > LARGE {
            self.latest.message = Vec::new();
        }
    }

    /// Remembers the latest answer, for those who wait and, if it may, in the cache.
    fn keep(&mut self, key: &Key, meta: Meta) {
        self.latest.key.extend_from_slice(key.bytes());
        self.latest.records = HEADER.saturating_add(key.question_length());
        self.latest.meta = meta;
        if meta.ttl == 0 || key.class() != Class::IN || key.kind().is_meta() {
            return;
        }
        let body = self.latest.message.get(self.latest.records..).unwrap_or_default();
        let key = self.key(key);
        let nameless = self.nameless(&key);
        // That the end of a chain of aliases does not exist says nothing about its beginning (RFC 2308 §2.1).
        let [answers, ..] = meta.counts;
        let gone = if Rcode(meta.code.into()) == Rcode::NXDOMAIN && answers == 0 {
            self.store.insert(&nameless, meta, body);
            key
        } else {
            self.store.insert(&key, meta, body);
            nameless
        };
        if meta.is_answer()
            && let Some(at) = self.store.find(&gone)
        {
            self.store.remove(at);
        }
    }

    /// The entry of a key, or the one that says that there is no such name.
    fn find(&self, key: &KeyRef<'_>) -> Option<u32> {
        self.store.find(key).or_else(|| self.store.find(&self.nameless(key)))
    }

    /// The key that says that there is no such name.
    fn nameless<'a>(&self, key: &KeyRef<'a>) -> KeyRef<'a> {
        self.store.key(key::nameless(key.front), key.name)
    }

    fn key<'a>(&self, key: &'a Key) -> KeyRef<'a> {
        let (front, name) = key::parts(key.bytes());
        self.store.key(front, name)
    }
}

/// The servers that are asked for a name; `None`: the default group.
fn servers<'a>(settings: &'a Settings, name: &Name) -> Option<&'a [crate::config::Server]> {
    match settings.rule(name) {
        Some((_, Target::Servers(group))) => settings.groups.get(*group).map(Vec::as_slice),
        _ => None,
    }
}
