//! A UDP socket that hears a multicast group on the interfaces that it is told to, and shares its port with other programs
//! on this machine (ip(7), ipv6(7)).

use crate::datagram::{ADDRESS, CONTROL, each_message, last_errno, put, read_address, write_message};
use crate::message::{self, Taken};
use crate::{Context, Result};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// `IPV6_MULTICAST_ALL` of `linux/in6.h`, which libc has not for every target.
const IPV6_MULTICAST_ALL: i32 = 29;
/// The most that a datagram can cross: also on a link of its own this is what mDNS wants (RFC 6762 §11).
const HOPS: i32 = 255;

/// Such a socket. It does not block.
#[derive(Debug)]
pub struct Group {
    fd: OwnedFd,
    group: IpAddr,
}

/// A datagram that arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Its bytes in the buffer.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The index of the interface that it came by.
    pub interface: u32,
    /// It was sent to the group, not to an address of this machine.
    pub to_group: bool,
}

impl Group {
    /// A socket for a group at a port. It hears nothing of the group until it joins, and what others send to this machine
    /// at that port when nobody else does. `EAFNOSUPPORT`: there is no IPv6 here.
    pub fn open(group: IpAddr, port: u16) -> Result<Self> {
        let any: IpAddr = match group {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let address = SocketAddr::new(any, port);
        let family = if group.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let made = rustix::net::socket_with(family, SocketType::DGRAM, flags, None);
        let fd = made.context("listen on UDP", address)?;
        let common = [(libc::SOL_SOCKET, libc::SO_REUSEADDR, 1), (libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)];
        // What other programs join is theirs: IP_MULTICAST_ALL off.
        let own: &[(i32, i32, i32)] = if group.is_ipv4() {
            &[
                (libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
                (libc::IPPROTO_IP, libc::IP_MULTICAST_ALL, 0),
                (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, HOPS),
                (libc::IPPROTO_IP, libc::IP_TTL, HOPS),
            ]
        } else {
            &[
                (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1),
                (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
                (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, HOPS),
                (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, HOPS),
            ]
        };
        for (level, option, value) in common.iter().chain(own) {
            set(fd.as_fd(), *level, *option, &value.to_ne_bytes()).context("listen on UDP", address)?;
        }
        if group.is_ipv6() {
            // Since Linux 4.20; without it more is heard, and not listened to.
            let _ = set(fd.as_fd(), libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL, &0i32.to_ne_bytes());
        }
        rustix::net::bind(&fd, &address).context("listen on UDP", address)?;
        Ok(Self { fd, group })
    }

    /// Hears the group on an interface; that it does already is success.
    pub fn join(&self, interface: u32) -> Result<()> {
        match self.member(interface, libc::IP_ADD_MEMBERSHIP, libc::IPV6_ADD_MEMBERSHIP) {
            Err(Errno::ADDRINUSE) => Ok(()),
            done => done.context("join the group on", format_args!("link {interface}")),
        }
    }

    /// Hears it there no longer. An interface that is gone took its membership with it.
    pub fn leave(&self, interface: u32) {
        let _ = self.member(interface, libc::IP_DROP_MEMBERSHIP, libc::IPV6_DROP_MEMBERSHIP);
    }

    fn member(&self, interface: u32, v4: i32, v6: i32) -> std::result::Result<(), Errno> {
        let index = interface.to_ne_bytes();
        match self.group {
            // struct ip_mreqn: the group, an address of ours (any), the interface.
            IpAddr::V4(group) => {
                let record = [group.octets(), [0; 4], index];
                set(self.fd.as_fd(), libc::IPPROTO_IP, v4, record.as_flattened())
            }
            // struct ipv6_mreq: the group, the interface.
            IpAddr::V6(group) => {
                let mut record = [0; 20];
                put(&mut record, 0, &group.octets());
                put(&mut record, 16, &index);
                set(self.fd.as_fd(), libc::IPPROTO_IPV6, v6, &record)
            }
        }
    }

    /// Takes a datagram. `None`: there is none.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Option<Heard>> {
        let mut control = [0u64; CONTROL / 8];
        let mut name = [0u8; ADDRESS];
        let taken = message::receive(self.fd.as_raw_fd(), &mut name, buffer, &mut control, 0);
        let Some(Taken { length, used, .. }) = taken.context("receive from", self.group)? else {
            return Ok(None);
        };
        let Some(from) = read_address(&name) else { return Ok(None) };
        let bytes = control.map(u64::to_ne_bytes);
        let (mut interface, mut to_group) = (0, false);
        each_message(bytes.as_flattened().get(..used).unwrap_or_default(), &mut |level, kind, data| {
            let word = |at: usize| data.get(at..).and_then(|rest| rest.first_chunk::<4>()).copied();
            match (level, kind) {
                // ip(7): the number of the interface, the local address, the address in the header.
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    interface = word(0).map_or(0, u32::from_ne_bytes);
                    to_group = word(8).is_some_and(|address| IpAddr::from(address) == self.group);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    interface = word(16).map_or(0, u32::from_ne_bytes);
                    let to = data.first_chunk::<16>();
                    to_group = to.is_some_and(|address| IpAddr::from(*address) == self.group);
                }
                _ => {}
            }
        });
        Ok(Some(Heard { length, from, interface, to_group }))
    }

    /// Sends a datagram by an interface, from an address that the kernel chooses there.
    pub fn send(&self, bytes: &[u8], to: SocketAddr, interface: u32) -> Result<()> {
        let (control, used) = write_interface(interface, to.is_ipv4());
        message::send(self.fd.as_raw_fd(), to, bytes, &control, used)
    }
}

impl AsFd for Group {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set(fd: BorrowedFd<'_>, level: i32, option: i32, value: &[u8]) -> std::result::Result<(), Errno> {
    let length = libc::socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: `value` has `length` bytes, which the kernel copies within the call.
    let done = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value.as_ptr().cast(), length) };
    if done == 0 { Ok(()) } else { Err(last_errno()) }
}

