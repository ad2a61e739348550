//! Many datagrams in one system call, for a server that answers each at once: recvmmsg(2) and sendmmsg(2).

use crate::datagram::{
    ADDRESS, HEAD, each_message, last_errno, read_address, set, set_to, write_address, write_source,
};
use crate::{Context, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Datagrams of one call.
pub const BATCH: usize = 16;
/// Words for the control message of one datagram: an address with its header.
const CONTROL: usize = 6;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// `IP_PMTUDISC_PROBE` and its twin of IPv6: nothing is cut up on the way, whatever somebody says of the path.
static PROBE: i32 = 3;

/// A UDP socket of a server at an address, which this machine need not have yet (ip(7), `IP_FREEBIND`). It does not block,
/// answers leave from the address that was asked, and they go in one piece (RFC 9715 §3.1).
pub fn listen_udp(address: SocketAddr) -> Result<OwnedFd> {
    let fd = bound(address, SocketType::DGRAM, Kind::Alone).context("listen on UDP", address)?;
    let (level, tell, whole) = match address {
        SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO, libc::IP_MTU_DISCOVER),
        SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, libc::IPV6_MTU_DISCOVER),
    };
    // A kernel without it cuts long ones up.
    let _ = set_to(fd.as_fd(), level, whole, &PROBE);
    if address.ip().is_unspecified() {
        set(fd.as_fd(), level, tell).context("listen on UDP", address)?;
    }
    Ok(fd)
}

/// A TCP listener at an address, as [`listen_udp`].
pub fn listen_tcp(address: SocketAddr) -> Result<TcpListener> {
    bind_stream(address, Kind::Alone).context("listen on TCP", address)
}

/// A TCP listener at an address of this machine, or at all of them, those of IPv4 as well. It does not block.
pub fn bind_tcp(address: SocketAddr) -> Result<TcpListener> {
    bind_stream(address, Kind::Usual).context("listen on", address)
}

/// A UDP socket at such an address. It does not block.
pub fn bind_udp(address: SocketAddr) -> Result<UdpSocket> {
    bound(address, SocketType::DGRAM, Kind::Usual).map(UdpSocket::from).context("listen on", address)
}

fn bind_stream(address: SocketAddr, kind: Kind) -> std::result::Result<TcpListener, Errno> {
    let fd = bound(address, SocketType::STREAM, kind)?;
    rustix::net::listen(&fd, BACKLOG)?;
    Ok(fd.into())
}

/// What an address stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// For itself alone, whether this machine has it or not.
    Alone,
    /// For what the kernel makes of it.
    Usual,
}

/// A UDP socket that exchanges datagrams with `peer` alone, from a port that the kernel chooses at random. It does not
/// block.
pub fn ask_udp(peer: SocketAddr) -> Result<UdpSocket> {
    let family = if peer.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, SocketType::DGRAM, flags, None).context("ask", peer)?;
    rustix::net::connect(&fd, &peer).context("ask", peer)?;
    Ok(fd.into())
}

fn bound(address: SocketAddr, socket: SocketType, kind: Kind) -> std::result::Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, socket, flags, None)?;
    if kind == Kind::Alone {
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true)?;
        }
        // Of IPv6 sockets as well.
        set(fd.as_fd(), libc::IPPROTO_IP, libc::IP_FREEBIND)?;
    }
    if socket == SocketType::STREAM {
        // Connections of an earlier process that end by and by are no obstacle.
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    rustix::net::bind(&fd, &address)?;
    Ok(fd)
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    name: [u8; ADDRESS],
    control: [u64; CONTROL],
    used: usize,
    length: usize,
}

const EMPTY: Slot = Slot { name: [0; ADDRESS], control: [0; CONTROL], used: 0, length: 0 };

/// Room for datagrams that arrive. Its pages are touched when datagrams come.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    room: usize,
    slots: Box<[Slot; BATCH]>,
}

