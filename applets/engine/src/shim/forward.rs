//! Published ports. TCP: connections to the host's port are carried on to the container's address.
//!
//! It owns a poller of its own, so that the shim's loop watches one descriptor for all connections. Each
//! direction holds at most one buffer; an idle connection holds none.

use super::failure::Failure;
use super::forward_udp::Datagrams;
use minke_sys::event::{Interest, Poller};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

/// Connections that are open at once per container; further ones wait in the kernel's queue.
const CONNECTION_LIMIT: usize = 512;
/// Bytes in flight per direction.
const BUFFER: usize = 16 * 1024;
/// Tokens of listeners start here; those of connections are below.
const LISTENERS: u64 = 1 << 32;
/// Tokens of UDP ports.
pub const UDP_PORTS: u64 = 2 << 32;
/// Tokens of the sockets between UDP clients and the container.
pub const UDP_FLOWS: u64 = 3 << 32;

/// All published ports of one container.
#[derive(Debug)]
pub struct Forwarder {
    poller: Poller,
    ports: Vec<(TcpListener, SocketAddr)>,
    links: Vec<Option<Box<Link>>>,
    open: usize,
    paused: bool,
    datagrams: Datagrams,
}

/// One connection: side 0 came from outside, side 1 goes to the container.
#[derive(Debug)]
struct Link {
    sides: [Side; 2],
    connecting: bool,
}

#[derive(Debug)]
struct Side {
    stream: TcpStream,
    /// What was read here and waits to be written to the other side.
    pending: Vec<u8>,
    /// Nothing more will be read here.
    ended: bool,
    /// The end was passed on to the other side.
    passed: bool,
    watched: Option<Interest>,
}

impl Forwarder {
    /// A forwarder without ports.
    pub fn new() -> minke_sys::Result<Self> {
        Ok(Self {
            poller: Poller::new()?,
            ports: Vec::new(),
            links: Vec::new(),
            open: 0,
            paused: false,
            datagrams: Datagrams::default(),
        })
    }

    /// Publishes a port; the host's port 0 lets the kernel choose. Returns the one that it listens on.
    pub fn publish(
        &mut self,
        protocol: &str,
        host: &SocketAddr,
        container: &SocketAddr,
    ) -> Result<u16, Failure> {
        let bound = if protocol == "udp" {
            self.datagrams.publish(&self.poller, host, container)
        } else {
            self.publish_tcp(host, container)
        };
        bound.map_err(|error| {
            let reason = match error.kind() {
                ErrorKind::AddrInUse => "address already in use".to_owned(),
                ErrorKind::AddrNotAvailable => "cannot assign requested address".to_owned(),
                _ => error.to_string(),
            };
            let family = if host.is_ipv4() { 4 } else { 6 };
            Failure::new(format_args!(
                "Error starting userland proxy: listen {protocol}{family} {host}: bind: {reason}"
            ))
        })
    }

    fn publish_tcp(&mut self, host: &SocketAddr, container: &SocketAddr) -> std::io::Result<u16> {
        let listener = minke_sys::batch::bind_tcp(*host)?;
        let port = listener.local_addr()?.port();
        let token = LISTENERS.saturating_add(u64::try_from(self.ports.len()).unwrap_or(0));
        self.poller.add(&listener, token, Interest::Read)?;
        self.ports.push((listener, *container));
        Ok(port)
    }

    /// Carries on what is ready. Called when the descriptor is readable.
    pub fn work(&mut self) {
        let mut ready = Vec::new();
        if self.poller.wait(&mut ready, Some(std::time::Duration::ZERO)).is_err() {
            return;
        }
        for event in &ready {
            let index = usize::try_from(event.token & 0xffff_ffff).unwrap_or(usize::MAX);
            match event.token & !0xffff_ffff {
                LISTENERS => self.accept(index),
                UDP_PORTS => {
                    self.datagrams.take_from_clients(&self.poller, index);
                }
                UDP_FLOWS => self.datagrams.take_from_container(index),
                _ => self.serve(event.token),
            }
        }
        self.pause_listeners(self.open >= CONNECTION_LIMIT);
    }

