//! The commands.

use crate::devices::Devices;
use crate::mount::{VOLATILE, is_mounted};
use crate::plan::{BINDS, DATA, PARTITIONS, STATE};
use crate::{bind, mount, reserve, reset, status};
use minke_applet::{Args, EXIT_USAGE, log};
use minke_config::machine_id;
use minke_sys::{Errno, file};
use std::path::Path;
use std::time::Duration;

/// Seconds that a device is waited for (spec os §1.5.1).
const WAIT: u64 = 30;

/// Runs `mount-state`.
pub fn run(args: &Args) -> u8 {
    // The mount table has real paths.
    let root = match file::real_path(Path::new(args.value("root").unwrap_or("/"))) {
        Ok(root) => root,
        Err(error) => {
            log::error(format_args!("{error}"));
            return 1;
        }
    };
    let Ok(wait) = args.value("wait").map_or(Ok(WAIT), str::parse) else {
        minke_applet::errln!("mount-state: --wait takes seconds");
        return EXIT_USAGE;
    };
    match (args.operand(0), args.operands().len()) {
        (Some("start"), 1) => start(&root, args.value("devices").map(Path::new), Duration::from_secs(wait)),
        (Some("stop"), 1) => stop(&root),
        (Some("mount"), 2) => {
            let mut devices = Devices::new(args.value("devices").map(Path::new), Duration::from_secs(wait));
            one(&root, args.operand(1).unwrap_or_default(), Some(&mut devices))
        }
        (Some("grow"), 1) => grow(&root),
        (Some("umount"), 2) => one(&root, args.operand(1).unwrap_or_default(), None),
        (Some("status"), 1) => status::print(&root, args.has("json")),
        (Some("check"), 1) => status::check(&root, args.has("json")),
        _ => {
            minke_applet::errln!(
                "mount-state: expected start, stop, mount NAME, umount NAME, grow, status or check; see 'mount-state --help'"
            );
            EXIT_USAGE
        }
    }
}

/// Lets the data file system fill its partition.
fn grow(root: &Path) -> u8 {
    let table = mount::table();
    let data = table.as_ref().ok().and_then(|table| mount::find(table, &root.join(DATA.target)));
    let Some(data) = data.filter(|data| !mount::is_volatile(data)) else {
        log::error(format_args!("{} is not mounted", DATA.label));
        return 1;
    };
    match mount::grow(root, Path::new(&data.source), true) {
        Ok(()) => 0,
        Err(error) => {
            log::error(format_args!("{} does not grow: {error}", DATA.label));
            1
        }
    }
}

/// Mounts one partition by its name, or without devices unmounts it.
fn one(root: &Path, name: &str, devices: Option<&mut Devices>) -> u8 {
    if !matches!(name, "boot" | "state" | "data" | "active" | "inactive") {
        minke_applet::errln!("mount-state: '{name}' is none of boot, state, data, active, inactive");
        return EXIT_USAGE;
    }
    let Some(devices) = devices else { return u8::from(!unmount(&mount::place_of(root, name))) };
    match mount::one(root, name, devices) {
        Ok(()) => 0,
        Err(error) => {
            log::error(format_args!("{name} is not mounted: {error}"));
            1
        }
    }
}

/// What fails is logged, and the exit status is 0 all the same: a unit that failed would take down all that
/// needs it, and with it the way to repair the device.
fn start(root: &Path, links: Option<&Path>, wait: Duration) -> u8 {
    mount::partitions(root, &mut Devices::new(links, wait));
    reset::all(root);
    reserve::all(root);
    let kept = root.join(STATE.target).join("machine-id");
    match machine_id::ensure(&kept) {
        Ok(true) => log::info(format_args!("made a new machine-id")),
        Ok(false) => {}
        Err(error) => log::warn(format_args!("the machine-id is not kept: {error}")),
    }
    bind::all(root);
    // Stage 1 has bound the file of a partition that turned out to be read-only: the id in memory stands in.
    let seen = root.join("etc/machine-id");
    if !machine_id::is_there(&seen)
        && let Err(error) = minke_sys::mount::bind(&kept, &seen, false)
    {
        log::warn(format_args!("there is no machine-id: {error}"));
    }
    0
}

/// The most mounts at one place: a partition and an overlay over it.
const STACK: usize = 3;

fn stop(root: &Path) -> u8 {
    let mut failed = false;
    for bind in BINDS.iter().rev() {
        failed |= !unmount(&root.join(bind.target));
    }
    for partition in PARTITIONS.iter().rev() {
        failed |= !unmount(&root.join(partition.target));
    }
    let volatile = root.join(VOLATILE);
    failed |= !unmount(&volatile.join("binds"));
    for partition in &PARTITIONS {
        failed |= !unmount(&volatile.join(partition.label));
    }
    u8::from(failed)
}

/// Takes away what is mounted there, and says whether nothing is left.
fn unmount(target: &Path) -> bool {
    for _ in 0..STACK {
        if !is_mounted(target) {
            break;
        }
        match minke_sys::mount::unmount(target) {
            Ok(()) => {}
            // Another one unmounted it meanwhile.
            Err(error) if error.errno == Errno::INVAL => {}
            Err(error) => {
                log::warn(format_args!("{error}"));
                return false;
            }
        }
    }
    true
}
