//! The DHCPv4 client's state machine (RFC 2131 §4.4), one per link. It has no clock, no socket and no
//! randomness of its own: [`Client::step`] gets the time and an event and says what to do.
//!
//! Times are since boot. States have the RFC's names.

use crate::lease::Lease;
use minke_wire::dhcp::{Kind, Reply, Request};
use std::net::Ipv4Addr;
use std::time::Duration;

/// The first wait for an answer, and the longest (RFC 2131 §4.1); each varies by up to [`JITTER`].
const FIRST_WAIT: Duration = Duration::from_secs(4);
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// In milliseconds, to either side.
const JITTER: u64 = 1000;
/// The wait for the answer to a known address. Servers that do not know us stay silent, so it is short.
const REBOOT_WAIT: Duration = Duration::from_secs(2);
/// How often a known address is asked for.
const REBOOT_TRIES: u32 = 2;
/// How often an offer is taken before the next one is sought.
const REQUEST_TRIES: u32 = 3;
/// The shortest pause between questions for an extension (RFC 2131 §4.4.5).
const EXTENSION_WAIT: Duration = Duration::from_secs(60);
/// How long the address stays on a link without carrier: a switch that restarts, a cable that is replugged.
const GRACE: Duration = Duration::from_secs(5);

/// What happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The link has a carrier now.
    CarrierUp,
    /// The link has none any more.
    CarrierDown,
    /// A DHCP message came.
    Reply(&'a Reply),
    /// The time of [`Client::deadline`] has come.
    Timer,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this message to everybody on the link, from the unspecified address.
    Broadcast(Vec<u8>),
    /// Send this message to the server, from the configured address.
    Unicast(Ipv4Addr, Vec<u8>),
    /// Send this message to everybody on the link, from the configured address.
    Rebind(Vec<u8>),
    /// Set up the link by this lease, in place of an earlier one.
    Configure(Lease),
    /// Take from the link what the lease gave; the string says why.
    Unconfigure(&'static str),
    /// The server said no, in its words.
    Refused(String),
}

/// Which socket the client listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listening {
    /// None: nothing is expected.
    Nothing,
    /// A packet socket, as the address is not confirmed.
    Packets,
    /// The UDP port, at the configured address.
    Port,
}

/// One question and its repetitions.
#[derive(Debug, Clone, Copy)]
struct Exchange {
    xid: u32,
    began: Duration,
    sent: Duration,
    tries: u32,
    next: Duration,
}

#[derive(Debug)]
enum State {
    /// No carrier.
    Stopped,
    /// No carrier since a moment; the address is still there until then.
    Grace(Duration),
    /// A server has refused repeatedly; INIT follows then.
    Waiting(Duration),
    Selecting(Exchange),
    Requesting(Exchange, Lease),
    Rebooting(Exchange, Ipv4Addr),
    Bound,
    Renewing(Exchange),
    Rebinding(Exchange),
}

/// A client.
#[derive(Debug)]
pub struct Client {
    mac: [u8; 6],
    host_name: String,
    random: u64,
    state: State,
    /// The last lease, as long as it is valid.
    lease: Option<Lease>,
    /// The address to ask for first.
    known: Option<Ipv4Addr>,
    /// The lease is set up on the link.
    configured: bool,
    /// Refusals since the last success.
    refusals: u32,
}

impl Client {
    /// A client for a link without carrier. `seed` is random; `known` is the address of an earlier lease.
    pub fn new(mac: [u8; 6], host_name: String, seed: u64, known: Option<Ipv4Addr>) -> Self {
        Self {
            mac,
            host_name,
            random: seed | 1,
            state: State::Stopped,
            lease: None,
            known,
            configured: false,
            refusals: 0,
        }
    }

