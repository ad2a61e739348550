//! The sockets of the journal: passed in by the service manager, or made here.

use crate::daemon::Options;
use minke_applet::log;
use minke_sys::{Context, Result, file, socket};
use std::fs::{File, Permissions};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};

/// Bytes of datagrams that may wait while the daemon is busy or restarts.
const RECEIVE_BUFFER: usize = 1 << 20;
/// `O_NONBLOCK` of open(2), the same on every architecture that we build for.
const NONBLOCK: i32 = 0o4000;

/// All listening sockets. None of them blocks.
#[derive(Debug)]
pub struct Sockets {
    /// Services' output.
    pub stream: UnixListener,
    /// The native protocol.
    pub native: UnixDatagram,
    /// `/dev/log`.
    pub syslog: UnixDatagram,
    /// Queries.
    pub query: UnixListener,
}

impl Sockets {
    /// Takes the sockets that were passed and makes the others.
    pub fn open(options: &Options) -> Result<Self> {
        let folder = options.runtime.join("systemd/journal");
        let own = options.runtime.join("minke");
        file::make_folder(&folder, 0o755)?;
        file::make_folder(&own, 0o755)?;
        let mut passed = socket::take_passed();
        let mut open = |path: PathBuf, mode, bind: Bind| open(&mut passed, &path, mode, bind);
        let stream = open(folder.join("stdout"), 0o666, listener)?.into();
        let query = open(own.join("journald.sock"), 0o600, listener)?.into();
        let native = open(folder.join("socket"), 0o666, datagram)?.into();
        let syslog = open(folder.join("dev-log"), 0o666, datagram)?.into();
        for socket in [&native, &syslog] {
            socket::pass_credentials(socket)?;
            socket::set_receive_buffer(socket, RECEIVE_BUFFER)?;
        }
        if let Some(link) = &options.dev_log {
            make_link(link, &folder.join("dev-log"));
        }
        Ok(Self { stream, native, syslog, query })
    }
}

/// Makes a socket of one kind.
type Bind = fn(&Path) -> std::io::Result<OwnedFd>;

fn listener(path: &Path) -> std::io::Result<OwnedFd> {
    Ok(UnixListener::bind(path)?.into())
}

fn datagram(path: &Path) -> std::io::Result<OwnedFd> {
    Ok(UnixDatagram::bind(path)?.into())
}

fn open(passed: &mut Vec<OwnedFd>, path: &Path, mode: u32, bind: Bind) -> Result<OwnedFd> {
    let fd = match take(passed, path) {
        Some(fd) => fd,
        None => {
            remove(path)?;
            let fd = bind(path).on("listen at", path)?;
            std::fs::set_permissions(path, Permissions::from_mode(mode)).on("set mode of", path)?;
            fd
        }
    };
    // std sets this for any kind of socket in the same way.
    let socket = UnixDatagram::from(fd);
    socket.set_nonblocking(true).on("set up", path)?;
    Ok(socket.into())
}

/// The passed socket that is bound to `path`.
fn take(passed: &mut Vec<OwnedFd>, path: &Path) -> Option<OwnedFd> {
    let index = passed.iter().position(|fd| socket::is_bound_to(fd, path))?;
    Some(passed.swap_remove(index))
}

/// Removes what an earlier run left.
fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).on("remove", path),
        _ => Ok(()),
    }
}

/// Makes the link that syslog(3) writes to. A journal without it is better than none.
fn make_link(link: &Path, target: &Path) {
    let made = remove(link).and_then(|()| std::os::unix::fs::symlink(target, link).on("link", link));
    if let Err(error) = made {
        log::warn(format_args!("programs that use syslog are not heard: {error}"));
    }
}

/// Opens the kernel log at its beginning. A journal without it is better than none.
pub fn open_kernel_log(path: &Path) -> Option<File> {
    match File::options().read(true).custom_flags(NONBLOCK).open(path).on("open", path) {
        Ok(file) => Some(file),
        Err(error) => {
            log::warn(format_args!("kernel messages are not collected: {error}"));
            None
        }
    }
}
