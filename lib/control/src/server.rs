//! The answering side: a listener and its connections behind one descriptor of an event loop.

use crate::{LINE_LIMIT, socket};
use minke_sys::Result;
use minke_sys::channel::set_nonblocking;
use minke_sys::event::{Interest, Poller, Ready};
use minke_wire::json::{Value, json};
use minke_wire::table::Table;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

/// What peers may take from the server.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at a time; a further one is closed at once.
    pub connections: usize,
    /// Bytes of one request line; a longer one closes its connection.
    pub request: usize,
    /// Bytes of answers that wait for a slow reader; beyond them its connection is closed.
    pub queued: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 64, request: 64 << 10, queued: LINE_LIMIT.saturating_mul(2) }
    }
}

/// What happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// A whole request arrived. The answer is sent with [`Server::send`] or [`Server::finish`].
    Request {
        /// The connection.
        conn: u64,
        /// The request.
        request: Value,
        /// The user id of the asking process.
        uid: u32,
    },
    /// A connection with an open request went away or was closed for breaking a limit.
    Closed {
        /// The connection.
        conn: u64,
    },
}

/// A server on a Unix stream socket. Add it to a [`Poller`] (it is `AsFd`) and call [`Server::events`] when
/// it is readable. Requests that are no JSON are refused without the caller seeing them.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    poller: Poller,
    limits: Limits,
    next: u64,
    conns: Table<u64, Box<Conn>>,
}

#[derive(Debug)]
struct Conn {
    stream: UnixStream,
    uid: u32,
    input: Vec<u8>,
    output: Vec<u8>,
    /// The request was handed to the caller; further input is ignored.
    asked: bool,
    /// The peer sends no more.
    ended: bool,
    /// Close when `output` is written.
    finished: bool,
}

const LISTENER: u64 = 0;

impl Server {
    /// Listens at `path`, replacing a socket that an earlier process left, with permission bits `mode`.
    pub fn bind(path: &Path, mode: u32, limits: Limits) -> Result<Self> {
        Self::new(socket::listen(path, mode)?, limits)
    }

    /// Serves a listening socket, which must not block.
    pub fn new(listener: OwnedFd, limits: Limits) -> Result<Self> {
        let poller = Poller::new()?;
        poller.add(&listener, LISTENER, Interest::Read)?;
        Ok(Self { listener: listener.into(), poller, limits, next: 1, conns: Table::new() })
    }

    /// Reads and writes what is possible without waiting and returns what the caller must know.
    pub fn events(&mut self) -> Result<Vec<Event>> {
        let mut ready = Vec::new();
        let mut events = Vec::new();
        self.poller.wait(&mut ready, Some(Duration::ZERO))?;
        for Ready { token, readable, writable, hangup } in ready {
            if token == LISTENER {
                self.accept()?;
                continue;
            }
            if writable {
                let open = self.conns.get(&token).is_some_and(|conn| conn.asked && !conn.finished);
                self.flush(token);
                if open && !self.conns.contains_key(&token) {
                    events.push(Event::Closed { conn: token });
                }
            }
            if readable {
                self.read(token, hangup, &mut events);
            }
        }
        Ok(events)
    }

    /// Queues one answer line and keeps the connection.
    pub fn send(&mut self, conn: u64, answer: &Value) {
        let mut line = answer.to_text();
        line.push('\n');
        self.send_lines(conn, line.as_bytes());
    }

