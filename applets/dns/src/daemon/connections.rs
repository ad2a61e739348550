//! Connections to servers, by TCP or TLS: made when a question needs one, kept while they are used.

use super::Daemon;
use super::slots::{Owner, Token};
use super::stream::{End, Stream};
use crate::config::Transport;
use crate::upstream::link::Link;
use minke_applet::{build, log};
use minke_control::time;
use minke_http::{Channel, Error, Trust};
use minke_sys::event::{Interest, Ready};
use minke_sys::{clock, tcp};
use minke_wire::dns;
use minke_wire::micros::Micros;
use std::net::SocketAddr;
use std::time::Duration;

/// How long making a connection may take; where the plain way is allowed it is not waited for long.
const LIMIT: Micros = Micros::from_secs(3);
const LIMIT_OPPORTUNISTIC: Micros = Micros::from_secs(1);
/// Queries in TLS are padded to a multiple of this (RFC 8467 §4.1).
const BLOCK: usize = 128;
/// 2100: no certificate's dates are of later.
const LATEST: u64 = 4_102_444_800;

/// How a question goes on whose connection has ended without its answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    /// By another connection: the one that ended had been of use.
    Again,
    /// By datagram: there is no TLS, and it need not be.
    Datagram(SocketAddr),
    /// By another server.
    Other,
}

impl Daemon {
    /// Sends a query by the server's connection; what was sent, with an id that is free there, and whether it went at once.
    pub(super) fn ask_link(
        &mut self,
        server: usize,
        mut query: Vec<u8>,
        token: Token,
        now: Micros,
    ) -> Option<(Vec<u8>, bool)> {
        self.renew(server, now);
        if self.upstreams.all.get(server)?.link.is_none() {
            self.connect(server, None, now)?;
        }
        let upstream = self.upstreams.all.get_mut(server)?;
        let link = upstream.link.as_deref_mut()?;
        let id = link.free_id(dns::id(&query)?)?;
        dns::set_id(&mut query, id);
        if link.tls {
            pad(&mut query);
        }
        let prompt = link.stream.is_ready() && link.useful;
        link.was_asked(id, token, now);
        let queued = link.stream.send(&query).and_then(|()| link.stream.flush());
        // An error shows when the connection's event comes.
        let interest = if queued.is_ok() { link.stream.interest() } else { Interest::Both };
        let _ = self.poller.modify(&link.stream, link.token.0, interest);
        Some((query, prompt))
    }

    /// Begins to make a connection; `clock` is what a certificate is checked against if not this device's.
    fn connect(&mut self, server: usize, clock: Option<Micros>, now: Micros) -> Option<()> {
        let upstream = self.upstreams.all.get_mut(server)?;
        let plain = upstream.plain_address(now);
        if plain.is_none() && !upstream.may_secure(now) {
            return None;
        }
        let socket = tcp::connect(plain.unwrap_or(upstream.server.address)).ok()?;
        let time = clock.map_or_else(clock::realtime, Duration::from);
        let (tls, limit) = match &upstream.server.transport {
            Transport::Strict(name) => (Some(Channel::new(name, Some(Trust::default()), time)), LIMIT),
            Transport::Opportunistic if plain.is_none() => {
                let name = upstream.server.address.ip().to_string();
                (Some(Channel::new(&name, None, time)), LIMIT_OPPORTUNISTIC)
            }
            _ => (None, LIMIT),
        };
        let tls = match tls {
            None => None,
            Some(Ok(channel)) => Some(Box::new(channel)),
            Some(Err(error)) => {
                if upstream.was_closed(now) {
                    log::warn(format_args!("{}: {error}", self.name_of(server)));
                }
                return None;
            }
        };
        self.generation = self.generation.wrapping_add(1);
        let token = Token::new(Owner::Link, server).with_generation(self.generation);
        let secured = tls.is_some();
        let stream = Stream::new(socket, tls, usize::from(u16::MAX));
        self.poller.add(&stream, token.0, Interest::Both).ok()?;
        let mut link = Box::new(Link::new(stream, token, secured, limit, now));
        link.provisional = clock.is_some();
        upstream.link = Some(link);
        self.counts.links = self.counts.links.wrapping_add(1);
        Some(())
    }

    /// A connection makes way for a better one: where the dates of a certificate could not be checked and now can be, and
    /// where TLS may be tried again.
    fn renew(&mut self, server: usize, now: Micros) {
        let Some(upstream) = self.upstreams.all.get(server) else { return };
        let Some(link) = &upstream.link else { return };
        if link.provisional && time::is_synchronized() || !link.tls && upstream.may_secure(now) {
            self.end_link(server, &End::Closed, now);
        }
    }

    /// The server's place and its connection, if it is that of the token: places change with the settings.
    fn link_of(&self, token: Token) -> Option<usize> {
        self.upstreams
            .all
            .iter()
            .position(|upstream| upstream.link.as_ref().is_some_and(|link| link.token == token))
    }

    pub(super) fn link_event(&mut self, token: Token, event: Ready, now: Micros) {
        let Some(server) = self.link_of(token) else { return };
        let mut result = Ok(());
        if let Some(link) = self.upstreams.all.get_mut(server).and_then(|upstream| upstream.link.as_mut())
            && event.readable
        {
            result = link.stream.read();
            link.was_heard(now);
        }
        // What came before the end counts.
        while let Some(link) = self.upstreams.all.get_mut(server).and_then(|upstream| upstream.link.as_mut())
        {
            match link.stream.message() {
                Ok(Some(answer)) => self.hear_link(server, &answer, now),
                Ok(None) => break,
                Err(end) => {
                    result = Err(end);
                    break;
                }
            }
        }
        let Some(link) = self.upstreams.all.get_mut(server).and_then(|upstream| upstream.link.as_mut())
        else {
            return;
        };
        let result = result.and_then(|()| link.stream.flush());
        match result {
            Ok(()) => _ = self.poller.modify(&link.stream, link.token.0, link.stream.interest()),
            Err(end) => self.end_link(server, &end, now),
        }
    }

