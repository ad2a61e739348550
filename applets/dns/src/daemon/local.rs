//! Names of the link: `mdns` is asked, by a connection for each question, which the loop does not wait for.

use super::slots::Token;
use super::{Daemon, Waiter};
use crate::core::{Found, Key};
use minke_control::mdns::{Question, Request, SOCKET, records};
use minke_sys::channel::set_nonblocking;
use minke_sys::event::Interest;
use minke_sys::socket::connect_now;
use minke_wire::dns::{Kind, Name};
use minke_wire::json;
use minke_wire::micros::Micros;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// It answers within a second; when it does not, the name does not exist.
const LIMIT: Micros = Micros::from_secs(3);
/// The most clients that wait for the same name.
const MOST_WAITING: usize = 32;
/// The longest answer.
const LONGEST: usize = 64 << 10;

/// A question to `mdns`.
#[derive(Debug)]
pub(super) struct Local {
    key: Key,
    stream: UnixStream,
    input: Vec<u8>,
    waiters: Vec<Waiter>,
    until: Micros,
}

impl Daemon {
    /// Asks `mdns`; without one there is no such name. A client that cannot be looked after comes back.
    pub(super) fn ask_local(&mut self, key: Key, waiter: Waiter, now: Micros) -> Option<Waiter> {
        let known = self.local.find(|local| local.key == key);
        if let Some(local) = known.and_then(|token| self.local.get_mut(token)) {
            if local.waiters.len() >= MOST_WAITING {
                return Some(waiter);
            }
            local.waiters.push(waiter);
            return None;
        }
        let Some(token) = self.local.next() else { return Some(waiter) };
        let question = Question { name: key.name().to_string(), kind: key.kind().0 };
        let stream = open(&Request::Resolve(question));
        let watched = stream.filter(|stream| self.poller.add(stream, token.0, Interest::Read).is_ok());
        let Some(stream) = watched else {
            self.resolver.found(now, &key, None);
            self.reply(vec![waiter], now);
            return None;
        };
        let until = now.saturating_add(LIMIT);
        self.local
            .put(token, Box::new(Local { key, stream, input: Vec::new(), waiters: vec![waiter], until }));
        None
    }

    pub(super) fn local_event(&mut self, token: Token, now: Micros) {
        let mut buffer = [0; 2048];
        while let Some(local) = self.local.get_mut(token) {
            match local.stream.read(&mut buffer) {
                Ok(0) => return self.end_local(token, now),
                Ok(count) => {
                    local.input.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    if local.input.ends_with(b"\n") || local.input.len() > LONGEST {
                        return self.end_local(token, now);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.end_local(token, now),
            }
        }
    }

    fn end_local(&mut self, token: Token, now: Micros) {
        let Some(local) = self.local.remove(token) else { return };
        let answer = json::parse(local.input.trim_ascii_end()).unwrap_or(json::Value::Null);
        let heard = records(&answer);
        let mut names = Vec::new();
        for record in &heard {
            names.push(Name::parse(&record.name).unwrap_or(Name::ROOT));
        }
        let mut found = Vec::new();
        for (record, name) in heard.iter().zip(&names) {
            found.push(Found { name, kind: Kind(record.kind), ttl: record.ttl, data: &record.data });
        }
        self.resolver.found(now, &local.key, Some(&found));
        self.reply(local.waiters, now);
    }

    pub(super) fn expire_local(&mut self, now: Micros) {
        while let Some(token) = self.local.find(|local| local.until <= now) {
            self.end_local(token, now);
        }
    }

    pub(super) fn next_local(&self) -> Option<Micros> {
        self.local.iter().map(|(_, local)| local.until).min()
    }
}

fn open(request: &Request) -> Option<UnixStream> {
    let mut stream = UnixStream::from(connect_now(Path::new(SOCKET)).ok()?);
    set_nonblocking(&stream, true).ok()?;
    let mut line = request.to_value().to_text();
    line.push('\n');
    // An empty socket takes a line whole.
    stream.write_all(line.as_bytes()).ok()?;
    Some(stream)
}
