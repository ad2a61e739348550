//! Finding the root device as the kernel tells of devices, and mounting the system that it holds.

use super::Error;
use crate::cmdline::Cmdline;
use crate::log;
use minke_sys::block::{self, Found, Identity, Places};
use minke_sys::event::{Interest, Poller};
use minke_sys::mount::{self, Flags};
use minke_sys::netlink::{Received, Uevents};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long we wait for the root device without `roottimeout=`: emulated boards take many seconds to find
/// their SD card. (spec os §2.2 has 5 s, for boards with the driver built in.)
const ROOT_TIMEOUT: Duration = Duration::from_secs(30);
/// Where the slot is mounted until it moves into the system that it holds.
const SLOT: &str = "/sysroot/slot";
/// Where that system is mounted.
const SYSTEM: &str = "/sysroot/system";

/// The block devices, as far as the kernel has told of them.
#[derive(Debug)]
pub struct Devices {
    poller: Poller,
    uevents: Uevents,
    places: Places,
    root: Identity,
    timeout: Duration,
    found: Vec<Found>,
}

impl Devices {
    /// Starts to listen, then looks at what is there, so that nothing is missed between the two.
    pub fn watch(cmdline: &Cmdline) -> Result<Self, Error> {
        let wanted = cmdline.value("root").ok_or(Error::NoRoot(None))?;
        let root = Identity::parse(wanted).ok_or_else(|| Error::NoRoot(Some(wanted.to_owned())))?;
        let seconds = cmdline.value("roottimeout").and_then(|value| value.parse().ok());
        let timeout = seconds.map_or(ROOT_TIMEOUT, Duration::from_secs);
        let (poller, uevents) = (Poller::new()?, Uevents::new()?);
        poller.add(&uevents, 0, Interest::Read)?;
        let mut devices =
            Self { poller, uevents, places: Places::default(), root, timeout, found: Vec::new() };
        devices.refresh();
        Ok(devices)
    }

    /// Waits for the device that `root=` names.
    pub fn wait_for_root(&mut self) -> Result<(), Error> {
        let (root, timeout) = (self.root.clone(), self.timeout);
        if self.wait(timeout, |found| block::find(found, &root, None).is_some()) {
            return Ok(());
        }
        self.log_what_is_there();
        Err(Error::Missing { root: root.to_string(), waited: timeout })
    }

    /// Waits until `there` says yes of what was found, at most for `limit`. The answer tells whether it did.
    pub fn wait(&mut self, limit: Duration, there: impl Fn(&[Found]) -> bool) -> bool {
        let end = minke_sys::clock::boottime().saturating_add(limit);
        loop {
            if there(&self.found) {
                return true;
            }
            let left = end.saturating_sub(minke_sys::clock::boottime());
            let mut ready = Vec::new();
            if left.is_zero() || self.poller.wait(&mut ready, Some(left)).is_err() {
                return false;
            }
            if self.take_block_events() {
                self.refresh();
            }
        }
    }

    /// The root device.
    pub fn root(&self) -> Option<&Found> {
        block::find(&self.found, &self.root, None)
    }

    /// The file system with one of these labels on the root device's disk.
    pub fn labelled(&self, labels: &[&str]) -> Option<&Found> {
        let disk = self.root()?.device.whole_disk();
        let named = |found: &&Found| found.label().is_some_and(|label| labels.contains(&label));
        self.found.iter().filter(|found| found.device.whole_disk() == disk).find(named)
    }

    /// Reads the superblocks again and renews the links below `/dev/disk`.
    pub fn refresh(&mut self) {
        match block::refresh_links(&self.places, Some(&self.root)) {
            Ok(found) => self.found = found,
            Err(error) => log::line(log::WARNING, format_args!("{error}")),
        }
    }

    fn take_block_events(&mut self) -> bool {
        let mut block = false;
        loop {
            match self.uevents.read() {
                Ok(Received::Event(event)) => block |= event.get("SUBSYSTEM") == Some("block"),
                Ok(Received::Lost) => block = true,
                Ok(Received::Empty) | Err(_) => return block,
            }
        }
    }

    fn log_what_is_there(&self) {
        for found in &self.found {
            let kind = found.superblock.as_ref().map_or("nothing known", |superblock| superblock.kind.name());
            let (name, label) = (found.device.path.display(), found.label().unwrap_or(""));
            let uuid = found.uuid().unwrap_or("");
            log::line(log::INFO, format_args!("there is {name}: {kind} LABEL={label} UUID={uuid}"));
        }
    }
}

/// Where the next system is mounted.
#[derive(Debug)]
pub struct System {
    /// Its root.
    pub root: PathBuf,
}

/// Mounts the slot read-only, and the root image in it, and puts the slot at `/mnt/sysroot/active` there. A
/// slot that is a root file system itself is used as it is.
pub fn mount_system(devices: &Devices, cmdline: &Cmdline) -> Result<System, Error> {
    let slot = Path::new(SLOT);
    let Some(root) = devices.root() else {
        return Err(Error::Missing { root: devices.root.to_string(), waited: Duration::ZERO });
    };
    let probed = root.superblock.as_ref().map(|superblock| superblock.kind.name());
    let kind = cmdline.value("rootfstype").or(probed).unwrap_or("ext4");
    let source = root.device.path.to_string_lossy().into_owned();
    minke_sys::file::make_folder(slot, 0o755)?;
    mount::mount(&source, slot, kind, Flags::RDONLY, cmdline.value("rootflags").unwrap_or_default())?;
    let name = root.label().unwrap_or_default();
    log::line(log::INFO, format_args!("slot {name} is {source}, mounted read-only"));
    let image = root_image(slot);
    if !image.exists() {
        if slot.join("dev").is_dir() && slot.join("sbin/init").exists() {
            return Ok(System { root: slot.into() });
        }
        return Err(Error::NoSystem(image));
    }
    mount_image(&image, Path::new(SYSTEM))?;
    let active = Path::new(SYSTEM).join("mnt/sysroot/active");
    // Without the slot there the system runs, but cannot update itself.
    if let Err(error) = mount::move_mount(slot, &active) {
        log::line(log::ERROR, format_args!("{error}"));
    }
    Ok(System { root: SYSTEM.into() })
}

/// The root image of the host app that the link `current` selects. The link is read here, as an absolute one
/// would lead out of the slot.
fn root_image(slot: &Path) -> PathBuf {
    let current = std::fs::read_link(slot.join("current")).unwrap_or_else(|_| "current".into());
    slot.join(current.strip_prefix("/").unwrap_or(&current)).join("rootfs.squashfs")
}

fn mount_image(image: &Path, target: &Path) -> Result<(), Error> {
    minke_sys::file::make_folder(target, 0o755)?;
    // The handle must stay until the mount holds the device.
    let (device, handle) = mount::attach_loop(image)?;
    mount::mount(&device.to_string_lossy(), target, "squashfs", Flags::RDONLY, "")?;
    drop(handle);
    log::line(log::INFO, format_args!("root image {} is mounted", image.display()));
    Ok(())
}
