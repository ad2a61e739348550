//! PID 1 in the initramfs: loads modules, waits for the root device, checks file systems, mounts the slot and
//! the root image in it, and hands over to `/sbin/init` there.

mod check;
mod handover;
mod machine_id;
mod root;

use crate::cmdline::Cmdline;
use crate::{log, modules};
use minke_sys::mount::{self, Flags};
use std::ffi::CString;
use std::fmt;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything that stage 1 prints (spec os §2.3, module `prepare`).
const DEBUG_LOG: &str = "/run/initramfs/initramfs.debug";
/// Time to read the message before the machine starts again.
const FAILURE_DELAY: Duration = Duration::from_secs(10);

/// What stops stage 1.
#[derive(Debug)]
pub enum Error {
    /// The kernel command line names no root device, or one of an unknown form.
    NoRoot(Option<String>),
    /// The root device did not come in time.
    Missing {
        /// What `root=` says.
        root: String,
        /// How long we waited.
        waited: Duration,
    },
    /// The slot holds no root file system.
    NoSystem(PathBuf),
    /// A system call failed.
    Sys(minke_sys::Error),
}

impl From<minke_sys::Error> for Error {
    fn from(error: minke_sys::Error) -> Self {
        Self::Sys(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRoot(None) => f.write_str("the kernel command line has no root="),
            Self::NoRoot(Some(value)) => write!(f, "root={value} has an unknown form"),
            Self::Missing { root, waited } => {
                write!(f, "root={root} did not appear within {} s (roottimeout)", waited.as_secs())
            }
            Self::NoSystem(path) => write!(f, "no root file system: there is no {}", path.display()),
            Self::Sys(error) => error.fmt(f),
        }
    }
}

/// Whether this PID 1 runs in the initramfs.
pub fn in_initramfs() -> bool {
    Path::new("/etc/initrd-release").exists()
        || (Path::new("/init").exists() && !Path::new("/etc/os-release").exists())
}

/// Runs stage 1. It ends in the next program or in a restart of the machine.
pub fn run() -> u8 {
    mount_api_file_systems();
    let cmdline = Cmdline::read();
    start_log(&cmdline);
    log::line(log::INFO, format_args!("stage 1 of minke {}", minke_applet::build().version));
    let Err(error) = boot(&cmdline);
    fail(&error, &cmdline)
}

fn boot(cmdline: &Cmdline) -> Result<std::convert::Infallible, Error> {
    load_modules();
    let mut devices = root::Devices::watch(cmdline)?;
    devices.wait_for_root()?;
    check::check(&devices);
    let system = root::mount_system(&devices, cmdline)?;
    if let Err(error) = machine_id::provide(&mut devices, &system) {
        log::line(log::WARNING, format_args!("the machine id is not kept over this boot: {error}"));
    }
    let init = CString::new(cmdline.value("init").unwrap_or("/sbin/init")).unwrap_or_default();
    handover::hand_over(&system, &init)
}

fn mount_api_file_systems() {
    let quiet = Flags::NOSUID | Flags::NODEV | Flags::NOEXEC;
    let plan = [
        ("proc", "/proc", "proc", quiet, ""),
        ("sysfs", "/sys", "sysfs", quiet, ""),
        ("devtmpfs", "/dev", "devtmpfs", Flags::NOSUID, "mode=0755"),
        ("tmpfs", "/run", "tmpfs", Flags::NOSUID | Flags::NODEV | Flags::STRICTATIME, "mode=0755"),
    ];
    for (source, target, kind, flags, data) in plan {
        let target = Path::new(target);
        let made = minke_sys::file::make_folder(target, 0o755);
        if let Err(error) = made.and_then(|()| mount::mount(source, target, kind, flags, data)) {
            eprintln!("[init][WARN] {error}");
        }
    }
}

fn start_log(cmdline: &Cmdline) {
    // The kernel drops lines of user space beyond ten in five seconds otherwise.
    let _ = std::fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    let path = if cmdline.has("shell") || cmdline.has("shell_debug") {
        Path::new("/dev/console")
    } else {
        let _ = minke_sys::file::make_folder(Path::new("/run/initramfs"), 0o755);
        Path::new(DEBUG_LOG)
    };
    log::copy_to(OpenOptions::new().create(true).append(true).open(path).ok());
}

fn load_modules() {
    let list = minke_sys::file::read_optional(Path::new("/etc/minke/modules"), 64 << 10);
    let list = String::from_utf8_lossy(&list.ok().flatten().unwrap_or_default()).into_owned();
    let mut known = modules::Modules::open();
    for (name, parameters) in modules::listed(&list) {
        if let Err(error) = known.load(name, parameters) {
            log::line(log::WARNING, format_args!("{error}"));
        }
    }
}

/// The end of a boot that cannot go on: a line that a person sees, a shell if one is asked for, a restart.
fn fail(error: &Error, cmdline: &Cmdline) -> u8 {
    log::line(log::ERROR, format_args!("cannot boot: {error}"));
    log::console(format_args!("cannot boot: {error}"));
    if cmdline.has("shell") {
        shell();
    }
    log::console(format_args!("restart in {} s", FAILURE_DELAY.as_secs()));
    std::thread::sleep(FAILURE_DELAY);
    minke_sys::file::sync_all();
    let _ = minke_sys::process::end_system(minke_sys::process::Ending::Restart);
    1
}

fn shell() {
    for path in [c"/bin/busybox", c"/usr/bin/busybox"] {
        let mut spawn = minke_sys::process::Spawn::new(path);
        spawn.arguments = vec![c"busybox".into(), c"sh".into()];
        spawn.environment = minke_sys::process::environment();
        spawn.terminal = minke_sys::process::Terminal::Controlling;
        if Path::new(&*path.to_string_lossy()).exists() {
            log::console(format_args!("a shell follows; its end restarts the machine"));
            let open = || OpenOptions::new().read(true).write(true).open("/dev/console").ok();
            spawn.stdio = [open().map(Into::into), open().map(Into::into), open().map(Into::into)];
            let _ = spawn.start().and_then(minke_sys::process::wait);
            return;
        }
    }
}
