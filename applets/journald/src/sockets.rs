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
        let mut listener = |path: PathBuf, mode| listener(&mut passed, &path, mode);
        let stream = listener(folder.join("stdout"), 0o666)?;
        let query = listener(own.join("journald.sock"), 0o600)?;
        let mut datagram = |name: &str| datagram(&mut passed, &folder.join(name));
        let (native, syslog) = (datagram("socket")?, datagram("dev-log")?);
        if let Some(link) = &options.dev_log {
            make_link(link, &folder.join("dev-log"));
        }
        Ok(Self { stream, native, syslog, query })
    }
}

fn listener(passed: &mut Vec<OwnedFd>, path: &Path, mode: u32) -> Result<UnixListener> {
    let listener = match take(passed, path) {
        Some(fd) => UnixListener::from(fd),
        None => {
            remove(path)?;
            let listener = UnixListener::bind(path).on("listen at", path)?;
            std::fs::set_permissions(path, Permissions::from_mode(mode)).on("set mode of", path)?;
            listener
        }
    };
    listener.set_nonblocking(true).on("set up", path)?;
    Ok(listener)
}

fn datagram(passed: &mut Vec<OwnedFd>, path: &Path) -> Result<UnixDatagram> {
    let datagram = match take(passed, path) {
        Some(fd) => UnixDatagram::from(fd),
        None => {
            remove(path)?;
            let datagram = UnixDatagram::bind(path).on("listen at", path)?;
            std::fs::set_permissions(path, Permissions::from_mode(0o666)).on("set mode of", path)?;
            datagram
        }
    };
    socket::pass_credentials(&datagram)?;
    socket::set_receive_buffer(&datagram, RECEIVE_BUFFER)?;
    datagram.set_nonblocking(true).on("set up", path)?;
    Ok(datagram)
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
