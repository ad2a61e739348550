//! Sockets beyond std: packet sockets, peer credentials, descriptors passed along, options.

use crate::message::{self, Taken};
use crate::path::name;
use crate::{Context, Result};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Who a peer is, as the kernel says: `struct ucred` of unix(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Process id in our PID namespace; 0 for a process outside of it.
    pub pid: i32,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Who connected this Unix stream socket: `SO_PEERCRED`, unix(7).
pub fn peer_credentials(socket: impl AsFd) -> Result<Credentials> {
    let mut record = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    let fd = socket.as_fd().as_raw_fd();
    let value = (&raw mut record).cast();
    // SAFETY: `record` has room for `length` bytes, any content of it is valid, and both outlive the call.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, value, &raw mut length) };
    if done != 0 {
        return Err(last_errno()).context("ask for the peer of", fd);
    }
    Ok(Credentials { pid: record.pid, uid: record.uid, gid: record.gid })
}

/// Makes the kernel add the sender's credentials to what [`receive`] gets: `SO_PASSCRED`, unix(7). Each
/// accepted connection needs its own call.
pub fn pass_credentials(socket: impl AsFd) -> Result<()> {
    rustix::net::sockopt::set_socket_passcred(&socket, true).context("set SO_PASSCRED on", number(&socket))
}

/// Asks for room for `bytes` of messages that wait to be read (socket(7), `SO_RCVBUFFORCE`, else the smaller
/// `SO_RCVBUF` that everybody may have).
pub fn set_receive_buffer(socket: impl AsFd, bytes: usize) -> Result<()> {
    use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};
    set_socket_recv_buffer_size_force(&socket, bytes)
        .or_else(|_| set_socket_recv_buffer_size(&socket, bytes))
        .context("set SO_RCVBUF on", number(&socket))
}

/// Asks for room for `bytes` of messages that wait to be sent.
pub fn set_send_buffer(socket: impl AsFd, bytes: usize) -> Result<()> {
    use rustix::net::sockopt::{set_socket_send_buffer_size, set_socket_send_buffer_size_force};
    set_socket_send_buffer_size_force(&socket, bytes)
        .or_else(|_| set_socket_send_buffer_size(&socket, bytes))
        .context("set SO_SNDBUF on", number(&socket))
}

/// Connects a stream to a listener's path without waiting: `EAGAIN` when its queue is full. Reads and writes on
/// the result wait.
pub fn connect_now(path: &std::path::Path) -> Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .on("make socket for", path)?;
    let address = SocketAddrUnix::new(name(path)).on("connect to", path)?;
    rustix::net::connect(&socket, &address).on("connect to", path)?;
    rustix::io::ioctl_fionbio(&socket, false).on("set up socket for", path)?;
    Ok(socket)
}

/// What [`receive`] got.
#[derive(Debug)]
pub struct Received {
    /// Bytes in the buffer; 0 at the end of a stream (and for an empty datagram).
    pub length: usize,
    /// The datagram was longer than the buffer, and its rest is lost.
    pub truncated: bool,
    /// The sender, if [`pass_credentials`] was called.
    pub credentials: Option<Credentials>,
    /// The descriptors that the sender passed, at most [`DESCRIPTORS`].
    pub descriptors: Vec<OwnedFd>,
}

/// The most descriptors that [`receive`] takes with one message; the kernel closes further ones.
pub const DESCRIPTORS: usize = 16;

/// Bytes for the control messages of one message: credentials and [`DESCRIPTORS`] descriptors, with headers.
const CONTROL: usize = 128;

/// Receives one datagram, or what a stream has, with the sender's credentials and descriptors (which close on
/// exec). It does not wait: `None` says that nothing is there.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Option<Received>> {
    receive_from(socket.as_fd().as_raw_fd(), buffer)
}

