//! PID 1 in the initramfs: loads modules, waits for the root device, checks file systems, mounts the slot and
//! the root image in it, and hands over to `/sbin/init` there.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod bootloader;
mod check;
mod fallback;
mod grow;
mod handover;
mod layers;
mod machine_id;
pub mod overlay;
mod root;
mod system;
mod unique;
mod verity;

use crate::cmdline::Cmdline;
use crate::why::Why;
use crate::{log, modules, mounts, watchdog};
use minke_sys::file::{self, APPEND};
use minke_sys::process::{self, Spawn};
use minke_sys::status::exists;
use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

/// Everything that stage 1 prints (spec os §2.3, module `prepare`).
const DEBUG_LOG: &str = "/run/initramfs/initramfs.debug";
/// Time to read the message before the machine starts again.
const FAILURE_DELAY: Duration = Duration::from_secs(10);

/// Whether this PID 1 runs in the initramfs.
pub fn in_initramfs() -> bool {
    exists("/etc/initrd-release") || (exists("/init") && !exists("/etc/os-release"))
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

fn boot(cmdline: &Cmdline) -> Result<std::convert::Infallible, Why> {
    load_modules();
    // Started for good, one that waits some seconds only would cut a long check short, at each start anew.
    if !minke_sys::watchdog::is_for_good() {
        watchdog::hold(cmdline);
    }
    // UUIDs wait for the kernel's generator: 3.7 s on an emulated ARM1176 that has to gather a seed of its own.
    if minke_sys::random::seed_from_hardware() {
        log::line(log::INFO, format_args!("the machine's random numbers seed the kernel's"));
    }
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if cmdline.has("balena_stage2") {
        return bootloader::run(cmdline);
    }
    let mut devices = root::Devices::watch(cmdline)?;
    devices.wait_for_root()?;
    // An installer's medium stays as it is.
    if !cmdline.has("flasher") {
        prepare(&mut devices);
    }
    minke_sys::watchdog::feed();
    let Err(error) = start(&mut devices, cmdline);
    if let Err(why) = fallback::count(&devices) {
        log::alarm(format_args!("{why}"));
    }
    Err(error)
}

/// Goes into the system that the slot holds.
fn start(devices: &mut root::Devices, cmdline: &Cmdline) -> Result<std::convert::Infallible, Why> {
    let system = system::mount_system(devices, cmdline)?;
    if let Err(error) = machine_id::provide(devices, system) {
        log::line(log::WARNING, format_args!("the machine id is not kept over this boot: {error}"));
    }
    let init = CString::new(cmdline.value("init").unwrap_or("/sbin/init")).unwrap_or_default();
    handover::hand_over(system, &init)
}

/// Brings the disk in order, each step whatever became of the others.
fn prepare(devices: &mut root::Devices) {
    check::check(devices);
    // A repair may have brought a label or a UUID back.
    devices.refresh();
    let renewed = unique::renew(devices);
    if grow::grow(devices) || renewed {
        devices.refresh();
    }
    devices.publish_root();
}

fn mount_api_file_systems() {
    for api in mounts::API.iter().filter(|api| api.early) {
        // Whoever started this may have mounted some.
        if minke_wire::mountinfo::find(&mounts::table(), api.target).is_some() {
            continue;
        }
        let made = minke_sys::file::make_folder(Path::new(api.target), 0o755);
        if let Err(error) = made.and_then(|()| api.mount()) {
            minke_applet::errln!("[init][WARN] {error}");
        }
    }
}

fn start_log(cmdline: &Cmdline) {
    // The kernel drops lines of user space beyond ten in five seconds otherwise.
    let _ = file::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    // From here on a panic restarts the machine, whatever its boot loader passes: a start that counts.
    let _ = file::write("/proc/sys/kernel/panic", "1");
    let path = if cmdline.has("shell") || cmdline.has("shell_debug") {
        Path::new("/dev/console")
    } else {
        let _ = minke_sys::file::make_folder(Path::new("/run/initramfs"), 0o755);
        Path::new(DEBUG_LOG)
    };
    log::copy_to(file::open(path, APPEND).ok());
}

fn load_modules() {
    let list = crate::read_text(Path::new("/etc/minke/modules"), 64 << 10);
    let known = modules::Modules::open();
    for (name, parameters) in modules::listed(&list) {
        if let Err(error) = known.load(name, parameters) {
            log::line(log::WARNING, format_args!("{error}"));
        }
    }
}

/// The end of a boot that cannot go on: a line that a person sees, a shell if one is asked for, a restart.
fn fail(error: &Why, cmdline: &Cmdline) -> u8 {
    log::alarm(format_args!("cannot boot: {error}"));
    if cmdline.has("shell") {
        minke_sys::watchdog::stop();
        shell();
    }
    log::console(format_args!("restart in {} s", FAILURE_DELAY.as_secs()));
    minke_sys::clock::sleep(FAILURE_DELAY);
    minke_sys::file::sync_all();
    let _ = process::end_system(process::Ending::Restart);
    1
}

fn shell() {
    let mut paths = [c"/bin/busybox", c"/usr/bin/busybox"].into_iter();
    let Some(path) = paths.find(|path| exists(&*path.to_string_lossy())) else { return };
    let mut spawn = Spawn::new(path);
    spawn.arguments = vec![c"busybox".into(), c"sh".into()];
    spawn.environment = process::environment();
    spawn.terminal = process::Terminal::Controlling;
    log::console(format_args!("a shell follows; its end restarts the machine"));
    for stream in &mut spawn.stdio {
        *stream = file::open("/dev/console", file::Flags::RDWR).ok().map(Into::into);
    }
    let _ = spawn.start().and_then(process::wait);
}