    fn pause_listeners(&mut self, pause: bool) {
        if self.paused == pause {
            return;
        }
        self.paused = pause;
        for (index, (listener, _)) in self.ports.iter().enumerate() {
            let token = LISTENERS.saturating_add(u64::try_from(index).unwrap_or(0));
            let _ = self.poller.modify(listener, token, if pause { Interest::None } else { Interest::Read });
        }
    }

    fn accept(&mut self, port: usize) {
        let Some((listener, target)) = self.ports.get(port) else { return };
        let Ok(stream) = minke_sys::channel::accept(listener) else { return };
        let stream = TcpStream::from(stream);
        let Ok(other) = minke_sys::tcp::connect(*target) else { return };
        if minke_sys::channel::set_nonblocking(&stream, true).is_err() || self.open >= CONNECTION_LIMIT {
            return;
        }
        let _ = (stream.set_nodelay(true), other.set_nodelay(true));
        let mut link = Box::new(Link { sides: [Side::new(stream), Side::new(other)], connecting: true });
        let free = self.links.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.links.push(None);
            self.links.len().saturating_sub(1)
        });
        if let Some(slot) = self.links.get_mut(index) {
            link.watch(&self.poller, index);
            *slot = Some(link);
            self.open = self.open.saturating_add(1);
        }
    }

    fn serve(&mut self, token: u64) {
        let index = usize::try_from(token >> 1).unwrap_or(usize::MAX);
        let Some(slot) = self.links.get_mut(index) else { return };
        let Some(link) = slot else { return };
        if link.connecting && token & 1 == 1 {
            link.connecting = false;
        }
        if !link.connecting && link.carry().is_err() || link.is_done() {
            // Dropping the streams closes both, and takes them out of the poller.
            *slot = None;
            self.open = self.open.saturating_sub(1);
            return;
        }
        link.watch(&self.poller, index);
    }
}

impl AsFd for Forwarder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl Side {
    fn new(stream: TcpStream) -> Self {
        Self { stream, pending: Vec::new(), ended: false, passed: false, watched: None }
    }
}

impl Link {
    fn is_done(&self) -> bool {
        self.sides.iter().all(|side| side.passed)
    }

    fn carry(&mut self) -> std::io::Result<()> {
        let [outside, inside] = &mut self.sides;
        carry(outside, inside)?;
        carry(inside, outside)
    }

    /// Watches each side for exactly what it can do next: a hang-up is reported always, so a side with nothing
    /// to do is not watched at all.
    fn watch(&mut self, poller: &Poller, index: usize) {
        let connecting = self.connecting;
        let pending = [self.sides[1].pending.is_empty(), self.sides[0].pending.is_empty()];
        for (number, (side, other_is_empty)) in self.sides.iter_mut().zip(pending).enumerate() {
            let reads = !connecting && !side.ended && side.pending.is_empty();
            let writes = !other_is_empty || (connecting && number == 1);
            let wanted = match (reads, writes) {
                (true, true) => Some(Interest::Both),
                (true, false) => Some(Interest::Read),
                (false, true) => Some(Interest::Write),
                (false, false) => None,
            };
            let token = u64::try_from(index).unwrap_or(0) << 1 | u64::try_from(number).unwrap_or(0);
            let _ = match (side.watched, wanted) {
                (None, Some(interest)) => poller.add(&side.stream, token, interest),
                (Some(_), None) => poller.remove(&side.stream),
                (Some(old), Some(new)) if old != new => poller.modify(&side.stream, token, new),
                _ => Ok(()),
            };
            side.watched = wanted;
        }
    }
}