/// A datagram in an [`Inbox`].
#[derive(Debug, Clone, Copy)]
pub struct Datagram<'a> {
    /// What it says.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub from: SocketAddr,
    /// This machine's address that it was sent to, if the socket is at all of them.
    pub to: Option<IpAddr>,
}

impl Inbox {
    /// Room for datagrams of at most `room` bytes; longer ones are passed over.
    pub fn new(room: usize) -> Self {
        Self {
            bytes: vec![0; room.saturating_mul(BATCH)],
            room: room.max(1),
            slots: Box::new([EMPTY; BATCH]),
        }
    }

    /// Takes what has arrived at `socket`, at most [`BATCH`] datagrams, and says how many. It does not wait.
    pub fn receive(&mut self, socket: impl AsFd) -> Result<usize> {
        self.take(socket.as_fd()).context("receive from", "clients")
    }

    fn take(&mut self, socket: BorrowedFd<'_>) -> std::result::Result<usize, Errno> {
        // SAFETY: vectors of zeros (null pointers, no lengths) are valid.
        let mut parts: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: `mmsghdr`s of zeros are valid as well.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let rooms = self.bytes.chunks_exact_mut(self.room);
        for (((message, part), slot), room) in
            messages.iter_mut().zip(&mut parts).zip(self.slots.iter_mut()).zip(rooms)
        {
            part.iov_base = room.as_mut_ptr().cast();
            part.iov_len = room.len();
            message.msg_hdr.msg_name = slot.name.as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = ADDRESS as libc::socklen_t;
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            message.msg_hdr.msg_control = slot.control.as_mut_ptr().cast();
            // The type of this member differs between C libraries.
            message.msg_hdr.msg_controllen = size_of_val(&slot.control) as _;
        }
        let (fd, count, flags) = (socket.as_raw_fd(), BATCH, libc::MSG_DONTWAIT);
        let no_limit = std::ptr::null_mut::<libc::timespec>();
        let first = messages.as_mut_ptr();
        // The call itself: libc's converts times of 32 bits, which nobody asks for.
        // SAFETY: the pointers lead to `parts`, and to names, control messages and rooms with their lengths, all ours.
        let taken = unsafe { libc::syscall(libc::SYS_recvmmsg, fd, first, count, flags, no_limit) };
        let Ok(taken) = usize::try_from(taken) else {
            let errno = last_errno();
            return if matches!(errno, Errno::AGAIN | Errno::INTR) { Ok(0) } else { Err(errno) };
        };
        for (slot, message) in self.slots.iter_mut().zip(&messages).take(taken) {
            let whole = message.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            slot.length = if whole { usize::try_from(message.msg_len).unwrap_or(0) } else { 0 };
            #[allow(clippy::unnecessary_cast)]
            let used = message.msg_hdr.msg_controllen as usize;
            slot.used = used.min(size_of_val(&slot.control));
        }
        Ok(taken.min(BATCH))
    }

    /// The datagram at `place`, counted from 0; `None` for one that was too long or of an unknown kind.
    pub fn get(&self, place: usize) -> Option<Datagram<'_>> {
        let slot = self.slots.get(place)?;
        let start = place.checked_mul(self.room)?;
        let bytes = self.bytes.get(start..)?.get(..slot.length)?;
        let from = read_address(&slot.name)?;
        let to = if slot.used > HEAD { read_destination(slot) } else { None };
        (!bytes.is_empty()).then_some(Datagram { bytes, from, to })
    }
}

#[inline(never)]
fn read_destination(slot: &Slot) -> Option<IpAddr> {
    let mut to = None;
    let bytes = slot.control.map(u64::to_ne_bytes);
    each_message(bytes.as_flattened().get(..slot.used).unwrap_or_default(), &mut |level, kind, data| {
        to = to.or(crate::datagram::destination(level, kind, data));
    });
    to
}

struct Letter {
    bytes: Vec<u8>,
    name: [u8; ADDRESS],
    name_length: libc::socklen_t,
    control: [u64; CONTROL],
    used: usize,
}

