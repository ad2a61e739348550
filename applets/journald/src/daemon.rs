//! The service loop of `journald`.

use crate::console::{self, Console};
use crate::journal::{Journal, Origin};
use crate::reader::{Reader, Turn};
use crate::scan::{Host, Scan};
use crate::sockets::{Sockets, open_kernel_log};
use crate::stream::Stream;
use minke_applet::{Args, log, notify};
use minke_control::journal::Query;
use minke_control::{Event, Limits, Server};
use minke_sys::event::{Interest, Poller, Ready};
use minke_sys::signal::{SIGINT, SIGTERM, Signals};
use minke_sys::{Errno, Result, capability, file, random, socket};
use minke_wire::journal::Kmsg;
use minke_wire::table::Table;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

/// The most MiB that the log takes by default: so many or a twentieth of the memory (spec os §10.1).
const LIMIT: usize = 128;
/// The least.
const LIMIT_LEAST: usize = 1;
/// Connections of services at a time; a further one is closed at once.
const STREAMS: usize = 512;
/// The longest query, in bytes.
const QUERY_LIMIT: usize = 16 << 10;
/// Messages that are taken from one socket before others have their turn.
const TURN: u32 = 64;
/// Bytes of the buffer that all connections share.
const BUFFER: usize = 16 << 10;
/// The longest datagram and file in memory that is read; what is longer loses its end.
const DATAGRAM_LIMIT: usize = 1 << 20;

const KERNEL: u64 = 0;
const STREAM_LISTENER: u64 = 1;
const NATIVE: u64 = 2;
const SYSLOG: u64 = 3;
const QUERIES: u64 = 4;
const SIGNALS: u64 = 5;
const CONSOLE: u64 = 6;
const FIRST_CONNECTION: u64 = 16;

/// What the command line says.
#[derive(Debug)]
pub struct Options {
    /// Stands for `/run`.
    pub runtime: PathBuf,
    /// The kernel log, if it is to be read.
    pub kernel: Option<PathBuf>,
    /// Where the link to the syslog socket is made, if it is.
    pub dev_log: Option<PathBuf>,
    /// The console that gets a copy.
    pub console: Option<PathBuf>,
    /// Bytes of the log.
    pub limit: usize,
    /// The user to become.
    pub user: Option<String>,
}

impl Options {
    /// Reads the command line and, for what it does not say, the machine.
    pub fn new(args: &Args) -> std::result::Result<Self, String> {
        let default =
            if console::is_wanted(&text(Path::new("/proc/cmdline"))) { "/dev/console" } else { "none" };
        let limit = match args.value("limit") {
            Some(number) => number.parse().map_err(|_| format!("'{number}' is no number of bytes"))?,
            None => default_limit(&text(Path::new("/proc/meminfo"))),
        };
        Ok(Self {
            runtime: PathBuf::from(args.value("runtime-dir").unwrap_or("/run")),
            kernel: path(args, "kmsg", "/dev/kmsg"),
            dev_log: path(args, "dev-log", "/dev/log"),
            console: path(args, "console", default),
            limit,
            user: args.value("user").map(str::to_owned),
        })
    }
}

fn path(args: &Args, name: &str, default: &str) -> Option<PathBuf> {
    let path = args.value(name).unwrap_or(default);
    (path != "none").then(|| PathBuf::from(path))
}

/// A twentieth of the memory, in whole MiB, within bounds.
fn default_limit(meminfo: &str) -> usize {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next());
    let kibibytes: usize = total.and_then(minke_wire::text::number).unwrap_or(0);
    kibibytes.div_ceil(20 << 10).clamp(LIMIT_LEAST, LIMIT) << 20
}

fn text(path: &Path) -> String {
    let bytes = file::read_bounded(path, 64 << 10).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}

/// The daemon.
struct Daemon {
    poller: Rc<Poller>,
    journal: Journal,
    sockets: Sockets,
    kernel: Option<File>,
    /// The number of the last record of the kernel log.
    sequence: Option<u64>,
    signals: Signals,
    streams: Table<u64, Box<Stream>>,
    server: Server,
    readers: Vec<Reader>,
    next: u64,
    buffer: Vec<u8>,
    hostname: String,
}

/// Runs until it is told to end.
pub fn run(options: &Options) -> Result<u8> {
    // It lives until the process ends: nothing is freed.
    let daemon = Box::leak(Daemon::new(options)?);
    if let Some(user) = &options.user {
        give_up_root(user, options.console.is_some());
    }
    let limit = options.limit >> 20;
    daemon.journal.say(&format!("Journal started, in memory, at most {limit} MiB"), None);
    notify::ready();
    let mut ready = Vec::new();
    let mut more = false;
    loop {
        daemon.poller.wait(&mut ready, more.then_some(Duration::ZERO))?;
        for event in &ready {
            if daemon.event(*event)? {
                return Ok(0);
            }
        }
        more = daemon.serve_readers();
    }
}

