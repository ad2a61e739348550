//! A TLS session without a socket, for an event loop: bytes in, bytes out.

use crate::Error;
use crate::tls::{MOST_WAITING, Machine, Turn};
use crate::trust::{Trust, Verifier};
use std::time::Duration;

/// A client's session. The caller moves the bytes between it and the socket.
pub struct Channel {
    machine: Machine,
    /// Data that waits for the end of the handshake.
    waiting: Vec<u8>,
    ready: bool,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Channel")
    }
}

impl Channel {
    /// A session with the server of this name or address. `trust` says who may have issued its certificate, at `clock`, a
    /// time since 1970; without it every certificate is taken (RFC 8310 §5, opportunistic). [`Channel::outgoing`] has the
    /// first words of the handshake then.
    pub fn new(host: &str, trust: Option<Trust>, clock: Duration) -> Result<Self, Error> {
        let machine = Machine::new(host, Verifier(trust), clock, None)?;
        let mut channel = Self { machine, waiting: Vec::new(), ready: false };
        channel.advance(&[], &mut Vec::new())?;
        Ok(channel)
    }

    /// Takes what has come from the socket, and appends to `input` what it says. `false`: the server has ended the session.
    pub fn advance(&mut self, received: &[u8], input: &mut Vec<u8>) -> Result<bool, Error> {
        self.machine.incoming.extend_from_slice(received);
        self.work(input)
    }

    /// Sends data, or keeps it until the handshake is complete.
    pub fn send(&mut self, data: &[u8]) -> Result<(), Error> {
        self.waiting.extend_from_slice(data);
        if self.ready {
            // Nothing has come, and so nothing can be read.
            self.work(&mut Vec::new())?;
        }
        Ok(())
    }

    /// What is to be written to the socket; the caller takes off what was written.
    pub fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.machine.outgoing
    }

    /// How many bytes are to be written to the socket.
    pub fn queued(&self) -> usize {
        self.machine.outgoing.len()
    }

    /// Whether the handshake is complete.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    fn work(&mut self, input: &mut Vec<u8>) -> Result<bool, Error> {
        loop {
            let waiting = std::mem::take(&mut self.waiting);
            let mut rest = waiting.as_slice();
            let turn = self.machine.turn(&mut rest, Some(input), &mut false);
            self.waiting = rest.to_vec();
            match turn? {
                Turn::Again => {}
                Turn::Ended => return Ok(false),
                Turn::Ready if !self.waiting.is_empty() => self.ready = true,
                turn => {
                    self.ready |= matches!(turn, Turn::Ready);
                    if self.machine.incoming.len() > MOST_WAITING {
                        return Err(Error::Protocol("a TLS record too large"));
                    }
                    return Ok(true);
                }
            }
        }
    }
}
