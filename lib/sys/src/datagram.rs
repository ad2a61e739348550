//! A UDP socket of a server: it knows when each datagram arrived, at which of this machine's addresses, and answers from
//! that address (ip(7), ipv6(7), socket(7)).

use crate::message::{self, Taken};
use crate::{Context, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `SO_TIMESTAMPNS_NEW` and its control message: with 64-bit times on every architecture.
const SO_TIMESTAMPNS_NEW: i32 = 64;
/// Bytes for the control messages of one datagram: a time and an address, with their headers.
pub(crate) const CONTROL: usize = 128;
/// Bytes of a `struct sockaddr_in6`, the longer of the two.
pub(crate) const ADDRESS: usize = 28;
/// Bytes of the header of a control message: length, level and type.
pub(crate) const HEAD: usize = size_of::<usize>() + 8;

/// Such a socket. It does not block.
#[derive(Debug)]
pub struct Datagrams {
    fd: OwnedFd,
}

/// A datagram that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its bytes in the buffer.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// This machine's address that it was sent to.
    pub to: Option<IpAddr>,
    /// When it arrived, in nanoseconds since 1970; `None` when the kernel does not say.
    pub time: Option<i64>,
}

impl Datagrams {
    /// A socket at a port of all addresses of a family: IPv4, or IPv6 alone.
    pub fn bind(v4: bool, port: u16) -> Result<Self> {
        let any: IpAddr = if v4 { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let address = SocketAddr::new(any, port);
        let family = if v4 { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let made = rustix::net::socket_with(family, SocketType::DGRAM, flags, None);
        let fd = made.context("listen on UDP", address)?;
        if !v4 {
            sockopt::set_ipv6_v6only(&fd, true).context("listen on UDP", address)?;
        }
        let (level, option) = if v4 {
            (libc::IPPROTO_IP, libc::IP_PKTINFO)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
        };
        set(fd.as_fd(), level, option).context("listen on UDP", address)?;
        // A kernel without it leaves the times out.
        let _ = set(fd.as_fd(), libc::SOL_SOCKET, SO_TIMESTAMPNS_NEW);
        rustix::net::bind(&fd, &address).context("listen on UDP", address)?;
        Ok(Self { fd })
    }

    /// Takes a datagram. `None`: there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<Arrival>> {
        let mut control = [0u64; CONTROL / 8];
        let mut name = [0u8; ADDRESS];
        let taken = message::receive(self.fd.as_raw_fd(), &mut name, buffer, &mut control, 0);
        let Some(Taken { length, used, .. }) = taken.context("receive from", "clients")? else {
            return Ok(None);
        };
        let Some(from) = read_address(&name) else { return Ok(None) };
        let bytes = control.map(u64::to_ne_bytes);
        let (mut to, mut time) = (None, None);
        each_message(bytes.as_flattened().get(..used).unwrap_or_default(), &mut |level, kind, data| match (
            level, kind,
        ) {
            (libc::SOL_SOCKET, SO_TIMESTAMPNS_NEW) => time = read_time(data),
            _ => to = to.or(destination(level, kind, data)),
        });
        Ok(Some(Arrival { length, from, to, time }))
    }

    /// Sends a datagram from one of this machine's addresses.
    pub fn send(&self, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) -> Result<()> {
        let (control, used) = from.map_or(([0; CONTROL / 8], 0), |from| write_source(from, to));
        message::send(self.fd.as_raw_fd(), to, bytes, &control, used)
    }
}

impl AsFd for Datagrams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

static ON: i32 = 1;

pub(crate) fn set(fd: BorrowedFd<'_>, level: i32, option: i32) -> std::result::Result<(), Errno> {
    set_to(fd, level, option, &ON)
}

pub(crate) fn set_to(
    fd: BorrowedFd<'_>,
    level: i32,
    option: i32,
    value: &'static i32,
) -> std::result::Result<(), Errno> {
    let (value, size) = ((&raw const *value).cast(), 4);
    // SAFETY: the value is a static of that size, which the kernel copies within the call.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value, size) };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

pub(crate) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// Each control message's level, type and data (cmsg(3)): a header of the length with itself, level and type, the data,
/// padding to a word.
pub(crate) fn each_message(mut bytes: &[u8], take: &mut dyn FnMut(i32, i32, &[u8])) {
    loop {
        let Some(length) = bytes.first_chunk().map(|length| usize::from_ne_bytes(*length)) else { return };
        let Some(message) = bytes.get(..length) else { return };
        let head = message.get(size_of::<usize>()..).and_then(|rest| rest.first_chunk::<8>());
        let Some([a, b, c, d, e, f, g, h]) = head.copied() else { return };
        let data = message.get(HEAD..).unwrap_or_default();
        take(i32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]), data);
        let Some(rest) = bytes.get(length.next_multiple_of(size_of::<usize>())..) else { return };
        bytes = rest;
    }
}

/// This machine's address that a datagram was sent to, if the control message says it.
pub(crate) fn destination(level: i32, kind: i32, data: &[u8]) -> Option<IpAddr> {
    match (level, kind) {
        // ip(7): the number of the interface, the local address, the address in the header.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            data.get(4..)?.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes))
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            data.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes))
        }
        _ => None,
    }
}

