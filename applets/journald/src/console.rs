//! The copy of the log on the console, asked for on the kernel command line. It never waits: what the console
//! cannot take is left out there.

use minke_sys::Result;
use minke_sys::event::{Interest, Poller};
use minke_sys::file::{self, Flags};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Bytes that wait for a slow console.
const QUEUE_LIMIT: usize = 32 << 10;
const OPEN_FLAGS: Flags = Flags::NONBLOCK.union(Flags::NOCTTY);

/// The console.
#[derive(Debug)]
pub struct Console {
    path: PathBuf,
    file: Option<File>,
    queue: Vec<u8>,
    poller: Rc<Poller>,
    token: u64,
}

impl Console {
    /// A console at `path`, watched by `poller` with `token` when it has to be waited for.
    pub fn new(path: &Path, poller: Rc<Poller>, token: u64) -> Self {
        Self { path: path.to_owned(), file: None, queue: Vec::new(), poller, token }
    }

    /// Writes `IDENTIFIER[PID]: MESSAGE`.
    pub fn line(&mut self, identifier: &[u8], pid: Option<i32>, message: &[u8]) {
        let before = self.queue.len();
        self.queue.extend_from_slice(identifier);
        if let Some(pid) = pid {
            self.queue.extend_from_slice(format!("[{pid}]").as_bytes());
        }
        self.queue.extend_from_slice(b": ");
        self.queue.extend_from_slice(message);
        self.queue.push(b'\n');
        if self.queue.len() > QUEUE_LIMIT {
            self.queue.truncate(before);
        }
        self.flush();
    }

    /// Writes what the console takes.
    pub fn flush(&mut self) {
        if self.file.is_none() && self.open().is_err() {
            self.queue.clear();
        }
        while let (Some(file), false) = (&mut self.file, self.queue.is_empty()) {
            match file.write(&self.queue) {
                Ok(count) => drop(self.queue.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // A terminal that was hung up (vhangup(2)) stays dead: open it anew for the next line.
                Err(_) => {
                    self.file = None;
                    self.queue.clear();
                }
            }
        }
        if let Some(file) = &self.file {
            let interest = if self.queue.is_empty() { Interest::None } else { Interest::Write };
            let _ = self.poller.modify(file, self.token, interest);
        }
    }

    /// After a hang-up: the next line opens the console again.
    pub fn close(&mut self) {
        self.file = None;
        self.queue = Vec::new();
    }

    fn open(&mut self) -> Result<()> {
        let file = file::open(&self.path, Flags::WRONLY | OPEN_FLAGS)?;
        // A file that cannot be watched is always ready.
        let _ = self.poller.add(&file, self.token, Interest::None);
        self.file = Some(file);
        Ok(())
    }
}

/// Whether the kernel command line asks for this (kernel-command-line(7)).
pub fn is_wanted(command_line: &str) -> bool {
    let setting = |word: &str| match word.strip_prefix("systemd.journald.forward_to_console")? {
        "" => Some(true),
        value => Some(matches!(value.strip_prefix('=')?, "1" | "yes" | "y" | "true" | "t" | "on")),
    };
    command_line.split_ascii_whitespace().filter_map(setting).next_back().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_command_line_decides() {
        assert!(is_wanted("quiet systemd.journald.forward_to_console=1 x"));
        assert!(is_wanted("systemd.journald.forward_to_console"));
        assert!(!is_wanted("systemd.journald.forward_to_console=0"));
        assert!(!is_wanted("systemd.journald.forward_to_console=1 systemd.journald.forward_to_console=no"));
        assert!(!is_wanted("systemd.journald.forward_to_consoles=1"));
        assert!(!is_wanted(""));
    }

    #[test]
    fn a_console_that_does_not_read_never_blocks_and_takes_bounded_memory() {
        let folder = std::env::temp_dir().join(format!("minke-console-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("console");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let reader = File::options().read(true).write(true).open(&path).unwrap();
        let mut console = Console::new(&path, Rc::new(Poller::new().unwrap()), 1);
        for _ in 0..10_000 {
            console.line(b"test", Some(1), &[b'x'; 100]);
        }
        assert!(console.queue.len() <= QUEUE_LIMIT && console.queue.len() > 100);
        drop(reader);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
