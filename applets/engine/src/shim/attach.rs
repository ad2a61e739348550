//! The streams of one process (the container's first, or one of `exec`) and the clients attached to them.

use super::log::{Log, Stream};
use super::start::Ends;
use crate::fields::Fields;
use minke_sys::event::{Interest, Poller};
use minke_wire::json::Value;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;

/// Bytes that wait for an attached client; beyond it the process's pipe is not read until the client took some.
const CLIENT_QUEUE: usize = 64 * 1024;
/// Bytes of input that wait for the process.
const INPUT_QUEUE: usize = 64 * 1024;
/// Clients attached to one process.
const CLIENT_LIMIT: usize = 16;
/// One read.
const CHUNK: usize = 16 * 1024;

/// Token kinds, in the upper half of a poller token.
pub const OUTPUT: u64 = 1 << 32;
/// An attached client.
pub const CLIENT: u64 = 2 << 32;
/// The process's input.
pub const INPUT: u64 = 3 << 32;

/// One process's streams.
pub struct Session {
    /// Names it in tokens; 0 is the container's first process.
    pub serial: u64,
    /// The process.
    pub pid: i32,
    /// The id of the exec; empty for the container itself.
    pub exec_id: String,
    /// The terminal's manager, for its size.
    pub terminal: Option<OwnedFd>,
    input: Option<File>,
    input_queue: Vec<u8>,
    input_watched: bool,
    input_ends: bool,
    close_with_client: bool,
    outputs: Vec<Output>,
    clients: Vec<Client>,
}

struct Output {
    file: File,
    stream: Stream,
    watched: bool,
    ended: bool,
}

struct Client {
    file: File,
    serial: u64,
    raw: bool,
    streams: [bool; 2],
    sends_input: bool,
    queue: Vec<u8>,
    watched: Option<Interest>,
}

impl Session {
    /// The streams that a start left.
    pub fn new(serial: u64, pid: i32, exec_id: &str, ends: Ends, close_with_client: bool) -> Self {
        let nonblocking = |fd: OwnedFd| {
            let _ = minke_sys::channel::set_nonblocking(&fd, true);
            File::from(fd)
        };
        let (mut outputs, mut stream) = (Vec::new(), Stream::Output);
        for fd in ends.outputs {
            outputs.push(Output { file: nonblocking(fd), stream, watched: false, ended: false });
            stream = Stream::Error;
        }
        Self {
            serial,
            pid,
            exec_id: exec_id.to_owned(),
            terminal: ends.terminal,
            input: ends.input.map(nonblocking),
            input_queue: Vec::new(),
            input_watched: false,
            input_ends: false,
            close_with_client,
            outputs,
            clients: Vec::new(),
        }
    }

    /// Adds a client by the order `{stdin, stdout, stderr, raw}`.
    pub fn attach(&mut self, fd: OwnedFd, order: &Value, serial: u64) {
        if self.clients.len() >= CLIENT_LIMIT || minke_sys::channel::set_nonblocking(&fd, true).is_err() {
            return;
        }
        self.clients.push(Client {
            file: File::from(fd),
            serial,
            raw: order.flag("raw"),
            streams: [order.flag("stdout"), order.flag("stderr")],
            sends_input: order.flag("stdin"),
            queue: Vec::new(),
            watched: None,
        });
    }

    /// Whether a token's number is one of this session's clients.
    pub fn has_client(&self, serial: u64) -> bool {
        self.clients.iter().any(|client| client.serial == serial)
    }

