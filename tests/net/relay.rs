//! A network path that is as bad as a test wants: datagrams and connections go through it to a server and back, and on
//! their way they are lost, delayed, doubled, overtaken, cut, changed, forged. A seed repeats what happened to which
//! packet; only the moments are the machine's.

// A test's helper fails the test that calls it.
#![allow(clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use crate::Random;
use minke_sys::event::{Interest, Poller, Ready};
use minke_wire::ntp::{HEADER, Packet, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How the delay of packets scatters.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Jitter {
    /// Every packet takes as long.
    #[default]
    None,
    /// Up to so many microseconds more, each as likely.
    Uniform(u64),
    /// So many microseconds more on average, exponentially: a queue.
    Exponential(u64),
}

/// What happens to packets in one direction. Chances are in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Way {
    /// Microseconds that each packet takes.
    pub delay: u64,
    /// What is added to them.
    pub jitter: Jitter,
    /// The packet disappears.
    pub loss: u64,
    /// It comes twice.
    pub duplicate: u64,
    /// It takes 20 ms more, so that later ones overtake it.
    pub reorder: u64,
    /// Its end is missing.
    pub truncate: u64,
    /// Some of its bits are changed.
    pub corrupt: u64,
}

/// A path.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Path {
    /// From the client to the server.
    pub up: Way,
    /// From the server to the client.
    pub down: Way,
    /// Chance that a request is also answered at once by somebody who did not see it: an hour wrong, with another
    /// origin timestamp, from the server's address and port.
    pub forge: u64,
    /// Chance that the server's answer, an hour wrong, also comes from another port.
    pub wrong_port: u64,
    /// The servers' clocks beyond the relay. Answers that are authenticated break.
    pub warp: Option<Warp>,
}

/// A time of the relay's own: this machine's, from a moment on faster or slower.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Warp {
    /// The moment.
    pub began: Instant,
    /// Nanoseconds that it was ahead then.
    pub ahead: i64,
    /// Parts per billion by which it runs fast.
    pub ppb: i64,
}

impl Warp {
    /// Nanoseconds that it is ahead at `moment`.
    pub fn ahead_at(&self, moment: Instant) -> i64 {
        let elapsed = moment.saturating_duration_since(self.began).as_nanos() as i128;
        self.ahead + (elapsed * i128::from(self.ppb) / 1_000_000_000) as i64
    }
}

impl Path {
    /// The same in both directions.
    pub fn both(way: Way) -> Self {
        Self { up: way, down: way, ..Self::default() }
    }
}

/// What happened, in packets.
#[derive(Debug, Default)]
pub struct Counts {
    /// Requests that came.
    pub requests: AtomicU64,
    /// Answers that went back.
    pub answers: AtomicU64,
    /// Packets lost, in both directions.
    pub lost: AtomicU64,
    /// Packets that the relay made up.
    pub forged: AtomicU64,
}

impl Counts {
    /// One of them.
    pub fn get(count: &AtomicU64) -> u64 {
        count.load(Ordering::Relaxed)
    }
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// A relay for datagrams. It ends with the value.
#[derive(Debug)]
pub struct Relay {
    path: Arc<Mutex<Path>>,
    stop: Arc<AtomicBool>,
    /// What happened so far.
    pub counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Relays what comes to `front` to `server`, in this thread's network namespace.
    pub fn start(front: SocketAddr, server: SocketAddr, path: Path, seed: u64) -> Self {
        let socket = UdpSocket::bind(front).unwrap_or_else(|error| panic!("{front}: {error}"));
        let (path, stop) = (Arc::new(Mutex::new(path)), Arc::new(AtomicBool::new(false)));
        let counts = Arc::new(Counts::default());
        let run = Run::new(socket, server, seed, Arc::clone(&path), Arc::clone(&counts));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || run.run(&stopped));
        Self { path, stop, counts, thread: Some(thread) }
    }

    /// Changes the path under way.
    pub fn set(&self, path: Path) {
        *self.path.lock().unwrap_or_else(PoisonError::into_inner) = path;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(!matches!(ended, Some(Err(_))) || std::thread::panicking(), "the relay failed");
    }
}

/// Upstream sockets that are kept: as many requests wait for their answers.
const OPEN: usize = 64;
/// Packets on their way; beyond them the path is full and loses.
const QUEUE: usize = 4096;
const FRONT: u64 = 0;
const HOUR: i64 = 3_600_000_000_000;