    fn hear_link(&mut self, server: usize, answer: &[u8], now: Micros) {
        let Some(upstream) = self.upstreams.all.get_mut(server) else { return };
        let (Some(link), Some(id)) = (upstream.link.as_mut(), dns::id(answer)) else { return };
        link.useful = true;
        let token = link.answered(id, now);
        if link.tls {
            upstream.was_open();
        }
        if let Some(token) = token {
            self.heard_by_link(token, server, id, answer, now);
        }
    }

    fn end_link(&mut self, server: usize, end: &End, now: Micros) {
        let Some(upstream) = self.upstreams.all.get_mut(server) else { return };
        let Some(link) = upstream.link.take() else { return };
        let again = link.useful || link.provisional && matches!(end, End::Closed);
        let mut next = if again { Next::Again } else { Next::Other };
        if !again && link.tls {
            if let Some(clock) = moment(end, link.provisional) {
                let waiting = link.into_waiting();
                if self.connect(server, Some(clock), now).is_some() {
                    next = Next::Again;
                }
                return self.lost(server, waiting, next, now);
            }
            let first = upstream.was_closed(now);
            if let Some(address) = upstream.plain_address(now) {
                next = Next::Datagram(address);
            } else if let Some(health) = self.upstreams.health.get_mut(server) {
                health.was_refused(now);
            }
            if first {
                log::warn(format_args!("{}: {}", self.name_of(server), explain(end)));
            }
        }
        self.lost(server, link.into_waiting(), next, now);
    }

    fn lost(&mut self, server: usize, waiting: Vec<(u16, Token)>, next: Next, now: Micros) {
        for (id, token) in waiting {
            self.lost_by_link(token, server, id, next, now);
        }
    }

    /// Closes connections whose time is over.
    pub(super) fn expire_links(&mut self, now: Micros) {
        for server in 0..self.upstreams.all.len() {
            let upstream = self.upstreams.all.get_mut(server);
            let Some(link) = upstream.and_then(|upstream| upstream.link.as_mut()) else { continue };
            if link.deadline() <= now {
                if !link.useful {
                    self.end_link(server, &End::Broken(0), now);
                } else if let Some(link) = self.upstreams.all.get_mut(server).and_then(|one| one.link.take())
                {
                    // Whoever waits is not asked to wait for another one.
                    self.lost(server, link.into_waiting(), Next::Other, now);
                }
            }
        }
    }

    pub(super) fn next_link(&self) -> Option<Micros> {
        self.upstreams
            .all
            .iter()
            .filter_map(|upstream| upstream.link.as_ref())
            .map(|link| link.deadline())
            .min()
    }
}

/// When the clock is all that is wrong with a certificate, and nothing has confirmed the clock yet: a moment at which the
/// certificate is valid. Time servers have names, and so a device would wait for the time for ever. Issuer and name are
/// checked all the same, and the session ends when the time is known.
fn moment(end: &End, provisional: bool) -> Option<Micros> {
    match end {
        End::Tls(error) if !provisional && !time::is_synchronized() => match &**error {
            Error::Certificate(distrusted) => {
                distrusted.clock_to_try(build().time, LATEST).map(Micros::from_secs)
            }
            _ => None,
        },
        _ => None,
    }
}

fn explain(end: &End) -> String {
    match end {
        End::Closed => "the server closes the connection".to_owned(),
        End::Broken(0) => "no answer in time".to_owned(),
        End::Broken(number) => std::io::Error::from_raw_os_error(*number).to_string(),
        End::Abuse => "the server sends no proper messages".to_owned(),
        End::Tls(error) => error.to_string(),
    }
}

/// Fills a query up with the option Padding (RFC 7830), if it ends with an OPT record without options, as ours do.
fn pad(query: &mut Vec<u8>) {
    let Some([0, 0, 41, .., 0, 0]) = query.last_chunk::<11>() else { return };
    // Code 12 and a length, of which two bytes were there: the record's own length.
    let length = query.len().saturating_add(4);
    let fill = length.next_multiple_of(BLOCK).saturating_sub(length);
    let (Ok(option), Ok(data)) = (u16::try_from(fill), u16::try_from(fill.saturating_add(4))) else { return };
    query.truncate(query.len().saturating_sub(2));
    query.extend_from_slice(&data.to_be_bytes());
    query.extend_from_slice(&12u16.to_be_bytes());
    query.extend_from_slice(&option.to_be_bytes());
    query.resize(query.len().saturating_add(fill), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_padded_to_blocks() {
        for length in 0..300 {
            let mut query = vec![1; 12 + length];
            pad(&mut query);
            assert_eq!(query.len(), 12 + length);
            query.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, 0x80, 0, 0, 0]);
            let before = query.len();
            pad(&mut query);
            assert_eq!(query.len() % BLOCK, 0);
            let rest = &query[before - 2..];
            assert_eq!(usize::from(u16::from_be_bytes([rest[0], rest[1]])), rest.len() - 2);
            assert_eq!(rest[2..4], [0, 12]);
            assert_eq!(usize::from(u16::from_be_bytes([rest[4], rest[5]])), rest.len() - 6);
        }
    }
}
