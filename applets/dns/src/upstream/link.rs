//! A connection to a server: questions go out one after the other without waiting, and answers come in any order (RFC 7766
//! §6.2.1.1, RFC 7858 §3.3).

use crate::daemon::slots::Token;
use crate::daemon::stream::Stream;
use minke_wire::micros::Micros;

/// A server that says nothing for so long while it is asked has gone without a word.
const MOST_SILENCE: Micros = Micros::from_secs(6);
/// A connection that nobody needs is closed; those with TLS cost more to make.
const IDLE: Micros = Micros::from_secs(5);
const IDLE_TLS: Micros = Micros::from_secs(30);
/// The most questions that wait for answers at a time.
const MOST: usize = 128;

/// The connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) stream: Stream,
    pub(crate) token: Token,
    /// The ids of questions that wait for answers, and whose they are.
    waiting: Vec<(u16, Token)>,
    /// The time since boot when it was made, when a question was sent last, and when something came.
    made: Micros,
    sent: Micros,
    heard: Option<Micros>,
    /// How long making it may take.
    limit: Micros,
    /// It is secured.
    pub(crate) tls: bool,
    /// Answers have come: the server is one.
    pub(crate) useful: bool,
    /// The certificate's dates were not checked against a clock that is known to be right.
    pub(crate) provisional: bool,
}

impl Link {
    /// A connection that is being made, within `limit`.
    pub(crate) fn new(stream: Stream, token: Token, tls: bool, limit: Micros, now: Micros) -> Self {
        Self {
            stream,
            token,
            waiting: Vec::new(),
            made: now,
            sent: now,
            heard: None,
            limit,
            tls,
            useful: false,
            provisional: false,
        }
    }

    /// Whether another question may be sent, with an id that no other has; the next such id from `id` on.
    pub(crate) fn free_id(&self, mut id: u16) -> Option<u16> {
        if self.waiting.len() >= MOST {
            return None;
        }
        while self.waiting.iter().any(|(taken, _)| *taken == id) {
            id = id.wrapping_add(1);
        }
        Some(id)
    }

    /// A question was sent.
    pub(crate) fn was_asked(&mut self, id: u16, token: Token, now: Micros) {
        self.waiting.push((id, token));
        self.sent = now;
    }

    /// An answer with this id has come: whose it is.
    pub(crate) fn answered(&mut self, id: u16, now: Micros) -> Option<Token> {
        self.heard = Some(now);
        let place = self.waiting.iter().position(|(known, _)| *known == id)?;
        Some(self.waiting.swap_remove(place).1)
    }

    /// Something has come, be it the handshake.
    pub(crate) fn was_heard(&mut self, now: Micros) {
        self.heard = Some(now);
    }

    /// Whose questions are without an answer.
    pub(crate) fn into_waiting(self) -> Vec<(u16, Token)> {
        self.waiting
    }

    /// The time since boot when it is of no use any more.
    pub(crate) fn deadline(&self) -> Micros {
        if !self.stream.is_ready() || self.heard.is_none() && !self.useful {
            return self.made.saturating_add(self.limit);
        }
        let last = self.heard.unwrap_or(self.made).max(self.sent);
        let span = match (self.waiting.is_empty(), self.tls) {
            (false, _) => MOST_SILENCE,
            (true, false) => IDLE,
            (true, true) => IDLE_TLS,
        };
        last.saturating_add(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::slots::Owner;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn ids_are_one_questions_alone_and_time_is_up_when_nobody_speaks() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = Stream::new(socket, None, 512);
        let (second, token) = (Micros::from_secs(1), Token::new(Owner::Question, 7));
        let mut link = Link::new(stream, Token::new(Owner::Link, 0), false, second * 3, second);
        assert_eq!(link.deadline(), second * 4);
        for number in 0..MOST {
            let id = link.free_id(u16::MAX).unwrap();
            assert_eq!(id, u16::MAX.wrapping_add(number as u16));
            link.was_asked(id, token, second);
        }
        assert_eq!(link.free_id(9999), None);
        assert_eq!(link.answered(9999, second * 2), None);
        assert_eq!(link.answered(3, second * 2), Some(token));
        assert_eq!(link.answered(3, second * 2), None);
        assert_eq!(link.free_id(3), Some(3));
        // Something was heard, and others wait.
        assert_eq!(link.deadline(), second * 2 + MOST_SILENCE);
        for id in (0..=u16::MAX).filter(|id| *id != 3) {
            link.answered(id, second * 3);
        }
        assert_eq!(link.deadline(), second * 3 + IDLE);
        assert!(link.into_waiting().is_empty());
    }
}