/// Datagrams that wait to be sent. What was written into is kept for the next ones, so that nothing is allocated in the
/// long run.
pub struct Outbox {
    letters: Vec<Letter>,
    count: usize,
    keep: usize,
    /// What is written while the box is full, and goes nowhere.
    spare: Vec<u8>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outbox")
    }
}

impl Outbox {
    /// An empty one. Buffers that grew beyond `keep` bytes are given back after use.
    pub fn new(keep: usize) -> Self {
        Self { letters: Vec::new(), count: 0, keep, spare: Vec::new() }
    }

    /// How many datagrams wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether no further one has room before [`Outbox::flush`].
    pub fn is_full(&self) -> bool {
        self.count >= BATCH
    }

    /// An empty buffer for the next datagram, which [`Outbox::push`] takes, or not.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.count >= self.letters.len() && !self.is_full() {
            self.letters.push(Letter {
                bytes: Vec::new(),
                name: [0; ADDRESS],
                name_length: 0,
                control: [0; CONTROL],
                used: 0,
            });
        }
        let bytes = match self.letters.get_mut(self.count) {
            Some(letter) => &mut letter.bytes,
            None => &mut self.spare,
        };
        bytes.clear();
        bytes
    }

    /// What is in the buffer of [`Outbox::buffer`] goes to `to`, from one of this machine's addresses or the socket's own.
    pub fn push(&mut self, to: SocketAddr, from: Option<IpAddr>) {
        let Some(letter) = self.letters.get_mut(self.count) else { return };
        (letter.name, letter.name_length) = write_address(to);
        letter.used = 0;
        if let Some(from) = from {
            let (control, used) = write_source(from, to);
            for (place, word) in letter.control.iter_mut().zip(control) {
                *place = word;
            }
            letter.used = used.min(size_of_val(&letter.control));
        }
        self.count = self.count.saturating_add(1);
    }

    /// Sends all that wait through `socket`, without waiting itself: what the kernel does not take is lost, as datagrams
    /// may be. The answer is how many were.
    pub fn flush(&mut self, socket: impl AsFd) -> usize {
        let fd = socket.as_fd();
        let (mut done, mut lost) = (0usize, 0usize);
        while done < self.count {
            match self.send(fd, done) {
                Ok(sent) => done = done.saturating_add(sent.max(1)),
                Err(Errno::INTR) => {}
                Err(_) => {
                    // The error is the first one's; the others may have another way.
                    done = done.saturating_add(1);
                    lost = lost.saturating_add(1);
                }
            }
        }
        for letter in self.letters.iter_mut().take(self.count) {
            if letter.bytes.capacity() > self.keep {
                letter.bytes = Vec::new();
            }
        }
        self.count = 0;
        lost
    }

    fn send(&mut self, socket: BorrowedFd<'_>, skip: usize) -> std::result::Result<usize, Errno> {
        // SAFETY: vectors of zeros (null pointers, no lengths) are valid.
        let mut parts: [libc::iovec; BATCH] = unsafe { std::mem::zeroed() };
        // SAFETY: `mmsghdr`s of zeros are valid as well.
        let mut messages: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        let letters = self.letters.iter_mut().take(self.count).skip(skip);
        let mut count = 0usize;
        for ((message, part), letter) in messages.iter_mut().zip(&mut parts).zip(letters) {
            part.iov_base = letter.bytes.as_mut_ptr().cast();
            part.iov_len = letter.bytes.len();
            message.msg_hdr.msg_name = letter.name.as_mut_ptr().cast();
            message.msg_hdr.msg_namelen = letter.name_length;
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            if letter.used > 0 {
                message.msg_hdr.msg_control = letter.control.as_mut_ptr().cast();
                message.msg_hdr.msg_controllen = letter.used as _;
            }
            count = count.saturating_add(1);
        }
        let (fd, flags) = (socket.as_raw_fd(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        let first = messages.as_mut_ptr();
        // SAFETY: the pointers of the first `count` lead to `parts` and to the letters, all ours and with their lengths.
        let sent = unsafe { libc::syscall(libc::SYS_sendmmsg, fd, first, count, flags) };
        usize::try_from(sent).map_err(|_| last_errno())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn address_of(socket: &OwnedFd) -> SocketAddr {
        UdpSocket::from(socket.try_clone().unwrap()).local_addr().unwrap()
    }

    fn client(server: SocketAddr) -> UdpSocket {
        let client = UdpSocket::bind(if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // Only what comes from there arrives.
        client.connect(server).unwrap();
        client
    }

    fn echo(listen: &str, ask: &str) {
        let socket = listen_udp(listen.parse().unwrap()).unwrap();
        let server = SocketAddr::new(ask.parse().unwrap(), address_of(&socket).port());
        let clients: Vec<UdpSocket> = (0..BATCH + 3).map(|_| client(server)).collect();
        for (number, client) in clients.iter().enumerate() {
            client.send(&vec![number as u8; number + 1]).unwrap();
        }
        let (mut inbox, mut outbox) = (Inbox::new(32), Outbox::new(64));
        let mut seen = 0;
        while seen < clients.len() {
            let count = crate::soon(|| Some(inbox.receive(&socket).unwrap()).filter(|count| *count > 0));
            for place in 0..count {
                let datagram = inbox.get(place).unwrap();
                assert_eq!(
                    datagram.to.is_some(),
                    listen.starts_with("0.0.0.0") || listen.starts_with("[::]")
                );
                assert!(!outbox.is_full());
                let out = outbox.buffer();
                out.extend_from_slice(datagram.bytes);
                out.push(0xff);
                outbox.push(datagram.from, datagram.to);
            }
            seen += count;
            assert_eq!(outbox.flush(&socket), 0);
            assert!(outbox.is_empty());
        }
        assert_eq!(inbox.receive(&socket).unwrap(), 0);
        let mut buffer = [0; 64];
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(client.recv(&mut buffer).unwrap(), number + 2);
            assert_eq!((buffer[0], buffer[number + 1]), (number as u8, 0xff));
        }
    }

    #[test]
    fn many_are_answered_at_once_from_the_address_that_was_asked() {
        echo("127.0.0.1:0", "127.0.0.1");
        echo("0.0.0.0:0", "127.1.2.3");
        if UdpSocket::bind("[::1]:0").is_ok() {
            echo("[::1]:0", "::1");
            echo("[::]:0", "::1");
        }
    }

    #[test]
    fn an_address_may_come_later_and_what_is_too_long_is_passed_over() {
        let later: SocketAddr = "192.0.2.77:0".parse().unwrap();
        listen_udp(later).unwrap();
        listen_tcp(later).unwrap();
        let socket = listen_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = client(address_of(&socket));
        let mut inbox = Inbox::new(32);
        for (sent, taken) in [(&[1; 40][..], None), (&[2; 32], Some([2; 32])), (&[], None)] {
            client.send(sent).unwrap();
            let count = crate::soon(|| Some(inbox.receive(&socket).unwrap()).filter(|count| *count > 0));
            assert_eq!(
                (count, inbox.get(0).map(|got| got.bytes)),
                (1, taken.as_ref().map(|bytes| &bytes[..]))
            );
        }
        assert!(inbox.get(99).is_none());
        assert_eq!(inbox.receive(&socket).unwrap(), 0);
    }

    #[test]
    fn one_that_cannot_be_sent_does_not_hold_the_others_up() {
        let socket = listen_udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = client(address_of(&socket));
        let mut outbox = Outbox::new(0);
        for to in ["127.0.0.1:0".parse().unwrap(), client.local_addr().unwrap(), "[::1]:9".parse().unwrap()] {
            outbox.buffer().extend_from_slice(b"answer");
            outbox.push(to, None);
        }
        assert_eq!(outbox.flush(&socket), 2);
        assert_eq!(client.recv(&mut [0; 64]).unwrap(), 6);
    }
}
