//! Pseudo-terminals: pty(7).

use crate::path::name;
use crate::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Opens a new pseudo-terminal at a multiplexer device (`/dev/ptmx`, or `ptmx` of another devpts mount) and
/// returns both sides: (manager, terminal).
pub fn open(ptmx: &Path) -> Result<(OwnedFd, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let manager = rustix::fs::open(name(ptmx), flags, Mode::empty()).on("open", ptmx)?;
    rustix::pty::unlockpt(&manager).on("unlock", ptmx)?;
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = rustix::pty::ioctl_tiocgptpeer(&manager, flags).on("open the terminal of", ptmx)?;
    Ok((manager, terminal))
}

/// The path of a terminal below the devpts mount that it belongs to.
pub fn path(terminal: impl AsFd) -> Result<String> {
    let link = crate::file::own_link(terminal.as_fd());
    let path = std::fs::read_link(&link).on("read link", &link)?;
    Ok(path.to_string_lossy().into_owned())
}

/// Makes a terminal the controlling one of this session.
pub fn set_controlling(terminal: impl AsFd) -> Result<()> {
    rustix::process::ioctl_tiocsctty(terminal).context("take", "controlling terminal")
}

/// Sets the size in characters.
pub fn set_size(terminal: impl AsFd, rows: u16, columns: u16) -> Result<()> {
    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size).context("set size of", "terminal")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_to_the_terminal_arrives_at_its_manager() {
        let (manager, terminal) = open(Path::new("/dev/ptmx")).unwrap();
        set_size(&manager, 24, 80).unwrap();
        assert!(path(&terminal).unwrap().starts_with("/dev/pts/"));
        rustix::io::write(&terminal, b"hello").unwrap();
        let mut buffer = [0u8; 16];
        let count = rustix::io::read(&manager, &mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"hello");
    }
}
