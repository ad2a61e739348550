//! The server: listeners, connections and their time limits on one inner poller.

mod connection;
#[cfg(test)]
mod tests;

use crate::Error;
use crate::message::{BodyMode, Conn, Event, Head, Limits, Response};
use crate::socket::{Accepted, Listener, Moved, Socket};
use connection::Connection;
use minke_sys::clock::boottime;
use minke_sys::event::{Interest, Poller, Ready, Timer, Waker};
use minke_wire::http::{Headers, write_response_head};
use minke_wire::table::Table;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

const WAKER: u64 = 0;
const TIMER: u64 = 1;
const FIRST_LISTENER: u64 = 2;
/// Connections follow the listeners, of which there are fewer than this.
const FIRST_CONNECTION: u64 = 64;

/// Bytes that one read takes; one connection gets no more than this before the others have their turn.
const READ: usize = 16 * 1024;

/// Connections that are accepted at most before those that are open have their turn.
const ACCEPT: usize = 16;

/// Pause of accepting when descriptors or memory are short.
const PAUSE: Duration = Duration::from_secs(1);

/// An HTTP/1.1 server for an event loop. Watch it for reading, and take its [`Server::events`].
#[derive(Debug)]
pub struct Server {
    poller: Poller,
    waker: Waker,
    timer: Timer,
    /// When the timer fires, if it is set.
    armed: Option<Duration>,
    listeners: Vec<Listener>,
    /// Until when nothing is accepted.
    accept_paused: Option<Duration>,
    open: Table<u64, Open>,
    next: u64,
    mode: fn(&Head) -> BodyMode,
    limits: Limits,
    pending: Vec<Event>,
}

#[derive(Debug)]
struct Open {
    socket: Socket,
    state: Connection,
    interest: Interest,
    /// The peer has sent its last byte.
    ended: bool,
    /// Our side is shut down.
    shut: bool,
}

impl Server {
    /// A server that listens nowhere yet. `mode` says of each request how its body is to be read.
    pub fn new(mode: fn(&Head) -> BodyMode, limits: Limits) -> Result<Self, Error> {
        let (poller, waker, timer) = (Poller::new()?, Waker::new()?, Timer::new()?);
        poller.add(&waker, WAKER, Interest::Read)?;
        poller.add(&timer, TIMER, Interest::Read)?;
        Ok(Self {
            poller,
            waker,
            timer,
            armed: None,
            listeners: Vec::new(),
            accept_paused: None,
            open: Table::new(),
            next: FIRST_CONNECTION,
            mode,
            limits,
            pending: Vec::new(),
        })
    }

    /// Listens on a TCP address, and returns it with the port that the kernel chose when it was 0. An IPv6
    /// wildcard takes IPv4 as well, by the kernel's default.
    pub fn listen_tcp(&mut self, address: SocketAddr) -> Result<SocketAddr, Error> {
        let listener = Listener::tcp(address)?;
        let bound = listener.address().unwrap_or(address);
        self.add_listener(listener)?;
        Ok(bound)
    }

    /// Listens on a Unix socket with these permission bits and this group; a file that is there already is
    /// replaced.
    pub fn listen_unix(&mut self, path: &Path, mode: u32, gid: Option<u32>) -> Result<(), Error> {
        self.add_listener(Listener::unix(path, mode, gid)?)
    }

    fn add_listener(&mut self, listener: Listener) -> Result<(), Error> {
        let token = FIRST_LISTENER.saturating_add(u64::try_from(self.listeners.len()).unwrap_or(u64::MAX));
        if token >= FIRST_CONNECTION {
            return Err(Error::Full);
        }
        self.poller.add(&listener, token, Interest::Read)?;
        self.listeners.push(listener);
        Ok(())
    }

    /// What happened since the last call; does not block.
    pub fn events(&mut self) -> Vec<Event> {
        let mut ready = Vec::new();
        // A failing epoll_wait leaves nothing ready: the owner's loop comes back.
        let _ = self.poller.wait(&mut ready, Some(Duration::ZERO));
        let now = boottime();
        for item in ready {
            match item.token {
                WAKER => self.waker.take(),
                TIMER => {
                    self.timer.take();
                    self.armed = None;
                    self.expire(now);
                }
                token if token < FIRST_CONNECTION => self.accept(token, now),
                _ => self.serve(item, now),
            }
        }
        self.arm();
        std::mem::take(&mut self.pending)
    }

