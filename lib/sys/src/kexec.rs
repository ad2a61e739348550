//! Starting another kernel from this one: kexec_file_load(2), and kexec_load(2) on 64-bit ARM, where Debian's kernels
//! lack the newer call. [`crate::process::Ending::Kexec`] then starts what was loaded.

#[cfg(target_arch = "aarch64")]
mod arm64;

use crate::file::open_to_read;
use crate::{Context, Result};
use rustix::io::Errno;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `KEXEC_FILE_NO_INITRAMFS` of include/uapi/linux/kexec.h.
const NO_INITRAMFS: libc::c_long = 4;
/// The number of kexec_file_load(2), which libc does not know everywhere.
const KEXEC_FILE_LOAD: libc::c_long = if cfg!(target_arch = "x86_64") { 320 } else { 294 };

/// Loads the kernel in `kernel` with its initramfs and its command line. `EBUSY`: one is being loaded; `EPERM`: not
/// allowed, for instance by lockdown; `ENOEXEC`: it is no kernel of this architecture.
pub fn load(kernel: &Path, initramfs: Option<&Path>, arguments: &str) -> Result<()> {
    let kernel_file = open_to_read(kernel)?;
    let initramfs_file = initramfs.map(open_to_read).transpose()?;
    let arguments = CString::new(arguments).map_err(|_| Errno::INVAL).on("load kernel", kernel)?;
    let initramfs_fd = initramfs_file.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    let flags = if initramfs_file.is_some() { 0 } else { NO_INITRAMFS };
    let (line, length) = (arguments.as_ptr(), arguments.as_bytes_with_nul().len());
    let fd = kernel_file.as_raw_fd();
    // SAFETY: two open files, and a text of that length with its zero, which live through the call.
    let done = unsafe { libc::syscall(KEXEC_FILE_LOAD, fd, initramfs_fd, length, line, flags) };
    let loaded = if done == 0 { Ok(()) } else { Err(last_error()) };
    #[cfg(target_arch = "aarch64")]
    if loaded == Err(Errno::NOSYS) {
        return arm64::load(&kernel_file, initramfs_file.as_ref(), arguments.as_bytes_with_nul())
            .on("load kernel", kernel);
    }
    loaded.on("load kernel", kernel)
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
