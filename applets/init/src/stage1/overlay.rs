//! Started by somebody else's stage 1, as the first program of a slot or of a host app: decision 5, spec os §1.7.
//!
//! A reference system's initramfs starts `/sbin/init` of the slot, a link to the host app's `boot/init`; its own such
//! program shows the host app's layers as `/` and starts `/sbin/init` there. Both places hold no system but a root
//! image, which becomes `/` here; the next program is the `/sbin/init` in it.

use super::system;
use super::{layers, mount_api_file_systems, start_log};
use crate::cmdline::Cmdline;
use crate::why::Why;
use crate::{log, mounts};
use minke_boot::ROOT_IMAGE;
use minke_sys::mount::{self, move_mount, pivot_root};
use minke_sys::status::{exists, is_dir, of_link};
use minke_sys::{Context, file, process};
use minke_wire::mountinfo::{self, Mount};
use std::convert::Infallible;
use std::path::{Path, PathBuf};

const ROOT: &str = "/";
/// Where `-sysroot` mounts root images, each in a folder of its host app's name.
const SYSROOT: &str = "/run/minke/sysroot";

/// Whether this PID 1 runs in such a place.
pub fn is_here() -> bool {
    !exists("/etc/os-release") && (exists(Path::new(ROOT).join(ROOT_IMAGE)) || of_link("/current").is_ok())
}

/// Enters the root image. It ends in the next program or in a restart of the machine.
pub fn run() -> u8 {
    mount_api_file_systems();
    let cmdline = Cmdline::read();
    start_log(&cmdline);
    let Err(error) = enter(&cmdline);
    super::fail(&error, &cmdline)
}

fn enter(cmdline: &Cmdline) -> Result<Infallible, Why> {
    let root = Path::new(ROOT);
    let own = root.join(ROOT_IMAGE);
    let in_host_app = exists(&own);
    let image = if in_host_app { Some(own.clone()) } else { system::image_of(root) };
    let image = image.ok_or_else(|| system::no_system(&own))?;
    // An empty folder of slots and of host apps, on which nobody mounts anything yet.
    let mut folders = ["/tmp", "/sbin"].into_iter().map(Path::new);
    let system = folders.find(|folder| is_dir(folder)).unwrap_or(root);
    system::mount_image(&image, system, cmdline)?;
    take_along(&mounts::table(), system);
    std::env::set_current_dir(system).on("enter", system)?;
    let here = Path::new(".");
    if in_host_app {
        // The new root covers the old one, which goes when the root image does: pivot_root(2), NOTES.
        pivot_root(here, here)?;
        log::failure(log::WARNING, mount::unmount_lazy(here));
    } else {
        pivot_root(here, Path::new("mnt/sysroot/active"))?;
    }
    std::env::set_current_dir(ROOT).on("enter", root)?;
    log::line(log::INFO, format_args!("hand over to /sbin/init"));
    process::execute(c"/sbin/init", &[c"/sbin/init".into()], &process::environment())?;
    Err(system::no_system(Path::new("/sbin/init")))
}

/// Moves what is mounted on `/` to the same places in the new system; what is below moves along.
fn take_along(table: &[Mount], system: &Path) {
    let Some(root) = mountinfo::find(table, ROOT) else { return };
    for mount in table.iter().filter(|mount| mount.parent == root.id && mount.target != ROOT) {
        let from = Path::new(&mount.target);
        if from == system {
            continue;
        }
        let to = system.join(mount.target.trim_start_matches('/'));
        log::failure(log::WARNING, move_mount(from, &to));
    }
}

/// Shows the system that the slot mounted at `slot` holds, and returns where: `init -sysroot` (spec os §1.7.7), for
/// programs that look into the other slot. Shown already is success.
pub fn sysroot(slot: &Path) -> Result<PathBuf, Why> {
    let app = system::current(slot);
    let shown = |place: &Path| mountinfo::find(&mounts::table(), &place.to_string_lossy()).is_some();
    if let Some(image) = system::image_of(slot) {
        let place = Path::new(SYSROOT).join(app.file_name().unwrap_or_default());
        if !shown(&place) {
            file::make_folder(&place, 0o755)?;
            system::mount_image(&image, &place, &Cmdline::default())?;
        }
        return Ok(place);
    }
    let layers = layers::of(slot, &app).ok_or_else(|| system::no_system(&app.join(ROOT_IMAGE)))?;
    if !shown(&layers.merged) {
        file::make_folder(&layers.merged, 0o755)?;
        layers.mount()?;
    }
    Ok(layers.merged)
}