/// The control message that names the interface to send by, and its length in bytes. The address in it stays
/// open.
fn write_interface(interface: u32, v4: bool) -> ([u64; CONTROL / 8], usize) {
    let (level, kind, length, at) = if v4 {
        (libc::IPPROTO_IP, libc::IP_PKTINFO, 12, 0)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20, 16)
    };
    let mut data = [0; 20];
    put(&mut data, at, &interface.to_ne_bytes());
    write_message(level, kind, data.get(..length).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::{Namespace, unshare};
    use std::net::UdpSocket;

    /// In a network namespace of its own, with a link from it to itself: nobody else hears. The link's index goes to
    /// `work`.
    fn alone(work: fn(u32)) {
        let thread = std::thread::spawn(move || {
            if unshare(&[Namespace::Network]).is_err() {
                // Not root.
                return;
            }
            let link = "ip link add m0 type veth peer name m1; ip link set lo up; ip link set m0 up; ip link set m1 up; \
                ip address add 10.77.0.1/24 dev m0; ip address add fd77::1/64 dev m0 nodad; \
                ip address add fe80::1/64 dev m0 nodad";
            assert!(std::process::Command::new("sh").args(["-ec", link]).status().unwrap().success());
            work(crate::netlink::Route::new().unwrap().index_of("m0").unwrap());
        });
        thread.join().unwrap();
    }

    /// What one of these sockets hears.
    fn heard(sockets: &[&Group], buffer: &mut [u8]) -> Heard {
        crate::soon(|| sockets.iter().find_map(|socket| socket.receive(buffer).unwrap()))
    }

    fn two_share_a_port(link: u32, group: &str, own: &str) {
        let group: IpAddr = group.parse().unwrap();
        let open = || Group::open(group, 5353).unwrap();
        let (one, other, witness) = (open(), open(), open());
        let mut buffer = [0; 100];
        // What the witness has heard has come to all.
        witness.join(link).unwrap();
        one.send(b"nobody else hears it", SocketAddr::new(group, 5353), link).unwrap();
        heard(&[&witness], &mut buffer);
        assert_eq!(other.receive(&mut buffer).unwrap(), None);
        for socket in [&one, &other] {
            socket.join(link).unwrap();
            socket.join(link).unwrap();
        }
        one.send(b"hello", SocketAddr::new(group, 5353), link).unwrap();
        for socket in [&witness, &one, &other] {
            let heard = heard(&[socket], &mut buffer);
            assert_eq!(&buffer[..heard.length], b"hello");
            assert_eq!((heard.from.port(), heard.interface, heard.to_group), (5353, link, true));
        }
        one.leave(link);
        other.send(b"again", SocketAddr::new(group, 5353), link).unwrap();
        for socket in [&witness, &other] {
            heard(&[socket], &mut buffer);
        }
        assert_eq!(one.receive(&mut buffer).unwrap(), None);
        drop(witness);
        // To an address: one of the two gets it.
        let own: IpAddr = own.parse().unwrap();
        let client = UdpSocket::bind((own, 0)).unwrap();
        client.send_to(b"direct", (own, 5353)).unwrap();
        let first = heard(&[&one, &other], &mut buffer);
        assert!([&one, &other].iter().all(|socket| socket.receive(&mut buffer).unwrap().is_none()));
        assert_eq!((first.from, first.to_group), (client.local_addr().unwrap(), false));
        client.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        one.send(b"answer", first.from, first.interface).unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap().1.port(), 5353);
    }

    #[test]
    fn two_programs_share_the_port_of_ipv4() {
        alone(|link| two_share_a_port(link, "224.0.0.251", "10.77.0.1"));
    }

    #[test]
    fn two_programs_share_the_port_of_ipv6() {
        alone(|link| two_share_a_port(link, "ff02::fb", "fd77::1"));
    }
}
