//! What servers say to questions: it is believed or not, and the question ends, goes another way, or on to another server.

use super::Daemon;
use super::connections::Next;
use super::questions::{Attempt, LONGEST, Sent};
use super::slots::Token;
use crate::core::{Refusal, Taken};
use crate::upstream::servers::Way;
use minke_applet::log;
use minke_wire::dns::{self, Rcode};
use minke_wire::micros::Micros;
use std::io::ErrorKind;

/// So many datagrams that do not answer what was asked, and the question goes by TCP: somebody guesses (RFC 5452 §9).
const MOST_STRAYS: u8 = 16;

impl Daemon {
    /// Something has come for an attempt.
    pub(super) fn heard(&mut self, token: Token, now: Micros) {
        let mut buffer = [0; LONGEST];
        loop {
            let attempt = self.questions.get_mut(token).and_then(|one| one.attempts.get_mut(token.part()));
            let Some(Attempt { way: Sent::Datagram(socket), server, .. }) = attempt else { return };
            let server = *server;
            match socket.recv(&mut buffer) {
                Ok(length) => self.judge(token, token.part(), buffer.get(..length).unwrap_or_default(), now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    // The server's host says that nobody listens there, or a router that there is no way.
                    self.end(token, token.part(), Sent::Over);
                    self.failed_at(token, server, false, now);
                    return self.advance(token, now);
                }
            }
        }
    }

    /// An answer has come by a connection.
    pub(super) fn heard_by_link(&mut self, token: Token, server: usize, id: u16, answer: &[u8], now: Micros) {
        let Some(question) = self.questions.get_mut(token) else { return };
        let asked = |attempt: &Attempt| {
            attempt.server == server
                && matches!(attempt.way, Sent::Connection)
                && dns::id(&attempt.sent) == Some(id)
        };
        if let Some(part) = question.attempts.iter().position(asked) {
            self.judge(token, part, answer, now);
        }
    }

    fn end(&mut self, token: Token, part: usize, end: Sent) {
        if let Some(attempt) = self.questions.get_mut(token).and_then(|one| one.attempts.get_mut(part)) {
            attempt.way = end;
        }
    }

    /// Believes an answer or not, and does what follows.
    fn judge(&mut self, token: Token, part: usize, answer: &[u8], now: Micros) {
        let Some(question) = self.questions.get_mut(token) else { return };
        let Some(attempt) = question.attempts.get_mut(part) else { return };
        let Some(upstream) = self.upstreams.all.get_mut(attempt.server) else { return };
        let Some(health) = self.upstreams.health.get_mut(attempt.server) else { return };
        let server = attempt.server;
        let (sent, by_link) = (attempt.prompt.then_some(attempt.at), matches!(attempt.way, Sent::Connection));
        let secure = upstream.is_secure();
        match self.resolver.answered(now, &question.key, &attempt.sent, answer, secure) {
            Ok(taken) => {
                health.has_answered(now, sent);
                attempt.way = Sent::Over;
                if taken == Taken::Rebinding {
                    log::warn(format_args!("possible DNS-rebind attack detected: {}", question.key.name()));
                }
                self.finish(token, now);
            }
            Err(refusal) if question.done => {
                // It is too late for anything but its time.
                if refusal != Refusal::Foreign {
                    attempt.way = Sent::Over;
                    health.has_spoken(now, sent);
                    self.tidy(token);
                }
            }
            Err(Refusal::Foreign) => {
                attempt.strays = attempt.strays.saturating_add(1);
                self.counts.strays = self.counts.strays.wrapping_add(1);
                if by_link {
                    // Nobody but the server can say such a thing here.
                    attempt.way = Sent::Over;
                    self.failed_at(token, server, true, now);
                    self.advance(token, now);
                } else if attempt.strays >= MOST_STRAYS {
                    self.change_way(token, part, Sent::Over, now);
                }
            }
            // By TCP nobody could have guessed: the server does so.
            Err(Refusal::Letters) if by_link => {
                upstream.letters = false;
                attempt.way = Sent::Over;
                self.send(token, server, now);
            }
            Err(Refusal::Truncated) if by_link => {
                attempt.way = Sent::Over;
                self.failed_at(token, server, true, now);
                self.advance(token, now);
            }
            Err(Refusal::Letters) => {
                // What its connection's silence says of it is told later.
                health.lives(now);
                let end = if dns::has_capitals(&attempt.sent) { Sent::Misspelt } else { Sent::Over };
                self.change_way(token, part, end, now);
            }
            Err(Refusal::Truncated) => {
                health.has_spoken(now, sent);
                self.change_way(token, part, Sent::Over, now);
            }
            Err(Refusal::NoEdns) => {
                // Several questions may have been on their way to it, or this one twice.
                upstream.edns = false;
                attempt.way = Sent::Over;
                health.has_answered(now, sent);
                self.send(token, server, now);
                self.advance(token, now);
            }
            Err(Refusal::Failed(code)) => {
                health.has_failed(now, sent);
                attempt.way = Sent::Over;
                question.code = code;
                if let Some(question) = self.questions.get_mut(token) {
                    let known = code != Rcode::REFUSED;
                    question.course.failed(server, known, self.upstreams.of(question.group), now);
                }
                self.advance(token, now);
            }
        }
    }

