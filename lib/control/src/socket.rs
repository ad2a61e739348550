//! Unix sockets with a name.

use minke_sys::channel::set_nonblocking;
use minke_sys::{Context, Result};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;

/// Listens for connections at `path`, as [`datagrams`] does for datagrams.
pub fn listen(path: &Path, mode: u32) -> Result<OwnedFd> {
    bind(path, mode, |path| Ok(UnixListener::bind(path)?.into()))
}

/// A socket for datagrams at `path` with permission bits `mode`, in place of what an earlier process left there.
/// It does not block.
pub fn datagrams(path: &Path, mode: u32) -> Result<OwnedFd> {
    bind(path, mode, |path| Ok(UnixDatagram::bind(path)?.into()))
}

fn bind(path: &Path, mode: u32, make: fn(&Path) -> std::io::Result<OwnedFd>) -> Result<OwnedFd> {
    remove(path)?;
    let socket = make(path).on("listen at", path)?;
    minke_sys::file::set_mode(path, mode)?;
    set_nonblocking(&socket, true)?;
    Ok(socket)
}

/// Removes a socket or link that an earlier process left.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).on("remove", path),
        _ => Ok(()),
    }
}
