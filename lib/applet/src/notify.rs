//! Readiness and watchdog messages to the service manager, as in sd_notify(3).

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells the service manager that start-up is finished. Outside a service it does nothing.
pub fn ready() {
    send("READY=1");
}

/// Tells the service manager that the service is alive.
pub fn watchdog() {
    send("WATCHDOG=1");
}

/// Sets the one-line state that `systemctl status` shows.
pub fn status(text: &str) {
    send(&format!("STATUS={text}"));
}

fn send(message: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().split_first() {
        Some((b'@', name)) => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    // A service manager that is not there is no reason for a service to fail.
    let (Ok(address), Ok(socket)) = (address, UnixDatagram::unbound()) else { return };
    let _ = socket.send_to_addr(message.as_bytes(), &address);
}
