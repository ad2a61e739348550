//! A server that says what a test wants, to whom and when a test wants it, and remembers what it was asked.

use super::message::Message;
use minke_tests::dns_lab::soon;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A question that came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub query: Vec<u8>,
    pub message: Message,
    pub from: SocketAddr,
    pub tcp: bool,
    /// How many came before.
    pub number: usize,
    pub at: Instant,
}

impl Asked {
    /// The name without regard to case.
    pub fn name(&self) -> String {
        self.message.name.to_ascii_lowercase()
    }
}

/// What the server does.
#[derive(Debug, Clone)]
pub enum Act {
    /// Sends this.
    Say(Vec<u8>),
    /// Sends this after a while; over UDP alone.
    Later(Duration, Vec<u8>),
    /// Sends this from somewhere else; over UDP alone.
    From(SocketAddr, Vec<u8>),
    /// Ends the connection; over TCP alone.
    Close,
}

type Play = Arc<dyn Fn(&Asked) -> Vec<Act> + Send + Sync>;

/// The server. It ends with the value.
pub struct Upstream {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// The latest mark that came ([`Upstream::asked`]).
    mark: Arc<AtomicU64>,
    play: Arc<Mutex<Play>>,
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Upstream {
    /// Serves at `address` over UDP and TCP, in this thread's network namespace.
    pub fn start(address: SocketAddr, play: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let tcp = TcpListener::bind(address).unwrap_or_else(|error| panic!("TCP {address}: {error}"));
        tcp.set_nonblocking(true).unwrap();
        Self::by(address, Some(tcp), play)
    }

    /// Serves over UDP alone: who comes by TCP is refused.
    pub fn without_tcp(
        address: SocketAddr,
        play: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        Self::by(address, None, play)
    }

    fn by(
        address: SocketAddr,
        tcp: Option<TcpListener>,
        play: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let udp = UdpSocket::bind(address).unwrap_or_else(|error| panic!("UDP {address}: {error}"));
        udp.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let play: Arc<Mutex<Play>> = Arc::new(Mutex::new(Arc::new(play)));
        let (asked, mark, stop) = (Arc::default(), Arc::default(), Arc::new(AtomicBool::new(false)));
        let part = Part {
            asked: Arc::clone(&asked),
            mark: Arc::clone(&mark),
            play: Arc::clone(&play),
            stop: Arc::clone(&stop),
        };
        let other = part.clone();
        let mut threads = vec![std::thread::spawn(move || part.datagrams(udp))];
        threads.extend(tcp.map(|tcp| std::thread::spawn(move || other.listen(&tcp))));
        Self { address, asked, mark, play, stop, threads }
    }

    /// Another play from now on.
    pub fn set(&self, play: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) {
        *self.play.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(play);
    }

    /// What it was asked so far, with every datagram that was sent to it before: a question that is repeated while its
    /// answer takes its time may still wait to be read when the answer has long been there. So a mark goes behind them.
    pub fn asked(&self) -> Vec<Asked> {
        static MARKS: AtomicU64 = AtomicU64::new(1);
        let mark = MARKS.fetch_add(1, Ordering::Relaxed);
        let any = if self.address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).unwrap();
        let has_come = || {
            socket.send_to(&mark.to_be_bytes(), self.address).unwrap();
            self.mark.load(Ordering::Acquire) >= mark
        };
        assert!(soon(has_come), "the upstream does not read");
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often it was asked for `name`.
    pub fn count(&self, name: &str) -> usize {
        self.asked().iter().filter(|asked| asked.name() == name).count()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking(), "the upstream failed");
        }
    }
}

#[derive(Clone)]
struct Part {
    asked: Arc<Mutex<Vec<Asked>>>,
    mark: Arc<AtomicU64>,
    play: Arc<Mutex<Play>>,
    stop: Arc<AtomicBool>,
}

impl Part {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn acts(&self, query: &[u8], from: SocketAddr, tcp: bool) -> Vec<Act> {
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let (message, number) = (Message::read(query), all.len());
        let asked = Asked { query: query.to_vec(), message, from, tcp, number, at: Instant::now() };
        all.push(asked.clone());
        drop(all);
        let play = Arc::clone(&self.play.lock().unwrap_or_else(PoisonError::into_inner));
        play(&asked)
    }

    fn datagrams(&self, socket: UdpSocket) {
        let socket = Arc::new(socket);
        let mut bytes = vec![0; 65_536];
        while !self.stopped() {
            let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
            if let Ok(mark) = <[u8; 8]>::try_from(&bytes[..length]) {
                self.mark.fetch_max(u64::from_be_bytes(mark), Ordering::AcqRel);
                continue;
            }
            for act in self.acts(&bytes[..length], from, false) {
                match act {
                    Act::Say(answer) => {
                        let _ = socket.send_to(&answer, from);
                    }
                    Act::Later(after, answer) => {
                        let socket = Arc::clone(&socket);
                        std::thread::spawn(move || {
                            std::thread::sleep(after);
                            let _ = socket.send_to(&answer, from);
                        });
                    }
                    Act::From(place, answer) => {
                        UdpSocket::bind(place).unwrap().send_to(&answer, from).unwrap();
                    }
                    Act::Close => panic!("{act:?} over UDP"),
                }
            }
        }
    }

    fn listen(&self, listener: &TcpListener) {
        while !self.stopped() {
            let Ok((stream, from)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            let part = self.clone();
            std::thread::spawn(move || part.converse(stream, from));
        }
    }

    fn converse(&self, mut stream: TcpStream, from: SocketAddr) -> Option<()> {
        stream.set_nonblocking(false).ok()?;
        while !self.stopped() {
            let mut length = [0; 2];
            stream.read_exact(&mut length).ok()?;
            let mut query = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut query).ok()?;
            for act in self.acts(&query, from, true) {
                let bytes = match act {
                    Act::Say(answer) => [&(answer.len() as u16).to_be_bytes()[..], &answer].concat(),
                    Act::Close => return None,
                    Act::Later(..) | Act::From(..) => panic!("{act:?} over TCP"),
                };
                stream.write_all(&bytes).ok()?;
            }
        }
        None
    }
}
