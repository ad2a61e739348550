//! A stream socket of either family.

use crate::Error;
use minke_sys::Context;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What a call on a non-blocking socket gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// This many bytes.
    Bytes(usize),
    /// None: it would block.
    Blocked,
    /// None ever again: the end of the stream, or an error.
    End,
}

impl Socket {
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Moved {
        moved(match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        })
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> Moved {
        moved(match self {
            Self::Tcp(stream) => stream.write(data),
            Self::Unix(stream) => stream.write(data),
        })
    }

    /// For blocking sockets, as is std's habit.
    pub(crate) fn read_some(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }

    /// For blocking sockets, as is std's habit.
    pub(crate) fn write_some(&mut self, data: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(data),
            Self::Unix(stream) => stream.write(data),
        }
    }

    /// Sets how long a blocking read or write may take.
    pub(crate) fn set_timeout(&self, timeout: Option<Duration>) -> minke_sys::Result<()> {
        match self {
            Self::Tcp(stream) => {
                stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout))
            }
            Self::Unix(stream) => {
                stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout))
            }
        }
        .context("set time-out of", "socket")
    }

    pub(crate) fn shutdown_write(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// Whether the kernel reports a full close of the peer apart from a half close.
    pub(crate) fn tells_full_close(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

fn moved(result: std::io::Result<usize>) -> Moved {
    match result {
        Ok(0) => Moved::End,
        Ok(count) => Moved::Bytes(count),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Moved::Blocked
        }
        Err(_) => Moved::End,
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        match socket {
            Socket::Tcp(stream) => stream.into(),
            Socket::Unix(stream) => stream.into(),
        }
    }
}

/// Finds out, within two minutes, that the peer of a streamed answer has vanished without a word.
fn keep_alive(stream: &TcpStream) {
    use rustix::net::sockopt;
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(60));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(15));
    let _ = sockopt::set_tcp_keepcnt(stream, 4);
}

#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What accept(2) gave.
pub(crate) enum Accepted {
    /// A connection, non-blocking.
    Socket(Socket),
    /// None is waiting, or the one that was went away.
    None,
    /// The process or the machine has no descriptor or memory left: pause.
    Exhausted,
}

impl Listener {
    pub(crate) fn tcp(address: SocketAddr) -> Result<Self, Error> {
        Ok(Self::Tcp(minke_sys::batch::bind_tcp(address)?))
    }

    /// A socket file that an earlier run left is replaced. Until its mode is set nobody but root can
    /// connect, as that takes write permission and the umask of a service leaves none to others.
    pub(crate) fn unix(path: &Path, mode: u32, gid: Option<u32>) -> Result<Self, Error> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).on("remove", path)?,
            _ => {}
        }
        let bound = UnixListener::bind(path).on("listen on", path)?;
        minke_sys::channel::set_nonblocking(&bound, true)?;
        if gid.is_some() {
            std::os::unix::fs::chown(path, None, gid).on("chown", path)?;
        }
        minke_sys::file::set_mode(path, mode)?;
        Ok(Self::Unix(bound))
    }

    pub(crate) fn accept(&self) -> Accepted {
        let accepted = match self {
            Self::Tcp(listener) => minke_sys::channel::accept(listener).map(|stream| {
                let stream = TcpStream::from(stream);
                // Answers are written whole; waiting for more would only delay them.
                let _ = stream.set_nodelay(true);
                keep_alive(&stream);
                let _ = minke_sys::channel::set_nonblocking(&stream, true);
                Socket::Tcp(stream)
            }),
            Self::Unix(listener) => minke_sys::channel::accept(listener).map(|stream| {
                let _ = minke_sys::channel::set_nonblocking(&stream, true);
                Socket::Unix(stream.into())
            }),
        };
        // accept(2): these say that the resource is short, and the connection stays in the queue.
        const SHORT: [minke_sys::Errno; 4] = [
            minke_sys::Errno::MFILE,
            minke_sys::Errno::NFILE,
            minke_sys::Errno::NOBUFS,
            minke_sys::Errno::NOMEM,
        ];
        match accepted {
            Ok(socket) => Accepted::Socket(socket),
            Err(error) if SHORT.contains(&error) => Accepted::Exhausted,
            Err(_) => Accepted::None,
        }
    }

    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        }
    }
}
