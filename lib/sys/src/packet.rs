//! Packet sockets (packet(7)): IPv4 packets on a link that has no address yet.

use crate::{Context, Result};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// IPv4 in an Ethernet frame (`linux/if_ether.h`).
const ETH_P_IP: u16 = 0x0800;
/// The Ethernet address of everybody.
pub const BROADCAST: [u8; 6] = [0xff; 6];

/// One instruction of a classic BPF program (Documentation/networking/filter.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip when a comparison holds.
    pub jump_true: u8,
    /// How many to skip when it does not.
    pub jump_false: u8,
    /// The operand.
    pub k: u32,
}

/// A program that lets pass whole IPv4 packets that carry UDP to `port`; a packet begins with its IP header.
pub const fn udp_port_filter(port: u16) -> [Instruction; 9] {
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF: u16 = 0x28;
    const LOAD_HALF_INDEXED: u16 = 0x48;
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    const JUMP_EQUAL: u16 = 0x15;
    const JUMP_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    const UDP: u32 = 17;
    const FRAGMENT: u32 = 0x3fff;
    const fn step(code: u16, jump_true: u8, jump_false: u8, k: u32) -> Instruction {
        Instruction { code, jump_true, jump_false, k }
    }
    [
        step(LOAD_BYTE, 0, 0, 9),
        step(JUMP_EQUAL, 0, 6, UDP),
        step(LOAD_HALF, 0, 0, 6),
        step(JUMP_SET, 4, 0, FRAGMENT),
        step(LOAD_HEADER_LENGTH, 0, 0, 0),
        step(LOAD_HALF_INDEXED, 0, 0, 2),
        step(JUMP_EQUAL, 0, 1, port as u32),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ]
}

/// A socket for IPv4 packets on one link, without the frame's header. Needs CAP_NET_RAW.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    link: i32,
}

impl PacketSocket {
    /// Opens a socket on the link with index `link` that receives what `filter` lets pass. Nothing arrives
    /// before the filter is in place.
    pub fn open(link: u32, filter: &[Instruction]) -> Result<Self> {
        let link = i32::try_from(link).map_err(|_| Errno::NODEV).context("open packet socket on", link)?;
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: socket has no memory arguments. Protocol 0 receives nothing until bind names one.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
        check(fd).context("open packet socket on link", link)?;
        // SAFETY: the kernel has just returned this descriptor and nobody else owns it.
        let socket = Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, link };
        socket.attach(filter).context("filter packets on link", link)?;
        socket.bind().context("bind packet socket to link", link)?;
        Ok(socket)
    }

    /// Sends an IPv4 packet to the Ethernet address `to`. The kernel writes the frame's header.
    pub fn send(&self, packet: &[u8], to: [u8; 6]) -> Result<()> {
        let address = self.address(Some(to));
        let (data, length) = (packet.as_ptr().cast(), packet.len());
        let size = socket_length::<libc::sockaddr_ll>();
        let to = (&raw const address).cast();
        // SAFETY: `packet` and `address` are valid for the given lengths and outlive the call.
        let sent = unsafe { libc::sendto(self.fd.as_raw_fd(), data, length, libc::MSG_NOSIGNAL, to, size) };
        check(i32::from(sent < 0).wrapping_neg()).context("send packet on link", self.link)
    }

    /// Takes a packet that has arrived, without waiting. A longer one than `buffer` is cut.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> Result<Option<&'a [u8]>> {
        match rustix::net::recv(&self.fd, &mut *buffer, rustix::net::RecvFlags::empty()) {
            Ok((count, _)) => Ok(buffer.get(..count)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(errno) => Err(errno).context("receive packet on link", self.link),
        }
    }

    fn attach(&self, filter: &[Instruction]) -> std::result::Result<(), Errno> {
        let mut program: Vec<libc::sock_filter> = filter
            .iter()
            .map(|step| libc::sock_filter {
                code: step.code,
                jt: step.jump_true,
                jf: step.jump_false,
                k: step.k,
            })
            .collect();
        let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
        let record = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
        let (value, size) = ((&raw const record).cast(), socket_length::<libc::sock_fprog>());
        let fd = self.fd.as_raw_fd();
        // SAFETY: `record` points to `program` with its length; the kernel copies both within the call.
        check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, value, size) })
    }

    fn bind(&self) -> std::result::Result<(), Errno> {
        let address = self.address(None);
        let size = socket_length::<libc::sockaddr_ll>();
        // SAFETY: `address` is valid for `size` bytes and outlives the call.
        check(unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), size) })
    }

    fn address(&self, mac: Option<[u8; 6]>) -> libc::sockaddr_ll {
        let mut place = [0u8; 8];
        for (place, byte) in place.iter_mut().zip(mac.unwrap_or_default()) {
            *place = byte;
        }
        libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: ETH_P_IP.to_be(),
            sll_ifindex: self.link,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: if mac.is_some() { 6 } else { 0 },
            sll_addr: place,
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A UDP socket on `port` of all addresses of the link `name` and of no other link, allowed to broadcast.
/// A port below 1024 needs CAP_NET_BIND_SERVICE.
pub fn udp_on_link(name: &str, port: u16) -> Result<std::net::UdpSocket> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)
        .context("open UDP socket on", name)?;
    sockopt::set_socket_reuseaddr(&fd, true).context("set up UDP socket on", name)?;
    sockopt::set_socket_broadcast(&fd, true).context("set up UDP socket on", name)?;
    let (value, size) = (name.as_ptr().cast(), libc::socklen_t::try_from(name.len()).unwrap_or(0));
    let (socket, level, option) = (fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_BINDTODEVICE);
    // SAFETY: `name` is valid for `size` bytes; the kernel copies it within the call.
    let done = unsafe { libc::setsockopt(socket, level, option, value, size) };
    check(done).context("bind UDP socket to link", name)?;
    let address = std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, port);
    rustix::net::bind(&fd, &address).context("bind UDP socket to port", port)?;
    Ok(fd.into())
}