fn receive_from(fd: RawFd, buffer: &mut [u8]) -> Result<Option<Received>> {
    let mut control = [0u64; CONTROL / 8];
    let taken = message::receive(fd, &mut [], buffer, &mut control, libc::MSG_CMSG_CLOEXEC);
    let Some(Taken { length, used, truncated }) = taken.context("receive from", fd)? else { return Ok(None) };
    let bytes = control.map(u64::to_ne_bytes);
    let (credentials, numbers) = control_messages(bytes.as_flattened().get(..used).unwrap_or_default());
    let descriptors = numbers
        .into_iter()
        // SAFETY: the kernel has just made this descriptor for us, it is listed once, and nobody else owns it.
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect();
    Ok(Some(Received { length, truncated, credentials, descriptors }))
}

/// Reads the control messages that the kernel wrote: each a `size_t` length, an `int` level, an `int` type and
/// the data, aligned to `size_t` (cmsg(3)).
fn control_messages(mut bytes: &[u8]) -> (Option<Credentials>, Vec<RawFd>) {
    const WORD: usize = size_of::<usize>();
    const HEADER: usize = WORD + 8;
    let (mut credentials, mut descriptors) = (None, Vec::new());
    while let Some(length) = bytes.first_chunk::<WORD>().map(|word| usize::from_ne_bytes(*word)) {
        let Some(data) = bytes.get(HEADER..length) else { break };
        match (int(bytes, WORD), int(bytes, WORD + 4)) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                descriptors.extend(data.chunks_exact(4).map(|chunk| int(chunk, 0)));
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) => {
                let id = |at| int(data, at).cast_unsigned();
                credentials = Some(Credentials { pid: int(data, 0), uid: id(4), gid: id(8) });
            }
            _ => {}
        }
        bytes = bytes.get(length.next_multiple_of(WORD)..).unwrap_or_default();
    }
    (credentials, descriptors)
}

fn int(bytes: &[u8], at: usize) -> i32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    word.map_or(0, |word| i32::from_ne_bytes(*word))
}

/// The length of the datagram that waits, or `None` when there is none.
pub fn next_length(socket: impl AsFd) -> Result<Option<usize>> {
    let flags =
        rustix::net::RecvFlags::PEEK | rustix::net::RecvFlags::TRUNC | rustix::net::RecvFlags::DONTWAIT;
    match rustix::net::recv(&socket, &mut [0u8; 1], flags) {
        Ok((_, length)) => Ok(Some(length)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno).context("receive from", number(&socket)),
    }
}

/// Sends one message on a connected socket together with `descriptors`, at most [`DESCRIPTORS`]. Returns the
/// bytes sent. A stream needs at least one byte for descriptors to travel with.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = descriptors.is_empty()
        || descriptors.len() <= DESCRIPTORS && control.push(SendAncillaryMessage::ScmRights(descriptors));
    if !fits {
        return Err(Errno::TOOMANYREFS).context("send to", number(&socket));
    }
    rustix::net::sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
        .context("send to", number(&socket))
}

/// A file in memory with this content that nobody can change any more: memfd_create(2) with all seals.
pub fn sealed_memory(name: &str, content: &[u8]) -> Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create(name, flags).context("create memory file", name)?;
    let mut rest = content;
    while !rest.is_empty() {
        let count = rustix::io::write(&fd, rest).context("write memory file", name)?;
        rest = rest.get(count..).unwrap_or_default();
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&fd, seals).context("seal memory file", name)?;
    Ok(fd)
}

/// Reads at most `limit` bytes from the start of a file that a peer passed. Only files in memory are read
/// (those that can have seals, `F_GET_SEALS` of fcntl(2)): reading any other could wait for ever.
pub fn read_memory(file: impl AsFd, limit: usize) -> Result<Vec<u8>> {
    rustix::fs::fcntl_get_seals(&file).context("read passed file", number(&file))?;
    let size = rustix::fs::fstat(&file).context("read passed file", number(&file))?.st_size;
    let mut content = vec![0u8; usize::try_from(size).unwrap_or(0).min(limit)];
    let mut filled = 0usize;
    while let Some(rest) = content.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let offset = u64::try_from(filled).unwrap_or(u64::MAX);
        match rustix::io::pread(&file, rest, offset).context("read passed file", number(&file))? {
            0 => break,
            count => filled = filled.saturating_add(count),
        }
    }
    content.truncate(filled);
    Ok(content)
}

