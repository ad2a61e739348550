//! From the initramfs into the system.

use crate::log;
use crate::why::Why;
use minke_sys::{Context, file, mount, process, status};
use minke_wire::mountinfo;
use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Moves the kernel's file systems into the new root, makes it `/`, frees what the initramfs holds, and
/// executes `init` there. It returns only when that fails.
pub fn hand_over(system: &Path, init: &std::ffi::CStr) -> Result<std::convert::Infallible, Why> {
    let name = init.to_string_lossy();
    let inside = system.join(name.trim_start_matches('/'));
    if status::of_link(&inside).is_err() {
        return Err(super::system::no_system(&inside));
    }
    log::line(log::INFO, format_args!("hand over to {name}"));
    // The log file lies in /run, which goes along; its handle stays valid until exec.
    let old = old_root()?;
    for folder in &["dev", "proc", "sys", "run"] {
        mount::move_mount(&Path::new("/").join(folder), &system.join(folder))?;
    }
    std::env::set_current_dir(system).on("enter", system)?;
    mount::move_mount(Path::new("."), Path::new("/"))?;
    mount::chroot(Path::new("."))?;
    std::env::set_current_dir("/").on("enter", "/")?;
    if let Some(old) = old {
        free(&old);
    }
    let arguments = [CString::from(init)];
    let mut environment = process::environment();
    environment.extend(minke_sys::watchdog::leave());
    process::execute(init, &arguments, &environment)?;
    Err(super::system::no_system(Path::new(&*name)))
}

/// A handle on the initramfs; `None` when `/` is anything else: a disk must never be emptied here.
fn old_root() -> minke_sys::Result<Option<File>> {
    let mounts = mountinfo::parse(&mount::mountinfo()?);
    // The kernel hides the initial ramfs itself from some tables; what it shows has one of these types.
    let kind = mounts.iter().find(|mount| mount.target == "/").map(|mount| mount.kind.as_str());
    if !matches!(kind, None | Some("rootfs" | "ramfs" | "tmpfs")) {
        return Ok(None);
    }
    file::open_to_read("/").map(Some)
}

/// Removes everything on the file system that `root` is on: files in an initramfs occupy memory.
fn free(root: &File) {
    let path = format!("/proc/self/fd/{}", root.as_raw_fd());
    if let Ok(metadata) = status::of_open(root) {
        remove_content(Path::new(&path), metadata.device);
    }
}

fn remove_content(folder: &Path, device: u64) {
    for path in file::list(folder).unwrap_or_default() {
        let Ok(metadata) = status::of_link(&path) else { continue };
        if metadata.device != device {
            continue;
        }
        if metadata.is_dir() {
            remove_content(&path, device);
            let _ = std::fs::remove_dir(&path);
        } else {
            let _ = std::fs::remove_file(&path);
        }
    }
}
