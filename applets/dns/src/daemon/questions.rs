//! Questions that wait for servers: what is sent and heard of them, and who waits. Each question goes out once at a time,
//! however many clients ask it, and each time from another port with another id.

use super::slots::Token;
use super::{Daemon, MOST_OF_ONE, MOST_QUESTIONS, MOST_WAITING, Via, Waiter};
use crate::core::{Key, Route};
use crate::upstream::course::{Course, Step};
use crate::upstream::health::SILENCE;
use crate::upstream::servers::Way;
use minke_sys::batch::ask_udp;
use minke_sys::event::Interest;
use minke_sys::{Errno, random};
use minke_wire::dns::Rcode;
use minke_wire::micros::Micros;
use std::net::{IpAddr, UdpSocket};

/// The longest answer by UDP that is taken; we ask for shorter ones.
pub(super) const LONGEST: usize = 4096;
/// Sockets of all questions; a process may have 1024 descriptors.
const MOST_SOCKETS: usize = 640;
/// What says nothing of the server.
const SHORT: [Errno; 4] = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
/// Attempts of one question that are remembered.
const MOST_ATTEMPTS: usize = 40;

/// A question.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) key: Key,
    pub(super) group: usize,
    /// There is an old answer.
    stale: bool,
    pub(super) course: Course,
    waiters: Vec<Waiter>,
    pub(super) attempts: Vec<Attempt>,
    /// What the servers say that have no answer.
    pub(super) code: Rcode,
    /// It is answered, and only late answers are waited for, to know how quick their servers are.
    pub(super) done: bool,
    /// The servers, as bits, that were told that they are silent: each once for a question, however often it was sent.
    silent: u32,
}

/// The question was sent to a server.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) server: usize,
    /// The query, with its id.
    pub(super) sent: Vec<u8>,
    pub(super) at: Micros,
    pub(super) way: Sent,
    /// The server had to answer at once: the time that it took counts.
    pub(super) prompt: bool,
    /// It was told that it is silent.
    silent: bool,
    /// That it took longer than usually.
    late: bool,
    pub(super) strays: u8,
}

/// How.
#[derive(Debug)]
pub(super) enum Sent {
    Datagram(UdpSocket),
    Connection,
    /// It was answered or has failed.
    Over,
    /// It was answered with other letters: unless the server says better by a connection, it writes all letters small.
    Misspelt,
}

impl Attempt {
    fn is_open(&self) -> bool {
        !matches!(self.way, Sent::Over | Sent::Misspelt)
    }
}

