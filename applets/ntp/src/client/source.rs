//! One server: when to ask it, what its answers are worth.

use super::Now;
use super::filter::{Filter, Sample};
use super::select::Verdict;
use crate::nanos::{Nanos, nanos};
use crate::sources::{Line, Options};
use minke_wire::ntp::{Extensions, Kiss, Leap, MAXSTRAT, Packet, Short, Timestamp, mode};
use std::net::{IpAddr, SocketAddr};

/// A second in nanoseconds.
pub(crate) const SECOND: i64 = 1_000_000_000;
/// Between the questions of a burst.
const BURST_GAP: i64 = 2 * SECOND;
/// First pause before a question that was not answered is asked again; it doubles, up to the longest that the owner
/// allows.
const RETRY: i64 = 4 * SECOND;
/// And at most to this, as a power of two in seconds: who comes back shall not wait for hours.
const LONGEST_RETRY: i8 = 9;
/// A server that is farther from its reference clock is of no use (spec os §5.6.2), in nanoseconds.
const MAXDIST: u64 = 16_000_000_000;
/// The longest between two bursts of questions that doubtful answers lead to: at intervals of hours each may have one.
const DOUBT_PAUSE: i64 = 3600 * SECOND;
/// Questions without answer until another server of the pool is tried.
const PATIENCE: u32 = 4;

/// A question that waits for its answer.
#[derive(Debug, Clone, Copy)]
struct Pending {
    /// What the answer repeats.
    xmt: Timestamp,
    /// What an answer in interleaved mode repeats.
    rec: Timestamp,
    /// When it was sent, on the oscillator, in nanoseconds.
    sent: Option<i64>,
}

/// Times of an answer that the next one, in interleaved mode, tells more precisely; in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    sent: i64,
    received: i64,
    server_received: Timestamp,
}

/// What the last good answer said.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Last {
    /// The header.
    pub(crate) packet: Packet,
    /// When it arrived, in nanoseconds since boot.
    pub(crate) at: i64,
    /// Its offset from our clock and its round trip, in nanoseconds.
    pub(crate) offset: i64,
    pub(crate) delay: i64,
    /// It was in interleaved mode; it was authenticated.
    pub(crate) interleaved: bool,
    pub(crate) authenticated: bool,
}

/// What came of a datagram.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Answer {
    /// It does not answer our question; the true answer may still come.
    Foreign,
    /// It answers, and is of no use.
    Useless,
    /// A sample, in nanoseconds: when on the oscillator, the server's time less the oscillator's, the round trip.
    Sample { time: i64, offset: i64, delay: i64, precision: f64 },
}

/// One server.
#[derive(Debug)]
pub(crate) struct Source {
    /// Tells it from all others of this run.
    pub(crate) id: u64,
    /// The line of the lists that it comes from.
    pub(crate) entry: u64,
    pub(crate) name: String,
    pub(crate) pool: bool,
    pub(crate) address: SocketAddr,
    pub(crate) options: Options,
    pub(crate) filter: Filter,
    pub(crate) last: Option<Last>,
    pub(crate) verdict: Option<Verdict>,
    /// The last eight questions, the latest in the lowest bit: 1 was answered.
    pub(crate) reach: u8,
    /// Interval as a power of two in seconds.
    pub(crate) poll: i8,
    /// When it is asked next, in nanoseconds since boot; `None`: not before something happens.
    pub(crate) next: Option<i64>,
    /// Questions that are left of a burst.
    pub(crate) burst: u8,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) valid: u64,
    pub(crate) kiss: Option<[u8; 4]>,
    pub(crate) problem: &'static str,
    /// It has forbidden us to ask.
    pub(crate) denied: bool,
    /// No route leads to it.
    pub(crate) unrouted: bool,
    /// Questions in a row that were not answered.
    pub(crate) failures: u32,
    /// Answers in a row that contradicted the majority.
    pub(crate) lies: u32,
    /// When it was last asked in a row because its answer contradicted the ones before.
    doubted: Option<i64>,
    /// By how much a `RATE` kiss has lengthened the interval.
    slower: i8,
    pending: Option<Pending>,
    previous: Option<Exchange>,
}

