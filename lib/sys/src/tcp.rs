//! TCP connections that do not block while they are made: connect(2) with EINPROGRESS.

use crate::{Context, Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::time::Timespec;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Starts a connection and returns at once; the stream becomes writable when it stands or failed (a read or
/// write then says which). It does not block afterwards either.
pub fn connect(address: SocketAddr) -> Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd =
        rustix::net::socket_with(family, SocketType::STREAM, flags, None).context("connect to", address)?;
    match rustix::net::connect(&fd, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(TcpStream::from(fd)),
        Err(errno) => Err(errno).context("connect to", address),
    }
}

/// Makes a connection, for at most `limit`; the stream blocks.
pub fn connect_within(address: SocketAddr, limit: Duration) -> Result<TcpStream> {
    let failed = |errno| Error::new("connect to", address, errno);
    let stream = connect(address)?;
    let limit = Timespec::try_from(limit).map_err(|_| failed(Errno::INVAL))?;
    let mut ready = [PollFd::new(&stream, PollFlags::OUT)];
    if poll(&mut ready, Some(&limit)).map_err(failed)? == 0 {
        return Err(failed(Errno::TIMEDOUT));
    }
    sockopt::socket_error(&stream).and_then(|result| result).map_err(failed)?;
    crate::channel::set_nonblocking(&stream, false)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_connection_is_made_in_the_background() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = connect(listener.local_addr().unwrap()).unwrap();
        listener.accept().unwrap();
        stream.write_all(b"x").unwrap();
    }

    #[test]
    fn a_connection_is_waited_for() {
        let second = Duration::from_secs(1);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        connect_within(address, second).unwrap().write_all(b"x").unwrap();
        drop(listener);
        // A child that another test starts right now holds a copy of it until it executes.
        let error = crate::soon(|| connect_within(address, second).err());
        assert_eq!(error.errno, Errno::CONNREFUSED);
    }
}
