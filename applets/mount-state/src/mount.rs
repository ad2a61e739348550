//! Mounting the partitions, with what stands in for a state or data partition that cannot be written.

use crate::devices::Devices;
use crate::plan::{BOOT, DATA, PARTITIONS, Partition, STATE};
use crate::recovery;
use minke_applet::log;
use minke_sys::mount::{self, Flags};
use minke_sys::{Errno, Error, Result, block, file};
use minke_wire::mountinfo::{self, Mount};
use minke_wire::superblock::Kind;
use std::path::{Path, PathBuf};

/// Where the upper layers of volatile file systems lie, below the root.
pub const VOLATILE: &str = "run/minke/mount-state";
/// What a volatile state partition may hold.
const STATE_OPTIONS: &str = "mode=0755,size=16m";
/// What a volatile data partition may hold: enough for the engine and the supervisor to start and say so.
const DATA_OPTIONS: &str = "mode=0755,size=32m";

/// All mounts of this namespace, but for the places where something is mounted on first access.
pub fn table() -> Result<Vec<Mount>> {
    let mut table = mountinfo::parse(&mount::mountinfo()?);
    table.retain(|mount| mount.kind != minke_sys::autofs::KIND);
    Ok(table)
}

/// Whether something is mounted at `target`.
pub fn is_mounted(target: &Path) -> bool {
    table().is_ok_and(|table| find(&table, target).is_some())
}

/// The mount of the table that is seen at `target`.
pub fn find<'a>(table: &'a [Mount], target: &Path) -> Option<&'a Mount> {
    mountinfo::find(table, &target.to_string_lossy())
}

/// Mounts all partitions, each as soon as its device is there.
pub fn partitions(root: &Path, devices: &mut Devices) {
    let mut waiting = Vec::new();
    for partition in &PARTITIONS {
        if !is_mounted(&root.join(partition.target)) {
            waiting.push(partition);
        }
    }
    if waiting.iter().any(|partition| devices.find(partition.label).is_none())
        && let Err(error) = devices.refresh()
    {
        log::warn(format_args!("cannot look at all block devices: {error}"));
    }
    loop {
        let mut missing = Vec::new();
        for partition in waiting {
            let Some(device) = devices.find(partition.label) else {
                missing.push(partition);
                continue;
            };
            if let Err(error) = mount_partition(root, partition, &device) {
                log::error(format_args!("{} is not mounted: {error}", partition.label));
            }
        }
        waiting = missing;
        if waiting.is_empty() {
            break;
        }
        match devices.wait() {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                log::error(format_args!("cannot wait for devices: {error}"));
                break;
            }
        }
    }
    if waiting.iter().any(|partition| partition.label == DATA.label) {
        recovery::data_missing(root);
    } else {
        recovery::data_found(root);
    }
    for partition in waiting {
        log::error(format_args!("{}: no partition with this label was found", partition.label));
    }
    make_writable(root, &STATE, STATE_OPTIONS);
    make_writable(root, &DATA, DATA_OPTIONS);
}

/// What stage 1's check of this file system said; empty when it did not look.
pub fn last_check(root: &Path, label: &str) -> String {
    file::text(root.join(block::CHECKS.trim_start_matches('/')).join(label))
}

/// Whether even the second pass of the check gave up: what is written there may destroy more.
fn is_broken(root: &Path, partition: &Partition) -> bool {
    last_check(root, partition.label) == "broken"
}

fn mount_partition(root: &Path, partition: &Partition, device: &Path) -> Result<()> {
    let target = root.join(partition.target);
    let found = block::probe(device)?
        .ok_or_else(|| Error::new("recognise the file system of", device.display(), Errno::INVAL))?;
    let source = device.to_string_lossy();
    let options = if found.kind == Kind::Ext4 { block::RESERVE_OPTIONS } else { "" };
    let broken = is_broken(root, partition);
    if broken {
        log::error(format_args!("{} has faults that were not repaired: it is read-only", partition.label));
    } else {
        let mounted = mount::mount(&source, &target, found.kind.name(), Flags::empty(), options);
        let Err(error) = mounted else {
            if partition.label == DATA.label
                && let Err(error) = grow(root, device, false)
            {
                log::error(format_args!("{} does not grow: {error}", DATA.label));
            }
            return Ok(());
        };
        // A medium that refuses writes can often be read: better its content than none.
        if mount::mount(&source, &target, found.kind.name(), Flags::RDONLY, "").is_err() {
            return Err(error);
        }
        if partition.label == BOOT.label {
            log::warn(format_args!("{} is mounted read-only: {error}", partition.label));
        }
        return Ok(());
    }
    mount::mount(&source, &target, found.kind.name(), Flags::RDONLY, "")
}

