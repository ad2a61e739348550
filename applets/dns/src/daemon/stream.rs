//! A connection that carries messages, each after its length in two bytes (RFC 1035 §4.2.2, RFC 7766 §8), bare or in TLS.

use minke_http::Channel;
use minke_sys::event::Interest;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};

/// What one read takes.
const READ: usize = 4096;
/// How many reads in a row one connection has, so that none holds the loop.
const TURNS: usize = 16;

/// Why a connection is over.
#[derive(Debug)]
pub(crate) enum End {
    /// The peer has ended it.
    Closed,
    /// It broke, or was never made; the kernel's number.
    Broken(i32),
    /// The peer sends what it must not.
    Abuse,
    /// There is no proper TLS with the peer, for this reason.
    Tls(Box<minke_http::Error>),
}

/// A connection that does not block.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: TcpStream,
    tls: Option<Box<Channel>>,
    /// What has come and is no whole message yet.
    input: Vec<u8>,
    /// What is to be sent; with TLS the channel has it.
    output: Vec<u8>,
    /// The longest message that is taken.
    longest: usize,
}

impl Stream {
    /// A connection, or one that is being made, whose messages are at most `longest` bytes.
    pub(crate) fn new(socket: TcpStream, tls: Option<Box<Channel>>, longest: usize) -> Self {
        // Messages are written whole; waiting for more would only delay them.
        let _ = socket.set_nodelay(true);
        Self { socket, tls, input: Vec::new(), output: Vec::new(), longest }
    }

    /// Reads what is there.
    pub(crate) fn read(&mut self) -> Result<(), End> {
        let mut buffer = [0; READ];
        for _ in 0..TURNS {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => {
                    self.take(buffer.get(..count).unwrap_or_default())?;
                    if count < READ {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(End::Broken(error.raw_os_error().unwrap_or(0))),
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), End> {
        match &mut self.tls {
            None => self.input.extend_from_slice(bytes),
            Some(tls) => match tls.advance(bytes, &mut self.input) {
                Ok(true) => {}
                Ok(false) => return Err(End::Closed),
                Err(error) => return Err(End::Tls(Box::new(error))),
            },
        }
        Ok(())
    }

    /// The next whole message.
    pub(crate) fn message(&mut self) -> Result<Option<Vec<u8>>, End> {
        let Some(length) = self.input.first_chunk().map(|bytes| usize::from(u16::from_be_bytes(*bytes)))
        else {
            return Ok(None);
        };
        if length > self.longest || length == 0 {
            return Err(End::Abuse);
        }
        let end = length.saturating_add(2);
        let Some(message) = self.input.get(2..end).map(<[u8]>::to_vec) else { return Ok(None) };
        self.input.drain(..end);
        if self.input.is_empty() {
            self.input = Vec::new();
        }
        Ok(Some(message))
    }

    /// Queues a message.
    pub(crate) fn send(&mut self, message: &[u8]) -> Result<(), End> {
        let Ok(length) = u16::try_from(message.len()) else { return Ok(()) };
        match &mut self.tls {
            None => {
                self.output.extend_from_slice(&length.to_be_bytes());
                self.output.extend_from_slice(message);
                Ok(())
            }
            Some(tls) => {
                // In one record: its length tells as little as can be.
                let mut framed = length.to_be_bytes().to_vec();
                framed.extend_from_slice(message);
                tls.send(&framed).map_err(|error| End::Tls(Box::new(error)))
            }
        }
    }

    /// Writes what can be written without waiting.
    pub(crate) fn flush(&mut self) -> Result<(), End> {
        let output = match &mut self.tls {
            None => &mut self.output,
            Some(tls) => tls.outgoing(),
        };
        while !output.is_empty() {
            match self.socket.write(output) {
                Ok(count) => drop(output.drain(..count.min(output.len()))),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(End::Broken(error.raw_os_error().unwrap_or(0))),
            }
        }
        if output.capacity() > READ {
            *output = Vec::new();
        }
        Ok(())
    }

    /// How many bytes wait to be sent.
    pub(crate) fn queued(&self) -> usize {
        match &self.tls {
            None => self.output.len(),
            Some(tls) => tls.queued(),
        }
    }

    /// What is waited for.
    pub(crate) fn interest(&self) -> Interest {
        if self.queued() == 0 { Interest::Read } else { Interest::Both }
    }

    /// Whether a message has begun to come.
    pub(crate) fn has_begun(&self) -> bool {
        !self.input.is_empty()
    }

    /// Whether questions go out at once: the TLS handshake, if there is one, is complete.
    pub(crate) fn is_ready(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| tls.is_ready())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Stream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        (Stream::new(socket, None, 512), peer)
    }

    /// Reads until something has come.
    fn read(stream: &mut Stream) -> Result<(), End> {
        let poller = minke_sys::event::Poller::new().unwrap();
        poller.add(&*stream, 0, Interest::Read).unwrap();
        poller.wait(&mut Vec::new(), Some(std::time::Duration::from_secs(10))).unwrap();
        stream.read()
    }

    #[test]
    fn messages_are_told_apart_however_they_come() {
        let (mut stream, mut peer) = pair();
        peer.write_all(b"\0\x03abc\0\x02de\0").unwrap();
        read(&mut stream).unwrap();
        assert_eq!(stream.message().unwrap().unwrap(), b"abc");
        assert_eq!(stream.message().unwrap().unwrap(), b"de");
        assert!(stream.message().unwrap().is_none());
        assert!(stream.has_begun());
        peer.write_all(b"\x01").unwrap();
        read(&mut stream).unwrap();
        assert!(stream.message().unwrap().is_none());
        peer.write_all(b"f").unwrap();
        read(&mut stream).unwrap();
        assert_eq!(stream.message().unwrap().unwrap(), b"f");
        assert!(!stream.has_begun());
        drop(peer);
        assert!(matches!(read(&mut stream), Err(End::Closed)));
    }

    #[test]
    fn what_is_too_long_or_nothing_is_abuse() {
        for length in [[0x02, 0x01], [0, 0]] {
            let (mut stream, mut peer) = pair();
            peer.write_all(&length).unwrap();
            read(&mut stream).unwrap();
            assert!(matches!(stream.message(), Err(End::Abuse)));
        }
    }

    #[test]
    fn a_peer_that_does_not_read_blocks_nothing() {
        let (mut stream, mut peer) = pair();
        let message = vec![7; 60_000];
        while stream.queued() == 0 {
            stream.send(&message).unwrap();
            stream.flush().unwrap();
        }
        assert_eq!(stream.interest(), Interest::Both);
        let mut begin = [0; 3];
        peer.read_exact(&mut begin).unwrap();
        assert_eq!(begin, [0xea, 0x60, 7]);
        drop(peer);
        let ended = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            stream.flush().is_err()
        });
        assert!(ended);
    }
}
