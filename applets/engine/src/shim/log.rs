//! A container's output on its way to the journal: lines, as datagrams of the journal's native protocol
//! (systemd, JOURNAL_NATIVE_PROTOCOL).
//!
//! The journal may be away or slow. Up to [`QUEUE_LIMIT`] bytes wait here; then the container's pipe is no
//! longer read, for at most [`PATIENCE`]; then the oldest lines are dropped and counted. So a container can
//! neither fill the memory nor hang for ever on its own output.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::time::Duration;

/// Bytes of lines that wait for the journal.
pub const QUEUE_LIMIT: usize = 128 * 1024;
/// How long a container waits for a journal that takes nothing.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// When the journal is not there, it is tried again after this.
pub const RETRY: Duration = Duration::from_millis(250);
/// The longest line; a longer one is split, as the reference does it.
pub const LINE_LIMIT: usize = 16 * 1024;

/// Which of a container's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, and everything when there is a terminal.
    Output,
    /// Standard error.
    Error,
}

/// Takes bytes and delivers datagrams.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    fields: Vec<u8>,
    socket: Option<UnixDatagram>,
    partial: [Vec<u8>; 2],
    queue: VecDeque<Vec<u8>>,
    queued: usize,
    dropped: u64,
    stalled: Option<Duration>,
    blocked: bool,
}

impl Log {
    /// A log to the journal's native socket at `path`, for the container with this id, name and tag.
    pub fn new(path: PathBuf, id: &str, name: &str) -> Self {
        let short = id.get(..12).unwrap_or(id);
        let fields = format!(
            "CONTAINER_ID={short}\nCONTAINER_ID_FULL={id}\nCONTAINER_NAME={name}\nSYSLOG_IDENTIFIER={short}\n"
        );
        let (socket, queue) = (None, VecDeque::new());
        let partial = [Vec::new(), Vec::new()];
        let fields = fields.into_bytes();
        Self { path, fields, socket, partial, queue, queued: 0, dropped: 0, stalled: None, blocked: false }
    }

    /// Takes output; whole lines go to the queue.
    pub fn push(&mut self, stream: Stream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let partial = self.partial_of(stream);
            let room = LINE_LIMIT.saturating_sub(partial.len());
            let window = bytes.get(..room).unwrap_or(bytes);
            match window.iter().position(|byte| *byte == b'\n') {
                Some(end) => {
                    partial.extend_from_slice(window.get(..end).unwrap_or_default());
                    bytes = bytes.get(end.saturating_add(1)..).unwrap_or_default();
                    self.end_line(stream);
                }
                None => {
                    partial.extend_from_slice(window);
                    bytes = bytes.get(window.len()..).unwrap_or_default();
                    if self.partial_of(stream).len() >= LINE_LIMIT {
                        self.end_line(stream);
                    }
                }
            }
        }
    }

    /// The container ended: lines without an end count as lines.
    pub fn end(&mut self) {
        for stream in [Stream::Output, Stream::Error] {
            if !self.partial_of(stream).is_empty() {
                self.end_line(stream);
            }
        }
    }

    /// Whether the container has to wait.
    pub fn is_full(&self) -> bool {
        self.queued >= QUEUE_LIMIT
    }

    /// Whether everything went out.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The socket to wait for until it can be written: the journal is there and has no room.
    pub fn blocked(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().filter(|_| self.blocked).map(AsFd::as_fd)
    }

    /// Sends what the journal takes. Returns when to call again at the latest, if something is left.
    pub fn flush(&mut self, now: Duration) -> Option<Duration> {
        self.blocked = false;
        while let Some(datagram) = self.queue.front() {
            if self.socket.is_none() {
                self.socket = connect(&self.path);
            }
            let sent = self.socket.as_ref().map(|socket| socket.send(datagram));
            match sent {
                Some(Ok(_)) => {}
                // Too long for the socket: nobody will ever take it.
                Some(Err(error)) if error.raw_os_error() == Some(90) => {
                    self.dropped = self.dropped.saturating_add(1);
                }
                Some(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return self.stall(now);
                }
                _ => {
                    self.socket = None;
                    return self.stall(now);
                }
            }
            self.stalled = None;
            self.take_oldest();
            if self.queue.is_empty() && self.dropped > 0 {
                let text = format!(
                    "{} lines of this container were lost: the journal did not take them",
                    self.dropped
                );
                self.dropped = 0;
                self.enqueue(4, text.as_bytes());
            }
        }
        None
    }

    fn stall(&mut self, now: Duration) -> Option<Duration> {
        let since = *self.stalled.get_or_insert(now);
        if now.saturating_sub(since) >= PATIENCE {
            while self.queued >= QUEUE_LIMIT / 2 && self.queue.len() > 1 {
                self.take_oldest();
                self.dropped = self.dropped.saturating_add(1);
            }
        }
        Some(minke_sys::clock::after(now, if self.blocked { PATIENCE } else { RETRY }))
    }

    fn take_oldest(&mut self) {
        if let Some(datagram) = self.queue.pop_front() {
            self.queued = self.queued.saturating_sub(datagram.len());
        }
    }

    fn partial_of(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [output, error] = &mut self.partial;
        match stream {
            Stream::Output => output,
            Stream::Error => error,
        }
    }

    fn end_line(&mut self, stream: Stream) {
        let mut line = std::mem::take(self.partial_of(stream));
        // Terminals end lines with a carriage return as well.
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        self.enqueue(if stream == Stream::Output { 6 } else { 3 }, &line);
    }

    fn enqueue(&mut self, priority: u8, line: &[u8]) {
        let mut datagram = format!("PRIORITY={priority}\n").into_bytes();
        datagram.extend_from_slice(&self.fields);
        datagram.extend_from_slice(b"MESSAGE=");
        datagram.extend_from_slice(line);
        datagram.push(b'\n');
        self.queued = self.queued.saturating_add(datagram.len());
        self.queue.push_back(datagram);
    }
}

