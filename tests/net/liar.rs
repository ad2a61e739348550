//! An NTP server that lies. Its time is this machine's, but for the lie.

use minke_tests::Random;
use minke_wire::ntp::{Leap, Packet, Short, Timestamp};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What is wrong with the answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lie {
    /// Nothing.
    None,
    /// No answer.
    Silence,
    /// The clock is ahead by so many nanoseconds.
    Offset(i64),
    /// The clock runs fast by so many parts per billion since the start.
    Drift(i64),
    /// The stratum.
    Stratum(u8),
    /// The leap indicator.
    Leap(Leap),
    /// A kiss of death with this code.
    Kiss([u8; 4]),
    /// The same, sent by somebody who did not see the request.
    ForgedKiss([u8; 4]),
    /// Random bytes, of random length.
    Noise,
    /// Only so many bytes of the answer.
    Truncated(usize),
    /// An extension field of so many bytes behind the header.
    Extension(u16),
    /// Extension fields whose lengths are nonsense.
    BrokenExtensions,
    /// The transmit time is zero.
    NoTransmit,
    /// Root delay and root dispersion in milliseconds.
    Root(u64, u64),
    /// The server last looked at its own source an hour in the future.
    FutureReference,
    /// The origin is not that of the request.
    WrongOrigin,
    /// The mode.
    Mode(u8),
    /// The version.
    Version(u8),
    /// The receive time is a minute after the transmit time.
    BackInTime,
    /// So many answers to one request, the good one first, the others an hour wrong.
    Flood(u32),
}

/// A question's source port and bytes.
pub type Question = (u16, Vec<u8>);

/// The server. It ends with the value.
#[derive(Debug)]
pub struct Liar {
    lie: Arc<Mutex<Lie>>,
    stop: Arc<AtomicBool>,
    requests: Arc<AtomicU64>,
    heard: Arc<Mutex<Vec<Question>>>,
    thread: Option<JoinHandle<()>>,
}

impl Liar {
    /// Answers at `address`, in this thread's network namespace.
    pub fn start(address: SocketAddr, lie: Lie) -> Self {
        let socket = UdpSocket::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (lie, stop) = (Arc::new(Mutex::new(lie)), Arc::new(AtomicBool::new(false)));
        let requests = Arc::new(AtomicU64::new(0));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hearing = Arc::clone(&heard);
        let (told, stopped, count) = (Arc::clone(&lie), Arc::clone(&stop), Arc::clone(&requests));
        let thread = std::thread::spawn(move || {
            let (began, mut random) = (Instant::now(), Random::new(7));
            let mut bytes = [0; 2048];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, client)) = socket.recv_from(&mut bytes) else { continue };
                let received = now();
                count.fetch_add(1, Ordering::Relaxed);
                let question = (client.port(), bytes[..length].to_vec());
                hearing.lock().unwrap_or_else(PoisonError::into_inner).push(question);
                let lie = *told.lock().unwrap_or_else(PoisonError::into_inner);
                let Some((request, _)) = Packet::decode(&bytes[..length]) else { continue };
                for answer in answers(lie, request, received, began.elapsed(), &mut random) {
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Self { lie, stop, requests, heard, thread: Some(thread) }
    }

    /// Another lie from now on.
    pub fn set(&self, lie: Lie) {
        *self.lie.lock().unwrap_or_else(PoisonError::into_inner) = lie;
    }

    /// How often it was asked.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// What it was asked, and from which ports.
    pub fn heard(&self) -> Vec<Question> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(!matches!(ended, Some(Err(_))) || std::thread::panicking(), "the lying server failed");
    }
}

fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

const SECOND: i64 = 1_000_000_000;

fn answers(lie: Lie, request: Packet, received: i64, elapsed: Duration, random: &mut Random) -> Vec<Vec<u8>> {
    let ahead = match lie {
        Lie::Offset(ahead) => ahead,
        Lie::Drift(ppb) => (elapsed.as_nanos() as i128 * i128::from(ppb) / 1_000_000_000) as i64,
        _ => 0,
    };
    let time = |nanos: i64| Timestamp::from_nanos(nanos + ahead);
    let mut packet = Packet {
        version: request.version,
        mode: 4,
        stratum: 1,
        poll: request.poll,
        precision: -24,
        refid: *b"LIE\0",
        reftime: time(received - SECOND),
        org: request.xmt,
        rec: time(received),
        xmt: time(now()),
        ..Packet::default()
    };
    let mut more: Vec<u8> = Vec::new();
    match lie {
        Lie::None | Lie::Offset(_) | Lie::Drift(_) | Lie::Truncated(_) | Lie::Flood(_) => {}
        Lie::Silence => return Vec::new(),
        // Not a kiss.
        Lie::Stratum(stratum) => (packet.stratum, packet.refid) = (stratum, [0; 4]),
        Lie::Leap(leap) => packet.leap = leap,
        Lie::Kiss(code) => (packet.stratum, packet.leap, packet.refid) = (0, Leap::Unknown, code),
        Lie::ForgedKiss(code) => {
            (packet.stratum, packet.leap, packet.refid) = (0, Leap::Unknown, code);
            packet.org = Timestamp(packet.org.0 ^ 1);
        }
        Lie::Noise => {
            let length = random.below(200);
            return vec![(0..length).map(|_| random.below(256) as u8).collect()];
        }
        Lie::Extension(length) => {
            more.extend_from_slice(&0x2104u16.to_be_bytes());
            more.extend_from_slice(&length.to_be_bytes());
            more.resize(usize::from(length).max(4), 0);
        }
        Lie::BrokenExtensions => {
            // Too long for a message authentication code, and of a length that no field has.
            more.extend_from_slice(&[0x21, 0x04, 0xff, 0xfd]);
            more.extend((0..24 + random.below(60)).map(|_| random.below(256) as u8));
        }
        Lie::NoTransmit => packet.xmt = Timestamp::ZERO,
        Lie::Root(delay, dispersion) => {
            packet.rootdelay = Short::from_nanos(delay * 1_000_000);
            packet.rootdisp = Short::from_nanos(dispersion * 1_000_000);
        }
        Lie::FutureReference => packet.reftime = time(received + 3_600 * SECOND),
        Lie::WrongOrigin => {
            packet.org = Timestamp(packet.org.0.wrapping_add(1 + random.below(1 << 30) as u64));
        }
        Lie::Mode(mode) => packet.mode = mode,
        Lie::Version(version) => packet.version = version,
        Lie::BackInTime => packet.rec = time(received + 60 * SECOND),
    }
    let mut bytes = packet.encode().to_vec();
    bytes.extend_from_slice(&more);
    match lie {
        Lie::Truncated(length) => bytes.truncate(length),
        Lie::Flood(count) => {
            let wrong =
                Packet { rec: time(received + 3_600 * SECOND), xmt: time(now() + 3_600 * SECOND), ..packet };
            let mut all = vec![bytes];
            all.extend((0..count).map(|_| wrong.encode().to_vec()));
            return all;
        }
        _ => {}
    }
    vec![bytes]
}
