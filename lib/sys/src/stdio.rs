//! Standard input, output and error, without buffers: std's bring a lock that knows threads, and end the program
//! where a reader went away.

use crate::{Context, Error, Result};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Writes to standard output.
pub fn output(bytes: &[u8]) -> Result<()> {
    write(rustix::stdio::stdout(), bytes).context("write", "standard output")
}

/// Writes to standard error.
pub fn error(bytes: &[u8]) -> Result<()> {
    write(rustix::stdio::stderr(), bytes).context("write", "standard error")
}

/// Whether standard error is a terminal, where a person looks on.
pub fn is_terminal() -> bool {
    rustix::termios::isatty(rustix::stdio::stderr())
}

/// Reads standard input to its end; more than `limit` bytes are an error (`EFBIG`).
pub fn input(limit: usize) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    while read_some(&mut content)? {
        if content.len() > limit {
            return Err(Error::new("read", "standard input", Errno::FBIG));
        }
    }
    Ok(content)
}

/// Appends what standard input has next; `false` at its end.
pub fn read_some(content: &mut Vec<u8>) -> Result<bool> {
    crate::file::read_some(rustix::stdio::stdin(), content).context("read", "standard input")
}

/// Copies of the descriptors of standard input and standard error.
pub fn copies() -> Result<[OwnedFd; 2]> {
    let copy = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let input = copy(rustix::stdio::stdin()).context("duplicate", "standard input")?;
    let error = copy(rustix::stdio::stderr()).context("duplicate", "standard error")?;
    Ok([input, error])
}

fn write(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> std::result::Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
