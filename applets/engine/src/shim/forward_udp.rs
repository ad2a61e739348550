//! Published UDP ports: each client gets a socket of its own towards the container, so that answers find back.

use super::forward::{UDP_FLOWS, UDP_PORTS};
use minke_sys::event::{Interest, Poller};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Clients at once per container; the one that was silent longest makes room.
const FLOW_LIMIT: usize = 128;
/// Datagrams carried on per turn and socket, so that one sender cannot hold the loop.
const BURST: usize = 32;
/// The longest datagram.
const DATAGRAM: usize = 65_536;

/// All published UDP ports of one container.
#[derive(Debug, Default)]
pub struct Datagrams {
    ports: Vec<(UdpSocket, SocketAddr)>,
    flows: Vec<Option<Box<Flow>>>,
}

#[derive(Debug)]
struct Flow {
    port: usize,
    client: SocketAddr,
    socket: UdpSocket,
    last: Duration,
}

impl Datagrams {
    /// Publishes a port. Returns the one that it listens on.
    pub fn publish(
        &mut self,
        poller: &Poller,
        host: &SocketAddr,
        container: &SocketAddr,
    ) -> std::io::Result<u16> {
        let socket = UdpSocket::bind(host)?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        let token = UDP_PORTS.saturating_add(u64::try_from(self.ports.len()).unwrap_or(0));
        poller
            .add(&socket, token, Interest::Read)
            .map_err(|error| std::io::Error::other(error.to_string()))?;
        self.ports.push((socket, *container));
        Ok(port)
    }

    /// Datagrams from outside.
    pub fn take_from_clients(&mut self, poller: &Poller, port: usize, now: Duration) {
        let mut buffer = vec![0u8; DATAGRAM];
        for _ in 0..BURST {
            let Some((socket, target)) = self.ports.get(port) else { return };
            let Ok((count, client)) = socket.recv_from(&mut buffer) else { return };
            let target = *target;
            if let Some(flow) = self.flow(poller, port, client, target, now) {
                flow.last = now;
                let _ = flow.socket.send(buffer.get(..count).unwrap_or_default());
            }
        }
    }

    /// Answers of the container to one client.
    pub fn take_from_container(&mut self, index: usize, now: Duration) {
        let mut buffer = vec![0u8; DATAGRAM];
        let Some(Some(flow)) = self.flows.get_mut(index) else { return };
        for _ in 0..BURST {
            match flow.socket.recv(&mut buffer) {
                Ok(count) => {
                    flow.last = now;
                    if let Some((socket, _)) = self.ports.get(flow.port) {
                        let _ = socket.send_to(buffer.get(..count).unwrap_or_default(), flow.client);
                    }
                }
                // Nothing more, or the container does not listen on that port: its client hears nothing.
                Err(_) => return,
            }
        }
    }

    fn flow(
        &mut self,
        poller: &Poller,
        port: usize,
        client: SocketAddr,
        target: SocketAddr,
        now: Duration,
    ) -> Option<&mut Flow> {
        let same = |flow: &Option<Box<Flow>>| {
            flow.as_ref().is_some_and(|flow| flow.port == port && flow.client == client)
        };
        if let Some(index) = self.flows.iter().position(same) {
            return self.flows.get_mut(index)?.as_deref_mut();
        }
        let index = if self.flows.len() < FLOW_LIMIT {
            self.flows.push(None);
            self.flows.len().saturating_sub(1)
        } else {
            let mut oldest = (0, Duration::MAX);
            for (index, flow) in self.flows.iter().enumerate() {
                let last = flow.as_ref().map_or(Duration::ZERO, |flow| flow.last);
                if last < oldest.1 {
                    oldest = (index, last);
                }
            }
            oldest.0
        };
        let socket = UdpSocket::bind(&SocketAddr::from(([0, 0, 0, 0], 0))).ok()?;
        socket.connect(target).ok()?;
        socket.set_nonblocking(true).ok()?;
        let slot = self.flows.get_mut(index)?;
        // The old flow's socket is closed, and with that no longer watched.
        *slot = None;
        let token = UDP_FLOWS.saturating_add(u64::try_from(index).unwrap_or(0));
        poller.add(&socket, token, Interest::Read).ok()?;
        Some(slot.insert(Box::new(Flow { port, client, socket, last: now })))
    }
}
