//! Block devices: which are there (sysfs), what each holds, how the kernel's `root=` names one of them, and
//! the links below `/dev/disk` by which everybody else finds them.
//!
//! Which partition belongs to which disk is asked of sysfs, never guessed from names.

mod ext4;
mod medium;
mod table;

pub use ext4::{fresh_uuid, resize, set_uuid, settle};
pub use medium::{Checked, check_fat, set_fat_serial};
pub use table::{Growth, grow, restore_gpt};

use crate::{Context, Result};
use minke_wire::partition;
use minke_wire::superblock::{self, Superblock};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The folder in which stage 1 leaves what came of each check, in a file by the label: `clean`, `repaired`, `broken`
/// or `unchecked`.
pub const CHECKS: &str = "/run/minke/fsck";

/// A user and a group that nobody is in, as a number and for texts.
macro_rules! nobody {
    () => {
        4_294_967_294
    };
}

/// How state and data are mounted: the blocks that ext4 keeps back are for a user and a group that nobody is in, not for
/// the root of a container, which is user 0 as well. It takes CAP_SYS_RESOURCE to use them, or the group.
pub const RESERVE_OPTIONS: &str = concat!("resuid=", nobody!(), ",resgid=", nobody!());
/// That group.
pub const RESERVE_GROUP: u32 = nobody!();

/// Where devices are found; a test has its own.
#[derive(Debug, Clone)]
pub struct Places {
    /// sysfs, `/sys`.
    pub sys: PathBuf,
    /// The device nodes, `/dev`.
    pub dev: PathBuf,
}

impl Default for Places {
    fn default() -> Self {
        Self { sys: "/sys".into(), dev: "/dev".into() }
    }
}

/// A disk or a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// The kernel's name, for instance `mmcblk0p5`.
    pub name: String,
    /// The device node.
    pub path: PathBuf,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// The disk that a partition is on; of a device-mapper or md device over one disk, that disk.
    pub disk: Option<String>,
    /// The partition number.
    pub number: Option<u32>,
    /// GPT: the partition's name.
    pub part_name: Option<String>,
    /// PARTUUID: from the kernel's uevent, or from the table (older kernels).
    pub part_uuid: Option<String>,
    /// Bytes from the start of the disk.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// The medium can be taken out.
    pub removable: bool,
    /// The kernel refuses writes.
    pub read_only: bool,
}

impl Device {
    /// The disk it is or is on.
    pub fn whole_disk(&self) -> &str {
        self.disk.as_deref().unwrap_or(&self.name)
    }
}

/// A device with what was found on it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The device.
    pub device: Device,
    /// Its file system, if one was recognised.
    pub superblock: Option<Superblock>,
}

impl Found {
    /// The file system's label.
    pub fn label(&self) -> Option<&str> {
        self.superblock.as_ref()?.label.as_deref()
    }

    /// The file system's UUID.
    pub fn uuid(&self) -> Option<&str> {
        self.superblock.as_ref()?.uuid.as_deref()
    }
}

/// The disks and partitions that may carry a file system, in order of major and minor number. Loop, RAM and
/// floppy devices and what has no medium are left out (spec os §1.3.1).
pub fn list(places: &Places) -> Result<Vec<Device>> {
    let folder = places.sys.join("class/block");
    let mut devices = Vec::new();
    for link in crate::file::list(&folder)? {
        if let Some(device) = read_device(places, &link) {
            let after = |other: &Device| (other.major, other.minor) > (device.major, device.minor);
            devices.insert(devices.iter().position(after).unwrap_or(devices.len()), device);
        }
    }
    Ok(devices)
}

/// As [`list`], with what each device holds. A device that cannot be read is listed without a file system.
pub fn scan(places: &Places) -> Result<Vec<Found>> {
    let mut devices = list(places)?;
    add_part_uuids(places, &mut devices);
    let mut found = Vec::with_capacity(devices.len());
    for device in devices {
        let superblock = probe(&device.path).ok().flatten();
        found.push(Found { device, superblock });
    }
    Ok(found)
}

