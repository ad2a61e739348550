//! The container's file tree, built inside its own mount namespace before anything of the image runs.

use super::devices;
use super::failure::{Failure, Step};
use crate::fields::Fields;
use minke_sys::block::RESERVE_GROUP;
use minke_sys::capability;
use minke_sys::rootfs::{self, Propagation, Restrictions, Root, Tree};
use minke_wire::json::Value;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Kernel interfaces below /proc that would tell about or change the host: they read as empty.
const MASKED_PATHS: &str = "/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats \
    /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware";

/// Where file systems of the kernel are in every container.
const KERNEL_MOUNTS: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Kernel interfaces that may be read and not written.
const READ_ONLY_PATHS: &str = "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger";

const NOTHING_SPECIAL: Restrictions =
    Restrictions { read_only: false, no_suid: true, no_dev: true, no_exec: true };
const READ_ONLY: Restrictions = Restrictions { read_only: true, ..NOTHING_SPECIAL };

/// Options of the container's own devpts; group 5 is `tty`.
const TERMINALS: &[(&str, &str)] =
    &[("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];

/// Mounts everything and makes it the root of this namespace.
pub fn build(spec: &Value) -> Result<(), Failure> {
    let privileged = spec.flag("privileged");
    rootfs::set_propagation(Path::new("/"), Propagation::Slave).step("isolate mounts")?;
    let place = PathBuf::from(spec.text("root"));
    let root = match assemble(spec, &place, privileged) {
        Err(failure) if failure.is_full => {
            // Not even this may have been mounted.
            let _ = rootfs::detach(&place);
            places_from_reserve(spec, &place)?;
            assemble(spec, &place, privileged)
        }
        other => other,
    }?;
    write_sysctls(spec)?;
    if !privileged {
        hide(&root, spec)?;
    }
    minke_sys::namespace::pivot_root(&place).step("change the root")?;
    if spec.flag("read_only") {
        let flags = minke_sys::mount::Flags::RDONLY;
        minke_sys::mount::remount_bind(Path::new("/"), flags).step("make the root read-only")?;
    }
    Ok(())
}

/// The root file system with all that is mounted in it.
fn assemble(spec: &Value, place: &Path, privileged: bool) -> Result<Root, Failure> {
    let root = mount_root(spec, place)?;
    kernel_file_systems(&root, spec, privileged)?;
    devices::populate(&root, spec)?;
    attach_all(&root, spec.items("mounts"))?;
    // While the root can still be written to, whatever user and read-only flag come later.
    root.folder(Path::new(spec.text("cwd")), 0o755).step("working directory")?;
    Ok(root)
}

fn mount_root(spec: &Value, place: &Path) -> Result<Root, Failure> {
    let layers: Vec<PathBuf> = spec.texts("layers").into_iter().map(PathBuf::from).collect();
    let (upper, work) = (Path::new(spec.text("upper")), Path::new(spec.text("work")));
    rootfs::mount_overlay(place, &layers, upper, work).step("mount the root file system")?;
    Root::open(place).step("open the root file system")
}

/// On a full file system: makes the folders and files that [`assemble`] mounts on. An overlay writes as who mounted it, and
/// never with CAP_SYS_RESOURCE (`ovl_fill_super`), so it is mounted once by a member of the group that may use the reserve;
/// the container's own is not. Thus a container that was replaced on a full disk still starts.
fn places_from_reserve(spec: &Value, place: &Path) -> Result<(), Failure> {
    capability::set_groups(&[RESERVE_GROUP]).step("use the reserve")?;
    let root = mount_root(spec, place);
    capability::set_groups(&[]).step("leave the reserve")?;
    let root = root?;
    for path in KERNEL_MOUNTS {
        root.folder(Path::new(path), 0o755).step(path)?;
    }
    let mounts = spec.items("mounts");
    // Below another mount it is not this file system's.
    let is_ours = |path: &Path| {
        let mut covers = KERNEL_MOUNTS.into_iter().chain(mounts.iter().map(|mount| mount.text("target")));
        covers.all(|cover| path == Path::new(cover) || !path.starts_with(cover))
    };
    for mount in mounts {
        if is_ours(Path::new(mount.text("target"))) {
            place_for(&root, mount).step("mount point")?;
        }
    }
    let folder = Path::new(spec.text("cwd"));
    if is_ours(folder) {
        root.folder(folder, 0o755).step("working directory")?;
    }
    drop(root);
    rootfs::detach(place).step("unmount the root file system")
}

/// The place that a mount goes to, made when missing.
fn place_for(root: &Root, mount: &Value) -> minke_sys::Result<OwnedFd> {
    let target = Path::new(mount.text("target"));
    let is_folder =
        mount.text("type") == "tmpfs" || minke_sys::status::is_dir(Path::new(mount.text("source")));
    if is_folder { root.folder(target, 0o755) } else { root.file(target) }
}

fn kernel_file_systems(root: &Root, spec: &Value, privileged: bool) -> Result<(), Failure> {
    let limits = if privileged { NOTHING_SPECIAL } else { READ_ONLY };
    mount(root, "/proc", "proc", &[], NOTHING_SPECIAL)?;
    mount(root, "/sys", "sysfs", &[], limits)?;
    // A kernel without cgroup v2 has no such folder, and containers do without.
    if mount(root, "/sys/fs/cgroup", "cgroup2", &[], limits).is_err() {
        minke_applet::log::warn(format_args!("container {}: no cgroup v2 in it", spec.text("id")));
    }
    let device_limits = Restrictions { no_suid: true, ..Restrictions::default() };
    mount(root, "/dev", "tmpfs", &[("mode", "755"), ("size", "65536k")], device_limits)?;
    let terminal_limits = Restrictions { no_dev: false, ..NOTHING_SPECIAL };
    mount(root, "/dev/pts", "devpts", TERMINALS, terminal_limits)?;
    if spec.at("ipc").text("mode") == "host" {
        for path in &["/dev/shm", "/dev/mqueue"] {
            let target = root.folder(Path::new(path), 0o755).step(path)?;
            Tree::bind(Path::new(path), false).and_then(|tree| tree.attach(target)).step(path)?;
        }
        return Ok(());
    }
    mount(root, "/dev/mqueue", "mqueue", &[], NOTHING_SPECIAL)?;
    let size = spec.number("shm_size").to_string();
    mount(root, "/dev/shm", "tmpfs", &[("mode", "1777"), ("size", &size)], NOTHING_SPECIAL)
}

fn mount(
    root: &Root,
    target: &str,
    kind: &str,
    options: &[(&str, &str)],
    without: Restrictions,
) -> Result<(), Failure> {
    let place = root.folder(Path::new(target), 0o755).step(target)?;
    Tree::file_system(kind, options, without).and_then(|tree| tree.attach(place)).step(target)
}

/// Shallow targets first, so that a mount never hides one that was made before.
fn attach_all(root: &Root, mounts: &[Value]) -> Result<(), Failure> {
    let (mut depth, mut attached) = (0usize, 0usize);
    while attached < mounts.len() {
        for mount in mounts {
            if Path::new(mount.text("target")).components().count() == depth {
                attach(root, mount)?;
                attached = attached.saturating_add(1);
            }
        }
        depth = depth.saturating_add(1);
    }
    Ok(())
}

fn attach(root: &Root, mount: &Value) -> Result<(), Failure> {
    if mount.text("type") == "tmpfs" {
        return attach_tmpfs(root, mount);
    }
    let source = Path::new(mount.text("source"));
    let tree = Tree::bind(source, true).step("bind")?;
    let place = place_for(root, mount).step("mount point")?;
    if mount.flag("copy") {
        super::volume_copy::fill(source, &place, Path::new(mount.text("marker")))?;
    }
    tree.attach(place).step("bind")?;
    let propagation = match mount.text("propagation") {
        "rshared" | "shared" => Propagation::Shared,
        "rslave" | "slave" => Propagation::Slave,
        _ => Propagation::Private,
    };
    tree.set_propagation(propagation).step("bind")?;
    if mount.flag("read_only") { tree.set_read_only().step("bind") } else { Ok(()) }
}

/// Options as the command line's `--tmpfs` writes them: `rw,noexec,nosuid,nodev,size=64m,mode=1777`.
fn attach_tmpfs(root: &Root, mount: &Value) -> Result<(), Failure> {
    let mut limits = NOTHING_SPECIAL;
    let mut data = Vec::new();
    for option in mount.text("options").split(',') {
        match option.split_once('=') {
            Some((key @ ("size" | "mode" | "uid" | "gid" | "nr_inodes"), value)) => data.push((key, value)),
            Some(_) => {}
            None => match option {
                "ro" => limits.read_only = true,
                "exec" => limits.no_exec = false,
                "suid" => limits.no_suid = false,
                "dev" => limits.no_dev = false,
                _ => {}
            },
        }
    }
    let place = place_for(root, mount).step("mount point")?;
    Tree::file_system("tmpfs", &data, limits).and_then(|tree| tree.attach(place)).step("tmpfs")
}

/// Kernel settings of the container's own namespaces (the create call lets no others through).
fn write_sysctls(spec: &Value) -> Result<(), Failure> {
    for (key, value) in spec.entries("sysctls") {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        minke_sys::file::write(&path, value.as_str().unwrap_or(""))
            .map_err(|error| Failure::new(format_args!("{error}")))?;
    }
    Ok(())
}

fn hide(root: &Root, spec: &Value) -> Result<(), Failure> {
    let mounts = spec.items("mounts");
    for path in READ_ONLY_PATHS.split(' ') {
        if let Some(place) = place_to_hide(root, mounts, path) {
            let tree = Tree::bind_fd(&place).step(path)?;
            tree.attach(place).and_then(|()| tree.set_read_only()).step(path)?;
        }
    }
    for path in MASKED_PATHS.split(' ') {
        if let Some(place) = place_to_hide(root, mounts, path) {
            let tree = if rootfs::is_folder(&place) {
                Tree::file_system("tmpfs", &[("size", "0"), ("nr_inodes", "2")], READ_ONLY)
            } else {
                root.find(Path::new("/dev/null")).and_then(Tree::bind_fd)
            };
            tree.and_then(|tree| tree.attach(place)).step(path)?;
        }
    }
    Ok(())
}

/// Where `path` is, unless a mount of the user shows it: who binds the host's /proc or /sys wants to see it as it
/// is.
fn place_to_hide(root: &Root, mounts: &[Value], path: &str) -> Option<OwnedFd> {
    for mount in mounts {
        let target = mount.text("target");
        if Path::new(path).starts_with(target) && target != "/" {
            return None;
        }
    }
    root.find(Path::new(path)).ok()
}
