//! The servers of the settings: what each can do, how it is reached now, and which group it is in.

use super::health::Health;
use super::link::Link;
use crate::config::{PORT, Server, Settings, Transport};
use minke_wire::micros::Micros;
use std::net::SocketAddr;

/// How long no connection is tried after one has failed; it doubles [`DOUBLINGS`] times.
const PAUSE: Micros = Micros::from_secs(1);
const DOUBLINGS: u8 = 6;
/// The same where the plain way is taken meanwhile (RFC 9539 §4.3 has a day; a captive network is left sooner).
const PLAIN_PAUSE: Micros = Micros::from_secs(60);

/// How a question reaches a server now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// By UDP, at this address.
    Datagram(SocketAddr),
    /// By a connection.
    Connection,
    /// Not at all: a connection has just failed, and no other way is allowed.
    None,
}

/// A server.
#[derive(Debug)]
pub(crate) struct Upstream {
    /// As the settings have it.
    pub(crate) server: Server,
    /// It understands OPT, and repeats the letters of a name as they were; until it shows that it does not.
    pub(crate) edns: bool,
    pub(crate) letters: bool,
    /// The connection, if there is one.
    pub(crate) link: Option<Box<Link>>,
    /// The time since boot before which no secured connection is tried.
    closed_until: Micros,
    /// Secured connections in a row that failed.
    failures: u8,
}

impl Upstream {
    fn new(server: Server) -> Self {
        Self { server, edns: true, letters: true, link: None, closed_until: Micros::ZERO, failures: 0 }
    }

    /// How a question goes.
    pub(crate) fn way(&self, now: Micros) -> Way {
        let open = self.link.as_ref().is_some_and(|link| link.tls) || self.may_secure(now);
        match (&self.server.transport, self.plain_address(now)) {
            (Transport::Plain, Some(address)) => Way::Datagram(address),
            _ if open => Way::Connection,
            (_, Some(address)) => Way::Datagram(address),
            (_, None) => Way::None,
        }
    }

    /// Whether a secured connection may be tried.
    pub(crate) fn may_secure(&self, now: Micros) -> bool {
        self.server.transport != Transport::Plain && now >= self.closed_until
    }

    /// Where it is asked without TLS, if that is allowed now.
    pub(crate) fn plain_address(&self, now: Micros) -> Option<SocketAddr> {
        match self.server.transport {
            Transport::Plain => Some(self.server.address),
            Transport::Opportunistic if !self.may_secure(now) => {
                Some(SocketAddr::new(self.server.address.ip(), PORT))
            }
            _ => None,
        }
    }

    /// A secured connection could not be made; whether it is the first of its kind in a row.
    pub(crate) fn was_closed(&mut self, now: Micros) -> bool {
        let pause = if self.server.transport == Transport::Opportunistic { PLAIN_PAUSE } else { PAUSE };
        let pause = pause.saturating_mul(1 << self.failures.min(DOUBLINGS));
        self.closed_until = now.saturating_add(pause);
        self.failures = self.failures.saturating_add(1);
        self.failures == 1
    }

    /// A secured connection has brought an answer.
    pub(crate) fn was_open(&mut self) {
        (self.failures, self.closed_until) = (0, Micros::ZERO);
    }

    /// Whether nobody on the way can change what it says, so that its word on validation counts.
    pub(crate) fn is_secure(&self) -> bool {
        matches!(self.server.transport, Transport::Strict(_)) || self.server.address.ip().is_loopback()
    }
}

/// All servers. Figures are apart, for the decisions that need nothing else.
#[derive(Debug, Default)]
pub(crate) struct Upstreams {
    pub(crate) all: Vec<Upstream>,
    pub(crate) health: Vec<Health>,
    /// The places of each group's servers.
    pub(crate) groups: Vec<Vec<usize>>,
    pub(crate) fallback: Vec<usize>,
}

impl Upstreams {
    /// Takes other settings: what is known of a server that stays is kept, with its connection; whether anything is
    /// different now.
    pub(crate) fn set(&mut self, settings: &Settings) -> bool {
        let mut old = std::mem::take(self);
        for group in &settings.groups {
            let places = group.iter().map(|server| self.place(server, &mut old)).collect();
            self.groups.push(places);
        }
        self.fallback = settings.fallback.iter().map(|server| self.place(server, &mut old)).collect();
        let same = |(one, other): (&Upstream, &Upstream)| one.server == other.server;
        let changed = self.groups != old.groups
            || self.fallback != old.fallback
            || self.all.len() != old.all.len()
            || !self.all.iter().zip(&old.all).all(same);
        if changed {
            // Perhaps another network: what was out of reach may be in reach.
            self.health.iter_mut().for_each(Health::encourage);
            self.all.iter_mut().for_each(|upstream| upstream.was_open());
        }
        changed
    }

