//! The sockets of the journal: passed in by the service manager, or made here.

use crate::daemon::Options;
use minke_applet::log;
use minke_control::socket as named;
use minke_sys::channel::set_nonblocking;
use minke_sys::file::{self, Flags};
use minke_sys::{Context, Result, socket};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

/// Bytes of datagrams that may wait while the daemon is busy or restarts.
const RECEIVE_BUFFER: usize = 1 << 20;

/// All listening sockets. None of them blocks.
#[derive(Debug)]
pub struct Sockets {
    /// Services' output.
    pub stream: UnixListener,
    /// The native protocol.
    pub native: UnixDatagram,
    /// `/dev/log`.
    pub syslog: UnixDatagram,
}

impl Sockets {
    /// Takes the sockets that were passed and makes the others. The second is the one for queries.
    pub fn open(options: &Options) -> Result<(Self, OwnedFd)> {
        let folder = options.runtime.join("systemd/journal");
        let own = options.runtime.join("minke");
        file::make_folder(&folder, 0o755)?;
        file::make_folder(&own, 0o755)?;
        let mut passed = socket::take_passed();
        let mut open = |path: PathBuf, mode, bind: Bind| open(&mut passed, &path, mode, bind);
        let stream = open(folder.join("stdout"), 0o666, named::listen)?.into();
        let query = open(own.join("journald.sock"), 0o600, named::listen)?;
        let native = open(folder.join("socket"), 0o666, named::datagrams)?.into();
        let syslog = open(folder.join("dev-log"), 0o666, named::datagrams)?.into();
        for socket in [&native, &syslog] {
            socket::pass_credentials(socket)?;
            socket::set_receive_buffer(socket, RECEIVE_BUFFER)?;
        }
        if let Some(link) = &options.dev_log {
            make_link(link, &folder.join("dev-log"));
        }
        Ok((Self { stream, native, syslog }, query))
    }
}

/// Makes a socket of one kind at a path with a mode.
type Bind = fn(&Path, u32) -> Result<OwnedFd>;

fn open(passed: &mut Vec<OwnedFd>, path: &Path, mode: u32, bind: Bind) -> Result<OwnedFd> {
    match take(passed, path) {
        Some(socket) => {
            set_nonblocking(&socket, true)?;
            Ok(socket)
        }
        None => bind(path, mode),
    }
}

/// The passed socket that is bound to `path`.
fn take(passed: &mut Vec<OwnedFd>, path: &Path) -> Option<OwnedFd> {
    let index = passed.iter().position(|fd| socket::is_bound_to(fd, path))?;
    Some(passed.swap_remove(index))
}

/// Makes the link that syslog(3) writes to. A journal without it is better than none.
fn make_link(link: &Path, target: &Path) {
    let made = named::remove(link).and_then(|()| std::os::unix::fs::symlink(target, link).on("link", link));
    if let Err(error) = made {
        log::warn(format_args!("programs that use syslog are not heard: {error}"));
    }
}

/// Opens the kernel log at its beginning. A journal without it is better than none.
pub fn open_kernel_log(path: &Path) -> Option<File> {
    match file::open(path, Flags::RDONLY | Flags::NONBLOCK) {
        Ok(file) => Some(file),
        Err(error) => {
            log::warn(format_args!("kernel messages are not collected: {error}"));
            None
        }
    }
}