fn socket_length<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn check(result: i32) -> std::result::Result<(), Errno> {
    if result >= 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{Namespace, Route};
    use minke_wire::dhcp::{SERVER_PORT, encapsulate};
    use std::net::Ipv4Addr;

    #[test]
    fn the_filter_lets_pass_whole_packets_to_the_port_alone() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                if crate::namespace::unshare(&[crate::namespace::Namespace::Network]).is_err() {
                    eprintln!("skipped: a network namespace needs root");
                    return;
                }
                let mut route = Route::new().unwrap();
                let a = route.create_veth("a", "b", Namespace::Current).unwrap();
                let b = route.index_of("b").unwrap();
                route.set_up(a).unwrap();
                route.set_up(b).unwrap();
                let sender = PacketSocket::open(a, &udp_port_filter(1)).unwrap();
                let receiver = PacketSocket::open(b, &udp_port_filter(SERVER_PORT)).unwrap();
                let good = encapsulate(Ipv4Addr::UNSPECIFIED, b"good");
                let altered = |at: usize, byte: u8| {
                    let mut packet = good.clone();
                    packet[at] = byte;
                    packet
                };
                // Another port, another protocol, the middle and the beginning of a fragmented packet, a cut one.
                let mut packets = vec![altered(23, 66), altered(9, 6), altered(7, 1), altered(6, 0x20)];
                packets.extend([good[..19].to_vec(), good.clone()]);
                let mut received = Vec::new();
                // A link that has just come up drops the first packets.
                for _ in 0..200 {
                    for packet in &packets {
                        sender.send(packet, BROADCAST).unwrap();
                    }
                    std::thread::sleep(std::time::Duration::from_millis(10));
                    let mut buffer = [0u8; 100];
                    while let Some(packet) = receiver.receive(&mut buffer).unwrap() {
                        received.push(packet.to_vec());
                    }
                    if received.len() >= 3 {
                        break;
                    }
                }
                assert!(received.len() >= 3 && received.iter().all(|packet| *packet == good), "{received:?}");
                udp_on_link("b", 68).unwrap();
                assert_eq!(udp_on_link("none", 68).unwrap_err().errno, Errno::NODEV);
            });
        });
    }
}
