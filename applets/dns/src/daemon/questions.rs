//! Questions that wait for servers: what is sent and heard of them, and who waits. Each question goes out once at a time,
//! however many clients ask it, and each time from another port with another id.

use super::slots::Token;
use super::{Daemon, MOST_OF_ONE, MOST_QUESTIONS, MOST_WAITING, Via, Waiter};
use crate::core::{Key, Refusal, Route, Taken};
use crate::upstream::course::{Course, Step};
use crate::upstream::health::SILENCE;
use crate::upstream::servers::Way;
use minke_applet::log;
use minke_sys::batch::ask_udp;
use minke_sys::event::Interest;
use minke_sys::random;
use minke_wire::dns::Rcode;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

/// The longest answer by UDP that is taken; we ask for shorter ones.
const LONGEST: usize = 4096;
/// So many datagrams that do not answer what was asked, and the question goes by TCP: somebody guesses (RFC 5452 §9).
const MOST_STRAYS: u8 = 16;
/// Attempts of one question that are remembered.
const MOST_ATTEMPTS: usize = 40;

/// A question.
#[derive(Debug)]
pub(super) struct Question {
    key: Key,
    group: usize,
    /// There is an old answer.
    stale: bool,
    course: Course,
    waiters: Vec<Waiter>,
    attempts: Vec<Attempt>,
    /// What the servers say that have no answer.
    code: Rcode,
    /// It is answered, and only late answers are waited for, to know how quick their servers are.
    done: bool,
}

#[derive(Debug)]
struct Attempt {
    server: usize,
    /// The query, with its id.
    sent: Vec<u8>,
    at: Duration,
    way: Sent,
    /// The server had to answer at once: the time that it took counts.
    prompt: bool,
    /// It was told that it is silent.
    silent: bool,
    strays: u8,
}

#[derive(Debug)]
enum Sent {
    Datagram(UdpSocket),
    Connection,
    /// It was answered or has failed.
    Over,
}

impl Attempt {
    fn is_open(&self) -> bool {
        !matches!(self.way, Sent::Over)
    }
}

impl Question {
    fn deadline(&self) -> Option<Duration> {
        let mut least = (!self.done).then(|| self.course.deadline());
        for attempt in self.attempts.iter().filter(|attempt| attempt.is_open() && !attempt.silent) {
            let moment = attempt.at.saturating_add(SILENCE);
            least = Some(least.map_or(moment, |least| least.min(moment)));
        }
        least
    }
}

impl Daemon {
    /// Asks servers, for a client or for the cache alone. A client that cannot be looked after comes back.
    pub(super) fn begin(&mut self, route: Route, waiter: Option<Waiter>, now: Duration) -> Option<Waiter> {
        if let Some(token) = self.asked_already(&route.key) {
            return waiter.and_then(|waiter| self.join(token, waiter));
        }
        if self.questions.is_full() {
            self.drop_done();
        }
        let count = self.questions.len();
        let too_many = match &waiter {
            // Half of the places are enough for what nobody waits for.
            None => count > MOST_QUESTIONS / 2,
            Some(waiter) => count > MOST_OF_ONE && self.caused_by(waiter.from.ip()) > MOST_OF_ONE,
        };
        if too_many {
            return waiter;
        }
        let Some(token) = self.questions.next() else { return waiter };
        self.waiting = self.waiting.saturating_add(usize::from(waiter.is_some()));
        let question = Box::new(Question {
            key: route.key,
            group: route.group,
            stale: route.stale,
            course: Course::new(now),
            waiters: waiter.into_iter().collect(),
            attempts: Vec::new(),
            code: Rcode::SERVFAIL,
            done: false,
        });
        self.questions.put(token, question);
        self.advance(token, now);
        None
    }

    fn asked_already(&self, key: &Key) -> Option<Token> {
        self.questions.find(|question| !question.done && question.key == *key)
    }

    fn join(&mut self, token: Token, waiter: Waiter) -> Option<Waiter> {
        let waiters = &mut self.questions.get_mut(token)?.waiters;
        let datagram = matches!(waiter.via, Via::Datagram(..));
        let again = |known: &Waiter| known.from == waiter.from && known.query == waiter.query;
        if datagram && waiters.iter().any(again) {
            // It has lost patience, and one answer is enough.
            return None;
        }
        if self.waiting >= MOST_WAITING {
            return Some(waiter);
        }
        self.waiting = self.waiting.saturating_add(1);
        waiters.push(waiter);
        None
    }