/// Reads what file system a device or image file holds; `None`: none that we know.
pub fn probe(path: &Path) -> Result<Option<Superblock>> {
    let file = crate::file::open_to_read(path)?;
    let head = read_at(&file, 0, superblock::HEAD_BYTES).on("read", path)?;
    let Some(mut found) = superblock::parse(&head) else { return Ok(None) };
    if let Some((offset, length)) = found.directory {
        // Where the root folder cannot be read, the boot sector's label has to do.
        if let Ok(directory) = read_at(&file, offset, length) {
            found.label = superblock::directory_label(&directory).or(found.label);
        }
    }
    Ok(Some(found))
}

/// The bytes of a block device or image file.
pub fn size(path: &Path) -> Result<u64> {
    let file = crate::file::open_to_read(path)?;
    rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0)).on("find the size of", path)
}

/// Up to `length` bytes from `offset`; fewer at the end.
fn read_at(file: &File, offset: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut content = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = content.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(filled);
    Ok(content)
}

const MAJOR_RAM: u32 = 1;
const MAJOR_FLOPPY: u32 = 2;
const MAJOR_LOOP: u32 = 7;

fn read_device(places: &Places, link: &Path) -> Option<Device> {
    let name = link.file_name()?.to_str()?.to_owned();
    // The link's target is the device's place in the tree: a partition's folder lies in its disk's.
    let folder = crate::file::real_path(link).ok()?;
    let (major, minor) = attribute(&folder, "dev")?
        .split_once(':')
        .map(|(a, b)| (minke_wire::text::number(a), minke_wire::text::number(b)))?;
    let (major, minor) = (major?, minor?);
    let size = number(&folder, "size")?.saturating_mul(512);
    if matches!(major, MAJOR_RAM | MAJOR_FLOPPY | MAJOR_LOOP) || name.starts_with("zram") || size == 0 {
        return None;
    }
    let uevent = attribute(&folder, "uevent").unwrap_or_default();
    let value = |key: &str| uevent.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let partition = number(&folder, "partition");
    let disk_folder = if partition.is_some() { folder.parent()? } else { &folder };
    let disk = match partition {
        Some(_) => Some(disk_folder.file_name()?.to_str()?.to_owned()),
        None => single_slave(places, &folder),
    };
    Some(Device {
        path: places.dev.join(value("DEVNAME").unwrap_or(&name)),
        major,
        minor,
        disk,
        number: partition.and_then(|number| number.try_into().ok()),
        part_name: value("PARTNAME").map(str::to_owned),
        part_uuid: value("PARTUUID").map(str::to_owned),
        start: number(&folder, "start").unwrap_or(0).saturating_mul(512),
        size,
        removable: number(disk_folder, "removable") == Some(1),
        read_only: number(&folder, "ro") == Some(1),
        name,
    })
}

/// The disk below a device-mapper or md device, when all its parts are on one (spec os §1.3.2).
fn single_slave(places: &Places, folder: &Path) -> Option<String> {
    let mut only = None;
    for slave in crate::file::list(&folder.join("slaves")).ok()? {
        let Some(device) = read_device(places, &slave) else { continue };
        let disk = device.whole_disk().to_owned();
        if *only.get_or_insert_with(|| disk.clone()) != disk {
            return None;
        }
    }
    only
}

fn attribute(folder: &Path, name: &str) -> Option<String> {
    /// An attribute is at most a page.
    const LIMIT: usize = 64 * 1024;
    let content = crate::file::read_bounded(&folder.join(name), LIMIT).ok()?;
    Some(String::from_utf8_lossy(&content).trim_end().to_owned())
}

fn number(folder: &Path, name: &str) -> Option<u64> {
    minke_wire::text::number(&attribute(folder, name)?)
}