/// Lets the file system fill its partition, which stage 1 may have grown, in this boot or in one that was cut
/// (spec os §1.9.4). When it does already, nothing is asked of the kernel. A boot waits for the first 64 GiB, which
/// take a fraction of a second; a terabyte takes several, and is left to `mount-state grow`. `all`: everything now.
pub fn grow(root: &Path, device: &Path, all: bool) -> Result<()> {
    const AT_ONCE: u64 = 64 << 30;
    let (target, mark) = (root.join(DATA.target), root.join(VOLATILE).join("grow"));
    let Some(found) = block::probe(device)?.filter(|found| found.kind == Kind::Ext4) else { return Ok(()) };
    let block_size = u64::from(found.block_size).max(1);
    let blocks = block::size(device)? / block_size;
    let present = found.size / block_size;
    let at_once = if all { blocks } else { blocks.min(present.saturating_add(AT_ONCE / block_size)) };
    if blocks > present {
        block::resize(&target, at_once)?;
        let size = at_once.saturating_mul(block_size) >> 20;
        log::info(format_args!("{} holds {size} MiB now", DATA.label));
    }
    if at_once < blocks {
        file::make_folder(&root.join(VOLATILE), 0o755)?;
        return file::write(mark, "");
    }
    file::remove_all(&mark)
}

/// Mounts one partition by its name (spec os §1.5.1): `boot`, `state`, `data`, `active`, `inactive`. One that is mounted
/// stays.
pub fn one(root: &Path, name: &str, devices: &mut Devices) -> Result<()> {
    let target = place_of(root, name);
    if is_mounted(&target) {
        return Ok(());
    }
    let label = if is_slot(name) { name.to_owned() } else { format!("resin-{name}") };
    devices.refresh()?;
    let device = loop {
        match devices.find(&label) {
            Some(device) => break device,
            None if devices.wait()? => {}
            None => return Err(Error::new("find partition", label, Errno::NOENT)),
        }
    };
    if let Some(partition) = PARTITIONS.iter().find(|partition| partition.label == label) {
        return mount_partition(root, partition, &device);
    }
    mount::mount(&device.to_string_lossy(), &target, "ext4", Flags::empty(), "")
}

/// Where [`one`] mounts.
pub fn place_of(root: &Path, name: &str) -> PathBuf {
    root.join(if is_slot(name) { "mnt/sysroot" } else { "mnt" }).join(name)
}

/// Whether it is the name of a slot.
fn is_slot(name: &str) -> bool {
    matches!(name, "active" | "inactive")
}

/// Makes sure that the mount point of `partition` takes writes: an overlay in memory over a file system that is
/// read-only, a tmpfs where there is none. The device boots and stays reachable; what is written is lost.
fn make_writable(root: &Path, partition: &Partition, options: &str) {
    let target = root.join(partition.target);
    let table = match table() {
        Ok(table) => table,
        Err(error) => return log::error(format_args!("{error}")),
    };
    let result = match find(&table, &target) {
        Some(mount) if !is_read_only(mount) => return,
        Some(_) if !is_broken(root, partition) && mount::remount(&target, Flags::empty(), "").is_ok() => {
            return;
        }
        Some(_) => {
            cover(root, partition, &target, options).map(|()| "is read-only: changes are kept in memory only")
        }
        None => mount_volatile("tmpfs", &target, options)
            .map(|()| "is not there: an empty one in memory stands in for it"),
    };
    match result {
        Ok(what) => log::error(format_args!("{} {what}, and lost at the next boot", partition.label)),
        Err(error) => log::error(format_args!("{} cannot be written: {error}", partition.label)),
    }
}

/// Whether writes are refused, by the mount or by its file system.
pub fn is_read_only(mount: &Mount) -> bool {
    mount.options.split(',').chain(mount.super_options.split(',')).any(|word| word == "ro")
}

/// Whether what is written there is lost at the next boot.
pub fn is_volatile(mount: &Mount) -> bool {
    matches!(mount.kind.as_str(), "tmpfs" | "overlay")
}

fn cover(root: &Path, partition: &Partition, target: &Path, options: &str) -> Result<()> {
    let base = volatile_folder(root, partition.label, options)?;
    file::make_folder(&base.join("upper"), 0o755)?;
    file::make_folder(&base.join("work"), 0o755)?;
    let (lower, base) = (target.display(), base.display());
    let layers = format!("lowerdir={lower},upperdir={base}/upper,workdir={base}/work");
    mount_volatile("overlay", target, &layers)
}

/// Mounts a file system in memory.
fn mount_volatile(kind: &str, target: &Path, options: &str) -> Result<()> {
    mount::mount(kind, target, kind, Flags::NOSUID | Flags::NODEV, options)
}

/// A tmpfs of its own, so that what fills it does not fill `/run`.
pub fn volatile_folder(root: &Path, name: &str, options: &str) -> Result<PathBuf> {
    let base = root.join(VOLATILE).join(name);
    file::make_folder(&base, 0o755)?;
    if find(&table()?, &base).is_none() {
        mount_volatile("tmpfs", &base, options)?;
    }
    Ok(base)
}
