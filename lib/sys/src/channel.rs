//! Message channels over Unix sockets of type SOCK_SEQPACKET, which keep message boundaries and pass file
//! descriptors: unix(7).

use crate::path::name;
use crate::{Context, Result};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// The longest message.
pub const MESSAGE_LIMIT: usize = 64 * 1024;
/// How many descriptors one message carries at most.
const FD_LIMIT: usize = 4;

/// One end of a channel.
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
}

/// What arrived on a channel.
#[derive(Debug)]
pub enum Received {
    /// A message and the descriptors that came with it.
    Message(Vec<u8>, Vec<OwnedFd>),
    /// Nothing at the moment; the channel does not block.
    Nothing,
    /// The peer is gone.
    Closed,
}

impl Channel {
    /// Two connected ends.
    pub fn pair() -> Result<(Self, Self)> {
        let (one, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .context("create", "socket pair")?;
        Ok((Self { fd: one }, Self { fd: other }))
    }

    /// A channel from a descriptor that was inherited.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// The descriptor itself.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Connects to a listening channel.
    pub fn connect(path: &Path) -> Result<Self> {
        let fd = socket().on("connect to", path)?;
        let address = SocketAddrUnix::new(name(path)).on("connect to", path)?;
        rustix::net::connect(&fd, &address).on("connect to", path)?;
        Ok(Self { fd })
    }

    /// Makes reads and writes return at once.
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<()> {
        set_nonblocking(&self.fd, nonblocking)
    }

    /// Sends one message with descriptors; `EPIPE` when the peer is gone, `EMSGSIZE` beyond [`MESSAGE_LIMIT`].
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        if message.len() > MESSAGE_LIMIT {
            return Err(Errno::MSGSIZE).context("send on", "channel");
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FD_LIMIT))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::INVAL).context("send on", "channel");
        }
        loop {
            let flags = SendFlags::NOSIGNAL;
            match rustix::net::sendmsg(&self.fd, &[IoSlice::new(message)], &mut control, flags) {
                Err(Errno::INTR) => {}
                other => return other.context("send on", "channel").map(|_| ()),
            }
        }
    }

    /// Takes one message.
    pub fn receive(&self) -> Result<Received> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FD_LIMIT))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut message = vec![0u8; MESSAGE_LIMIT];
        let count = loop {
            let mut slices = [IoSliceMut::new(&mut message)];
            match rustix::net::recvmsg(&self.fd, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) => break received.bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                Err(Errno::CONNRESET) => return Ok(Received::Closed),
                Err(errno) => return Err(errno).context("receive on", "channel"),
            }
        };
        let mut fds = Vec::new();
        for part in control.drain() {
            if let RecvAncillaryMessage::ScmRights(passed) = part {
                fds.extend(passed);
            }
        }
        // SEQPACKET has no empty messages here: nobody sends one, and an end reads as one.
        if count == 0 {
            return Ok(Received::Closed);
        }
        message.truncate(count);
        Ok(Received::Message(message, fds))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes reads and writes of an open file return at once instead of waiting. It belongs to the open file and
/// so to all its descriptors.
pub fn set_nonblocking(fd: impl AsFd, nonblocking: bool) -> Result<()> {
    rustix::io::ioctl_fionbio(fd, nonblocking).context("set", "non-blocking mode")
}

/// The next connection of a listening socket, blocking and closed on exec; `EAGAIN` when the socket does not block and nobody
/// waits. std's way is 900 bytes larger on ARMv6.
pub fn accept(listener: impl AsFd) -> std::result::Result<OwnedFd, Errno> {
    rustix::net::accept_with(listener, SocketFlags::CLOEXEC)
}

/// A socket file where channels are accepted; it does not block.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
}

impl Listener {
    /// Listens on `path`, for its owner only. What stands there is removed.
    pub fn bind(path: &Path) -> Result<Self> {
        let _ = std::fs::remove_file(path);
        let fd = socket().on("listen on", path)?;
        let address = SocketAddrUnix::new(name(path)).on("listen on", path)?;
        rustix::net::bind(&fd, &address).on("listen on", path)?;
        rustix::fs::chmod(name(path), rustix::fs::Mode::from_raw_mode(0o600)).on("set mode of", path)?;
        rustix::net::listen(&fd, 4).on("listen on", path)?;
        rustix::io::ioctl_fionbio(&fd, true).on("listen on", path)?;
        Ok(Self { fd })
    }

    /// The next connection, if there is one.
    pub fn accept(&self) -> Option<Channel> {
        accept(&self.fd).ok().map(|fd| Channel { fd })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn socket() -> std::result::Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn messages_keep_their_boundaries_and_carry_descriptors() {
        let (one, other) = Channel::pair().unwrap();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        one.send(b"first", &[]).unwrap();
        one.send(b"second", &[writer.as_fd()]).unwrap();
        drop(writer);
        assert!(
            matches!(other.receive().unwrap(), Received::Message(text, fds) if text == b"first" && fds.is_empty())
        );
        let Received::Message(text, mut fds) = other.receive().unwrap() else { panic!("no message") };
        assert_eq!((text.as_slice(), fds.len()), (b"second".as_slice(), 1));
        std::fs::File::from(fds.remove(0)).write_all(b"x").unwrap();
        let mut byte = [0];
        std::fs::File::from(reader).read_exact(&mut byte).unwrap();
        drop(one);
        assert!(matches!(other.receive().unwrap(), Received::Closed));
    }

    #[test]
    fn a_listener_accepts_and_replaces_a_stale_socket_file() {
        let path = std::env::temp_dir().join(format!("minke-channel-{}", std::process::id()));
        drop(Listener::bind(&path).unwrap());
        // A child that another test starts right now holds a copy of the listener until it executes.
        for _ in 0..100 {
            if Channel::connect(&path).is_err() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        assert!(Channel::connect(&path).is_err());
        let listener = Listener::bind(&path).unwrap();
        assert!(listener.accept().is_none());
        let client = Channel::connect(&path).unwrap();
        let server = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        assert!(matches!(server.receive().unwrap(), Received::Nothing));
        client.send(b"hello", &[]).unwrap();
        assert!(matches!(server.receive().unwrap(), Received::Message(..)));
        std::fs::remove_file(path).unwrap();
    }
}