/// Where a packet goes when its time has come.
enum Target {
    /// To the server, from the socket with this number.
    Up(u64),
    /// To this client, from the front.
    Down(SocketAddr),
    /// To this client, from another port.
    Aside(SocketAddr),
}

struct Run {
    front: UdpSocket,
    aside: UdpSocket,
    server: SocketAddr,
    random: Random,
    path: Arc<Mutex<Path>>,
    counts: Arc<Counts>,
    poller: Poller,
    /// Sockets towards the server by number, with their client.
    open: VecDeque<(u64, UdpSocket, SocketAddr)>,
    next: u64,
    /// Packets on their way by the moment of their arrival.
    queue: BTreeMap<(Instant, u64), (Target, Vec<u8>)>,
}

impl Run {
    fn new(
        front: UdpSocket,
        server: SocketAddr,
        seed: u64,
        path: Arc<Mutex<Path>>,
        counts: Arc<Counts>,
    ) -> Self {
        front.set_nonblocking(true).unwrap();
        let aside = UdpSocket::bind((front.local_addr().unwrap().ip(), 0)).unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&front, FRONT, Interest::Read).unwrap();
        let random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (open, queue) = (VecDeque::new(), BTreeMap::new());
        Self { front, aside, server, random, path, counts, poller, open, next: 1, queue }
    }

    fn run(mut self, stop: &AtomicBool) {
        let mut ready: Vec<Ready> = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let due =
                self.queue.first_key_value().map(|((moment, _), _)| moment.saturating_duration_since(now));
            // Now and then for `stop`.
            let limit = due.unwrap_or(Duration::MAX).min(Duration::from_millis(50));
            self.poller.wait(&mut ready, Some(limit)).unwrap();
            for event in &ready {
                self.read(event.token);
            }
            self.deliver();
        }
    }

    fn path(&self) -> Path {
        *self.path.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chance(&mut self, thousandths: u64) -> bool {
        (self.random.below(1000) as u64) < thousandths
    }

    fn read(&mut self, token: u64) {
        let mut bytes = [0; 2048];
        if token == FRONT {
            while let Ok((count, client)) = self.front.recv_from(&mut bytes) {
                self.request(bytes[..count].to_vec(), client);
            }
            return;
        }
        loop {
            let Some((_, socket, client)) = self.open.iter().find(|(number, ..)| *number == token) else {
                return;
            };
            let client = *client;
            let Ok(count) = socket.recv(&mut bytes) else { return };
            self.answer(&bytes[..count], client);
        }
    }

    fn request(&mut self, bytes: Vec<u8>, client: SocketAddr) {
        add(&self.counts.requests);
        let path = self.path();
        if self.chance(path.forge) {
            add(&self.counts.forged);
            let forged = forged(&bytes, &mut self.random);
            self.queue(Target::Down(client), forged, Duration::ZERO);
        }
        let socket = UdpSocket::bind((self.front.local_addr().unwrap().ip(), 0)).unwrap();
        socket.connect(self.server).unwrap();
        socket.set_nonblocking(true).unwrap();
        self.next += 1;
        self.poller.add(&socket, self.next, Interest::Read).unwrap();
        self.open.push_back((self.next, socket, client));
        if self.open.len() > OPEN {
            self.open.pop_front();
        }
        let number = self.next;
        self.send(path.up, &mut |_| Target::Up(number), bytes);
    }

    fn answer(&mut self, bytes: &[u8], client: SocketAddr) {
        add(&self.counts.answers);
        let path = self.path();
        let bytes =
            path.warp.map_or_else(|| bytes.to_vec(), |warp| shifted(bytes, warp.ahead_at(Instant::now())));
        if self.chance(path.wrong_port) {
            add(&self.counts.forged);
            self.queue(Target::Aside(client), shifted(&bytes, HOUR), Duration::ZERO);
        }
        self.send(path.down, &mut |_| Target::Down(client), bytes);
    }

    fn send(&mut self, way: Way, target: &mut dyn FnMut(()) -> Target, mut bytes: Vec<u8>) {
        if self.chance(way.loss) {
            add(&self.counts.lost);
            return;
        }
        if self.chance(way.truncate) {
            let length = self.random.below(bytes.len());
            bytes.truncate(length);
        }
        if self.chance(way.corrupt) {
            let before = bytes.clone();
            for _ in 0..=self.random.below(8) {
                let place = self.random.below(bytes.len());
                let bit = self.random.below(8);
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << bit;
                }
            }
            // Two changes of one bit are none.
            if bytes == before
                && let Some(byte) = bytes.first_mut()
            {
                *byte ^= 1;
            }
        }
        let copies = if self.chance(way.duplicate) { 2 } else { 1 };
        for _ in 0..copies {
            let mut delay = way.delay + self.scatter(way.jitter);
            if self.chance(way.reorder) {
                delay += 20_000;
            }
            self.queue(target(()), bytes.clone(), Duration::from_micros(delay));
        }
    }

    fn scatter(&mut self, jitter: Jitter) -> u64 {
        match jitter {
            Jitter::None => 0,
            Jitter::Uniform(most) => self.random.below(most as usize + 1) as u64,
            Jitter::Exponential(mean) => {
                let part = (self.random.below(1_000_000) + 1) as f64 / 1_000_000.0;
                (-part.ln() * mean as f64) as u64
            }
        }
    }

    fn queue(&mut self, target: Target, bytes: Vec<u8>, delay: Duration) {
        if self.queue.len() < QUEUE {
            self.next += 1;
            self.queue.insert((Instant::now() + delay, self.next), (target, bytes));
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > Instant::now() {
                return;
            }
            let (target, bytes) = entry.remove();
            // Where nobody listens any more, nothing arrives.
            let _ = match target {
                Target::Down(client) => self.front.send_to(&bytes, client),
                Target::Aside(client) => self.aside.send_to(&bytes, client),
                Target::Up(wanted) => match self.open.iter().find(|(number, ..)| *number == wanted) {
                    Some((_, socket, _)) => socket.send(&bytes),
                    None => Ok(0),
                },
            };
        }
    }
}