impl Daemon {
    fn new(options: &Options) -> Result<Box<Self>> {
        let poller = Rc::new(Poller::new()?);
        let signals = Signals::new(&[SIGTERM, SIGINT])?;
        let (sockets, queries) = Sockets::open(options)?;
        let server = Server::new(queries, Limits { request: QUERY_LIMIT, ..Limits::default() })?;
        for (descriptor, token) in [
            (signals.as_fd(), SIGNALS),
            (sockets.stream.as_fd(), STREAM_LISTENER),
            (sockets.native.as_fd(), NATIVE),
            (sockets.syslog.as_fd(), SYSLOG),
            (server.as_fd(), QUERIES),
        ] {
            poller.add(descriptor, token, Interest::Read)?;
        }
        let kernel = options.kernel.as_deref().and_then(open_kernel_log);
        if let Some(file) = &kernel {
            poller.add(file.as_fd(), KERNEL, Interest::Read)?;
        }
        let boot = text(Path::new("/proc/sys/kernel/random/boot_id")).replace('-', "");
        let mut run = [0u8; 16];
        random::fill(&mut run)?;
        let host = Host { boot, run: format!("{:032x}", u128::from_be_bytes(run)) };
        let console = options.console.as_deref().map(|path| Console::new(path, Rc::clone(&poller), CONSOLE));
        Ok(Box::new(Self {
            poller,
            journal: Journal::new(options.limit, host, console),
            sockets,
            kernel,
            sequence: None,
            signals,
            streams: Table::new(),
            server,
            readers: Vec::new(),
            next: FIRST_CONNECTION,
            buffer: vec![0; BUFFER],
            hostname: String::new(),
        }))
    }

    /// Handles one event; true ends the daemon.
    fn event(&mut self, event: Ready) -> Result<bool> {
        match event.token {
            KERNEL => self.read_kernel(),
            STREAM_LISTENER => self.accept_stream(),
            NATIVE | SYSLOG => self.read_datagrams(event.token),
            QUERIES => self.take_queries()?,
            SIGNALS => return Ok(self.signals.take().is_some()),
            CONSOLE => self.console_event(event),
            token => self.read_stream(token),
        }
        Ok(false)
    }

    fn read_kernel(&mut self) {
        for _ in 0..TURN {
            let Some(file) = &mut self.kernel else { return };
            match file.read(&mut self.buffer) {
                Ok(0) => return self.close_kernel(),
                Ok(count) => self.kernel_record(count),
                Err(error) => match Errno::from_io_error(&error) {
                    // EPIPE: records were overwritten before they were read. The next read goes on.
                    Some(Errno::PIPE | Errno::INTR) => {}
                    Some(Errno::AGAIN) => return,
                    _ => return self.close_kernel(),
                },
            }
        }
    }

    fn kernel_record(&mut self, length: usize) {
        let Some(kmsg) = self.buffer.get(..length).and_then(Kmsg::decode) else { return };
        let expected = self.sequence.map_or(kmsg.sequence, |last| last.wrapping_add(1));
        let missed = kmsg.sequence.saturating_sub(expected);
        if missed > 0 {
            self.journal.say(&format!("Missed {missed} kernel messages"), None);
        }
        self.sequence = Some(kmsg.sequence);
        self.journal.kernel(&kmsg);
    }

    fn close_kernel(&mut self) {
        log::warn(format_args!("the kernel log ended; kernel messages are no longer collected"));
        self.kernel = None;
    }

    fn read_datagrams(&mut self, token: u64) {
        for _ in 0..TURN {
            let socket = if token == NATIVE { &self.sockets.native } else { &self.sockets.syslog };
            let Ok(Some(length)) = socket::next_length(socket) else { return };
            let mut large = Vec::new();
            let buffer = if length > self.buffer.len() {
                large.resize(length.min(DATAGRAM_LIMIT), 0);
                &mut large
            } else {
                &mut self.buffer
            };
            let Ok(Some(received)) = socket::receive(socket, buffer) else { return };
            let sender = received.credentials;
            let mut origin = Origin {
                transport: "syslog",
                pid: sender.map(|sender| sender.pid).filter(|pid| *pid > 0),
                uid: sender.map(|sender| sender.uid),
                unit: None,
            };
            let datagram = buffer.get(..received.length).unwrap_or_default();
            if token == SYSLOG {
                self.journal.syslog(datagram, origin);
                continue;
            }
            origin.transport = "journal";
            match received.descriptors.as_slice() {
                [memory] if datagram.is_empty() => {
                    let content = socket::read_memory(memory, DATAGRAM_LIMIT).unwrap_or_else(|error| {
                        format!("PRIORITY=4\nMESSAGE=A message could not be read: {error}\n").into_bytes()
                    });
                    self.journal.native(&content, origin);
                }
                _ => self.journal.native(datagram, origin),
            }
        }
    }