    fn caused_by(&self, address: IpAddr) -> usize {
        let caused =
            |question: &Question| question.waiters.first().is_some_and(|waiter| waiter.from.ip() == address);
        self.questions.iter().filter(|(_, question)| caused(question)).count()
    }

    /// Gives up one that only waits for late answers.
    fn drop_done(&mut self) {
        if let Some(token) = self.questions.find(|question| question.done) {
            self.questions.remove(token);
        }
    }

    /// Does what the question's course says.
    fn advance(&mut self, token: Token, now: Duration) {
        loop {
            let Some(question) = self.questions.get_mut(token).filter(|question| !question.done) else {
                return;
            };
            match question.course.step(now, self.upstreams.of(question.group)) {
                Step::Ask(server) => self.send(token, server, now),
                Step::Stale => self.tell_old(token, now),
                Step::Fail => {
                    let (key, code) = (question.key.clone(), question.code);
                    self.resolver.failed(now, &key, code);
                    self.finish(token, now);
                }
                Step::Wait => return,
            }
        }
    }

    fn send(&mut self, token: Token, server: usize, now: Duration) {
        let Some(upstream) = self.upstreams.all.get(server) else { return };
        let sent = match upstream.way(now) {
            Way::Datagram(address) => self.send_datagram(token, server, address, now),
            Way::Connection => self.send_by_link(token, server, now),
            Way::None => false,
        };
        if !sent {
            self.failed_at(token, server, false, now);
        }
    }

    /// The query as it goes to a server, with a random id and random letters.
    fn query(&mut self, token: Token, server: usize, edns: bool) -> Option<Vec<u8>> {
        let upstream = self.upstreams.all.get(server)?;
        let question = self.questions.get_mut(token)?;
        let mut numbers = [0; 10];
        random::fill(&mut numbers).ok()?;
        let [a, b, letters @ ..] = numbers;
        let letters = if upstream.letters { u64::from_ne_bytes(letters) } else { 0 };
        let mut sent = Vec::with_capacity(128);
        question.key.query(u16::from_ne_bytes([a, b]), letters, edns && upstream.edns, &mut sent);
        Some(sent)
    }

    fn send_datagram(
        &mut self,
        token: Token,
        server: usize,
        to: std::net::SocketAddr,
        now: Duration,
    ) -> bool {
        let (Some(sent), Ok(socket)) = (self.query(token, server, true), ask_udp(to)) else { return false };
        let Some(question) = self.questions.get_mut(token) else { return true };
        if question.attempts.len() >= MOST_ATTEMPTS {
            return false;
        }
        let part = question.attempts.len();
        let watched = self.poller.add(&socket, token.with_part(part).0, Interest::Read);
        if watched.is_err() || socket.send(&sent).is_err() {
            return false;
        }
        let way = Sent::Datagram(socket);
        question.attempts.push(Attempt {
            server,
            sent,
            at: now,
            way,
            prompt: true,
            silent: false,
            strays: 0,
        });
        self.was_asked(server, now);
        true
    }

    /// Sends by a connection, which is made if there is none. `false`: there cannot be one.
    fn send_by_link(&mut self, token: Token, server: usize, now: Duration) -> bool {
        let Some(question) = self.questions.get_mut(token) else { return true };
        let already = |attempt: &Attempt| attempt.server == server && matches!(attempt.way, Sent::Connection);
        if question.attempts.iter().any(already) {
            // It is on its way, and nothing gets lost there.
            return true;
        }
        if question.attempts.len() >= MOST_ATTEMPTS {
            return false;
        }
        let Some(sent) = self.query(token, server, true) else { return false };
        let Some((sent, prompt)) = self.ask_link(server, sent, token, now) else { return false };
        let Some(question) = self.questions.get_mut(token) else { return true };
        let way = Sent::Connection;
        question.attempts.push(Attempt { server, sent, at: now, way, prompt, silent: false, strays: 0 });
        self.was_asked(server, now);
        true
    }

    fn was_asked(&mut self, server: usize, now: Duration) {
        if let Some(health) = self.upstreams.health.get_mut(server) {
            health.was_asked(now);
        }
    }

