//! Published UDP ports: each client gets a socket of its own towards the container, so that answers find back.

use super::forward::{UDP_FLOWS, UDP_PORTS};
use minke_sys::event::{Interest, Poller};
use std::net::{SocketAddr, UdpSocket};

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
    /// Counts uses of flows.
    turn: u64,
}

#[derive(Debug)]
struct Flow {
    port: usize,
    client: SocketAddr,
    socket: UdpSocket,
    /// The turn in which it was last used.
    last: u64,
}

impl Datagrams {
    /// Publishes a port. Returns the one that it listens on.
    pub fn publish(
        &mut self,
        poller: &Poller,
        host: &SocketAddr,
        container: &SocketAddr,
    ) -> std::io::Result<u16> {
        let socket = minke_sys::batch::bind_udp(*host)?;
        let port = socket.local_addr()?.port();
        let token = UDP_PORTS.saturating_add(u64::try_from(self.ports.len()).unwrap_or(0));
        poller.add(&socket, token, Interest::Read)?;
        self.ports.push((socket, *container));
        Ok(port)
    }

    /// Datagrams from outside.
    pub fn take_from_clients(&mut self, poller: &Poller, port: usize) {
        let mut buffer = vec![0u8; DATAGRAM];
        for _ in 0..BURST {
            let Some((socket, _)) = self.ports.get(port) else { return };
            let Ok((count, client)) = socket.recv_from(&mut buffer) else { return };
            if let Some(flow) = self.flow(poller, port, &client) {
                let _ = flow.socket.send(buffer.get(..count).unwrap_or_default());
            }
        }
    }

    /// Answers of the container to one client.
    pub fn take_from_container(&mut self, index: usize) {
        let mut buffer = vec![0u8; DATAGRAM];
        self.turn = self.turn.saturating_add(1);
        let Some(Some(flow)) = self.flows.get_mut(index) else { return };
        flow.last = self.turn;
        let Some((socket, _)) = self.ports.get(flow.port) else { return };
        for _ in 0..BURST {
            // Nothing more, or the container does not listen on that port: its client hears nothing.
            let Ok(count) = flow.socket.recv(&mut buffer) else { return };
            let _ = socket.send_to(buffer.get(..count).unwrap_or_default(), flow.client);
        }
    }

    /// The flow of a client, made when there is none.
    fn flow(&mut self, poller: &Poller, port: usize, client: &SocketAddr) -> Option<&mut Flow> {
        self.turn = self.turn.saturating_add(1);
        let (mut oldest, mut last) = (0, u64::MAX);
        for (index, flow) in self.flows.iter().enumerate() {
            let flow_last = match flow {
                Some(flow) if flow.port == port && flow.client == *client => {
                    let flow = self.flows.get_mut(index)?.as_deref_mut()?;
                    flow.last = self.turn;
                    return Some(flow);
                }
                Some(flow) => flow.last,
                None => 0,
            };
            if flow_last < last {
                (oldest, last) = (index, flow_last);
            }
        }
        if self.flows.len() < FLOW_LIMIT {
            oldest = self.flows.len();
            self.flows.push(None);
        }
        let socket = minke_sys::batch::ask_udp(self.ports.get(port)?.1).ok()?;
        let slot = self.flows.get_mut(oldest)?;
        // The old flow's socket is closed, and with that no longer watched.
        *slot = None;
        let token = UDP_FLOWS.saturating_add(u64::try_from(oldest).unwrap_or(0));
        poller.add(&socket, token, Interest::Read).ok()?;
        Some(slot.insert(Box::new(Flow { port, client: *client, socket, last: self.turn })))
    }
}