/// Moves what can be moved from one side to the other.
fn carry(from: &mut Side, to: &mut Side) -> std::io::Result<()> {
    loop {
        if from.pending.is_empty() && !from.ended {
            let mut buffer = vec![0u8; BUFFER];
            match from.stream.read(&mut buffer) {
                Ok(0) => from.ended = true,
                Ok(count) => {
                    buffer.truncate(count);
                    from.pending = buffer;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
        }
        if from.pending.is_empty() {
            if !from.passed {
                from.passed = true;
                let _ = to.stream.shutdown(Shutdown::Write);
            }
            return Ok(());
        }
        match to.stream.write(&from.pending) {
            Ok(count) => {
                from.pending.drain(..count.min(from.pending.len()));
                if from.pending.is_empty() {
                    from.pending = Vec::new();
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn drive(forwarder: &mut Forwarder, mut done: impl FnMut() -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        let outer = Poller::new().unwrap();
        outer.add(&*forwarder, 0, Interest::Read).unwrap();
        let mut ready = Vec::new();
        while !done() {
            assert!(Instant::now() < end, "the forwarder hangs");
            outer.wait(&mut ready, Some(Duration::from_millis(20))).unwrap();
            forwarder.work();
        }
    }

    fn publish(forwarder: &mut Forwarder, protocol: &str, target: SocketAddr) -> SocketAddr {
        let port = forwarder.publish(protocol, &"127.0.0.1:0".parse().unwrap(), &target).unwrap();
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn bytes_go_both_ways_and_half_closes_arrive() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut forwarder = Forwarder::new().unwrap();
        let address = publish(&mut forwarder, "tcp", server.local_addr().unwrap());
        let upper = std::thread::spawn(move || {
            let (mut stream, _) = server.accept().unwrap();
            let mut text = Vec::new();
            stream.read_to_end(&mut text).unwrap();
            text.make_ascii_uppercase();
            stream.write_all(&text).unwrap();
        });
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let sent = vec![b'a'; 300_000];
            stream.write_all(&sent).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            answer
        });
        drive(&mut forwarder, || client.is_finished());
        assert_eq!(client.join().unwrap(), vec![b'A'; 300_000]);
        upper.join().unwrap();
        assert!(forwarder.links.iter().all(Option::is_none) && forwarder.open == 0);
    }

    #[test]
    fn a_container_that_does_not_listen_closes_the_connection() {
        let closed = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut forwarder = Forwarder::new().unwrap();
        let address = publish(&mut forwarder, "tcp", closed);
        let client = std::thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let _ = stream.write_all(b"x");
            !matches!(stream.read(&mut [0; 8]), Ok(1..))
        });
        drive(&mut forwarder, || client.is_finished());
        assert!(client.join().unwrap(), "data from a container that is not there");
        assert_eq!(forwarder.open, 0);
    }

    #[test]
    fn datagrams_and_their_answers() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut forwarder = Forwarder::new().unwrap();
        let address = publish(&mut forwarder, "udp", server.local_addr().unwrap());
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let upper = std::thread::spawn(move || {
            let mut buffer = [0u8; 100];
            for _ in 0..2 {
                let (count, peer) = server.recv_from(&mut buffer).unwrap();
                buffer.make_ascii_uppercase();
                server.send_to(&buffer[..count], peer).unwrap();
            }
        });
        let clients: Vec<_> = ["one", "two"]
            .map(|text| {
                std::thread::spawn(move || {
                    let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                    client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                    client.send_to(text.as_bytes(), address).unwrap();
                    let mut buffer = [0u8; 100];
                    let count = client.recv(&mut buffer).unwrap();
                    assert_eq!(&buffer[..count], text.to_ascii_uppercase().as_bytes());
                })
            })
            .into_iter()
            .collect();
        drive(&mut forwarder, || clients.iter().all(std::thread::JoinHandle::is_finished));
        for client in clients {
            client.join().unwrap();
        }
        upper.join().unwrap();
    }

    #[test]
    fn a_taken_port_is_named_as_docker_names_it() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap();
        let mut forwarder = Forwarder::new().unwrap();
        let failure = forwarder.publish("tcp", &taken, &taken).unwrap_err();
        assert!(failure.text.starts_with("Error starting userland proxy: listen tcp4 127.0.0.1:"));
        assert!(failure.text.ends_with("bind: address already in use"));
    }
}