impl Source {
    /// A server that has not been asked.
    pub(crate) fn new(id: u64, entry: u64, line: &Line, address: SocketAddr) -> Self {
        let options = line.options;
        Self {
            id,
            entry,
            name: line.host.clone(),
            pool: line.pool,
            address,
            options,
            filter: Filter::new(0.0, 1e-8),
            last: None,
            verdict: None,
            reach: 0,
            poll: options.minpoll.min(4),
            next: None,
            burst: 0,
            sent: 0,
            received: 0,
            valid: 0,
            kiss: None,
            problem: "",
            denied: false,
            unrouted: false,
            failures: 0,
            lies: 0,
            doubted: None,
            slower: 0,
            pending: None,
            previous: None,
        }
    }

    /// Whether a question waits for its answer.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Nothing more can be made of an answer to the last question: the clock was set meanwhile.
    pub(crate) fn forget_question(&mut self) {
        self.pending = None;
        self.previous = None;
    }

    /// Asks as soon as possible, `count` times.
    pub(crate) fn begin_burst(&mut self, now: i64, count: u8) {
        if self.denied {
            return;
        }
        self.burst = self.burst.max(count);
        // What was asked a moment ago may still be answered.
        let asked = self.pending.is_some() && self.failures == 0;
        let soon = if asked { now.after(BURST_GAP) } else { now };
        self.next = Some(self.next.map_or(soon, |next| next.min(soon)));
    }

    /// The bytes of a question; `random` must be unpredictable. The next one is planned as if this stayed unanswered.
    pub(crate) fn ask(&mut self, now: Now, random: [u64; 2]) -> Vec<u8> {
        let [xmt, rec] = random.map(Timestamp);
        let mut packet = Packet::request(xmt);
        let mut pending = Pending { xmt, rec: Timestamp::ZERO, sent: None };
        if let (true, Some(previous)) = (self.options.xleave, self.previous) {
            // RFC 9769 §2: `org` names the answer whose sending time we want to know.
            packet.org = previous.server_received;
            packet.rec = rec;
            pending.rec = rec;
        }
        if self.pending.is_some() {
            self.failures = self.failures.saturating_add(1);
            // Bursts are for servers that answer.
            if self.failures >= 2 {
                self.burst = 0;
            }
        }
        self.pending = Some(pending);
        self.reach <<= 1;
        self.sent = self.sent.saturating_add(1);
        self.burst = self.burst.saturating_sub(1);
        self.next = Some(now.boot.after(self.retry()));
        packet.encode().to_vec()
    }

    /// How long to wait for an answer before asking again.
    fn retry(&self) -> i64 {
        if self.burst > 0 {
            return BURST_GAP;
        }
        let longest = SECOND << self.options.maxpoll.max(self.interval()).clamp(2, LONGEST_RETRY);
        let doubled = RETRY.checked_shl(self.failures.min(20)).unwrap_or(longest);
        doubled.min(longest)
    }

    /// The interval with what the server demands, as a power of two in seconds.
    pub(crate) fn interval(&self) -> i8 {
        self.poll.saturating_add(self.slower).clamp(self.options.minpoll.min(0), 17)
    }

    /// The question was sent at this time of the oscillator, as far as is known.
    pub(crate) fn was_sent(&mut self, raw: i64) {
        self.unrouted = false;
        if let Some(pending) = &mut self.pending {
            pending.sent = Some(raw);
        }
    }

    /// The question could not be sent, or a router or the server's host refused it.
    pub(crate) fn was_refused(&mut self, now: Now, problem: &'static str, unrouted: bool) {
        self.problem = problem;
        self.unrouted = unrouted;
        // Bursts are for servers that answer.
        self.burst = 0;
        if self.pending.take().is_some() {
            self.failures = self.failures.saturating_add(1);
        }
        self.next = Some(now.boot.after(self.retry()));
    }