    /// Answers a request. That its connection is gone is no error: [`Event::Closed`] told.
    // By value: a large body is freed here, and the owner has no more use for it.
    #[allow(clippy::needless_pass_by_value)]
    pub fn respond(&mut self, conn: Conn, response: Response) {
        self.change(conn, |state, now| state.respond(&response, now));
    }

    /// Begins a streamed answer: chunked, or until the end of the connection for an HTTP/1.0 client.
    pub fn start_stream(&mut self, conn: Conn, status: u16, headers: &Headers) {
        self.change(conn, |state, _| state.start_stream(status, headers));
    }

    /// Sends a piece of a streamed answer, and returns how many bytes wait for the reader; when there are
    /// any, [`Event::Drained`] comes once they are gone.
    pub fn send(&mut self, conn: Conn, data: &[u8]) -> Result<usize, Error> {
        let limit = self.limits.queued;
        let open = self.open.get(&conn.0).ok_or(Error::Gone)?;
        if !open.state.is_streaming() {
            return Err(Error::Gone);
        }
        if open.state.output.len() > limit {
            return Err(Error::Full);
        }
        self.change(conn, |state, _| {
            state.send(data);
        });
        Ok(self.open.get(&conn.0).map_or(0, |open| open.state.output.len()))
    }

    /// Ends a streamed answer.
    pub fn finish(&mut self, conn: Conn) {
        self.change(conn, Connection::finish);
    }

    /// Stops to read a streamed request body, until [`Server::resume`].
    pub fn pause(&mut self, conn: Conn) {
        self.change(conn, |state, _| state.paused = true);
    }

    /// Goes on reading a streamed request body.
    pub fn resume(&mut self, conn: Conn) {
        self.change(conn, |state, _| state.paused = false);
    }

    /// Drops a connection, with what is queued for it. No [`Event::Closed`] follows.
    pub fn close(&mut self, conn: Conn) {
        self.open.remove(&conn.0);
    }

    /// Takes the connection of a request that waits for its answer out of the server, to speak another
    /// protocol on it: the socket (non-blocking), and what the peer has sent after the request. The owner
    /// writes the answer's head itself ([`Server::upgrade_head`]).
    pub fn upgrade(&mut self, conn: Conn) -> Result<(OwnedFd, Vec<u8>), Error> {
        let ready = self
            .open
            .get(&conn.0)
            .is_some_and(|open| open.state.awaits_answer() && open.state.output.is_empty());
        let open = if ready { self.open.remove(&conn.0) } else { None };
        let open = open.ok_or(Error::Gone)?;
        self.poller.remove(&open.socket)?;
        Ok((open.socket.into(), open.state.input))
    }

    /// The head of an answer, for [`Server::upgrade`].
    pub fn upgrade_head(status: u16, headers: &Headers) -> Vec<u8> {
        let mut out = Vec::new();
        write_response_head(status, headers, &mut out);
        out
    }

    /// Stops listening; connections that are open go on.
    pub fn stop_listening(&mut self) {
        self.listeners.clear();
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.open.len()
    }

    /// Changes a connection from outside `events`, and tells the owner's loop when that made events.
    fn change(&mut self, conn: Conn, act: impl FnOnce(&mut Connection, Duration)) {
        let now = boottime();
        let Some(open) = self.open.get_mut(&conn.0) else { return };
        act(&mut open.state, now);
        self.settle(conn.0, now);
        if !self.pending.is_empty() {
            self.waker.wake();
        }
        self.arm();
    }

    fn accept(&mut self, token: u64, now: Duration) {
        let place = usize::try_from(token.saturating_sub(FIRST_LISTENER)).unwrap_or(usize::MAX);
        for _ in 0..ACCEPT {
            let Some(listener) = self.listeners.get(place) else { return };
            match listener.accept() {
                Accepted::Socket(socket) => self.admit(socket, now),
                Accepted::None => return,
                Accepted::Exhausted => return self.pause_accepting(now),
            }
        }
    }

    fn admit(&mut self, mut socket: Socket, now: Duration) {
        if self.open.len() >= self.limits.connections && !self.evict() {
            // The one write fits the empty socket buffer; there is no state to keep for it.
            let _ = socket
                .write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return;
        }
        let id = self.next;
        if self.poller.add(&socket, id, Interest::Read).is_err() {
            return;
        }
        self.next = self.next.saturating_add(1);
        let state = Connection::new(Conn(id), now);
        let open = Open { socket, state, interest: Interest::Read, ended: false, shut: false };
        self.open.insert(id, open);
    }