    /// The server cannot be asked, or (`reached`) there is nothing to be had from it.
    fn failed_at(&mut self, token: Token, server: usize, reached: bool, now: Duration) {
        if let Some(health) = self.upstreams.health.get_mut(server) {
            if reached {
                health.has_failed(now, None);
            } else {
                health.was_refused(now);
            }
        }
        if let Some(question) = self.questions.get_mut(token) {
            question.course.failed(server, false, self.upstreams.of(question.group), now);
        }
    }

    /// Something has come for an attempt.
    pub(super) fn heard(&mut self, token: Token, now: Duration) {
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
                    self.end(token, token.part());
                    self.failed_at(token, server, false, now);
                    return self.advance(token, now);
                }
            }
        }
    }

    /// An answer has come by a connection.
    pub(super) fn heard_by_link(
        &mut self,
        token: Token,
        server: usize,
        id: u16,
        answer: &[u8],
        now: Duration,
    ) {
        let Some(question) = self.questions.get_mut(token) else { return };
        let asked = |attempt: &Attempt| {
            attempt.server == server
                && matches!(attempt.way, Sent::Connection)
                && minke_wire::dns::id(&attempt.sent) == Some(id)
        };
        if let Some(part) = question.attempts.iter().position(asked) {
            self.judge(token, part, answer, now);
        }
    }

    fn end(&mut self, token: Token, part: usize) {
        if let Some(attempt) = self.questions.get_mut(token).and_then(|one| one.attempts.get_mut(part)) {
            attempt.way = Sent::Over;
        }
    }

    /// Believes an answer or not, and does what follows.
    fn judge(&mut self, token: Token, part: usize, answer: &[u8], now: Duration) {
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
            Err(Refusal::Foreign) => {
                attempt.strays = attempt.strays.saturating_add(1);
                self.counts.strays = self.counts.strays.wrapping_add(1);
                if by_link {
                    // Nobody but the server can say such a thing here.
                    attempt.way = Sent::Over;
                    self.failed_at(token, server, true, now);
                    self.advance(token, now);
                } else if attempt.strays >= MOST_STRAYS {
                    self.change_way(token, part, now);
                }
            }
            // By TCP nobody could have guessed: the server does so.
            Err(Refusal::Letters) if by_link => {
                upstream.letters = false;
                attempt.way = Sent::Over;
                self.send(token, server, now);
            }
            Err(Refusal::Letters | Refusal::Truncated) if by_link => {
                attempt.way = Sent::Over;
                self.failed_at(token, server, true, now);
                self.advance(token, now);
            }
            Err(Refusal::Letters) => self.change_way(token, part, now),
            Err(Refusal::Truncated) => {
                health.has_spoken(now, sent);
                self.change_way(token, part, now);
            }
            Err(Refusal::NoEdns) => {
                let again = upstream.edns;
                upstream.edns = false;
                attempt.way = Sent::Over;
                health.has_answered(now, sent);
                if again {
                    self.send(token, server, now);
                } else {
                    self.failed_at(token, server, true, now);
                }
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

    /// The same question to the same server, by a connection.
    fn change_way(&mut self, token: Token, part: usize, now: Duration) {
        let attempt = self.questions.get_mut(token).and_then(|one| one.attempts.get(part));
        let Some(server) = attempt.map(|attempt| attempt.server) else { return };
        self.end(token, part);
        self.counts.by_tcp = self.counts.by_tcp.wrapping_add(1);
        if self.questions.get_mut(token).is_some_and(|question| !question.done)
            && !self.send_by_link(token, server, now)
        {
            self.failed_at(token, server, true, now);
            self.advance(token, now);
        }
    }

    /// A connection has ended before the answer came. `again`: it had been of use, and another one may be.
    pub(super) fn lost_by_link(&mut self, token: Token, server: usize, id: u16, again: bool, now: Duration) {
        let Some(question) = self.questions.get_mut(token) else { return };
        let asked = |attempt: &&mut Attempt| {
            attempt.server == server
                && matches!(attempt.way, Sent::Connection)
                && minke_wire::dns::id(&attempt.sent) == Some(id)
        };
        let Some(attempt) = question.attempts.iter_mut().find(asked) else { return };
        attempt.way = Sent::Over;
        if question.done {
            return;
        }
        let sent = if again {
            self.send_by_link(token, server, now)
        } else {
            // Opportunistic TLS has the plain way.
            let way = self.upstreams.all.get(server).map_or(Way::None, |upstream| upstream.way(now));
            let plain =
                self.upstreams.all.get(server).is_some_and(|upstream| {
                    upstream.server.transport == crate::config::Transport::Opportunistic
                });
            match way {
                Way::Datagram(address) if plain => self.send_datagram(token, server, address, now),
                _ => false,
            }
        };
        if !sent {
            self.failed_at(token, server, true, now);
            self.advance(token, now);
        }
    }

    /// Clients that have waited for long get what was known before.
    fn tell_old(&mut self, token: Token, now: Duration) {
        let Some(question) = self.questions.get_mut(token).filter(|question| question.stale) else { return };
        let waiters = std::mem::take(&mut question.waiters);
        let mut rest = Vec::new();
        for waiter in waiters {
            self.scratch.clear();
            if self.resolver.stale(now, &waiter.asked(), &mut self.scratch) {
                self.waiting = self.waiting.saturating_sub(1);
                self.deliver(&waiter, now);
            } else {
                rest.push(waiter);
            }
        }
        if let Some(question) = self.questions.get_mut(token) {
            question.waiters = rest;
        }
    }

    /// The resolver knows what there is to know: clients are answered.
    fn finish(&mut self, token: Token, now: Duration) {
        let Some(question) = self.questions.get_mut(token) else { return };
        let waiters = std::mem::take(&mut question.waiters);
        self.waiting = self.waiting.saturating_sub(waiters.len());
        question.done = true;
        if !question.attempts.iter().any(|attempt| attempt.is_open() && !attempt.silent) {
            self.questions.remove(token);
        }
        self.reply(waiters, now);
    }

    /// Goes on with questions whose time has come.
    pub(super) fn expire_questions(&mut self, now: Duration) {
        let due = |question: &Question| question.deadline().is_some_and(|deadline| deadline <= now);
        // Each is looked at once: what is due again at once has its turn after the next events.
        for _ in 0..MOST_QUESTIONS {
            let Some(token) = self.questions.find(due) else { return };
            self.note_silence(token, now);
            self.advance(token, now);
        }
    }

    fn note_silence(&mut self, token: Token, now: Duration) {
        let Some(question) = self.questions.get_mut(token) else { return };
        let mut told = 0u32;
        for attempt in &mut question.attempts {
            if attempt.is_open() && !attempt.silent && attempt.at.saturating_add(SILENCE) <= now {
                attempt.silent = true;
                let bit = crate::upstream::health::bit(attempt.server);
                // Once for each question, however often it was sent.
                if let Some(health) =
                    self.upstreams.health.get_mut(attempt.server).filter(|_| told & bit == 0)
                {
                    told |= bit;
                    health.was_silent(now, attempt.at);
                }
            }
        }
        let open = |attempt: &Attempt| attempt.is_open() && !attempt.silent;
        if question.done && !question.attempts.iter().any(open) {
            self.questions.remove(token);
        }
    }

    pub(super) fn next_question(&self) -> Option<Duration> {
        self.questions.iter().filter_map(|(_, question)| question.deadline()).min()
    }

    /// Asks everything that is waited for once more, by the settings of now.
    pub(super) fn ask_again(&mut self, now: Duration) {
        let mut waiters = Vec::new();
        while let Some(token) = self.questions.find(|_| true) {
            if let Some(question) = self.questions.remove(token) {
                waiters.extend(question.waiters);
            }
        }
        self.waiting = 0;
        for mut waiter in waiters {
            waiter.search = 0;
            self.scratch.clear();
            match self.resolver.ask(now, &waiter.asked(), &mut self.scratch) {
                crate::core::Step::Answered | crate::core::Step::Refresh(_) => self.deliver(&waiter, now),
                crate::core::Step::Drop => self.forget(&waiter),
                step => {
                    if let crate::core::Step::Forward(route) = &step {
                        waiter.search = route.search;
                    }
                    self.wait(step, waiter, now);
                }
            }
        }
    }

    /// A server by its place, for the log.
    pub(super) fn name_of(&self, server: usize) -> String {
        self.upstreams.all.get(server).map(|upstream| upstream.server.to_string()).unwrap_or_default()
    }
}
