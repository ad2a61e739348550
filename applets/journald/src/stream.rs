//! A connection to the stream socket: the standard output and error of a service.

use crate::journal::{Journal, Origin, digit, gather};
use crate::lines::{Break, Lines};
use minke_sys::socket::{Credentials, Received};
use minke_wire::journal::{Header, take_level};
use std::os::unix::net::UnixStream;

/// The longest line of a header; a longer one closes the connection.
const HEADER_LIMIT: usize = 1024;

/// One connection.
#[derive(Debug)]
pub struct Stream {
    socket: UnixStream,
    /// Who connected.
    peer: Credentials,
    /// Who wrote last.
    writer: i32,
    header: Header,
    header_lines: u8,
    lines: Lines,
}

impl Stream {
    /// A new connection by `peer`.
    pub fn new(socket: UnixStream, peer: Credentials) -> Self {
        let (header, lines) = (Header::default(), Lines::default());
        Self { socket, peer, writer: peer.pid, header, header_lines: 0, lines }
    }

    /// The connection.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Takes in what was received into `buffer`. Returns whether the connection goes on.
    pub fn take(&mut self, received: &Received, buffer: &[u8], journal: &mut Journal) -> bool {
        if received.length == 0 {
            self.flush(Break::Closed, journal);
            return false;
        }
        // Processes of one service share the connection; what two of them write is no common line.
        if let Some(sender) = received.credentials.filter(|sender| sender.pid != self.writer) {
            self.flush(Break::PidChange, journal);
            self.writer = sender.pid;
        }
        let mut bytes = buffer.get(..received.length).unwrap_or_default();
        while self.header_lines < Header::LINES && !bytes.is_empty() {
            let (header, count) = (&mut self.header, &mut self.header_lines);
            let mut good = true;
            bytes = self.lines.feed(bytes, &mut |line, why| {
                good = why == Break::End && line.len() <= HEADER_LIMIT && header.line(*count, line).is_ok();
                *count = count.saturating_add(1);
                // One at a time: the last header line is followed by log lines.
                false
            });
            if !good {
                return false;
            }
        }
        let mut lines = std::mem::take(&mut self.lines);
        lines.feed(bytes, &mut |line, why| {
            self.log(line, why, journal);
            true
        });
        self.lines = lines;
        true
    }

    fn flush(&mut self, why: Break, journal: &mut Journal) {
        let mut lines = std::mem::take(&mut self.lines);
        if self.header_lines == Header::LINES {
            lines.flush(why, |line, why| self.log(line, why, journal));
        } else {
            // PID 1 may write the header and its child go on: an incomplete header stays.
            self.lines = lines;
        }
    }

    fn log(&self, line: &[u8], why: Break, journal: &mut Journal) {
        let (level, text) = if self.header.level_prefix { take_level(line) } else { (None, line) };
        let text = text.trim_ascii_end();
        if text.is_empty() {
            return;
        }
        let given = self.header.priority;
        let facility = (given >> 3).to_string();
        let broken: &[u8] = match why {
            Break::End => b"",
            Break::TooLong => b"line-max",
            Break::Closed => b"eof",
            Break::PidChange => b"pid-change",
        };
        let identifier = &*self.header.identifier;
        let fields = gather(&[
            ("MESSAGE", Some(text)),
            ("PRIORITY", Some(digit(level.unwrap_or(given)))),
            ("SYSLOG_FACILITY", (given > 7).then_some(facility.as_bytes())),
            ("SYSLOG_IDENTIFIER", (!identifier.is_empty()).then_some(identifier)),
            ("_LINE_BREAK", (!broken.is_empty()).then_some(broken)),
        ]);
        // Root alone (PID 1) may say which unit it is.
        let unit = Some(&*self.header.unit).filter(|unit| self.peer.uid == 0 && !unit.is_empty());
        let origin = Origin { transport: "stdout", pid: Some(self.writer), uid: Some(self.peer.uid), unit };
        journal.accept(origin, &fields);
    }
}
