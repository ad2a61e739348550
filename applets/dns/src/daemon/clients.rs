//! Connections of clients (RFC 7766): many questions at a time, answers as they come. What they may take is bounded, and a
//! connection that does nothing gives way to others.

use super::slots::Token;
use super::stream::{End, Stream};
use super::{Daemon, MOST_CLIENTS, MOST_CLIENTS_OF_ONE, Via, Waiter};
use crate::core::{Asked, Step};
use minke_sys::event::{Interest, Ready};
use minke_wire::micros::Micros;
use std::net::SocketAddr;

/// How long a connection may be idle, or take for one message; the shorter one when many are open (RFC 7766 §6.2.3).
const IDLE: Micros = Micros::from_secs(10);
const IDLE_MANY: Micros = Micros::from_secs(2);
/// The most questions of one connection that wait for answers, and bytes of answers that wait for a slow reader: no more is
/// read before that is less.
const MOST_WAITING: usize = 32;
const MOST_QUEUED: usize = 64 << 10;
/// The longest query.
const LONGEST: usize = 4096;

/// A client's connection.
#[derive(Debug)]
pub(super) struct Client {
    stream: Stream,
    from: SocketAddr,
    /// Questions that wait for their answers.
    waiting: usize,
    /// The time since boot when it last did what it is for: asked, or took an answer.
    since: Micros,
    /// It asks no more.
    ended: bool,
}

impl Client {
    fn is_busy(&self) -> bool {
        self.waiting >= MOST_WAITING || self.stream.queued() > MOST_QUEUED
    }

    /// When it is closed; `None`: not while its questions are with servers, which give up in time.
    fn deadline(&self, idle: Micros) -> Option<Micros> {
        let waits_for_us = self.waiting > 0 && self.stream.queued() == 0 && !self.stream.has_begun();
        (!waits_for_us).then(|| self.since.saturating_add(idle))
    }
}

impl Daemon {
    pub(super) fn accept(&mut self, place: usize, now: Micros) {
        // The kernel's queue has no more.
        for _ in 0..MOST_CLIENTS {
            let Some(listener) = self.listener(place) else { return };
            let Ok((socket, from)) = listener.tcp.accept() else { return };
            if minke_sys::channel::set_nonblocking(&socket, true).is_err()
                || !self.may_ask(place, from.ip(), now)
                || !self.make_room(from)
            {
                continue;
            }
            let Some(token) = self.clients.next() else { continue };
            let stream = Stream::new(socket, None, LONGEST);
            if self.poller.add(&stream, token.0, Interest::Read).is_ok() {
                self.counts.connections = self.counts.connections.wrapping_add(1);
                self.clients
                    .put(token, Box::new(Client { stream, from, waiting: 0, since: now, ended: false }));
            }
        }
    }

    /// Whether there is room for another connection of this client; the one that was idle the longest gives way, of the
    /// same client if it has too many.
    fn make_room(&mut self, from: SocketAddr) -> bool {
        let (mut own, mut own_oldest, mut oldest) = (0usize, None, None);
        for (token, client) in self.clients.iter() {
            let older = |other: Option<(Micros, Token)>| other.is_none_or(|(since, _)| client.since < since);
            if client.waiting == 0 && older(oldest) {
                oldest = Some((client.since, token));
            }
            if client.from.ip() == from.ip() {
                own = own.saturating_add(1);
                if client.waiting == 0 && older(own_oldest) {
                    own_oldest = Some((client.since, token));
                }
            }
        }
        let goes = match own {
            MOST_CLIENTS_OF_ONE.. => own_oldest,
            _ if self.clients.is_full() => oldest,
            _ => return true,
        };
        goes.is_some_and(|(_, token)| self.clients.remove(token).is_some())
    }