    /// Whether what it said may count.
    pub(crate) fn is_usable(&self) -> bool {
        self.reach != 0 && !self.denied && (self.problem.is_empty() || self.failures != 0)
    }

    /// Whether another server of its pool should take its place.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.denied || self.failures >= PATIENCE && self.reach == 0 || self.lies >= 8
    }

    /// Reads what came from its address at `received` on the oscillator. Times are those nearest to `pivot`, in
    /// nanoseconds since 1970.
    pub(crate) fn answer(&mut self, now: Now, bytes: &[u8], received: i64, pivot: i64) -> Answer {
        self.received = self.received.saturating_add(1);
        let Some(pending) = self.pending else { return Answer::Foreign };
        let Some((packet, rest)) = Packet::decode(bytes) else { return Answer::Foreign };
        let mut fields = Extensions::new(rest);
        fields.by_ref().for_each(drop);
        if fields.rest().len() > Extensions::LONGEST_MAC {
            return Answer::Foreign;
        }
        let interleaved = pending.rec != Timestamp::ZERO && packet.org == pending.rec;
        if packet.mode != mode::SERVER || packet.org != pending.xmt && !interleaved {
            return Answer::Foreign;
        }
        self.pending = None;
        self.failures = 0;
        if let Some(kiss) = packet.kiss() {
            self.kissed(now, kiss, packet.refid);
            return Answer::Useless;
        }
        self.problem = problem_of(&packet);
        let Some(sent) = pending.sent else { return Answer::Useless };
        let exchange = Exchange { sent, received, server_received: packet.rec };
        let previous = self.previous.replace(exchange);
        self.plan(now);
        if !self.problem.is_empty() {
            return Answer::Useless;
        }
        let (exchange, server_sent) = match previous {
            // `xmt` is when the answer before was sent: its exchange is complete now.
            Some(previous) if interleaved => (previous, packet.xmt),
            _ if interleaved => return Answer::Useless,
            _ => (exchange, packet.xmt),
        };
        self.measure(now, &packet, exchange, server_sent, interleaved, pivot)
    }

    fn measure(
        &mut self,
        now: Now,
        packet: &Packet,
        exchange: Exchange,
        server_sent: Timestamp,
        interleaved: bool,
        pivot: i64,
    ) -> Answer {
        let Exchange { sent, received, server_received } = exchange;
        let inside = server_sent.since(server_received);
        let outside = received.since(sent);
        let delay = outside.since(inside);
        // A server cannot answer before it is asked, nor later than we hear of it.
        let slack = outside / 8 + 1_000_000;
        if inside < 0 || outside < 0 || delay < -slack {
            self.problem = "its times contradict each other";
            return Answer::Useless;
        }
        self.reach |= 1;
        self.valid = self.valid.saturating_add(1);
        let time = midpoint(sent, received);
        let server = server_received.to_nanos(pivot).after(inside / 2);
        let offset = server.since(time);
        self.last = Some(Last {
            packet: *packet,
            at: now.boot,
            offset: offset.since(now.ahead()),
            delay,
            interleaved,
            authenticated: false,
        });
        let precision = exponent(packet.precision.clamp(-30, 0)) + 1e-7;
        Answer::Sample { time, offset, delay: delay.max(0), precision }
    }

    fn kissed(&mut self, now: Now, kiss: Kiss, code: [u8; 4]) {
        self.kiss = Some(code);
        self.burst = 0;
        match kiss {
            Kiss::Deny | Kiss::Restrict => {
                self.denied = true;
                self.next = None;
                self.problem = "it does not want to be asked";
            }
            Kiss::Rate => {
                // RFC 5905 §7.4: at once, and for good.
                self.slower = self.slower.saturating_add(1).min(10);
                self.poll = self.poll.max(self.options.minpoll).max(6);
                self.plan(now);
                self.problem = "it wants to be asked less often";
            }
            Kiss::NtsNak | Kiss::Other => self.plan(now),
        }
    }

    /// When to ask next after an answer.
    pub(crate) fn plan(&mut self, now: Now) {
        if self.denied {
            return;
        }
        let pause = if self.burst > 0 {
            BURST_GAP
        } else {
            let interval = SECOND << self.interval().clamp(0, 17);
            // Up to 1/32 either way, so that devices that began together do not stay together.
            let part = i64::from(now.random as u16);
            interval.after((interval / 32).saturating_mul(part.since(32_768)) / 32_768)
        };
        self.next = Some(now.boot.after(pause));
    }

    /// Its answer contradicts the ones before. Whether that is an accident or a new truth is worth a few questions, but
    /// not all the time.
    pub(crate) fn doubt(&mut self, now: Now) {
        let pause = (SECOND << self.interval().clamp(0, 17)).saturating_mul(4).min(DOUBT_PAUSE);
        if self.burst == 0 && self.doubted.is_none_or(|at| now.boot.since(at) > pause) {
            self.doubted = Some(now.boot);
            self.burst = 3;
            self.plan(now);
        }
    }

    /// Sets the interval that the clock's quality allows; it grows step by step.
    pub(crate) fn set_poll(&mut self, wanted: i8, learned: bool) {
        let Options { minpoll, maxpoll, .. } = self.options;
        // While the frequency is being learned, what is a burst over minutes comes before the owner's least interval.
        let least = if learned { minpoll } else { minpoll.min(4) };
        let wanted = wanted.clamp(least, maxpoll.max(least));
        self.poll = if self.poll < least { least } else { wanted.min(self.poll.saturating_add(1)) };
    }

    /// The farthest that its time may be from the true one beside what its path adds, in seconds.
    pub(crate) fn root_distance(&self) -> f64 {
        self.last.map_or(f64::INFINITY, |last| root_distance(&last.packet) as f64 * 1e-9)
    }

    /// Adds a sample to the filter; see [`Filter::add`].
    pub(crate) fn add(&mut self, sample: Sample, wander: f64) -> bool {
        self.filter.add(sample, wander)
    }
}

