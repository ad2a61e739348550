//! The service loop: UDP here, TCP connections in threads of their own.

use crate::pending::Attempt;
use crate::{Error, tcp};
use minke_applet::{log, notify};
use minke_sys::event::{Interest, Poller, Ready};
use minke_sys::{Context, clock, random};
use minke_wire::dns;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

/// Most queries that wait for an answer; a further one is dropped, and its client asks again.
const MOST_PENDING: usize = 128;
/// Longest UDP message (RFC 6891 recommends at most 4096).
const LONGEST: usize = 4096;
/// Tokens from here on are pending queries; below are the listeners.
const FIRST_PENDING: u64 = 1 << 32;

struct Pending {
    token: u64,
    socket: UdpSocket,
    listener: usize,
    client: SocketAddr,
    /// As the client sent it.
    query: Vec<u8>,
    /// As it was sent on: with an id of ours.
    sent: Vec<u8>,
    attempt: Attempt,
}

struct Forwarder {
    poller: Poller,
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    connections: tcp::Connections,
    upstreams: Arc<[SocketAddr]>,
    pending: Vec<Pending>,
    next_token: u64,
    preferred: usize,
}

/// Serves until the process is ended.
pub(crate) fn serve(listen: &[SocketAddr], upstreams: Vec<SocketAddr>) -> Result<(), Error> {
    let mut forwarder = Forwarder::new(listen, upstreams)?;
    notify::ready();
    let mut ready = Vec::new();
    loop {
        forwarder.poller.wait(&mut ready, forwarder.patience(clock::boottime()))?;
        for event in &ready {
            forwarder.handle(event);
        }
        forwarder.expire(clock::boottime());
    }
}

impl Forwarder {
    fn new(listen: &[SocketAddr], upstreams: Vec<SocketAddr>) -> Result<Self, Error> {
        let poller = Poller::new()?;
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for (index, address) in (0u64..).zip(listen) {
            let socket = UdpSocket::bind(address).context("listen on UDP", address)?;
            minke_sys::channel::set_nonblocking(&socket, true)?;
            let listener = TcpListener::bind(address).context("listen on TCP", address)?;
            minke_sys::channel::set_nonblocking(&listener, true)?;
            poller.add(&socket, index << 1, Interest::Read)?;
            poller.add(&listener, index << 1 | 1, Interest::Read)?;
            udp.push(socket);
            tcp.push(listener);
        }
        Ok(Self {
            poller,
            udp,
            tcp,
            connections: tcp::Connections::default(),
            upstreams: upstreams.into(),
            pending: Vec::new(),
            next_token: FIRST_PENDING,
            preferred: 0,
        })
    }

    fn handle(&mut self, event: &Ready) {
        if event.token >= FIRST_PENDING {
            return self.answer(event.token);
        }
        let index = usize::try_from(event.token >> 1).unwrap_or(usize::MAX);
        if event.token & 1 == 0 {
            self.accept_queries(index);
        } else if let Some(listener) = self.tcp.get(index) {
            while let Ok((stream, _)) = listener.accept() {
                self.connections.serve(stream, &self.upstreams);
            }
        }
    }

    fn accept_queries(&mut self, listener: usize) {
        let mut buffer = vec![0; LONGEST];
        while let Some(Ok((length, client))) = self.udp.get(listener).map(|udp| udp.recv_from(&mut buffer)) {
            let query = buffer.get(..length).unwrap_or_default();
            if self.pending.len() >= MOST_PENDING || !dns::is_query(query) {
                continue;
            }
            let attempt = Attempt::first(clock::boottime(), self.preferred);
            match self.send(query, attempt) {
                Ok((token, socket, sent)) => {
                    let query = query.to_vec();
                    self.pending.push(Pending { token, socket, listener, client, query, sent, attempt });
                }
                Err(error) => log::warn(format_args!("{error}")),
            }
        }
    }

    /// Sends a query from a socket of its own, so that its source port is the kernel's random choice.
    fn send(
        &mut self,
        query: &[u8],
        attempt: Attempt,
    ) -> Result<(u64, UdpSocket, Vec<u8>), minke_sys::Error> {
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        let upstream = self.upstreams.get(attempt.upstream).copied().unwrap_or(any);
        let source = if upstream.is_ipv4() { any } else { SocketAddr::from(([0u16; 8], 0)) };
        let socket = UdpSocket::bind(source).context("bind", source)?;
        socket.connect(upstream).context("ask", upstream)?;
        minke_sys::channel::set_nonblocking(&socket, true)?;
        let mut id = [0; 2];
        random::fill(&mut id)?;
        let mut sent = query.to_vec();
        dns::set_id(&mut sent, u16::from_ne_bytes(id));
        // A failed send shows as silence, and the next server is asked.
        let _ = socket.send(&sent);
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1).max(FIRST_PENDING);
        self.poller.add(&socket, token, Interest::Read)?;
        Ok((token, socket, sent))
    }

    fn answer(&mut self, token: u64) {
        let Some(place) = self.pending.iter().position(|pending| pending.token == token) else { return };
        let mut buffer = vec![0; LONGEST];
        let Some(pending) = self.pending.get(place) else { return };
        match pending.socket.recv(&mut buffer) {
            Ok(length) => {
                let response = buffer.get_mut(..length).unwrap_or_default();
                if !dns::answers(&pending.sent, response) {
                    // Somebody guesses; the true answer may still come.
                    return;
                }
                dns::set_id(response, dns::id(&pending.query).unwrap_or(0));
                self.preferred = pending.attempt.upstream;
                if let Some(udp) = self.udp.get(pending.listener) {
                    let _ = udp.send_to(response, pending.client);
                }
                self.pending.swap_remove(place);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // The server's host says that nobody listens there.
            Err(_) => self.retry(place, clock::boottime()),
        }
    }

    fn expire(&mut self, now: Duration) {
        while let Some(place) = self.pending.iter().position(|pending| pending.attempt.deadline <= now) {
            self.retry(place, now);
        }
    }

    fn retry(&mut self, place: usize, now: Duration) {
        let pending = self.pending.swap_remove(place);
        let next = pending.attempt.next(now, self.upstreams.len());
        let sent =
            next.and_then(|attempt| self.send(&pending.query, attempt).ok().map(|sent| (attempt, sent)));
        match sent {
            Some((attempt, (token, socket, sent))) => {
                self.pending.push(Pending { token, socket, sent, attempt, ..pending });
            }
            None => {
                let failure = dns::server_failure(&pending.query).unwrap_or_default();
                if let Some(udp) = self.udp.get(pending.listener) {
                    let _ = udp.send_to(&failure, pending.client);
                }
            }
        }
    }

    /// How long the loop may sleep.
    fn patience(&self, now: Duration) -> Option<Duration> {
        self.pending.iter().map(|pending| pending.attempt.deadline.saturating_sub(now)).min()
    }
}
