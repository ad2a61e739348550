//! The device nodes and links of a container's `/dev`.

use super::failure::{Failure, Step};
use crate::fields::Fields;
use minke_sys::device_filter::{MKNOD, READ, Rule, WRITE};
use minke_sys::rootfs::{Root, Tree, device_of};
use minke_wire::json::Value;
use std::path::{Path, PathBuf};

/// Character device, `S_IFCHR`, readable and writable by everybody.
const CHARACTER: u32 = 0o020_666;
/// Name, major and minor number of what every container has (Documentation/admin-guide/devices.txt); it may
/// use them by [`ALLOWED`].
const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];
/// How many host devices a privileged container is given at most.
const DEVICE_LIMIT: usize = 4096;
/// How deep below /dev they are looked for.
const DEPTH_LIMIT: usize = 4;

/// Fills `/dev`, which is a fresh tmpfs.
pub fn populate(root: &Root, spec: &Value) -> Result<(), Failure> {
    for (name, major, minor) in &NODES {
        // `makedev` for numbers below 256.
        node(root, &Path::new("/dev").join(name), CHARACTER, u64::from((major << 8) | minor), (0, 0))?;
    }
    for (name, target) in &LINKS {
        root.link(target, &Path::new("/dev").join(name)).step("/dev")?;
    }
    if spec.flag("privileged") {
        let mut found = Vec::new();
        walk(Path::new("/dev"), 0, &mut found);
        for path in &found {
            if !matches!(path.to_str(), Some("/dev/console" | "/dev/ptmx")) {
                let _ = copy(root, path, path);
            }
        }
    }
    for device in spec.items("devices") {
        let (source, target) = (Path::new(device.text("source")), Path::new(device.text("target")));
        for path in &behind(source) {
            if let Ok(rest) = path.strip_prefix(source) {
                // Not `join` with nothing, which ends the path in a slash.
                let below = if rest.as_os_str().is_empty() { target } else { &target.join(rest) };
                copy(root, path, below)?;
            }
        }
    }
    Ok(())
}

/// The nodes below a folder, or the one node that `source` is.
fn behind(source: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    if minke_sys::status::is_dir(source) {
        walk(source, 0, &mut found);
    } else {
        found.push(source.to_owned());
    }
    found
}

const ALL: u32 = MKNOD | READ | WRITE;

/// What every container may use: making nodes is no use of them, and the terminals are its own.
const ALLOWED: [Rule; 11] = [
    rule(true, None, None, MKNOD),
    rule(false, None, None, MKNOD),
    rule(false, Some(5), Some(1), ALL),
    rule(false, Some(5), Some(2), ALL),
    rule(false, Some(136), None, ALL),
    rule(false, Some(1), Some(3), ALL),
    rule(false, Some(1), Some(5), ALL),
    rule(false, Some(1), Some(7), ALL),
    rule(false, Some(1), Some(8), ALL),
    rule(false, Some(1), Some(9), ALL),
    rule(false, Some(5), Some(0), ALL),
];

const fn rule(block: bool, major: Option<u32>, minor: Option<u32>, access: u32) -> Rule {
    Rule { block, major, minor, access }
}

/// The rules of a container's device filter; `None` for one that may use everything.
pub fn rules(spec: &Value) -> Option<Vec<Rule>> {
    if spec.flag("privileged") {
        return None;
    }
    let mut rules = ALLOWED.to_vec();
    for device in spec.items("devices") {
        let access = device.text("access").bytes().fold(0, |access, letter| match letter {
            b'm' => access | MKNOD,
            b'r' => access | READ,
            b'w' => access | WRITE,
            _ => access,
        });
        for path in &behind(Path::new(device.text("source"))) {
            if let Ok((mode, number, _)) = device_of(path) {
                let (major, minor) = numbers(number);
                rules.push(rule(mode & 0o170_000 == 0o060_000, Some(major), Some(minor), access));
            }
        }
    }
    Some(rules)
}

/// Major and minor number of a device number, as glibc's `gnu_dev_major` and `gnu_dev_minor` split it.
fn numbers(device: u64) -> (u32, u32) {
    let part = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or(0);
    (part(device >> 8 & 0xfff | device >> 32 & 0xffff_f000), part(device & 0xff | device >> 12 & 0xffff_ff00))
}

fn copy(root: &Root, source: &Path, target: &Path) -> Result<(), Failure> {
    let (mode, number, owner) = device_of(source).map_err(|error| {
        Failure::new(format_args!("error gathering device information while adding custom device: {error}"))
    })?;
    node(root, target, mode, number, owner)
}

fn node(root: &Root, path: &Path, mode: u32, number: u64, owner: (u32, u32)) -> Result<(), Failure> {
    let made = root.node(path, mode, number, owner);
    if made.as_ref().is_err_and(|error| error.errno == minke_sys::Errno::PERM) {
        // Nodes cannot be made here (no CAP_MKNOD for this device): the host's own does as well.
        let place = root.file(path).step("device")?;
        return Tree::bind(path, false).and_then(|tree| tree.attach(place)).step("device");
    }
    made.step("device")
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for path in minke_sys::file::list(folder).unwrap_or_default() {
        let Ok(status) = minke_sys::status::of_link(&path) else { continue };
        let own = matches!(path.to_str(), Some("/dev/pts" | "/dev/shm" | "/dev/mqueue" | "/dev/.udev"));
        if status.is_dir() && depth < DEPTH_LIMIT && !own {
            walk(&path, depth.saturating_add(1), found);
        } else if status.is_device() && found.len() < DEVICE_LIMIT {
            found.push(path);
        }
    }
}