    fn place(&mut self, server: &Server, old: &mut Self) -> usize {
        if let Some(place) = self.all.iter().position(|known| known.server == *server) {
            return place;
        }
        let place = self.all.len();
        let known = old.all.iter().position(|known| known.server == *server);
        let health = known.and_then(|known| old.health.get(known)).cloned().unwrap_or_default();
        let mut upstream = Upstream::new(server.clone());
        if let Some(known) = known.and_then(|known| old.all.get_mut(known)) {
            upstream.edns = known.edns;
            upstream.letters = known.letters;
            upstream.link = known.link.take();
        }
        self.all.push(upstream);
        self.health.push(health);
        place
    }

    /// The usual servers of a group, and those that stand in for them.
    pub(crate) fn of(&self, group: usize) -> super::course::Servers<'_> {
        super::course::Servers {
            all: &self.health,
            usual: self.groups.get(group).map_or(&[], Vec::as_slice),
            fallback: if group == 0 { &self.fallback } else { &[] },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::slots::{Owner, Token};
    use crate::daemon::stream::Stream;

    fn server(text: &str, transport: Transport) -> Server {
        Server { address: text.parse().unwrap(), transport }
    }

    fn settings(groups: &[&[&str]]) -> Settings {
        let group = |servers: &&[&str]| servers.iter().map(|text| server(text, Transport::Plain)).collect();
        Settings { groups: groups.iter().map(group).collect(), fallback: Vec::new(), ..Settings::default() }
    }

    #[test]
    fn what_is_known_of_a_server_survives_other_settings() {
        let mut all = Upstreams::default();
        assert!(all.set(&settings(&[&["1.1.1.1:53", "9.9.9.9:53"], &["9.9.9.9:53"]])));
        assert_eq!((all.groups.clone(), all.all.len()), (vec![vec![0, 1], vec![1]], 2));
        all.health[1].has_answered(Micros::from_secs(2), Some(Micros::from_secs(1)));
        all.all[1].letters = false;
        assert!(!all.set(&settings(&[&["1.1.1.1:53", "9.9.9.9:53"], &["9.9.9.9:53"]])));
        assert!(all.set(&settings(&[&["9.9.9.9:53", "8.8.8.8:53"]])));
        assert!(all.health[0].rtt.is_some() && !all.all[0].letters);
        assert!(all.health[1].rtt.is_none() && all.all[1].letters);
        assert!(all.set(&settings(&[&["8.8.8.8:53", "9.9.9.9:53"]])));
        assert!(all.set(&settings(&[&["8.8.8.8:5353", "9.9.9.9:53"]])));
    }

    #[test]
    fn strict_tls_has_no_other_way_and_opportunistic_has() {
        let now = Micros::from_secs(100);
        let mut strict = Upstream::new(server("9.9.9.9:853", Transport::Strict("dns.quad9.net".into())));
        assert_eq!(strict.way(now), Way::Connection);
        assert!(strict.was_closed(now) && !strict.was_closed(now));
        assert_eq!(strict.way(now), Way::None);
        assert_eq!(strict.way(now + PAUSE * 2), Way::Connection);
        let mut other = Upstream::new(server("9.9.9.9:853", Transport::Opportunistic));
        assert_eq!(other.way(now), Way::Connection);
        assert_eq!(other.plain_address(now), None);
        other.was_closed(now);
        assert_eq!(other.way(now), Way::Datagram("9.9.9.9:53".parse().unwrap()));
        // A connection for an answer that is too long does not keep TLS from being tried later.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, token) = (Stream::new(socket, None, 512), Token::new(Owner::Link, 0));
        other.link = Some(Box::new(Link::new(stream, token, false, PAUSE, now)));
        assert_eq!(other.way(now), Way::Datagram("9.9.9.9:53".parse().unwrap()));
        assert!(!other.may_secure(now) && other.may_secure(now + PLAIN_PAUSE));
        other.was_open();
        assert_eq!(other.way(now), Way::Connection);
    }
}