/// A server that was selected, as its last good answer and the way to it showed it. Times in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference {
    pub(crate) address: IpAddr,
    pub(crate) stratum: u8,
    /// Of the way to its reference clock, and from us to it.
    pub(crate) delay: i64,
    pub(crate) dispersion: i64,
}

impl Reference {
    pub(crate) fn of(source: &Source) -> Option<Self> {
        let packet = source.last?.packet;
        let time = |short: Short| i64::try_from(short.to_nanos()).unwrap_or(0);
        Some(Self {
            address: source.address.ip(),
            stratum: packet.stratum,
            delay: time(packet.rootdelay).after(nanos(source.filter.least_delay())),
            dispersion: time(packet.rootdisp),
        })
    }
}

/// Why a server's time is of no use; empty when it is.
fn problem_of(packet: &Packet) -> &'static str {
    if packet.leap == Leap::Unknown || packet.stratum == 0 || packet.stratum >= MAXSTRAT {
        return "it is not synchronised";
    }
    if root_distance(packet) >= MAXDIST {
        return "it is too far from a reference clock";
    }
    if packet.xmt == Timestamp::ZERO || packet.rec == Timestamp::ZERO {
        return "it tells no time";
    }
    // Nobody can have been corrected later than now; zero is unknown. (`xmt` may be that of the answer before.)
    if packet.reftime != Timestamp::ZERO && packet.rec.since(packet.reftime) < -SECOND {
        return "it was corrected in the future";
    }
    ""
}

/// In nanoseconds.
fn root_distance(packet: &Packet) -> u64 {
    (packet.rootdelay.to_nanos() / 2).saturating_add(packet.rootdisp.to_nanos())
}

fn midpoint(a: i64, b: i64) -> i64 {
    a.after(b.since(a) / 2)
}

/// 2 to this power.
pub(crate) fn exponent(power: i8) -> f64 {
    let half = if power < 0 { 0.5 } else { 2.0 };
    let mut value = 1.0;
    for _ in 0..power.unsigned_abs() {
        value *= half;
    }
    value
}