    /// Queues answer lines and keeps the connection.
    pub fn send_lines(&mut self, conn: u64, lines: &[u8]) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        if entry.output.len().saturating_add(lines.len()) > self.limits.queued {
            self.conns.remove(&conn);
            return;
        }
        entry.output.extend_from_slice(lines);
        self.flush(conn);
    }

    /// The bytes that wait for a connection's reader; `None` when it is gone.
    pub fn queued(&self, conn: u64) -> Option<usize> {
        self.conns.get(&conn).map(|entry| entry.output.len())
    }

    /// Queues the last answer line; the connection closes when it is written.
    pub fn finish(&mut self, conn: u64, answer: &Value) {
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.finished = true;
            self.send(conn, answer);
        }
    }

    /// Refuses a request: the last line is `{"error": why}`.
    pub fn refuse(&mut self, conn: u64, why: &str) {
        self.finish(conn, &json!({ "error": why }));
    }

    /// Closes a connection when what is queued for it is written.
    pub fn close(&mut self, conn: u64) {
        if let Some(entry) = self.conns.get_mut(&conn) {
            entry.finished = true;
            self.flush(conn);
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            // Nobody waits, the peer was gone before it was accepted, or descriptors ran out: try again when woken.
            let Ok(stream) = minke_sys::channel::accept(&self.listener) else { return Ok(()) };
            if self.conns.len() >= self.limits.connections || set_nonblocking(&stream, true).is_err() {
                continue;
            }
            let Ok(peer) = rustix::net::sockopt::socket_peercred(&stream) else { continue };
            let token = self.next;
            self.next = self.next.wrapping_add(1).max(1);
            self.poller.add(&stream, token, Interest::Read)?;
            let conn = Conn {
                stream: stream.into(),
                uid: peer.uid.as_raw(),
                input: Vec::new(),
                output: Vec::new(),
                asked: false,
                ended: false,
                finished: false,
            };
            self.conns.insert(token, Box::new(conn));
        }
    }

    fn read(&mut self, token: u64, hangup: bool, events: &mut Vec<Event>) {
        let limit = self.limits.request;
        let Some(conn) = self.conns.get_mut(&token) else { return };
        match conn.fill(limit) {
            Filled::Waiting if !hangup => {}
            Filled::Line(line) if !conn.asked => {
                conn.asked = true;
                match minke_wire::json::parse(&line) {
                    Ok(request) => events.push(Event::Request { conn: token, request, uid: conn.uid }),
                    Err(_) => self.refuse(token, "the request is no JSON line"),
                }
            }
            Filled::Line(_) => {}
            // A peer may close its sending side and still read its answer; only a dead connection goes.
            Filled::End if conn.asked && !hangup => {
                conn.ended = true;
                self.flush(token);
            }
            _ => {
                if conn.asked && !conn.finished {
                    events.push(Event::Closed { conn: token });
                }
                self.conns.remove(&token);
            }
        }
    }

    fn flush(&mut self, token: u64) {
        let Some(conn) = self.conns.get_mut(&token) else { return };
        match conn.flush() {
            Ok(()) if conn.output.is_empty() && conn.finished => {
                self.conns.remove(&token);
            }
            Ok(()) => {
                let interest = match (conn.ended, conn.output.is_empty()) {
                    (false, true) => Interest::Read,
                    (false, false) => Interest::Both,
                    (true, true) => Interest::None,
                    (true, false) => Interest::Write,
                };
                let _ = self.poller.modify(&conn.stream, token, interest);
            }
            Err(_) => {
                self.conns.remove(&token);
            }
        }
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

enum Filled {
    /// No whole line yet.
    Waiting,
    /// One whole line, without its end.
    Line(Vec<u8>),
    /// The peer sends no more.
    End,
    /// The peer broke a limit or the connection failed.
    Broken,
}

impl Conn {
    fn fill(&mut self, limit: usize) -> Filled {
        let mut chunk = [0u8; 4096];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Filled::End,
                // What follows the request has no meaning and takes no room.
                Ok(_) if self.asked => {}
                Ok(count) => {
                    self.input.extend_from_slice(chunk.get(..count).unwrap_or_default());
                    if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                        let mut line = std::mem::take(&mut self.input);
                        line.truncate(end);
                        return Filled::Line(line);
                    }
                    if self.input.len() > limit {
                        return Filled::Broken;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Filled::Waiting,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Filled::Broken,
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    self.output.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A connection may be silent for days: it holds no memory then.
        self.output = Vec::new();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error as CallError, call, stream};

    /// Serves until `requests` requests are answered: `{"echo": …}` twice for a stream, once for a call.
    fn serve(name: &str, requests: usize) -> (std::path::PathBuf, std::thread::JoinHandle<()>) {
        let path = std::env::temp_dir().join(format!("minke-control-{}-{name}", std::process::id()));
        let limits = Limits { connections: 4, request: 1000, queued: 10_000 };
        let mut server = Server::bind(&path, 0o600, limits).unwrap();
        let thread = std::thread::spawn(move || {
            let (outer, mut ready, mut done) = (Poller::new().unwrap(), Vec::new(), 0);
            outer.add(&server, 1, Interest::Read).unwrap();
            while done < requests || !server.conns.is_empty() {
                outer.wait(&mut ready, Some(Duration::from_secs(10))).unwrap();
                assert!(!ready.is_empty(), "nobody asks");
                for event in server.events().unwrap() {
                    if let Event::Request { conn, request, .. } = event {
                        if request.get("no").is_some() {
                            server.refuse(conn, "no");
                        } else {
                            server.send(conn, &json!({ "echo": request }));
                            server.finish(conn, &json!({ "last": true }));
                        }
                        done += 1;
                    }
                }
            }
        });
        (path, thread)
    }

    #[test]
    fn calls_streams_and_refusals() {
        let (path, thread) = serve("talk", 3);
        let limit = Some(Duration::from_secs(10));
        assert_eq!(
            call(&path, &json!({ "a": "line\nend" }), limit).unwrap(),
            json!({ "echo": { "a": "line\nend" } })
        );
        let answers: Vec<Value> =
            stream(&path, &json!(1), limit).unwrap().map(|answer| answer.unwrap()).collect();
        assert_eq!(answers, [json!({ "echo": 1 }), json!({ "last": true })]);
        assert!(
            matches!(call(&path, &json!({ "no": 1 }), limit), Err(CallError::Refused(why)) if &*why == "no")
        );
        thread.join().unwrap();
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_breaks_the_rules_is_refused_or_cut_off_and_others_are_served() {
        let (path, thread) = serve("rules", 1);
        let limit = Some(Duration::from_secs(10));
        let mut noise = UnixStream::connect(&path).unwrap();
        noise.write_all(b"no json\n").unwrap();
        let mut answer = String::new();
        noise.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("\"error\""), "{answer}");
        let mut flood = UnixStream::connect(&path).unwrap();
        let cut = (0..1000).any(|_| flood.write_all(&[b'x'; 4096]).is_err());
        assert!(cut, "a request without end is cut off");
        assert!(call(&path, &json!(1), limit).is_ok());
        thread.join().unwrap();
        std::fs::remove_file(path).unwrap();
    }
}
