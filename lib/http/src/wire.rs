//! A client's connection to its server: plain or TLS, every wait with a limit.

use crate::Error;
use crate::socket::Socket;
use crate::tls::Tls;
use minke_sys::{Context, Errno, clock};
use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// Bytes that one read takes.
const READ: usize = 8 * 1024;

/// A connected socket with the limits of its waits.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: Socket,
    /// How long one wait may take.
    silence: Cell<Option<Duration>>,
    /// The time since boot at which all must be over.
    until: Option<Duration>,
}

impl Wire {
    pub(crate) fn new(
        socket: Socket,
        silence: Option<Duration>,
        until: Option<Duration>,
    ) -> minke_sys::Result<Self> {
        socket.set_timeout(silence)?;
        Ok(Self { socket, silence: Cell::new(silence), until })
    }

    /// Connects for at most `limit`.
    pub(crate) fn tcp(
        address: SocketAddr,
        limit: Duration,
        until: Option<Duration>,
    ) -> minke_sys::Result<Self> {
        Self::new(Socket::Tcp(minke_sys::tcp::connect_within(address, limit)?), Some(limit), until)
    }

    pub(crate) fn set_silence(&self, silence: Option<Duration>) -> minke_sys::Result<()> {
        self.silence.set(silence);
        self.socket.set_timeout(silence)
    }

    /// Shortens the next wait to what is left of the whole time.
    fn prepare(&self) -> std::io::Result<()> {
        let Some(until) = self.until else { return Ok(()) };
        let left = until.saturating_sub(clock::boottime());
        if left.is_zero() {
            return Err(Errno::TIMEDOUT.into());
        }
        let wait = self.silence.get().map_or(left, |silence| silence.min(left));
        self.socket.set_timeout(Some(wait)).map_err(Into::into)
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            self.prepare()?;
            match self.socket.read_some(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Write for Wire {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.prepare()?;
        self.socket.write_some(data)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) enum Link {
    Plain(Wire),
    Tls(Box<Tls>),
}

impl Link {
    pub(crate) fn wire(&self) -> &Wire {
        match self {
            Self::Plain(wire) => wire,
            Self::Tls(tls) => &tls.wire,
        }
    }

    pub(crate) fn into_wire(self) -> Wire {
        match self {
            Self::Plain(wire) => wire,
            Self::Tls(tls) => tls.wire,
        }
    }

    pub(crate) fn write_all(&mut self, data: &[u8]) -> Result<(), Error> {
        match self {
            Self::Plain(wire) => Ok(wire.write_all(data).context("send to", "the server")?),
            Self::Tls(tls) => tls.write_all(data),
        }
    }

    /// Appends what has come, at least a byte. `false`: the connection has ended.
    pub(crate) fn read_into(&mut self, input: &mut Vec<u8>) -> Result<bool, Error> {
        match self {
            Self::Plain(wire) => Ok(append(wire, input)?),
            Self::Tls(tls) => tls.read_into(input),
        }
    }
}

/// Reads once into the end of `input`. `false`: the connection has ended.
pub(crate) fn append(wire: &mut Wire, input: &mut Vec<u8>) -> minke_sys::Result<bool> {
    let length = input.len();
    input.resize(length.saturating_add(READ), 0);
    let result = wire.read(input.get_mut(length..).unwrap_or_default());
    input.truncate(length.saturating_add(*result.as_ref().unwrap_or(&0)));
    Ok(result.context("wait for", "the server")? > 0)
}