    pub(super) fn client_event(&mut self, token: Token, event: Ready, now: Micros) {
        let Some(client) = self.clients.get_mut(token) else { return };
        if event.readable && !client.is_busy() && !client.ended {
            match client.stream.read() {
                Ok(()) => {}
                // It may still read its answers.
                Err(End::Closed) if !event.hangup => client.ended = true,
                Err(_) => return drop(self.clients.remove(token)),
            }
        } else if event.hangup {
            return drop(self.clients.remove(token));
        }
        self.serve_client(token, now);
        self.touched.push(token);
    }

    /// Takes the questions that have come, as many as the client may have.
    fn serve_client(&mut self, token: Token, now: Micros) {
        while let Some(client) = self.clients.get_mut(token).filter(|client| !client.is_busy()) {
            let query = match client.stream.message() {
                Ok(Some(query)) => query,
                Ok(None) => return,
                Err(_) => return drop(self.clients.remove(token)),
            };
            client.waiting = client.waiting.saturating_add(1);
            client.since = now;
            let from = client.from;
            self.scratch.clear();
            let asked = Asked { from: from.ip(), query: &query, udp: false, search: 0 };
            match self.resolver.ask(now, &asked, &mut self.scratch) {
                Step::Answered => self.answer_client(token, now),
                Step::Refresh(route) => {
                    self.answer_client(token, now);
                    self.begin(route, None, now);
                }
                // Nobody who means it sends such a thing.
                Step::Drop => return drop(self.clients.remove(token)),
                step => {
                    let search = step.search();
                    self.wait(step, Waiter { via: Via::Connection(token), from, query, search }, now);
                }
            }
        }
    }

    /// Queues what is in `scratch`.
    pub(super) fn answer_client(&mut self, token: Token, now: Micros) {
        let Some(client) = self.clients.get_mut(token) else { return };
        client.waiting = client.waiting.saturating_sub(1);
        client.since = now;
        if client.stream.send(&self.scratch).is_ok() && self.touched.last() != Some(&token) {
            self.touched.push(token);
        }
    }

    /// A question has no answer.
    pub(super) fn forget_query(&mut self, token: Token) {
        if let Some(client) = self.clients.get_mut(token) {
            client.waiting = client.waiting.saturating_sub(1);
            self.touched.push(token);
        }
    }

    /// Writes what was queued, goes on with clients that were busy, and closes those whose time is over.
    pub(super) fn settle_clients(&mut self, now: Micros) {
        // Going on may touch them again: each round has one more answer for each, and in the end there are no questions.
        for _ in 0..MOST_WAITING {
            let touched = std::mem::take(&mut self.touched);
            for token in &touched {
                self.settle_client(*token, now);
            }
            if self.touched.is_empty() {
                self.touched = touched;
                self.touched.clear();
                break;
            }
        }
        let idle = self.idle();
        let over = |client: &Client| client.deadline(idle).is_some_and(|deadline| deadline <= now);
        while let Some(token) = self.clients.find(over) {
            self.clients.remove(token);
        }
    }

    fn settle_client(&mut self, token: Token, now: Micros) {
        self.serve_client(token, now);
        let Some(client) = self.clients.get_mut(token) else { return };
        let flushed = client.stream.flush();
        let queued = client.stream.queued();
        if flushed.is_err() || client.ended && queued == 0 && client.waiting == 0 {
            return drop(self.clients.remove(token));
        }
        let reads = !client.ended && !client.is_busy();
        let interest = match (reads, queued > 0) {
            (true, true) => Interest::Both,
            (true, false) => Interest::Read,
            (false, true) => Interest::Write,
            (false, false) => Interest::None,
        };
        let _ = self.poller.modify(&client.stream, token.0, interest);
    }

    fn idle(&self) -> Micros {
        if self.clients.len() > MOST_CLIENTS / 2 { IDLE_MANY } else { IDLE }
    }

    pub(super) fn next_client(&self) -> Option<Micros> {
        let idle = self.idle();
        self.clients.iter().filter_map(|(_, client)| client.deadline(idle)).min()
    }
}
