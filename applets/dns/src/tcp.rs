//! DNS over TCP (RFC 7766): each client connection has a thread, and there are few of them.

use minke_wire::dns;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Most connections at a time; a further one is closed at once.
const MOST: usize = 16;
/// How long either side may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// Counts the connections that are served.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    count: Arc<AtomicUsize>,
}

impl Connections {
    /// Serves one connection in a thread.
    pub(crate) fn serve(&self, client: TcpStream, upstreams: &Arc<[SocketAddr]>) {
        let (count, upstreams) = (Arc::clone(&self.count), Arc::clone(upstreams));
        if count.fetch_add(1, Ordering::Relaxed) >= MOST {
            count.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let failed = Arc::clone(&count);
        let started = minke_sys::thread::spawn(
            "dns-tcp",
            Box::new(move || {
                // The connection ends with its first error; the client asks again.
                let _ = exchange(client, &upstreams);
                count.fetch_sub(1, Ordering::Relaxed);
            }),
        );
        if started.is_err() {
            failed.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn exchange(mut client: TcpStream, upstreams: &[SocketAddr]) -> io::Result<()> {
    minke_sys::channel::set_nonblocking(&client, false)?;
    client.set_read_timeout(Some(IDLE))?;
    client.set_write_timeout(Some(IDLE))?;
    loop {
        let query = receive(&mut client)?;
        if !dns::is_query(&query) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let answer = upstreams.iter().find_map(|upstream| ask(*upstream, &query).ok());
        let answer = answer.or_else(|| dns::server_failure(&query)).unwrap_or_default();
        send(&mut client, &answer)?;
    }
}

fn ask(upstream: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut server = minke_sys::tcp::connect_within(upstream, crate::pending::PATIENCE)?;
    server.set_read_timeout(Some(IDLE))?;
    server.set_write_timeout(Some(IDLE))?;
    send(&mut server, query)?;
    let answer = receive(&mut server)?;
    if dns::answers(query, &answer) { Ok(answer) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// One message after its length in two bytes.
fn receive(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn send(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed)
}