/// Fills in PARTUUIDs that the kernel does not tell (before 6.10) from the disks' own tables.
fn add_part_uuids(places: &Places, devices: &mut [Device]) {
    let missing = |device: &Device| device.number.is_some() && device.part_uuid.is_none();
    let mut disks: Vec<String> =
        devices.iter().filter(|device| missing(device)).filter_map(|device| device.disk.clone()).collect();
    disks.dedup();
    for disk in disks {
        let Some(node) = devices.iter().find(|device| device.name == disk) else { continue };
        let queue = places.sys.join("class/block").join(&disk).join("queue");
        let sector =
            number(&queue, "logical_block_size").and_then(|size| size.try_into().ok()).unwrap_or(512);
        let Ok(file) = crate::file::open_to_read(&node.path) else { continue };
        let mut source = |offset, length| {
            read_at(&file, offset, length).ok().filter(|content: &Vec<u8>| content.len() == length)
        };
        let Some(table) = partition::read(sector, &mut source) else { continue };
        for device in devices.iter_mut().filter(|device| device.disk.as_ref() == Some(&disk)) {
            let entry = table.partitions.iter().find(|entry| Some(entry.number) == device.number);
            device.part_uuid = device.part_uuid.take().or_else(|| entry?.uuid.clone());
        }
    }
}

/// How the kernel command line's `root=` names a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// `UUID=`: of the file system.
    Uuid(String),
    /// `LABEL=`: of the file system.
    Label(String),
    /// `PARTUUID=`: of the partition.
    PartUuid(String),
    /// `PARTLABEL=`: the GPT partition's name.
    PartLabel(String),
    /// A device node, for instance `/dev/sda2`.
    Node(PathBuf),
}

impl Identity {
    /// Reads the value of `root=`.
    pub fn parse(value: &str) -> Option<Self> {
        let (key, rest) = value.split_once('=').unwrap_or(("", value));
        let rest = rest.trim_matches('"');
        Some(match key {
            "UUID" => Self::Uuid(rest.to_owned()),
            "LABEL" => Self::Label(rest.to_owned()),
            "PARTUUID" => Self::PartUuid(rest.to_owned()),
            "PARTLABEL" => Self::PartLabel(rest.to_owned()),
            _ if value.starts_with("/dev/") => Self::Node(value.into()),
            _ => return None,
        })
    }

    /// Whether it names this device. UUIDs match in either case.
    pub fn names(&self, found: &Found) -> bool {
        let same = |value: Option<&str>, wanted: &str| value.is_some_and(|v| v.eq_ignore_ascii_case(wanted));
        match self {
            Self::Uuid(uuid) => same(found.uuid(), uuid),
            Self::Label(label) => found.label() == Some(label),
            Self::PartUuid(uuid) => same(found.device.part_uuid.as_deref(), uuid),
            Self::PartLabel(name) => found.device.part_name.as_deref() == Some(name),
            Self::Node(path) => found.device.path == *path,
        }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Uuid(value) => write!(f, "UUID={value}"),
            Self::Label(value) => write!(f, "LABEL={value}"),
            Self::PartUuid(value) => write!(f, "PARTUUID={value}"),
            Self::PartLabel(value) => write!(f, "PARTLABEL={value}"),
            Self::Node(value) => write!(f, "{}", value.display()),
        }
    }
}

/// The device that `identity` names; with `disk`, only one on that disk. Of several, for a stick may carry an old
/// installation with the same labels, one on a disk that stays in comes before a removable one; then the first
/// in [`list`]'s order.
pub fn find<'a>(found: &'a [Found], identity: &Identity, disk: Option<&str>) -> Option<&'a Found> {
    found
        .iter()
        .filter(|found| disk.is_none_or(|disk| found.device.whole_disk() == disk) && identity.names(found))
        .min_by_key(|found| found.device.removable)
}

/// A link below `/dev/disk`: its path there and the device node's path below `/dev`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// For instance `by-state/resin-data`.
    pub name: String,
    /// The device's node.
    pub node: PathBuf,
}

