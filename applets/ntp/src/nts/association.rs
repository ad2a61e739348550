//! What the daemon has with one source that is asked with NTS: its session, when a key exchange is due, and what is kept
//! for the time after a restart. Pure: time and random numbers come in, exchanges are the caller's.
//!
//! - A request has a cookie, or it is not sent; an answer counts when it is authentic.
//! - An exchange is due when no cookie is left or the server says that it knows the cookie no more. After each that was
//!   not followed by an authentic answer the next waits twice as long, from 10 s to a day: a NAK, which anybody could
//!   forge, costs no more than that. The old cookies serve until the exchange succeeds (RFC 8915 §5.7).
//! - Before anything has confirmed this device's clock, a certificate may be checked against a moment of its own choice
//!   ([`Clock::Doubtful`]). The session is provisional then: its first authentic answer is no sample; it names a
//!   candidate, and another exchange, with the certificate checked against that very time, decides whether the server is
//!   believed.

use super::exchange::{Clock, Granted};
use super::session::{RANDOM, Session, Verdict};
use super::store::Kept;
use std::net::IpAddr;
use std::time::Duration;

/// The shortest time between two exchanges with a server.
const FIRST_PAUSE: u64 = 10;
/// How often the pause doubles: to 81,920 s.
const DOUBLINGS: u32 = 13;
/// How long cookies on the disk stay before fresh ones take their place. Servers know theirs for a week.
const RESERVE_AGE: Duration = Duration::from_secs(24 * 3600);

/// One source's NTS.
#[derive(Debug)]
pub(crate) struct Association {
    session: Option<Session>,
    provisional: bool,
    /// The time since 1970 that a provisional server has told.
    candidate: Option<Duration>,
    addresses: Vec<IpAddr>,
    port: u16,
    /// Another exchange is wanted though there are cookies.
    refused: bool,
    running: bool,
    /// The last exchange did not even reach the server.
    unreached: bool,
    /// Exchanges since the last authentic answer.
    tries: u32,
    /// The time since boot before which no exchange begins.
    not_before: Duration,
    /// The time since boot when cookies went to the disk.
    stored: Option<Duration>,
}

/// What a packet is to its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// A sample.
    Authentic,
    /// Authentic, but the server is not believed yet: no sample. An exchange is due.
    Provisional,
    /// The server knows the cookie no more, it says. An exchange is due.
    Nak,
    /// Not the answer: as if it had not come.
    Foreign,
}

impl Association {
    /// Begins with what was kept from before the restart, if anything was.
    pub(crate) fn new(kept: Option<Kept>) -> Self {
        let (session, addresses, port) = match kept {
            Some(kept) => (Some(kept.session), kept.addresses, kept.port),
            None => (None, Vec::new(), 0),
        };
        Self {
            session,
            provisional: false,
            candidate: None,
            addresses,
            port,
            refused: false,
            running: false,
            unreached: false,
            tries: 0,
            not_before: Duration::ZERO,
            stored: None,
        }
    }