    /// Reads what the process wrote, to the log and the clients. Reads everything there is when `all`, else one
    /// chunk.
    pub fn read_output(&mut self, index: usize, mut log: Option<&mut Log>, all: bool) {
        let mut buffer = vec![0u8; CHUNK];
        while let Some(output) = self.outputs.get_mut(index).filter(|output| !output.ended) {
            match output.file.read(&mut buffer) {
                Ok(0) => output.ended = true,
                Ok(count) => {
                    let (stream, bytes) = (output.stream, buffer.get(..count).unwrap_or_default());
                    if let Some(log) = &mut log {
                        log.push(stream, bytes);
                    }
                    for client in &mut self.clients {
                        client.push(stream, bytes);
                    }
                    if !all {
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // EIO: nobody has the terminal open any more.
                Err(_) => output.ended = true,
            }
        }
    }

    /// The process ended: takes what is left in its pipes.
    pub fn drain(&mut self, mut log: Option<&mut Log>) {
        for index in 0..self.outputs.len() {
            self.read_output(index, log.as_deref_mut(), true);
            if let Some(output) = self.outputs.get_mut(index) {
                output.ended = true;
            }
        }
    }

    /// Whether every client has got everything.
    pub fn is_delivered(&self) -> bool {
        self.clients.iter().all(|client| client.queue.is_empty())
    }

    /// A client can be read or written, or is gone.
    pub fn serve_client(&mut self, serial: u64, readable: bool, hangup: bool) {
        let Some(client) = self.clients.iter_mut().find(|client| client.serial == serial) else { return };
        let mut gone = client.write().is_err() || (hangup && !client.sends_input);
        if readable && client.sends_input {
            let mut buffer = vec![0u8; CHUNK];
            match client.file.read(&mut buffer) {
                Ok(0) => {
                    client.sends_input = false;
                    self.input_ends = self.close_with_client && self.terminal.is_none();
                }
                Ok(count) => self.input_queue.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => gone = true,
            }
        }
        if gone {
            self.clients.retain(|client| client.serial != serial);
        }
        self.write_input();
    }

    /// Passes input on to the process.
    pub fn write_input(&mut self) {
        let Some(input) = &mut self.input else {
            self.input_queue.clear();
            return;
        };
        if !self.input_queue.is_empty() {
            match input.write(&self.input_queue) {
                Ok(count) => drop(self.input_queue.drain(..count.min(self.input_queue.len()))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => self.input_ends = true,
            }
        }
        if self.input_ends && (self.input_queue.is_empty() || self.input_queue.len() > INPUT_QUEUE) {
            self.input = None;
        }
    }

    /// Sends what the clients take, and watches exactly what can go on.
    pub fn watch(&mut self, poller: &Poller, log_is_full: bool) {
        for client in &mut self.clients {
            let _ = client.write();
        }
        let blocked = log_is_full || self.clients.iter().any(|client| client.queue.len() >= CLIENT_QUEUE);
        for (index, output) in self.outputs.iter_mut().enumerate() {
            let wanted = !blocked && !output.ended;
            let token = OUTPUT | self.serial << 1 | u64::try_from(index & 1).unwrap_or(0);
            // Taken out instead of muted, as a hang-up would be reported again and again.
            let _ = match (output.watched, wanted) {
                (false, true) => poller.add(&output.file, token, Interest::Read),
                (true, false) => poller.remove(&output.file),
                _ => Ok(()),
            };
            output.watched = wanted;
        }
        let takes_input = self.input_queue.len() < INPUT_QUEUE;
        for client in &mut self.clients {
            let wanted = match (client.sends_input && takes_input, !client.queue.is_empty()) {
                (true, true) => Interest::Both,
                (true, false) => Interest::Read,
                (false, true) => Interest::Write,
                (false, false) => Interest::None,
            };
            let token = CLIENT | client.serial;
            let _ = match client.watched {
                None => poller.add(&client.file, token, wanted),
                Some(old) if old != wanted => poller.modify(&client.file, token, wanted),
                Some(_) => Ok(()),
            };
            client.watched = Some(wanted);
        }
        let Some(input) = &self.input else { return };
        let wanted = !self.input_queue.is_empty() && self.terminal.is_none();
        let _ = match (self.input_watched, wanted) {
            (false, true) => poller.add(input, INPUT | self.serial, Interest::Write),
            (true, false) => poller.remove(input),
            _ => Ok(()),
        };
        self.input_watched = wanted;
    }
}

impl Client {
    fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let number = usize::from(stream == Stream::Error);
        if !self.streams.get(number).is_some_and(|wanted| *wanted) {
            return;
        }
        if !self.raw {
            self.queue.extend_from_slice(&crate::api::frame_header(number == 1, bytes.len()));
        }
        self.queue.extend_from_slice(bytes);
    }

    fn write(&mut self) -> std::io::Result<()> {
        while !self.queue.is_empty() {
            match self.file.write(&self.queue) {
                Ok(count) => drop(self.queue.drain(..count.min(self.queue.len()))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.queue.clear();
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
