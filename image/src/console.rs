//! The guest's serial console: a Unix socket that QEMU serves, read by a thread into a buffer.

use crate::error::{Context, Error, Result};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How much console output is kept for searching; older output is in the log file only.
const KEPT: usize = 16 << 20;

/// How many lines of the console an error shows.
const TAIL_LINES: usize = 25;

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    /// Bytes that were dropped from the front of `bytes`.
    dropped: usize,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A connected console.
#[derive(Debug)]
pub struct Console {
    stream: UnixStream,
    shared: Arc<Shared>,
    /// Where the next search begins, counted from power-on.
    position: usize,
}

impl Console {
    /// Connects to QEMU's socket, which appears a moment after its start; `echo` shows everything on standard output.
    pub fn connect(path: &Path, limit: Duration, echo: bool) -> Result<Console> {
        let end = Instant::now() + limit;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
                Err(source) => {
                    return Err(Error::Io { what: format!("connecting to {}", path.display()), source });
                }
            }
        };
        let mut reader = stream.try_clone().on("sharing", path)?;
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            loop {
                let length = reader.read(&mut buffer).unwrap_or(0);
                let bytes = buffer.get(..length).unwrap_or_default();
                if echo {
                    show(bytes);
                }
                writer.append(bytes);
                if bytes.is_empty() {
                    return;
                }
            }
        });
        Ok(Console { stream, shared, position: 0 })
    }

    /// Types `text`.
    pub fn send(&mut self, text: &str) -> Result<()> {
        self.stream.write_all(text.as_bytes()).context(|| "writing to the console".into())
    }

    /// Waits until `text` appears after what was found last, and returns the line that holds it, up to its end.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<String> {
        let end = Instant::now() + limit;
        let mut state = self.shared.lock();
        loop {
            let from = self.position.saturating_sub(state.dropped);
            let searched = state.bytes.get(from..).unwrap_or_default();
            if let Some((found, next)) = line_with(searched, text.as_bytes()) {
                self.position = self.position.max(state.dropped).saturating_add(next);
                return Ok(found);
            }
            let now = Instant::now();
            let what = || format!("'{text}' on the console");
            if state.ended {
                return Err(Error::GuestGone { what: what(), tail: tail(&state.bytes) });
            }
            if now >= end {
                return Err(Error::Timeout { what: what(), tail: tail(&state.bytes) });
            }
            let waited = self.shared.changed.wait_timeout(state, end - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until `text` has appeared at any time since power-on. What [`Console::wait_for`] searches next stays as it is.
    pub fn wait_ever(&mut self, text: &str, limit: Duration) -> Result<()> {
        let position = std::mem::replace(&mut self.position, 0);
        let found = self.wait_for(text, limit);
        self.position = position;
        found.map(drop)
    }

    /// Lets the next search begin at what comes from now on.
    pub fn skip(&mut self) {
        let state = self.shared.lock();
        self.position = state.dropped.saturating_add(state.bytes.len());
    }

    /// All output since power-on that is still kept.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.lock().bytes).replace('\r', "")
    }

    /// The last lines, for messages.
    pub fn tail(&self) -> String {
        tail(&self.shared.lock().bytes)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.ended |= bytes.is_empty();
        state.bytes.extend_from_slice(bytes);
        if state.bytes.len() > KEPT {
            state.bytes.drain(..KEPT / 2);
            state.dropped = state.dropped.saturating_add(KEPT / 2);
        }
        self.changed.notify_all();
    }
}

fn show(bytes: &[u8]) {
    let mut output = std::io::stdout().lock();
    let _ = output.write_all(bytes);
    let _ = output.flush();
}

/// The line with `text`, and the position after that text. A line that has not ended yet counts only as far as it goes
/// when it already has its end; else the caller waits for more.
fn line_with(bytes: &[u8], text: &[u8]) -> Option<(String, usize)> {
    let at = bytes.windows(text.len().max(1)).position(|window| window == text)?;
    let start = bytes.get(..at)?.iter().rposition(|byte| *byte == b'\n').map_or(0, |found| found + 1);
    let after = at + text.len();
    let end = after + bytes.get(after..)?.iter().position(|byte| *byte == b'\n')?;
    let line = String::from_utf8_lossy(bytes.get(start..end)?).trim_end_matches('\r').to_owned();
    Some((line, end))
}

fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).replace('\r', "");
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_whole() {
        let text = b"one\r\ntwo words\r\nthree";
        assert_eq!(line_with(text, b"words").unwrap(), ("two words".into(), 15));
        assert_eq!(line_with(text, b"three"), None);
        assert_eq!(line_with(text, b"four"), None);
        assert_eq!(line_with(b"", b"x"), None);
    }

    #[test]
    fn waiting_ends_with_the_text_the_limit_or_the_guest() {
        let scratch = crate::tree::Scratch::new("console").unwrap();
        let path = scratch.join("socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let mut console = Console::connect(&path, Duration::from_secs(1), false).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"boot\r\nready a\r\nready b\r\n").unwrap();
        let limit = Duration::from_secs(5);
        assert_eq!(console.wait_for("ready", limit).unwrap(), "ready a");
        assert_eq!(console.wait_for("ready", limit).unwrap(), "ready b");
        console.wait_ever("boot", limit).unwrap();
        let late = console.wait_for("ready", Duration::from_millis(50));
        assert!(matches!(late, Err(Error::Timeout { tail, .. }) if tail.ends_with("ready b")));
        drop(peer);
        assert!(matches!(console.wait_for("ready", limit), Err(Error::GuestGone { .. })));
    }
}