/// Seconds and nanoseconds, 64 bits each.
pub(crate) fn read_time(data: &[u8]) -> Option<i64> {
    let (words, _) = data.as_chunks::<8>();
    let [seconds, nanoseconds, ..] = words else { return None };
    let [seconds, nanoseconds] = [seconds, nanoseconds].map(|word| i64::from_ne_bytes(*word));
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// The control message that names the address to send from, in words, and its length in bytes. Its interface stays open
/// but for IPv6 addresses of one link.
pub(crate) fn write_source(from: IpAddr, to: SocketAddr) -> ([u64; CONTROL / 8], usize) {
    let mut data = [0; 20];
    let scope = if let SocketAddr::V6(to) = to { to.scope_id() } else { 0 };
    let (level, kind, length) = match from {
        IpAddr::V4(address) => {
            put(&mut data, 4, &address.octets());
            (libc::IPPROTO_IP, libc::IP_PKTINFO, 12)
        }
        IpAddr::V6(address) => {
            put(&mut data, 0, &address.octets());
            put(&mut data, 16, &scope.to_ne_bytes());
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20)
        }
    };
    write_message(level, kind, data.get(..length).unwrap_or_default())
}

/// One control message in words, and its length in bytes.
pub(crate) fn write_message(level: i32, kind: i32, data: &[u8]) -> ([u64; CONTROL / 8], usize) {
    let mut bytes = [0; CONTROL];
    let whole = HEAD.saturating_add(data.len());
    put(&mut bytes, 0, &whole.to_ne_bytes());
    put(&mut bytes, size_of::<usize>(), &level.to_ne_bytes());
    put(&mut bytes, size_of::<usize>() + 4, &kind.to_ne_bytes());
    put(&mut bytes, HEAD, data);
    let mut words = [0; CONTROL / 8];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks().0) {
        *word = u64::from_ne_bytes(*bytes);
    }
    (words, whole.next_multiple_of(size_of::<usize>()))
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(value) {
        *place = *byte;
    }
}

/// A `struct sockaddr_in` or `sockaddr_in6` as the kernel has it, and its length.
pub(crate) fn write_address(address: SocketAddr) -> ([u8; ADDRESS], libc::socklen_t) {
    let mut bytes = [0; ADDRESS];
    put(&mut bytes, 2, &address.port().to_be_bytes());
    match address {
        SocketAddr::V4(address) => {
            put(&mut bytes, 0, &(libc::AF_INET as u16).to_ne_bytes());
            put(&mut bytes, 4, &address.ip().octets());
            (bytes, 16)
        }
        SocketAddr::V6(address) => {
            put(&mut bytes, 0, &(libc::AF_INET6 as u16).to_ne_bytes());
            put(&mut bytes, 8, &address.ip().octets());
            put(&mut bytes, 24, &address.scope_id().to_ne_bytes());
            (bytes, 28)
        }
    }
}

pub(crate) fn read_address(bytes: &[u8; ADDRESS]) -> Option<SocketAddr> {
    let [f0, f1, p0, p1, rest @ ..] = bytes;
    let port = u16::from_be_bytes([*p0, *p1]);
    match i32::from(u16::from_ne_bytes([*f0, *f1])) {
        libc::AF_INET => Some((*rest.first_chunk::<4>()?, port).into()),
        libc::AF_INET6 => {
            let address: [u8; 16] = *rest.get(4..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*rest.last_chunk()?);
            Some(SocketAddrV6::new(address.into(), port, 0, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    fn answer_from(server: &str, v4: bool) {
        let port =
            UdpSocket::bind(if v4 { "127.0.0.1:0" } else { "[::1]:0" }).unwrap().local_addr().unwrap().port();
        let socket = Datagrams::bind(v4, port).unwrap();
        let client = UdpSocket::bind(if v4 { "127.0.0.1:0" } else { "[::1]:0" }).unwrap();
        client.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        let server = SocketAddr::new(server.parse().unwrap(), port);
        // Only what comes from there arrives.
        client.connect(server).unwrap();
        let mut buffer = [0; 100];
        assert_eq!(socket.receive(&mut buffer).unwrap(), None);
        let before = crate::clock::realtime().as_nanos() as i64;
        client.send(b"question").unwrap();
        let arrival = crate::soon(|| socket.receive(&mut buffer).unwrap());
        assert_eq!(&buffer[..arrival.length], b"question");
        assert_eq!(arrival.from, client.local_addr().unwrap());
        assert_eq!(arrival.to, Some(server.ip()));
        let after = crate::clock::realtime().as_nanos() as i64;
        assert!((before..=after).contains(&arrival.time.unwrap()));
        socket.send(b"answer", arrival.from, arrival.to).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        // A client that has gone is the next call's news at most.
        drop(client);
        let _ = socket.send(b"answer", arrival.from, None);
        assert!(matches!(socket.receive(&mut buffer), Ok(None) | Err(_)));
    }

    #[test]
    fn answers_leave_from_the_address_that_was_asked() {
        answer_from("127.0.0.1", true);
        answer_from("127.1.2.3", true);
    }

    #[test]
    fn with_ipv6_too() {
        if UdpSocket::bind("[::1]:0").is_ok() {
            answer_from("::1", false);
        }
    }

    #[test]
    fn broken_control_messages_are_passed_over() {
        for length in [0usize, 1, 15, 16, 20, 65, usize::MAX] {
            let mut bytes = [0u8; 64];
            bytes[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
            let mut count = 0;
            each_message(&bytes, &mut |_, _, _| count += 1);
            assert!(count <= 4);
        }
        assert_eq!(read_time(&[1; 15]), None);
    }
}
