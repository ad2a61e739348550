//! A connection to a server: questions go out one after the other without waiting, and answers come in any order (RFC 7766
//! §6.2.1.1, RFC 7858 §3.3).

use crate::daemon::slots::Token;
use crate::daemon::stream::Stream;
use std::time::Duration;

/// A server that says nothing for so long while it is asked has gone without a word.
const MOST_SILENCE: Duration = Duration::from_secs(6);
/// A connection that nobody needs is closed; those with TLS cost more to make.
const IDLE: Duration = Duration::from_secs(5);
const IDLE_TLS: Duration = Duration::from_secs(30);
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
    made: Duration,
    sent: Duration,
    heard: Option<Duration>,
    /// How long making it may take.
    limit: Duration,
    tls: bool,
    /// Answers have come: the server is one.
    pub(crate) useful: bool,
    /// The certificate's dates were not checked against a clock that is known to be right.
    pub(crate) provisional: bool,
}

impl Link {
    /// A connection that is being made, within `limit`.
    pub(crate) fn new(stream: Stream, token: Token, tls: bool, limit: Duration, now: Duration) -> Self {
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
    pub(crate) fn was_asked(&mut self, id: u16, token: Token, now: Duration) {
        self.waiting.push((id, token));
        self.sent = now;
    }

    /// An answer with this id has come: whose it is.
    pub(crate) fn answered(&mut self, id: u16, now: Duration) -> Option<Token> {
        self.heard = Some(now);
        let place = self.waiting.iter().position(|(known, _)| *known == id)?;
        Some(self.waiting.swap_remove(place).1)
    }

    /// Something has come, be it the handshake.
    pub(crate) fn was_heard(&mut self, now: Duration) {
        self.heard = Some(now);
    }

    /// Whose questions are without an answer.
    pub(crate) fn into_waiting(self) -> Vec<(u16, Token)> {
        self.waiting
    }

    /// The time since boot when it is of no use any more.
    pub(crate) fn deadline(&self) -> Duration {
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
