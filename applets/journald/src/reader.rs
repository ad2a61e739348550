//! A connection to the query socket. It takes entries from the log as fast as its peer reads, and holds no more
//! than one buffer of them: a slow reader falls back in the log, and is told when it lost entries.

use crate::journal::Journal;
use crate::json;
use crate::scan::{Scan, Step};
use minke_control::journal::Query;
use minke_sys::event::Interest;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;

/// The longest request, in bytes.
const REQUEST_LIMIT: usize = 16 << 10;
/// Entries are added to the output until it has so many bytes.
const OUTPUT_TARGET: usize = 16 << 10;
/// Entries that are looked at before others have their turn.
const STEPS: u32 = 2_000;

/// One connection.
#[derive(Debug)]
pub struct Reader {
    socket: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    state: State,
    interest: Interest,
    /// The peer sends no more.
    half_closed: bool,
}

#[derive(Debug)]
enum State {
    /// The request has not come yet.
    Asking,
    /// Entries are read.
    Reading(Scan),
    /// Everything is read but newer entries will follow.
    Idle(Scan),
    /// Nothing follows what is in the output.
    Done,
}

impl Reader {
    /// A new connection, which must not block.
    pub fn new(socket: UnixStream) -> Self {
        let (input, output) = (Vec::new(), Vec::new());
        Self { socket, input, output, state: State::Asking, interest: Interest::Read, half_closed: false }
    }

    /// The connection.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Reads the request. Returns whether the connection goes on.
    pub fn read(&mut self, journal: &Journal) -> bool {
        let mut buffer = [0u8; 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => {
                    self.half_closed = true;
                    // A follower that closed its side is gone; others still get their answer.
                    return matches!(self.state, State::Reading(_) | State::Done);
                }
                Ok(count) if matches!(self.state, State::Asking) => {
                    self.input.extend_from_slice(buffer.get(..count).unwrap_or_default());
                    if let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
                        let line = std::mem::take(&mut self.input);
                        self.ask(line.get(..end).unwrap_or_default(), journal);
                    } else if self.input.len() > REQUEST_LIMIT {
                        return false;
                    }
                }
                // Nothing is expected after the request.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn ask(&mut self, line: &[u8], journal: &Journal) {
        let scan = minke_wire::json::parse(line)
            .map_err(|_| "the query is no JSON".to_owned())
            .and_then(|value| Query::from_value(&value))
            .and_then(|query| Scan::new(query, &journal.ring, &journal.host));
        self.state = match scan {
            Ok(scan) => State::Reading(scan),
            Err(why) => {
                let refusal = minke_wire::json::json!({ "error": why }).to_text();
                self.output.extend_from_slice(refusal.as_bytes());
                self.output.push(b'\n');
                State::Done
            }
        };
    }

    /// Tells a reader that waits that there are new entries.
    pub fn wake(&mut self) {
        if matches!(self.state, State::Idle(_))
            && let State::Idle(scan) = std::mem::replace(&mut self.state, State::Done)
        {
            self.state = State::Reading(scan);
        }
    }

    /// Whether [`Reader::pump`] has something to do.
    pub fn is_busy(&self) -> bool {
        !matches!(self.state, State::Asking | State::Idle(_)) || !self.output.is_empty()
    }

    /// Reads entries and writes them, a bounded number. Returns whether the connection goes on.
    pub fn pump(&mut self, journal: &Journal, hostname: &str) -> bool {
        self.fill(journal, hostname);
        while !self.output.is_empty() {
            match self.socket.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        if matches!(self.state, State::Idle(_)) {
            // A follower may be silent for days: it holds no memory then.
            self.output = Vec::new();
        }
        !matches!(self.state, State::Done)
    }

    fn fill(&mut self, journal: &Journal, hostname: &str) {
        let State::Reading(scan) = &mut self.state else { return };
        for _ in 0..STEPS {
            if self.output.len() >= OUTPUT_TARGET {
                return;
            }
            match scan.step(&journal.ring) {
                Step::Entry(entry) => json::write_entry(&mut self.output, entry, &journal.host, hostname),
                Step::Lost(count) => {
                    self.output.extend_from_slice(format!("{{\"lost\":{count}}}\n").as_bytes());
                }
                Step::Busy => {}
                Step::Idle => {
                    if let State::Reading(scan) = std::mem::replace(&mut self.state, State::Done) {
                        self.state = State::Idle(scan);
                    }
                    return;
                }
                Step::Done => {
                    self.state = State::Done;
                    return;
                }
            }
        }
    }

    /// What to wait for now, if that changed.
    pub fn new_interest(&mut self) -> Option<Interest> {
        let interest = match (self.half_closed, self.is_busy()) {
            (false, false) => Interest::Read,
            (false, true) => Interest::Both,
            (true, false) => Interest::None,
            (true, true) => Interest::Write,
        };
        let changed = interest != self.interest;
        self.interest = interest;
        changed.then_some(interest)
    }
}