    /// The name of the state, as in RFC 2131 figure 5.
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Stopped | State::Grace(_) => "NO-CARRIER",
            State::Waiting(_) => "INIT",
            State::Selecting(_) => "SELECTING",
            State::Requesting(..) => "REQUESTING",
            State::Rebooting(..) => "REBOOTING",
            State::Bound => "BOUND",
            State::Renewing(_) => "RENEWING",
            State::Rebinding(_) => "REBINDING",
        }
    }

    /// The lease that is set up on the link.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref().filter(|_| self.configured)
    }

    /// The socket that is needed now.
    pub fn listening(&self) -> Listening {
        match self.state {
            State::Selecting(_) | State::Requesting(..) | State::Rebooting(..) => Listening::Packets,
            State::Renewing(_) | State::Rebinding(_) => Listening::Port,
            State::Stopped | State::Grace(_) | State::Waiting(_) | State::Bound => Listening::Nothing,
        }
    }

    /// When [`Event::Timer`] is due; `None`: never.
    pub fn deadline(&self) -> Option<Duration> {
        let own = match &self.state {
            State::Stopped => None,
            State::Grace(until) | State::Waiting(until) => Some(*until),
            State::Selecting(exchange)
            | State::Requesting(exchange, _)
            | State::Rebooting(exchange, _)
            | State::Renewing(exchange)
            | State::Rebinding(exchange) => Some(exchange.next),
            State::Bound => self.lease.as_ref().and_then(|lease| lease.renewal),
        };
        let expiry = self.lease().and_then(|lease| lease.expiry);
        [own, expiry].into_iter().flatten().min()
    }

    /// Goes on by one event.
    pub fn step(&mut self, now: Duration, event: Event<'_>) -> Vec<Action> {
        let mut actions = Vec::new();
        self.expire(now, &mut actions);
        match event {
            Event::CarrierUp => self.carrier_up(now, &mut actions),
            Event::CarrierDown => self.carrier_down(now),
            Event::Timer => self.timer(now, &mut actions),
            Event::Reply(reply) => self.reply(now, reply, &mut actions),
        }
        actions
    }

    /// A lease that has ended is gone, whatever else happens.
    fn expire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let ended = self.lease.as_ref().and_then(|lease| lease.expiry).is_some_and(|expiry| expiry <= now);
        if !ended {
            return;
        }
        self.lease = None;
        self.unconfigure("the lease has expired", actions);
        match self.state {
            State::Bound | State::Renewing(_) | State::Rebinding(_) => self.discover(now, actions),
            State::Grace(_) => self.state = State::Stopped,
            _ => {}
        }
    }

    fn carrier_up(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if matches!(self.state, State::Stopped | State::Grace(_)) {
            match self.lease.as_ref().map(|lease| lease.address).or(self.known) {
                Some(address) => self.reboot(now, address, actions),
                None => self.discover(now, actions),
            }
        }
    }

    fn carrier_down(&mut self, now: Duration) {
        if !matches!(self.state, State::Stopped | State::Grace(_)) {
            self.refusals = 0;
            self.state =
                if self.configured { State::Grace(now.saturating_add(GRACE)) } else { State::Stopped };
        }
    }

    fn timer(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match std::mem::replace(&mut self.state, State::Stopped) {
            State::Stopped => {}
            State::Grace(_) => self.unconfigure("the link has no carrier", actions),
            State::Waiting(_) => self.discover(now, actions),
            State::Selecting(exchange) => {
                let exchange = self.again(now, exchange);
                self.send(Kind::Discover, &exchange, actions);
                self.state = State::Selecting(exchange);
            }
            State::Requesting(exchange, offer) if exchange.tries < REQUEST_TRIES => {
                let exchange = self.again(now, exchange);
                self.request(exchange, offer, actions);
            }
            State::Requesting(..) => self.discover(now, actions),
            State::Rebooting(exchange, address) if exchange.tries < REBOOT_TRIES => {
                let next = self.after(now, REBOOT_WAIT);
                let tries = exchange.tries.saturating_add(1);
                self.ask_for(Exchange { sent: now, tries, next, ..exchange }, address, actions);
            }
            State::Rebooting(..) => self.nobody_confirms(now, actions),
            State::Bound | State::Renewing(_) | State::Rebinding(_) => self.extend(now, actions),
        }
    }

    fn reply(&mut self, now: Duration, reply: &Reply, actions: &mut Vec<Action>) {
        let exchange = match &self.state {
            State::Selecting(exchange)
            | State::Requesting(exchange, _)
            | State::Rebooting(exchange, _)
            | State::Renewing(exchange)
            | State::Rebinding(exchange) => *exchange,
            State::Stopped | State::Grace(_) | State::Waiting(_) | State::Bound => return,
        };
        if reply.xid != exchange.xid || reply.chaddr != self.mac || !self.is_from_our_server(reply) {
            return;
        }
        match (reply.kind, &self.state) {
            (Kind::Offer, State::Selecting(_)) => {
                if let Some(offer) = Lease::new(reply, now) {
                    let next = self.wait(now, 0);
                    self.request(Exchange { sent: now, tries: 1, next, ..exchange }, offer, actions);
                }
            }
            (_, State::Selecting(_)) | (Kind::Offer, _) => {}
            (Kind::Ack, _) => {
                // The time counts from the question, as nobody knows when the server began to count.
                if let Some(lease) = Lease::new(reply, exchange.sent) {
                    self.bind(lease, actions);
                }
            }
            (Kind::Nak, _) => self.refused(now, reply, actions),
            _ => {}
        }
    }

    /// Whether the answer comes from the server that was asked; where anybody was asked, anybody may answer.
    fn is_from_our_server(&self, reply: &Reply) -> bool {
        let expected = match &self.state {
            State::Requesting(_, offer) => Some(offer.server),
            State::Renewing(_) => self.lease.as_ref().map(|lease| lease.server),
            _ => None,
        };
        expected.is_none_or(|server| reply.server == Some(server))
    }

    fn bind(&mut self, mut lease: Lease, actions: &mut Vec<Action>) {
        // Many devices that were switched on together shall not come together again (RFC 2131 §4.4.5).
        lease.renewal = lease.renewal.map(|at| {
            let span = at.saturating_sub(lease.start).as_millis() / 32;
            let earlier = self.random(u64::try_from(span).unwrap_or(0));
            at.saturating_sub(Duration::from_millis(earlier))
        });
        self.known = Some(lease.address);
        self.lease = Some(lease.clone());
        self.configured = true;
        self.refusals = 0;
        self.state = State::Bound;
        actions.push(Action::Configure(lease));
    }

    fn refused(&mut self, now: Duration, reply: &Reply, actions: &mut Vec<Action>) {
        actions.push(Action::Refused(reply.message.clone()));
        self.lease = None;
        self.known = None;
        self.unconfigure("the server refused the address", actions);
        self.refusals = self.refusals.saturating_add(1);
        if self.refusals == 1 {
            self.discover(now, actions);
        } else {
            // A server that offers and then refuses must not make us run in a circle.
            let pause = FIRST_WAIT.saturating_mul(1 << self.refusals.min(4));
            self.state = State::Waiting(self.after(now, pause.min(LONGEST_WAIT)));
        }
    }

    /// Nobody confirms the known address. A lease that still runs is used on, while we ask for a new one
    /// (RFC 2131 §3.2).
    fn nobody_confirms(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if let (Some(lease), false) = (&self.lease, self.configured) {
            actions.push(Action::Configure(lease.clone()));
            self.configured = true;
        }
        self.discover(now, actions);
    }

    fn unconfigure(&mut self, why: &'static str, actions: &mut Vec<Action>) {
        if std::mem::take(&mut self.configured) {
            actions.push(Action::Unconfigure(why));
        }
    }

    fn discover(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let next = self.wait(now, 0);
        let exchange = self.begin(now, next);
        self.send(Kind::Discover, &exchange, actions);
        self.state = State::Selecting(exchange);
    }

    fn reboot(&mut self, now: Duration, address: Ipv4Addr, actions: &mut Vec<Action>) {
        let next = self.after(now, REBOOT_WAIT);
        let exchange = self.begin(now, next);
        self.ask_for(exchange, address, actions);
    }

    fn ask_for(&mut self, exchange: Exchange, address: Ipv4Addr, actions: &mut Vec<Action>) {
        let request = Request { requested: Some(address), ..self.message(Kind::Request, &exchange) };
        actions.push(Action::Broadcast(request.encode()));
        self.state = State::Rebooting(exchange, address);
    }

    fn request(&mut self, exchange: Exchange, offer: Lease, actions: &mut Vec<Action>) {
        let request = Request {
            requested: Some(offer.address),
            server: Some(offer.server),
            ..self.message(Kind::Request, &exchange)
        };
        actions.push(Action::Broadcast(request.encode()));
        self.state = State::Requesting(exchange, offer);
    }

    /// Asks for an extension: the server until T2, anybody after that.
    fn extend(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Some(lease) = &self.lease else { return self.discover(now, actions) };
        let (server, address) = (lease.server, lease.address);
        let rebinding = lease.rebinding.unwrap_or(Duration::MAX);
        let expiry = lease.expiry.unwrap_or(Duration::MAX);
        let until = if now < rebinding { rebinding } else { expiry };
        let half = until.saturating_sub(now) / 2;
        let next = now.saturating_add(half.max(EXTENSION_WAIT)).min(until);
        let exchange = self.begin(now, next);
        let message = Request { ciaddr: address, ..self.message(Kind::Request, &exchange) }.encode();
        if now < rebinding {
            actions.push(Action::Unicast(server, message));
            self.state = State::Renewing(exchange);
        } else {
            actions.push(Action::Rebind(message));
            self.state = State::Rebinding(exchange);
        }
    }

    fn send(&self, kind: Kind, exchange: &Exchange, actions: &mut Vec<Action>) {
        let request = Request { requested: self.known, ..self.message(kind, exchange) };
        actions.push(Action::Broadcast(request.encode()));
    }

    fn message(&self, kind: Kind, exchange: &Exchange) -> Request<'_> {
        let secs = exchange.sent.saturating_sub(exchange.began).as_secs();
        Request {
            kind,
            xid: exchange.xid,
            secs: u16::try_from(secs).unwrap_or(u16::MAX),
            ciaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: self.mac,
            requested: None,
            server: None,
            host_name: &self.host_name,
        }
    }

    fn begin(&mut self, now: Duration, next: Duration) -> Exchange {
        let xid = u32::try_from(self.random(u64::from(u32::MAX))).unwrap_or(0);
        Exchange { xid, began: now, sent: now, tries: 1, next }
    }

    fn again(&mut self, now: Duration, exchange: Exchange) -> Exchange {
        let next = self.wait(now, exchange.tries);
        Exchange { sent: now, tries: exchange.tries.saturating_add(1), next, ..exchange }
    }

    /// The end of the wait after the question that has been put `tries` times before.
    fn wait(&mut self, now: Duration, tries: u32) -> Duration {
        let wait = FIRST_WAIT.saturating_mul(1 << tries.min(4)).min(LONGEST_WAIT);
        self.after(now, wait)
    }

    fn after(&mut self, now: Duration, wait: Duration) -> Duration {
        let jitter = Duration::from_millis(self.random(2 * JITTER));
        now.saturating_add(wait).saturating_add(jitter).saturating_sub(Duration::from_millis(JITTER))
    }

    /// A number from 0 to `most`, both included (xorshift64: no secret hangs on it).
    fn random(&mut self, most: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 16).checked_rem(most.saturating_add(1)).unwrap_or(0)
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