/// The sockets that the service manager passed to this process: sd_listen_fds(3). The first call takes them;
/// later ones get none. They close on exec from now on.
pub fn take_passed() -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let variable = |name: &str| minke_wire::text::in_base::<u32>(&std::env::var(name).ok()?, 10);
    if variable("LISTEN_PID") != Some(std::process::id()) || TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    let count = variable("LISTEN_FDS").and_then(|count| i32::try_from(count).ok()).unwrap_or(0).clamp(0, 64);
    let mut sockets = Vec::new();
    for number in 3..count.saturating_add(3) {
        sockets.extend(adopt(number));
    }
    sockets
}

/// Takes a descriptor that was passed through exec. What this process opened itself closes on exec, so such a
/// number belongs to somebody else here, even if the service manager's count includes it.
fn adopt(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD only reads a flag, and fails for a number that is not open.
    let flags = rustix::io::fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) }).ok()?;
    if flags.contains(rustix::io::FdFlags::CLOEXEC) {
        return None;
    }
    // It was open before this program began (see above), and `take_passed`, the only caller, runs once.
    // SAFETY: it is open, and the service manager passed it to us (LISTEN_PID): nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).ok()?;
    Some(fd)
}

/// Whether a Unix socket is bound to this path.
pub fn is_bound_to(socket: impl AsFd, path: &Path) -> bool {
    let address = rustix::net::getsockname(socket).and_then(rustix::net::SocketAddrUnix::try_from);
    address.is_ok_and(|address| address.path_bytes() == Some(path.as_os_str().as_bytes()))
}

fn number(fd: impl AsFd) -> RawFd {
    fd.as_fd().as_raw_fd()
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    #[test]
    fn credentials_and_descriptors_travel_with_a_datagram() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        pass_credentials(&ours).unwrap();
        let file = sealed_memory("test", b"content").unwrap();
        send(&theirs, b"hello", &[file.as_fd(), theirs.as_fd()]).unwrap();
        assert_eq!(next_length(&ours).unwrap(), Some(5));
        let mut buffer = [0u8; 3];
        let received = receive(&ours, &mut buffer).unwrap().unwrap();
        assert_eq!((received.length, received.truncated, &buffer), (3, true, b"hel"));
        let me = received.credentials.unwrap();
        assert_eq!(me.pid.cast_unsigned(), std::process::id());
        assert_eq!(me.uid, rustix::process::getuid().as_raw());
        assert_eq!(received.descriptors.len(), 2);
        assert_eq!(read_memory(&received.descriptors[0], 100).unwrap(), b"content");
        assert_eq!(read_memory(&received.descriptors[0], 3).unwrap(), b"con");
        assert!(read_memory(&received.descriptors[1], 3).is_err(), "a socket is no file in memory");
        assert!(receive(&ours, &mut buffer).unwrap().is_none());
    }

    #[test]
    fn a_stream_has_a_peer_and_an_end() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        assert_eq!(peer_credentials(&ours).unwrap().pid.cast_unsigned(), std::process::id());
        send(&theirs, b"x", &[]).unwrap();
        let mut buffer = [0u8; 8];
        let received = receive(&ours, &mut buffer).unwrap().unwrap();
        assert_eq!((received.length, received.credentials), (1, None));
        drop(theirs);
        // A child that another test starts right now holds a copy of it until it executes.
        assert_eq!(crate::soon(|| receive(&ours, &mut buffer).unwrap()).length, 0);
    }

    #[test]
    fn more_descriptors_than_the_limit_are_refused() {
        let (_ours, theirs) = UnixDatagram::pair().unwrap();
        assert!(send(&theirs, b"x", &[theirs.as_fd(); DESCRIPTORS + 1]).is_err());
    }

    #[test]
    fn broken_control_messages_end_the_walk() {
        let mut bytes = [0u8; 48];
        for length in [0usize, 1, 15, 49, usize::MAX] {
            bytes[..size_of::<usize>()].copy_from_slice(&length.to_ne_bytes());
            assert_eq!(control_messages(&bytes), (None, Vec::new()));
        }
    }
}
