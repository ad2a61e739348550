//! UDP sockets whose datagrams carry the time at which the kernel received or sent them
//! (Documentation/networking/timestamping.rst), on `CLOCK_REALTIME`.

use crate::datagram::{each_message, read_time};
use crate::message::{self, Taken};
use crate::{Context, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `SO_TIMESTAMPING_NEW` and its control message: with 64-bit times on every architecture.
const SO_TIMESTAMPING_NEW: i32 = 65;
/// Send and receive times of the network stack, and of what was sent the time alone without the datagram.
const FLAGS: u32 = libc::SOF_TIMESTAMPING_TX_SOFTWARE
    | libc::SOF_TIMESTAMPING_RX_SOFTWARE
    | libc::SOF_TIMESTAMPING_SOFTWARE
    | libc::SOF_TIMESTAMPING_OPT_TSONLY;
/// Bytes for the control messages of one datagram: three times and an extended error, with their headers.
const CONTROL: usize = 256;

/// A connected socket that does not block. The kernel chooses its port at random.
#[derive(Debug)]
pub struct Stamped {
    fd: OwnedFd,
}

/// A datagram that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its bytes in the buffer.
    pub length: usize,
    /// When it arrived, in nanoseconds since 1970; `None` when the kernel does not say.
    pub time: Option<i64>,
}

impl Stamped {
    /// A socket that exchanges datagrams with `peer` alone.
    pub fn connect(peer: SocketAddr) -> Result<Self> {
        let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(family, SocketType::DGRAM, flags, None).context("ask", peer)?;
        // A kernel without it leaves the times out.
        stamp(&fd);
        rustix::net::connect(&fd, &peer).context("ask", peer)?;
        Ok(Self { fd })
    }

    /// Sends one datagram.
    pub fn send(&self, bytes: &[u8]) -> Result<()> {
        rustix::net::send(&self.fd, bytes, rustix::net::SendFlags::NOSIGNAL)
            .context("send to", "time server")
            .map(|_| ())
    }

    /// When a datagram was sent, in nanoseconds since 1970: once for each, and only after the driver took it, which is
    /// mostly before `send` returns. Else the socket reports an error to the event loop when it is known.
    pub fn sent(&self) -> Option<i64> {
        receive(self.fd.as_fd(), &mut [0; 1], libc::MSG_ERRQUEUE).ok().flatten().and_then(|one| one.time)
    }

    /// Takes a datagram that arrived. `None`: there is none. Errors are those that the peer's host or a router reported.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<Arrival>> {
        receive(self.fd.as_fd(), buffer, 0).context("ask", "time server")
    }
}

impl AsFd for Stamped {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Makes the kernel stamp the datagrams of any socket; `false` when it cannot.
pub fn stamp(socket: impl AsFd) -> bool {
    let (value, size) = ((&raw const FLAGS_VALUE).cast(), 4);
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the value is a static of that size, which the kernel copies within the call.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, SO_TIMESTAMPING_NEW, value, size) == 0 }
}

static FLAGS_VALUE: u32 = FLAGS;

fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: i32) -> std::result::Result<Option<Arrival>, Errno> {
    let mut control = [0u64; CONTROL / 8];
    let Some(Taken { length, used, .. }) =
        message::receive(fd.as_raw_fd(), &mut [], buffer, &mut control, flags)?
    else {
        return Ok(None);
    };
    let bytes = control.map(u64::to_ne_bytes);
    let time = time_of(bytes.as_flattened().get(..used).unwrap_or_default());
    Ok(Some(Arrival { length, time }))
}

/// The software time in these control messages (cmsg(3)): of three times the first is the network stack's.
pub fn time_of(bytes: &[u8]) -> Option<i64> {
    let mut time = None;
    each_message(bytes, &mut |level, kind, data| {
        if (level, kind) == (libc::SOL_SOCKET, SO_TIMESTAMPING_NEW) {
            time = read_time(data).filter(|time| *time != 0);
        }
    });
    time
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn datagrams_are_stamped_on_their_way_out_and_in() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let now = || i64::try_from(crate::clock::realtime().as_nanos()).unwrap();
        let client = Stamped::connect(server.local_addr().unwrap()).unwrap();
        let begin = now();
        client.send(b"question").unwrap();
        let mut buffer = [0; 100];
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        let sent = client.sent();
        let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
        stranger.send_to(b"lie", from).unwrap();
        // The kernel begins to stamp what arrives some time after it was asked to.
        let arrival = (0..1000).find_map(|_| {
            server.send_to(b"answer", from).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(10));
            let arrival = crate::soon(|| client.receive(&mut buffer).unwrap());
            assert_eq!(&buffer[..arrival.length], b"answer", "a stranger's datagram does not arrive");
            arrival.time.is_some().then_some(arrival)
        });
        let arrival = arrival.unwrap();
        for time in [sent, arrival.time].into_iter().flatten() {
            assert!((begin..=now()).contains(&time), "{begin} {time}");
        }
        assert_eq!(client.receive(&mut buffer).unwrap(), None);
    }

    #[test]
    fn a_closed_port_is_reported() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = Stamped::connect(server.local_addr().unwrap()).unwrap();
        drop(server);
        // A child that another test starts right now holds a copy of it until it executes.
        let error = crate::soon(|| client.send(b"x").and_then(|()| client.receive(&mut [0; 10])).err());
        assert_eq!(error.errno, Errno::CONNREFUSED);
    }

    #[test]
    fn broken_control_messages_have_no_time() {
        let mut bytes = [0u8; 64];
        for length in [0usize, 1, 15, 16, 20, 65, usize::MAX] {
            bytes[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(time_of(&bytes), None);
        }
        assert_eq!(time_of(&[]), None);
    }
}