    fn accept_stream(&mut self) {
        let Ok((connection, _)) = self.sockets.stream.accept() else { return };
        if self.streams.len() >= STREAMS {
            return;
        }
        let set = socket::pass_credentials(&connection).and_then(|()| socket::peer_credentials(&connection));
        let Ok(peer) = set else { return };
        let token = self.next;
        self.next = token.wrapping_add(1).max(FIRST_CONNECTION);
        if self.poller.add(&connection, token, Interest::Read).is_ok() {
            self.streams.insert(token, Box::new(Stream::new(connection, peer)));
        }
    }

    /// One read at a time, so that a service that writes much does not silence the others.
    fn read_stream(&mut self, token: u64) {
        let Some(stream) = self.streams.get_mut(&token) else { return };
        let goes_on = match socket::receive(stream.socket(), &mut self.buffer) {
            Ok(Some(received)) => stream.take(&received, &self.buffer, &mut self.journal),
            Ok(None) => true,
            Err(_) => false,
        };
        if !goes_on {
            self.streams.remove(&token);
        }
    }

    fn take_queries(&mut self) -> Result<()> {
        for event in self.server.events()? {
            match event {
                Event::Request { conn, request, .. } => {
                    self.hostname = text(Path::new("/proc/sys/kernel/hostname"));
                    let query = Query::from_value(&request);
                    match query.and_then(|query| Scan::new(query, &self.journal.ring, &self.journal.host)) {
                        Ok(scan) => self.readers.push(Reader::new(conn, scan)),
                        Err(why) => self.server.refuse(conn, &why),
                    }
                }
                Event::Closed { conn } => self.readers.retain(|reader| reader.conn != conn),
            }
        }
        Ok(())
    }

    /// Gives each reader its turn, and tells whether one of them has more to read now.
    fn serve_readers(&mut self) -> bool {
        let mut more = false;
        self.readers.retain_mut(|reader| {
            let turn = reader.turn(&mut self.server, &self.journal, &self.hostname);
            more |= turn == Turn::More;
            turn != Turn::Done
        });
        more
    }

    fn console_event(&mut self, event: Ready) {
        if let Some(console) = &mut self.journal.console {
            if event.hangup {
                console.close();
            } else {
                console.flush();
            }
        }
    }
}

/// Becomes another user, as everything that needs root is open. With a copy on the console it stays root: a
/// console that was hung up must be opened again.
fn give_up_root(user: &str, console: bool) {
    if console {
        return;
    }
    let passwd = text(Path::new("/etc/passwd"));
    let Some((uid, gid)) = find_user(&passwd, user) else {
        log::warn(format_args!("there is no user '{user}' in /etc/passwd; the journal runs as root"));
        return;
    };
    let dropped = capability::set_user(uid, gid, &[]).and_then(|()| capability::no_new_privileges());
    if let Err(error) = dropped {
        log::warn(format_args!("the journal runs as root: {error}"));
    }
}

/// User and group id from the text of passwd(5).
fn find_user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let line = passwd.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let mut parts = line.split(':').skip(1);
    Some((minke_wire::text::number(parts.next()?)?, minke_wire::text::number(parts.next()?)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_limit_is_a_twentieth_within_bounds() {
        let limit = |kibibytes: u64| default_limit(&format!("MemTotal:  {kibibytes} kB\nMemFree: 1 kB\n"));
        assert_eq!(limit(512 << 10), 26 << 20);
        assert_eq!(limit(16 << 20), 128 << 20);
        assert_eq!(limit(1), 1 << 20);
        assert_eq!(default_limit(""), 1 << 20);
    }

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\njournal2:x:8:8\njournal:x:7:9:log:/:/bin/false\n";
        assert_eq!(find_user(passwd, "journal"), Some((7, 9)));
        assert_eq!(find_user(passwd, "nobody"), None);
        assert_eq!(find_user("journal:x:a:b", "journal"), None);
    }
}