    /// Where the NTP server is, the best first; nowhere before the first exchange.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The NTP server's port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Whether a request could be sealed now.
    pub(crate) fn is_ready(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.cookies.is_empty())
    }

    /// The server was of no use: an exchange may tell of another.
    pub(crate) fn refuse(&mut self) {
        self.refused = true;
    }

    /// The time since boot at which an exchange should begin; `None`: none is due, or one is on its way.
    pub(crate) fn due(&self) -> Option<Duration> {
        let wanted = !self.is_ready() || self.refused || self.candidate.is_some();
        (wanted && !self.running).then_some(self.not_before)
    }

    /// An exchange begins now, a time since boot. The answer is what its certificates are checked against; `confirmed`:
    /// something has confirmed this device's clock, else `earliest` and `latest` limit it, in seconds since 1970.
    pub(crate) fn begin(&mut self, now: Duration, confirmed: bool, earliest: u64, latest: u64) -> Clock {
        self.running = true;
        self.unreached = false;
        let pause = FIRST_PAUSE << self.tries.min(DOUBLINGS);
        self.tries = self.tries.saturating_add(1);
        self.not_before = now.saturating_add(Duration::from_secs(pause));
        // A time that no clock can show is no candidate; its server begins anew.
        self.candidate = self.candidate.filter(|time| (earliest..=latest).contains(&time.as_secs()));
        match self.candidate {
            _ if confirmed => Clock::System,
            Some(time) => Clock::At(time),
            None => Clock::Doubtful { earliest, latest },
        }
    }

    /// The exchange has ended; `None`: without success.
    pub(crate) fn end(&mut self, granted: Option<Box<Granted>>) {
        self.running = false;
        // A candidate is tried once: its server begins anew.
        if self.candidate.take().is_some() {
            self.session = None;
        }
        let Some(granted) = granted else { return };
        self.refused = false;
        self.provisional = granted.provisional;
        self.addresses = granted.addresses;
        self.port = granted.port;
        self.session = Some(granted.session);
        self.stored = None;
    }

    /// The exchange that has just ended failed on its way: the server does not know of it.
    pub(crate) fn set_unreached(&mut self) {
        self.unreached = true;
    }

    /// The network has come, or the clock was set: what failed before may work now. A server that was asked already has
    /// 10 s more.
    pub(crate) fn encourage(&mut self, now: Duration) {
        let pause = Duration::from_secs(if self.unreached { 0 } else { FIRST_PAUSE });
        self.not_before = self.not_before.min(now.saturating_add(pause));
        self.tries = self.tries.min(1);
    }

    /// Adds its fields to a request's header. `false`: no cookie is left; nothing must be sent.
    pub(crate) fn seal(&mut self, request: &mut Vec<u8>, random: &[u8; RANDOM]) -> bool {
        self.session.as_mut().is_some_and(|session| session.seal(request, random))
    }

    /// The last request was not sent after all.
    pub(crate) fn unsent(&mut self) {
        if let Some(session) = &mut self.session {
            session.unsent();
        }
    }

    /// Judges a packet that has the request's origin timestamp. `told` is its transmit time, since 1970.
    pub(crate) fn open(&mut self, packet: &[u8], told: Duration) -> Judgement {
        let verdict = self.session.as_mut().map_or(Verdict::Foreign, |session| session.open(packet));
        match verdict {
            Verdict::Foreign => Judgement::Foreign,
            Verdict::Nak => {
                self.refused = true;
                Judgement::Nak
            }
            Verdict::Authentic if self.provisional => {
                self.candidate = Some(told);
                // The pause before the next exchange is for servers that fail.
                if self.tries <= 1 {
                    self.not_before = Duration::ZERO;
                }
                Judgement::Provisional
            }
            Verdict::Authentic => {
                self.tries = 0;
                self.refused = false;
                Judgement::Authentic
            }
        }
    }

    /// What should be written to the disk now, if anything should: cookies that are not used before a restart. To be asked
    /// after an authentic answer, at a time since boot.
    pub(crate) fn reserve(&mut self, now: Duration) -> Option<Kept> {
        let fresh = self.stored.is_some_and(|stored| now.saturating_sub(stored) < RESERVE_AGE);
        if fresh || self.provisional {
            return None;
        }
        let session = self.session.as_mut()?.reserve()?;
        self.stored = Some(now);
        Some(Kept { session, addresses: self.addresses.clone(), port: self.port })
    }

    /// How many cookies there are, and how many on the disk.
    #[cfg(test)]
    pub(crate) fn cookies(&self) -> (usize, usize) {
        let here = self.session.as_ref().map_or(0, |session| session.cookies.len());
        (here, if self.stored.is_some() { super::session::RESERVE } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::super::aead::Key;
    use super::*;
    use minke_wire::ntp::{Packet, put};
    use minke_wire::nts::{Answer, NONCE};

    const SECOND: Duration = Duration::from_secs(1);

    fn granted(provisional: bool) -> Option<Box<Granted>> {
        let session = Session::new(Key([1; 32]), Key([2; 32]), vec![vec![7; 100]; 8]);
        Some(Box::new(Granted { session, addresses: vec![[192, 0, 2, 1].into()], port: 123, provisional }))
    }

    /// A request, and the packet that answers it: authentic with a cookie for each that it asks for, or a NAK.
    fn asked(association: &mut Association, nak: bool) -> Vec<u8> {
        let mut request = Packet::default().encode().to_vec();
        assert!(association.seal(&mut request, &[5; RANDOM]));
        let refid = if nak { *b"NTSN" } else { *b"GPS\0" };
        let mut packet = Packet { version: 4, mode: 4, refid, ..Packet::default() }.encode().to_vec();
        put(&mut packet, 0x0104, Answer::parse(&request).identifier, 16);
        if !nak {
            let mut text = Vec::new();
            (0..(request.len() - 48 - 36) / 104).for_each(|_| assert!(put(&mut text, 0x0204, &[9; 100], 16)));
            let sealed = Key([2; 32]).seal(&[&packet, &[3; NONCE]], &text);
            let lengths = [0, NONCE as u8, (sealed.len() >> 8) as u8, sealed.len() as u8];
            put(&mut packet, 0x0404, &[&lengths[..], &[3; NONCE], &sealed].concat(), 16);
        }
        packet
    }

    #[test]
    fn exchanges_that_fail_wait_longer_and_longer() {
        let mut association = Association::new(None);
        let (mut now, mut pauses) = (SECOND * 100, Vec::new());
        for _ in 0..16 {
            let due = association.due().unwrap();
            now = now.max(due);
            assert_eq!(association.begin(now, true, 0, 0), Clock::System);
            assert_eq!(association.due(), None);
            association.end(None);
            pauses.push((association.due().unwrap() - now).as_secs());
        }
        assert_eq!((pauses[0], pauses[1], pauses[2]), (10, 20, 40));
        assert_eq!((pauses[13], pauses[15]), (81_920, 81_920));
        association.encourage(now);
        assert_eq!(association.due(), Some(now + SECOND * 10));
        association.set_unreached();
        association.encourage(now);
        assert_eq!(association.due(), Some(now));
    }

    #[test]
    fn a_nak_leads_to_an_exchange_and_a_flood_of_them_to_few() {
        let mut association = Association::new(None);
        association.begin(SECOND, true, 0, 0);
        association.end(granted(false));
        assert_eq!((association.due(), association.is_ready()), (None, true));
        let good = asked(&mut association, false);
        assert_eq!(association.open(&good, SECOND), Judgement::Authentic);
        let mut exchanges = 0;
        for round in 0..10_000 {
            let now = SECOND * 100 + SECOND * round;
            if !association.is_ready() {
                association.end(granted(false));
            }
            let nak = asked(&mut association, true);
            assert_eq!(association.open(&nak, SECOND), Judgement::Nak);
            if association.due().is_some_and(|due| due <= now) {
                exchanges += 1;
                association.begin(now, true, 0, 0);
                association.end(granted(false));
            }
        }
        assert!(exchanges <= 11, "{exchanges}");
    }

    #[test]
    fn a_server_of_doubtful_dates_is_asked_again_before_it_counts() {
        let mut association = Association::new(None);
        let doubtful = Clock::Doubtful { earliest: 1000, latest: 9000 };
        assert_eq!(association.begin(SECOND, false, 1000, 9000), doubtful);
        association.end(granted(true));
        let answer = asked(&mut association, false);
        assert_eq!(association.open(&answer, SECOND * 5000), Judgement::Provisional);
        assert_eq!(association.reserve(SECOND), None);
        assert_eq!(association.due(), Some(Duration::ZERO));
        assert_eq!(association.begin(SECOND * 2, false, 1000, 9000), Clock::At(SECOND * 5000));
        association.end(granted(false));
        let answer = asked(&mut association, false);
        assert_eq!(association.open(&answer, SECOND * 5000), Judgement::Authentic);

        // It fails at that time: nothing is left of the server.
        association.begin(SECOND * 3, false, 1000, 9000);
        association.end(granted(true));
        let answer = asked(&mut association, false);
        assert_eq!(association.open(&answer, SECOND * 5000), Judgement::Provisional);
        association.begin(SECOND * 4, false, 1000, 9000);
        association.end(None);
        assert!(!association.is_ready());

        // Times before the build, or of another age, lead nowhere, and not often.
        let mut association = Association::new(None);
        let mut exchanges = 0;
        for round in 1..1000 {
            let now = SECOND * round;
            if association.due().is_some_and(|due| due <= now) {
                assert_eq!(association.begin(now, false, 1000, 9000), doubtful);
                association.end(granted(true));
                exchanges += 1;
            }
            if association.is_ready() {
                let answer = asked(&mut association, false);
                assert_eq!(association.open(&answer, SECOND * 999), Judgement::Provisional);
            }
        }
        assert!(exchanges < 10, "{exchanges}");
    }

    #[test]
    fn cookies_for_a_restart_once_a_day() {
        let mut association = Association::new(None);
        association.begin(SECOND, true, 0, 0);
        association.end(granted(false));
        let mut stored = Vec::new();
        for hour in 0..72 {
            let answer = asked(&mut association, false);
            assert_eq!(association.open(&answer, SECOND), Judgement::Authentic);
            stored.extend(association.reserve(SECOND * 3600 * hour));
        }
        assert_eq!(stored.len(), 3);
        assert_eq!(association.cookies(), (8, 3));
        let mut again = Association::new(stored.pop());
        assert_eq!((again.cookies(), again.due(), again.addresses().len()), ((3, 0), None, 1));
        let answer = asked(&mut again, false);
        assert_eq!(again.open(&answer, SECOND), Judgement::Authentic);
        assert_eq!(again.cookies(), (8, 0));
    }
}