    /// The same question to the same server, by a connection; the attempt by datagram ends as `end`.
    fn change_way(&mut self, token: Token, part: usize, end: Sent, now: Micros) {
        let attempt = self.questions.get_mut(token).and_then(|one| one.attempts.get(part));
        let Some(server) = attempt.map(|attempt| attempt.server) else { return };
        self.end(token, part, end);
        self.counts.by_tcp = self.counts.by_tcp.wrapping_add(1);
        if self.questions.get_mut(token).is_some_and(|question| !question.done)
            && !self.send_by_link(token, server, now)
            && !self.send_small(token, server, now)
        {
            self.failed_at(token, server, true, now);
            self.advance(token, now);
        }
    }

    /// A connection has ended before the answer came.
    pub(super) fn lost_by_link(&mut self, token: Token, server: usize, id: u16, next: Next, now: Micros) {
        let Some(question) = self.questions.get_mut(token) else { return };
        let asked = |attempt: &&mut Attempt| {
            attempt.server == server
                && matches!(attempt.way, Sent::Connection)
                && dns::id(&attempt.sent) == Some(id)
        };
        let Some(attempt) = question.attempts.iter_mut().find(asked) else { return };
        attempt.way = Sent::Over;
        if question.done {
            return self.tidy(token);
        }
        let sent = match next {
            Next::Again => self.send_by_link(token, server, now),
            _ if self.send_small(token, server, now) => true,
            Next::Datagram(address) => self.send_datagram(token, server, address, now),
            Next::Other => false,
        };
        if !sent {
            self.failed_at(token, server, true, now);
            self.advance(token, now);
        }
    }

    /// By datagram without capitals, where the server has answered with other letters than were asked with and there is no
    /// connection to it: it writes all letters small, and from now on is asked so. `false`: that is not what is wrong.
    fn send_small(&mut self, token: Token, server: usize, now: Micros) -> bool {
        let misspelt =
            |attempt: &&mut Attempt| attempt.server == server && matches!(attempt.way, Sent::Misspelt);
        let question = self.questions.get_mut(token);
        let attempt = question.and_then(|question| question.attempts.iter_mut().find(misspelt));
        let Some(attempt) = attempt else { return false };
        attempt.way = Sent::Over;
        let Some(upstream) = self.upstreams.all.get_mut(server) else { return false };
        upstream.letters = false;
        match upstream.way(now) {
            Way::Datagram(address) => self.send_datagram(token, server, address, now),
            _ => false,
        }
    }
}