/// The links that these devices should have: by-label, by-uuid, by-partuuid, by-partlabel for all, and
/// by-state for those on the disk of `root` (spec os §1.3).
///
/// Of two devices with one label, the first keeps the link, except that the root disk's wins: a USB stick with
/// an old installation must not take `by-label/resin-data` away.
pub fn links(found: &[Found], root: Option<&Identity>) -> Vec<Link> {
    let root = root.and_then(|root| find(found, root, None));
    let disk = root.map(|root| root.device.whole_disk());
    let mut links: Vec<Link> = Vec::new();
    let mut add = |folder: &str, name: &str, device: &Device| {
        let name = format!("{folder}/{}", link_name(name));
        if !name.ends_with('/') && links.iter().all(|link| link.name != name) {
            links.push(Link { name, node: device.path.clone() });
        }
    };
    for on_root_disk in [true, false] {
        for found in found.iter().filter(|found| on_disk(found, disk) == on_root_disk) {
            let device = &found.device;
            let names = [
                ("by-label", found.label()),
                ("by-uuid", found.uuid()),
                ("by-partuuid", device.part_uuid.as_deref()),
                ("by-partlabel", device.part_name.as_deref()),
            ];
            for (folder, name) in names {
                if let Some(name) = name {
                    add(folder, name, device);
                }
            }
        }
    }
    let active = root.map(|root| &root.device);
    for found in found.iter().filter(|found| on_disk(found, disk)) {
        let device = &found.device;
        match found.label().filter(|label| is_ours(label)) {
            Some(label) => {
                add("by-state", label, device);
                if label.starts_with("resin-root") || label.starts_with("balena-root") {
                    add("by-state", if active == Some(device) { "active" } else { "inactive" }, device);
                }
            }
            // A vendor's partition, found by its GPT name.
            None => {
                if let Some(name) = &device.part_name {
                    add("by-state", name, device);
                }
            }
        }
    }
    links
}

fn on_disk(found: &Found, disk: Option<&str>) -> bool {
    Some(found.device.whole_disk()) == disk
}

/// Whether a file system label is one of the OS's (spec os §1.2.1).
pub fn is_ours(label: &str) -> bool {
    label.starts_with("resin-") || label.starts_with("balena-")
}

/// Makes the links below `dev/disk`, each by rename, so that a reader never finds one missing. A link that is
/// right stays untouched. Links of devices that went away stay: whoever opens one gets the error.
pub fn make_links(places: &Places, links: &[Link]) -> Result<()> {
    let disk = places.dev.join("disk");
    for link in links {
        let path = disk.join(&link.name);
        // Links are relative, as udev's, so that they work below another root.
        let target = match link.node.strip_prefix(&places.dev) {
            Ok(below) => Path::new("../..").join(below),
            Err(_) => link.node.clone(),
        };
        if let Some(folder) = path.parent() {
            crate::file::make_folder(folder, 0o755)?;
        }
        crate::file::set_link(&path, &target)?;
    }
    Ok(())
}

/// Scans all devices and makes their links. The result is what was found.
pub fn refresh_links(places: &Places, root: Option<&Identity>) -> Result<Vec<Found>> {
    let found = scan(places)?;
    make_links(places, &links(&found, root))?;
    Ok(found)
}

/// A label as a file name, as udev spells it: what is not a letter, a digit, one of `#+-.:=@_` or a character
/// beyond ASCII becomes `\xNN`.
fn link_name(label: &str) -> String {
    if matches!(label, "." | "..") {
        return label.replace('.', "\\x2e");
    }
    let mut name = String::with_capacity(label.len());
    for character in label.chars() {
        if character.is_ascii_alphanumeric()
            || minke_wire::text::is_one_of(character, "#+-.:=@_")
            || !character.is_ascii()
        {
            name.push(character);
        } else {
            name.push_str(&format!("\\x{:02x}", u32::from(character)));
        }
    }
    name
}

#[cfg(test)]
#[path = "block_tests.rs"]
mod tests;