fn connect(path: &std::path::Path) -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(path).ok()?;
    minke_sys::channel::set_nonblocking(&socket, true).ok()?;
    Some(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(name: &str) -> (PathBuf, UnixDatagram) {
        let path = std::env::temp_dir().join(format!("minke-shim-log-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        (path, socket)
    }

    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut buffer = vec![0u8; 1 << 17];
        std::iter::from_fn(|| {
            let count = socket.recv(&mut buffer).ok()?;
            Some(String::from_utf8_lossy(&buffer[..count]).into_owned())
        })
        .collect()
    }

    #[test]
    fn lines_become_datagrams_with_the_containers_fields() {
        let (path, journal) = socket("lines");
        let mut log = Log::new(path.clone(), "0123456789abcdef", "web");
        log.push(Stream::Output, b"one\r\ntw");
        log.push(Stream::Error, b"bad\n");
        log.push(Stream::Output, b"o\nrest");
        log.end();
        assert_eq!(log.flush(Duration::ZERO), None);
        let lines = received(&journal);
        let messages: Vec<_> = lines.iter().map(|text| text.split("MESSAGE=").nth(1).unwrap()).collect();
        assert_eq!(messages, ["one\n", "bad\n", "two\n", "rest\n"]);
        let head = "CONTAINER_ID=0123456789ab\nCONTAINER_ID_FULL=0123456789abcdef\nCONTAINER_NAME=web\n";
        assert!(lines[0].starts_with(&format!("PRIORITY=6\n{head}")) && lines[1].starts_with("PRIORITY=3\n"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_journal_that_is_away_costs_lines_and_never_memory_or_time() {
        let mut log = Log::new("/nowhere/socket".into(), "id", "name");
        let mut now = Duration::ZERO;
        let mut waited = Duration::ZERO;
        for _ in 0..20_000 {
            log.push(Stream::Output, b"a line of about forty bytes, more or less\n");
            while log.is_full() {
                now += RETRY;
                waited += RETRY;
                assert!(log.flush(now).is_some());
                assert!(waited < Duration::from_secs(60));
            }
        }
        assert!(log.queued <= QUEUE_LIMIT + LINE_LIMIT && log.dropped > 1000);
        let (path, journal) = socket("back");
        log.path = path.clone();
        let reader = std::thread::spawn(move || {
            let end = std::time::Instant::now() + Duration::from_secs(20);
            let mut all = Vec::new();
            while !all.iter().any(|text: &String| text.contains("were lost"))
                && std::time::Instant::now() < end
            {
                all.extend(received(&journal));
            }
            all
        });
        while log.flush(now).is_some() {
            std::thread::yield_now();
        }
        assert!(reader.join().unwrap().last().unwrap().contains("lines of this container were lost"));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_line_without_end_is_split() {
        let mut log = Log::new("/nowhere".into(), "id", "name");
        log.push(Stream::Output, &vec![b'x'; LINE_LIMIT * 3 + 10]);
        assert_eq!((log.queue.len(), log.partial[0].len()), (3, 10));
    }
}
