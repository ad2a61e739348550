//! recvmsg(2) and sendmsg(2): datagrams with the other side's name and control messages.

use crate::datagram::{CONTROL, last_errno, write_address};
use crate::{Context, Result};
use rustix::io::Errno;
use std::net::SocketAddr;
use std::os::fd::RawFd;

/// What was taken.
pub(crate) struct Taken {
    /// Bytes in the buffer.
    pub(crate) length: usize,
    /// Bytes of control messages.
    pub(crate) used: usize,
    /// The datagram was longer than the buffer.
    pub(crate) truncated: bool,
}

/// Takes one message without waiting: its bytes in `buffer`, and how many of `control` are filled. `name` is where the
/// sender's address goes, and may be empty. `None`: nothing is there.
pub(crate) fn receive(
    fd: RawFd,
    name: &mut [u8],
    buffer: &mut [u8],
    control: &mut [u64],
    flags: i32,
) -> std::result::Result<Option<Taken>, Errno> {
    let room = size_of_val(control);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: a `msghdr` of zeros (null pointers, no lengths) is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    if !name.is_empty() {
        message.msg_name = name.as_mut_ptr().cast();
        message.msg_namelen = name.len() as libc::socklen_t;
    }
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    // `u64` keeps the control messages aligned as the kernel's `struct cmsghdr` wants.
    message.msg_control = control.as_mut_ptr().cast();
    // The type of this member differs between C libraries.
    message.msg_controllen = room as _;
    let flags = flags | libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // The call itself: libc's converts times of 32 bits, which nobody asks for.
    // SAFETY: the pointers in `message` lead to `name`, `buffer` and `control` with their lengths, all ours alone.
    let count = unsafe { libc::syscall(libc::SYS_recvmsg, fd, &raw mut message, flags) };
    let Ok(length) = usize::try_from(count) else {
        let errno = Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO);
        return if matches!(errno, Errno::AGAIN | Errno::INTR) { Ok(None) } else { Err(errno) };
    };
    #[allow(clippy::unnecessary_cast)]
    let used = (message.msg_controllen as usize).min(room);
    Ok(Some(Taken { length, used, truncated: message.msg_flags & libc::MSG_TRUNC != 0 }))
}

/// Sends one message without waiting, with the control messages in the first `used` bytes of `control`.
pub(crate) fn send(
    fd: RawFd,
    to: SocketAddr,
    bytes: &[u8],
    control: &[u64; CONTROL / 8],
    used: usize,
) -> Result<()> {
    let (name, name_length) = write_address(to);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: a `msghdr` of zeros (null pointers, no lengths) is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = name.as_ptr().cast_mut().cast();
    message.msg_namelen = name_length;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if used > 0 {
        message.msg_control = control.as_ptr().cast_mut().cast();
        message.msg_controllen = used.min(CONTROL) as _;
    }
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the pointers in `message` lead to `name`, `bytes` and `control` with their lengths, which are only read.
    let count = unsafe { libc::syscall(libc::SYS_sendmsg, fd, &raw const message, flags) };
    if count < 0 { Err(last_errno()).context("send to", to) } else { Ok(()) }
}
