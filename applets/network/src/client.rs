//! The DHCPv4 client's state machine (RFC 2131 §4.4), one per link. It has no clock, no socket and no
//! randomness of its own: [`Client::step`] gets the time and an event and says what to do.
//!
//! Times are since boot. States have the RFC's names.

use crate::lease::Lease;
use minke_sys::clock::milliseconds;
use minke_wire::dhcp::{Kind, Reply, Request};
use std::net::Ipv4Addr;
use std::rc::Rc;
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
    Configure(Rc<Lease>),
    /// Take from the link what the lease gave; the string says why.
    Unconfigure(&'static str),
    /// The server said no, in its words.
    Refused(String),
}

/// How a link comes by its address.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq, Eq))]
pub enum Addressing {
    /// A server is asked.
    Dhcp,
    /// It is always this one: a lease without end.
    Fixed(Rc<Lease>),
    /// It has none.
    Nothing,
}

impl Addressing {
    /// Whether both are the same: of leases without end, address and default route.
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fixed(one), Self::Fixed(other)) => {
                one.address == other.address && one.prefix == other.prefix && one.routes == other.routes
            }
            (Self::Dhcp, Self::Dhcp) | (Self::Nothing, Self::Nothing) => true,
            _ => false,
        }
    }
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No carrier.
    Stopped,
    /// No carrier since a moment; the address is still there until the timer.
    Grace,
    /// A server has refused repeatedly; INIT follows with the timer.
    Waiting,
    Selecting,
    Requesting,
    Rebooting,
    Bound,
    Renewing,
    Rebinding,
}