    /// Closes the longest idle connection. Returns whether there was one.
    fn evict(&mut self) -> bool {
        let idle = self.open.iter().filter(|(_, open)| open.state.is_idle());
        let oldest = idle.min_by_key(|(_, open)| open.state.last_moved()).map(|(id, _)| *id);
        oldest.is_some_and(|id| self.open.remove(&id).is_some())
    }

    fn pause_accepting(&mut self, now: Duration) {
        self.accept_paused = Some(minke_sys::clock::after(now, PAUSE));
        self.watch_listeners(Interest::None);
    }

    fn watch_listeners(&self, interest: Interest) {
        for (listener, token) in self.listeners.iter().zip(FIRST_LISTENER..) {
            let _ = self.poller.modify(listener, token, interest);
        }
    }

    fn serve(&mut self, ready: Ready, now: Duration) {
        let Some(open) = self.open.get_mut(&ready.token) else { return };
        if ready.readable && open.state.wants_input(&self.limits) && !open.ended {
            let mut buffer = vec![0; READ];
            match open.socket.read(&mut buffer) {
                Moved::Bytes(count) => {
                    open.state.received(buffer.get(..count).unwrap_or_default(), now);
                }
                Moved::End => open.ended = true,
                Moved::Blocked => {}
            }
        }
        self.settle(ready.token, now);
        if ready.hangup && self.open.contains_key(&ready.token) {
            self.drop_connection(ready.token);
        }
    }

    /// Brings a connection to where it must wait: takes what can be taken, sends what can be sent.
    fn settle(&mut self, id: u64, now: Duration) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.state.advance(self.mode, &self.limits, now, &mut self.pending);
        while !open.state.output.is_empty() {
            match open.socket.write(&open.state.output) {
                Moved::Bytes(count) => open.state.sent(count, now, &mut self.pending),
                Moved::Blocked => {
                    open.state.blocked();
                    break;
                }
                Moved::End => return self.drop_connection(id),
            }
        }
        if open.state.is_closing() && open.state.output.is_empty() {
            if open.ended {
                return self.drop_connection(id);
            }
            if !std::mem::replace(&mut open.shut, true) {
                open.socket.shutdown_write();
            }
        }
        if open.ended && !open.state.is_closing() {
            // A client may shut down its side and still read a plain answer. A streamed one has no end by
            // itself: there the end of the client's side is its end, unless the kernel will tell apart.
            let reads = open.state.awaits_answer()
                || !open.state.output.is_empty()
                || (open.state.is_streaming() && open.socket.tells_full_close());
            if !reads {
                return self.drop_connection(id);
            }
        }
        self.update_interest(id);
    }

    fn update_interest(&mut self, id: u64) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let reads = !open.ended && open.state.wants_input(&self.limits);
        let interest = match (reads, open.state.output.is_empty()) {
            (true, true) => Interest::Read,
            (true, false) => Interest::Both,
            (false, false) => Interest::Write,
            (false, true) => Interest::None,
        };
        if interest != open.interest {
            open.interest = interest;
            if self.poller.modify(&open.socket, id, interest).is_err() {
                self.drop_connection(id);
            }
        }
    }

    fn drop_connection(&mut self, id: u64) {
        if self.open.remove(&id).is_some_and(|open| open.state.is_known()) {
            self.pending.push(Event::Closed { conn: Conn(id) });
        }
    }

    /// Acts on all deadlines that have passed.
    fn expire(&mut self, now: Duration) {
        if self.accept_paused.is_some_and(|until| until <= now) {
            self.accept_paused = None;
            self.watch_listeners(Interest::Read);
        }
        let limits = self.limits;
        let due = |open: &Open| open.state.deadline(&limits).is_some_and(|deadline| deadline <= now);
        let expired: Vec<u64> = self.open.iter().filter(|(_, open)| due(open)).map(|(id, _)| *id).collect();
        for id in expired {
            let Some(open) = self.open.get_mut(&id) else { continue };
            if open.state.expire(now) {
                self.drop_connection(id);
            } else {
                self.settle(id, now);
            }
        }
    }

    /// Sets the timer to the earliest deadline. One that is set earlier already stays: it finds nothing to
    /// do and sets itself anew, which costs less than setting it at every byte.
    fn arm(&mut self) {
        let deadlines = self.open.values().filter_map(|open| open.state.deadline(&self.limits));
        let Some(earliest) = deadlines.chain(self.accept_paused).min() else { return };
        if self.armed.is_some_and(|armed| armed <= earliest) {
            return;
        }
        if self.timer.set(Some(earliest.saturating_sub(boottime()))).is_ok() {
            self.armed = Some(earliest);
        }
    }
}

impl AsFd for Server {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}