/// An answer of somebody who knows that there was a request, and not what stood in it.
fn forged(request: &[u8], random: &mut Random) -> Vec<u8> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let wrong = Timestamp::from_nanos(i64::try_from(now.as_nanos()).unwrap() + HOUR);
    let guess = [Timestamp::ZERO, wrong, Timestamp(random.below(usize::MAX) as u64)][random.below(3)];
    let poll = request.get(2).map_or(6, |byte| byte.cast_signed());
    let packet = Packet {
        version: 4,
        mode: 4,
        stratum: 1,
        poll,
        precision: -20,
        refid: *b"GPS\0",
        reftime: wrong,
        org: guess,
        rec: wrong,
        xmt: wrong,
        ..Packet::default()
    };
    packet.encode().to_vec()
}

/// The packet with its server's times moved.
fn shifted(bytes: &[u8], by: i64) -> Vec<u8> {
    let Some((mut packet, rest)) = Packet::decode(bytes) else { return bytes.to_vec() };
    for time in [&mut packet.reftime, &mut packet.rec, &mut packet.xmt] {
        if *time != Timestamp::ZERO {
            let seconds = by.div_euclid(1_000_000_000) as u64;
            let part = (u128::from(by.rem_euclid(1_000_000_000) as u64) << 32) / 1_000_000_000;
            *time = Timestamp(time.0.wrapping_add(seconds << 32).wrapping_add(part as u64));
        }
    }
    let mut bytes = packet.encode().to_vec();
    debug_assert_eq!(bytes.len(), HEADER);
    bytes.extend_from_slice(rest);
    bytes
}

/// A relay for connections: bytes take `delay` in each direction, and after `cut` bytes in both together the connection
/// ends. It lasts as long as the test's process.
pub fn connections(front: SocketAddr, server: SocketAddr, delay: Duration, cut: Option<u64>) {
    let listener = TcpListener::bind(front).unwrap_or_else(|error| panic!("{front}: {error}"));
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else { continue };
            let left = Arc::new(AtomicU64::new(cut.unwrap_or(u64::MAX)));
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (from, to, left) =
                    (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(&left));
                std::thread::spawn(move || copy(from, to, delay, &left));
            }
        }
    });
}

fn copy(mut from: TcpStream, mut to: TcpStream, delay: Duration, left: &AtomicU64) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        std::thread::sleep(delay);
        let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.saturating_sub(count as u64))
        });
        let count = count.min(before.unwrap_or(0) as usize);
        if to.write_all(&bytes[..count]).is_err() || before.unwrap_or(0) <= count as u64 {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}