/// A client.
#[derive(Debug)]
pub struct Client {
    addressing: Addressing,
    mac: [u8; 6],
    host_name: String,
    random: u64,
    state: State,
    /// When the timer of every state but STOPPED and BOUND is due.
    next: Duration,
    /// The present question: its number, when it was first put, when last, and how often.
    xid: u32,
    began: Duration,
    sent: Duration,
    tries: u32,
    /// What is requested.
    offer: Option<Rc<Lease>>,
    /// The last lease, as long as it is valid.
    lease: Option<Rc<Lease>>,
    /// The address to ask for first: that of the last lease, even when it has ended.
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
            addressing: Addressing::Dhcp,
            mac,
            host_name,
            random: seed | 1,
            state: State::Stopped,
            next: Duration::ZERO,
            xid: 0,
            began: Duration::ZERO,
            sent: Duration::ZERO,
            tries: 0,
            offer: None,
            lease: None,
            known,
            configured: false,
            refusals: 0,
        }
    }

    /// The name of the state, as in RFC 2131 figure 5; without DHCP one of our own.
    pub fn state(&self) -> &'static str {
        match self.state {
            State::Stopped if matches!(self.addressing, Addressing::Nothing) => "OFF",
            State::Bound if matches!(self.addressing, Addressing::Fixed(_)) => "MANUAL",
            State::Stopped | State::Grace => "NO-CARRIER",
            State::Waiting => "INIT",
            State::Selecting => "SELECTING",
            State::Requesting => "REQUESTING",
            State::Rebooting => "REBOOTING",
            State::Bound => "BOUND",
            State::Renewing => "RENEWING",
            State::Rebinding => "REBINDING",
        }
    }

    /// The lease that is set up on the link.
    pub fn lease(&self) -> Option<&Rc<Lease>> {
        if self.configured { self.lease.as_ref() } else { None }
    }

    /// Whether nothing is going on, as there is no carrier or no address is wanted.
    pub fn is_stopped(&self) -> bool {
        self.state == State::Stopped
    }

    /// The socket that is needed now.
    pub fn listening(&self) -> Listening {
        match self.state {
            State::Selecting | State::Requesting | State::Rebooting => Listening::Packets,
            State::Renewing | State::Rebinding => Listening::Port,
            State::Stopped | State::Grace | State::Waiting | State::Bound => Listening::Nothing,
        }
    }

    /// When [`Event::Timer`] is due; `None`: never.
    pub fn deadline(&self) -> Option<Duration> {
        let own = match self.state {
            State::Stopped => None,
            State::Bound => self.lease.as_ref().and_then(|lease| lease.renewal),
            _ => Some(self.next),
        };
        match self.lease().and_then(|lease| lease.expiry) {
            Some(expiry) => Some(own.map_or(expiry, |own| own.min(expiry))),
            None => own,
        }
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

    /// The link, which has a carrier, comes by its address in this way from now on. Where the new one is known, the old
    /// one goes with its coming and not before: if they are the same, no connection is cut.
    pub fn adopt(&mut self, now: Duration, addressing: Addressing) -> Vec<Action> {
        let mut actions = Vec::new();
        if !self.addressing.is(&addressing) {
            if !matches!(addressing, Addressing::Fixed(_)) {
                self.lease = None;
                self.unconfigure("another profile", &mut actions);
            }
            self.addressing = addressing;
            self.state = State::Stopped;
        }
        self.carrier_up(now, &mut actions);
        actions
    }

    /// A lease that has ended is gone, whatever else happens.
    fn expire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let expiry = self.lease.as_ref().and_then(|lease| lease.expiry);
        if expiry.is_none_or(|expiry| expiry > now) {
            return;
        }
        self.lease = None;
        self.unconfigure("the lease has expired", actions);
        match self.state {
            State::Bound | State::Renewing | State::Rebinding => self.discover(now, actions),
            State::Grace => self.state = State::Stopped,
            _ => {}
        }
    }

    fn carrier_up(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if !matches!(self.state, State::Stopped | State::Grace) {
            return;
        }
        match &self.addressing {
            Addressing::Nothing => return,
            Addressing::Fixed(lease) => {
                let lease = Rc::clone(lease);
                self.lease = Some(Rc::clone(&lease));
                self.configured = true;
                self.state = State::Bound;
                return actions.push(Action::Configure(lease));
            }
            Addressing::Dhcp if self.known.is_none() => return self.discover(now, actions),
            Addressing::Dhcp => {}
        }
        let next = self.after(now, REBOOT_WAIT);
        self.begin(State::Rebooting, now, next);
        self.ask(actions);
    }

    fn carrier_down(&mut self, now: Duration) {
        if !matches!(self.state, State::Stopped | State::Grace) {
            self.refusals = 0;
            self.next = minke_sys::clock::after(now, GRACE);
            self.state = if self.configured { State::Grace } else { State::Stopped };
        }
    }

    fn timer(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.state {
            State::Stopped => {}
            State::Grace => {
                self.state = State::Stopped;
                self.unconfigure("the link has no carrier", actions);
            }
            State::Requesting if self.tries >= REQUEST_TRIES => self.discover(now, actions),
            State::Rebooting if self.tries >= REBOOT_TRIES => self.nobody_confirms(now, actions),
            State::Selecting | State::Requesting | State::Rebooting => {
                self.next = match self.state {
                    State::Rebooting => self.after(now, REBOOT_WAIT),
                    _ => self.wait(now, self.tries),
                };
                self.sent = now;
                self.tries = self.tries.saturating_add(1);
                self.ask(actions);
            }
            State::Waiting => self.discover(now, actions),
            State::Bound | State::Renewing | State::Rebinding => self.extend(now, actions),
        }
    }

    fn reply(&mut self, now: Duration, reply: &Reply, actions: &mut Vec<Action>) {
        if self.listening() == Listening::Nothing
            || reply.xid != self.xid
            || reply.chaddr != self.mac
            || !self.is_from_our_server(reply)
        {
            return;
        }
        match (reply.kind, self.state) {
            (Kind::Offer, State::Selecting) => {
                if let Some(offer) = Lease::new(reply, now) {
                    self.next = self.wait(now, 0);
                    (self.sent, self.tries) = (now, 1);
                    self.offer = Some(offer);
                    self.state = State::Requesting;
                    self.ask(actions);
                }
            }
            (_, State::Selecting) | (Kind::Offer, _) => {}
            (Kind::Ack, _) => {
                // The time counts from the question, as nobody knows when the server began to count.
                if let Some(lease) = Lease::new(reply, self.sent) {
                    self.bind(lease, actions);
                }
            }
            (Kind::Nak, _) => self.refused(now, reply, actions),
            _ => {}
        }
    }

    /// Whether the answer comes from the server that was asked; where anybody was asked, anybody may answer.
    fn is_from_our_server(&self, reply: &Reply) -> bool {
        let expected = match self.state {
            State::Requesting => &self.offer,
            State::Renewing => &self.lease,
            _ => return true,
        };
        expected.as_ref().is_none_or(|lease| reply.server == Some(lease.server))
    }

    fn bind(&mut self, mut lease: Rc<Lease>, actions: &mut Vec<Action>) {
        // Many devices that were switched on together shall not come together again (RFC 2131 §4.4.5).
        if let Some(Lease { renewal: Some(at), start, .. }) = Rc::get_mut(&mut lease) {
            let earlier = self.random(milliseconds(at.saturating_sub(*start)) / 32);
            *at = at.saturating_sub(Duration::from_millis(earlier));
        }
        self.known = Some(lease.address);
        self.lease = Some(Rc::clone(&lease));
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
            self.next = self.after(now, pause.min(LONGEST_WAIT));
            self.state = State::Waiting;
        }
    }

    /// Nobody confirms the known address. A lease that still runs is used on, while we ask for a new one
    /// (RFC 2131 §3.2).
    fn nobody_confirms(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if let (Some(lease), false) = (&self.lease, self.configured) {
            actions.push(Action::Configure(Rc::clone(lease)));
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
        self.begin(State::Selecting, now, next);
        self.ask(actions);
    }

    /// Asks for an extension: the server until T2, anybody after that.
    fn extend(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Some(lease) = &self.lease else { return self.discover(now, actions) };
        let rebinding = lease.rebinding.unwrap_or(Duration::MAX);
        let (state, until) = if now < rebinding {
            (State::Renewing, rebinding)
        } else {
            (State::Rebinding, lease.expiry.unwrap_or(Duration::MAX))
        };
        let half = until.saturating_sub(now) / 2;
        self.begin(state, now, minke_sys::clock::after(now, half.max(EXTENSION_WAIT)).min(until));
        self.ask(actions);
    }

    /// Begins a new question.
    fn begin(&mut self, state: State, now: Duration, next: Duration) {
        self.xid = u32::try_from(self.random(u64::from(u32::MAX))).unwrap_or(0);
        (self.state, self.began, self.sent, self.tries, self.next) = (state, now, now, 1, next);
    }

    /// Puts the question of the present state.
    fn ask(&self, actions: &mut Vec<Action>) {
        let secs = self.sent.saturating_sub(self.began).as_secs();
        let mut request = Request {
            kind: Kind::Request,
            xid: self.xid,
            secs: u16::try_from(secs).unwrap_or(u16::MAX),
            ciaddr: Ipv4Addr::UNSPECIFIED,
            chaddr: self.mac,
            requested: self.known,
            server: None,
            host_name: &self.host_name,
        };
        match (self.state, &self.offer, &self.lease) {
            (State::Requesting, Some(offer), _) => {
                request.requested = Some(offer.address);
                request.server = Some(offer.server);
            }
            (State::Renewing | State::Rebinding, _, Some(lease)) => {
                request.requested = None;
                request.ciaddr = lease.address;
                let message = request.encode();
                return actions.push(match self.state {
                    State::Renewing => Action::Unicast(lease.server, message),
                    _ => Action::Rebind(message),
                });
            }
            (State::Rebooting, ..) => {}
            _ => request.kind = Kind::Discover,
        }
        actions.push(Action::Broadcast(request.encode()));
    }

    /// The end of the wait after the question that has been put `tries` times before.
    fn wait(&mut self, now: Duration, tries: u32) -> Duration {
        let wait = FIRST_WAIT.saturating_mul(1 << tries.min(4)).min(LONGEST_WAIT);
        self.after(now, wait)
    }

    fn after(&mut self, now: Duration, wait: Duration) -> Duration {
        let jitter = Duration::from_millis(self.random(2 * JITTER));
        minke_sys::clock::after(now, wait)
            .saturating_add(jitter)
            .saturating_sub(Duration::from_millis(JITTER))
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