impl Question {
    fn deadline(&self) -> Option<Micros> {
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
    pub(super) fn begin(&mut self, route: Route, waiter: Option<Waiter>, now: Micros) -> Option<Waiter> {
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
            silent: 0,
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
    pub(super) fn advance(&mut self, token: Token, now: Micros) {
        loop {
            let Some(question) = self.questions.get_mut(token).filter(|question| !question.done) else {
                return;
            };
            match question.course.step(now, self.upstreams.of(question.group)) {
                Step::Ask(server) => {
                    self.note_late(token, now);
                    self.send(token, server, now);
                }
                Step::Stale => self.tell_old(token, now),
                Step::Fail => {
                    let (key, code) = (question.key.clone(), question.code);
                    self.resolver.failed(now, &key, code);
                    self.finish(token, now);
                }
                Step::Wait => {
                    let moment = question.deadline();
                    return self.note_deadline(moment);
                }
            }
        }
    }

    fn note_deadline(&mut self, moment: Option<Micros>) {
        self.due = match (self.due, moment) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }

    pub(super) fn send(&mut self, token: Token, server: usize, now: Micros) {
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

    pub(super) fn send_datagram(
        &mut self,
        token: Token,
        server: usize,
        to: std::net::SocketAddr,
        now: Micros,
    ) -> bool {
        if self.has_too_many_sockets() {
            // It is asked when there is room again, or given up in time.
            return true;
        }
        let Some(sent) = self.query(token, server, true) else { return false };
        let socket = match ask_udp(to) {
            Ok(socket) => socket,
            Err(error) => return SHORT.contains(&error.errno),
        };
        let Some(question) = self.questions.get_mut(token) else { return true };
        if question.attempts.len() >= MOST_ATTEMPTS {
            return true;
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
            late: false,
            strays: 0,
        });
        self.was_asked(server, now);
        true
    }

    fn has_too_many_sockets(&self) -> bool {
        // Each has one mostly.
        if self.questions.len() < MOST_QUESTIONS / 2 {
            return false;
        }
        let open = |attempt: &&Attempt| matches!(attempt.way, Sent::Datagram(_));
        let mut count = 0usize;
        for (_, question) in self.questions.iter() {
            count = count.saturating_add(question.attempts.iter().filter(open).count());
        }
        count >= MOST_SOCKETS
    }

    /// Sends by a connection, which is made if there is none. `false`: there cannot be one.
    pub(super) fn send_by_link(&mut self, token: Token, server: usize, now: Micros) -> bool {
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
        question.attempts.push(Attempt {
            server,
            sent,
            at: now,
            way,
            prompt,
            silent: false,
            late: false,
            strays: 0,
        });
        self.was_asked(server, now);
        true
    }

    fn was_asked(&mut self, server: usize, now: Micros) {
        if let Some(health) = self.upstreams.health.get_mut(server) {
            health.was_asked(now);
        }
    }

    /// The server cannot be asked, or (`reached`) there is nothing to be had from it.
    pub(super) fn failed_at(&mut self, token: Token, server: usize, reached: bool, now: Micros) {
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

    /// Clients that have waited for long get what was known before.
    fn tell_old(&mut self, token: Token, now: Micros) {
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
    pub(super) fn finish(&mut self, token: Token, now: Micros) {
        let Some(question) = self.questions.get_mut(token) else { return };
        let waiters = std::mem::take(&mut question.waiters);
        self.waiting = self.waiting.saturating_sub(waiters.len());
        question.done = true;
        self.tidy(token);
        self.reply(waiters, now);
    }

    /// Forgets a question that is answered when no server's answer is waited for either.
    pub(super) fn tidy(&mut self, token: Token) {
        let waits = |attempt: &Attempt| attempt.is_open() && !attempt.silent;
        let over = |question: &mut Question| question.done && !question.attempts.iter().any(waits);
        if self.questions.get_mut(token).is_some_and(over) {
            self.questions.remove(token);
        }
    }

    /// Goes on with questions whose time has come.
    pub(super) fn expire_questions(&mut self, now: Micros) {
        if self.questions.len() == 0 {
            self.due = None;
        }
        if self.due.is_none_or(|due| due > now) {
            return;
        }
        let due = |question: &Question| question.deadline().is_some_and(|deadline| deadline <= now);
        // Each is looked at once: what is due again at once has its turn after the next events.
        for _ in 0..MOST_QUESTIONS {
            let Some(token) = self.questions.find(due) else { break };
            self.note_silence(token, now);
            self.advance(token, now);
        }
        self.due = self.questions.iter().filter_map(|(_, question)| question.deadline()).min();
    }

    fn note_late(&mut self, token: Token, now: Micros) {
        let Some(question) = self.questions.get_mut(token) else { return };
        for attempt in question.attempts.iter_mut().filter(|attempt| attempt.is_open() && !attempt.late) {
            let Some(health) = self.upstreams.health.get_mut(attempt.server) else { continue };
            if attempt.at.saturating_add(health.patience()) <= now {
                attempt.late = true;
                health.was_late();
            }
        }
    }

    fn note_silence(&mut self, token: Token, now: Micros) {
        let Some(question) = self.questions.get_mut(token) else { return };
        for attempt in &mut question.attempts {
            if attempt.is_open() && !attempt.silent && attempt.at.saturating_add(SILENCE) <= now {
                attempt.silent = true;
                let bit = crate::upstream::health::bit(attempt.server);
                let told = question.silent & bit != 0;
                if let Some(health) = self.upstreams.health.get_mut(attempt.server).filter(|_| !told) {
                    question.silent |= bit;
                    health.was_silent(now, attempt.at);
                }
            }
        }
        self.tidy(token);
    }

    /// Asks everything that is waited for once more, by the settings of now.
    pub(super) fn ask_again(&mut self, now: Micros) {
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
                    waiter.search = step.search();
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
